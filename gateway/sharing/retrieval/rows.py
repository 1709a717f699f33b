"""What the rows that holders listed mean for a retrieval: who has an instance, and in which order they go. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.model.attributes import INSTANCE_NUMBER, SERIES_NUMBER
from gateway.model.imaging import PATIENT_ID, SOP_CLASS_UID, Attributes, Match
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.broker import Survey
from gateway.sharing.merge import Candidate, texts
from gateway.sharing.retrieval.acquiring import Holding
from policy.parties import TrustId


def listed_of(survey: Survey) -> Mapping[TrustId, Sequence[InstanceRef]]:
    """Everything that each holder listed, whoever may have it."""
    listed: dict[TrustId, list[InstanceRef]] = {}
    for row in survey.judgement.accepted:
        ref = InstanceRef(row.study_uid, row.series_uid, row.sop_uid, text_of(row.row, SOP_CLASS_UID))
        listed.setdefault(row.trust, []).append(ref)
    return listed


def holdings_of(match: Match, copies: Sequence[Candidate]) -> tuple[Holding, ...]:
    """Who has it, the one whose row is shown first; each once."""
    ordered = sorted(copies, key=lambda row: (row.trust != match.shown_from, row.trust))
    by_trust = {row.trust: Holding(row.trust, text_of(row.row, PATIENT_ID)) for row in reversed(ordered)}
    return tuple(by_trust[trust] for trust in dict.fromkeys(row.trust for row in ordered))


def order_of(match: Match) -> tuple[str, int, str, int, str]:
    """By study, series number and instance number."""
    series, instance = (_number(match.attributes, tag) for tag in (SERIES_NUMBER, INSTANCE_NUMBER))
    return (match.study_uid, series, match.series_uid, instance, match.sop_uid)


def text_of(row: Attributes, tag: str) -> str:
    """The first value of an attribute; empty: it has none."""
    found = texts(row, tag)
    return found[0] if found else ""


def _number(row: Attributes, tag: str) -> int:
    values = row.get(tag, {}).get("Value")
    value = values[0] if isinstance(values, list) and values else 0
    return value if isinstance(value, int) else 0
