"""Encoded data sets become rows of the DICOM JSON model, and rows become encoded data sets again (DEC-32).

An answer repeats the same few elements in row after row: a `RowDecoder` remembers them by their bytes, a `RowEncoder`
by the elements themselves, so that most of a row costs a look-up. What values mean is `gateway.instances.encoding`'s.
Rows share their elements: they are never changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from gateway.instances.charsets import NotRepresentable
from gateway.instances.encoding.structure import SHORT_VRS, DatasetError, Walk, deflated, inflated, refuse, syntax_of
from gateway.instances.encoding.values import CHARACTER_SET, Known, Values, declared_terms
from gateway.instances.encoding.written import element_bytes, item_bytes, plain, sequence_bytes, sorted_bytes
from gateway.model.attributes import SPECIFIC_CHARACTER_SET
from gateway.model.imaging import Attributes, Element

__all__ = [
    "DatasetError",
    "NotRepresentable",
    "Reading",
    "RowDecoder",
    "RowEncoder",
    "Slot",
    "decode_dataset",
    "encode_dataset",
]

_SHORT_BYTES_MAX = 256
"""Longest element that is remembered: longer ones are texts, and seldom come twice."""
_NOT_SHORT = _SHORT_BYTES_MAX + 1
_DECLARATIONS_MAX = 16
"""Character sets of one answer whose elements are remembered."""

_long_at, _short_at = Struct("<I").unpack_from, Struct("<H").unpack_from


_Written = dict[int, tuple[bytes, Element]]
_WRITTEN_MAX = 8_192
"""Elements of one slot that are remembered."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of what a peer sends is read, and how text is meant that declares no character set."""

    fallback_charset: str = "ISO_IR 100"
    row_elements_max: int = 4_096
    """Elements of one data set, and in all its sequences as many elements and items again."""
    answer_elements_max: int = 500_000
    """Elements and items of all rows of an answer; the row that goes beyond it is the last that is read."""
    inflated_bytes_max: int = 1024 * 1024
    """What a deflated data set may grow to."""


def decode_dataset(body: bytes | bytearray | memoryview, transfer_syntax: str, reading: Reading) -> Attributes:
    """One data set as a row; raises `DatasetError`."""
    return RowDecoder(transfer_syntax, reading).row(body)


class RowDecoder:
    """Reads the rows of one answer. Raises `DatasetError` and nothing else."""

    def __init__(self, transfer_syntax: str, reading: Reading) -> None:
        self._syntax = syntax_of(transfer_syntax)
        self._reading = reading
        self._elements_left = reading.answer_elements_max
        self._undeclared = Values(self._syntax, (), reading.fallback_charset)
        self._declared: dict[bytes, Values] = {}

    def row(self, body: bytes | bytearray | memoryview) -> Attributes:
        """The row that a data set says; text is decoded, so that the row declares no character set any more."""
        data = bytes(body)
        if self._elements_left < 0:
            refuse("the answer has too many elements")
        if self._syntax.is_deflated:
            data = inflated(data, self._reading.inflated_bytes_max)
        walk = Walk(self._syntax, data, elements_max=self._reading.row_elements_max)
        is_explicit, can_shorten = self._syntax.is_explicit, self._syntax.is_little
        row: dict[str, Element] = {}
        values, remembered = self._undeclared, self._undeclared.remembered
        offset, end, read, wanted = 0, len(data), 0, 0
        elements_max = self._reading.row_elements_max
        while offset < end:
            if read == elements_max:
                refuse("the data set has too many elements")
            read += 1
            # The shortcut: an element of few bytes that came before in this answer, or is as plain as most are.
            piece = b""
            if can_shorten and end - offset >= 8:
                if not is_explicit:
                    stop = offset + 8 + _long_at(data, offset + 4)[0]
                elif data[offset + 4 : offset + 6] in SHORT_VRS:
                    stop = offset + 8 + _short_at(data, offset + 6)[0]
                else:
                    stop = offset + _NOT_SHORT
                if stop <= end and stop - offset <= _SHORT_BYTES_MAX:
                    piece = data[offset:stop]
            known = remembered.get(piece) or values.plain(piece)
            if known is None:
                known, offset, values = self._unremembered(piece, offset, walk, values, row)
                remembered = values.remembered
            else:
                offset += len(piece)
            name, element = known
            if element is not None:
                row[name] = element
                wanted += 1
        if len(row) != wanted:
            refuse("an attribute is given twice")
        self._elements_left -= read + walk.counted
        return row

    def _unremembered(
        self, piece: bytes, offset: int, walk: Walk, values: Values, row: Mapping[str, Element]
    ) -> tuple[Known, int, Values]:
        """The element at `offset` read the long way, where the next one stands, and how text is read from there on."""
        declared = self._declared.get(piece)
        stop = offset + len(piece)
        if declared is None:
            raw, stop = walk.element(offset)
            if raw.tag != CHARACTER_SET:
                known = values.read(raw, row)
                # What a private element means depends on the row around it.
                if piece and raw.items is None and not raw.tag >> 16 & 1:
                    values.remember(piece, known)
                return known, stop, values
            declared = Values(self._syntax, declared_terms(raw.value), self._reading.fallback_charset)
            if piece and len(self._declared) < _DECLARATIONS_MAX:
                self._declared[piece] = declared
        if row and max(row) > SPECIFIC_CHARACTER_SET:
            refuse("the character set stands behind text")
        return (SPECIFIC_CHARACTER_SET, None), stop, declared


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in every row that is written: a tag, its VR, and the slots of its items if only those are wanted."""

    tag: str
    vr: str
    inside: tuple[Slot, ...] = ()


def encode_dataset(elements: Mapping[str, Element], transfer_syntax: str, charset: tuple[str, ...]) -> bytes:
    """A data set of these elements, in the order of tags; raises `NotRepresentable`.

    Text is written in `charset`; to declare that is the caller's.
    """
    syntax = syntax_of(transfer_syntax)
    body = sorted_bytes(elements, syntax, charset)
    return deflated(body) if syntax.is_deflated else body


class RowEncoder:
    """Writes rows of one answer: the same slots in each, in the order of tags."""

    def __init__(self, slots: Sequence[Slot], transfer_syntax: str, charset: tuple[str, ...]) -> None:
        self._syntax = syntax_of(transfer_syntax)
        self._charset = charset
        ordered = sorted(slots, key=lambda slot: slot.tag)
        plains = [plain(slot.tag, slot.vr, self._syntax) for slot in ordered]
        self._slots = [
            (slot.tag, slot, writer.empty, writer, _Written()) for slot, writer in zip(ordered, plains, strict=True)
        ]
        self._inner = {slot.tag: RowEncoder(slot.inside, transfer_syntax, charset) for slot in slots if slot.inside}

    def row(self, row: Attributes) -> bytes:
        """The row's data set, its slots empty where it has nothing; raises `NotRepresentable`."""
        body = self._body(row)
        return deflated(body) if self._syntax.is_deflated else body

    def _body(self, row: Attributes) -> bytes:
        pieces = []
        known = row.get
        for tag, slot, empty, writer, written in self._slots:
            element = known(tag)
            if element is None:
                pieces.append(empty)
                continue
            found = written.get(id(element))
            if found is None:
                piece = writer.element(element) or self._piece(slot, element)
                if len(written) < _WRITTEN_MAX:
                    # The element is kept as well, so that its identity stays its own.
                    written[id(element)] = (piece, element)
            else:
                piece = found[0]
            pieces.append(piece)
        return b"".join(pieces)

    def _piece(self, slot: Slot, element: Element) -> bytes:
        inner = self._inner.get(slot.tag)
        if inner is None:
            return element_bytes(slot.tag, slot.vr, element, self._syntax, self._charset)
        values = element.get("Value")
        items = [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []
        # An item is a row of its own, as the readers of rows see to.
        bodies = [inner._body(item) for item in items]  # type: ignore[arg-type]  # items are rows by the readers' word
        return sequence_bytes(slot.tag, [item_bytes(body, self._syntax) for body in bodies], self._syntax)
