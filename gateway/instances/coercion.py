"""Other values for a few elements of an encoded instance, and not one other byte changed (SAF-34, PS3.5 7).

The beginning of the data set is written anew as far as the last change; from there on the bytes are those of the
source, wherever they are kept, so that neither pixels nor memory come into it. New values are written as the data set
writes its own: its transfer syntax, its byte order, its character set. What counts bytes of a group that changes is
left out, since it would lie (PS3.5 7.2, retired). A deflated data set has no such beginning and is written anew whole.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.instances.charsets import NotRepresentable, known
from gateway.instances.deflation import deflated, inflated
from gateway.instances.encoding.structure import Syntax
from gateway.instances.encoding.values import CHARACTER_SET, declared_terms
from gateway.instances.encoding.written import element_bytes, writing_vr
from gateway.instances.spans import PIXEL_DATA, Bytes, MoreNeeded, Spans
from gateway.instances.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import Element, JsonValue

HEADER_BYTES_MAX = 4 * 1024 * 1024
"""Behind as many bytes the place of the last change has to be found."""

Changes = Mapping[str, Element | None]
"""By 8-digit tag the new element in the DICOM JSON model, or None for one that shall not be there."""

_IMAGE_GROUP = 0x00280000
"""As far as this, elements are looked for that stand too late, behind greater tags."""
_LENGTH_TO_END = 0x00080001
_ENDS_A_VALUE = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Coercion:
    """The coerced data set is `prefix`, and then the source from byte `replaces` on."""

    replaces: int
    prefix: bytes

    def data_bytes(self, source_bytes: int) -> int:
        """How long the coerced data set is."""
        return len(self.prefix) + source_bytes - self.replaces


UNCHANGED = Coercion(0, b"")


def plan(head: Bytes, transfer_syntax: str, changes: Changes, *, is_whole: bool = False) -> Coercion | None:
    """How the changes are made in the data set that begins with `head`; None: more of its beginning is needed.

    `is_whole` says that there is no more. A deflated data set is needed whole. Top-level elements only, and not the
    character set itself. Raises `InvalidRequest` where the bytes are no data set, or a new value cannot be written in
    the data set's own character set.
    """
    if not changes:
        return UNCHANGED
    wanted = {int(tag, 16): element for tag, element in changes.items()}
    assert CHARACTER_SET not in wanted and min(wanted) > CHARACTER_SET, "only what stands behind the character set"
    if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return _deflated(head, wanted) if is_whole else None
    try:
        return _Rewriting(Spans(head, transfer_syntax), wanted).coercion(is_whole=is_whole)
    except MoreNeeded:
        if is_whole:
            raise InvalidRequest("the instance ends inside an element") from None
        if len(head) >= HEADER_BYTES_MAX:
            raise InvalidRequest("the instance's identifiers stand behind more bytes than a header may have") from None
        return None


class _Rewriting:
    """Copies the beginning of one data set with other elements in it."""

    def __init__(self, spans: Spans, wanted: Mapping[int, Element | None]) -> None:
        self._spans = spans
        self._wanted = wanted
        self._coming = sorted((tag for tag, element in wanted.items() if element is not None), reverse=True)
        self._groups = {tag >> 16 for tag in wanted}
        self._declared: tuple[str, ...] = ()
        self._written = bytearray()
        self._copied = 0
        """How much of the source is in `_written`, changed or not."""

    def coercion(self, *, is_whole: bool) -> Coercion:
        """Raises `MoreNeeded` unless the bytes go as far as the changes do."""
        last = max(_IMAGE_GROUP, *self._wanted)
        at = 0
        for span in self._spans.top_until(PIXEL_DATA):
            while self._coming and self._coming[-1] <= span.tag:
                self._write(self._coming.pop(), at)
            if span.tag > last:
                break
            if span.tag == CHARACTER_SET:
                self._declared = declared_terms(self._value(span.value, span.end))
            at = span.end
            if self._is_dropped(span.tag):
                self._copy(span.start)
                self._copied = span.end
        else:
            if not is_whole:
                raise MoreNeeded
            for tag in reversed(self._coming):
                self._write(tag, at)
        return Coercion(self._copied, bytes(self._written))

    def _is_dropped(self, tag: int) -> bool:
        return tag in self._wanted or tag == _LENGTH_TO_END or (tag & 0xFFFF == 0 and tag >> 16 in self._groups)

    def _value(self, start: int, end: int) -> bytes:
        if end > len(self._spans.head):
            raise MoreNeeded
        return bytes(self._spans.head[start:end])

    def _copy(self, until: int) -> None:
        self._written += self._spans.head[self._copied : until]
        self._copied = until

    def _write(self, tag: int, at: int) -> None:
        """A new element, where the source goes on at `at`."""
        element = self._wanted[tag]
        assert element is not None, "what shall not be there is not written"
        self._copy(at)
        self._written += _encoded(f"{tag:08X}", element, self._spans.syntax, self._declared)


def _encoded(tag: str, element: Element, syntax: Syntax, declared: tuple[str, ...]) -> bytes:
    if not _is_writable(element.get("Value")):
        raise InvalidRequest("a new value would end where another begins")
    try:
        return element_bytes(tag, writing_vr(tag, element), element, syntax, known(declared))
    except NotRepresentable:
        raise InvalidRequest("a new value has characters that the instance's own character set lacks") from None


def _is_writable(value: JsonValue) -> bool:
    """Whether no text in it would be cut or altered in writing: another patient's number could come of that."""
    left = [value]
    while left:
        match left.pop():
            case str(text) if _ENDS_A_VALUE.search(text):
                return False
            case list(values):
                left += values
            case dict(members):
                left += members.values()
            case _:
                pass
    return True


def _deflated(head: Bytes, wanted: Mapping[int, Element | None]) -> Coercion:
    source = inflated(head)
    try:
        coercion = _Rewriting(Spans(source, EXPLICIT_VR_LITTLE_ENDIAN), wanted).coercion(is_whole=True)
    except MoreNeeded:
        raise InvalidRequest("the instance ends inside an element") from None
    return Coercion(len(head), deflated((coercion.prefix, memoryview(source)[coercion.replaces :])))
