"""Content: what may differ leaves its digest as it is, and what must not changes it (SAF-35)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from gateway.instances.coercion import plan
from gateway.instances.content import Content, ContentDigest
from gateway.instances.explicit import Rewriting
from gateway.instances.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    NATIVE,
)
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import Element
from tests.instances.real import Real, real_file, real_files
from tests.instances.test_coercion import encoded, parsed

HEADER: dict[str, Element | None] = {
    "00080020": {"vr": "DA", "Value": ["20200101"]},
    "00080050": {"vr": "SH", "Value": ["A1"]},
    "00081030": {"vr": "LO", "Value": ["other words"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "OTHER^NAME"}]},
    "00100020": {"vr": "LO", "Value": ["9990000018"]},
    "00101002": {"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": ["X"]}}]},
}


def digest(body: bytes, transfer_syntax: str, piece_bytes: int = 1_000_000) -> Content:
    """The digest of a whole instance."""
    taking = ContentDigest(transfer_syntax)
    for at in range(0, len(body), piece_bytes):
        taking.add(body[at : at + piece_bytes])
    return taking.finish()


def rewritten(body: bytes, transfer_syntax: str, target: str) -> bytes:
    """The instance in another encoding."""
    rewriting = Rewriting(transfer_syntax, target)
    return rewriting.add(body) + rewriting.finish()


CUT = {"rtplan_truncated.dcm", "MR_truncated.dcm", "DICOMDIR-nooffset", "emri_small_jpeg_2k_lossless_too_short.dcm"}
WHOLE = [real for real in real_files() if real.name not in CUT]


@pytest.mark.parametrize("real", WHOLE, ids=lambda real: str(real.name))
def test_another_header_is_no_other_content(real: Real) -> None:
    before = digest(real.body, real.transfer_syntax)
    coercion = plan(real.body, real.transfer_syntax, HEADER, is_whole=True)
    assert coercion is not None
    body = coercion.prefix + real.body[coercion.replaces :]
    assert digest(body, real.transfer_syntax) == before
    assert digest(real.body, real.transfer_syntax, 777) == before


@pytest.mark.parametrize(
    "real", [real for real in WHOLE if real.transfer_syntax in NATIVE], ids=lambda real: str(real.name)
)
def test_another_encoding_is_no_other_content(real: Real) -> None:
    if real.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN and real.read.get("BitsAllocated") == 32:
        return  # which bytes of such a pixel come first nobody agrees about
    before = digest(real.body, real.transfer_syntax)
    for target in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN):
        assert digest(rewritten(real.body, real.transfer_syntax, target), target) == before


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_one_bit_of_a_pixel_is_other_content(name: str) -> None:
    real = real_file(name)
    before = digest(real.body, real.transfer_syntax)
    at = real.body.rindex(bytes(real.read.PixelData[-60:-40]))
    body = bytearray(real.body)
    body[at] ^= 1
    after = digest(bytes(body), real.transfer_syntax)
    assert after.digest != before.digest and after.can_be_compared(before)


def test_how_pixels_are_cut_into_fragments_is_no_content() -> None:
    real = real_file("JPEG2000.dcm")
    frames = list(generate_frames(real.read.PixelData, number_of_frames=1))
    start = real.body.rindex(b"\xe0\x7f\x10\x00OB") + 12
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    body = real.body[:start] + encapsulate(frames, fragments_per_frame=3, has_bot=True) + end
    assert body != real.body
    assert digest(body, real.transfer_syntax) == digest(real.body, real.transfer_syntax)


def report(change: Callable[[Dataset], None]) -> bytes:
    """A report, changed."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 100"
    found.PatientName = "Zoë"
    found.ValueType = "CONTAINER"
    found.CompletionFlag = "COMPLETE"
    text = Dataset()
    text.ValueType = "TEXT"
    text.TextValue = "Kein Befund für heute"
    number = Dataset()
    number.ValueType = "NUM"
    number.NumericValue = 5
    number.ContentSequence = [text]
    found.ContentSequence = [number, text]
    change(found)
    return encoded(found, EXPLICIT_VR_LITTLE_ENDIAN)


def _nothing(_: Dataset) -> None:
    return


def _words(dataset: Dataset) -> None:
    dataset.ContentSequence[0].ContentSequence[0].TextValue = "Befund"


def _number(dataset: Dataset) -> None:
    dataset.ContentSequence[0].NumericValue = 6


def _one_item_less(dataset: Dataset) -> None:
    dataset.ContentSequence.pop()


def _one_level_less(dataset: Dataset) -> None:
    dataset.ContentSequence = [dataset.ContentSequence[0], *dataset.ContentSequence[0].ContentSequence]
    del dataset.ContentSequence[0].ContentSequence


def _incomplete(dataset: Dataset) -> None:
    dataset.CompletionFlag = "PARTIAL"


@pytest.mark.parametrize("change", [_words, _number, _one_item_less, _one_level_less, _incomplete])
def test_what_a_report_says_is_its_content(change: Callable[[Dataset], None]) -> None:
    before, after = (digest(report(which), EXPLICIT_VR_LITTLE_ENDIAN) for which in (_nothing, change))
    assert before != after and before.kind == after.kind == ""


def _in_unicode(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"


def _open_lengths(dataset: Dataset) -> None:
    dataset["ContentSequence"].is_undefined_length = True
    for item in dataset.ContentSequence:
        item.is_undefined_length_sequence_item = True


def _other_patient(dataset: Dataset) -> None:
    dataset.PatientName = "SOMEBODY^ELSE"


@pytest.mark.parametrize("change", [_in_unicode, _open_lengths, _other_patient])
def test_how_a_report_is_written_is_not(change: Callable[[Dataset], None]) -> None:
    assert digest(report(change), EXPLICIT_VR_LITTLE_ENDIAN) == digest(report(_nothing), EXPLICIT_VR_LITTLE_ENDIAN)


def test_waveforms_and_documents_and_contours_are_content() -> None:
    waveform = real_file("waveform_ecg.dcm")
    changed = waveform.read.WaveformSequence[0].WaveformData[:50]
    body = bytearray(waveform.body)
    body[body.index(bytes(changed))] ^= 1
    assert digest(bytes(body), waveform.transfer_syntax) != digest(waveform.body, waveform.transfer_syntax)
    plan_of_treatment = real_file("rtplan.dcm")
    body = bytearray(plan_of_treatment.body)
    at = parsed(plan_of_treatment.body, plan_of_treatment.transfer_syntax).BeamSequence[0].BeamName.encode()
    body[body.index(at)] ^= 1
    before = digest(plan_of_treatment.body, plan_of_treatment.transfer_syntax)
    assert digest(bytes(body), plan_of_treatment.transfer_syntax) != before


def test_pixels_compressed_and_not_cannot_be_compared() -> None:
    plain, compressed = real_file("MR_small.dcm"), real_file("MR_small_RLE.dcm")
    found = digest(compressed.body, compressed.transfer_syntax)
    assert not found.can_be_compared(digest(plain.body, plain.transfer_syntax))


@given(st.binary(max_size=600), st.sampled_from(sorted(NATIVE)), st.integers(1, 50))
def test_any_bytes_have_a_digest_or_are_refused(body: bytes, transfer_syntax: str, piece_bytes: int) -> None:
    try:
        digest(body, transfer_syntax, piece_bytes)
    except InvalidRequest:
        return
