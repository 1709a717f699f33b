"""A decoded frame as a picture for a screen (PS3.3 C.7.6.3, C.11.1 and C.11.2, C.8.11.3; PS3.4 N.2).

Stored values become values of the modality, those grey by the window that was asked for, else by the instance's own
table or first window, else by all that the pixels hold; palettes become colours; MONOCHROME1 is turned round. Whole
numbers go through one table of all values that occur, so that an image costs a look-up a pixel. What an enhanced
image says of one frame, or of all, counts for that frame. Runs in a worker only.
"""

from __future__ import annotations

from io import BytesIO
from struct import pack

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from gateway.instances.frames import PixelLayout
from gateway.pixels.codecs import Decoded, Pixels
from gateway.pixels.wishes import Media, PictureWish, Window, WindowFunction

_TABLE_MAX = 1 << 17
_GREY = NDArray[np.float64]
_BYTES = NDArray[np.uint8]
_OF_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OF_VALUES = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def header(head: bytes, transfer_syntax: str, number: int) -> Dataset:
    """What the instance says that its pixels mean, for one of its frames."""
    uid = transfer_syntax.encode("ascii") + b"\0" * (len(transfer_syntax) % 2)
    element = pack("<HH2sH", 0x0002, 0x0010, b"UI", len(uid)) + uid
    meta = pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(element)) + element
    found = dcmread(BytesIO(bytes(128) + b"DICM" + meta + head), stop_before_pixels=True)
    for place, groups in enumerate(_OF_FRAMES):
        items = found.get(groups) or []
        item = items[number - 1 if place else 0] if len(items) >= (number if place else 1) else Dataset()
        for group in _OF_VALUES:
            for values in item.get(group) or []:
                for element_of_frame in values:
                    found[element_of_frame.tag] = element_of_frame
    return found


def picture(found: Decoded, wish: PictureWish, header: Dataset, layout: PixelLayout) -> bytes:
    """The picture in the kind and size that was asked for."""
    pixels = _thinned(found.pixels, wish)
    if found.photometric_interpretation == "PALETTE COLOR":
        shown = _bytes_of_colours(apply_color_lut(pixels, header), 0)
    elif pixels.ndim == 3:
        shown = _bytes_of_colours(pixels, layout.bits_stored)
    else:
        shown = _grey(pixels, wish.window, header, is_inverse=found.photometric_interpretation == "MONOCHROME1")
    return _encoded(shown, wish)


def _thinned(pixels: Pixels, wish: PictureWish) -> Pixels:
    """Every so manieth pixel, where the picture is much smaller than the image: a thumbnail costs no gigabyte."""
    rows, columns = pixels.shape[:2]
    width, height = wish.width_max or columns, wish.height_max or rows
    step = max(1, int(max(columns / width, rows / height)) // 4)
    return pixels[::step, ::step]


def _grey(pixels: Pixels, window: Window | None, header: Dataset, *, is_inverse: bool) -> _BYTES:
    if header.get("PresentationLUTShape") == "INVERSE":
        is_inverse = True
    if pixels.dtype.kind not in "iu":
        return _levels(pixels, window, header, is_inverse=is_inverse)
    lowest, highest = int(pixels.min()), int(pixels.max())
    if highest - lowest >= _TABLE_MAX:
        return _levels(pixels, window, header, is_inverse=is_inverse)
    table = _levels(np.arange(lowest, highest + 1, dtype=np.int32), window, header, is_inverse=is_inverse)
    return table[pixels.astype(np.int32) - lowest]


def _levels(values: Pixels, window: Window | None, header: Dataset, *, is_inverse: bool) -> _BYTES:
    """Grey from 0 to 255 for stored values."""
    level = _shown(apply_modality_lut(values, header), values, window, header)
    found = np.rint(np.clip(np.nan_to_num(level), 0.0, 1.0) * 255).astype(np.uint8)
    return 255 - found if is_inverse else found


def _shown(values: Pixels, stored: Pixels, window: Window | None, header: Dataset) -> _GREY:
    """From 0, black, to 1, white."""
    if window is None and header.get("VOILUTSequence"):
        depth = int(header.VOILUTSequence[0].LUTDescriptor[2])
        whole = values if values.dtype.kind in "iu" else np.rint(values).astype(np.int32)
        levels: _GREY = np.asarray(apply_voi(whole, header), np.float64) / (2**depth - 1)
        return levels
    window = window or _own_window(header) or _whole_range(values, stored, header)
    return _windowed(values.astype(np.float64), window)


def _own_window(header: Dataset) -> Window | None:
    centre, width = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    if centre is None or width is None:
        return None
    name = str(header.get("VOILUTFunction") or "LINEAR").upper()
    function = WindowFunction(name) if name in set(WindowFunction) else WindowFunction.LINEAR
    found = Window(centre, width, function)
    return found if found.is_possible else None


def _first(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    if value is None or value == "":
        return None
    try:
        return float(value if isinstance(value, str | int | float) else value[0])
    except (ValueError, TypeError, IndexError):
        return None


def _whole_range(values: Pixels, stored: Pixels, header: Dataset) -> Window:
    """From the least value to the greatest, without what pads images that are not square."""
    padding = header.get("PixelPaddingValue")
    if isinstance(padding, int):
        inside = values[stored != padding]
        values = inside if inside.size else values
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Window((lowest + highest) / 2, max(highest - lowest, 1e-9), WindowFunction.LINEAR_EXACT)


def _windowed(values: _GREY, window: Window) -> _GREY:
    centre, width = window.centre, window.width
    if window.function is WindowFunction.SIGMOID:
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if window.function is WindowFunction.LINEAR:
        centre, width = centre - 0.5, width - 1.0
    if width <= 0:
        return (values > centre).astype(np.float64)
    return (values - centre) / width + 0.5


def _bytes_of_colours(pixels: Pixels, bits_stored: int) -> _BYTES:
    """Colours with eight bits a sample."""
    shift = max(0, (bits_stored or pixels.dtype.itemsize * 8) - 8)
    return np.right_shift(pixels.astype(np.uint16), shift).astype(np.uint8)[..., :3]


def _encoded(shown: _BYTES, wish: PictureWish) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(shown))
    if wish.width_max or wish.height_max:
        width, height = wish.width_max or image.width, wish.height_max or image.height
        scale = min(width / image.width, height / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX)
    into = BytesIO()
    match wish.media:
        case Media.JPEG:
            image.save(into, "JPEG", quality=wish.quality)
        case Media.PNG:
            image.save(into, "PNG", compress_level=3)
    return into.getvalue()
