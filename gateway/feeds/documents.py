"""The forms in which a report's text comes: plain, RTF, HTML as characters, and PDF; and what is no report at all.

Markup is never read as markup but for RTF, which nobody could read otherwise. What is cut off or cannot be read whole
is refused whole: half a report is worse than none. striprtf searches with expressions whose time explodes on hostile
input, so what it would search them in (font tables, links) is taken out first.
"""

from __future__ import annotations

import base64
import binascii
import re

from striprtf.striprtf import rtf_to_text

from gateway.feeds.hl7.escapes import tidy

RTF_BEGINS = "{\\rtf"
RTF_CHARS_MAX = 2_000_000
PDF_BEGINS = b"%PDF-"
_PDF_BEGINS_WITHIN = 1_024
_BLANKS = re.compile(r"\s+|\\\.br\\")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_DROPPED_GROUP = re.compile(r"\{\s*(?:\\\*\s*)?\\(?:fonttbl|fldinst)(?![a-z])")


class NotADocument(ValueError):
    """What came is not whole, or not of the form that it is said to have."""


def pdf(encoded: str, encoding: str) -> bytes:
    """A PDF that came as `Base64` or `Hex` (table 0299); raises `NotADocument`."""
    decoded = decoded_bytes(encoded, encoding)
    if PDF_BEGINS not in decoded[:_PDF_BEGINS_WITHIN]:
        raise NotADocument("a document does not begin like a PDF")
    return decoded


def decoded_bytes(encoded: str, encoding: str) -> bytes:
    """Bytes that came as letters; raises `NotADocument`."""
    plain = _BLANKS.sub("", encoded)
    try:
        match encoding.strip().upper():
            case "BASE64":
                return base64.b64decode(plain, validate=True)
            case "HEX":
                return bytes.fromhex(plain)
            case _:
                raise NotADocument("a document's encoding is neither Base64 nor Hex")
    except (binascii.Error, ValueError) as error:
        raise NotADocument("a document is not whole, or not encoded as it says") from error


def plain_lines(values: list[str]) -> list[str]:
    """Texts, some of which may be RTF, or begin or go on with it; raises `NotADocument`."""
    lines: list[str] = []
    waiting: list[str] = []
    depth = 0
    for value in values:
        if not waiting and not value.lstrip().startswith(RTF_BEGINS):
            lines.append(value)
            continue
        piece = f"\n{value}" if waiting else value.lstrip()
        end, depth = _end_of_group(piece, depth=depth)
        waiting.append(piece if end is None else piece[:end])
        if end is None:
            continue
        if piece[end:].strip("\0 \n"):
            raise NotADocument("text follows the end of an RTF document")
        lines.append(plain_rtf("".join(waiting)))
        waiting.clear()
    if waiting:
        raise NotADocument("an RTF document does not end")
    return lines


def plain_rtf(document: str) -> str:
    """The text of one RTF document; raises `NotADocument`."""
    if len(document) > RTF_CHARS_MAX:
        raise NotADocument(f"an RTF document is longer than {RTF_CHARS_MAX} characters")
    try:
        text: str = rtf_to_text(_without_groups(document), errors="replace")  # type: ignore[no-untyped-call]  # it has none
    except (ValueError, TypeError, OverflowError, LookupError) as error:
        raise NotADocument("an RTF document cannot be read") from error
    # RTF writes characters beyond 16 bits as two halves.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return tidy(whole.replace("\xad", "").replace("\xa0", " ")).strip("\n")


def _without_groups(document: str) -> str:
    """The document without its font table and the instructions of its fields, whose results stay."""
    kept = []
    at = 0
    while (found := _DROPPED_GROUP.search(document, at)) is not None:
        end, _ = _end_of_group(document, found.start())
        if end is None:
            raise NotADocument("an RTF document does not end")
        kept.append(document[at : found.start()])
        at = end
    return "".join([*kept, document[at:]])


def _end_of_group(text: str, begin: int = 0, *, depth: int = 0) -> tuple[int | None, int]:
    """Where the group ends that begins at a place, or has begun in text before it, `depth` braces deep; None: behind
    all of this, and how deep it is there.
    """
    for found in _BRACES.finditer(text, begin):
        if found.group() == "{":
            depth += 1
        elif found.group() == "}":
            depth -= 1
            if depth == 0:
                return found.end(), 0
    return None, depth
