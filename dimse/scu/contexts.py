"""Which storage contexts an association proposes, so that images travel as they are stored (PS3.8 9.3.2, PS3.4 C.4.3).

A context of one transfer syntax says exactly one thing; of one with several the acceptor chooses, and then would have
to transcode or give up what it keeps otherwise. There are 128 contexts: this is the one place that shares them out.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dimse.sop_classes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, STORAGE, TRANSFER_SYNTAXES
from dimse.upper_layer.negotiation import Context, Terms
from dimse.upper_layer.pdu import CONTEXTS_MAX

UNCOMPRESSED = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_BY_USE = (
    *UNCOMPRESSED,
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.1.99",  # Deflated
    "1.2.840.10008.1.2.4.102",  # MPEG-4 of endoscopes
)
SYNTAXES: tuple[str, ...] = (*_BY_USE, *(uid for uid in TRANSFER_SYNTAXES if uid not in _BY_USE))
"""Every transfer syntax of stored objects, those first that archives hold most of."""

_COMMON = (
    *("2", "4", "2.1", "4.1", "1", "1.1", "1.1.1", "1.2", "1.2.1", "6.1", "3.1", "7", "7.1", "7.2", "7.3", "7.4"),
    *("12.1", "12.2", "20", "128", "128.1", "130", "12.1.1", "12.2.1", "13.1.3", "77.1.4", "77.1.1", "77.1.5.1"),
    *("88.11", "88.22", "88.33", "88.59", "88.67", "104.1", "11.1", "66", "66.4", "77.1.5.4", "6", "3", "5"),
)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
COMMON: tuple[str, ...] = tuple(uid for uid in (_STORAGE_ROOT + end for end in _COMMON) if uid in STORAGE)
"""Asked for where it is not known of which classes a study is."""


def storage_contexts(sop_classes: Iterable[str], places: int = CONTEXTS_MAX) -> list[tuple[str, tuple[str, ...]]]:
    """What to propose for images of these classes, in no more than so many contexts.

    Each class gets as many contexts of one transfer syntax as there is room for, the common ones first; what remains
    stands together in its last. Classes beyond the places are left out. No classes: the common ones.
    """
    classes = [*dict.fromkeys(uid for uid in sop_classes if uid)][:places] or [*COMMON]
    each = min(places // len(classes), len(SYNTAXES))
    apart, together = SYNTAXES[: each - 1], SYNTAXES[each - 1 :]
    return [(uid, syntaxes) for uid in classes for syntaxes in (*((one,) for one in apart), together)]


def context_for(
    terms: Terms, sop_class_uid: str, transfer_syntax: str, *, we_are_requestor: bool = True
) -> Context | None:
    """The context in which we may send such an instance as it is."""
    return next(
        (each for each in _ours(terms, sop_class_uid, we_are_requestor) if each.transfer_syntax == transfer_syntax),
        None,
    )


def accepted_syntaxes(terms: Terms, sop_class_uid: str, *, we_are_requestor: bool = True) -> Sequence[str]:
    """The transfer syntaxes in which the other end takes instances of a class from us."""
    return [each.transfer_syntax for each in _ours(terms, sop_class_uid, we_are_requestor)]


def _ours(terms: Terms, sop_class_uid: str, we_are_requestor: bool) -> Iterator[Context]:
    """The contexts of a class in which we are SCU: by C-GET that is the acceptor."""
    for each in terms.contexts.values():
        if each.abstract_syntax == sop_class_uid and (each.is_scu if we_are_requestor else each.is_scp):
            yield each
