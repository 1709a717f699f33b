"""Another archive's DICOM JSON, read strictly: bytes become rows, or the whole answer is not believed (PS3.18 Annex F).

The checks that protect the parser (size of what it would build, nesting, long numbers, doubled members) run on the
bytes before it, each as a few passes at C speed: a Python loop over the bytes would cost more than all the rest. Then
one walk over the parsed rows checks tags, value representations and the shape of every value, and takes out what must
not pass the gateway: binary content, addresses at the source, group lengths, private attributes without a creator.
Raises nothing but `PeerProtocolError`, whose text never repeats what was sent.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NoReturn, cast

import orjson
from pydicom.charset import python_encoding

from gateway.model.attributes import KIND_OF_VR, RETRIEVE_AE_TITLE, VRS_OF_TAG, Kind
from gateway.model.errors import PeerProtocolError
from gateway.model.imaging import Attributes, JsonValue
from policy.parties import TrustId

NUMBER_DIGITS_MAX = 400
"""Digits in a row anywhere in an answer."""

PARSED_BYTES_MAX = 48 * 1024 * 1024
"""What an answer may grow to in memory: small JSON can parse into large objects (goal G8)."""

_BYTES_PER_OBJECT, _BYTES_PER_ARRAY, _BYTES_PER_VALUE = 230, 100, 80
"""Measured: the objects of CPython 3.11 and the parser's own tree while it works."""

_ROWS_AT_ONCE, _BYTES_AT_ONCE = 100, 128 * 1024
"""Rows checked, and bytes of a whole answer read, without a pause: one and three milliseconds."""

_STRUCTURE = bytes(range(256)).translate(bytes.maketrans(b"{}", b"[]"))
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{}":')
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * (NUMBER_DIGITS_MAX + 1)
_STRING_LEFT = re.compile(rb'"[^"]*"')
_ESCAPED_CONTROL = re.compile(rb"\\(?:b|u00(?:0[0-8bBeEfF]|1[0-9a-fA-F]|7[fF]|[89][0-9a-fA-F]))")
_PADDING = re.compile(rb'(?<!\\)\\u0000(?=")')
_TAG = re.compile(r"[0-9A-F]{8}")
_UID = re.compile(r"[0-9.]{1,64}")
_NUMBER = re.compile(r" *[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})? *")
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity", "inf", "-inf"})
_NAME_GROUPS = frozenset({"Alphabetic", "Ideographic", "Phonetic"})
_SINGLE_BYTE = ("6", "100", "101", "109", "110", "126", "127", "138", "144", "148", "166")
_CHARSETS = {
    **{f"iso_ir {number}": python_encoding[f"ISO_IR {number}"] for number in _SINGLE_BYTE},
    "iso-8859-1": "latin-1",
    "iso-8859-15": "iso8859-15",
    "windows-1252": "cp1252",
}
"""Single-byte character sets of PS3.3 C.12.1.1.2, and those that HTTP headers name."""
_BYTE_ORDER_MARK = codecs.BOM_UTF8


_JUDGED_AS: dict[Kind, tuple[type, Callable[..., object] | None]] = {
    Kind.TEXT: (str, None),
    Kind.UID: (str, _UID.fullmatch),
    Kind.NUMBER: (int, None),
    Kind.PERSON_NAME: (dict, lambda _value: False),
}
_Dataset = dict[str, JsonValue]

_PLAIN: dict[str, tuple[str, type, Callable[..., object] | None]] = {
    tag: (vrs[0], *_JUDGED_AS[KIND_OF_VR[vrs[0]]])
    for tag, vrs in VRS_OF_TAG.items()
    if KIND_OF_VR.get(vrs[0]) in _JUDGED_AS and tag != RETRIEVE_AE_TITLE and not tag.startswith("0002")
}
"""For attributes whose one value can be judged alone: the VR, the JSON type, and what the value must satisfy."""

_ADDRESSES = frozenset(tag for tag, vrs in VRS_OF_TAG.items() if vrs == ("UR",) and not tag.startswith("0002"))


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of one peer's answer is believed, and what of its habits is forgiven."""

    trust: TrustId
    depth_max: int
    fallback_charset: str = ""
    """Charset of a peer that sends text neither as UTF-8 nor declared; empty: such an answer is refused."""
    forgives_plain_names: bool = False
    """Person names as plain strings, as some older archives write them."""
    forgives_nul_padding: bool = False
    """Values that end in the NUL that pads UIDs in files."""


def is_known_charset(name: str) -> bool:
    """Whether `name` can be a peer's fallback charset: a single-byte one of DICOM's terms, or an HTTP name."""
    return name.lower() in _CHARSETS


def read_rows(body: bytes, reading: Reading, declared_charset: str = "") -> list[Attributes]:
    """The rows of an answer, fit to match and to send on; raises `PeerProtocolError` and nothing else."""
    steps = _steps(body, reading, declared_charset)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("list[Attributes]", end.value)


async def read_rows_in_turns(body: bytes, reading: Reading, declared_charset: str = "") -> list[Attributes]:
    """The same, leaving the loop to others every few milliseconds: a short answer is read in one go."""
    if len(body) <= _BYTES_AT_ONCE:
        return read_rows(body, reading, declared_charset)
    steps = _steps(body, reading, declared_charset)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("list[Attributes]", end.value)
        await asyncio.sleep(0)


class _Unbelievable(ValueError):
    """Why an answer is refused, in safe words."""


def _refuse(reason: str) -> NoReturn:
    raise _Unbelievable(reason)


def _utf8(body: bytes, reading: Reading, declared_charset: str) -> bytes:
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if reading.forgives_nul_padding:
        body = _PADDING.sub(b"", body)
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        charset = _CHARSETS.get(declared_charset.lower()) or _CHARSETS.get(reading.fallback_charset.lower())
        if charset is None:
            _refuse("text is not UTF-8 and no other charset is declared")
        return body.decode(charset, errors="replace").encode()
    return body


def _steps(body: bytes, reading: Reading, declared_charset: str) -> Generator[None, None, list[Attributes]]:
    """Read an answer with a pause after each piece of work that takes milliseconds."""
    try:
        body = _utf8(body, reading, declared_charset)
        members = _members(body, reading)
        yield
        rows = _parsed(body)
        yield
        walk = _Walk(reading)
        seen = 0
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            for row in rows[start : start + _ROWS_AT_ONCE]:
                if type(row) is not dict:
                    _refuse("a row is not an object")
                seen += walk.dataset(row)
            yield
        # The parser keeps the last of two members with one name; then fewer are left than were written.
        if seen != members:
            _refuse("an attribute is given twice")
    except _Unbelievable as error:
        raise PeerProtocolError(reading.trust, f"the answer cannot be believed: {error}") from None
    return rows  # type: ignore[return-value]  # checked row by row above


def _parsed(body: bytes) -> list[JsonValue]:
    try:
        rows: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        _refuse("it is not JSON")
    if type(rows) is not list:
        _refuse("it is not an array")
    return rows


class _Walk:
    """The check of parsed rows, by one peer's profile."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def dataset(self, dataset: _Dataset) -> int:
        """Check one row or sequence item, in place; returns how many members it was written with."""
        members = len(dataset)
        unwanted: list[str] = []
        for tag, element in dataset.items():
            # One plain value under the dictionary's own VR is nearly all there is, and is judged without a call. An
            # element with further members would leave the count of members short, and is refused by that.
            expected = _PLAIN.get(tag)
            if expected is not None and type(element) is dict and element.get("vr") == expected[0]:
                values = element.get("Value")
                if type(values) is list and len(values) == 1:
                    value = values[0]
                    if type(value) is expected[1] and value:
                        satisfies = expected[2]
                        if satisfies is None or satisfies(value):
                            members += 2
                            continue
                        if type(value) is dict and len(value) == 1:
                            text = value.get("Alphabetic")
                            if type(text) is str and text:
                                members += 3
                                continue
            elif tag in _ADDRESSES and type(element) is dict and len(element) == 2 and element.get("vr") == "UR":
                # An address at the source: taken out, so only its shape matters.
                values = element.get("Value")
                if type(values) is list and len(values) == 1 and type(values[0]) is str:
                    members += 2
                    unwanted.append(tag)
                    continue
            if type(element) is not dict:
                _refuse("an attribute is not an object")
            members += len(element)
            wanted, inside = self._attribute(tag, element, dataset)
            members += inside
            if not wanted:
                unwanted.append(tag)
        for tag in unwanted:
            del dataset[tag]
        return members

    def _attribute(self, tag: str, element: _Dataset, dataset: _Dataset) -> tuple[bool, int]:
        """Check one attribute; returns whether it may stay, and the members written inside its values."""
        vr = element.get("vr")
        kind = KIND_OF_VR.get(vr) if type(vr) is str else None
        if kind is None:
            _refuse("an attribute has no known vr")
        wanted = _is_wanted(tag, kind, dataset)
        if len(element) == 1:
            return wanted, 0
        values = element.get("Value")
        if len(element) == 2 and type(values) is list:
            return wanted, self._values(kind, element, values)
        self._check_bulk(element)
        return False, 0

    def _values(self, kind: Kind, element: _Dataset, values: list[JsonValue]) -> int:
        """Check the values that are not plain text; returns the members written inside them."""
        match kind:
            case Kind.UID:
                if not all(type(value) is str and _UID.fullmatch(value) for value in values):
                    self._set(element, [_uid(value) for value in values])
            case Kind.PERSON_NAME:
                return self._names(element, values)
            case Kind.NUMBER:
                self._set(element, [_number(value) for value in values])
            case Kind.SEQUENCE:
                return self._items(element, values)
            case Kind.TAG:
                self._set(element, [_tag(value) for value in values])
            case Kind.TEXT | Kind.ADDRESS:
                self._set(element, [_text(value) for value in values])
            case Kind.BINARY:
                _refuse("a binary attribute has text values")
        return 0

    def _items(self, element: _Dataset, values: list[JsonValue]) -> int:
        members = 0
        items: list[JsonValue] = []
        for value in values:
            item: JsonValue = {} if value is None else value
            if type(item) is not dict:
                _refuse("an item of a sequence is not an object")
            # Recursion is bounded: the nesting was measured before the parser ran.
            members += self.dataset(item)
            items.append(item)
        self._set(element, items)
        return members

    def _names(self, element: _Dataset, values: list[JsonValue]) -> int:
        members = 0
        names: list[JsonValue] = []
        for value in values:
            if type(value) is str and self._reading.forgives_plain_names:
                groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("="), strict=False)
                names.append({name: text for name, text in groups if text} or None)
                continue
            if value is None:
                names.append(None)
                continue
            if type(value) is not dict or not value.keys() <= _NAME_GROUPS:
                _refuse("a person name is not an object of name groups")
            if not all(type(text) is str or text is None for text in value.values()):
                _refuse("a group of a person name is not text")
            members += len(value)
            names.append({name: text for name, text in value.items() if text} or None)
        self._set(element, names)
        return members

    @staticmethod
    def _check_bulk(element: _Dataset) -> None:
        """Check an attribute whose content stands elsewhere or in base64; it is taken out of the row."""
        if not element.keys() <= {"vr", "InlineBinary", "BulkDataURI"} or len(element) != 2:
            _refuse("an attribute has members that DICOM JSON does not know")
        if not all(type(member) is str for member in element.values()):
            _refuse("a bulk data member is not text")

    @staticmethod
    def _set(element: _Dataset, values: list[JsonValue]) -> None:
        """Put checked values back; an attribute with nothing but empty values has no `Value` (PS3.18 F.2.5)."""
        if all(value is None for value in values):
            del element["Value"]
        else:
            element["Value"] = values


def _members(body: bytes, reading: Reading) -> int:
    """Measure an answer before it is parsed; returns how many object members are written in it."""
    # No byte can stand for more than an object: what is short enough need not be counted.
    if len(body) * _BYTES_PER_OBJECT > PARSED_BYTES_MAX:
        objects, arrays = body.count(b"{") * _BYTES_PER_OBJECT, body.count(b"[") * _BYTES_PER_ARRAY
        if objects + arrays + body.count(b",") * _BYTES_PER_VALUE > PARSED_BYTES_MAX:
            _refuse("it would grow beyond the limit when parsed")
    if _LONG_NUMBER in body.translate(_DIGITS_AS_ZERO):
        _refuse(f"a number has more than {NUMBER_DIGITS_MAX} digits")
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
        if _ESCAPED_CONTROL.search(body):
            _refuse("text contains a control character")
    # What is left of the text: brackets, colons and quotation marks. Marks that stand side by side enclose nothing
    # of interest, and taking them out in pairs never changes on which side of a string a bracket stands.
    skeleton = body.translate(_STRUCTURE, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in skeleton:
        skeleton = _STRING_LEFT.sub(b"", skeleton)
    members = skeleton.count(b":")
    _check_depth(skeleton.translate(None, b":"), reading.depth_max)
    return members


def _check_depth(brackets: bytes, depth_max: int) -> None:
    """Peel off the innermost brackets, level by level: at most `depth_max` times."""
    for _ in range(depth_max):
        if not brackets:
            return
        peeled = brackets.replace(b"[]", b"")
        if len(peeled) == len(brackets):
            _refuse("brackets do not match")
        brackets = peeled
    if brackets:
        _refuse(f"it is nested deeper than {depth_max}")


def _is_wanted(tag: str, kind: Kind, dataset: _Dataset) -> bool:
    """Whether an attribute may pass the gateway; refuses what cannot be an attribute at all."""
    allowed = VRS_OF_TAG.get(tag)
    if allowed is not None:
        # Another VR than the dictionary's is forgiven while the values have the same shape; `UN` hides the value.
        if kind is not KIND_OF_VR[allowed[0]] and kind is not Kind.BINARY:
            _refuse("an attribute has the value representation of another")
        return kind not in (Kind.BINARY, Kind.ADDRESS) and tag != RETRIEVE_AE_TITLE and not tag.startswith("0002")
    if not _TAG.fullmatch(tag):
        _refuse("a tag is not eight upper-case hexadecimal digits")
    group, number = tag[:4], tag[4:]
    if kind in (Kind.BINARY, Kind.ADDRESS) or number == "0000" or group in ("0000", "0002", "FFFE"):
        return False
    if int(group, 16) % 2 == 0:
        return True
    # PS3.5 7.8.1: a private attribute means nothing without the creator of its block.
    if number < "0010":
        return False
    return number < "1000" or f"{group}00{number[:2]}" in dataset


def _text(value: JsonValue) -> str | None:
    if value is None or type(value) is str:
        return value or None
    _refuse("a text value is not text")


def _uid(value: JsonValue) -> str | None:
    if value is None or value == "":
        return None
    if type(value) is str and _UID.fullmatch(value):
        return value
    _refuse("a UID is not made of digits and full stops")


def _tag(value: JsonValue) -> str | None:
    if value is None:
        return None
    if type(value) is str and _TAG.fullmatch(value.upper()):
        return value.upper()
    _refuse("an attribute tag value is not eight hexadecimal digits")


def _number(value: JsonValue) -> int | float | str | None:
    """A number as sent; text that is a number may stay text, because `1.50` says more than 1.5 (PS3.18 F.2.3)."""
    if value is None or type(value) is int or type(value) is float:
        return value
    if type(value) is str:
        text = value.strip()
        if not text:
            return None
        if _NUMBER.fullmatch(text) or text in _NOT_FINITE:
            return int(text) if text.isdigit() and len(text) < 16 and str(int(text)) == text else value
    _refuse("a number is neither a number nor the text of one")
