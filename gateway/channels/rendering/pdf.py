"""A patient's report as a tagged PDF (PDF/UA-1, ISO 14289-1), set by typst.

Every value travels as JSON beside the template, so no report can be read as markup. A document of the hospital's own is
drawn page by page behind the cover, without whatever actions it holds; one that cannot be drawn is attached. PDF/UA-1
knows no drawn pages, and no characters that no font here has: such a report is tagged all the same, without the claim.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import resources

import typst

from gateway.channels.rendering.disclaimer import DISCLAIMER, DISCLAIMER_VERSION
from gateway.channels.rendering.sheet import Sheet

DOCUMENT_PAGES_MAX = 200
"""A hospital's document with more pages is attached, not drawn."""

# The first that is installed; the second comes with typst. Others stand in for characters that these lack.
_FONTS = ("DejaVu Sans", "Libertinus Serif")
_UNBROKEN_CHARS_MAX = 30
_UNBROKEN = re.compile(rf"\S{{{_UNBROKEN_CHARS_MAX}}}(?=\S)")
_MEMORY_FILES = "/proc/self/fd"
_PROBE = '#image(read("/" + sys.inputs.file, encoding: none), format: "pdf", page: int(sys.inputs.page), alt: "x")'
_PAGES_HINT = re.compile(r"the document only has ([0-9]{1,6}) page")


def pdf_document(sheet: Sheet, *, large_print: bool = False) -> bytes:
    """The document. Takes tens of milliseconds, so runs off the loop; raises `RuntimeError` if typst fails."""
    with ExitStack() as opened:
        files = [opened.enter_context(_in_memory(part.pdf)) if part.pdf else "" for part in sheet.parts]
        pages = [_drawable_pages(file) if file else 0 for file in files]
        values = {"sheet": json.dumps(_values(sheet, files, pages, large_print))}
        if not any(pages):
            try:
                return _compiled(_template(), values, ["ua-1"])
            except typst.TypstError as error:
                if "PDF/UA-1" not in error.message:
                    raise
        try:
            return _compiled(_template(), values, [])
        except typst.TypstError:
            # A page of the hospital's that reads well and cannot be drawn.
            values = {"sheet": json.dumps(_values(sheet, files, [0] * len(files), large_print))}
            return _compiled(_template(), values, [])


def _values(sheet: Sheet, files: Sequence[str], pages: Sequence[int], large_print: bool) -> dict[str, object]:
    return {
        "title": sheet.title,
        "running": sheet.title,
        "trust_name": sheet.trust_name,
        "note": sheet.note,
        "disclaimer": DISCLAIMER,
        "disclaimer_version": f"disclaimer version {DISCLAIMER_VERSION}",
        "particulars": [[label, _breakable(value)] for label, value in sheet.particulars],
        "parts": [
            {
                "heading": part.heading,
                "written": part.written,
                "text": _breakable(part.text.expandtabs()),
                "file": file,
                "pages": count,
                "name": f"report-{number}.pdf",
            }
            for number, (part, file, count) in enumerate(zip(sheet.parts, files, pages, strict=True), start=1)
        ],
        "footnote": sheet.footnote,
        "large_print": large_print,
        "fonts": _FONTS,
    }


def _breakable(text: str) -> str:
    # A zero-width space lets a line end where a word would run off the page.
    return _UNBROKEN.sub("\\g<0>\u200b", text)


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    # typst reads files, and a patient's document is never written to a disk in the open (SAF-41).
    descriptor = os.memfd_create("document")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield str(descriptor)
    finally:
        os.close(descriptor)


def _drawable_pages(file: str) -> int:
    """How many pages a document has; 0 if it cannot be drawn, or has too many."""
    try:
        _compiled(_PROBE, {"file": file, "page": str(DOCUMENT_PAGES_MAX + 1)}, [])
    except typst.TypstError as error:
        found = _PAGES_HINT.search(" ".join(error.hints))
        return int(found[1]) if found else 0
    return 0


def _compiled(template: str, values: dict[str, str], standards: list[typst.PDFStandard]) -> bytes:
    compiler = typst.Compiler(input=template.encode(), root=_MEMORY_FILES, font_paths=_fonts(), sys_inputs=values)
    written = compiler.compile(format="pdf", pdf_standards=standards)
    if not isinstance(written, bytes):
        raise TypeError("typst wrote several files where a document is one")
    return written


@cache
def _fonts() -> typst.Fonts:
    return typst.Fonts()


@cache
def _template() -> str:
    return (resources.files("gateway.channels.rendering") / "report.typ").read_text(encoding="utf-8")
