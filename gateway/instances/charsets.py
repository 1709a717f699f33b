"""Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1.2): bytes become text and text bytes, by what was declared.

Reading never fails and never turns letters into other letters where that can be known: what the declared set cannot
mean is the replacement character. UTF-8 that is undeclared, or declared as something in which it makes no sense, is
recognised. Writing says what it cannot represent, so that the writer can take ISO_IR 192 instead. Knows nothing of
attributes but that a person's name ends its code extensions at `^` and `=` too. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from types import MappingProxyType

UTF_8 = "ISO_IR 192"

Decoder = Callable[[bytes], str]

_ASCII = "ascii"
_JIS_ROMAN = "jis roman"
_KATAKANA = "katakana"
_KANJI = "kanji"
_SUPPLEMENTARY_KANJI = "supplementary kanji"
_HANGUL = "euc_kr"
_HANZI = "gb2312"

_SINGLE_BYTE = MappingProxyType(
    {
        "13": _KATAKANA,
        "100": "latin_1",
        "101": "iso8859_2",
        "109": "iso8859_3",
        "110": "iso8859_4",
        "126": "iso8859_7",
        "127": "iso8859_6",
        "138": "iso8859_8",
        "144": "iso8859_5",
        "148": "iso8859_9",
        "166": "tis_620",
    }
)
_RIGHT_HALVES = MappingProxyType({**_SINGLE_BYTE, "149": _HANGUL, "58": _HANZI})
"""What the bytes from A0 on mean (G1), by registration number."""
_LEFT_HALVES = MappingProxyType({"87": _KANJI, "159": _SUPPLEMENTARY_KANJI})
"""What the bytes below 80 mean (G0) once designated, by registration number."""
_WHOLE = MappingProxyType({UTF_8: "utf_8", "GB18030": "gb18030", "GBK": "gbk"})
"""Character sets without code extensions, in which any byte may be part of a longer character."""

_DESIGNATES = MappingProxyType(
    {
        b"\x1b(B": (0, _ASCII),
        b"\x1b(J": (0, _JIS_ROMAN),
        b"\x1b$B": (0, _KANJI),
        b"\x1b$(D": (0, _SUPPLEMENTARY_KANJI),
        b"\x1b)I": (1, _KATAKANA),
        b"\x1b-A": (1, "latin_1"),
        b"\x1b-B": (1, "iso8859_2"),
        b"\x1b-C": (1, "iso8859_3"),
        b"\x1b-D": (1, "iso8859_4"),
        b"\x1b-F": (1, "iso8859_7"),
        b"\x1b-G": (1, "iso8859_6"),
        b"\x1b-H": (1, "iso8859_8"),
        b"\x1b-L": (1, "iso8859_5"),
        b"\x1b-M": (1, "iso8859_9"),
        b"\x1b-T": (1, "tis_620"),
        b"\x1b$)C": (1, _HANGUL),
        b"\x1b$)A": (1, _HANZI),
    }
)
"""Escape sequences of PS3.3 Tables C.12-3 and C.12-4: the half that they designate, and its set."""
_ESCAPE_OF = MappingProxyType({name: escape for escape, (_, name) in _DESIGNATES.items()})

_LONG_NAME = re.compile(r"ISO[ _-]?(2022[ _-]?)?IR[ _-]?([0-9]{1,3})")
_OTHER_NAMES = MappingProxyType({"UTF-8": UTF_8, "UTF8": UTF_8, "ISO 2022 GBK": "GBK", "ISO 2022 58": "ISO 2022 IR 58"})
_C1 = re.compile(r"[\x80-\x9f]")
_HIGH_C1 = re.compile(rb"[\x80-\x9f]")
_PIECES = re.compile(rb"\x1b(?:\$[()].|[$()-].)?|[^\x1b]+", re.DOTALL)
_HALVES = re.compile(rb"[\x80-\xff]+|[\x00-\x7f]+")
_ENDS_EXTENSION = MappingProxyType({False: re.compile(r"([\\\t\n\f\r])"), True: re.compile(r"([\\\t\n\f\r^=])")})
_RESETS = MappingProxyType({False: re.compile(rb"[\\\t\n\f\r]"), True: re.compile(rb"[\\\t\n\f\r^=]")})
_REPLACED = "\ufffd"


_ESCAPES_MAX = 1_024
"""Changes of character set in one value that is read; more are no text."""
_EXTENDED_CHARS_MAX = 1_024
"""Longest text that is written with code extensions, character by character; ISO_IR 192 takes any."""


class NotRepresentable(ValueError):
    """A character set has no code for some character of a text."""


def known(terms: Iterable[str]) -> tuple[str, ...]:
    """The declared terms as PS3.3 spells them, misspelt ones put right; empty if one of them means nothing to us."""
    spelt = tuple(map(_spelt, terms))
    return spelt if all(_is_known(term) for term in spelt) and any(spelt) else ()


@lru_cache(maxsize=256)
def decoder(declared: tuple[str, ...], fallback: str, *, is_name: bool = False) -> Decoder:
    """How to read text under the declared terms; `fallback` is the term for text under none that is known."""
    terms = known(declared)
    if not terms or terms == ("ISO_IR 6",):
        terms = known((fallback,))
    if not terms:
        return _ascii_decoded
    codec = _WHOLE.get(terms[0])
    if codec is not None:
        return partial(_decoded_whole, codec=codec)
    return partial(_decoded, first=_right_half(terms[0]), resets=_RESETS[is_name])


def decode(text: bytes, vr: str, declared: tuple[str, ...], fallback: str) -> str:
    """The text of a value of this VR. Never fails: what cannot be meant is the replacement character."""
    return decoder(declared, fallback, is_name=vr == "PN")(text)


def encode(text: str, declared: tuple[str, ...], *, is_name: bool = False) -> bytes:
    """The bytes of a text under the declared terms; raises `NotRepresentable`."""
    if text.isascii():
        return text.encode()
    codec = _WHOLE.get(declared[0], "") if declared else ""
    first = _right_half(declared[0]) if declared else None
    if not codec and len(declared) == 1 and first not in (None, _KATAKANA, _HANGUL, _HANZI):
        codec = first or ""
    if codec:
        try:
            return text.encode(codec)
        except UnicodeEncodeError:
            raise NotRepresentable("a character is not in the character set") from None
    if len(text) > _EXTENDED_CHARS_MAX:
        raise NotRepresentable("the text is too long for code extensions")
    writer = _Extended(declared, first)
    return b"".join(writer.piece(piece) for piece in _ENDS_EXTENSION[is_name].split(text) if piece)


def choose(requested: tuple[str, ...], texts: Iterable[str]) -> tuple[str, ...]:
    """The requester's character sets if they have every text, else ISO_IR 192."""
    terms = known(requested)
    if not terms:
        return (UTF_8,)
    try:
        for text in texts:
            encode(text, terms)
    except NotRepresentable:
        return (UTF_8,)
    return terms


def _spelt(term: str) -> str:
    plain = term.strip(" \0").upper()
    matched = _LONG_NAME.fullmatch(plain)
    if matched is None:
        return _OTHER_NAMES.get(plain, plain)
    number = matched.group(2).lstrip("0")
    return f"ISO 2022 IR {number}" if matched.group(1) else f"ISO_IR {number}"


def _is_known(term: str) -> bool:
    number = term.rpartition(" ")[2]
    is_extensible = number in _RIGHT_HALVES or number in _LEFT_HALVES or number == "6"
    return term in _WHOLE or term == "" or (term.startswith(("ISO_IR ", "ISO 2022 IR ")) and is_extensible)


def _right_half(term: str) -> str | None:
    return _RIGHT_HALVES.get(term.rpartition(" ")[2])


def _ascii_decoded(text: bytes) -> str:
    if text.isascii():
        return text.decode("ascii")
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("ascii", errors="replace")


def _decoded_whole(text: bytes, codec: str) -> str:
    return text.decode(codec, errors="replace")


def _decoded(text: bytes, first: str | None, resets: re.Pattern[bytes]) -> str:
    """Text of a single-byte set, or of several with code extensions; `first` is the right half of Value 1."""
    if b"\x1b" in text:
        return _decoded_extended(text, first, resets)
    if text.isascii():
        return text.decode("ascii")
    if _may_be_utf_8(text, first):
        try:
            return text.decode()
        except UnicodeDecodeError:
            pass
    return _right_decoded(text, first)


def _may_be_utf_8(text: bytes, first: str | None) -> bool:
    """Whether the bytes make no sense as declared, so that UTF-8 is the better reading where it fits.

    In Latin-1 and Latin-5 each UTF-8 character would be letter and sign in turn. Other sets have letters from A0 on,
    and only bytes that none of them uses tell.
    """
    return first in (None, "latin_1", "iso8859_9") or _HIGH_C1.search(text) is not None


def _right_decoded(text: bytes, name: str | None) -> str:
    """Bytes of ASCII and one right half."""
    if name is None:
        return text.decode("ascii", errors="replace")
    if name == _KATAKANA:
        return "".join(
            chr(byte) if byte < 0x80 else chr(byte + 0xFEC0) if 0xA1 <= byte <= 0xDF else _REPLACED for byte in text
        )
    if name == "latin_1" and _HIGH_C1.search(text):
        # Windows calls its own set Latin-1, with quotation marks and dashes where ISO has control characters.
        return text.decode("cp1252", errors="replace")
    return _C1.sub(_REPLACED, text.decode(name, errors="replace"))


def _decoded_extended(text: bytes, first: str | None, resets: re.Pattern[bytes]) -> str:
    left, right = _ASCII, first
    if text.count(b"\x1b") > _ESCAPES_MAX:
        return text.decode("ascii", errors="replace")
    found = []
    for piece in _PIECES.findall(text):
        designated = _DESIGNATES.get(piece)
        if designated is None and piece.startswith(b"\x1b"):
            found.append(_REPLACED)
        elif designated is not None and designated[0] == 0:
            left = designated[1]
        elif designated is not None:
            right = designated[1]
        elif left in (_KANJI, _SUPPLEMENTARY_KANJI):
            found.extend(
                _right_decoded(half, right) if half[0] > 0x7F else _kanji(half, left) for half in _HALVES.findall(piece)
            )
        else:
            # Without a right half of its own Value 1 cannot be meant by such bytes: what was designated stays.
            end = next(resets.finditer(piece), None) if first is not None and right != first else None
            if end is None:
                found.append(_right_decoded(piece, right))
            else:
                found.append(_right_decoded(piece[: end.start()], right) + _right_decoded(piece[end.start() :], first))
                right = first
    return "".join(found)


def _kanji(pairs: bytes, name: str) -> str:
    codec = "iso2022_jp" if name == _KANJI else "iso2022_jp_2"
    return (_ESCAPE_OF[name] + pairs + b"\x1b(B").decode(codec, errors="replace")


class _Extended:
    """Writes text with code extensions (PS3.5 6.1.2.5): each piece begins and ends in the sets of Value 1."""

    def __init__(self, declared: tuple[str, ...], first: str | None) -> None:
        self._right_first = first
        is_roman = bool(declared) and declared[0].rpartition(" ")[2] == "13"
        self._left_first = _JIS_ROMAN if is_roman else _ASCII
        numbers = [term.rpartition(" ")[2] for term in declared]
        self._lefts = [_LEFT_HALVES[number] for number in numbers if number in _LEFT_HALVES]
        self._rights = [_RIGHT_HALVES[number] for number in numbers if number in _RIGHT_HALVES]

    def piece(self, piece: str) -> bytes:
        """The bytes of a piece without delimiters."""
        if piece.isascii():
            return piece.encode()
        left, right = self._left_first, self._right_first
        written = bytearray()
        for character in piece:
            half, name, code = self._code(character, left, right)
            if half == 0 and name != left:
                written += _ESCAPE_OF[name]
                left = name
            elif half == 1 and name != right:
                written += _ESCAPE_OF[name]
                right = name
            written += code
        if left != self._left_first:
            written += _ESCAPE_OF[self._left_first]
        if right != self._right_first and self._right_first is not None:
            written += _ESCAPE_OF[self._right_first]
        return bytes(written)

    def _code(self, character: str, left: str, right: str | None) -> tuple[int, str, bytes]:
        """Where a character stands: the half, the set, the code. Sets in force come before those to designate."""
        if character.isascii():
            return 0, left if left == _JIS_ROMAN else self._left_first, character.encode()
        if right is not None and (code := _right_code(character, right)):
            return 1, right, code
        for name in self._lefts:
            if code := _left_code(character, name):
                return 0, name, code
        for name in self._rights:
            if code := _right_code(character, name):
                return 1, name, code
        raise NotRepresentable("a character is in none of the character sets")


def _right_code(character: str, name: str) -> bytes:
    if name == _KATAKANA:
        return bytes((ord(character) - 0xFEC0,)) if "\uff61" <= character <= "\uff9f" else b""
    try:
        code = character.encode(name)
    except UnicodeEncodeError:
        return b""
    # Python writes a syllable that KS X 1001 lacks as eight bytes, which is not what the set has.
    return code if len(code) <= 2 else b""


def _left_code(character: str, name: str) -> bytes:
    escape = _ESCAPE_OF[name]
    try:
        code = character.encode("iso2022_jp" if name == _KANJI else "iso2022_jp_2")
    except UnicodeEncodeError:
        return b""
    return code[len(escape) : -3] if code.startswith(escape) else b""
