"""An encoded instance in the DICOM JSON model, from its header alone, and where its bulk values stand (PS3.18 F).

Pixel data, and whatever is longer than a limit, is only named by a relative address; the bytes of the value are found
again by it. Text is in Unicode whatever the instance declares, and says so. What counts bytes of the encoding is left
out, and so is what stands behind the pixels. Nothing is raised for values that break their representation, only for
bytes that are no data set. Bounded in bytes, elements, values and nesting. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from types import MappingProxyType

import orjson

from gateway.instances.deflation import inflated_head
from gateway.instances.encoding.dictionary import PIXEL_REPRESENTATION, implicit_vr
from gateway.instances.encoding.json_values import BINARY, NUMERIC, JsonValues, inline
from gateway.instances.encoding.values import CHARACTER_SET, declared_terms
from gateway.instances.spans import (
    ITEM,
    ITEM_END,
    NESTING_MAX,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    Bytes,
    MoreNeeded,
    Spans,
)
from gateway.instances.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import Element, JsonValue

HEADER_BYTES_MAX = 16 * 1024 * 1024
"""Multi-frame images say something of every frame."""
ELEMENTS_MAX = 150_000
VALUES_MAX = 500_000
INLINE_BYTES_MAX = 1_024
"""Binary values and tables of more are bulk data."""
TEXT_BYTES_MAX = 64 * 1024
"""And texts of more: an address of a text serves nobody who looks for words."""

BULK_BASE = "bulkdata/"
_LENGTH_TO_END = 0x00080001
_FIRST_TAG = 0x00040000
_PIXELS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})
_ADDRESS = b'"BulkDataURI":"' + BULK_BASE.encode()
_SHORT_BYTES_MAX = 256
REMEMBERED_MAX = 8_192
"""Elements that a `Describer` remembers."""
_SCOPES_MAX = 16
_short_at, _long_at = Struct("<H").unpack_from, Struct("<I").unpack_from

_Written = Element | orjson.Fragment
_Remembered = tuple[str, orjson.Fragment]
_UNICODE: Element = {"vr": "CS", "Value": ["ISO_IR 192"]}


@dataclass(frozen=True, slots=True)
class BulkValue:
    """Where a bulk value stands in the data set (in the inflated one, where it is deflated)."""

    vr: str
    first: int
    data_bytes: int | None
    """None for encapsulated pixels, which end where their last fragment does."""


@dataclass(frozen=True, slots=True)
class Description:
    """What an instance says of itself."""

    json: bytes
    """One object of the DICOM JSON model, in UTF-8."""
    bulk: Mapping[str, BulkValue]
    """By path: tags, and between them the numbers of items from 1 on (`54000100/1/54001010`)."""


def describe(head: Bytes, transfer_syntax: str, *, is_whole: bool = False) -> Description | None:
    """The description of the instance that begins with `head`; None: more of its beginning is needed.

    `is_whole` says that there is no more. Raises `InvalidRequest`.
    """
    return Describer(transfer_syntax, remembered_max=0).describe(head, is_whole=is_whole)


class Describer:
    """Describes one instance after the other, of one transfer syntax.

    Instances of a study repeat most of what they say: short elements are remembered by their bytes, and then cost a
    look-up. So it holds what patients' records say: keep it as long as one study is at hand, and no longer.
    """

    def __init__(self, transfer_syntax: str, *, remembered_max: int = REMEMBERED_MAX) -> None:
        self._is_deflated = transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        self._transfer_syntax = EXPLICIT_VR_LITTLE_ENDIAN if self._is_deflated else transfer_syntax
        self._memory = _Memory(remembered_max)

    def describe(self, head: Bytes, *, is_whole: bool = False) -> Description | None:
        """As the function of this name does."""
        head = inflated_head(head, HEADER_BYTES_MAX) if self._is_deflated else bytes(head)
        describing = _Describing(Spans(head, self._transfer_syntax, elements_max=ELEMENTS_MAX), head, self._memory)
        try:
            dataset = describing.dataset()
        except MoreNeeded:
            if is_whole:
                raise InvalidRequest("the instance ends inside an element") from None
            if len(head) >= HEADER_BYTES_MAX:
                raise InvalidRequest("the instance's header is longer than what is described") from None
            return None
        if not (is_whole or describing.is_at_pixels):
            return None
        return Description(orjson.dumps(dataset), MappingProxyType(describing.bulk))


def with_base(json: bytes, base: str) -> bytes:
    """A description whose bulk addresses begin with `base` and not with `bulkdata/`; `base` needs no escaping."""
    # Inside a text both quotation marks would be escaped, so that nothing a patient's record says can look like this.
    return json.replace(_ADDRESS, b'"BulkDataURI":"' + base.encode("ascii"))


@dataclass(frozen=True, slots=True)
class _Scope:
    """How the elements of one data set or item are read."""

    values: JsonValues
    is_explicit: bool
    is_signed: bool
    path: str
    depth: int


class _Memory:
    """Elements by their bytes, for each way in which bytes are read."""

    def __init__(self, remembered_max: int) -> None:
        self._of_scopes: dict[tuple[bytes, bool, bool], dict[bytes, _Remembered]] = {}
        self._remembered_max = remembered_max
        self.left = remembered_max

    def of(self, declared: bytes, *, is_signed: bool, is_explicit: bool) -> dict[bytes, _Remembered]:
        """What is remembered under this character set."""
        if len(self._of_scopes) > _SCOPES_MAX:
            self._of_scopes.clear()
            self.left = self._remembered_max
        return self._of_scopes.setdefault((declared, is_signed, is_explicit), {})


class _Describing:
    """Builds the objects of one instance."""

    def __init__(self, spans: Spans, head: bytes, memory: _Memory) -> None:
        self._spans = spans
        self._head = head
        self._memory = memory
        self._declared = b""
        self._remembered: dict[bytes, _Remembered] = {}
        self._recalled = 0
        self._is_little = spans.syntax.is_little
        self._values_left = VALUES_MAX
        self.bulk: dict[str, BulkValue] = {}
        self.is_at_pixels = False

    def dataset(self) -> dict[str, _Written]:
        """The whole instance as far as its pixels."""
        values = JsonValues((), is_little=self._is_little)
        scope = _Scope(values, self._spans.syntax.is_explicit, False, "", 0)
        self._remember_under(scope)
        found, _ = self._elements(0, len(self._head), scope)
        found.pop(f"{CHARACTER_SET:08X}", None)
        return {f"{CHARACTER_SET:08X}": _UNICODE, **found}

    def _elements(self, at: int, end: int | None, scope: _Scope) -> tuple[dict[str, _Written], int]:
        """Elements until `end`, or until the item says that it ends; and where the bytes go on."""
        found: dict[str, _Written] = {}
        is_top = scope.depth == 0
        while end is None or at < end:
            if is_top and (at := self._recall(at, found, is_explicit=scope.is_explicit)) >= len(self._head):
                break
            begins = at
            tag, code, start, length = self._spans.element_head(at, is_explicit=scope.is_explicit)
            if tag == ITEM_END and end is None:
                return found, start
            if tag >> 16 == 0xFFFE:
                raise InvalidRequest("an item of the instance stands outside a sequence")
            stop = start + length if length != UNDEFINED_LENGTH else None
            if not is_top and end is not None and stop is not None and stop > end:
                raise InvalidRequest("an element of the instance is longer than what holds it")
            vr = code.decode("ascii") if code else implicit_vr(tag, is_signed=scope.is_signed)
            if is_top and tag in _PIXELS:
                found[f"{tag:08X}"] = self._address(tag, vr if stop is not None else "OB", start, stop, scope)
                self.is_at_pixels = True
                return found, start
            element, at = self._element(tag, vr, start, stop, scope)
            if tag == CHARACTER_SET:
                scope = self._redeclared(scope, start, at)
            elif tag == PIXEL_REPRESENTATION and at - start == 2:
                is_signed = any(self._head[start:at])
                scope = _Scope(scope.values, scope.is_explicit, is_signed, scope.path, scope.depth)
            if is_top and tag in (CHARACTER_SET, PIXEL_REPRESENTATION):
                self._remember_under(scope)
            if tag & 0xFFFF and tag >= _FIRST_TAG and tag not in (CHARACTER_SET, _LENGTH_TO_END):
                name = f"{tag:08X}"
                found[name] = element
                if is_top and at - begins <= _SHORT_BYTES_MAX and tag != PIXEL_REPRESENTATION:
                    self._remember(begins, at, code, name, element)
        if at > len(self._head):
            raise MoreNeeded
        return found, at

    def _recall(self, at: int, found: dict[str, _Written], *, is_explicit: bool) -> int:
        """Take elements that are remembered, one behind the other; where the first that is not begins."""
        head, remembered = self._head, self._remembered
        last = len(head) - 8
        while remembered and at <= last:
            if not is_explicit:
                stop = at + 8 + _long_at(head, at + 4)[0]
            elif head[at + 4 : at + 6] in SHORT_VRS:
                stop = at + 8 + _short_at(head, at + 6)[0]
            else:
                break
            known = remembered.get(head[at:stop]) if stop - at <= _SHORT_BYTES_MAX else None
            if known is None:
                break
            found[known[0]] = known[1]
            at = stop
            self._recalled += 1
        if self._recalled > ELEMENTS_MAX:
            raise InvalidRequest("the instance's header has too many elements")
        return at

    def _remember(self, begins: int, ends: int, code: bytes, name: str, element: Element) -> None:
        """Keep what these bytes mean, unless that depends on more than them."""
        if not (self._memory.left and self._is_little):
            return
        is_plain = code in SHORT_VRS or (not code and element.get("vr") != "SQ")
        if is_plain and "BulkDataURI" not in element:
            self._memory.left -= 1
            self._remembered[self._head[begins:ends]] = (name, orjson.Fragment(orjson.dumps(element)))

    def _remember_under(self, scope: _Scope) -> None:
        self._remembered = self._memory.of(self._declared, is_signed=scope.is_signed, is_explicit=scope.is_explicit)

    def _redeclared(self, scope: _Scope, start: int, end: int) -> _Scope:
        value = self._head[start:end]
        if scope.depth == 0:
            self._declared = value
        values = JsonValues(declared_terms(value), is_little=self._is_little)
        return _Scope(values, scope.is_explicit, scope.is_signed, scope.path, scope.depth)

    def _element(self, tag: int, vr: str, start: int, stop: int | None, scope: _Scope) -> tuple[Element, int]:
        if stop is None:
            return self._open(tag, vr, start, scope)
        if vr == "UN" and self._is_little:
            # PS3.5 6.2.2: somebody on its way did not know it, and we do.
            known = implicit_vr(tag, is_signed=scope.is_signed)
            if known == "SQ":
                return self._unknown_sequence(tag, start, stop, scope)
            vr = known
        if vr == "SQ":
            items, _ = self._items(tag, start, stop, scope, is_explicit=scope.is_explicit)
            return {"vr": "SQ", "Value": items}, stop
        return self._plain(tag, vr, start, stop, scope), stop

    def _plain(self, tag: int, vr: str, start: int, stop: int, scope: _Scope) -> Element:
        size = stop - start
        if not size:
            return {"vr": vr}
        is_binary = vr in BINARY
        if size > (INLINE_BYTES_MAX if is_binary or vr in NUMERIC else TEXT_BYTES_MAX):
            return self._address(tag, vr, start, stop, scope)
        if stop > len(self._head):
            raise MoreNeeded
        value = self._head[start:stop]
        values = None if is_binary else scope.values.read(vr, value)
        if values is None:
            return {"vr": vr if is_binary else "UN", "InlineBinary": inline(vr, value, is_little=self._is_little)}
        self._values_left -= len(values)
        if self._values_left < 0:
            raise InvalidRequest("the instance's header has too many values")
        if values == [None]:
            return {"vr": vr}
        return {"vr": vr, "Value": values}

    def _open(self, tag: int, vr: str, start: int, scope: _Scope) -> tuple[Element, int]:
        """What has no length: a sequence, or fragments of pixels that are not the instance's own (an icon's)."""
        if vr in ("OB", "OW") and (scope.is_explicit or tag == PIXEL_DATA):
            end = self._spans.behind_open(start, is_explicit=False)
            return self._address(tag, "OB", start, end, scope), end
        is_explicit = scope.is_explicit and vr != "UN"
        items, end = self._items(tag, start, None, scope, is_explicit=is_explicit)
        return {"vr": "SQ", "Value": items}, end

    def _unknown_sequence(self, tag: int, start: int, stop: int, scope: _Scope) -> tuple[Element, int]:
        known = set(self.bulk)
        try:
            items, _ = self._items(tag, start, stop, scope, is_explicit=False)
        except InvalidRequest:
            self.bulk = {path: value for path, value in self.bulk.items() if path in known}
            return self._plain(tag, "UN", start, stop, scope), stop
        return {"vr": "SQ", "Value": items}, stop

    def _items(
        self, tag: int, at: int, end: int | None, scope: _Scope, *, is_explicit: bool
    ) -> tuple[list[JsonValue], int]:
        """The items until `end`, or until the sequence says that it ends; and where the bytes go on."""
        if scope.depth >= NESTING_MAX:
            raise InvalidRequest(f"sequences of the instance are nested deeper than {NESTING_MAX}")
        found: list[JsonValue] = []
        while end is None or at < end:
            mark, _, start, length = self._spans.element_head(at, is_explicit=False)
            if mark == SEQUENCE_END and end is None:
                return found, start
            if mark != ITEM:
                raise InvalidRequest("a sequence of the instance holds something that is no item")
            stop = start + length if length != UNDEFINED_LENGTH else None
            if end is not None and stop is not None and stop > end:
                raise InvalidRequest("an element of the instance is longer than what holds it")
            path = f"{scope.path}{tag:08X}/{len(found) + 1}/"
            item, at = self._elements(
                start, stop, _Scope(scope.values, is_explicit, scope.is_signed, path, scope.depth + 1)
            )
            found.append(item)  # type: ignore[arg-type]  # JSON all through, which its read-only type does not say
        return found, at

    def _address(self, tag: int, vr: str, start: int, stop: int | None, scope: _Scope) -> Element:
        path = f"{scope.path}{tag:08X}"
        self.bulk[path] = BulkValue(vr, start, None if stop is None else stop - start)
        return {"vr": vr, "BulkDataURI": BULK_BASE + path}
