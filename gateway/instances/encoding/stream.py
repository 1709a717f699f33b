"""An encoded data set's elements as they come, whole instances in pieces of any size (PS3.5 7 and A).

Tells a sink what begins and ends, and hands it the bytes of values uncopied and in parts; a sequence is told of in the
same way whether it says how long it is or where it ends. Nothing is kept but the head of one element. Bounded in
nesting and in what deflated bytes may grow to. Pure.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NoReturn, Protocol

from gateway.instances.encoding.dictionary import implicit_vr
from gateway.instances.spans import (
    ITEM,
    ITEM_END,
    NESTING_MAX,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED_LENGTH,
    Bytes,
    MoreNeeded,
    Spans,
)
from gateway.instances.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest

_RATIO_MAX = 64
_ALWAYS_BYTES = 4 * 1024 * 1024
_INFLATED_AT_ONCE = 1024 * 1024
_FIRST_HEAD_BYTES = 8
ELEMENTS_MAX = 2_000_000
"""Elements and items of one instance; each costs microseconds, and none of them room."""


class Sink(Protocol):
    """Who is told of elements. VRs are as written, empty where they are not."""

    def begin(self, tag: int, vr: bytes, length: int) -> None:
        """A value of so many bytes follows, in parts; of a fragment, where `tag` is an item's."""

    def part(self, piece: memoryview) -> None:
        """The next bytes of the value; they are not there any more when this returns."""

    def end(self) -> None:
        """The value is over."""

    def begin_sequence(self, tag: int) -> None:
        """Items follow."""

    def end_sequence(self) -> None:
        """No more items."""

    def begin_item(self) -> None:
        """Elements of an item follow."""

    def end_item(self) -> None:
        """No more elements of this item."""

    def begin_fragments(self, tag: int) -> None:
        """Fragments follow, the first of them the offset table."""

    def end_fragments(self) -> None:
        """No more fragments."""


@dataclass(slots=True)
class _Frame:
    """A sequence, an item or fragments that are being stepped through."""

    mark: int
    """What ends it: the end of a sequence, or of an item."""
    end: int | None
    is_explicit: bool
    is_fragments: bool = False


class ElementStream:
    """Steps through one instance. `feed` every piece, then `finish`. Raises `InvalidRequest`."""

    def __init__(self, transfer_syntax: str, sink: Sink) -> None:
        is_deflated = transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        self._inflating = zlib.decompressobj(-zlib.MAX_WBITS) if is_deflated else None
        self._taken = 0
        self._transfer_syntax = EXPLICIT_VR_LITTLE_ENDIAN if is_deflated else transfer_syntax
        self._sink = sink
        self._spans = Spans(b"", self._transfer_syntax, elements_max=ELEMENTS_MAX)
        self._is_explicit = self._spans.syntax.is_explicit
        self._rest = b""
        self._at = 0
        self._left = 0
        self._is_in_value = False
        self._stack: list[_Frame] = []

    def feed(self, piece: Bytes) -> None:
        """Take the next bytes."""
        if self._inflating is None:
            self._feed(piece)
            return
        self._taken += len(piece)
        rest: bytes = bytes(piece)
        try:
            while rest and not self._inflating.eof:
                self._feed(self._inflating.decompress(rest, _INFLATED_AT_ONCE))
                rest = self._inflating.unconsumed_tail
                if self._at > max(_RATIO_MAX * self._taken, _ALWAYS_BYTES):
                    _refuse("the deflated instance grows without measure")
        except zlib.error as error:
            raise InvalidRequest("the deflated instance is damaged") from error

    def finish(self) -> None:
        """No more bytes come."""
        if self._inflating is not None:
            self._feed(self._inflating.flush())
        self._close()
        is_cut = self._inflating is not None and not self._inflating.eof
        if self._is_in_value or self._rest or self._stack or is_cut:
            _refuse("the instance ends inside an element")

    def _feed(self, piece: Bytes) -> None:
        view = memoryview(self._rest + bytes(piece) if self._rest else piece)
        self._rest = b""
        at = 0
        while True:
            if self._is_in_value:
                taken = min(self._left, len(view) - at)
                if taken:
                    self._sink.part(view[at : at + taken])
                at += taken
                self._at += taken
                self._left -= taken
                if self._left:
                    return
                self._is_in_value = False
                self._sink.end()
            self._close()
            try:
                at = self._step(view, at)
            except MoreNeeded:
                self._rest = bytes(view[at:])
                return
            finally:
                # The caller may want to write into what it gave.
                self._spans.head = b""

    def _close(self) -> None:
        """End what ends here because it said how long it is."""
        while self._stack and not self._is_in_value:
            frame = self._stack[-1]
            if frame.end is None or self._at < frame.end:
                return
            if self._at > frame.end:
                _refuse("an element of the instance is longer than what holds it")
            self._pop()

    def _step(self, view: memoryview, at: int) -> int:
        """The head of one element or item; where its value begins."""
        frame = self._stack[-1] if self._stack else None
        is_sequence = frame is not None and frame.mark == SEQUENCE_END
        is_explicit = not is_sequence and (frame.is_explicit if frame is not None else self._is_explicit)
        self._spans.head = view
        if self._at == 0:
            if len(view) < _FIRST_HEAD_BYTES:
                raise MoreNeeded
            is_explicit = self._is_explicit = Spans(view, self._transfer_syntax).syntax.is_explicit
        tag, vr, begins, length = self._spans.element_head(at, is_explicit=is_explicit)
        self._at += begins - at
        if frame is not None and tag == frame.mark and frame.end is None:
            self._pop()
        elif is_sequence:
            assert frame is not None, "a sequence is on the stack"
            self._item(frame, tag, length)
        elif tag >> 16 == 0xFFFE:
            _refuse("an item of the instance stands outside a sequence")
        elif length == UNDEFINED_LENGTH and (vr in (b"OB", b"OW") or (not vr and tag == PIXEL_DATA)):
            self._sink.begin_fragments(tag)
            self._push(_Frame(SEQUENCE_END, None, False, is_fragments=True))
        elif length == UNDEFINED_LENGTH or vr == b"SQ" or (not vr and implicit_vr(tag, is_signed=False) == "SQ"):
            self._sink.begin_sequence(tag)
            inside = is_explicit and vr == b"SQ"
            self._push(_Frame(SEQUENCE_END, None if length == UNDEFINED_LENGTH else self._at + length, inside))
        else:
            self._value(tag, vr, length)
        return begins

    def _item(self, frame: _Frame, tag: int, length: int) -> None:
        if tag != ITEM:
            _refuse("a sequence of the instance holds something that is no item")
        if frame.is_fragments:
            if length == UNDEFINED_LENGTH:
                _refuse("a fragment of the instance's pixels has no length")
            self._value(tag, b"", length)
            return
        self._sink.begin_item()
        end = None if length == UNDEFINED_LENGTH else self._at + length
        self._push(_Frame(ITEM_END, end, frame.is_explicit))

    def _value(self, tag: int, vr: bytes, length: int) -> None:
        self._sink.begin(tag, vr, length)
        self._left = length
        self._is_in_value = True

    def _push(self, frame: _Frame) -> None:
        if len(self._stack) >= 2 * NESTING_MAX:
            _refuse(f"sequences of the instance are nested deeper than {NESTING_MAX}")
        self._stack.append(frame)

    def _pop(self) -> None:
        frame = self._stack.pop()
        if frame.is_fragments:
            self._sink.end_fragments()
        elif frame.mark == SEQUENCE_END:
            self._sink.end_sequence()
        else:
            self._sink.end_item()


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequest(reason)
