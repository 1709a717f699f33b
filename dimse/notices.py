"""What a C-FIND answer says beside its rows: what may be missing and whom to ring, never that something was withheld.

In the way that its caller has chosen (`missing_sources`, SAF-04, SAF-07 to SAF-09): as synthetic rows, as a failure, or
as an Error Comment. Everything here is a function of the question, the caller's coverage and the state of the trusts,
so that found, none and withheld are told alike (SAF-02). Pure.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from dimse.status import Ending, MissingSources, Status
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    JsonValue,
    Level,
    Match,
    Matches,
    Query,
    Source,
    SourceState,
)
from gateway.model.wording import Listing, desk, fitted, listed, why_not_asked, with_phone, words_of

UNAVAILABLE = "SOURCE UNAVAILABLE"
CONFLICT = "IDENTITY DETAILS DIFFER"
CUT = "ANSWER CUT SHORT"
NOT_SHARED = "NOT ALL IMAGING SHARED"
"""Patient's names of synthetic rows: what a list shows first."""

_STUDY_DESCRIPTION, _SERIES_DESCRIPTION, _IMAGE_COMMENTS = "00081030", "0008103E", "00204000"
_INSTANCE_AVAILABILITY = "00080056"
# Makes the UIDs of synthetic rows, which belong to nothing that exists: the same for a trust each time (PS3.5 B.2).
_NAMESPACE = uuid.UUID("0b0c8f5e-3c5b-4f0e-9a43-0d2c7a0f5b11")


@dataclass(frozen=True, slots=True)
class _Notice:
    """One thing to tell: the name of its row, whom it is about, the text, and the number to ring that is in it."""

    name: str
    subject: str
    text: str
    phone: str = ""


def ending(matches: Matches, how: MissingSources) -> Ending:
    """The last response to a question that was answered."""
    match how:
        case MissingSources.ROW:
            return Ending(Status.SUCCESS)
        case MissingSources.FAILURE:
            return Ending(_failure(matches), listed(_listings(matches)))
        case MissingSources.COMMENT:
            return Ending(Status.SUCCESS, listed(_listings(matches)))
    assert_never(how)


def synthetic_rows(matches: Matches, query: Query, how: MissingSources) -> tuple[Match, ...]:
    """The rows that stand for what is missing, behind those that were found; they can never be retrieved."""
    if how is not MissingSources.ROW:
        return ()
    return tuple(_row(query, notice) for notice in _notices(matches))


def _failure(matches: Matches) -> Status:
    """What no list may hide is a failure; that a trust shares nothing is coverage, and none (SAF-07)."""
    if any(source.state.is_missing or source.has_identity_conflict for source in matches.sources):
        return Status.UNABLE_TO_PROCESS
    return Status.SUCCESS if matches.truncated_at is None else Status.OUT_OF_RESOURCES


def _listings(matches: Matches) -> list[Listing]:
    """Most urgent first, for what does not fit is left out."""
    sources = matches.sources
    listings = [
        Listing("missing", [desk(source) for source in sources if source.state.is_missing]),
        Listing("identity differs", [desk(source) for source in sources if source.has_identity_conflict]),
    ]
    if matches.truncated_at is not None:
        listings.append(Listing("cut", [f"at {matches.truncated_at} rows"]))
    held = Listing("held here", [source.trust.code for source in sources if source.is_held_here])
    return [*listings, *_coverage(sources), held]


def _notices(matches: Matches) -> Iterator[_Notice]:
    sources = matches.sources
    for source in sources:
        if source.state.is_missing:
            yield _of_trust(UNAVAILABLE, source, words_of(source))
    for source in sources:
        if source.has_identity_conflict:
            yield _of_trust(CONFLICT, source, "an item could not be shared")
    if matches.truncated_at is not None:
        yield _Notice(CUT, "", f"cut at {matches.truncated_at} rows: ask a narrower question")
    # One row for all of them: it stands in every answer, and must not drown the others.
    coverage = listed(_coverage(sources))
    if coverage:
        yield _Notice(NOT_SHARED, "", coverage)


def _of_trust(name: str, source: Source, what: str) -> _Notice:
    if source.note:
        what = source.note
    elif source.not_asked_because is not None and name == UNAVAILABLE:
        what = f"not asked, {why_not_asked(source.not_asked_because)}"
    named, by_code = (
        with_phone(f"{whose}: {what}", source.desk_phone)
        for whose in (f"{source.trust.code} {source.name}", source.trust.code)
    )
    # Where not all of it has room, the trust's name gives way: what became of it says more.
    text = named if fitted(f": {what}") in named else by_code
    return _Notice(name, source.trust.code, text, source.desk_phone)


def _coverage(sources: Sequence[Source]) -> list[Listing]:
    """What agreements alone decide, whoever the patient (SAF-07)."""
    return [
        Listing("not shared", [source.trust.code for source in sources if _shares_nothing(source)]),
        Listing("shared", [_shared_in_part(source) for source in sources if _shares_in_part(source)]),
    ]


def _shares_nothing(source: Source) -> bool:
    return source.state is SourceState.NOT_SHARED or source.shared_modalities == ()


def _shares_in_part(source: Source) -> bool:
    return not _shares_nothing(source) and source.shared_modalities is not None


def _shared_in_part(source: Source) -> str:
    return fitted(f"{source.trust.code} only {' '.join(source.shared_modalities or ())}")


def _row(query: Query, notice: _Notice) -> Match:
    """A row of the question's level: under the parents that were asked for, with a key of its own that nothing has."""
    uid = f"2.25.{uuid.uuid5(_NAMESPACE, f'{notice.name}/{notice.subject}/{query.level.value}').int}"
    patient_id, study_uid, series_uid = (_asked(query, tag) for tag in (PATIENT_ID, STUDY_UID, SERIES_UID))
    sop_uid, name = "", notice.name
    match query.level:
        case Level.PATIENT:
            # A list of patients has no other column for text.
            patient_id = fitted(f"{notice.name} {notice.subject}")
            name = with_phone(f"{notice.name}^{notice.subject}".rstrip("^"), notice.phone)
        case Level.STUDY:
            study_uid = uid
        case Level.SERIES:
            series_uid = uid
        case Level.IMAGE:
            sop_uid = uid
        case _:
            assert_never(query.level)
    series_description = fitted(f"{notice.name}: {notice.text}")
    if notice.phone:
        series_description = with_phone(f"{notice.name}: {notice.subject}", notice.phone)
    attributes = {
        PATIENT_NAME: _element("PN", {"Alphabetic": name.replace("=", "-")}),
        PATIENT_ID: _element("LO", patient_id),
        ISSUER_OF_PATIENT_ID: _element("LO", _asked(query, ISSUER_OF_PATIENT_ID)),
        STUDY_UID: _element("UI", study_uid),
        SERIES_UID: _element("UI", series_uid),
        SOP_UID: _element("UI", sop_uid),
        _STUDY_DESCRIPTION: _element("LO", notice.text),
        _SERIES_DESCRIPTION: _element("LO", series_description),
        _IMAGE_COMMENTS: _element("LT", f"{notice.name}: {notice.text}"),
        _INSTANCE_AVAILABILITY: _element("CS", "UNAVAILABLE"),
    }
    known = {tag: element for tag, element in attributes.items() if element["Value"] != [""]}
    return Match(query.level, None, study_uid, series_uid, sop_uid, (), known)


def _element(vr: str, value: JsonValue) -> dict[str, JsonValue]:
    return {"vr": vr, "Value": [value]}


def _asked(query: Query, tag: str) -> str:
    """The one whole value that a question gave for a key, if it did."""
    key = query.key(tag)
    if key is None or len(key.values) != 1 or "*" in key.values[0] or "?" in key.values[0]:
        return ""
    return key.values[0]
