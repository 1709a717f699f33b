"""docs/conformance.md says what the code does: names that stand in both are compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicomweb.answer import INSTANCE_RETURN, SERIES_RETURN, STUDY_RETURN
from dicomweb.connector import PAGE_ROWS_MAX, Quirk
from dicomweb.listener import CORRELATION_HEADER, HEADER_LINES_MAX, HOPS_HEADER, PURPOSE_HEADER
from dicomweb.notices import FUZZY_NOT_SUPPORTED, NOTICE_HEADER, SENTENCE, SNAPSHOT_HEADER, SOURCES_HEADER
from dicomweb.problem import FORMS
from dicomweb.qido import RESOURCES
from gateway.model.attributes import MATCHING, keyword_of
from gateway.model.imaging import Level, SourceState

STATEMENT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
ONE_LINE = re.sub(r"\n(> )?", " ", STATEMENT)


def row(level: str, section: str) -> str:
    """The table row of a level in a section."""
    return next(line for line in STATEMENT.split(section)[1].splitlines() if line.startswith(f"| {level} |"))


@pytest.mark.parametrize(
    ("level", "name"), [(Level.STUDY, "study"), (Level.SERIES, "series"), (Level.IMAGE, "instance")]
)
def test_the_matching_keys_of_each_level_are_stated(level: Level, name: str) -> None:
    above = {Level.STUDY: frozenset(), Level.SERIES: MATCHING[Level.STUDY], Level.IMAGE: MATCHING[Level.SERIES]}
    stated = set(re.findall(r"[A-Z][A-Za-z.]+", row(name, "### 1.3")))
    assert stated == {".".join(map(keyword_of, path)) for path in MATCHING[level] - above[level]}


@pytest.mark.parametrize(
    ("name", "returned"), [("study", STUDY_RETURN), ("series", SERIES_RETURN), ("instance", INSTANCE_RETURN)]
)
def test_the_returned_attributes_of_each_level_are_stated(name: str, returned: tuple[str, ...]) -> None:
    assert re.findall(r"\b[0-9A-F]{8}\b", row(name, "### 1.4")) == list(returned)


def test_resources_quirks_headers_states_and_statuses_are_stated() -> None:
    names = [resource.path for resource in RESOURCES]
    names += [*Quirk, *SourceState]
    names += [NOTICE_HEADER, SOURCES_HEADER, SNAPSHOT_HEADER, CORRELATION_HEADER, HOPS_HEADER, PURPOSE_HEADER]
    assert [name for name in names if f"`{name}`" not in STATEMENT] == []
    assert [form.status for form in FORMS.values() if not re.search(rf"\b{form.status}\b", STATEMENT)] == []


def test_quoted_texts_and_figures_are_those_of_the_code() -> None:
    assert SENTENCE in ONE_LINE and FUZZY_NOT_SUPPORTED in ONE_LINE
    assert f"`limit` of at most {PAGE_ROWS_MAX}" in STATEMENT and f"at most {HEADER_LINES_MAX} headers" in ONE_LINE
