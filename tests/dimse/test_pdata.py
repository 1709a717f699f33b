"""The byte stream: however the network cuts it, the same is heard; whatever is sent, nothing else happens."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import P_DATA_TF

from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST, Parser, fragment_bytes_max, in_p_data
from dimse.upper_layer.pdu import AbortReason, PduError, PduType

ABORT = b"\x07\0\0\0\0\x04\0\0\x02\x01"


class Heard:
    """Keeps what a parser tells, fragments put together."""

    def __init__(self) -> None:
        self.things: list[tuple[object, ...]] = []
        self._piece = bytearray()

    def p_data_begins(self) -> None:
        self.things.append(("p-data",))

    def fragment(self, context_id: int, control: int, piece: memoryview, is_end: bool) -> None:
        self._piece += piece
        if is_end:
            self.things.append((context_id, control, bytes(self._piece)))
            self._piece.clear()

    def other_pdu(self, pdu_type: PduType, body: bytes) -> None:
        self.things.append((pdu_type, body))


def _heard(stream: bytes, cuts: list[int], *, p_data_bytes_max: int = 0) -> list[tuple[object, ...]]:
    heard = Heard()
    parser = Parser(heard, p_data_bytes_max=p_data_bytes_max, other_bytes_max=4096)
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    for start, end in itertools.pairwise(edges):
        parser.feed(memoryview(bytearray(stream[start:end])))
    assert parser.is_between_pdus
    return heard.things


def _pdu(*fragments: tuple[int, int, bytes]) -> bytes:
    body = b"".join(struct.pack(">IBB", len(data) + 2, context, control) + data for context, control, data in fragments)
    return struct.pack(">BBI", 4, 0, len(body)) + body


FRAGMENTS = st.tuples(st.integers(1, 255), st.integers(0, 3), st.binary(max_size=40))
PDUS = st.lists(FRAGMENTS, min_size=1, max_size=4)


@given(st.lists(PDUS, max_size=4), st.lists(st.integers(0, 10_000), max_size=30))
def test_the_same_is_heard_however_the_stream_is_cut(pdus: list[list[tuple[int, int, bytes]]], cuts: list[int]) -> None:
    stream = b"".join(_pdu(*fragments) for fragments in pdus) + ABORT
    expected: list[tuple[object, ...]] = []
    for fragments in pdus:
        expected += [("p-data",), *fragments]
    expected.append((PduType.ABORT, ABORT[6:]))
    assert _heard(stream, cuts) == expected
    assert _heard(stream, list(range(len(stream)))) == expected, "one byte at a time"


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_any_bytes_are_heard_or_refused_and_a_refusal_is_the_last_word(stream: bytes, cuts: list[int]) -> None:
    heard = Heard()
    parser = Parser(heard, p_data_bytes_max=100, other_bytes_max=100)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    try:
        for start, end in itertools.pairwise(edges):
            parser.feed(memoryview(stream[start:end]))
    except PduError:
        known = list(heard.things)
        parser.feed(memoryview(ABORT))
        assert heard.things == known


@given(
    st.binary(max_size=300), st.none() | st.lists(st.binary(max_size=150), min_size=1, max_size=4), st.integers(64, 200)
)
def test_what_we_cut_others_put_together(command: bytes, data: list[bytes] | None, pdu_bytes: int) -> None:
    buffers = list(in_p_data(5, command, [memoryview(piece) for piece in data or []], fragment_bytes_max(pdu_bytes)))
    stream = b"".join(buffers)
    commands = data_sets = b""
    at = 0
    while at < len(stream):
        length = struct.unpack_from(">I", stream, at + 2)[0]
        assert length <= pdu_bytes
        read = P_DATA_TF()
        read.decode(stream[at : at + 6 + length])
        for item in read.presentation_data_value_items:
            value = item.presentation_data_value
            assert item.context_id == 5 and value is not None
            if value[0] & IS_COMMAND:
                commands += value[1:]
            else:
                data_sets += value[1:]
        at += 6 + length
    assert commands == command
    assert data_sets == b"".join(data or [])
    kinds = [fragment[1] for fragment in _heard(stream, []) if len(fragment) == 3]
    assert kinds.count(IS_COMMAND | IS_LAST) == 1
    assert kinds.count(IS_LAST) == (data is not None)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\x08\0\0\0\0\x04....", AbortReason.UNRECOGNISED_PDU),
        (b"\x00\0\0\0\0\x04....", AbortReason.UNRECOGNISED_PDU),
        (b"\x04\0\0\0\0\x00", AbortReason.INVALID_PARAMETER),
        (b"\x04\0\0\0\0\x05", AbortReason.INVALID_PARAMETER),
        (b"\x04\0\xff\xff\xff\xff", AbortReason.INVALID_PARAMETER),
        (b"\x04\0\0\0\0\x65", AbortReason.INVALID_PARAMETER),
        (_pdu((1, 3, b"abcd"))[:6] + b"\0\0\0\x01\x01\x03abcd", AbortReason.INVALID_PARAMETER),
        (_pdu((1, 3, b"abcd"))[:6] + b"\0\0\0\x07\x01\x03abcd", AbortReason.INVALID_PARAMETER),
        (_pdu((1, 3, b"abcd"))[:6] + b"\0\0\0\x04\x01\x03abcd", AbortReason.INVALID_PARAMETER),
        (b"\x05\0\0\0\0\x05", AbortReason.INVALID_PARAMETER),
        (b"\x07\0\0\0\0\x00", AbortReason.INVALID_PARAMETER),
        (b"\x01\0\0\0\0\x00", AbortReason.INVALID_PARAMETER),
        (b"\x01\0\xff\xff\xff\xff", AbortReason.NOT_SPECIFIED),
        (b"\x01\0\0\0\x10\x01", AbortReason.NOT_SPECIFIED),
    ],
)
def test_a_header_that_cannot_be_is_refused_before_its_body_is_read(stream: bytes, reason: AbortReason) -> None:
    parser = Parser(Heard(), p_data_bytes_max=100, other_bytes_max=4096)
    with pytest.raises(PduError) as refused:
        parser.feed(memoryview(stream))
    assert refused.value.reason is reason


def test_a_p_data_pdu_may_be_as_long_as_agreed_and_not_longer() -> None:
    data = bytes(100 - 6)
    assert _heard(_pdu((1, 2, data)), [], p_data_bytes_max=100)[1:] == [(1, 2, data)]
    with pytest.raises(PduError):
        _heard(_pdu((1, 2, data + b"\0")), [], p_data_bytes_max=100)


def test_other_pdus_may_be_as_long_as_their_limit() -> None:
    stream = b"\x01\0\0\0\x10\x00" + bytes(4096)
    assert _heard(stream, [3, 7, 1000]) == [(PduType.ASSOCIATE_RQ, bytes(4096))]


def test_a_peer_without_a_limit_gets_even_fragments_of_at_most_a_mebibyte() -> None:
    assert fragment_bytes_max(0) == 1024 * 1024
    assert fragment_bytes_max(2**32 - 1) == 1024 * 1024
    assert fragment_bytes_max(16_384) == 16_378
    assert fragment_bytes_max(16_383) == 16_376
