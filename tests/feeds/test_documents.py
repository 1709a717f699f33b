"""RTF as text: what a RIS sends is read, what is cut off or hostile is refused in no time."""

import pytest

from gateway.feeds import documents
from gateway.feeds.documents import NotADocument, plain_lines, plain_rtf
from gateway.feeds.hl7.reading import Unreadable
from tests.feeds.messages import line, message, only, reports, result

RTF = (
    r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}{\f1 Courier;}}\f0\fs20 "
    r"\b Heart\b0  size \'93normal\'94.\par Lungs {\i clear} 5 \u181?m \u-10179?\u-8704?.\par}"
)


def test_rtf_is_read_as_its_text() -> None:
    assert plain_rtf(RTF) == "Heart size \u201cnormal\u201d.\nLungs clear 5 µm \U0001f600."


def test_rtf_of_a_message_is_read_whether_escaped_or_not() -> None:
    for value in (RTF, RTF.replace("\\", "\\E\\")):
        assert only(message(result(), line(value))).content.text.startswith("Heart size")


def test_rtf_over_several_lines_is_one_document_and_text_beside_it_stays() -> None:
    first, second = RTF[:120], RTF[120:]
    assert plain_lines(["Before.", first, second, "After.", RTF])[0:3:2] == ["Before.", "After."]
    assert plain_lines([first, second])[0].startswith("Heart size")


def test_a_link_keeps_its_words() -> None:
    text = r'{\rtf1 See {\field{\*\fldinst{HYPERLINK "http://x.example"}}{\fldrslt{the scan}}} now.}'
    assert plain_rtf(text) == "See the scan now."


@pytest.mark.parametrize("document", [RTF[:-1], RTF + " and more", r"{\rtf1 \u99999999999 x}", r"{\rtf1\uc x}"])
def test_rtf_that_is_cut_off_or_cannot_be_read_is_refused_whole(document: str) -> None:
    with pytest.raises(NotADocument):
        plain_lines([document])
    with pytest.raises(Unreadable):
        reports(message(result(), line("Before."), line(document)))


@pytest.mark.parametrize(
    "inside",
    [
        r"{\fonttbl" + r"\f1\fcharset1 " * 20_000 + "}",
        r"{\field{\*\fldinst{" * 10_000 + "}}" * 10_000 + "}" * 10_000,
        r'{\field{\*\fldinst{HYPERLINK "' + '"' * 50_000 + "}}}",
        r"\f1\fcharset1 " * 20_000,
        "{" * 100_000 + "}" * 100_000,
    ],
)
def test_hostile_rtf_is_read_or_refused_without_searching_for_ever(inside: str) -> None:
    # What is not refused at once would take hours: the limit of a test is the proof.
    assert plain_rtf(r"{\rtf1 " + inside + "x}").endswith("x")


def test_markup_of_another_kind_stays_text() -> None:
    assert plain_lines(["<b>Normal</b>"]) == ["<b>Normal</b>"]


def test_rtf_of_many_lines_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_chars = 0
    find = documents._end_of_group

    def counted(text: str, begin: int = 0, *, depth: int = 0) -> tuple[int | None, int]:
        nonlocal seen_chars
        seen_chars += len(text) - begin
        return find(text, begin, depth=depth)

    monkeypatch.setattr(documents, "_end_of_group", counted)
    values = [r"{\rtf1 Begin", *[r"and {\b go on}"] * 1_000, "}"]
    [text] = plain_lines(values)
    assert text.count("go on") == 1_000
    assert seen_chars <= 2 * sum(map(len, values))
