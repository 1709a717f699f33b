"""Reports and documents for those who have no viewer: structured reports as text, and the files that instances wrap.

A report is read from its description in DICOM JSON and becomes lines: headings, findings, values with units, and what
it refers to (PS3.3 C.17.3). Whether it is complete and verified stands first: nobody shall take a draft for a report.
As HTML every word of it is text, escaped, inside a page that is ours. Depth and lines are bounded. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from gateway.instances.spans import Bytes, MoreNeeded, Spans
from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.imaging import Attributes, Element, JsonValue

DEPTH_MAX = 32
LINES_MAX = 20_000
HEADER_BYTES_MAX = 4 * 1024 * 1024

_TITLE, _CONTENT, _TYPE = "0040A043", "0040A730", "0040A040"
_COMPLETION, _VERIFICATION, _MEANING = "0040A491", "0040A493", "00080104"
_MEASURED, _NUMBER, _UNITS, _CODE_VALUE = "0040A300", "0040A30A", "004008EA", "00080100"
_REFERENCED, _REFERENCED_INSTANCE = "00081199", "00081155"
_PATIENT = (("Patient", "00100010"), ("Number", "00100020"), ("Born", "00100030"), ("Study", "00080020"))
_PLAIN_VALUES = MappingProxyType(
    {
        "TEXT": "0040A160",
        "DATE": "0040A121",
        "TIME": "0040A122",
        "DATETIME": "0040A120",
        "UIDREF": "0040A124",
        "PNAME": "0040A123",
    }
)
_DOCUMENT = 0x00420011

MEDIA_TYPES = MappingProxyType(
    {
        "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
        "1.2.840.10008.5.1.4.1.1.104.2": "text/xml",
        "1.2.840.10008.5.1.4.1.1.104.3": "model/stl",
        "1.2.840.10008.5.1.4.1.1.104.4": "model/obj",
        "1.2.840.10008.5.1.4.1.1.104.5": "model/mtl",
    }
)
"""Kinds of wrapped documents, by SOP class: what an instance itself says of it stands behind the document."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a report."""

    depth: int
    is_heading: bool
    concept: str
    value: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a structured report says."""

    title: str
    status: str
    """Whether it is complete and verified, in words."""
    subject: tuple[tuple[str, str], ...]
    """Whose it is, and of what day."""
    lines: tuple[Line, ...]

    def text(self) -> str:
        """The report as plain text."""
        head = [self.title, self.status, *(f"{name}: {value}" for name, value in self.subject), ""]
        return "\n".join((*head, *map(_text_line, self.lines), ""))

    def body(self) -> str:
        """What was found alone, as plain text: without title, status and subject."""
        return "\n".join(map(_text_line, self.lines))

    def html(self) -> str:
        """The report as a page; nothing in it is markup but ours."""
        subject = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in self.subject)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title></head>\n'
            f"<body><h1>{escape(self.title)}</h1><p><strong>{escape(self.status)}</strong></p><dl>{subject}</dl>\n"
            + "\n".join(map(_html_line, self.lines))
            + "\n</body></html>\n"
        )


@dataclass(frozen=True, slots=True)
class WrappedDocument:
    """Where a file stands inside an instance (PS3.3 C.24.2); a byte may fill it up to an even length."""

    first: int
    data_bytes: int


def read_report(dataset: Attributes) -> Report:
    """The report that a description says. Raises `NotFound` where it is none, `InvalidRequest` beyond the limits."""
    if _CONTENT not in dataset:
        raise NotFound("the instance is no structured report")
    lines: list[Line] = []
    for line in _lines(dataset, 0):
        if len(lines) == LINES_MAX:
            raise InvalidRequest(f"the report has more than {LINES_MAX} lines")
        lines.append(line)
    subject = tuple((name, value) for name, tag in _PATIENT if (value := _word(dataset, tag)))
    return Report(_concept(dataset) or "Report", _status(dataset), subject, tuple(lines))


def wrapped_document(head: Bytes, transfer_syntax: str, *, is_whole: bool = False) -> WrappedDocument | None:
    """Where the file stands in the instance that begins with `head`; None: more of its beginning is needed.

    Raises `NotFound` for an instance that wraps none, `InvalidRequest` for one that cannot be.
    """
    try:
        for span in Spans(head, transfer_syntax).top_until(_DOCUMENT):
            if span.tag == _DOCUMENT and span.has_length:
                return WrappedDocument(span.value, span.end - span.value)
            if span.tag >= _DOCUMENT:
                is_whole = True
    except MoreNeeded:
        if is_whole:
            raise InvalidRequest("the instance ends inside an element") from None
    if is_whole or len(head) >= HEADER_BYTES_MAX:
        raise NotFound("the instance wraps no document")
    return None


def _status(dataset: Attributes) -> str:
    completion, verification = _word(dataset, _COMPLETION), _word(dataset, _VERIFICATION)
    complete = "Complete" if completion == "COMPLETE" else "NOT COMPLETE"
    verified = "verified" if verification == "VERIFIED" else "NOT VERIFIED"
    return f"{complete}, {verified}"


def _lines(dataset: Attributes, depth: int) -> Iterator[Line]:
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"the report is nested deeper than {DEPTH_MAX}")
    for item in _items(dataset, _CONTENT):
        kind = _word(item, _TYPE)
        line = Line(depth, kind == "CONTAINER", _concept(item), _value(item, kind))
        if line.concept or line.value:
            yield line
        yield from _lines(item, depth + 1)


def _value(item: Attributes, kind: str) -> str:
    tag = _PLAIN_VALUES.get(kind)
    if tag is not None:
        return _word(item, tag)
    match kind:
        case "CODE":
            return _meaning(item, "0040A168")
        case "NUM":
            return ", ".join(
                f"{_word(measured, _NUMBER)} {_unit(measured)}".strip() for measured in _items(item, _MEASURED)
            )
        case "IMAGE" | "COMPOSITE" | "WAVEFORM":
            uids = [_word(reference, _REFERENCED_INSTANCE) for reference in _items(item, _REFERENCED)]
            return f"{kind.lower()} {', '.join(uids)}"
        case "SCOORD" | "SCOORD3D" | "TCOORD":
            return "(marked in an image)"
        case _:
            return ""


def _unit(measured: Attributes) -> str:
    """Dimensionless numbers have a unit too, which nobody wants to read."""
    units = next(iter(_items(measured, _UNITS)), None)
    if units is None or _word(units, _CODE_VALUE) in ("1", "{no units}", "{ratio}"):
        return ""
    return _word(units, _CODE_VALUE) or _word(units, _MEANING)


def _concept(item: Attributes) -> str:
    return _meaning(item, _TITLE)


def _meaning(item: Attributes, tag: str) -> str:
    code = next(iter(_items(item, tag)), None)
    return "" if code is None else _word(code, _MEANING) or _word(code, _CODE_VALUE)


def _items(dataset: Attributes, tag: str) -> Sequence[Attributes]:
    return [_attributes(value) for value in _values(dataset, tag) if isinstance(value, dict)]


def _attributes(value: dict[str, JsonValue]) -> Attributes:
    found: dict[str, Element] = {tag: element for tag, element in value.items() if isinstance(element, dict)}
    return found


def _values(dataset: Attributes, tag: str) -> list[JsonValue]:
    values = dataset.get(tag, {}).get("Value")
    return values if isinstance(values, list) else []


def _word(dataset: Attributes, tag: str) -> str:
    """The first value as words."""
    value = next(iter(_values(dataset, tag)), None)
    if isinstance(value, dict):
        value = value.get("Alphabetic") or value.get("Ideographic")
    return "" if value is None else str(value)


def _text_line(line: Line) -> str:
    indent = "  " * line.depth
    if not line.value:
        return f"{indent}{line.concept}"
    # A text of several lines stays where it stands.
    value = f"\n{indent}  ".join(line.value.splitlines())
    return f"{indent}{line.concept}: {value}" if line.concept else f"{indent}{value}"


def _html_line(line: Line) -> str:
    concept = escape(line.concept)
    if line.is_heading:
        level = min(line.depth + 2, 6)
        return f"<h{level}>{concept}</h{level}>"
    value = "<br>".join(map(escape, line.value.splitlines()))
    return f"<p><b>{concept}:</b> {value}</p>" if concept else f"<p>{value}</p>"
