"""Rows become candidates, and one study at several trusts becomes one match with its holders; conflicts stay apart.

Rows of one UID are united only when they are of one patient; the custodian's copy speaks, and counts are never added
(C2, C3, A9, SAF-35). The same UID with another patient is withheld everywhere (SAF-08). Any order and duplication of
answers gives the same result. No row is dropped without a word: one that may answer and cannot be placed makes its
trust's part incomplete (SAF-04). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import assert_never

from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    Attributes,
    Element,
    JsonValue,
    Level,
    Match,
    NotAskedReason,
    Query,
    SourceState,
)
from gateway.sharing.identity.accessions import is_issued_by, with_issuer
from gateway.sharing.identity.origins import (
    NO_ORIGINS,
    OWN_BLOCK,
    Custody,
    Origins,
    custody,
    is_other_version,
    with_origin,
)
from gateway.sharing.identity.patients import Identities, RowIdentity
from gateway.sharing.identity.shown import shown_identity
from gateway.sharing.matching import Matcher
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.scope import Scope, carries_pin, matched_keys
from policy.parties import NhsNumber, PatientId, TrustId

RELATED_COUNTS = ("00201206", "00201208", "00201209")
"""Number of Study Related Series / Instances, Number of Series Related Instances: the greatest is kept, never a sum."""

COUNT_MAX = 10**9
"""A count from here on is a lie."""
_UID = re.compile(r"[0-9.]{1,64}")
_WHOLE_NUMBER = re.compile(r" *[0-9]{1,9} *")

PEOPLE_MAX = 64
"""Different people, or spellings of them, in one trust's answer to one question; more if it lists more studies."""

SOURCE_ONLY = ("00080054", "00081190", "0040E010", "0040E011", "00080056")
"""Retrieve AE Title, URL, URI, Location UID, Instance Availability: the source's own would lead round the policy."""

PATIENT_COUNTS = ("00201200", "00201202", "00201204")
"""Number of Patient Related Studies / Series / Instances: they count at the source what the caller may not see."""

INSTANCE_AVAILABILITY = "00080056"
NEARLINE: Element = {"vr": "CS", "Value": ["NEARLINE"]}
"""It has to be fetched from its holder first (PS3.3 C.4.23)."""
ONLINE: Element = {"vr": "CS", "Value": ["ONLINE"]}
"""This gateway holds it in its holder's stead."""

PATIENT_ATTRIBUTES = frozenset(
    (PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_BIRTH_DATE, "00100032", PATIENT_SEX, OTHER_PATIENT_IDS)
)
"""What a patient's own row shows; all else that an archive says of patients it says of one study."""

SOURCE_IDENTITY = (OTHER_PATIENT_IDS, "00100022", "00100024", "00101000")
"""Other Patient IDs, Type and Issuer Qualifiers of Patient ID: they speak of the number that is replaced."""

_NO_UIDS = ("", "", "")
_NO_NUMBERS: Mapping[NhsNumber, PatientId] = MappingProxyType({})
_NEVER_SHOWN = frozenset((*SOURCE_ONLY, *PATIENT_COUNTS)) | OWN_BLOCK
_NEVER_SHOWN_BESIDE_NUMBER = _NEVER_SHOWN | frozenset(SOURCE_IDENTITY)
_OF_EACH_COPY = _NEVER_SHOWN_BESIDE_NUMBER.union(
    RELATED_COUNTS, (MODALITIES_IN_STUDY, PATIENT_ID, ISSUER_OF_PATIENT_ID)
)
"""What copies of one study rightly differ in, so that it makes no version."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A peer's row that answers the question: whose it says it is, and which study, series or instance.

    Compared by identity: two peers' equal rows are still two rows.
    """

    trust: TrustId
    identity: RowIdentity
    study_uid: str
    series_uid: str
    sop_uid: str
    row: Attributes
    is_kept: bool = False
    """Whether this gateway holds what the row tells of, and its trust's archive did not speak."""

    @property
    def patient(self) -> NhsNumber | None:
        """The NHS number the row carries."""
        return self.identity.nhs_number

    @property
    def uids(self) -> tuple[str, str, str]:
        """The entity's identifiers, upper levels first."""
        return (self.study_uid, self.series_uid, self.sop_uid)


@dataclass(frozen=True, slots=True)
class Part:
    """One trust's part in an answer, once its rows are read."""

    trust: TrustId
    state: SourceState
    rows: int = 0
    """How many it sent."""
    duration_s: float = 0.0
    is_all_to_the_point: bool = False
    """Whether it sent rows, and every one of them answers the question."""
    reason: NotAskedReason | None = None
    """Why it was not asked, where that may be told."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All answers to one question."""

    candidates: tuple[Candidate, ...]
    parts: tuple[Part, ...]
    has_lacking_rows: bool
    """Whether some row did not carry a key of the question."""


def candidate(
    level: Level, trust: TrustId, identity: RowIdentity, row: Attributes, *, is_kept: bool = False
) -> Candidate | None:
    """Read a row's unique keys; None when the level's own, or one above it, is missing."""
    study = _uid(row, STUDY_UID)
    series = _uid(row, SERIES_UID) if level in (Level.SERIES, Level.IMAGE) else ""
    sop = _uid(row, SOP_UID) if level is Level.IMAGE else ""
    match level:
        case Level.PATIENT | Level.STUDY:
            is_whole = bool(study)
        case Level.SERIES:
            is_whole = bool(study and series)
        case Level.IMAGE:
            is_whole = bool(study and series and sop)
        case _:
            assert_never(level)
    return Candidate(trust, identity, study, series, sop, row, is_kept) if is_whole else None


def read_answers(
    query: Query,
    scope: Scope,
    answers: Sequence[TrustAnswer],
    default_issuer: Callable[[TrustId], str],
    accession_issuer: Callable[[TrustId], str] = str,
) -> Reading:
    """Read every row of every answer; the issuers are what a trust's archive means by a bare Patient ID or accession
    number.

    An archive that answers one question with rows of too many people is not believed at all: it ignores what it is
    asked, or lies, and reading the registers for all of them would cost every other question its time.
    """
    people_max = max(PEOPLE_MAX, len(scope.study_uids))
    matcher = Matcher(matched_keys(query, scope), combined_datetime=query.combined_datetime)
    candidates: list[Candidate] = []
    parts = []
    for answer in answers:
        identities = Identities(default_issuer(answer.trust))
        own_accessions = accession_issuer(answer.trust)
        people: set[int] = set()
        known, is_complete = len(candidates), True
        for row in answer.rows:
            if scope.accession_issuers and not is_issued_by(row, scope.accession_issuers, own_accessions):
                continue
            if matcher.matches(row):
                identity = identities.of(row)
                people.add(id(identity))
                if len(people) > people_max:
                    break
                entry = candidate(query.level, answer.trust, identity, row) if carries_pin(scope, row) else None
                if entry is not None:
                    candidates.append(entry)
                else:
                    is_complete = False
        is_flood = len(people) > people_max
        if is_flood:
            del candidates[known:]
        for row in answer.kept:
            if scope.accession_issuers and not is_issued_by(row, scope.accession_issuers, own_accessions):
                continue
            if matcher.matches(row) and carries_pin(scope, row):
                entry = candidate(query.level, answer.trust, identities.of(row), row, is_kept=True)
                candidates += [entry] if entry is not None else []
        part = _part(answer, len(candidates) - known, is_complete)
        parts.append(replace(part, state=SourceState.INVALID_ANSWER) if is_flood else part)
    return Reading(tuple(candidates), tuple(parts), bool(matcher.unsupported))


def lacking_keys(query: Query, scope: Scope, rows: Collection[Candidate]) -> tuple[str, ...]:
    """The tags of the keys that some of these rows do not carry, so that no archive could be held to them."""
    matcher = Matcher(matched_keys(query, scope), combined_datetime=query.combined_datetime)
    for row in rows:
        matcher.matches(row.row)
    return tuple(sorted(matcher.unsupported))


def conflicting_studies(candidates: Collection[Candidate]) -> frozenset[str]:
    """Study UIDs that rows file under different NHS numbers, themselves or by a series or an image in them (SAF-08)."""
    if len({found.patient for found in candidates if found.patient is not None}) < 2:
        return frozenset()
    patients: dict[str, set[NhsNumber]] = {}
    studies: dict[str, set[str]] = {}
    for found in candidates:
        if found.patient is not None:
            for uid in found.uids:
                if uid:
                    patients.setdefault(uid, set()).add(found.patient)
                    studies.setdefault(uid, set()).add(found.study_uid)
    return frozenset().union(*(studies[uid] for uid, numbers in patients.items() if len(numbers) > 1)) - {""}


def merge(
    level: Level,
    candidates: Iterable[Candidate],
    own_numbers: Mapping[NhsNumber, PatientId] = _NO_NUMBERS,
    origins: Origins = NO_ORIGINS,
) -> list[Match]:
    """Unite rows of the same UIDs; newest study first, then by UID (B3).

    At patient level the rows are those of one patient's studies, and all of them become that patient's one row.
    `own_numbers` are those under which the caller's own trust files the patients, by its own word (SAF-34).
    """
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for found in candidates:
        groups.setdefault(found.uids if level is not Level.PATIENT else _NO_UIDS, []).append(found)
    standing = custodies(groups.values(), origins) if level is not Level.PATIENT else {}
    matches = [
        _united(level, group, own_numbers, origins, standing.get(group[0].study_uid, {})) for group in groups.values()
    ]
    # Two stable sorts: UIDs ascending inside equal dates, dates descending.
    matches.sort(key=lambda match: (match.study_uid, match.series_uid, match.sop_uid))
    matches.sort(key=lambda match: _text(match.attributes, STUDY_DATE), reverse=True)
    return matches


def _part(answer: TrustAnswer, placed: int, is_complete: bool) -> Part:
    is_whole = is_complete and not answer.is_kept_cut
    state = SourceState.TRUNCATED if answer.state is SourceState.ANSWERED and not is_whole else answer.state
    count = len(answer.rows) + len(answer.kept)
    return Part(answer.trust, state, count, answer.duration_s, is_all_to_the_point=0 < count == placed)


def custodies(groups: Collection[Sequence[Candidate]], origins: Origins) -> dict[str, Mapping[TrustId, Custody]]:
    """How the holders stand to each study of which there are several copies: for all of it, not series by series."""
    said: dict[str, list[tuple[TrustId, TrustId | None]]] = {g[0].study_uid: [] for g in groups if len(g) > 1}
    for group in groups if said else ():
        copies = said.get(group[0].study_uid)
        if copies is not None:
            copies += [(found.trust, origins.said_by(found.trust, found.row)) for found in group]
    return {uid: custody(copies) for uid, copies in said.items()}


def _united(
    level: Level,
    group: Sequence[Candidate],
    own_numbers: Mapping[NhsNumber, PatientId],
    origins: Origins,
    standing: Mapping[TrustId, Custody],
) -> Match:
    best = best_of(group, standing)
    never_shown = _NEVER_SHOWN if best.patient is None else _NEVER_SHOWN_BESIDE_NUMBER
    is_patient = level is Level.PATIENT
    attributes = {
        tag: element
        for tag, element in best.row.items()
        if tag not in never_shown and (not is_patient or tag in PATIENT_ATTRIBUTES)
    }
    if best.patient is not None:
        attributes.update(shown_identity(identity_of_all(best, group), own_numbers.get(best.patient)))
    holders = (best.trust,) if len(group) == 1 else tuple(sorted({found.trust for found in group}))
    attributes[INSTANCE_AVAILABILITY] = ONLINE if all(found.is_kept for found in group) else NEARLINE
    if is_patient:
        return Match(level, best.patient, *_NO_UIDS, holders, attributes, best.trust)
    _unite_counts(attributes, group)
    with_issuer(attributes, origins.accession_issuer(best.trust))
    with_origin(attributes, best.trust, holders, origins)
    # What is held for a trust and what its archive lists of the same study are no two copies.
    others = [found for found in group if found is not best and not (found.is_kept and found.trust == best.trust)]
    versions = tuple(sorted({found.trust for found in others if is_other_version(best.row, found.row, _OF_EACH_COPY)}))
    return Match(level, best.patient, *best.uids, holders, attributes, best.trust, versions)


def identity_of_all(best: Candidate, group: Sequence[Candidate]) -> RowIdentity:
    """Whose they are, with every number that any of them carries."""
    if len(group) == 1 and len(best.identity.local_ids) < 2:
        return best.identity
    local_ids = sorted({local for found in group for local in found.identity.local_ids})
    carried = frozenset().union(*(found.identity.carried for found in group))
    return replace(best.identity, local_ids=tuple(local_ids), carried=carried)


def best_of(group: Sequence[Candidate], standing: Mapping[TrustId, Custody]) -> Candidate:
    """The custodian's copy speaks, before what is held for it, then the most complete; ties go by ODS code and content:
    order never matters.
    """

    def precedence(found: Candidate) -> tuple[int, bool, int, str, str]:
        stands, content = standing.get(found.trust, Custody.HOLDER), sorted(found.row.items(), key=lambda item: item[0])
        return (stands, found.is_kept, -max(_counts(found.row)), found.trust.code, repr(content))

    return group[0] if len(group) == 1 else min(group, key=precedence)


def _unite_counts(attributes: dict[str, Element], group: Sequence[Candidate]) -> None:
    """One copy is written as several would be, so that an answer that came twice changes nothing."""
    for tag in RELATED_COUNTS:
        if len(group) == 1 and _is_plain_count(group[0].row.get(tag)):
            continue
        if any(tag in found.row for found in group):
            known = [count for found in group if (count := _count(found.row, tag)) is not None]
            attributes[tag] = {"vr": "IS", "Value": [max(known)]} if known else {"vr": "IS"}
    if len(group) == 1 and _is_plain_modality(group[0].row.get(MODALITIES_IN_STUDY)):
        return
    if any(MODALITIES_IN_STUDY in found.row for found in group):
        modalities = sorted({text for found in group for text in texts(found.row, MODALITIES_IN_STUDY)})
        attributes[MODALITIES_IN_STUDY] = {"vr": "CS", "Value": list(modalities)} if modalities else {"vr": "CS"}


def _is_plain_count(element: Element | None) -> bool:
    """Whether it is absent, or written already as `_unite_counts` would write it: nearly every row's is."""
    if element is None:
        return True
    values = element.get("Value")
    if type(values) is not list or len(values) != 1 or element.get("vr") != "IS":
        return False
    return type(values[0]) is int and 0 <= values[0] < COUNT_MAX


def _is_plain_modality(element: Element | None) -> bool:
    if element is None:
        return True
    values = element.get("Value")
    if type(values) is not list or len(values) != 1 or element.get("vr") != "CS":
        return False
    return type(values[0]) is str and values[0] != "" and values[0] == values[0].strip(" \0")


def _counts(row: Attributes) -> list[int]:
    return [count for tag in RELATED_COUNTS if (count := _count(row, tag)) is not None] or [0]


def _count(row: Attributes, tag: str) -> int | None:
    values = row.get(tag, {}).get("Value")
    value: JsonValue = values[0] if isinstance(values, list) and values else None
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < COUNT_MAX else None


def modalities_of(row: Attributes) -> list[str]:
    """The modality of a series or instance, those of a study; empty when the row does not say."""
    return texts(row, MODALITY) or texts(row, MODALITIES_IN_STUDY)


def texts(row: Attributes, tag: str) -> list[str]:
    """The text values of an attribute, unpadded, empty ones left out."""
    element = row.get(tag)
    values = element.get("Value") if element is not None else None
    if not isinstance(values, list):
        return []
    stripped = [value.strip(" \0") for value in values if isinstance(value, str)]
    return stripped if "" not in stripped else [text for text in stripped if text]


def _text(row: Attributes, tag: str) -> str:
    return next(iter(texts(row, tag)), "")


def _uid(row: Attributes, tag: str) -> str:
    """A UID of the row; empty for what is none, for it would become part of addresses."""
    return uid if _UID.fullmatch(uid := _text(row, tag)) else ""
