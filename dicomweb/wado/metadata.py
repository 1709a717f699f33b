"""WADO-RS metadata: everything of instances but their bulk, in the DICOM JSON model (PS3.18 10.4.1.2 and Annex F).

Each instance's JSON is kept as it is given; only the addresses of its bulk values are made whole, so that they lead to
this gateway and pass the same policy. Nothing is parsed. Compressed on the way where the caller takes that.
"""

from __future__ import annotations

import zlib
from functools import partial

from aiohttp import hdrs, web

from dicomweb.accept import accepts_gzip, json_type
from dicomweb.wado.images import PATHS, Archive, Asked, answered, resource_paths
from gateway.instances.description import BULK_BASE, with_base
from gateway.model.imaging import Level
from gateway.model.work.retrievals import Written
from gateway.model.work.transfers import InstanceRef

PIECE_BYTES = 256 * 1024
"""Smaller JSON waits for more, so that ten thousand instances are not as many writes."""

_GZIP_LEVEL = 1


def routes(archive: Archive) -> list[web.RouteDef]:
    """The metadata of a study, a series and an instance; HEAD comes with GET."""
    return [
        web.get(path, partial(_metadata, archive, level))
        for level, under in PATHS
        for path in resource_paths(f"{under}/metadata")
    ]


def instance_url(address: str, ref: InstanceRef) -> str:
    """Where an instance is found below the address of a service."""
    return f"{address}/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.sop_uid}"


async def _metadata(archive: Archive, level: Level, request: web.Request) -> web.StreamResponse:
    async def answer(each: Asked) -> web.StreamResponse:
        media_type = json_type(each.accept, each.request.query.get("accept"))
        if (unchanged := each.unchanged(each.tag)) is not None:
            return unchanged
        return await _Array(each, media_type).sent()

    return await answered(archive, request, level, answer)


class _Array:
    """One JSON array of instances while it is written; without its closing bracket it is not whole."""

    def __init__(self, each: Asked, media_type: str) -> None:
        self._each = each
        self._media_type = media_type
        self._pending = bytearray()
        self._waiting: list[Written] = []
        self._handed_out: set[str] = set()
        self._promised_gap: frozenset[str] = frozenset()
        self._compressor: zlib._Compress | None = None
        if accepts_gzip(each.request.headers.get(hdrs.ACCEPT_ENCODING)):
            self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    async def sent(self) -> web.StreamResponse:
        """Write all that can be had; raises where that is nothing."""
        each, address = self._each, self._each.address
        if each.request.method == hdrs.METH_HEAD:
            each.delivery.spare()
            begun = await self._begin()
            await each.outgoing.end()
            return begun
        async for written in each.delivery.described():
            if not written.json:
                each.delivery.failed(written, written.words or "its attributes were not read")
                continue
            self._pending += b"," if self._handed_out else b"["
            self._pending += with_base(written.json, f"{instance_url(address, written.ref)}/{BULK_BASE}")
            self._handed_out.add(written.ref.sop_uid)
            self._waiting.append(written)
            if len(self._pending) >= PIECE_BYTES or each.outgoing.response is None:
                await self._write()
        if not self._handed_out:
            return each.nothing()
        given = self._handed_out | self._promised_gap
        if any(ref.sop_uid not in given for ref in each.delivery.refs):
            # Cut without the bracket: half an array is not taken for a study (B10).
            await self._write()
        else:
            self._pending += b"]"
            await self._write(is_last=True)
            await each.outgoing.end()
        assert each.outgoing.response is not None
        return each.outgoing.response

    async def _write(self, *, is_last: bool = False) -> None:
        each = self._each
        if each.outgoing.response is None:
            await self._begin()
        piece = bytes(self._pending)
        self._pending.clear()
        if self._compressor is not None:
            piece = self._compressor.compress(piece) + (self._compressor.flush() if is_last else b"")
        if piece:
            await each.outgoing.chunk(piece)
        for item in self._waiting:
            each.delivery.sent(item)
        self._waiting.clear()

    async def _begin(self) -> web.StreamResponse:
        each = self._each
        self._promised_gap = frozenset(failure.ref.sop_uid for failure in each.delivery.failures)
        response = web.StreamResponse(status=each.status)
        response.content_type = self._media_type
        if self._compressor is not None:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return await each.outgoing.begin(each.dress(response, tag=each.tag))
