"""Conditional and range requests (RFC 9110 13 and 14): whether a caller has it already, and which bytes it wants.

One range at a time: several in one request are answered with the whole, as the standard allows. What cannot be read is
passed over, for the whole is always a right answer. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
_OPAQUE = re.compile(r"[\x21\x23-\x7e]+")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1


class NotSatisfiable(ValueError):
    """The range begins behind the end: 416."""


def entity_tag(opaque: str, *, is_weak: bool = False) -> str:
    """The ETag for a version. Weak where other bytes may stand for the same: another boundary or compression."""
    if not _OPAQUE.fullmatch(opaque):
        opaque = opaque.encode("utf-8").hex()
    return f'W/"{opaque}"' if is_weak else f'"{opaque}"'


def has_it(if_none_match: str | None, tag: str) -> bool:
    """Whether an If-None-Match names this version or any; compared weakly, as RFC 9110 13.1.2 says."""
    if if_none_match is None:
        return False
    ours = tag.removeprefix("W/").strip('"')
    return if_none_match.strip() == "*" or ours in _TAG.findall(if_none_match)


def span_of(header: str | None, if_range: str | None, tag: str, size: int) -> Span | None:
    """The bytes that a Range header wants of a representation of `size` bytes; None: all of it.

    An If-Range that does not name this version, strongly, asks for all of it. Raises `NotSatisfiable`.
    """
    if header is None or (if_range is not None and if_range.strip() != tag):
        return None
    matched = _RANGE.fullmatch(header.strip())
    if matched is None or matched.group(1) == matched.group(2) == "":
        return None
    first, last = matched.groups()
    if first == "":
        if int(last) == 0 or size == 0:
            raise NotSatisfiable
        return Span(max(0, size - int(last)), size - 1)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise NotSatisfiable
    return Span(int(first), min(int(last), size - 1) if last else size - 1)
