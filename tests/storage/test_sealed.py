"""The sealed format: what was sealed comes back, nothing else opens, and Tink says the same."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tink  # type: ignore[import-untyped]  # ships no types
from hypothesis import given
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import (  # type: ignore[import-untyped]  # as above
    aes_gcm_hkdf_streaming_pb2,
    common_pb2,
    tink_pb2,
)

from gateway.model.errors import Damaged
from storage.cache.sealed import (
    HEAD_BYTES,
    KEY_ID_BYTES,
    MAGIC,
    PREAMBLE_BYTES,
    SEGMENT_BYTES,
    STREAM_HEADER_BYTES,
    TAG_BYTES,
    Opener,
    Sealer,
    key_id_of,
    preamble,
    sealed_length,
)

KEY, KEY_ID, CONTEXT = bytes(range(32)), b"key-of-one-study", b"study 1.2, instance 3.4, version 1"
FIRST = SEGMENT_BYTES - STREAM_HEADER_BYTES - TAG_BYTES
NEXT = SEGMENT_BYTES - TAG_BYTES
BORDERS = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + NEXT - 1, FIRST + NEXT, FIRST + NEXT + 1, 3 * NEXT]
VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "sealed-vectors.json").read_text(encoding="utf-8"))


def counted(start: int = 0) -> Callable[[int], bytes]:
    """A source of "random" bytes that are known: counted up."""
    position = start

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return bytes(at % 256 for at in range(position - count, position))

    return take


def seal(plain: bytes, *, pieces: list[int] | None = None, context: bytes = CONTEXT, start: int = 0) -> bytes:
    """Seal, handed over in pieces of these lengths and then the rest."""
    sealer = Sealer(KEY_ID, KEY, context, counted(start))
    parts, at = [sealer.head], 0
    for length in pieces or []:
        parts += sealer.add(plain[at : at + length])
        at += length
    return b"".join((*parts, *sealer.add(memoryview(plain)[at:]), sealer.finish()))


def opened(sealed: bytes, *, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    """Open all segments in their order."""
    opener = Opener(key, context, sealed[:HEAD_BYTES], len(sealed))
    return b"".join(segment(opener, sealed, number) for number in opener.spans())


def segment(opener: Opener, sealed: bytes, number: int) -> bytes:
    """Open one segment from where it lies."""
    span = opener.span(number)
    return opener.open(number, sealed[span.sealed_at : span.sealed_at + span.sealed_bytes])


def filled(length: int) -> bytes:
    """Bytes that differ from segment to segment."""
    return (b"%d;" * 40_000 % tuple(range(40_000)) * (1 + length // 200_000))[:length]


def tinks() -> streaming_aead.StreamingAead:
    """Tink's own primitive over the same key."""
    streaming_aead.register()
    parameters = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT_BYTES, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=KEY, params=parameters)
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=key.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    entry = tink_pb2.Keyset.Key(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW, key_data=data)
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[entry]).SerializeToString()
    return tink.proto_keyset_format.parse(keyset, secret_key_access.TOKEN).primitive(streaming_aead.StreamingAead)


class Kept(io.BytesIO):
    """Keeps what was written to it when it is closed."""

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("length", BORDERS)
def test_what_was_sealed_comes_back_at_every_border_of_segments(length: int) -> None:
    plain = filled(length)
    sealed = seal(plain)
    assert len(sealed) == sealed_length(length)
    assert opened(sealed) == plain
    assert Opener(KEY, CONTEXT, sealed[:HEAD_BYTES], len(sealed)).plain_bytes == length


@pytest.mark.parametrize("length", BORDERS)
def test_tink_opens_what_we_seal_and_we_open_what_tink_seals(length: int) -> None:
    plain, primitive, info = filled(length), tinks(), preamble(KEY_ID) + CONTEXT
    with primitive.new_decrypting_stream(io.BytesIO(seal(plain)[PREAMBLE_BYTES:]), info) as stream:
        assert stream.read() == plain
    kept = Kept()
    with primitive.new_encrypting_stream(kept, info) as stream:
        stream.write(plain)
    assert opened(preamble(KEY_ID) + kept.getvalue()) == plain


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_published_vectors_open_for_ever(vector: dict[str, str]) -> None:
    sealed, key, context = (bytes.fromhex(vector[name]) for name in ("sealed", "key", "context"))
    assert opened(sealed, key=key, context=context) == bytes.fromhex(vector["plain"])
    assert key_id_of(sealed) == bytes.fromhex(vector["key_id"])


@given(
    length=st.integers(0, 2 * SEGMENT_BYTES),
    pieces=st.lists(st.one_of(st.integers(0, 40), st.integers(0, SEGMENT_BYTES)), max_size=6),
)
def test_how_the_bytes_were_handed_over_changes_nothing(length: int, pieces: list[int]) -> None:
    plain = filled(length)
    assert seal(plain, pieces=pieces) == seal(plain)


@given(data=st.data())
def test_any_range_opens_by_its_own_segments_alone(data: st.DataObject) -> None:
    plain = filled(3 * SEGMENT_BYTES)
    sealed = seal(plain)
    opener = Opener(KEY, CONTEXT, sealed[:HEAD_BYTES], len(sealed))
    first = data.draw(st.integers(0, len(plain) - 1))
    last = data.draw(st.integers(first, len(plain) + 10))
    spans = opener.spans(first, last)
    found = b"".join(segment(opener, sealed, number) for number in spans)
    begins = opener.span(spans[0]).plain_at
    assert found[first - begins : last + 1 - begins] == plain[first : last + 1]
    assert len(found) < last - first + 1 + 2 * SEGMENT_BYTES


SHORT = seal(filled(60))


@given(at=st.integers(0, len(SHORT) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(at: int, bit: int) -> None:
    flipped = bytearray(SHORT)
    flipped[at] ^= 1 << bit
    with pytest.raises(Damaged):
        opened(bytes(flipped))


LONG = seal(filled(2 * SEGMENT_BYTES + 500))


@pytest.mark.parametrize(
    "length",
    [
        *(0, 31, 32, HEAD_BYTES, HEAD_BYTES + 15, len(LONG) - 1),
        *(PREAMBLE_BYTES + count * SEGMENT_BYTES + more for count in (1, 2) for more in (0, 8, 40)),
    ],
)
def test_an_object_that_was_cut_does_not_open(length: int) -> None:
    with pytest.raises(Damaged):
        opened(LONG[:length])


def test_an_object_that_grew_does_not_open() -> None:
    for more in (b"\0", bytes(16), bytes(SEGMENT_BYTES)):
        with pytest.raises(Damaged):
            opened(LONG + more)


def test_segments_that_changed_places_do_not_open() -> None:
    first, second = PREAMBLE_BYTES + SEGMENT_BYTES, PREAMBLE_BYTES + 2 * SEGMENT_BYTES
    sealed = seal(filled(4 * SEGMENT_BYTES))
    third = second + SEGMENT_BYTES
    with pytest.raises(Damaged):
        opened(sealed[:first] + sealed[second:third] + sealed[first:second] + sealed[third:])


def test_a_segment_of_another_object_does_not_open() -> None:
    plain, cut = filled(2 * SEGMENT_BYTES + 500), PREAMBLE_BYTES + SEGMENT_BYTES
    other = seal(plain, start=7)
    with pytest.raises(Damaged):
        opened(LONG[:cut] + other[cut:])


@pytest.mark.parametrize(
    "open_wrongly",
    [
        partial(opened, key=bytes(32)),
        partial(opened, context=b"study 1.2, instance 3.5, version 1"),
        partial(opened, context=b"study 1.2, instance 3.4, version 2"),
    ],
)
def test_it_opens_as_nothing_but_what_it_was_sealed_as(open_wrongly: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Damaged):
        open_wrongly(SHORT)


@pytest.mark.parametrize("head", [b"", MAGIC, b"DICM" + SHORT[4:], SHORT[:8] + b"\2" + SHORT[9:]])
def test_what_is_no_sealed_object_is_told_apart(head: bytes) -> None:
    with pytest.raises(Damaged):
        key_id_of(head)


def test_two_objects_of_one_key_share_no_stream_key_and_no_nonce() -> None:
    one, other = SHORT, seal(filled(60), start=99)
    assert one[PREAMBLE_BYTES + 1 : HEAD_BYTES] != other[PREAMBLE_BYTES + 1 : HEAD_BYTES]
    assert one[HEAD_BYTES:] != other[HEAD_BYTES:]


def test_a_key_or_an_id_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(KEY_ID, KEY[:16], CONTEXT, counted())
    with pytest.raises(ValueError, match=f"{KEY_ID_BYTES} bytes"):
        Sealer(b"short", KEY, CONTEXT, counted())


def test_nothing_can_be_added_behind_the_end() -> None:
    sealer = Sealer(KEY_ID, KEY, CONTEXT, counted())
    sealer.finish()
    with pytest.raises(ValueError, match="finished"):
        sealer.add(b"more")
