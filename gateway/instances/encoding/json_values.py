"""What the bytes of a value mean in the DICOM JSON model (PS3.5 6.2, PS3.18 F.2), of a stored instance and leniently.

Whatever an instance holds is shown as far as it can be: a number that is none is its text, what has a length that its
value representation cannot have is shown as bytes. Numbers are numbers, since viewers calculate with them. Padding and
spaces that mean nothing are left out. Raises nothing. Pure.
"""

from __future__ import annotations

import re
from array import array
from base64 import b64encode
from collections.abc import Callable
from math import isfinite, isnan
from struct import unpack
from types import MappingProxyType

from gateway.instances.charsets import Decoder, decoder
from gateway.model.imaging import JsonValue

FALLBACK_CHARSET = "ISO_IR 100"
"""How text is read that declares no character set, or one that nobody knows."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_EXACT_MAX = 2**53
_BINARY_NUMBERS = MappingProxyType(
    {
        "US": ("H", 2),
        "SS": ("h", 2),
        "UL": ("I", 4),
        "SL": ("i", 4),
        "UV": ("Q", 8),
        "SV": ("q", 8),
        "FL": ("f", 4),
        "FD": ("d", 8),
    }
)
_WORDS = MappingProxyType({"OW": "H", "OL": "I", "OF": "I", "OD": "Q", "OV": "Q"})

BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""VRs whose values are bytes, and have no meaning of their own here."""
NUMERIC = frozenset(_BINARY_NUMBERS)
"""VRs whose values are binary numbers, in tables of any length."""

_Reader = Callable[[bytes], list[JsonValue] | None]


class JsonValues:
    """Reads values under one declared character set and in one byte order."""

    def __init__(self, declared: tuple[str, ...], *, is_little: bool) -> None:
        text = decoder(declared, FALLBACK_CHARSET)
        name = decoder(declared, FALLBACK_CHARSET, is_name=True)
        order = "<" if is_little else ">"
        self._readers: dict[str, _Reader] = dict.fromkeys(("LO", "SH", "UC"), lambda value: _texts(value, text))
        self._readers |= dict.fromkeys(("LT", "ST", "UT"), lambda value: _one_text(value, text))
        self._readers |= dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "TM", "UI"), lambda value: _texts(value, _latin))
        self._readers |= {vr: _numbers_reader(order, code, size) for vr, (code, size) in _BINARY_NUMBERS.items()}
        self._readers |= {
            "PN": lambda value: [_name(part) for part in name(value).split("\\")],
            "UR": lambda value: _one_text(value, _latin),
            "IS": _decimals,
            "DS": _decimals,
            "AT": lambda value: _tags(value, order),
        }

    def read(self, vr: str, value: bytes) -> list[JsonValue] | None:
        """The values of an element that is not binary; None where they can only be shown as bytes."""
        reader = self._readers.get(vr)
        return reader(value) if reader is not None else None


def inline(vr: str, value: bytes, *, is_little: bool) -> str:
    """Bytes as `InlineBinary` has them: in little endian."""
    return b64encode(value if is_little else swapped(vr, value)).decode("ascii")


def swapped(vr: str, value: bytes) -> bytes:
    """The words of a value in the other byte order; what is not a whole word at its end is left as it is."""
    code = _WORDS.get(vr) or (_BINARY_NUMBERS[vr][0] if vr in _BINARY_NUMBERS else "")
    if vr == "AT":
        code = "H"
    if not code:
        return value
    words = array({"h": "H", "i": "I", "q": "Q", "f": "I", "d": "Q"}.get(code, code))
    whole = len(value) - len(value) % words.itemsize
    words.frombytes(value[:whole])
    words.byteswap()
    return words.tobytes() + value[whole:]


def _latin(value: bytes) -> str:
    return value.decode("latin_1")


def _texts(value: bytes, text: Decoder) -> list[JsonValue]:
    return [part.strip(" \0") or None for part in text(value).split("\\")]


def _one_text(value: bytes, text: Decoder) -> list[JsonValue]:
    return [text(value).rstrip(" \0") or None]


def _name(text: str) -> JsonValue:
    groups = text.strip(" \0").split("=", 2)
    return {
        name: group.strip(" \0") for name, group in zip(_NAME_GROUPS, groups, strict=False) if group.strip()
    } or None


def _decimals(value: bytes) -> list[JsonValue]:
    return [_decimal(part.strip(" \0")) for part in value.decode("latin_1").split("\\")]


def _decimal(text: str) -> JsonValue:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and isfinite(number := float(text)):
        return number
    return text or None


def _numbers_reader(order: str, code: str, size: int) -> _Reader:
    def read(value: bytes) -> list[JsonValue] | None:
        count, rest = divmod(len(value), size)
        if rest:
            return None
        numbers = unpack(f"{order}{count}{code}", value)
        return [_json_number(number) for number in numbers] if size > 2 else list(numbers)

    return read


def _json_number(number: float) -> JsonValue:
    if isinstance(number, int):
        return number if -_EXACT_MAX <= number <= _EXACT_MAX else str(number)
    if isfinite(number):
        return number
    return "NaN" if isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _tags(value: bytes, order: str) -> list[JsonValue] | None:
    if len(value) % 4:
        return None
    words = unpack(f"{order}{len(value) // 2}H", value)
    return [f"{group:04X}{number:04X}" for group, number in zip(words[::2], words[1::2], strict=True)]
