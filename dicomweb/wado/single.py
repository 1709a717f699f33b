"""A body of known length made of one instance's bytes, whole or a range of it (RFC 9110 14, PS3.18 8.7.1).

For an instance as a file, a bulk value, one frame. Bytes come from where they lie, and nothing else is opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import hdrs, web

from dicomweb.conditional import NotSatisfiable, Span, entity_tag, span_of
from dicomweb.problem import http_problem
from dicomweb.wado.images import Asked
from gateway.model.errors import Damaged
from gateway.model.work.retrievals import Item


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of an instance, in one place or several, behind others that are not part of it."""

    item: Item
    spans: tuple[Span, ...]
    before: bytes = b""

    @property
    def body_bytes(self) -> int:
        """How many bytes it is in all."""
        return len(self.before) + sum(span.size for span in self.spans)

    async def pieces(self, wanted: Span | None = None) -> AsyncIterator[bytes]:
        """All of it, or these bytes of it. Raises `Damaged`, also where there is less than there should be."""
        wanted = wanted or Span(0, self.body_bytes - 1)
        # Not by itself: nothing is begun before the instance is seen to open.
        before = self.before[wanted.first : wanted.last + 1]
        at = len(self.before)
        for span in self.spans:
            first, last = max(wanted.first, at), min(wanted.last, at + span.size - 1)
            if first <= last:
                async for piece in _pieces(self.item, Span(span.first + first - at, span.first + last - at)):
                    yield before + piece if before else piece
                    before = b""
            at += span.size
        if before:
            yield before


def whole(item: Item, before: bytes = b"") -> Stretch:
    """All of an instance."""
    return Stretch(item, (Span(0, item.data_bytes - 1),), before)


async def send_stretch(each: Asked, stretch: Stretch, content_type: str) -> web.StreamResponse:
    """Answer with these bytes, or those that the caller wants of them; the instance then counts as handed out."""
    tag = entity_tag(stretch.item.etag)
    if (unchanged := each.unchanged(tag)) is not None:
        return unchanged
    try:
        span = span_of(
            each.request.headers.get(hdrs.RANGE),
            each.request.headers.get(hdrs.IF_RANGE),
            tag,
            stretch.body_bytes,
        )
    except NotSatisfiable:
        each.delivery.spare()
        response = http_problem(416, "the range begins behind the end", each.request_id).response()
        response.headers[hdrs.CONTENT_RANGE] = f"bytes */{stretch.body_bytes}"
        return each.dress(response)
    outgoing = each.outgoing
    begun = web.StreamResponse(status=200 if span is None else 206)
    begun.headers[hdrs.CONTENT_TYPE] = content_type
    begun.headers[hdrs.ACCEPT_RANGES] = "bytes"
    if span is not None:
        begun.headers[hdrs.CONTENT_RANGE] = f"bytes {span.first}-{span.last}/{stretch.body_bytes}"
    each.dress(begun, tag=tag)
    body_bytes = stretch.body_bytes if span is None else span.size
    if each.request.method == hdrs.METH_HEAD:
        each.delivery.spare()
        await outgoing.begin(begun, body_bytes)
        await outgoing.end()
        return begun
    async for piece in stretch.pieces(span):
        # Begun only now: what cannot be opened at all still gets a status of its own.
        if outgoing.response is None:
            await outgoing.begin(begun, body_bytes)
        await outgoing.write(piece)
    if outgoing.response is None:
        await outgoing.begin(begun, 0)
    await outgoing.end()
    each.delivery.sent(stretch.item)
    return begun


async def _pieces(item: Item, span: Span) -> AsyncIterator[bytes]:
    left = span.size
    async with item.open(span.first, span.last) as pieces:
        async for piece in pieces:
            left -= len(piece)
            yield piece
    if left:
        raise Damaged("an instance is not as long as it was")
