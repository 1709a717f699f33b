"""Accession numbers are qualified by who issued them (domain.md C4): two trusts' A123 are two.

A row that names no issuer means its trust's own, which is put in, so that callers can tell them apart as well. Archives
are never asked by issuer: most keep none, and would find nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model.attributes import ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID, UNIVERSAL_ENTITY_ID
from gateway.model.imaging import ACCESSION_NUMBER, Attributes, Element, JsonValue


def issuer_element(issuer: str) -> Element:
    """The sequence that names this issuer."""
    return {"vr": "SQ", "Value": [{LOCAL_NAMESPACE_ENTITY_ID: {"vr": "UT", "Value": [issuer]}}]}


def qualified(row: Attributes, default: Element) -> Attributes:
    """The row with the trust's own issuer where it has an accession number and names none."""
    if not row.get(ACCESSION_NUMBER, {}).get("Value") or _issuers(row):
        return row
    return {**row, ACCESSION_ISSUER: default}


def is_issued_by(row: Attributes, issuers: frozenset[str]) -> bool:
    """Whether a qualified row's accession number is of one of these issuers, in capitals."""
    return not issuers.isdisjoint(_issuers(row))


def _issuers(row: Attributes) -> frozenset[str]:
    items = row.get(ACCESSION_ISSUER, {}).get("Value")
    found = [
        _text(item.get(tag))
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict)
        for tag in (LOCAL_NAMESPACE_ENTITY_ID, UNIVERSAL_ENTITY_ID)
    ]
    return frozenset(text for text in found if text)


def _text(element: JsonValue) -> str:
    values = element.get("Value") if isinstance(element, Mapping) else None
    value = values[0] if isinstance(values, list) and values else None
    return value.strip(" \0").upper() if isinstance(value, str) else ""
