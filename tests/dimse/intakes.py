"""An `Intake` that keeps instances in memory, and refuses those that a test names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from gateway.model.errors import GatewayError, Unwanted
from gateway.model.work.transfers import Taking


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance that was kept."""

    sop_class_uid: str
    transfer_syntax: str
    content: bytes


class MemoryTaking:
    """See `Taking`."""

    def __init__(self, keep: Callable[[bytes], None], refusal: GatewayError | None) -> None:
        self._content = bytearray()
        self._keep = keep
        self._refusal = refusal

    def add(self, piece: bytes | memoryview) -> None:
        """See `Taking`."""
        if self._refusal is not None:
            raise self._refusal
        self._content += piece

    async def drain(self) -> None:
        """See `Taking`."""

    async def keep(self) -> None:
        """See `Taking`."""
        self._keep(bytes(self._content))


class MemoryIntake:
    """See `Intake`. Refuses what is not in `wanted`, if that is given, and `unreadable` ones at their first byte."""

    def __init__(self, wanted: Collection[str] | None = None, unreadable: Collection[str] = ()) -> None:
        self.kept: dict[str, Kept] = {}
        self.refused: list[str] = []
        self.begun = asyncio.Event()
        """Set once an instance begins to come."""
        self.first = asyncio.Event()
        """Set once an instance is kept."""
        self._wanted = wanted
        self._unreadable = unreadable

    def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AbstractAsyncContextManager[Taking]:
        """See `Intake`."""
        return self._taking(sop_class_uid, sop_uid, transfer_syntax)

    @contextlib.asynccontextmanager
    async def _taking(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AsyncIterator[Taking]:
        if self._wanted is not None and sop_uid not in self._wanted:
            self.refused.append(sop_uid)
            raise Unwanted("nobody waits for this instance")

        self.begun.set()

        def keep(content: bytes) -> None:
            self.kept[sop_uid] = Kept(sop_class_uid, transfer_syntax, content)
            self.first.set()

        yield MemoryTaking(keep, Unwanted("not what was announced") if sop_uid in self._unreadable else None)
