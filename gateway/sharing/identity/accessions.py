"""Accession numbers are qualified by who issued them (domain.md C4): two trusts' A123 are two.

A row that names no issuer means its trust's own, which is put in, so that callers can tell them apart as well. Archives
are never asked by issuer: most keep none, and would find nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from gateway.model.attributes import ACCESSION_ISSUER, LOCAL_NAMESPACE_ENTITY_ID, UNIVERSAL_ENTITY_ID
from gateway.model.imaging import ACCESSION_NUMBER, Attributes, Element, JsonValue


def with_issuer(attributes: dict[str, Element], issuer: str) -> None:
    """Put the trust's own issuer in where there is an accession number and nobody is named."""
    number = attributes.get(ACCESSION_NUMBER)
    if number is None or not number.get("Value"):
        return
    if ACCESSION_ISSUER not in attributes or not issuers_named(attributes):
        attributes[ACCESSION_ISSUER] = _element(issuer)


def is_issued_by(row: Attributes, issuers: frozenset[str], default: str) -> bool:
    """Whether a row's accession number, if it has one, is of one of these issuers, in capitals."""
    if ACCESSION_NUMBER not in row:
        return True
    has_number = bool(row[ACCESSION_NUMBER].get("Value"))
    named = issuers_named(row) or (frozenset({default.upper()}) if has_number else frozenset())
    return not issuers.isdisjoint(named)


def issuers_named(row: Attributes) -> frozenset[str]:
    """Who issued the row's accession number by the row's own word, in capitals."""
    items = row.get(ACCESSION_ISSUER, {}).get("Value")
    found = [
        _text(item.get(tag))
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict)
        for tag in (LOCAL_NAMESPACE_ENTITY_ID, UNIVERSAL_ENTITY_ID)
    ]
    return frozenset(text for text in found if text)


@lru_cache(maxsize=1024)
def _element(issuer: str) -> Element:
    item: JsonValue = {LOCAL_NAMESPACE_ENTITY_ID: {"vr": "UT", "Value": [issuer]}}
    return {"vr": "SQ", "Value": [item]}


def _text(element: JsonValue) -> str:
    values = element.get("Value") if isinstance(element, Mapping) else None
    value = values[0] if isinstance(values, list) and values else None
    return value.strip(" \0").upper() if isinstance(value, str) else ""
