"""Matches become the bytes of a QIDO-RS answer: DICOM JSON with the attributes of PS3.18 10.6.3.3, and no others.

Required attributes are always present, empty where the archive gave none; what a caller asked besides is present where
it is known. Addresses lead to this gateway, never to the archive behind it. No `Dataset` is made (DEC-32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import orjson

from gateway.model.attributes import (
    INSTANCE_AVAILABILITY,
    INSTANCE_NUMBER,
    PERFORMED_DATE,
    PERFORMED_TIME,
    REFERRING_PHYSICIAN,
    REQUEST_ATTRIBUTES,
    RETRIEVE_AE_TITLE,
    RETRIEVE_URL,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    SPECIFIC_CHARACTER_SET,
    STUDY_ID,
    TIMEZONE_OFFSET,
    vr_of,
)
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Element,
    Level,
    Match,
    Query,
)

STUDY_RETURN = (
    SPECIFIC_CHARACTER_SET,
    STUDY_DATE,
    STUDY_TIME,
    ACCESSION_NUMBER,
    INSTANCE_AVAILABILITY,
    MODALITIES_IN_STUDY,
    REFERRING_PHYSICIAN,
    RETRIEVE_URL,
    PATIENT_NAME,
    PATIENT_ID,
    PATIENT_BIRTH_DATE,
    PATIENT_SEX,
    STUDY_UID,
    STUDY_ID,
    "00201206",
    "00201208",
)
"""PS3.18 Table 10.6.3-3; the last two are the numbers of series and instances. Time zone offset only where known."""

SERIES_RETURN = (
    SPECIFIC_CHARACTER_SET,
    MODALITY,
    SERIES_DESCRIPTION,
    RETRIEVE_URL,
    SERIES_UID,
    SERIES_NUMBER,
    "00201209",
    PERFORMED_DATE,
    PERFORMED_TIME,
    REQUEST_ATTRIBUTES,
)
"""PS3.18 Table 10.6.3-4."""

INSTANCE_RETURN = (
    SPECIFIC_CHARACTER_SET,
    SOP_CLASS_UID,
    SOP_UID,
    INSTANCE_AVAILABILITY,
    RETRIEVE_URL,
    INSTANCE_NUMBER,
)
"""PS3.18 Table 10.6.3-5, without what only images have (`INSTANCE_RETURN_IF_KNOWN`)."""

INSTANCE_RETURN_IF_KNOWN = ("00280008", "00280010", "00280011", "00280100")
"""Number of frames, rows, columns, bits allocated: present in a row only when the object has them."""

_UTF_8: Element = {"vr": "CS", "Value": ["ISO_IR 192"]}
_UNKNOWN: Element = {"vr": "CS"}
_AVAILABILITIES = frozenset({"ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"})
_OURS = frozenset({SPECIFIC_CHARACTER_SET, RETRIEVE_AE_TITLE, RETRIEVE_URL, INSTANCE_AVAILABILITY})
"""Attributes that only the gateway may set; a row's own are never shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one question wants in every row of its answer."""

    level: Level
    attributes: tuple[tuple[str, Element | None], ...]
    """In ascending order: each tag, and what stands there when a row has nothing; None: then nothing does."""
    everything: bool


def wanted(query: Query, path_tags: frozenset[str]) -> Wanted:
    """The attributes for a question whose path names the UIDs `path_tags` (PS3.18 10.6.3.3).

    A resource that does not name its study returns the study's attributes too, likewise for the series.
    """
    required: set[str] = set()
    if_known: set[str] = set(query.include) | {key.path[0] for key in query.keys} | {TIMEZONE_OFFSET}
    if query.level is Level.IMAGE:
        required.update(INSTANCE_RETURN)
        if_known.update(INSTANCE_RETURN_IF_KNOWN)
    if query.level is Level.SERIES or (query.level is Level.IMAGE and SERIES_UID not in path_tags):
        required.update(SERIES_RETURN)
    if query.level is Level.STUDY or STUDY_UID not in path_tags:
        required.update(STUDY_RETURN)
    required.update(path_tags)
    attributes: dict[str, Element | None] = dict.fromkeys(if_known - _OURS)
    attributes.update((tag, {"vr": vr_of(tag)}) for tag in required)
    return Wanted(query.level, tuple(sorted(attributes.items(), key=itemgetter(0))), query.include_all)


def encode(rows: Sequence[Match], wanted: Wanted, base_url: str) -> bytes:
    """The answer's body. `base_url` is the public one, without a slash at its end."""
    return orjson.dumps([_row(match, wanted, base_url) for match in rows])


def retrieve_url(match: Match, base_url: str) -> str:
    """Where this gateway serves the match (WADO-RS), whoever asked and by whatever host name."""
    url = f"{base_url}/studies/{match.study_uid}"
    if match.level in (Level.SERIES, Level.IMAGE):
        url = f"{url}/series/{match.series_uid}"
    return f"{url}/instances/{match.sop_uid}" if match.level is Level.IMAGE else url


def _row(match: Match, wanted: Wanted, base_url: str) -> dict[str, Element]:
    known = match.attributes.get
    row = {tag: element for tag, empty in wanted.attributes if (element := known(tag, empty)) is not None}
    if wanted.everything:
        row.update((tag, element) for tag, element in match.attributes.items() if tag not in row)
        row.pop(RETRIEVE_AE_TITLE, None)
        row = dict(sorted(row.items()))
    row[SPECIFIC_CHARACTER_SET] = _UTF_8
    row[RETRIEVE_URL] = {"vr": "UR", "Value": [retrieve_url(match, base_url)]}
    if INSTANCE_AVAILABILITY in row and not _is_availability(row[INSTANCE_AVAILABILITY]):
        row[INSTANCE_AVAILABILITY] = _UNKNOWN
    return row


def _is_availability(element: Element) -> bool:
    values = element.get("Value")
    return isinstance(values, list) and len(values) == 1 and values[0] in _AVAILABILITIES
