"""Read a multipart body of instances as it arrives, whoever sent it (RFC 2046 5.1, RFC 2387, PS3.18 8.6.1.2.1).

Knows borders, heads and contents of parts, not what is in them. Contents go on as views of what was read, wherever the
network cut it; a copy is made only of the few bytes that may be the beginning of a border. Strict where a mistake would
move the end of a part: a length that is announced has to be true, and a body ends by its closing border or not at all.
Pure; whoever reads decides what becomes of a body that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import assert_never

from gateway.model.errors import InvalidRequest, RequestTooLarge

BOUNDARY_CHARS_MAX = 200
"""RFC 2046 allows 70; some servers build longer ones of addresses."""
HEAD_BYTES_MAX = 16 * 1024
"""Of one part."""
PREAMBLE_BYTES_MAX = 64 * 1024
PARTS_MAX = 1_000_000
"""In one body: far more than any study has instances."""

_TYPE = re.compile(r"[ \t]*([\w!#$&^.+*-]+/[\w!#$&^.+*-]+)[ \t]*(?:;|$)")
_PARAMETER = re.compile(r';[ \t]*([\w!#$&^.+*-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)')
_FIELD_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_PADDING = b" \t"


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type: its name in lower case, and its parameters with names in lower case."""

    name: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part's head; its contents follow in pieces."""

    fields: Mapping[str, str]
    """By name in lower case."""

    @property
    def media_type(self) -> MediaType | None:
        """Its Content-Type; None where it has none that can be read."""
        return media_type(self.fields.get("content-type", ""))


@dataclass(frozen=True, slots=True)
class PartEnds:
    """Everything of the part has come."""


Event = PartBegins | PartEnds | memoryview
"""What a body is made of; a view is the next piece of the part that has begun."""


def media_type(text: str) -> MediaType | None:
    """Read a Content-Type, with patience for values that should have been quoted."""
    named = _TYPE.match(text)
    if named is None:
        return None
    parameters: dict[str, str] = {}
    for name, value in _PARAMETER.findall(text, named.end(1)):
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value.strip()
        parameters.setdefault(name.lower(), plain)
    return MediaType(named.group(1).lower(), MappingProxyType(parameters))


class _State(Enum):
    PREAMBLE = auto()
    BEHIND_BORDER = auto()
    HEAD = auto()
    CONTENT = auto()
    CLOSED = auto()


class PartsReader:
    """Reads one body: `feed` it, and `end` where the bytes do. Both raise `InvalidRequest` for a body that is none."""

    def __init__(self, boundary: str, *, parts_max: int = PARTS_MAX) -> None:
        if not 0 < len(boundary) <= BOUNDARY_CHARS_MAX or not boundary.isascii() or not boundary.isprintable():
            raise InvalidRequest("a multipart body needs a boundary")
        self._border = b"\r\n--" + boundary.encode("ascii")
        self._parts_max = parts_max
        self._state = _State.PREAMBLE
        # A body begins with a border that no line end stands before: as if one had.
        self._kept = b"\r\n"
        self._passed = 0
        self._parts = 0
        self._content_bytes = 0
        self._announced: int | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the closing border has come; what stands behind it is nobody's."""
        return self._state is _State.CLOSED

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """What the next bytes show, in order. To be read to its end before the next call."""
        buffer = self._kept + chunk if self._kept else chunk
        self._kept = b""
        at: int | None = 0
        while at is not None:
            match self._state:
                case _State.PREAMBLE:
                    at = self._preamble(buffer)
                case _State.BEHIND_BORDER:
                    at = self._behind_border(buffer, at)
                case _State.HEAD:
                    begins, at = self._head(buffer, at)
                    if begins is not None:
                        yield begins
                case _State.CONTENT:
                    found = buffer.find(self._border, at)
                    is_last = found >= 0
                    end = found if is_last else len(buffer) - self._beginning_at_end(buffer, at)
                    self._content_bytes += end - at
                    self._check_length(is_last)
                    if end > at:
                        yield memoryview(buffer)[at:end]
                    if is_last:
                        self._state = _State.BEHIND_BORDER
                        yield PartEnds()
                        at = end + len(self._border)
                    else:
                        self._kept, at = buffer[end:], None
                case _State.CLOSED:
                    return
                case _:
                    assert_never(self._state)

    def end(self) -> None:
        """No more bytes come."""
        if not self.is_closed:
            raise InvalidRequest("the multipart body ends before its closing boundary")

    def _preamble(self, buffer: bytes) -> int | None:
        found = buffer.find(self._border)
        if found >= 0:
            self._state = _State.BEHIND_BORDER
            return found + len(self._border)
        self._kept = buffer[-(len(self._border) - 1) :]
        self._passed += len(buffer) - len(self._kept)
        if self._passed > PREAMBLE_BYTES_MAX:
            raise InvalidRequest("the multipart body does not have the boundary that was announced")
        return None

    def _behind_border(self, buffer: bytes, at: int) -> int | None:
        """Closed by two hyphens; else nothing but padding may stand before the line's end."""
        if buffer.startswith(b"--", at):
            self._state = _State.CLOSED
            return None
        line_end = buffer.find(b"\r\n", at)
        rest = buffer[at : line_end if line_end >= 0 else len(buffer)]
        if len(rest) > HEAD_BYTES_MAX or rest.rstrip(b"\r" if line_end < 0 else b"").strip(_PADDING) not in (b"", b"-"):
            raise InvalidRequest("a boundary of the multipart body does not end its line")
        if line_end < 0:
            self._kept = rest
            return None
        if rest.strip(_PADDING):
            raise InvalidRequest("a boundary of the multipart body does not end its line")
        self._parts += 1
        if self._parts > self._parts_max:
            raise RequestTooLarge(f"the multipart body has more than {self._parts_max} parts")
        self._state = _State.HEAD
        # The line's end is left standing: a part without fields has its empty line right here.
        return line_end

    def _head(self, buffer: bytes, at: int) -> tuple[PartBegins | None, int | None]:
        end = buffer.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(buffer)) - at > HEAD_BYTES_MAX:
            raise RequestTooLarge("the head of a part is too long")
        if end < 0:
            self._kept = buffer[at:]
            return None, None
        fields = _fields(buffer[at:end])
        length = fields.get("content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            raise InvalidRequest("the length of a part is no number")
        self._announced = None if length is None else int(length)
        self._content_bytes = 0
        self._state = _State.CONTENT
        return PartBegins(fields), end + 4

    def _beginning_at_end(self, buffer: bytes, at: int) -> int:
        """How many bytes at the buffer's end may be the beginning of a border."""
        border = self._border
        begins = buffer.find(b"\r", max(at, len(buffer) - len(border) + 1))
        while begins >= 0:
            if border.startswith(buffer[begins:]):
                return len(buffer) - begins
            begins = buffer.find(b"\r", begins + 1)
        return 0

    def _check_length(self, is_last: bool) -> None:
        announced = self._announced
        if announced is not None and (self._content_bytes > announced or (is_last and self._content_bytes < announced)):
            raise InvalidRequest("a part is not as long as it says")


def _fields(head: bytes) -> Mapping[str, str]:
    """A part's fields; a line that begins with a blank goes on from the line before (RFC 2046, by RFC 822)."""
    fields: dict[str, str] = {}
    name = ""
    for line in head.decode("latin-1").split("\r\n"):
        if line[:1] in (" ", "\t") and name:
            fields[name] += f" {line.strip()}"
            continue
        field, colon, value = line.partition(":")
        name = field.strip().lower()
        if not line:
            continue
        if not colon or not _FIELD_NAME.fullmatch(name) or name in fields:
            raise InvalidRequest("the head of a part cannot be read")
        fields[name] = value.strip()
    return MappingProxyType(fields)
