"""WADO-RS frames and bulk values: the pixels of an instance one by one, and what its JSON only names (PS3.18 10.4.1.3).

Frames go out as they are kept wherever the caller takes them so, each part naming the transfer syntax that its bytes
are in; unpacking them is for `Renderer`. A bulk value's address comes from the metadata and passes the same policy.
"""

from __future__ import annotations

import re
from functools import partial

from aiohttp import hdrs, web

from dicomweb.bodies.multipart import Multipart
from dicomweb.conditional import Span
from dicomweb.wado.contents import Layouts, bulk_value_of, frames_of
from dicomweb.wado.images import INSTANCE_PATH, Archive, Asked, answered, resource_paths
from dicomweb.wado.negotiation import (
    MEDIA_TYPES,
    OCTET_STREAM,
    FrameForm,
    Packing,
    bulk_packing,
    frame_form,
)
from dicomweb.wado.rendered import Renderer
from dicomweb.wado.single import Stretch, send_stretch
from gateway.model.errors import InvalidRequest, NotAcceptable
from gateway.model.imaging import Level
from gateway.model.work.retrievals import Item

FRAMES_ASKED_MAX = 4_096
"""In one request."""

_FRAME_LIST = re.compile(r"[0-9]{1,9}(?:,[0-9]{1,9})*")


def routes(archive: Archive, renderer: Renderer | None) -> list[web.RouteDef]:
    """Frames and bulk values of instances; HEAD comes with GET."""
    layouts = Layouts()
    frames = partial(_frames, archive, renderer, layouts)
    bulk = partial(_bulk, archive, layouts)
    return [
        *(web.get(path, frames) for path in resource_paths(INSTANCE_PATH + "/frames/{frames}")),
        *(web.get(path, bulk) for path in resource_paths(INSTANCE_PATH + "/bulkdata/{path:.+}")),
    ]


async def _frames(
    archive: Archive, renderer: Renderer | None, layouts: Layouts, request: web.Request
) -> web.StreamResponse:
    async def answer(each: Asked) -> web.StreamResponse:
        numbers = _numbers(request.match_info["frames"])
        async for item in each.delivery:
            form = frame_form(each.accept, request.query.get("accept"), item.transfer_syntax, len(numbers))
            if form.is_as_stored:
                return await _send(each, form, await frames_of(item, layouts, numbers))
            if renderer is None:
                raise NotAcceptable("the frames can only be given as they are kept")
            return await _send_unpacked(each, form, item, renderer, numbers)
        return each.nothing()

    return await answered(archive, request, Level.IMAGE, answer)


async def _bulk(archive: Archive, layouts: Layouts, request: web.Request) -> web.StreamResponse:
    async def answer(each: Asked) -> web.StreamResponse:
        packing = bulk_packing(each.accept, request.query.get("accept"))
        async for item in each.delivery:
            value = await bulk_value_of(item, request.match_info["path"])
            if value.data_bytes is None:
                return await _compressed_pixels(each, item, layouts)
            spans = (Span(value.first, value.first + value.data_bytes - 1),) if value.data_bytes else ()
            return await _send(
                each, FrameForm(packing, OCTET_STREAM, item.transfer_syntax, True), [Stretch(item, spans)]
            )
        return each.nothing()

    return await answered(archive, request, Level.IMAGE, answer)


async def _compressed_pixels(each: Asked, item: Item, layouts: Layouts) -> web.StreamResponse:
    """Compressed pixels have no bytes of their own but those of their frames, one part for each."""
    stretches = await frames_of(item, layouts)
    media_type = MEDIA_TYPES.get(item.transfer_syntax, OCTET_STREAM)
    return await _send(each, FrameForm(Packing.PARTS, media_type, item.transfer_syntax, True), stretches)


async def _send(each: Asked, form: FrameForm, stretches: list[Stretch]) -> web.StreamResponse:
    """Hand out the bytes where they lie, by themselves or in parts."""
    if form.packing is Packing.SINGLE:
        return await send_stretch(each, stretches[0], form.content_type)
    if (unchanged := each.unchanged(each.tag)) is not None:
        return unchanged
    multipart = Multipart(each.archive.new_boundary(), form.media_type)
    if each.request.method != hdrs.METH_HEAD:
        for number, stretch in enumerate(stretches):
            head = multipart.head(form.content_type, is_first=number == 0)
            pieces = stretch.pieces()
            # The first piece before the answer begins: what does not open at all still gets a status of its own.
            piece = await anext(pieces, b"")
            if each.outgoing.response is None:
                await _begin(each, multipart)
            await each.outgoing.chunk(head, stretch.body_bytes)
            await each.outgoing.write(piece)
            async for piece in pieces:
                await each.outgoing.write(piece)
    return await _close(each, multipart, stretches[0].item)


async def _send_unpacked(
    each: Asked, form: FrameForm, item: Item, renderer: Renderer, numbers: tuple[int, ...]
) -> web.StreamResponse:
    """Hand out frames that somebody else has to unpack first, one after the other."""
    if (unchanged := each.unchanged(each.tag)) is not None:
        return unchanged
    if form.packing is Packing.SINGLE:
        response = web.Response(body=await renderer.unpacked(item, numbers[0]))
        response.headers[hdrs.CONTENT_TYPE] = form.content_type
        each.delivery.sent(item)
        return each.dress(response, tag=each.tag)
    multipart = Multipart(each.archive.new_boundary(), form.media_type)
    if each.request.method != hdrs.METH_HEAD:
        for place, number in enumerate(numbers):
            unpacked = await renderer.unpacked(item, number)
            if each.outgoing.response is None:
                await _begin(each, multipart)
            await each.outgoing.chunk(multipart.head(form.content_type, is_first=place == 0), len(unpacked))
            await each.outgoing.write(unpacked)
    return await _close(each, multipart, item)


async def _begin(each: Asked, multipart: Multipart) -> web.StreamResponse:
    response = web.StreamResponse()
    response.headers[hdrs.CONTENT_TYPE] = multipart.content_type
    return await each.outgoing.begin(each.dress(response, tag=each.tag))


async def _close(each: Asked, multipart: Multipart, item: Item) -> web.StreamResponse:
    if each.request.method == hdrs.METH_HEAD:
        each.delivery.spare()
        begun = await _begin(each, multipart)
        await each.outgoing.end()
        return begun
    await each.outgoing.chunk(multipart.end)
    await each.outgoing.end()
    each.delivery.sent(item)
    assert each.outgoing.response is not None
    return each.outgoing.response


def _numbers(text: str) -> tuple[int, ...]:
    plain = text.replace(" ", "")
    if not _FRAME_LIST.fullmatch(plain):
        raise InvalidRequest("frames are named by whole numbers and commas")
    numbers = tuple(map(int, plain.split(",")))
    if 0 in numbers:
        raise InvalidRequest("frames are counted from 1")
    if len(numbers) > FRAMES_ASKED_MAX:
        raise InvalidRequest(f"more than {FRAMES_ASKED_MAX} frames in one request")
    return numbers
