"""Values of the DICOM JSON model as the bytes of a data element (PS3.5 6.2 and 7.1).

What a value representation cannot hold is left empty rather than cut, and no value ends where another would begin: a
backslash or a control character inside a text is written as `?`. Raises `NotRepresentable` where a character set has
no code for a text, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct, pack
from struct import error as StructError
from types import MappingProxyType
from typing import assert_never

from gateway.instances.charsets import encode
from gateway.instances.encoding.structure import NESTING_MAX, SHORT_VRS, Syntax
from gateway.model.attributes import KIND_OF_VR, Kind, vr_of
from gateway.model.imaging import Attributes, Element, JsonValue

VALUE_BYTES_MAX = 0xFFFE
"""Longest value of a VR whose length has two bytes."""

_BINARY_NUMBERS = MappingProxyType(
    {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
)
_ONE_TEXT = frozenset({"LT", "ST", "UT"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_ENDS_A_VALUE = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")
_ENDS_A_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_ENDS_A_GROUP = re.compile(r"[\\=\x00-\x1f\x7f-\x9f]")
_DECIMAL_CHARS_MAX = 16
_PLAIN_MAX = 4_096
_ITEM = Struct("<HHI")
_ITEM_BIG = Struct(">HHI")


def element_bytes(tag: str, vr: str, element: Element | None, syntax: Syntax, declared: tuple[str, ...]) -> bytes:
    """A whole data element: header, and the value or none."""
    values = element.get("Value") if element is not None else None
    if not isinstance(values, list):
        return plain(tag, vr, syntax).empty
    return _with_header(int(tag, 16), vr, _value_bytes(vr, values, syntax, declared, 0), syntax)


class Plain:
    """Writes the one plain value that nearly every element of one tag has."""

    def __init__(self, tag: str, vr: str, syntax: Syntax) -> None:
        kind = KIND_OF_VR.get(vr, Kind.BINARY)
        self._can_write = (kind in (Kind.TEXT, Kind.UID, Kind.PERSON_NAME) and vr.encode() in SHORT_VRS) or vr == "IS"
        self._is_name = kind is Kind.PERSON_NAME
        self.empty = _with_header(int(tag, 16), vr, b"", syntax)
        """The data element without a value."""
        self._header = self.empty[: 6 if syntax.is_explicit else 4]
        self._length = Struct(syntax.order + ("H" if syntax.is_explicit else "I")).pack
        self._pad = "\0" if vr == "UI" else " "

    def element(self, element: Element) -> bytes | None:
        """The data element, or None for one that is not as plain as that."""
        values = element.get("Value")
        if not self._can_write or type(values) is not list or len(values) != 1:
            return None
        value = values[0]
        if self._is_name and type(value) is dict and len(value) == 1:
            value = value.get("Alphabetic")
            if type(value) is str and "=" in value:
                return None
        elif type(value) is int:
            value = str(value)
        if type(value) is not str or not value.isascii() or not value.isprintable() or "\\" in value:
            return None
        if len(value) > VALUE_BYTES_MAX:
            return None
        if len(value) % 2:
            value += self._pad
        return self._header + self._length(len(value)) + value.encode()


@lru_cache(maxsize=_PLAIN_MAX)
def plain(tag: str, vr: str, syntax: Syntax) -> Plain:
    """The writer of one tag; every question and every answer has the same few dozen."""
    return Plain(tag, vr, syntax)


def item_bytes(body: bytes, syntax: Syntax) -> bytes:
    """An item of a sequence, of defined length."""
    return (_ITEM if syntax.is_little else _ITEM_BIG).pack(0xFFFE, 0xE000, len(body)) + body


def sequence_bytes(tag: str, items: Sequence[bytes], syntax: Syntax) -> bytes:
    """A sequence of items that are written already."""
    return _with_header(int(tag, 16), "SQ", b"".join(items), syntax)


def _with_header(tag: int, vr: str, value: bytes, syntax: Syntax) -> bytes:
    order = syntax.order
    group, number = tag >> 16, tag & 0xFFFF
    if not syntax.is_explicit:
        return pack(order + "HHI", group, number, len(value)) + value
    if vr.encode() not in SHORT_VRS:
        return pack(order + "HH2s2xI", group, number, vr.encode(), len(value)) + value
    if len(value) > VALUE_BYTES_MAX:
        # PS3.5 6.2.2: a value too long for its VR's length is written as unknown.
        return pack(order + "HH2s2xI", group, number, b"UN", len(value)) + value
    return pack(order + "HH2sH", group, number, vr.encode(), len(value)) + value


def _value_bytes(vr: str, values: Sequence[JsonValue], syntax: Syntax, declared: tuple[str, ...], depth: int) -> bytes:
    match KIND_OF_VR.get(vr, Kind.BINARY):
        case Kind.TEXT | Kind.ADDRESS:
            found = encode(_texts(vr, values), declared)
        case Kind.PERSON_NAME:
            found = encode("\\".join(map(_person_name, values)), declared, is_name=True)
        case Kind.UID:
            found = "\\".join(value if isinstance(value, str) else "" for value in values).encode("ascii", "replace")
        case Kind.NUMBER if vr in ("IS", "DS"):
            found = "\\".join(map(_number_text, values)).encode("ascii", "replace")
        case Kind.NUMBER:
            return _packed(syntax.order + _BINARY_NUMBERS[vr], values)
        case Kind.TAG:
            return _tags(syntax.order, values)
        case Kind.SEQUENCE:
            if depth == NESTING_MAX:
                return b""
            bodies = [_item(value, syntax, declared, depth + 1) for value in values if isinstance(value, dict)]
            return b"".join(item_bytes(body, syntax) for body in bodies)
        case Kind.BINARY:
            return b""
        case never:
            assert_never(never)
    if len(found) % 2:
        found += b"\0" if vr == "UI" else b" "
    return found


def _item(item: dict[str, JsonValue], syntax: Syntax, declared: tuple[str, ...], depth: int) -> bytes:
    pieces = []
    for tag, element in sorted(item.items()):
        if not isinstance(element, dict):
            continue
        vr = writing_vr(tag, element)
        values = element.get("Value")
        found = _value_bytes(vr, values, syntax, declared, depth) if isinstance(values, list) else b""
        pieces.append(_with_header(int(tag, 16), vr, found, syntax))
    return b"".join(pieces)


def writing_vr(tag: str, element: Element) -> str:
    """The VR to write an element with: the dictionary's, and its own where the dictionary has none."""
    vr = vr_of(tag)
    own = element.get("vr")
    return own if vr == "UN" and isinstance(own, str) and own in KIND_OF_VR else vr


def sorted_bytes(row: Attributes, syntax: Syntax, declared: tuple[str, ...]) -> bytes:
    """Every element of a row, in the order of tags."""
    return b"".join(
        element_bytes(tag, writing_vr(tag, element), element, syntax, declared)
        for tag, element in sorted(row.items(), key=lambda item: item[0])
    )


def _texts(vr: str, values: Sequence[JsonValue]) -> str:
    texts = [value if isinstance(value, str) else "" for value in values]
    if vr in _ONE_TEXT:
        return _ENDS_A_TEXT.sub("?", texts[0] if texts else "")
    return "\\".join(_ENDS_A_VALUE.sub("?", text) for text in texts)


def _person_name(value: JsonValue) -> str:
    if not isinstance(value, dict):
        return ""
    groups = [group if isinstance(group := value.get(name), str) else "" for name in _NAME_GROUPS]
    return "=".join(_ENDS_A_GROUP.sub("?", group) for group in groups).rstrip("=")


def _number_text(value: JsonValue) -> str:
    if isinstance(value, str):
        return value.strip() if "\\" not in value else ""
    if isinstance(value, float):
        text = repr(value)
        return text if len(text) <= _DECIMAL_CHARS_MAX else f"{value:.9e}"
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _packed(form: str, values: Sequence[JsonValue]) -> bytes:
    convert = float if form[-1] in "fd" else int
    try:
        return b"".join(pack(form, convert(value)) for value in values if isinstance(value, int | float | str))
    except (StructError, ValueError, OverflowError):
        return b""


def _tags(order: str, values: Sequence[JsonValue]) -> bytes:
    return b"".join(
        pack(order + "HH", int(value[:4], 16), int(value[4:], 16)) for value in values if isinstance(value, str)
    )
