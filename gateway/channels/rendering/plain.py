"""A patient's report as plain text: for readers that show nothing else. Pure."""

from __future__ import annotations

from gateway.channels.rendering.disclaimer import DISCLAIMER
from gateway.channels.rendering.sheet import IN_DOCUMENT, Part, Sheet


def plain_text(sheet: Sheet) -> str:
    """The sheet in paragraphs with an empty line between them; the disclaimer is one of them, in one line."""
    head = [sheet.title, sheet.trust_name, sheet.note]
    particulars = "\n".join(f"{label}: {value}" for label, value in sheet.particulars)
    parts = [paragraph for part in sheet.parts for paragraph in _paragraphs(part)]
    paragraphs = [*head, DISCLAIMER, particulars, *parts, sheet.footnote]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _paragraphs(part: Part) -> list[str]:
    return [f"{part.heading}\n{part.written}", part.text, IN_DOCUMENT if part.pdf else ""]
