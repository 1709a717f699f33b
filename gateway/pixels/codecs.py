"""One frame out of its codec, and into a lossless one: which library does it, and what it is held to (PS3.5 A.4).

Pillow decodes JPEG, python-gdcm JPEG lossless, pyjpegls JPEG-LS, pylibjpeg-openjpeg JPEG 2000 and HTJ2K, pylibjpeg-rle
RLE: each is chosen by name, since pydicom would try GDCM first for all of them. All are MIT, BSD or Apache; the only
decoder of 12-bit JPEG is GPL, and such frames are passed on undecoded. What the code stream says of its size is held
to the header before a decoder is called. Runs in a worker only.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from gateway.instances.frames import PixelLayout
from gateway.instances.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_LOSSLESS,
    RLE,
)
from gateway.model.errors import NotAcceptable
from gateway.pixels.codestream import declared_size

DECODED_BY = MappingProxyType(
    {
        IMPLICIT_VR_LITTLE_ENDIAN: "",
        EXPLICIT_VR_LITTLE_ENDIAN: "",
        EXPLICIT_VR_BIG_ENDIAN: "",
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: "",
        JPEG_BASELINE: "pillow",
        JPEG_EXTENDED: "pillow",
        JPEG_LOSSLESS: "gdcm",
        JPEG_LOSSLESS_SV1: "gdcm",
        JPEG_LS_LOSSLESS: "pyjpegls",
        JPEG_LS: "pyjpegls",
        JPEG_2000_LOSSLESS: "pylibjpeg",
        JPEG_2000: "pylibjpeg",
        HTJ2K_LOSSLESS: "pylibjpeg",
        HTJ2K_LOSSLESS_RPCL: "pylibjpeg",
        HTJ2K: "pylibjpeg",
        RLE: "pylibjpeg",
    }
)
"""By transfer syntax the plug-in of pydicom that decodes it; empty for pixels that are as they are."""

ENCODED_BY = MappingProxyType({JPEG_LS_LOSSLESS: "pyjpegls", JPEG_2000_LOSSLESS: "pylibjpeg", RLE: "pylibjpeg"})
"""The transfer syntaxes that frames are compressed into: without loss."""

Pixels = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame as an array of rows, columns and samples, and what its samples mean now."""

    pixels: Pixels
    photometric_interpretation: str


def decoded(frame: bytes, layout: PixelLayout, *, frame_bytes_max: int, as_rgb: bool) -> Decoded:
    """A frame decoded. `as_rgb` turns luminance and colours into red, green and blue; else samples stay exact.

    Raises `NotAcceptable` where nothing decodes it, where its size is another than the header's, or beyond the limit;
    a decoder may raise anything.
    """
    plugin = DECODED_BY.get(layout.transfer_syntax)
    if plugin is None:
        raise NotAcceptable("nothing decodes pixels of this transfer syntax")
    samples = layout.rows * layout.columns * layout.samples
    if samples * max(1, layout.bits_allocated // 8) > frame_bytes_max:
        raise NotAcceptable("a frame of the instance is larger than is decoded")
    if layout.bits_allocated > 16 and plugin and layout.transfer_syntax != RLE:
        raise NotAcceptable("nothing decodes pixels of so many bits")
    source = frame
    if plugin:
        declared = declared_size(frame, layout.transfer_syntax)
        if declared is not None and declared != (layout.rows, layout.columns, layout.samples):
            raise NotAcceptable("the pixels have another size than the instance's header says")
        source = encapsulate([frame], has_bot=False)
    pixels, facts = get_decoder(UID(layout.transfer_syntax)).as_array(
        source,
        index=0,
        raw=not as_rgb,
        decoding_plugin=plugin,
        **_options(layout),  # type: ignore[arg-type]  # pydicom's own annotation of its options is of one option
    )
    return Decoded(pixels, _meaning(str(facts["photometric_interpretation"])))


def native(found: Decoded, bits_allocated: int) -> bytes:
    """The frame as Explicit VR Little Endian has it, colours pixel by pixel."""
    kind = "i" if found.pixels.dtype.kind == "i" else "u"
    return np.ascontiguousarray(found.pixels.astype(f"<{kind}{bits_allocated // 8}")).tobytes()


def encoded(found: Decoded, layout: PixelLayout, transfer_syntax: str) -> bytes:
    """The frame compressed without loss. Raises `NotAcceptable` for a transfer syntax that is not written."""
    plugin = ENCODED_BY.get(transfer_syntax)
    if plugin is None or layout.bits_allocated not in (8, 16):
        raise NotAcceptable("pixels are not compressed into this transfer syntax")
    options = _options(layout) | {"photometric_interpretation": found.photometric_interpretation}
    if layout.samples > 1:
        options["planar_configuration"] = 0
    options.pop("transfer_syntax_uid")
    encoder = get_encoder(UID(transfer_syntax))
    try:
        written = encoder.encode(
            native(found, layout.bits_allocated),
            encoding_plugin=plugin,
            **options,  # type: ignore[arg-type]  # as above
        )
    except RuntimeError as error:
        # Images of a few pixels are smaller than what some encoders start with.
        raise NotAcceptable("the pixels cannot be compressed into this transfer syntax") from error
    return bytes(written)


def _options(layout: PixelLayout) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "transfer_syntax_uid": UID(layout.transfer_syntax),
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.is_signed),
        "photometric_interpretation": layout.photometric_interpretation,
        "pixel_keyword": "PixelData",
    }
    if layout.samples > 1:
        options["planar_configuration"] = layout.planar_configuration
    if layout.is_floating:
        options["pixel_keyword"] = "FloatPixelData" if layout.bits_allocated == 32 else "DoubleFloatPixelData"
    return options


def _meaning(photometric_interpretation: str) -> str:
    """What decoded samples are called: colours are no longer shared, and code streams have undone their own colours."""
    if photometric_interpretation.startswith("YBR_FULL"):
        return "YBR_FULL"
    return "RGB" if photometric_interpretation in ("YBR_ICT", "YBR_RCT") else photometric_interpretation
