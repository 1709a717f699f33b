"""What the lines of a result (OBX, NTE) bring: its text, a document, and the study that it is of.

Text stays as it was written, line by line; coded and measured values get their names, for a number alone means nothing.
A reference to something that lies elsewhere is not followed: unless the profile says that it leads to images, a part
of the report did not come. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.feeds import documents
from gateway.feeds.documents import NotADocument
from gateway.feeds.hl7.reading import Fault, Field, Segment, Unreadable
from gateway.model.reporting.incoming import Content

_UID = re.compile(r"(?=.{1,64}$)(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_STUDY_CODES = frozenset({"113014", "110180"})
"""DICOM Study, Study Instance UID (PS3.16 Annex D)."""
_TEXT_TYPES = frozenset({"TX", "FT", "ST", ""})
_CODED_TYPES = frozenset({"CE", "CWE", "CNE", "CF"})
_GONE = frozenset({"D", "X"})
_TEXT_FORMS = frozenset({"TEXT", "PLAIN", "TXT", "RTF", "X-RTF"})


@dataclass(frozen=True, slots=True)
class Found:
    """What the lines of one result bring."""

    content: Content
    study_uids: tuple[str, ...]


def found(segments: Sequence[Segment], image_links: Collection[str] = (), *, appended_only: bool) -> Found:
    """Read the lines of a result; of an addendum only what was appended, else the report would stand there twice.

    Raises `Unreadable` where a part cannot be read: half a report is worse than none.
    """
    texts: list[str] = []
    pdfs: list[bytes] = []
    elsewhere: list[str] = []
    uids: list[str] = []
    is_shown = not appended_only
    for segment in segments:
        match segment.name:
            case "OBX":
                status = segment.field(11).value.upper()
                is_shown = status == "B" if appended_only else status not in _GONE
                if (uid := _study_uid(segment)) is not None:
                    uids += [uid] * bool(uid)
                elif is_shown and segment.field(2).value.upper() == "RP":
                    if segment.field(3).value not in image_links:
                        elsewhere += filter(None, [segment.field(5).value])
                elif is_shown:
                    _take(segment, texts, pdfs)
            case "NTE" if is_shown:
                texts += [line for line in [segment.field(3).text] if line]
            case "ZDS":
                uids += filter(_UID.fullmatch, [segment.field(1).value])
            case _:
                pass
    if len(pdfs) > 1:
        raise Unreadable(Fault.FORM, "a result has more than one document")
    try:
        text = "\n".join(documents.plain_lines(texts)).strip("\n")
    except NotADocument as error:
        raise Unreadable(Fault.FORM, str(error)) from error
    content = Content(text, pdfs[0] if pdfs else b"", tuple(dict.fromkeys(elsewhere)))
    return Found(content, tuple(dict.fromkeys(uids)))


def _study_uid(line: Segment) -> str | None:
    """The study that a line names instead of reporting something; None: it is no such line."""
    if line.field(3).value not in _STUDY_CODES:
        return None
    uid = line.field(5).value
    return uid if _UID.fullmatch(uid) else ""


def _take(line: Segment, texts: list[str], pdfs: list[bytes]) -> None:
    kind = line.field(2).value.upper()
    value = line.field(5)
    if kind == "ED":
        for each in value.repetitions:
            _take_encapsulated(each, texts, pdfs)
        return
    if kind in _TEXT_TYPES:
        texts.append(value.text)
        return
    if value.is_empty:
        return
    if kind in _CODED_TYPES:
        words = ", ".join(filter(None, (each.component(2) or each.value for each in value.repetitions)))
    else:
        words = " ".join(filter(None, (value.text, line.field(6).component(1))))
    name = line.field(3).component(2)
    texts.append(f"{name}: {words}" if name else words)


def _take_encapsulated(value: Field, texts: list[str], pdfs: list[bytes]) -> None:
    """ED: what a document is, by its type and subtype (tables 0191 and 0291), which senders exchange at will."""
    encoding, encoded = value.component(4), value.raw_component(5)
    if not encoded:
        return
    forms = {value.component(2).upper(), value.component(3).upper()}
    try:
        if "PDF" in forms or "APPLICATION/PDF" in forms:
            pdfs.append(documents.pdf(encoded, encoding))
        elif forms & _TEXT_FORMS:
            texts.append(documents.decoded_bytes(encoded, encoding).decode("utf-8"))
        else:
            raise Unreadable(Fault.VALUE, "a document is of a kind that is not known here")
    except (NotADocument, UnicodeDecodeError) as error:
        raise Unreadable(Fault.FORM, "a document cannot be read") from error
