"""Multipart bodies as archives send them, cut wherever a network cuts them; and bodies that must not be believed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.wado.parts import (
    HEAD_BYTES_MAX,
    PREAMBLE_BYTES_MAX,
    PartBegins,
    PartEnds,
    PartsReader,
    media_type,
)
from gateway.model.errors import InvalidRequest, RequestTooLarge

BOUNDARY = "a-boundary.of_37"
BORDER = b"--" + BOUNDARY.encode()


def read(*chunks: bytes, boundary: str = BOUNDARY, parts_max: int = 100) -> list[tuple[dict[str, str], bytes]]:
    """The parts of a body that comes in these chunks."""
    reader = PartsReader(boundary, parts_max=parts_max)
    parts: list[tuple[dict[str, str], bytearray]] = []
    ended = 0
    for chunk in chunks:
        for event in reader.feed(chunk):
            match event:
                case PartBegins(fields):
                    assert ended == len(parts)
                    parts.append((dict(fields), bytearray()))
                case PartEnds():
                    ended += 1
                case piece:
                    assert len(piece) and ended == len(parts) - 1
                    parts[-1][1].extend(piece)
    reader.end()
    assert ended == len(parts)
    return [(fields, bytes(content)) for fields, content in parts]


def written(*contents: bytes, with_length: bool = False) -> bytes:
    body = b"for clients that cannot read this\r\n"
    for content in contents:
        length = b"Content-Length: %d\r\n" % len(content) if with_length else b""
        body += BORDER + b"\r\nContent-Type: application/dicom\r\n" + length + b"\r\n" + content + b"\r\n"
    return body + BORDER + b"--\r\nand nobody reads this"


AWKWARD = (
    b"",
    b"\r",
    b"\r\n",
    b"\r\n--",
    b"\r\n" + BORDER[:-1] + b"X",
    b"\r\r\n\r\n-" + BORDER[2:],
    b"pixels\r\n\r\nmore pixels",
)
"""Contents that look like the beginning of what ends them."""


@pytest.mark.parametrize("with_length", [False, True])
def test_a_body_reads_the_same_wherever_it_is_cut(with_length: bool) -> None:
    body = written(*AWKWARD, with_length=with_length)
    whole = read(body)
    assert [content for _, content in whole] == list(AWKWARD)
    for cut in range(len(body) + 1):
        assert read(body[:cut], body[cut:]) == whole
    assert read(*(body[at : at + 1] for at in range(len(body)))) == whole


@given(
    contents=st.lists(
        st.lists(st.sampled_from([*AWKWARD, BORDER, b"\n", b"-", b"\0"]), max_size=6)
        .map(b"".join)
        # What holds a whole border at the beginning of a line ends there: no writer may choose such a boundary.
        .filter(lambda content: b"\r\n" + BORDER not in b"\r\n" + content),
        max_size=4,
    ),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    with_length=st.booleans(),
)
def test_what_was_written_is_what_is_read(contents: list[bytes], cuts: list[int], with_length: bool) -> None:
    body = written(*contents, with_length=with_length)
    borders = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[first:last] for first, last in pairwise(borders)]
    assert [content for _, content in read(*chunks)] == contents


def test_a_piece_is_a_view_of_what_was_read() -> None:
    reader = PartsReader(BOUNDARY)
    list(reader.feed(BORDER + b"\r\n\r\n"))
    chunk = bytes(100_000)
    [piece] = reader.feed(chunk)
    assert isinstance(piece, memoryview) and piece.obj is chunk and len(piece) == len(chunk)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_do_more_than_be_refused(chunks: list[bytes]) -> None:
    with pytest.raises(InvalidRequest):
        read(*chunks)


def test_a_body_may_begin_at_once_and_have_no_parts() -> None:
    assert read(BORDER + b"--") == []
    assert read(BORDER + b"  \t\r\nX: 1\r\n\r\nbody\r\n" + BORDER + b"--") == [({"x": "1"}, b"body")]


def test_the_fields_of_a_part_are_read() -> None:
    head = b"Content-Type: application/dicom;\r\n\ttransfer-syntax=1.2.840.10008.1.2.4.90\r\nMIME-Version:1.0"
    [(fields, _)] = read(BORDER + b"\r\n" + head + b"\r\n\r\n\r\n" + BORDER + b"--")
    found = PartBegins(fields).media_type
    assert found is not None and found.name == "application/dicom" and fields["mime-version"] == "1.0"
    assert found.parameters == {"transfer-syntax": "1.2.840.10008.1.2.4.90"}


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "abc"),
        ('multipart/related;boundary="uuid:1f+id=1";type="application/dicom";start="<r>"', "uuid:1f+id=1"),
        ("Multipart/Related; type=application/dicom; BOUNDARY=a=b/c ", "a=b/c"),
        (r'multipart/related; boundary="a\"b"', 'a"b'),
        ('multipart/related; start="; boundary=no"; boundary=yes', "yes"),
    ],
)
def test_a_boundary_is_found_quoted_or_not(text: str, boundary: str) -> None:
    found = media_type(text)
    assert found is not None and found.name == "multipart/related" and found.parameters["boundary"] == boundary


def test_what_is_no_media_type_is_none() -> None:
    assert media_type("") is None and media_type("text") is None and media_type("a/b c/d") is None


@pytest.mark.parametrize("boundary", ["", "x" * 201, "ä", "a\nb"])
def test_a_boundary_has_a_limit_and_is_text(boundary: str) -> None:
    with pytest.raises(InvalidRequest):
        PartsReader(boundary)
    assert read(b"--" + b"x" * 200 + b"--", boundary="x" * 200) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        written(b"pixels").partition(b"--\r\nand")[0],
        written(b"pixels").partition(b"\r\n" + BORDER + b"--")[0],
        BORDER + b"junk\r\n\r\n\r\n" + BORDER + b"--",
        BORDER + b"-\r\n\r\n\r\n" + BORDER + b"--",
        BORDER + b"\r\nno field\r\n\r\n\r\n" + BORDER + b"--",
        BORDER + b"\r\nA: 1\r\na: 2\r\n\r\n\r\n" + BORDER + b"--",
        BORDER + b"\r\nContent-Length: 5\r\n\r\nfour\r\n" + BORDER + b"--",
        BORDER + b"\r\nContent-Length: 3\r\n\r\nfour\r\n" + BORDER + b"--",
        BORDER + b"\r\nContent-Length: -1\r\n\r\n\r\n" + BORDER + b"--",
    ],
)
def test_a_body_that_is_cut_or_contradicts_itself_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body)


def test_a_length_that_is_passed_is_noticed_before_the_parts_end() -> None:
    reader = PartsReader(BOUNDARY)
    with pytest.raises(InvalidRequest):
        list(reader.feed(BORDER + b"\r\nContent-Length: 3\r\n\r\nfour and more, and no border yet, for long enough"))


def test_limits_hold_at_the_limit_and_one_past_it() -> None:
    body = written(b"", b"")
    assert len(read(body, parts_max=2)) == 2
    with pytest.raises(RequestTooLarge):
        read(body, parts_max=1)
    room = HEAD_BYTES_MAX - len(b"\r\nX: ")
    assert read(BORDER + b"\r\nX: " + b"y" * room + b"\r\n\r\n\r\n" + BORDER + b"--")
    for closed in (b"\r\n\r\n\r\n" + BORDER + b"--", b""):
        with pytest.raises(RequestTooLarge):
            read(BORDER + b"\r\nX: " + b"y" * (room + 1) + closed)
    assert read(bytes(PREAMBLE_BYTES_MAX) + b"\r\n" + BORDER + b"--") == []
    with pytest.raises(InvalidRequest):
        list(PartsReader(BOUNDARY).feed(bytes(PREAMBLE_BYTES_MAX + 1000)))
