"""The escapes of HL7 v2 (chapter 2.7) turned back into what they stand for.

One pass, left to right: what an escape stands for is never read again, so no escape makes a segment or another escape.
A backslash that begins no escape of the standard is a backslash: reports hold file names and RTF, and no word of a
report is ever lost. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

LINES_MAX = 20
"""Empty lines that one `.sp` makes."""
REPLACED = "\N{REPLACEMENT CHARACTER}"

_KNOWN = (
    r"(?P<letter>[FSTRE])"
    r"|X(?P<hex>(?:[0-9A-Fa-f]{2}){1,2000})"
    r"|\.(?P<space>sp)\s?\+?(?P<lines>[0-9]{0,3})"
    r"|\.(?P<end>br|ce)"
    r"|(?P<look>[HN]|\.(?:fi|nf)|\.(?:in|ti|sk)\s?[+-]?[0-9]{0,3})"
    r"|(?P<set>[CM](?:[0-9A-Fa-f]{2}){2,3})"
)
_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def text(value: str, mark: str, letters: Mapping[str, str], encoding: str) -> str:
    """Text of many lines: ends of lines are "\\n", control characters are replaced, all else is as it was meant."""
    plain = value if mark not in value else _pattern(mark).sub(_meaning(letters, encoding), value)
    return tidy(plain)


def line(value: str, mark: str, letters: Mapping[str, str], encoding: str) -> str:
    """A value of one line: whatever ends a line in it is a space."""
    if mark not in value and value.isprintable():
        return value.strip()
    return _SPACES.sub(" ", text(value, mark, letters, encoding)).strip()


def tidy(plain: str) -> str:
    """Any text with "\\n" for ends of lines, and without control characters but tabs."""
    if "\r" not in plain and "\n" not in plain and plain.isprintable():
        return plain
    return _CONTROLS.sub(REPLACED, _LINE_ENDS.sub("\n", plain))


@lru_cache(maxsize=64)
def _pattern(mark: str) -> re.Pattern[str]:
    escaped = re.escape(mark)
    return re.compile(f"{escaped}(?:{_KNOWN}){escaped}")


def _meaning(letters: Mapping[str, str], encoding: str) -> Callable[[re.Match[str]], str]:
    def meaning(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "letter":
                return letters[found["letter"]]
            case "hex":
                return bytes.fromhex(found["hex"]).decode(encoding, errors="replace")
            case "end":
                return "\n"
            case "space" | "lines":
                return "\n" * min(int(found["lines"] or "1"), LINES_MAX)
            case "set":
                # Another character set for a few characters: none is known here, and it is seen that they are missing.
                return REPLACED
            case _:
                return ""

    return meaning
