"""What a C-FIND archive is asked (PS3.4 C.4.1, C.6): a query as one question, or as one a level on the way down.

An archive without relational queries answers a level only under the unique keys of the levels above it, and with that
level's attributes alone. So a question about series or instances is walked from the studies down, and each row takes
over what its parents said. Knows no association and no bytes. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from types import MappingProxyType

from gateway.model.asking import ALWAYS_ASKED
from gateway.model.attributes import (
    BODY_PART,
    INSTANCE_NUMBER,
    KIND_OF_VR,
    LEVEL_UID,
    MATCHING,
    PERFORMED_DATE,
    PERFORMED_TIME,
    REFERRING_PHYSICIAN,
    REQUEST_ATTRIBUTES,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    STUDY_ID,
    VRS_OF_TAG,
    Kind,
    vr_of,
)
from gateway.model.imaging import (
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_ID,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_UID,
    Attributes,
    Element,
    JsonValue,
    Key,
    Level,
    Query,
)

_WILDCARD = re.compile(r"[*?]")
_NEVER_ASKED = frozenset({"00080005", "00080052", "00080054", "00080056", "00201200", "00201202", "00201204"})
"""Not attributes of what is searched, or what the gateway says for itself; and counts that must never be shown."""

_NOT_OF_OBJECTS = frozenset({"0000", "0002", "0004"})
"""Groups of commands, file headers and directories."""

_OF_STUDY = frozenset(path[0] for path in MATCHING[Level.STUDY]) | {"00081048", "00081060", "00201206", "00201208"}
_OF_SERIES = frozenset(
    {
        SERIES_UID,
        MODALITY,
        SERIES_NUMBER,
        SERIES_DESCRIPTION,
        BODY_PART,
        PERFORMED_DATE,
        PERFORMED_TIME,
        REQUEST_ATTRIBUTES,
        "00201209",
    }
)
_OF_IMAGE = frozenset({SOP_UID, SOP_CLASS_UID, INSTANCE_NUMBER, "00280008", "00280010", "00280011", "00280100"})
_STUDY_GROUPS = frozenset({"0010", "0032"})

_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)

RETURNED = MappingProxyType(
    {
        Level.STUDY: ALWAYS_ASKED[Level.STUDY] | {REFERRING_PHYSICIAN, STUDY_ID, "00201206", "00201208"},
        Level.SERIES: _OF_SERIES,
        Level.IMAGE: _OF_IMAGE,
    }
)
"""What is asked of every entity of a level, for its answer is no wider than the question (PS3.4 C.4.1.1.3)."""


class Quirk(StrEnum):
    """Habits of archives that a peer's profile names (`quirks`)."""

    NO_WILDCARDS = "no-wildcards"
    """Takes `*` literally: keys with wild cards are not sent; every row is matched here anyway."""
    WILDCARD_PATIENT_ID = "wildcard-patient-id"
    """Pads or prefixes Patient IDs: they are asked between `*`."""
    NO_UID_LISTS = "no-uid-lists"
    """Finds nothing for a list of UIDs: they are asked one by one."""
    NO_RELATIONAL_NEGOTIATION = "no-relational-negotiation"
    """Refuses associations with extended negotiation, or agrees and does not keep to it: levels are walked."""
    IMPLICIT_VR_ONLY = "implicit-vr-only"
    """Accepts Explicit VR and garbles it: only Implicit VR Little Endian is proposed."""
    ONE_QUERY_PER_ASSOCIATION = "one-query-per-association"
    """Fails at the second query of an association: none is kept for the next one."""
    MODALITIES_BY_SERIES = "modalities-by-series"
    """Fails when it is asked for Modalities in Study: it is not, and they are gathered from the series."""
    MODALITIES_UNKNOWN = "modalities-unknown"
    """Omits Modalities in Study, and its series are not asked for them: right only where every modality is shared."""
    IGNORES_CANCEL = "ignores-cancel"
    """Goes on after C-CANCEL, or falls over it: associations with a query under way are aborted instead."""


class Model(StrEnum):
    """Query/Retrieve information models (PS3.4 C.3)."""

    STUDY_ROOT = "study-root"
    PATIENT_ROOT = "patient-root"


@dataclass(frozen=True, slots=True)
class Question:
    """One C-FIND: where it is asked, what is matched, what is to be returned besides."""

    level: Level
    keys: tuple[Key, ...]
    wanted: frozenset[str]

    def texts(self) -> Iterator[str]:
        """Every text in it, to choose a character set for."""
        return (value for key in self.keys for value in key.values)


MODALITIES = Question(Level.SERIES, (), frozenset({SERIES_UID, MODALITY}))
"""Asked under a study, for what its archive leaves out of the study itself (A8)."""


def relational(query: Query, quirks: frozenset[Quirk]) -> Question:
    """The query as one question, for an archive that answers relational queries (PS3.4 C.4.1.2.2)."""
    steps = hierarchical(query, quirks)
    keys = tuple(key for step in steps for key in step.keys)
    return Question(query.level, keys, frozenset().union(*(step.wanted for step in steps)))


def hierarchical(query: Query, quirks: frozenset[Quirk]) -> tuple[Question, ...]:
    """The query as one question for each level from STUDY to its own, each with that level's keys alone."""
    levels = _LEVELS[: _LEVELS.index(query.level) + 1]
    wanted = {level: set(RETURNED[level]) for level in levels}
    for tag in (*query.include, *(key.path[0] for key in query.keys)):
        level = _level_of(tag) or query.level
        if level in wanted and _can_be_asked(tag):
            wanted[level].add(tag)
    if Quirk.MODALITIES_BY_SERIES in quirks:
        wanted[Level.STUDY].discard(MODALITIES_IN_STUDY)
    keys = [_as_asked(key, quirks) for key in query.keys if not _is_left_out(key, quirks)]
    return tuple(
        Question(
            level,
            tuple(key for key in keys if (_level_of(key.path[0]) or query.level) is level),
            frozenset(wanted[level]),
        )
        for level in levels
    )


def keys_until(query: Query, level: Level) -> tuple[Key, ...]:
    """The keys of the query that a row of this level can be held to already."""
    known = _LEVELS[: _LEVELS.index(level) + 1]
    return tuple(key for key in query.keys if (_level_of(key.path[0]) or query.level) in known)


def under(question: Question, parent: Attributes, model: Model) -> Question:
    """The question about what lies in one entity of the level above, named by its unique keys."""
    above = [LEVEL_UID[level] for level in _LEVELS[: _LEVELS.index(question.level)]]
    pins = [Key((tag,), "UI", (first_text(parent, tag),)) for tag in above]
    if model is Model.PATIENT_ROOT and (patient := first_text(parent, PATIENT_ID)):
        pins.insert(0, Key((PATIENT_ID,), "LO", (patient,)))
    return replace(question, keys=(*pins, *question.keys))


def one_by_one(question: Question) -> Iterator[Question]:
    """The question once for every combination of the UIDs that it lists."""
    choices = [
        [replace(key, values=(value,)) for value in key.values] if key.vr == "UI" else [key] for key in question.keys
    ]
    return (replace(question, keys=keys) for keys in product(*choices))


def fits(question: Question, model: Model) -> bool:
    """Whether an archive that keeps to the hierarchy may answer: Patient Root begins with a whole Patient ID."""
    if model is Model.STUDY_ROOT:
        return True
    return any(key.path == (PATIENT_ID,) and len(key.values) == 1 for key in question.keys)


def inheriting(parents: Sequence[Attributes], rows: Iterable[Attributes], level: Level) -> list[Attributes]:
    """Rows with what their parents said put in where they say nothing themselves.

    The parents are rows of one entity. Where an archive says two things of it, every row is given once under each: only
    the core can say whose it is. A row that names other parents was not asked for.
    """
    uids = [(LEVEL_UID[above], first_text(parents[0], LEVEL_UID[above])) for above in _LEVELS[: _LEVELS.index(level)]]
    return [
        {**parent, **{tag: element for tag, element in row.items() if "Value" in element or tag not in parent}}
        for row in rows
        if all(first_text(row, tag) in ("", uid) for tag, uid in uids)
        for parent in parents
    ]


def has_all_parents(row: Attributes, level: Level) -> bool:
    """Whether a row says whose it is and what it lies in."""
    above = (LEVEL_UID[each] for each in _LEVELS[: _LEVELS.index(level)])
    return all(first_text(row, tag) for tag in (PATIENT_ID, *above))


def with_modalities(row: Attributes, series: Iterable[Attributes]) -> Attributes:
    """A study's row with the modalities of its series; as it is if they name none."""
    modalities = sorted({text for each in series if (text := first_text(each, MODALITY))})
    return {**row, MODALITIES_IN_STUDY: {"vr": "CS", "Value": [*modalities]}} if modalities else row


def first_text(row: Attributes, tag: str) -> str:
    """The first text value of an attribute, unpadded; empty if there is none."""
    values = row.get(tag, {}).get("Value")
    return values[0].strip(" \0") if isinstance(values, list) and values and isinstance(values[0], str) else ""


def identifier(question: Question) -> dict[str, Element]:
    """The question as attributes: level and keys, and empty what is only to be returned (PS3.4 C.4.1.1.3)."""
    elements: dict[str, Element] = {tag: {"vr": vr_of(tag)} for tag in question.wanted}
    for key in question.keys:
        _put(elements, key.path, key)
    elements["00080052"] = {"vr": "CS", "Value": [question.level.value]}
    return elements


def _put(elements: dict[str, Element], path: tuple[str, ...], key: Key) -> None:
    tag, *rest = path
    if not rest:
        elements[tag] = {"vr": key.vr, "Value": [_value(key.vr, value) for value in key.values]}
        return
    known = elements.get(tag, {}).get("Value")
    item: dict[str, Element] = dict(known[0]) if isinstance(known, list) and known else {}  # type: ignore[arg-type]  # an item put in here
    _put(item, tuple(rest), key)
    elements[tag] = {"vr": "SQ", "Value": [item]}  # type: ignore[list-item]  # elements are read-only JSON objects


def _value(vr: str, text: str) -> JsonValue:
    if vr != "PN":
        return text
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group for name, group in groups if group}


def _level_of(tag: str) -> Level | None:
    """The level that an attribute belongs to; None: any level may have it."""
    if tag in _OF_STUDY or tag[:4] in _STUDY_GROUPS:
        return Level.STUDY
    if tag in _OF_SERIES:
        return Level.SERIES
    return Level.IMAGE if tag in _OF_IMAGE or tag[:4] == "0028" else None


def _can_be_asked(tag: str) -> bool:
    if tag in _NEVER_ASKED or tag not in VRS_OF_TAG or tag[:4] in _NOT_OF_OBJECTS:
        return False
    return KIND_OF_VR.get(vr_of(tag)) not in (None, Kind.BINARY, Kind.ADDRESS)


def _is_left_out(key: Key, quirks: frozenset[Quirk]) -> bool:
    """Whether the archive is not asked this, and its rows are only held to it here. Only UIDs may be lists."""
    if key.vr != "UI" and len(key.values) > 1:
        return True
    if key.path == (MODALITIES_IN_STUDY,) and Quirk.MODALITIES_BY_SERIES in quirks:
        return True
    return Quirk.NO_WILDCARDS in quirks and any(map(_WILDCARD.search, key.values))


def _as_asked(key: Key, quirks: frozenset[Quirk]) -> Key:
    if key.path == (PATIENT_ID,) and Quirk.WILDCARD_PATIENT_ID in quirks:
        return replace(key, values=tuple(f"*{value.strip('*')}*" for value in key.values))
    return key
