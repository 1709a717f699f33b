"""An instance on its way in: held to what was announced while its first bytes arrive, then sealed as it comes.

What it says of itself must be what is waited for, UIDs and patient alike: an archive that sends another person's image
under an awaited UID must not have it kept, let alone shown (SAF-08, SAF-35). Reads the header and nothing behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from gateway.instances.header import (
    PATIENT_ID,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    Header,
    HeaderReader,
)
from gateway.instances.listing import row_of
from gateway.model.errors import InvalidRequest
from gateway.model.work.transfers import Described, InstanceRef, Writing


@dataclass(frozen=True, slots=True)
class Awaited:
    """What an instance has to say of itself."""

    ref: InstanceRef
    patient_id: str
    """As its archive listed it."""

    def check(self, header: Header) -> None:
        """Raises `InvalidRequest`."""
        said = (header.uid(STUDY_UID), header.uid(SERIES_UID), header.uid(SOP_INSTANCE_UID))
        if said != (self.ref.study_uid, self.ref.series_uid, self.ref.sop_uid):
            raise InvalidRequest("the archive sent another instance under this UID")
        if self.ref.sop_class_uid and header.uid(SOP_CLASS_UID) != self.ref.sop_class_uid:
            raise InvalidRequest("the archive sent an instance of another SOP class under this UID")
        if header.text(PATIENT_ID) != self.patient_id:
            raise InvalidRequest("the instance names another patient than the archive listed it under")


class Arriving:
    """One awaited instance (`gateway.model.work.transfers.Taking`)."""

    def __init__(
        self,
        awaited: Awaited,
        transfer_syntax: str,
        writing: Writing,
        keep: Callable[[Described], Awaitable[None]],
        stand_back: Callable[[], Awaitable[None]],
    ) -> None:
        """`stand_back` lets those pass who are in a hurry."""
        self._stand_back = stand_back
        self._awaited = awaited
        self._reader: HeaderReader | None = HeaderReader(transfer_syntax)
        self._writing = writing
        self._keep = keep
        self._row = b""

    def add(self, piece: bytes | memoryview) -> None:
        """See `Taking`."""
        if self._reader is not None and self._reader.feed(piece):
            self._check(self._reader.header)
            self._reader = None
        self._writing.add(piece)

    async def drain(self) -> None:
        """See `Taking`."""
        await self._stand_back()
        await self._writing.drain()

    async def keep(self) -> None:
        """See `Taking`."""
        if self._reader is not None:
            self._reader.end()
            self._check(self._reader.header)
        await self._keep(Described(metadata=self._row))

    def _check(self, header: Header) -> None:
        self._awaited.check(header)
        self._row = orjson.dumps(row_of(header))
