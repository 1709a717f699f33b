"""The value representation of an element that is written without one (PS3.5 7.1.3 and A.1, PS3.6).

What the dictionary leaves open is decided as the standard decides it for implicit encoding: words rather than bytes,
and signed or not as the pixels are. Private elements mean nothing here but the names of their creators. Pure.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

from pydicom.datadict import dictionary_VR

from gateway.model.attributes import VRS_OF_TAG

PIXEL_REPRESENTATION = 0x00280103
_REMEMBERED_MAX = 4_096
_UNSIGNED_OR_SIGNED = frozenset({"US", "SS"})


def _settled(vrs: tuple[str, ...]) -> str:
    """Of the VRs that the dictionary allows the one that implicit encoding means; `US` may yet be `SS`."""
    return "OW" if "OW" in vrs else vrs[0]


_VR_OF_TAG = MappingProxyType({int(tag, 16): _settled(vrs) for tag, vrs in VRS_OF_TAG.items()})
_SIGNED = frozenset(int(tag, 16) for tag, vrs in VRS_OF_TAG.items() if set(vrs) == _UNSIGNED_OR_SIGNED)
"""Signed where the pixels are."""


def implicit_vr(tag: int, *, is_signed: bool) -> str:
    """The VR of an element; `UN` for one that is in no dictionary. `is_signed` says so of the pixels around it."""
    vr = _VR_OF_TAG.get(tag)
    if vr is None:
        return _unlisted_vr(tag)
    return "SS" if is_signed and tag in _SIGNED else vr


@lru_cache(maxsize=_REMEMBERED_MAX)
def _unlisted_vr(tag: int) -> str:
    """Groups' lengths, private elements, and attributes whose tags stand for many (overlays, curves)."""
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        # PS3.5 7.8.1: what reserves a private block is a name.
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        return _settled(tuple(dictionary_VR(tag).split(" or ")))
    except KeyError:
        return "UN"
