"""A trust's footnote stands once below its reports, beside the disclaimer and never in its place (REL-05)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.channels.rendering.forms import render
from tests.channels.test_rendering import DISCLAIMER, REPORT, pages

FOOTNOTE = "It is written for doctors and uses their words."


@pytest.mark.parametrize("footnote", ["", FOOTNOTE])
def test_a_footnote_stands_once_where_the_trust_has_one_and_the_disclaimer_all_the_same(footnote: str) -> None:
    made = render(replace(REPORT, footnote=footnote))
    for form in (made.html, made.text, pages(made.pdf)):
        assert form.count(FOOTNOTE) == bool(footnote)
        assert form.count(DISCLAIMER) == 1


def test_markup_in_a_footnote_stays_text() -> None:
    made = render(replace(REPORT, footnote="<b>bold</b> #emph[x]"))
    assert "<b>bold</b>" not in made.html
    assert "<b>bold</b> #emph[x]" in made.text
    assert "<b>bold</b> #emph[x]" in pages(made.pdf)
