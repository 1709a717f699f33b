"""In what form a caller takes images, by its Accept header or the `accept` parameter (PS3.18 8.7.3 to 8.7.5).

Read with patience, for viewers name types unquoted, twice, in lists and with syntaxes of their own; answered strictly.
What is kept goes out as it is wherever the caller takes it so; 406 is left for what nobody can make. Whether a change
of transfer syntax can be made is not known here. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from dicomweb.accept import MediaRange, media_ranges
from gateway.instances.transfer_syntaxes import (
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
from gateway.model.keys import is_uid

DICOM = "application/dicom"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/related"

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        JPEG_BASELINE: "image/jpeg",
        JPEG_EXTENDED: "image/jpeg",
        JPEG_LOSSLESS: "image/jpeg",
        JPEG_LOSSLESS_SV1: "image/jpeg",
        JPEG_LS_LOSSLESS: "image/jls",
        JPEG_LS: "image/jls",
        JPEG_2000_LOSSLESS: "image/jp2",
        JPEG_2000: "image/jp2",
        "1.2.840.10008.1.2.4.92": "image/jpx",
        "1.2.840.10008.1.2.4.93": "image/jpx",
        HTJ2K_LOSSLESS: "image/jphc",
        HTJ2K_LOSSLESS_RPCL: "image/jphc",
        HTJ2K: "image/jphc",
        RLE: "image/dicom-rle",
        "1.2.840.10008.1.2.4.100": "video/mpeg",
        "1.2.840.10008.1.2.4.101": "video/mpeg",
        "1.2.840.10008.1.2.4.102": "video/mp4",
        "1.2.840.10008.1.2.4.103": "video/mp4",
        "1.2.840.10008.1.2.4.104": "video/mp4",
        "1.2.840.10008.1.2.4.105": "video/mp4",
        "1.2.840.10008.1.2.4.106": "video/mp4",
    }
)
"""How compressed frames are named (PS3.18 Tables 8.7.3-4 and 8.7.3-5), by the transfer syntax that they are kept in."""

LOSSY = frozenset({JPEG_BASELINE, JPEG_EXTENDED, JPEG_LS, JPEG_2000, HTJ2K}) | frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (93, *range(100, 107))
)
"""Where something may have been lost already: unpacked they are larger and no truer."""

_UNPACKED = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""Pixels are the same bytes in both."""


class Packing(Enum):
    """How a body is made up."""

    PARTS = "parts"
    """`multipart/related`, also of one part."""
    SINGLE = "single"


@dataclass(frozen=True, slots=True)
class Syntaxes:
    """Transfer syntaxes that a caller takes."""

    named: tuple[str, ...] = ()
    """Best first; none named: the default, Explicit VR Little Endian (PS3.18 8.7.3.5.2)."""
    takes_any: bool = False

    @property
    def makeable(self) -> tuple[str, ...]:
        """What an instance may be changed into that is not kept as the caller takes it."""
        return self.named or (EXPLICIT_VR_LITTLE_ENDIAN,)

    def take(self, stored: str) -> bool:
        """Whether they take what is kept in `stored` as it is.

        A caller that names none gets what is packed with loss as it is: there is nothing else that says no more.
        """
        return self.takes_any or stored in self.makeable or (not self.named and stored in LOSSY)


@dataclass(frozen=True, slots=True)
class Taken:
    """One form that a caller takes: of a packing, a media type inside it (`*/*`: any), and transfer syntaxes."""

    packing: Packing
    media_type: str
    syntaxes: Syntaxes
    weight: float
    is_anything: bool = False
    """It was not said at all, or by `*/*`: a packing is not asked for either."""


@dataclass(frozen=True, slots=True)
class InstanceForm:
    """How whole instances go out."""

    packing: Packing
    syntaxes: Syntaxes


@dataclass(frozen=True, slots=True)
class FrameForm:
    """How frames of one instance go out."""

    packing: Packing
    media_type: str
    transfer_syntax: str
    is_as_stored: bool

    @property
    def content_type(self) -> str:
        """Of each part."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"


def instance_form(header: str | None, parameter: str | None = None, *, is_one: bool = False) -> InstanceForm:
    """How to send instances as `application/dicom`; `is_one` where the resource is a single one.

    Nothing, or anything, is a multipart body of instances as they are kept. Raises `NotAcceptable`.
    """
    fitting = [
        each
        for each in _taken(header, parameter)
        if _fits(each.media_type, DICOM) and (is_one or each.packing is Packing.PARTS)
    ]
    if not fitting:
        single = f" and {DICOM}" if is_one else ""
        raise NotAcceptable(f'only {MULTIPART}; type="{DICOM}"{single} can be made here')
    packing = fitting[0].packing
    alike = [each.syntaxes for each in fitting if each.packing is packing]
    named = [name for each in alike for name in each.makeable] if len(alike) > 1 else list(alike[0].named)
    return InstanceForm(packing, Syntaxes(tuple(dict.fromkeys(named)), any(each.takes_any for each in alike)))


def frame_form(header: str | None, parameter: str | None, stored: str, frames: int) -> FrameForm:
    """How to send so many frames of an instance that is kept in `stored`. Raises `NotAcceptable`.

    Of what the caller likes equally, that which needs no work.
    """
    forms = [
        (each.weight, form)
        for each in _taken(header, parameter)
        if each.packing is Packing.PARTS or frames == 1
        if (form := _frame_form(each, stored)) is not None
    ]
    if not forms:
        raise NotAcceptable(f"only {OCTET_STREAM} and the media type that the frames are kept in can be made here")
    return max(forms, key=lambda each: (each[0], each[1].is_as_stored))[1]


def bulk_packing(header: str | None, parameter: str | None = None) -> Packing:
    """How to send one bulk value, which is `application/octet-stream`. Raises `NotAcceptable`."""
    forms = _taken(header, parameter)
    fitting = next((each for each in forms if _fits(each.media_type, OCTET_STREAM)), None)
    if fitting is None:
        raise NotAcceptable(f"only {OCTET_STREAM} can be made here")
    return Packing.SINGLE if fitting.is_anything else fitting.packing


def rendered_types(header: str | None, parameter: str | None, offered: Sequence[str]) -> list[str]:
    """Which of the offered media types the caller takes, best first, our own order where it does not care.

    Empty where it takes none.
    """
    ranges = media_ranges(_wanted(header, parameter))
    if not ranges:
        return list(offered)
    weights = {media_type: _weight(ranges, media_type) for media_type in offered}
    return sorted((each for each in offered if weights[each] > 0), key=lambda each: -weights[each])


def _taken(header: str | None, parameter: str | None) -> list[Taken]:
    """All forms that are taken, best first; of equal weight in the order given."""
    ranges = media_ranges(_wanted(header, parameter))
    if not ranges:
        return [Taken(Packing.PARTS, "*/*", _any(), 1.0, is_anything=True)]
    refused = {(each.packing, each.media_type) for each in map(_form, ranges) if each.weight == 0}
    forms = [each for each in map(_form, ranges) if each.weight > 0]
    kept = [each for each in forms if (each.packing, each.media_type) not in refused]
    return sorted(kept, key=lambda each: -each.weight)


def _wanted(header: str | None, parameter: str | None) -> str:
    """The `accept` parameter overrides the header (PS3.18 8.3.3.1)."""
    return parameter or header or ""


def _form(media_range: MediaRange) -> Taken:
    name = f"{media_range.type}/{media_range.subtype}"
    syntaxes = _syntaxes(media_range)
    if media_range.type == "multipart":
        inner = next((value.lower() for key, value in media_range.parameters if key == "type" and value), "*/*")
        any_inner = inner == "*/*" and not syntaxes.named
        return Taken(Packing.PARTS, _plain(inner), _any() if any_inner else syntaxes, media_range.weight)
    if name == "*/*":
        taken = syntaxes if syntaxes.named else _any()
        return Taken(Packing.PARTS, name, taken, media_range.weight, is_anything=True)
    return Taken(Packing.SINGLE, _plain(name), syntaxes, media_range.weight)


def _any() -> Syntaxes:
    return Syntaxes(takes_any=True)


def _syntaxes(media_range: MediaRange) -> Syntaxes:
    values = [
        value.strip(' "')
        for key, text in media_range.parameters
        if key == "transfer-syntax"
        for value in text.split(",")
    ]
    return Syntaxes(tuple(dict.fromkeys(value for value in values if is_uid(value))), "*" in values)


def _plain(media_type: str) -> str:
    """Without the `x-` of names that were in use before they were registered."""
    kind, _, name = media_type.partition("/")
    return f"{kind}/{name.removeprefix('x-')}"


def _fits(taken: str, offered: str) -> bool:
    return taken in (offered, "*/*", f"{offered.partition('/')[0]}/*")


def _frame_form(taken: Taken, stored: str) -> FrameForm | None:
    own = MEDIA_TYPES.get(stored)
    syntaxes = taken.syntaxes
    if own is None and stored in _UNPACKED and _fits(taken.media_type, OCTET_STREAM):
        takes = syntaxes.takes_any or not syntaxes.named or not set(_UNPACKED).isdisjoint(syntaxes.named)
        return FrameForm(taken.packing, OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, True) if takes else None
    if own is not None and _fits(taken.media_type, own):
        takes = syntaxes.takes_any or not syntaxes.named or stored in syntaxes.named
        if takes:
            return FrameForm(taken.packing, own, stored, True)
    if not _fits(taken.media_type, OCTET_STREAM):
        return None
    if own is not None and (syntaxes.takes_any or stored in syntaxes.named):
        # OHIF asks so for whatever is kept; the transfer syntax beside it says what the bytes are.
        return FrameForm(taken.packing, OCTET_STREAM, stored, True)
    if syntaxes.takes_any or not syntaxes.named or not set(_UNPACKED).isdisjoint(syntaxes.named):
        return FrameForm(taken.packing, OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, False)
    return None


def _weight(ranges: Sequence[MediaRange], media_type: str) -> float:
    """The weight of the range that names the type most closely (RFC 9110 12.5.1)."""
    closest = max(ranges, key=lambda each: (each.specificity(media_type), each.weight))
    return closest.weight if closest.specificity(media_type) else 0.0
