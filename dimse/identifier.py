"""A C-FIND identifier becomes a `Query`, and matches become response identifiers (PS3.4 C.4.1.1, C.6).

Tolerant of how real PACSs ask where that changes nothing: any key at any level is echoed, known or not. Strict about
what would change the question: the level, the unique keys above it, and values (`gateway.model.keys`, as for QIDO-RS).
Every requested key stands in every row, empty where nothing is known, and the row says so (FF01). What only this
gateway may say it says itself: the character set, the level, and its own AE title to retrieve from, so that nobody goes
round the policy. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dimse.elements import RowEncoder, Slot
from dimse.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND
from gateway.instances.charsets import UTF_8, NotRepresentable, decode, known
from gateway.instances.encoding.structure import DatasetError, Raw, Walk, inflated, syntax_of
from gateway.instances.encoding.values import declared_terms
from gateway.model.attributes import (
    INSTANCE_AVAILABILITY,
    MATCHING,
    RETRIEVE_AE_TITLE,
    RETRIEVE_URL,
    SPECIFIC_CHARACTER_SET,
    TIMEZONE_OFFSET,
    VRS_OF_TAG,
    vr_of,
)
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.imaging import (
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_ID,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Element,
    Key,
    Level,
    Match,
    Query,
)
from gateway.model.keys import alternatives, has_control_character
from gateway.model.settings import Limits

QUERY_RETRIEVE_LEVEL = "00080052"

EXTENDED = MappingProxyType(
    dict.fromkeys((PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_STUDY_ONLY_FIND), bytes((1, 1, 0, 0, 0, 0, 0)))
)
"""What is answered to extended negotiation (PS3.4 C.5.1.1): relational queries and combined date-time matching, but no
fuzzy names across trusts, no time zone adjustment, no conversion of multi-frame images, no matching of empty values,
and no matching of multiple values: that means "all of them", where every viewer that sends a list means "any"."""

_LEVELS = MappingProxyType(
    {
        PATIENT_ROOT_FIND: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
        STUDY_ROOT_FIND: (Level.STUDY, Level.SERIES, Level.IMAGE),
        PATIENT_STUDY_ONLY_FIND: (Level.PATIENT, Level.STUDY),
    }
)
_UNIQUE = MappingProxyType(
    {Level.PATIENT: PATIENT_ID, Level.STUDY: STUDY_UID, Level.SERIES: SERIES_UID, Level.IMAGE: SOP_UID}
)
_OURS = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE})
"""Attributes that only the gateway sets, the same in every row."""
_NOT_ASKED = _OURS | {INSTANCE_AVAILABILITY, RETRIEVE_URL}
_NOT_KEYS = _NOT_ASKED | {TIMEZONE_OFFSET}
_AVAILABILITIES = frozenset({"ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"})
_INFLATED_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What an identifier asks: the query, what to echo in every row, and how to write text."""

    query: Query
    echoed: tuple[Slot, ...]
    """Every requested key in the order of tags, with the unique keys of the level and those above."""
    charset: tuple[str, ...]
    """The requester's character sets; ISO_IR 192 takes their place where they lack a character."""
    unsupported: tuple[str, ...] = ()
    """Tags of keys with values that cannot be matched at this level, so that every row says FF01."""
    modality_stands_for_study: bool = False
    """Whether Modality at study level means Modalities in Study."""


def parse_identifier(
    body: bytes | bytearray | memoryview,
    transfer_syntax: str,
    sop_class_uid: str,
    negotiated: bytes,
    *,
    limits: Limits,
    is_lenient: bool,
    fallback_charset: str,
) -> Asked:
    """Read a request's identifier; raises `InvalidRequest` or `RequestTooLarge`, with the offending tags if it can.

    `negotiated` are the bytes of extended negotiation as agreed. A lenient requester may ask relationally without.
    """
    elements_max = limits.query_keys_max + limits.include_fields_max
    elements = read_elements(body, transfer_syntax, elements_max)
    by_tag = {element.name: element for element in elements}
    if len(by_tag) < len(elements):
        raise InvalidRequest("an attribute is given twice in the identifier")
    level = _level(by_tag.get(QUERY_RETRIEVE_LEVEL), sop_class_uid)
    charset = by_tag.get(SPECIFIC_CHARACTER_SET)
    declared = declared_terms(charset.value) if charset is not None else ()
    # Many ask for Modality at study level and mean Modalities in Study, which wins where both are given.
    has_modalities = MODALITIES_IN_STUDY in by_tag and bool(by_tag[MODALITIES_IN_STUDY].value)
    stands_for_study = is_lenient and level is Level.STUDY and MODALITY in by_tag and not has_modalities
    reading = _Keys(level, limits, declared, fallback_charset, modality_stands_for_study=stands_for_study)
    for element in elements:
        reading.take(element)
    if not is_lenient and negotiated[:1] != b"\1":
        _check_hierarchy(level, sop_class_uid, reading.keys)
    uniques = [_UNIQUE[above] for above in _LEVELS[sop_class_uid] if _is_at_or_above(above, level)]
    echoed = {slot.tag: slot for slot in reading.echoed} | {
        tag: Slot(tag, vr_of(tag)) for tag in uniques if tag not in by_tag
    }
    terms = known(declared)
    return Asked(
        query=Query(
            level=level,
            keys=tuple(reading.keys),
            include=frozenset(reading.include),
            combined_datetime=negotiated[1:2] == b"\1",
        ),
        echoed=tuple(slot for _, slot in sorted(echoed.items())),
        charset=terms if terms not in ((), ("ISO_IR 6",)) else known((fallback_charset,)) or (UTF_8,),
        unsupported=tuple(reading.unsupported),
        modality_stands_for_study=stands_for_study,
    )


class Answerer:
    """Writes the rows of one answer, whatever rows come: those of archives and those that stand for missing trusts."""

    def __init__(self, asked: Asked, transfer_syntax: str, retrieve_ae_title: str) -> None:
        self._asked = asked
        self._transfer_syntax = transfer_syntax
        self._title: Element = {"vr": "AE", "Value": [retrieve_ae_title]}
        self._slots = (
            *asked.echoed,
            Slot(SPECIFIC_CHARACTER_SET, "CS"),
            Slot(QUERY_RETRIEVE_LEVEL, "CS"),
            Slot(RETRIEVE_AE_TITLE, "AE"),
        )
        self._level: Element = {"vr": "CS", "Value": [asked.query.level.value]}
        self._needed = [slot.tag for slot in asked.echoed if slot.tag != INSTANCE_AVAILABILITY]
        # A private attribute of a row has a creator of its own, so that it would be another one than the key.
        self._private = [slot.tag for slot in asked.echoed if int(slot.tag[:4], 16) % 2]
        self._is_unsupported = bool(asked.unsupported or self._private)
        self._asked_writer = self._writer(asked.charset)
        self._unicode_writer: tuple[RowEncoder, Element] | None = None

    def row(self, match: Match) -> tuple[bytes, bool]:
        """The identifier of one match, and whether some requested key could not be supported (FF01)."""
        row = dict(match.attributes)
        if self._asked.modality_stands_for_study and MODALITIES_IN_STUDY in row:
            row[MODALITY] = row[MODALITIES_IN_STUDY]
        if not _is_availability(row.get(INSTANCE_AVAILABILITY)):
            row.pop(INSTANCE_AVAILABILITY, None)
        for tag in self._private:
            row.pop(tag, None)
        is_lacking = self._is_unsupported or not all(map(row.__contains__, self._needed))
        row[QUERY_RETRIEVE_LEVEL] = self._level
        row[RETRIEVE_AE_TITLE] = self._title
        encoder, charset = self._asked_writer
        row[SPECIFIC_CHARACTER_SET] = charset
        try:
            return encoder.row(row), is_lacking
        except NotRepresentable:
            # Seldom needed: the asker's own character set has no letter for a name.
            self._unicode_writer = self._unicode_writer or self._writer((UTF_8,))
            encoder, charset = self._unicode_writer
            row[SPECIFIC_CHARACTER_SET] = charset
            return encoder.row(row), is_lacking

    def _writer(self, charset: tuple[str, ...]) -> tuple[RowEncoder, Element]:
        return RowEncoder(self._slots, self._transfer_syntax, charset), {"vr": "CS", "Value": list(charset)}


class _Keys:
    """One identifier while its keys are read."""

    def __init__(
        self,
        level: Level,
        limits: Limits,
        declared: tuple[str, ...],
        fallback_charset: str,
        *,
        modality_stands_for_study: bool,
    ) -> None:
        self._level = level
        self._limits = limits
        self._declared = declared
        self._fallback = fallback_charset
        self._modality_stands_for_study = modality_stands_for_study
        self.keys: list[Key] = []
        self.include: set[str] = set()
        self.echoed: list[Slot] = []
        self.unsupported: dict[str, None] = {}
        if modality_stands_for_study:
            self.include.add(MODALITIES_IN_STUDY)

    def take(self, element: Raw) -> None:
        tag = element.name
        # Group lengths, padding and what belongs to messages and files is no part of an identifier (PS3.4 C.4.1.1.3).
        if tag.endswith("0000") or not "0008" <= tag < "FFFC" or tag in _OURS:
            return
        self.echoed.append(self._slot((), element))
        if tag in VRS_OF_TAG and tag not in _NOT_ASKED:
            self.include.add(tag)
        if len(self.keys) > self._limits.query_keys_max:
            raise RequestTooLarge(f"more than {self._limits.query_keys_max} matching keys")

    def _slot(self, parents: tuple[str, ...], element: Raw) -> Slot:
        """Where the element stands in every row; its key joins the others."""
        tag = element.name
        path = (*parents, tag)
        if element.items is not None and vr_of(tag) not in ("SQ", "UN"):
            raise InvalidRequest("an attribute that is no sequence has items", offending=(*parents, tag)[:1])
        if element.items is not None:
            return Slot(tag, "SQ", self._inside(path, element.items))
        # An explicit VR is believed only where the dictionary knows none.
        vr = vr_of(tag) if tag in VRS_OF_TAG else element.vr
        if vr == "SQ":
            return Slot(tag, vr)
        if path[0] not in _NOT_KEYS:
            self._take_key(path, vr, element.value)
        return Slot(tag, vr)

    def _inside(self, path: tuple[str, ...], items: Sequence[Sequence[Raw]]) -> tuple[Slot, ...]:
        """The keys of a sequence's one item (PS3.4 C.2.2.2.6); none if the whole sequence is wanted."""
        if len(items) > 1:
            raise InvalidRequest("a sequence in an identifier has one item", offending=path[:1])
        elements = items[0] if items else ()
        if len({element.tag for element in elements}) < len(elements):
            raise InvalidRequest("an attribute is given twice in the identifier", offending=path[:1])
        return tuple(self._slot(path, element) for element in elements if not element.name.endswith("0000"))

    def _take_key(self, path: tuple[str, ...], vr: str, value: bytes) -> None:
        if not value.strip(b" \0"):
            return
        can_match = path
        if path == (MODALITY,) and self._modality_stands_for_study:
            can_match = (MODALITIES_IN_STUDY,)
        if can_match not in MATCHING[self._level]:
            self.unsupported[path[0]] = None
            return
        text = decode(value, vr, self._declared, self._fallback).rstrip("\0")
        try:
            if has_control_character(text):
                raise InvalidRequest("a key contains a control character")
            values = alternatives(vr, text, self._limits)
        except InvalidRequest as error:
            error.offending = path[:1]
            raise
        if values is not None:
            self.keys.append(Key(can_match, vr, values))


def read_elements(body: bytes | bytearray | memoryview, transfer_syntax: str, elements_max: int) -> list[Raw]:
    """The elements of an identifier as they stand there; raises `InvalidRequest` or `RequestTooLarge`."""
    try:
        syntax = syntax_of(transfer_syntax)
        encoded = inflated(bytes(body), _INFLATED_BYTES_MAX) if syntax.is_deflated else bytes(body)
        # Group lengths and the ends of sequences stand beside the keys.
        elements = list(Walk(syntax, encoded, elements_max=4 * elements_max).elements())
    except DatasetError as error:
        raise InvalidRequest(f"the identifier is no data set: {error}") from None
    if len(elements) > elements_max:
        raise RequestTooLarge(f"more than {elements_max} attributes in the identifier")
    return elements


def _level(element: Raw | None, sop_class_uid: str) -> Level:
    text = element.value.decode("latin_1").strip(" \0") if element is not None else ""
    levels = _LEVELS[sop_class_uid]
    if text not in {level.value for level in levels}:
        names = ", ".join(levels)
        raise InvalidRequest(f"the query level must be one of {names}", offending=(QUERY_RETRIEVE_LEVEL,))
    return Level(text)


def _is_at_or_above(level: Level, other: Level) -> bool:
    order = list(Level)
    return order.index(level) <= order.index(other)


def _check_hierarchy(level: Level, sop_class_uid: str, keys: Iterable[Key]) -> None:
    """Whether each level above is named by one unique key (PS3.4 C.4.1.3.1)."""
    single = {key.path[0] for key in keys if len(key.path) == 1 and len(key.values) == 1}
    above = [_UNIQUE[each] for each in _LEVELS[sop_class_uid] if each is not level and _is_at_or_above(each, level)]
    missing = tuple(tag for tag in above if tag not in single)
    if missing:
        raise InvalidRequest("each level above the query's is named by one unique key", offending=missing)


def _is_availability(element: Element | None) -> bool:
    values = element.get("Value") if element is not None else None
    return isinstance(values, list) and len(values) == 1 and values[0] in _AVAILABILITIES
