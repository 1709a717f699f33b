"""Queries and what answers them: levels, keys, rows, matches.

A row is the DICOM JSON model (PS3.18 Annex F) as parsed, a dict from 8-digit tag to element: cheap to match, coerce
and encode (DEC-32). No pydicom `Dataset` per row. Rows are never changed in place; coercion makes a shallow copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from policy.parties import NhsNumber, TrustId

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
"""Any parsed JSON value."""

Element = Mapping[str, JsonValue]
"""One attribute in the DICOM JSON model: `vr`, and at most one of `Value`, `BulkDataURI`, `InlineBinary`."""

Attributes = Mapping[str, Element]
"""A row: upper-case 8-digit tag to element."""

PATIENT_NAME = "00100010"
PATIENT_ID = "00100020"
ISSUER_OF_PATIENT_ID = "00100021"
PATIENT_BIRTH_DATE = "00100030"
PATIENT_SEX = "00100040"
OTHER_PATIENT_IDS = "00101002"
ACCESSION_NUMBER = "00080050"
STUDY_DATE = "00080020"
STUDY_TIME = "00080030"
MODALITY = "00080060"
MODALITIES_IN_STUDY = "00080061"
STUDY_UID = "0020000D"
SERIES_UID = "0020000E"
SOP_UID = "00080018"
SOP_CLASS_UID = "00080016"


class Level(StrEnum):
    """Query/Retrieve levels (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(frozen=True, slots=True)
class Key:
    """A matching key: the path of tags (longer than one inside sequences), its VR, and the values that match.

    Several values are alternatives (UID lists, several modalities; PS3.4 C.2.2.2.2). Never empty: a key without a
    value asks for universal matching and is only a return key (`Query.include`).
    """

    path: tuple[str, ...]
    vr: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """What a caller asks, whatever the protocol. `include` are tags wanted beyond the level's required ones."""

    level: Level
    keys: tuple[Key, ...]
    include: frozenset[str] = frozenset()
    include_all: bool = False
    fuzzy: bool = False
    limit: int | None = None
    offset: int = 0
    combined_datetime: bool = False
    """Whether ranges of study date and study time together mean one range of instants (PS3.4 C.2.2.2.5)."""
    only_trust: TrustId | None = None
    """Ask this trust alone (`/dicom-web/trust/{ODS}/...`); None: every trust but the caller's own (DEC-01)."""

    def key(self, tag: str) -> Key | None:
        """The top-level key for `tag`, if the caller gave one."""
        return next((key for key in self.keys if key.path == (tag,)), None)


@dataclass(frozen=True, slots=True)
class Match:
    """One study, series or instance that may be shown: its identifiers, its holders, and the row."""

    level: Level
    patient: NhsNumber | None
    study_uid: str
    series_uid: str
    sop_uid: str
    holders: tuple[TrustId, ...]
    attributes: Attributes
    shown_from: TrustId | None = None
    """The holder whose copy is shown."""
    versions: tuple[TrustId, ...] = ()
    """The holders whose copy says something else in its header than what is shown (SAF-35)."""


class SourceState(StrEnum):
    """What became of one trust in one question."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed-out"
    REFUSED = "refused"
    INVALID_ANSWER = "invalid-answer"
    BACKING_OFF = "backing-off"
    NOT_ASKED = "not-asked"
    NOT_SHARED = "not-shared"
    """The trust shares nothing with this caller: coverage, not a fault (SAF-07)."""

    @property
    def is_missing(self) -> bool:
        """Whether imaging held there may be absent from the answer although it is shared."""
        return self not in (SourceState.ANSWERED, SourceState.NOT_SHARED)


class NotAskedReason(StrEnum):
    """Why a trust was not asked. Says nothing of what exists there, nor of any register."""

    RECENTLY_CHECKED = "recently-checked"
    """Asked for this patient a short while ago, and its feed has told of no news since (SAF-05)."""
    NO_ARCHIVE = "no-archive"
    """It has no archive that this gateway could ask."""
    PLANNED_DOWNTIME = "planned-downtime"
    """It announced that its archive would not answer now."""
    NO_LINKED_NUMBER = "no-linked-number"
    """Its archive files under its own numbers, and this gateway knows none of them for the patient."""
    BEHIND_GATEWAY = "behind-gateway"
    """It is asked through another gateway, and so is this question: each answers for its own trusts alone (DEC-01)."""
    BUSY = "busy"
    """Earlier questions to it took the time that this one had."""


@dataclass(frozen=True, slots=True)
class Source:
    """A trust in an answer: its state, and the desk to ring when something of it may be missing (SAF-09)."""

    trust: TrustId
    name: str
    state: SourceState
    desk_phone: str
    shared_modalities: tuple[str, ...] | None = None
    """The only modalities that this trust ever shows the caller, whoever the patient; None: any (SAF-07)."""
    has_identity_conflict: bool = False
    """Something there could not be shown because identity details differ (SAF-08)."""
    not_asked_because: NotAskedReason | None = None
    note: str = ""
    """Words behind its state, the same for every caller and patient: until when it is down, and why."""
    is_held_here: bool = False
    """Something that is shown of it is held by this gateway: its archive did not list it, or has not all of it yet."""
    checked_at: datetime | None = None
    """When what is given in its stead, for it is missing, was last compared with its archive (SAF-37)."""


@dataclass(frozen=True, slots=True)
class Matches:
    """A whole answer: rows in one stable order, and every trust's part in it. Never claims completeness (SAF-03)."""

    rows: tuple[Match, ...]
    sources: tuple[Source, ...]
    remaining: int = 0
    """How many visible rows lie beyond this page."""
    truncated_at: int | None = None
    """The limit that cut the whole answer, if one did."""
    unsupported_keys: tuple[str, ...] = ()
    snapshot: str = ""
    """Token under which the next page finds the same order for at most a minute (DEC-35)."""
