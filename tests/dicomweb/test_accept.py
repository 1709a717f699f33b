"""Accept headers as real clients send them, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.accept import DICOM_JSON, JSON, accepts_gzip, json_type, media_ranges
from gateway.model.errors import NotAcceptable

REAL_HEADERS = {
    "": DICOM_JSON,
    "*/*": DICOM_JSON,
    "application/dicom+json": DICOM_JSON,
    "application/json": JSON,
    "application/json, text/plain, */*": DICOM_JSON,
    "application/*": DICOM_JSON,
    "APPLICATION/DICOM+JSON": DICOM_JSON,
    "application/dicom+json; charset=utf-8": DICOM_JSON,
    'application/dicom+json; transfer-syntax="*"': DICOM_JSON,
    # OHIF behind nginx (OHIF 3990).
    "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=*": (
        DICOM_JSON
    ),
    'multipart/related; type="application/dicom+xml", application/dicom+json;q=0.5': DICOM_JSON,
    "application/dicom+json,application/json;q=0.9": DICOM_JSON,
    "application/dicom+json;q=0.2,application/json;q=0.9": JSON,
    # Browsers and Java's own client.
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": DICOM_JSON,
    "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2": DICOM_JSON,
    # Nothing readable is as good as nothing.
    ",,;": DICOM_JSON,
    "json": DICOM_JSON,
    '"': DICOM_JSON,
    "application/dicom+json;q=high": DICOM_JSON,
    "application/dicom+json;q=0;q=1": DICOM_JSON,
    "*/*;q=0, application/dicom+json": DICOM_JSON,
    "application/dicom+json;q=0, */*": JSON,
}

CANNOT_BE_MADE = (
    "image/png",
    'multipart/related; type="application/dicom+xml"',
    "multipart/related;type=application/dicom+xml",
    "application/dicom+xml",
    'multipart/related; type="application/dicom"',
    "text/html",
    "text/*",
    "*/*;q=0",
    "application/dicom+json;q=0",
    "application/dicom+json;q=0.000, application/json;q=0",
)


@pytest.mark.parametrize(("header", "answered"), REAL_HEADERS.items())
def test_a_real_accept_header_gets_the_json_it_can_read(header: str, answered: str) -> None:
    assert json_type(header) == answered


def test_an_absent_accept_header_gets_dicom_json() -> None:
    assert json_type(None) == DICOM_JSON


@pytest.mark.parametrize("header", CANNOT_BE_MADE)
def test_a_header_that_takes_no_json_is_refused(header: str) -> None:
    with pytest.raises(NotAcceptable):
        json_type(header)


def test_the_accept_parameter_overrides_the_header() -> None:
    assert json_type("image/png", "application/json") == JSON
    with pytest.raises(NotAcceptable):
        json_type("application/dicom+json", "image/png")


def test_a_plus_sign_that_became_a_space_is_still_a_plus_sign() -> None:
    assert json_type(None, "application/dicom json") == DICOM_JSON


def test_a_quoted_comma_does_not_end_a_range() -> None:
    [first, second] = media_ranges('multipart/related; type="a,b;c"; q=0.5, */*;q=0.1')
    assert first.parameters == (("type", "a,b;c"),) and first.weight == 0.5
    assert second.specificity("image/png") == 1


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("*", True),
        ("identity;q=1, *;q=0.5", True),
        ("GZIP;q=0.1", True),
        ("x-gzip", True),
        ("", False),
        (None, False),
        ("identity", False),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("br", False),
    ],
)
def test_gzip_is_used_only_where_it_is_accepted(header: str | None, wanted: bool) -> None:
    assert accepts_gzip(header) is wanted


@given(st.text(max_size=300), st.none() | st.text(max_size=100))
def test_any_text_is_either_answered_or_refused(header: str, parameter: str | None) -> None:
    try:
        assert json_type(header, parameter) in (DICOM_JSON, JSON)
    except NotAcceptable:
        assert media_ranges(header) or media_ranges(parameter or "")


@given(st.text(alphabet='aplic/on.dm+js*;q=01, "\\', max_size=200))
def test_text_that_looks_like_a_header_never_breaks_the_parser(header: str) -> None:
    for media_range in media_ranges(header):
        assert 0 <= media_range.weight <= 1 and media_range.type and media_range.subtype
    accepts_gzip(header)


def test_many_ranges_are_read_only_up_to_a_limit() -> None:
    assert len(media_ranges("a/b," * 10_000)) == 64
