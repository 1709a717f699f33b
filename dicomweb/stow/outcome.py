"""What became of each instance that was sent, and the answer that says so (PS3.18 10.5.3 and Annex I.2). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import orjson

from gateway.model.errors import (
    Conflicting,
    Denied,
    GatewayError,
    InvalidRequest,
    OverCapacity,
    RequestTooLarge,
    StoreFull,
    Unwanted,
)
from gateway.model.imaging import Element, JsonValue

_RETRIEVE_URL = "00081190"
_REFERENCED = "00081199"
_FAILED = "00081198"
_OTHER_FAILURES = "0008119A"
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"


class FailureReason(IntEnum):
    """Why an instance was not stored (PS3.3 C.14.1.1, PS3.18 Table I.2-2)."""

    PROCESSING_FAILURE = 0x0110
    CONFLICTING = 0x0111
    """Duplicate SOP instance: the UID is kept with other content (SAF-35)."""
    NOT_AUTHORISED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    NOT_AS_ANNOUNCED = 0xA900
    """It is not the instance that its file head or the path names."""
    NOT_UNDERSTOOD = 0xC000
    """It is no DICOM file."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instance of a request."""

    sop_class_uid: str = ""
    sop_uid: str = ""
    """Empty: it did not say."""
    study_uid: str = ""
    series_uid: str = ""
    reason: FailureReason | None = None
    """None: it is kept."""


def reason_of(error: GatewayError) -> FailureReason:
    """What an instance's refusal is called."""
    match error:
        case Conflicting():
            return FailureReason.CONFLICTING
        case Denied() | Unwanted():
            return FailureReason.NOT_AUTHORISED
        case StoreFull() | OverCapacity() | RequestTooLarge():
            return FailureReason.OUT_OF_RESOURCES
        case InvalidRequest():
            return FailureReason.NOT_AS_ANNOUNCED
        case _:
            return FailureReason.PROCESSING_FAILURE


def status_of(outcomes: Sequence[Outcome], *, is_full: bool) -> int:
    """200 where all are kept, 202 where some are; where none is, 507 if there was no room for one, else 409."""
    kept = sum(each.reason is None for each in outcomes)
    if kept:
        return 200 if kept == len(outcomes) else 202
    return 507 if is_full else 409


def answer_of(outcomes: Sequence[Outcome], public_url: str) -> bytes:
    """The Store Instances Response in the DICOM JSON model."""
    kept = [each for each in outcomes if each.reason is None]
    failed = [each for each in outcomes if each.reason is not None and each.sop_uid]
    unnamed = [each for each in outcomes if each.reason is not None and not each.sop_uid]
    studies = {each.study_uid for each in kept}
    answer: dict[str, Element] = {}
    if len(studies) == 1:
        answer[_RETRIEVE_URL] = _element("UR", f"{public_url}/studies/{studies.pop()}")
    for tag, items in (
        (_FAILED, [_names(each) | _why(each) for each in failed]),
        (_REFERENCED, [_names(each) | {_RETRIEVE_URL: _element("UR", _url(each, public_url))} for each in kept]),
        (_OTHER_FAILURES, [_why(each) for each in unnamed]),
    ):
        if items:
            answer[tag] = {"vr": "SQ", "Value": [dict(item) for item in items]}
    return orjson.dumps(answer)


def _names(outcome: Outcome) -> dict[str, JsonValue]:
    return {_CLASS: _element("UI", outcome.sop_class_uid), _INSTANCE: _element("UI", outcome.sop_uid)}


def _why(outcome: Outcome) -> dict[str, JsonValue]:
    assert outcome.reason is not None
    return {_REASON: _element("US", int(outcome.reason))}


def _url(outcome: Outcome, public_url: str) -> str:
    return f"{public_url}/studies/{outcome.study_uid}/series/{outcome.series_uid}/instances/{outcome.sop_uid}"


def _element(vr: str, value: JsonValue) -> dict[str, JsonValue]:
    return {"vr": vr, "Value": [value]}
