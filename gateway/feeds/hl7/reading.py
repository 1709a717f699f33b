"""A message of HL7 v2 as segments and fields, and nothing of what they mean (HL7 v2.5 chapter 2).

Reads strictly and lazily: a message of 10 MB costs little more than its text, for fields are parted when they are asked
for. The package hl7 makes an object of every character between separators (measured: 400 times the message's size in
memory) and takes any delimiters, so it is not used here. Whatever kind of line end the header has is the message's;
others are characters of a text, so that no text can pass for a segment (threat G9). Words of errors never repeat the
message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gateway.feeds.hl7 import escapes

SEGMENTS_MAX = 20_000
FIELDS_MAX = 256
REPETITIONS_MAX = 20_000
PARTS_MAX = 64
"""Components of a field, and parts of a component."""
HEADER_BYTES_MAX = 4_096

_CHARACTER_SETS = {
    "": "",
    "ASCII": "ascii",
    # Windows senders call their code page 8859/1; what it has more are quotation marks and dashes.
    "8859/1": "cp1252",
    **{f"8859/{part}": f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
}
"""Table 0211, and two names that senders use for its UTF-8."""
CHARACTER_SETS = frozenset(_CHARACTER_SETS) - {""}

_LINE_END = re.compile(r"\r\n|\r|\n")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_DELIMITERS = re.compile(rb"[!-/:-@\[-`{-~]")


class Fault(StrEnum):
    """What is wrong with a message, by the codes of table 0357."""

    SEGMENTS = "100"
    FIELD_MISSING = "101"
    FORM = "102"
    VALUE = "103"
    MESSAGE_TYPE = "200"
    EVENT = "201"
    PROCESSING_ID = "202"
    VERSION = "203"
    UNKNOWN_KEY = "204"
    INTERNAL = "207"


class Unreadable(Exception):
    """A message that nobody can read as it is; sending it again unchanged cannot help."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Delimiters:
    """What parts a message, by MSH-1 and MSH-2."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field, still escaped."""

    raw: str
    marks: Delimiters
    encoding: str

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in it; `""` says that nothing is to stand there."""
        return self.raw in ("", '""')

    @property
    def repetitions(self) -> tuple[Field, ...]:
        """Its repetitions; one for a field without."""
        parts = _parted(self.raw, self.marks.repetition, REPETITIONS_MAX)
        return tuple(Field(each, self.marks, self.encoding) for each in parts)

    def component(self, number: int, part: int = 1) -> str:
        """A component's part as one line, both counted from one; of the first repetition; empty where there is none."""
        first = self.raw.split(self.marks.repetition, 1)[0]
        components = _parted(first, self.marks.component, PARTS_MAX)
        if number > len(components):
            return ""
        parts = _parted(components[number - 1], self.marks.subcomponent, PARTS_MAX)
        value = parts[part - 1] if part <= len(parts) else ""
        return escapes.line(value, self.marks.escape, self._letters, self.encoding) if value != '""' else ""

    def raw_component(self, number: int) -> str:
        """A component as it came, for what is no words; of the first repetition."""
        components = _parted(self.raw.split(self.marks.repetition, 1)[0], self.marks.component, PARTS_MAX)
        return components[number - 1] if number <= len(components) else ""

    @property
    def value(self) -> str:
        """The first component of the first repetition, as one line."""
        return self.component(1)

    @property
    def text(self) -> str:
        """All of it as text of many lines: repetitions are lines, and what else parts fields is a character here."""
        if self.is_empty:
            return ""
        lines = self.raw.replace(self.marks.repetition, "\n")
        return escapes.text(lines, self.marks.escape, self._letters, self.encoding)

    @property
    def _letters(self) -> dict[str, str]:
        marks = self.marks
        return {
            "F": marks.field,
            "S": marks.component,
            "T": marks.subcomponent,
            "R": marks.repetition,
            "E": marks.escape,
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment."""

    name: str
    raw: str
    marks: Delimiters
    encoding: str

    def field(self, number: int) -> Field:
        """A field by its number in the standard; an empty one where the segment ends before it."""
        fields = _parted(self.raw, self.marks.field, FIELDS_MAX)
        # The separator itself is MSH-1.
        at = number - 1 if self.name == "MSH" else number
        return Field(fields[at] if 0 <= at < len(fields) else "", self.marks, self.encoding)


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, its header first."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    def first(self, name: str) -> Segment | None:
        """The first segment of this name."""
        return next(self.all(name), None)

    def all(self, name: str) -> Iterator[Segment]:
        """Every segment of this name, in their order."""
        return (each for each in self.segments if each.name == name)


def read(raw: bytes, *, character_set: str) -> Message:
    """Read a message; `character_set` counts where MSH-18 names none. Raises `Unreadable`."""
    marks = _delimiters(raw)
    text = _decoded(raw, marks, character_set)
    encoding = text.encoding
    segments: list[Segment] = []
    for line in _lines(text.text):
        name = line[:3]
        if not _NAME.fullmatch(name) or line[3:4] not in ("", marks.field):
            raise Unreadable(Fault.SEGMENTS, "a line of the message begins like no segment")
        if name in ("BHS", "FHS", "BTS", "FTS") or (name == "MSH" and segments):
            raise Unreadable(Fault.SEGMENTS, "more than one message, or a batch, came as one")
        segments.append(Segment(name, line, marks, encoding))
    return Message(tuple(segments))


def header_of(raw: bytes) -> Segment | None:
    """The header alone, of a message that may be unreadable otherwise, every byte a character; None: there is none."""
    try:
        marks = _delimiters(raw)
    except Unreadable:
        return None
    return Segment("MSH", _header_line(raw).decode("latin-1"), marks, "latin-1")


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    encoding: str


def _delimiters(raw: bytes) -> Delimiters:
    if not raw.startswith(b"MSH"):
        is_batch = raw.startswith((b"BHS", b"FHS"))
        raise Unreadable(Fault.SEGMENTS, "a batch is not taken here" if is_batch else "the message has no header")
    separator = raw[3:4]
    encoding = raw[4:10].split(separator, 1)[0] if separator else b""
    marks = separator + encoding[:4]
    are_marks = all(_DELIMITERS.fullmatch(bytes([each])) for each in separator + encoding)
    if len(encoding) not in (4, 5) or not are_marks or len(set(separator + encoding)) != len(encoding) + 1:
        raise Unreadable(Fault.FORM, "the message's delimiters are not five different marks")
    return Delimiters(*marks.decode("ascii"))


def _header_line(raw: bytes) -> bytes:
    return re.split(rb"[\r\n]", raw[:HEADER_BYTES_MAX], maxsplit=1)[0]


def _decoded(raw: bytes, marks: Delimiters, character_set: str) -> _Text:
    if b"\0" in raw:
        raise Unreadable(Fault.FORM, "a zero byte stands in the message")
    header = Segment("MSH", _header_line(raw).decode("latin-1"), marks, "latin-1")
    named = header.field(18).raw.split(marks.repetition)
    others = {each.strip().upper() for each in named[1:] if each.strip()}
    name = named[0].strip().upper()
    if name not in _CHARACTER_SETS or others - {name, "ASCII"}:
        raise Unreadable(Fault.VALUE, "the message's character set is not known here")
    encoding = _CHARACTER_SETS[name] or _CHARACTER_SETS[character_set]
    try:
        return _Text(raw.decode(encoding), encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(Fault.FORM, "the message holds bytes that its character set does not have") from error


def _lines(text: str) -> list[str]:
    end = _LINE_END.search(text)
    if end is None:
        return [text]
    kind = end.group()
    if text.count(kind) > SEGMENTS_MAX:
        raise Unreadable(Fault.SEGMENTS, f"the message has more than {SEGMENTS_MAX} segments")
    lines = [line.lstrip("\n") if kind == "\r" else line for line in text.split(kind)]
    if kind != "\r" and any("\r" in line for line in lines):
        raise Unreadable(Fault.SEGMENTS, "the segments end in more than one way")
    return [line for line in lines if line.strip("\n ")]


def _parted(value: str, mark: str, parts_max: int) -> list[str]:
    parts = value.split(mark, parts_max)
    if len(parts) > parts_max:
        raise Unreadable(Fault.FORM, f"a field or a part of it has more than {parts_max} parts")
    return parts
