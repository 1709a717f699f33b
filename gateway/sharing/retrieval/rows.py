"""What the rows that holders listed mean for a retrieval: who has an instance, and in which order they go. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.model.attributes import INSTANCE_NUMBER, SERIES_NUMBER
from gateway.model.imaging import PATIENT_ID, SOP_CLASS_UID, Attributes
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.answers.held import Held
from gateway.sharing.broker import Survey
from gateway.sharing.merge import texts
from gateway.sharing.retrieval.acquiring import Holding
from policy.parties import TrustId


def listed_of(survey: Survey) -> Mapping[TrustId, Sequence[InstanceRef]]:
    """Everything that each holder listed, whoever may have it."""
    listed: dict[TrustId, list[InstanceRef]] = {}
    for row in survey.judgement.accepted:
        ref = InstanceRef(row.study_uid, row.series_uid, row.sop_uid, text_of(row.row, SOP_CLASS_UID))
        listed.setdefault(row.trust, []).append(ref)
    return listed


def holdings_of(found: Held) -> tuple[Holding, ...]:
    """Who has it, the one whose row is shown first; each once."""
    if len(found.copies) == 1:
        return (Holding(found.best.trust, text_of(found.best.row, PATIENT_ID)),)
    ordered = sorted(found.copies, key=lambda row: (row.trust != found.best.trust, row.trust))
    by_trust = {row.trust: Holding(row.trust, text_of(row.row, PATIENT_ID)) for row in reversed(ordered)}
    return tuple(by_trust[trust] for trust in dict.fromkeys(row.trust for row in ordered))


def order_of(found: Held) -> tuple[str, int, str, int, str]:
    """By study, series number and instance number."""
    row, best = found.best.row, found.best
    return (best.study_uid, _number(row, SERIES_NUMBER), best.series_uid, _number(row, INSTANCE_NUMBER), best.sop_uid)


def text_of(row: Attributes, tag: str) -> str:
    """The first value of an attribute; empty: it has none."""
    found = texts(row, tag)
    return found[0] if found else ""


def _number(row: Attributes, tag: str) -> int:
    element = row.get(tag)
    values = element.get("Value") if element is not None else None
    value = values[0] if isinstance(values, list) and values else 0
    return value if isinstance(value, int) else 0
