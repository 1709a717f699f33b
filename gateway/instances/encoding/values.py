"""What the values of data elements mean, as values of the DICOM JSON model and back (PS3.5 6.2, PS3.18 Annex F.2).

Reading is as strict as the reading of DICOM JSON: the dictionary's shape of every value, UIDs that are UIDs, nothing
binary, no address at the source, no private attribute without its creator. Writing leaves out what a value
representation cannot hold, and never lets a value end where another would begin. Nesting is bounded by the walk that
found the elements, or by the reader of the row that is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from struct import error as StructError
from struct import iter_unpack
from types import MappingProxyType
from typing import Protocol

from gateway.instances.charsets import decoder
from gateway.instances.encoding.structure import Raw, Syntax, refuse
from gateway.model.attributes import KIND_OF_VR, RETRIEVE_AE_TITLE, SPECIFIC_CHARACTER_SET, VRS_OF_TAG, Kind
from gateway.model.imaging import Element, JsonValue

CHARACTER_SET = int(SPECIFIC_CHARACTER_SET, 16)
_REMEMBERED_MAX = 8_192
"""Elements of one answer that are remembered by their bytes."""
_UID = re.compile(r"[0-9.]{1,64}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")
_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")
# What DICOM JSON tolerates in any text is tolerated here, though PS3.5 6.2 knows line ends only in LT, ST and UT.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_ONE_TEXT = frozenset({"LT", "ST", "UT"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_BINARY_NUMBERS = MappingProxyType(
    {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
)
Known = tuple[str, Element | None]
"""A tag, and its element; None where it may not pass the gateway."""

_EMPTY: Mapping[str, Element] = MappingProxyType({vr: {"vr": vr} for vr in KIND_OF_VR})


class _FullMatch(Protocol):
    def __call__(self, string: bytes, pos: int = 0) -> re.Match[bytes] | None: ...


def _plain_value(vr: str, kind: Kind) -> _FullMatch | None:
    """What one plain value of a VR looks like: its group is the value, unpadded. Anything else is read the long way."""
    if vr == "UI":
        return re.compile(rb"([0-9.]{1,64})\0?").fullmatch
    if vr == "IS":
        return re.compile(rb"(0|-?[1-9][0-9]{0,14}) ?").fullmatch
    if kind is Kind.PERSON_NAME:
        return re.compile(rb"([!-<>-\[\]-~](?:[ -<>-\[\]-~]*[!-<>-\[\]-~])?) ?").fullmatch
    if kind is Kind.TEXT and vr not in _ONE_TEXT:
        return re.compile(rb"([!-\[\]-~](?:[ -\[\]-~]*[!-\[\]-~])?) ?").fullmatch
    return None


_PLAIN_OF_VR = {vr: match for vr, kind in KIND_OF_VR.items() if (match := _plain_value(vr, kind)) is not None}
_PLAIN = MappingProxyType(
    {
        bytes.fromhex(f"{tag[2:4]}{tag[0:2]}{tag[6:8]}{tag[4:6]}"): (tag, vrs[0], vrs[0].encode(), _PLAIN_OF_VR[vrs[0]])
        for tag, vrs in VRS_OF_TAG.items()
        if vrs[0] in _PLAIN_OF_VR
        and tag not in (RETRIEVE_AE_TITLE, SPECIFIC_CHARACTER_SET)
        and tag[:4] not in ("0000", "0002")
    }
)
"""Nearly all that archives send, by the four bytes of its tag in little endian."""


def declared_terms(value: bytes) -> tuple[str, ...]:
    """The terms of Specific Character Set as they stand in a data set; empty if it says nothing."""
    terms = tuple(term.strip(" \0") for term in value.decode("ascii", errors="replace").split("\\"))
    return terms if any(terms) else ()


class Values:
    """Reads values under one declared character set, and remembers them by their bytes."""

    def __init__(self, syntax: Syntax, declared: tuple[str, ...], fallback: str) -> None:
        self._syntax = syntax
        self._fallback = fallback
        self._text = decoder(declared, fallback)
        self._name = decoder(declared, fallback, is_name=True)
        self._is_explicit = syntax.is_explicit
        self.remembered: dict[bytes, Known] = {}

    def remember(self, piece: bytes, known: Known) -> None:
        """Keep what these bytes mean, while there is room."""
        if len(self.remembered) < _REMEMBERED_MAX:
            self.remembered[piece] = known

    def plain(self, piece: bytes) -> Known | None:
        """The meaning of an element of one plain value, in little endian; None: it is not as plain as that."""
        known = _PLAIN.get(piece[:4])
        if known is None:
            return None
        name, vr, code, match = known
        if self._is_explicit and piece[4:6] != code:
            return None
        matched = match(piece, 8)
        if matched is None:
            return None
        text = matched.group(1).decode()
        value: JsonValue = text
        if vr == "PN":
            value = {"Alphabetic": text}
        elif vr == "IS":
            value = int(text)
        found: Known = (name, {"vr": vr, "Value": [value]})
        if len(self.remembered) < _REMEMBERED_MAX:
            self.remembered[piece] = found
        return found

    def read(self, raw: Raw, dataset: Mapping[str, Element]) -> Known:
        """The tag and the element, or None where it may not pass the gateway."""
        name = raw.name
        kind = KIND_OF_VR[raw.vr]
        if raw.tag == CHARACTER_SET or not _is_wanted(name, kind, dataset):
            return name, None
        values = self._values(kind, raw) if raw.value or raw.items else []
        return name, {"vr": raw.vr, "Value": values} if any(value is not None for value in values) else _EMPTY[raw.vr]

    def _values(self, kind: Kind, raw: Raw) -> list[JsonValue]:
        match kind:
            case Kind.TEXT:
                return _texts(raw.vr, self._text(raw.value))
            case Kind.UID:
                return [_uid(uid) for uid in raw.value.decode("latin_1").split("\\")]
            case Kind.PERSON_NAME:
                return [_person_name(name) for name in self._name(raw.value).split("\\")]
            case Kind.NUMBER:
                return _numbers(raw, self._syntax.order)
            case Kind.TAG:
                return _tags(raw.value, self._syntax.order)
            case Kind.SEQUENCE:
                return [self._item(item) for item in raw.items or ()]
            case Kind.BINARY | Kind.ADDRESS:
                refuse("a binary attribute is no part of a row")

    def _item(self, item: Sequence[Raw]) -> dict[str, JsonValue]:
        """An item as a row of its own; it may declare a character set for itself. Nesting is bounded by the walk."""
        values = self
        found: dict[str, Element] = {}
        for raw in item:
            if raw.tag == CHARACTER_SET:
                values = Values(self._syntax, declared_terms(raw.value), self._fallback)
            name, element = values.read(raw, found)
            if element is not None:
                if name in found:
                    refuse("an attribute is given twice")
                found[name] = element
        return found  # type: ignore[return-value]  # JSON all through, which its read-only type does not say


def _is_wanted(tag: str, kind: Kind, dataset: Mapping[str, Element]) -> bool:
    """Whether an attribute may pass the gateway; refuses one of another shape than the dictionary's."""
    allowed = VRS_OF_TAG.get(tag)
    group, number = tag[:4], tag[4:]
    if number == "0000" or group in ("0000", "0002") or kind in (Kind.BINARY, Kind.ADDRESS):
        return False
    if allowed is not None:
        # Another VR than the dictionary's is forgiven while the values have the same shape.
        if kind is not KIND_OF_VR[allowed[0]]:
            if KIND_OF_VR[allowed[0]] in (Kind.BINARY, Kind.ADDRESS):
                return False
            refuse("an attribute has the value representation of another")
        return tag != RETRIEVE_AE_TITLE
    if int(group, 16) % 2 == 0:
        return True
    # PS3.5 7.8.1: a private attribute means nothing without the creator of its block.
    if number < "0010":
        return False
    return number < "1000" or f"{group}00{number[:2]}" in dataset


def _texts(vr: str, text: str) -> list[JsonValue]:
    if _CONTROL.search(text.rstrip("\0")):
        refuse("text contains a control character")
    if vr in _ONE_TEXT:
        return [text.rstrip(" \0") or None]
    return [value.strip(" \0") or None for value in text.split("\\")]


def _uid(text: str) -> str | None:
    uid = text.strip(" \0")
    if uid and not _UID.fullmatch(uid):
        refuse("a UID is not made of digits and full stops")
    return uid or None


def _person_name(text: str) -> JsonValue:
    if _CONTROL.search(text.rstrip("\0")):
        refuse("text contains a control character")
    groups = [group.strip(" \0") for group in text.split("=")]
    if len(groups) > len(_NAME_GROUPS):
        refuse("a person name has more than three groups")
    return {name: group for name, group in zip(_NAME_GROUPS, groups, strict=False) if group} or None


def _numbers(raw: Raw, order: str) -> list[JsonValue]:
    if raw.vr in ("IS", "DS"):
        return [_number(text.strip(" \0")) for text in raw.value.decode("latin_1").split("\\")]
    try:
        numbers = [number for (number,) in iter_unpack(order + _BINARY_NUMBERS[raw.vr], raw.value)]
    except StructError:
        refuse("a number has a length that its value representation does not have")
    return [number if isinstance(number, int) or isfinite(number) else _not_finite(number) for number in numbers]


def _number(text: str) -> int | str | None:
    """An integer as such, any other number as its text: `1.50` says more than 1.5 (PS3.18 F.2.3)."""
    if _PLAIN_INTEGER.fullmatch(text):
        return int(text)
    if text and not _NUMBER.fullmatch(text):
        refuse("a number is not the text of one")
    return text or None


def _not_finite(number: float) -> str:
    return "NaN" if isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _tags(value: bytes, order: str) -> list[JsonValue]:
    if len(value) % 4:
        refuse("an attribute tag value does not have four bytes")
    return [f"{group:04X}{number:04X}" for group, number in iter_unpack(order + "HH", value)]
