"""WADO-RS for whole instances: a study, a series or one instance as it is kept (PS3.18 10.4.1, product B5 and B10).

Hands on bytes piece by piece, as fast as the caller reads, and never holds an instance. A body is closed only when
everything is in it that its status promised: a gap found on the way is told in a part of its own, and the connection
is cut where the closing boundary would stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import orjson
from aiohttp import hdrs, web

from dicomweb.bodies.multipart import Multipart, file_head
from dicomweb.problem import CONTENT_TYPE as PROBLEM
from dicomweb.problem import TYPE_PREFIX
from dicomweb.wado.images import PATHS, Archive, Asked, answered, as_taken, resource_paths
from dicomweb.wado.negotiation import DICOM, InstanceForm, Packing, instance_form
from dicomweb.wado.single import send_stretch, whole
from gateway.model.errors import Damaged, NotAcceptable, NotFound
from gateway.model.imaging import Level
from gateway.model.work.retrievals import Item

INCOMPLETE = TYPE_PREFIX + "incomplete"


def routes(archive: Archive) -> list[web.RouteDef]:
    """Study, series and instance; HEAD comes with GET."""
    return [
        web.get(path, partial(_retrieve, archive, level)) for level, under in PATHS for path in resource_paths(under)
    ]


async def _retrieve(archive: Archive, level: Level, request: web.Request) -> web.StreamResponse:
    async def answer(each: Asked) -> web.StreamResponse:
        form = instance_form(each.accept, each.request.query.get("accept"), is_one=level is Level.IMAGE)
        return await (_file(each, form) if form.packing is Packing.SINGLE else _Body(each, form).sent())

    return await answered(archive, request, level, answer)


@dataclass
class _Body:
    """One multipart body while it is written."""

    each: Asked
    form: InstanceForm
    handed_out: set[str] = field(default_factory=set)
    promised_gap: frozenset[str] = frozenset()
    """What was known to be missing when the answer began: its status and a warning say so."""
    not_taken: int = 0

    async def sent(self) -> web.StreamResponse:
        """Write everything that can be had; raises where that is nothing."""
        each = self.each
        if (unchanged := each.unchanged(each.tag)) is not None:
            return unchanged
        self.multipart = Multipart(each.archive.new_boundary(), DICOM)
        if each.request.method == hdrs.METH_HEAD:
            each.delivery.spare()
            begun = await self._begun()
            await each.outgoing.end()
            return begun
        async for item in each.delivery:
            await self._hand_out(item)
        if each.outgoing.response is None:
            if self.not_taken:
                raise NotAcceptable("the instances cannot be given in a transfer syntax that is accepted")
            return each.nothing()
        missing = [ref.sop_uid for ref in each.delivery.refs if ref.sop_uid not in self.handed_out]
        if set(missing) <= self.promised_gap:
            await each.outgoing.chunk(self.multipart.end)
            await each.outgoing.end()
        else:
            await self._tell_gap(missing)
        return each.outgoing.response

    async def _hand_out(self, item: Item) -> None:
        each = self.each
        taken = await as_taken(each, item, self.form.syntaxes)
        if taken is None:
            self.not_taken += 1
            return
        try:
            await self._write(taken)
        except (Damaged, NotFound) as error:
            each.delivery.failed(item, str(error))
            if each.outgoing.is_inside:
                raise
            return
        self.handed_out.add(item.ref.sop_uid)
        # Nobody acknowledges over HTTP: the most that is known is that the connection took it.
        each.delivery.sent(item)

    async def _write(self, item: Item) -> None:
        """Write one part; what fails before its first byte is there leaves the body as it was."""
        async with item.open() as pieces:
            first = await anext(pieces, b"")
            is_first = self.each.outgoing.response is None
            if is_first:
                await self._begun()
            content_type = f"{DICOM}; transfer-syntax={item.transfer_syntax}"
            head = self.multipart.head(content_type, is_first=is_first) + file_head(item.ref, item.transfer_syntax)
            await self.each.outgoing.chunk(head, item.data_bytes)
            await self.each.outgoing.write(first)
            async for piece in pieces:
                await self.each.outgoing.write(piece)

    async def _begun(self) -> web.StreamResponse:
        each = self.each
        self.promised_gap = frozenset(failure.ref.sop_uid for failure in each.delivery.failures)
        response = web.StreamResponse(status=each.status)
        response.headers[hdrs.CONTENT_TYPE] = self.multipart.content_type
        return await each.outgoing.begin(each.dress(response, tag=each.tag))

    async def _tell_gap(self, missing: list[str]) -> None:
        """Say what is not in the body, the same words for every reason (SAF-02), and leave it open."""
        problem = {
            "type": INCOMPLETE,
            "title": "Not everything could be given",
            "status": 206,
            "detail": f"{len(missing)} of {len(self.each.delivery.refs)} instances could not be had",
            "requestId": self.each.request_id,
            "missing": missing,
        }
        await self.each.outgoing.chunk(self.multipart.head(PROBLEM) + orjson.dumps(problem))


async def _file(each: Asked, form: InstanceForm) -> web.StreamResponse:
    """One instance as a DICOM file, or some of its bytes."""
    async for item in each.delivery:
        taken = await as_taken(each, item, form.syntaxes)
        if taken is None:
            raise NotAcceptable("the instance cannot be given in a transfer syntax that is accepted")
        head = file_head(taken.ref, taken.transfer_syntax)
        return await send_stretch(each, whole(taken, head), f"{DICOM}; transfer-syntax={taken.transfer_syntax}")
    return each.nothing()
