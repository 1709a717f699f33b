"""Whatever stands in a report, it can be read: in the PDF as it is, in the page as text."""

from __future__ import annotations

import html
import io
from dataclasses import replace
from html.parser import HTMLParser

import pypdf
import pypdf.generic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.channels.rendering.disclaimer import DISCLAIMER, DISCLAIMER_SHA256, DISCLAIMER_VERSION
from gateway.channels.rendering.forms import render
from gateway.channels.rendering.html import html_page
from gateway.channels.rendering.plain import plain_text
from gateway.channels.rendering.sheet import displayable, sheet_of
from gateway.model.reporting.channels import PatientReport
from tests.channels.reports import REPORT

PIECES = [*"#$*_`@<>&\"'\\/[]{}()=-+~^|;:%! \n\tab\x00", "<script>", "</div>", "#panic()", "{{", "{% raw %}", "//"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
ELEMENTS = set("html head meta title style body a header p main h1 h2 dl dt dd div section".split())


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the text within the clinical ones."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.notices: list[str] = []
        self.clinical: list[str] = []
        self._within: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        named = dict(attrs)
        kind = {"disclaimer": self.notices, "clinical-text": self.clinical}.get(named.get("class") or "")
        self._within = kind
        if kind is not None:
            kind.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = None

    def handle_data(self, data: str) -> None:
        if self._within is not None:
            self._within[-1] += data


def saying(text: str) -> PatientReport:
    """The report with another text."""
    return replace(REPORT, sections=(replace(REPORT.sections[0], text=text),))


def read(pdf: bytes) -> pypdf.PdfReader:
    """The document as another program reads it."""
    return pypdf.PdfReader(io.BytesIO(pdf))


def described(pdf: bytes) -> str:
    """What the document says of itself (XMP)."""
    metadata = read(pdf).root_object["/Metadata"].get_object()
    assert isinstance(metadata, pypdf.generic.StreamObject)
    return metadata.get_data().decode()


def words(pdf: bytes) -> str:
    """Its text, every space one."""
    return " ".join(" ".join(page.extract_text() for page in read(pdf).pages).split())


@given(HOSTILE)
def test_nothing_in_a_report_is_ever_an_element_and_its_text_is_untouched(text: str) -> None:
    sheet = sheet_of(replace(saying(text), exam_name=text, note=text, footnote=text, contact=text))
    page = Page(html_page(sheet))
    assert set(page.elements) <= ELEMENTS
    assert page.notices == [DISCLAIMER]
    assert page.clinical == ([displayable(text)] if text.strip() and sheet.parts[0].text else [])
    assert plain_text(sheet).count(DISCLAIMER) == 1


@settings(max_examples=25, deadline=None)
@given(st.one_of(HOSTILE, st.text(max_size=80)))
def test_every_report_makes_a_document_with_the_disclaimer(text: str) -> None:
    document = render(replace(saying(text), exam_name=text)).pdf
    assert words(document).count(DISCLAIMER) == 1


def test_a_report_that_quotes_the_disclaimer_stays_as_it_is_and_the_notice_stands() -> None:
    made = render(saying(f"Findings.\n{DISCLAIMER}"))
    page = Page(made.html)
    assert page.notices == [DISCLAIMER]
    assert page.clinical == [f"Findings.\n{DISCLAIMER}"]
    assert made.text.split("\n\n").count(DISCLAIMER) == 1
    assert words(made.pdf).count(DISCLAIMER) == 2


def test_every_form_says_which_disclaimer_it_has() -> None:
    made = render(REPORT)
    assert f'<meta name="disclaimer-version" content="{DISCLAIMER_VERSION}">' in made.html
    assert f"disclaimer version {DISCLAIMER_VERSION}" in str(read(made.pdf).metadata)
    assert len(DISCLAIMER) == 208 and len(DISCLAIMER_SHA256) == 64


@pytest.mark.parametrize("large_print", [False, True])
def test_the_document_claims_universal_accessibility(large_print: bool) -> None:
    made = render(saying("office fluff\n  indented"), large_print=large_print)
    root = read(made.pdf).root_object
    assert str(root["/Lang"]) == "en-GB" and {"/MarkInfo", "/StructTreeRoot"} <= set(root)
    assert "http://www.aiim.org/pdfua/ns/id/" in described(made.pdf)
    assert "office fluff" in words(made.pdf)


def test_a_character_that_no_font_has_costs_the_claim_and_not_the_report() -> None:
    made = render(saying("Before \U0001f9ff\u13a0\ufdfd after"))
    assert "Before" in words(made.pdf) and "after" in words(made.pdf)
    assert "/StructTreeRoot" in read(made.pdf).root_object


def test_the_hospitals_document_follows_on_pages_of_its_own() -> None:
    theirs = render(saying("Written by the hospital.\n" * 60)).pdf
    with_document = replace(REPORT, sections=(replace(REPORT.sections[0], text="", pdf=theirs),))
    made = render(with_document)
    assert len(read(made.pdf).pages) == 1 + len(read(theirs).pages)
    assert "Written by the hospital." in words(made.pdf)
    assert "PDF of this report" in made.text and "PDF of this report" in html.unescape(made.html)


@pytest.mark.parametrize("broken", [b"%PDF-1.7 broken", b"no document at all"])
def test_a_document_that_cannot_be_drawn_is_attached_as_it_came(broken: bytes) -> None:
    made = render(replace(REPORT, sections=(replace(REPORT.sections[0], pdf=broken),)))
    assert read(made.pdf).attachments["report-1.pdf"] == [broken]
