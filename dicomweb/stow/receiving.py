"""Take in the instances of one request as they arrive, each durable before the next is read (PS3.18 10.5.1, DEC-36).

Nobody holds an instance: its head is read, then its bytes go on as they come. One that is refused is read to its end,
for those behind it are none the worse. Knows borders and heads of files, nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from dicomweb.stow.outcome import FailureReason, Outcome, reason_of
from dicomweb.wado.file_meta import FileMeta, read_file_meta
from dicomweb.wado.parts import Event, PartBegins, PartEnds, PartsReader
from gateway.instances.header import SERIES_UID, STUDY_UID, HeaderReader
from gateway.model.errors import GatewayError, InvalidRequest, OverCapacity, RequestTooLarge, ServiceFault, StoreFull
from gateway.model.keys import is_uid
from gateway.model.work.transfers import Intake, Taking

DRAIN_BYTES = 1024 * 1024
"""So much is added before what waits to be written is waited for."""

Pieces = AsyncIterator[bytes | memoryview]


class Receiving:
    """One request's instances, and what became of each."""

    def __init__(self, intake: Intake, study_uid: str, instances_max: int) -> None:
        self._intake = intake
        self._study_uid = study_uid
        """Of the path; empty: any."""
        self._instances_max = instances_max
        self.outcomes: list[Outcome] = []
        self.is_full = False
        """Whether there was no room for one of them."""

    async def take_file(self, body: AsyncIterator[bytes]) -> None:
        """A body that is one instance. Raises a `ServiceFault` that all instances would meet."""
        async with aclosing(_as_they_come(body)) as pieces:
            await self._take(pieces)

    async def take_parts(self, body: AsyncIterator[bytes], boundary: str) -> None:
        """A multipart body. Raises also `InvalidRequest` for one that is none; what came before is kept."""
        reader = PartsReader(boundary, parts_max=self._instances_max)
        async with aclosing(_events(reader, body)) as events:
            async for event in events:
                if isinstance(event, PartBegins):
                    await self._take(_contents(events))
        reader.end()

    async def _take(self, pieces: Pieces) -> None:
        meta: FileMeta | None = None
        reader: HeaderReader | None = None
        reason: FailureReason | None = None
        try:
            meta, first = await _opened(pieces)
            async with self._intake.take(meta.sop_class_uid, meta.sop_uid, meta.transfer_syntax) as taking:
                reader = HeaderReader(meta.transfer_syntax)
                await self._fill(taking, reader, first, pieces)
                await taking.keep()
        except (StoreFull, OverCapacity) as error:
            reason = reason_of(error)
            self.is_full |= isinstance(error, StoreFull)
        except (ServiceFault, RequestTooLarge):
            # The same for every instance: the request as a whole is refused, and may be sent again as it is.
            raise
        except GatewayError as error:
            reason = reason_of(error) if meta is not None else FailureReason.NOT_UNDERSTOOD
        async for _ in pieces:
            pass
        self.outcomes.append(_outcome(meta, reader, reason))

    async def _fill(self, taking: Taking, reader: HeaderReader, first: bytes, pieces: Pieces) -> None:
        is_read = self._read(reader, first)
        taking.add(first)
        waiting = len(first)
        async for piece in pieces:
            is_read = is_read or self._read(reader, piece)
            taking.add(piece)
            waiting += len(piece)
            if waiting >= DRAIN_BYTES:
                await taking.drain()
                waiting = 0
        if not is_read:
            reader.end()
            self._check(reader)

    def _read(self, reader: HeaderReader, piece: bytes | memoryview) -> bool:
        is_read = reader.feed(piece)
        if is_read:
            self._check(reader)
        return is_read

    def _check(self, reader: HeaderReader) -> None:
        study_uid, series_uid = reader.header.uid(STUDY_UID), reader.header.uid(SERIES_UID)
        if not (is_uid(study_uid) and is_uid(series_uid)):
            raise InvalidRequest("the instance does not name its study and series")
        if self._study_uid not in ("", study_uid):
            raise InvalidRequest("the instance belongs to another study than the path names")


async def _opened(pieces: Pieces) -> tuple[FileMeta, bytes]:
    """What the file says of itself, and the first bytes of its data set. Raises `InvalidRequest`."""
    held = b""
    async for piece in pieces:
        held += piece
        meta = read_file_meta(held)
        if meta is not None:
            return meta, held[meta.data_set_at :]
    raise InvalidRequest("the file ends inside its head")


async def _events(reader: PartsReader, body: AsyncIterator[bytes]) -> AsyncGenerator[Event, None]:
    async for chunk in body:
        for event in reader.feed(chunk):
            yield event


async def _contents(events: AsyncIterator[Event]) -> Pieces:
    """The contents of the part that has begun."""
    async for event in events:
        if isinstance(event, PartEnds):
            return
        assert isinstance(event, memoryview)
        yield event


async def _as_they_come(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes | memoryview, None]:
    async for piece in body:
        yield piece


def _outcome(meta: FileMeta | None, reader: HeaderReader | None, reason: FailureReason | None) -> Outcome:
    if meta is None:
        return Outcome(reason=reason)
    header = reader.header if reader is not None else None
    return Outcome(
        meta.sop_class_uid,
        meta.sop_uid,
        header.uid(STUDY_UID) if header is not None else "",
        header.uid(SERIES_UID) if header is not None else "",
        reason,
    )
