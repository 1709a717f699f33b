"""Accept headers as viewers, libraries and browsers really send them, and the form that each gets (product 4.5)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.accept import json_type
from dicomweb.wado.negotiation import (
    MEDIA_TYPES,
    Packing,
    bulk_packing,
    frame_form,
    instance_form,
    rendered_types,
)
from gateway.model.errors import NotAcceptable

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG, LOSSLESS, JPEG_LS, J2K, RLE = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
)

OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
OHIF_BEHIND_NGINX = (
    "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=*"
)
DICOMWEB_CLIENT = (
    'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1, '
    'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90'
)
WEASIS = (
    'multipart/related;type="application/dicom";transfer-syntax=1.2.840.10008.1.2.4.50;q=0.9,'
    'multipart/related;type="application/dicom";transfer-syntax=1.2.840.10008.1.2.1;q=0.5'
)
GOOGLE = "application/dicom; transfer-syntax=*"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("header", "as_kept", "changed"),
    [
        ("", {EXPLICIT, IMPLICIT, BIG, JPEG, J2K}, set()),
        ("*/*", {EXPLICIT, IMPLICIT, BIG, JPEG, J2K}, set()),
        (BROWSER, {EXPLICIT, IMPLICIT, J2K}, set()),
        ("multipart/related", {EXPLICIT, IMPLICIT, J2K}, set()),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', {EXPLICIT, IMPLICIT, BIG, J2K}, set()),
        ('multipart/related; type="application/dicom"; transfer-syntax="*"', {EXPLICIT, IMPLICIT, BIG, J2K}, set()),
        ("multipart/related; type=application/dicom; transfer-syntax=*", {EXPLICIT, IMPLICIT, J2K}, set()),
        ('MULTIPART/RELATED; TYPE="Application/DICOM"; Transfer-Syntax=*', {EXPLICIT, IMPLICIT, J2K}, set()),
        ('multipart/related; type="application/dicom"', {EXPLICIT, JPEG}, {IMPLICIT, BIG, J2K, JPEG_LS}),
        ('multipart/related; type="application/dicom"; transfer-syntax=', {EXPLICIT, JPEG}, {IMPLICIT, J2K}),
        (DICOMWEB_CLIENT, {EXPLICIT, J2K}, {IMPLICIT, JPEG}),
        (WEASIS, {JPEG, EXPLICIT}, {IMPLICIT, J2K}),
        (
            'multipart/related; type="application/dicom"; transfer-syntax="1.2.840.10008.1.2.4.90,1.2.840.10008.1.2"',
            {J2K, IMPLICIT},
            {EXPLICIT, JPEG},
        ),
        (f'{GOOGLE}, multipart/related; type="application/dicom"; transfer-syntax=*', {EXPLICIT, J2K}, set()),
        ('image/jpeg, nonsense;;, multipart/related; type="application/dicom"', {EXPLICIT}, {IMPLICIT}),
    ],
)
def test_a_study_is_given_as_it_is_kept_wherever_it_is_taken_so(
    header: str, as_kept: set[str], changed: set[str]
) -> None:
    form = instance_form(header)
    assert form.packing is Packing.PARTS
    assert {each for each in as_kept | changed if form.syntaxes.take(each)} == as_kept


@pytest.mark.parametrize(
    "header",
    [
        "application/dicom+json",
        'multipart/related; type="application/octet-stream"',
        'multipart/related; type="application/dicom+xml"',
        'multipart/related; type="image/jp2"',
        "image/jpeg",
        "application/zip",
        'multipart/related; type="application/dicom"; q=0',
        GOOGLE,
    ],
)
def test_a_study_that_cannot_be_made_so_is_refused(header: str) -> None:
    with pytest.raises(NotAcceptable):
        instance_form(header)


@pytest.mark.parametrize(
    ("header", "packing"),
    [
        (GOOGLE, Packing.SINGLE),
        ("application/dicom", Packing.SINGLE),
        ("application/*", Packing.SINGLE),
        ("*/*", Packing.PARTS),
        ("", Packing.PARTS),
        ('application/dicom; q=0.5, multipart/related; type="application/dicom"', Packing.PARTS),
        ('multipart/related; type="application/dicom"; q=0.5, application/dicom', Packing.SINGLE),
        ('multipart/related; type="application/dicom";q=0, */*, application/dicom;q=0.1', Packing.PARTS),
    ],
)
def test_one_instance_is_given_in_the_packing_that_is_liked_best(header: str, packing: Packing) -> None:
    assert instance_form(header, is_one=True).packing is packing


def test_the_accept_parameter_stands_above_the_header() -> None:
    assert instance_form("application/dicom+json", "application/dicom", is_one=True).packing is Packing.SINGLE


def test_what_is_made_of_others_is_what_the_caller_named_first() -> None:
    assert instance_form(WEASIS).syntaxes.makeable == (JPEG, EXPLICIT)
    assert instance_form('multipart/related; type="application/dicom"').syntaxes.makeable == (EXPLICIT,)


@pytest.mark.parametrize(
    ("header", "stored", "content_type", "as_stored"),
    [
        (OHIF_FRAMES, EXPLICIT, f"application/octet-stream; transfer-syntax={EXPLICIT}", True),
        (OHIF_FRAMES, J2K, f"application/octet-stream; transfer-syntax={J2K}", True),
        (OHIF_BEHIND_NGINX, J2K, f"application/octet-stream; transfer-syntax={J2K}", True),
        ('multipart/related; type="application/octet-stream"', EXPLICIT, "application/octet-stream", True),
        ('multipart/related; type="application/octet-stream"', IMPLICIT, "application/octet-stream", True),
        ('multipart/related; type="application/octet-stream"', J2K, "application/octet-stream", False),
        ('multipart/related; type="application/octet-stream"', BIG, "application/octet-stream", False),
        ('multipart/related; type="image/jp2"', J2K, f"image/jp2; transfer-syntax={J2K}", True),
        ("multipart/related; type=image/jls", JPEG_LS, f"image/jls; transfer-syntax={JPEG_LS}", True),
        ("multipart/related; type=image/x-jls", JPEG_LS, f"image/jls; transfer-syntax={JPEG_LS}", True),
        ("multipart/related; type=image/x-dicom-rle", RLE, f"image/dicom-rle; transfer-syntax={RLE}", True),
        ('multipart/related; type="image/jpeg"', LOSSLESS, f"image/jpeg; transfer-syntax={LOSSLESS}", True),
        (
            f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG}',
            JPEG,
            f"image/jpeg; transfer-syntax={JPEG}",
            True,
        ),
        ("*/*", J2K, f"image/jp2; transfer-syntax={J2K}", True),
        ("", EXPLICIT, f"application/octet-stream; transfer-syntax={EXPLICIT}", True),
        (
            'multipart/related; type="application/octet-stream", multipart/related; type="image/jp2"',
            J2K,
            f"image/jp2; transfer-syntax={J2K}",
            True,
        ),
        (
            'multipart/related; type="application/octet-stream", multipart/related; type="image/jp2"; q=0.5',
            J2K,
            "application/octet-stream",
            False,
        ),
    ],
)
def test_frames_are_named_by_what_they_are(header: str, stored: str, content_type: str, as_stored: bool) -> None:
    form = frame_form(header, None, stored, frames=3)
    assert form.packing is Packing.PARTS and form.is_as_stored is as_stored
    assert form.content_type.startswith(content_type)


@pytest.mark.parametrize(
    ("header", "stored"),
    [
        ('multipart/related; type="image/jp2"', JPEG_LS),
        (f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG}', LOSSLESS),
        ('multipart/related; type="image/jp2"', EXPLICIT),
        ("application/dicom+json", EXPLICIT),
        (f'multipart/related; type="application/octet-stream"; transfer-syntax={JPEG}', J2K),
        ("application/octet-stream", EXPLICIT),
    ],
)
def test_frames_that_cannot_be_made_so_are_refused(header: str, stored: str) -> None:
    with pytest.raises(NotAcceptable):
        frame_form(header, None, stored, frames=3)


def test_one_frame_may_stand_by_itself() -> None:
    assert frame_form("application/octet-stream", None, EXPLICIT, frames=1).packing is Packing.SINGLE
    assert frame_form("image/jp2", None, J2K, frames=1).packing is Packing.SINGLE


def test_every_media_type_of_frames_is_told_by_its_syntax_alone() -> None:
    for stored, media_type in MEDIA_TYPES.items():
        form = frame_form(f'multipart/related; type="{media_type}"; transfer-syntax={stored}', None, stored, 2)
        assert (form.media_type, form.transfer_syntax) == (media_type, stored)


@pytest.mark.parametrize(
    ("header", "packing"),
    [
        ("", Packing.SINGLE),
        ("*/*", Packing.SINGLE),
        (BROWSER, Packing.SINGLE),
        ("application/octet-stream", Packing.SINGLE),
        ('multipart/related; type="application/octet-stream"', Packing.PARTS),
        ('multipart/related; type="*/*"', Packing.PARTS),
    ],
)
def test_a_bulk_value_stands_by_itself_unless_parts_are_asked_for(header: str, packing: Packing) -> None:
    assert bulk_packing(header) is packing


def test_a_bulk_value_is_nothing_but_bytes() -> None:
    with pytest.raises(NotAcceptable):
        bulk_packing("image/jpeg")


@pytest.mark.parametrize(
    ("header", "parameter", "types"),
    [
        ("", None, ["image/jpeg", "image/png"]),
        (BROWSER, None, ["image/jpeg", "image/png"]),
        ("image/png", None, ["image/png"]),
        ("image/png;q=0.2, image/*;q=0.9", None, ["image/jpeg", "image/png"]),
        ("image/jpeg;q=0.2, image/png", None, ["image/png", "image/jpeg"]),
        ("image/jpeg", "image/png", ["image/png"]),
        ("image/gif", None, []),
        ("*/*, image/jpeg;q=0", None, ["image/png"]),
    ],
)
def test_pictures_are_offered_in_the_order_that_is_liked(header: str, parameter: str | None, types: list[str]) -> None:
    assert rendered_types(header, parameter, ["image/jpeg", "image/png"]) == types


def test_ohif_behind_a_proxy_gets_json_for_metadata() -> None:
    assert json_type(OHIF_BEHIND_NGINX) == "application/dicom+json"


_PIECES = st.sampled_from(
    [
        "multipart/related",
        "application/dicom",
        "*/*",
        "type=",
        '"',
        ";",
        ",",
        "transfer-syntax=",
        "*",
        "q=0.5",
        "q=x",
        J2K,
    ]
)


@given(st.lists(_PIECES | st.text(max_size=5), max_size=12).map("".join))
def test_whatever_a_header_says_it_is_given_a_form_or_refused(header: str) -> None:
    for read in (
        lambda: instance_form(header, is_one=True),
        lambda: frame_form(header, None, J2K, 1),
        lambda: bulk_packing(header),
        lambda: rendered_types(header, None, ["image/png"]),
    ):
        with suppress(NotAcceptable):
            assert read() is not None
