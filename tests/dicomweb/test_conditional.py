"""Conditions and ranges, at their limits and one past them (RFC 9110 13 and 14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.conditional import NotSatisfiable, Span, entity_tag, has_it, span_of

TAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-0", Span(0, 0)),
        ("bytes=0-99", Span(0, 99)),
        ("bytes=0-100", Span(0, 99)),
        ("bytes=99-", Span(99, 99)),
        ("bytes=-1", Span(99, 99)),
        ("bytes=-100", Span(0, 99)),
        ("bytes=-101", Span(0, 99)),
        ("Bytes= 5-9 ", Span(5, 9)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("nonsense", None),
    ],
)
def test_one_range_is_read_and_anything_else_asks_for_all(header: str | None, span: Span | None) -> None:
    assert span_of(header, None, TAG, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(NotSatisfiable):
        span_of(header, None, TAG, 100)


@pytest.mark.parametrize(
    ("if_range", "is_part"), [(TAG, True), (f" {TAG} ", True), ('"x"', False), (f"W/{TAG}", False)]
)
def test_a_range_of_another_version_asks_for_all(if_range: str, is_part: bool) -> None:
    assert (span_of("bytes=0-1", if_range, TAG, 100) is not None) is is_part


@pytest.mark.parametrize(
    ("header", "is_had"),
    [
        (None, False),
        ("*", True),
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"x", W/"y" ,{TAG}', True),
        ('"x"', False),
        ("abc", False),
        ("", False),
    ],
)
def test_a_version_that_is_named_is_had(header: str | None, is_had: bool) -> None:
    assert has_it(header, TAG) is is_had and has_it(header, f"W/{TAG}") is is_had


@given(st.text())
def test_a_tag_is_always_one_that_can_be_sent_and_known_again(opaque: str) -> None:
    for is_weak in (False, True):
        tag = entity_tag(opaque, is_weak=is_weak)
        assert tag.isascii() and tag.isprintable() and has_it(tag, tag)


@given(st.integers(1, 200), st.integers(0, 250), st.integers(0, 250))
def test_a_span_is_never_outside(size: int, first: int, last: int) -> None:
    try:
        span = span_of(f"bytes={first}-{last}", None, TAG, size)
    except NotSatisfiable:
        assert first >= size and last >= first
        return
    assert span is None or 0 <= span.first <= span.last < size
