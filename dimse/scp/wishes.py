"""What a C-MOVE or C-GET identifier asks to have, as a `RetrieveWish` (PS3.4 C.4.2.2, C.4.3.2).

Only unique keys count: that of the level, which may be a list of UIDs, and one value of each level above it, unless
relational retrieval was agreed or the caller is let off. Whatever else stands in the identifier is passed over, as
archives do whose keys the viewer repeats. A patient is named by NHS number. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dimse.identifier import QUERY_RETRIEVE_LEVEL, read_elements
from dimse.sop_classes import (
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_ONLY_GET,
    PATIENT_STUDY_ONLY_MOVE,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID, Level
from gateway.model.keys import alternatives, has_control_character
from gateway.model.settings import Limits
from gateway.model.work.retrievals import RetrieveWish
from policy.parties import InvalidIdentifier, NhsNumber

MOVE_CLASSES = (STUDY_ROOT_MOVE, PATIENT_ROOT_MOVE, PATIENT_STUDY_ONLY_MOVE)
GET_CLASSES = (STUDY_ROOT_GET, PATIENT_ROOT_GET, PATIENT_STUDY_ONLY_GET)

EXTENDED = MappingProxyType(dict.fromkeys((*MOVE_CLASSES, *GET_CLASSES), bytes((1, 0))))
"""What is answered to extended negotiation (PS3.4 C.5.2.1): relational retrieval, and no conversion of multi-frame
images into single ones or back."""

PATIENT_ID_CHARS_MAX = 64

_FROM_PATIENT = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
_LEVELS: Mapping[str, tuple[Level, ...]] = MappingProxyType(
    {
        PATIENT_ROOT_MOVE: _FROM_PATIENT,
        PATIENT_ROOT_GET: _FROM_PATIENT,
        STUDY_ROOT_MOVE: _FROM_PATIENT[1:],
        STUDY_ROOT_GET: _FROM_PATIENT[1:],
        PATIENT_STUDY_ONLY_MOVE: _FROM_PATIENT[:2],
        PATIENT_STUDY_ONLY_GET: _FROM_PATIENT[:2],
    }
)
_UNIQUE: Mapping[Level, str] = MappingProxyType(
    {Level.PATIENT: PATIENT_ID, Level.STUDY: STUDY_UID, Level.SERIES: SERIES_UID, Level.IMAGE: SOP_UID}
)


@dataclass(frozen=True, slots=True)
class IdentifierTerms:
    """Under what an identifier is read."""

    transfer_syntax: str
    sop_class_uid: str
    negotiated: bytes = b""
    """The bytes of extended negotiation as agreed."""
    is_lenient: bool = False
    """Whether the levels above may be left unnamed without relational retrieval."""


def wish_of(body: bytes, terms: IdentifierTerms, limits: Limits) -> RetrieveWish:
    """Read a request's identifier; raises `InvalidRequest` or `RequestTooLarge`, with the offending tags if it can."""
    elements = read_elements(body, terms.transfer_syntax, limits.query_keys_max + limits.include_fields_max)
    by_tag = {element.name: element.value for element in elements}
    if len(by_tag) < len(elements):
        raise InvalidRequest("an attribute is given twice in the identifier")
    levels = _LEVELS[terms.sop_class_uid]
    level = _level(by_tag.get(QUERY_RETRIEVE_LEVEL, b""), levels)
    named = levels[: levels.index(level) + 1]
    uids = {each: _uids(by_tag, each, limits) for each in named if each is not Level.PATIENT}
    patient_id = _patient_id(by_tag) if Level.PATIENT in named else ""
    missing = [_UNIQUE[each] for each, values in uids.items() if each is level and not values]
    if not (terms.is_lenient or terms.negotiated[:1] == b"\1"):
        missing += [_UNIQUE[each] for each, values in uids.items() if each is not level and len(values) != 1]
        missing += [PATIENT_ID] * (Level.PATIENT in named and level is not Level.PATIENT and not patient_id)
    if missing:
        words = "the level asked for and each level above it are named by their unique keys"
        raise InvalidRequest(words, offending=tuple(sorted(missing)))
    if level is Level.PATIENT:
        return RetrieveWish(level, patient=_patient(patient_id))
    return RetrieveWish(
        level,
        patient_id=patient_id,
        study_uids=uids.get(Level.STUDY, ()),
        series_uids=uids.get(Level.SERIES, ()),
        sop_uids=uids.get(Level.IMAGE, ()),
    )


def _level(value: bytes, levels: tuple[Level, ...]) -> Level:
    text = value.decode("latin_1").strip(" \0")
    if text not in {level.value for level in levels}:
        names = ", ".join(levels)
        raise InvalidRequest(f"the level must be one of {names}", offending=(QUERY_RETRIEVE_LEVEL,))
    return Level(text)


def _uids(by_tag: Mapping[str, bytes], level: Level, limits: Limits) -> tuple[str, ...]:
    tag = _UNIQUE[level]
    text = by_tag.get(tag, b"").decode("latin_1").strip(" \0")
    try:
        # A star is no UID here: nothing is retrieved by wild cards (PS3.4 C.4.2.1.4.1).
        if "*" in text or "?" in text:
            raise InvalidRequest("a UID must be 1 to 64 digits and full stops")
        return alternatives("UI", text, limits) or ()
    except InvalidRequest as error:
        error.offending = (tag,)
        raise


def _patient_id(by_tag: Mapping[str, bytes]) -> str:
    text = by_tag.get(PATIENT_ID, b"").decode("latin_1").strip(" \0")
    if has_control_character(text) or len(text) > PATIENT_ID_CHARS_MAX or set("*?\\") & set(text):
        raise InvalidRequest("a patient id is one value without wild cards", offending=(PATIENT_ID,))
    return text


def _patient(patient_id: str) -> NhsNumber:
    try:
        return NhsNumber.parse(patient_id)
    except InvalidIdentifier:
        raise InvalidRequest("a patient is named by NHS number", offending=(PATIENT_ID,)) from None
