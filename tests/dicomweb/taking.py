"""An intake that keeps in memory what a connector fetches, as the cache would on disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.model.errors import GatewayError
from gateway.model.imaging import Level
from gateway.model.work.transfers import FetchRequest, InstanceRef, Target
from tests.dicomweb.asking import EASTVALE

Refusal = Callable[[str, int], GatewayError | None]
"""Whether an instance of which so many bytes have come is refused, and how."""


@dataclass(slots=True)
class Kept:
    """One instance that arrived whole."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    data_bytes: int = 0
    digest: hashlib.blake2b = field(default_factory=hashlib.blake2b)


class MemoryIntake:
    """An `Intake`. `refuses` is asked before the first byte (0), after every piece, and behind the last (-1)."""

    def __init__(self, refuses: Refusal = lambda _, __: None) -> None:
        self.kept: list[Kept] = []
        self.begun: list[str] = []
        self.arrived = asyncio.Event()
        """The first is here."""
        self._refuses = refuses

    @property
    def kept_uids(self) -> list[str]:
        """What arrived whole, in the order of its arrival."""
        return [each.sop_uid for each in self.kept]

    @asynccontextmanager
    async def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AsyncIterator[_MemoryTaking]:
        """See `Intake.take`."""
        self.begun.append(sop_uid)
        if (refusal := self._refuses(sop_uid, 0)) is not None:
            raise refusal
        yield _MemoryTaking(self, Kept(sop_class_uid, sop_uid, transfer_syntax), self._refuses)


class _MemoryTaking:
    def __init__(self, intake: MemoryIntake, one: Kept, refuses: Refusal) -> None:
        self._intake = intake
        self._one = one
        self._refuses = refuses

    def add(self, piece: bytes | memoryview) -> None:
        """See `Taking.add`."""
        self._one.data_bytes += len(piece)
        self._one.digest.update(piece)
        if (refusal := self._refuses(self._one.sop_uid, self._one.data_bytes)) is not None:
            raise refusal

    async def drain(self) -> None:
        """See `Taking.drain`."""

    async def keep(self) -> None:
        """See `Taking.keep`."""
        if (refusal := self._refuses(self._one.sop_uid, -1)) is not None:
            raise refusal
        self._intake.kept.append(self._one)
        self._intake.arrived.set()


def wanting(study_uid: str, *refs: InstanceRef, **narrowed: tuple[str, ...]) -> FetchRequest:
    """An errand to Eastvale: a study, or what of it is named."""
    level = Level.IMAGE if "sop_uids" in narrowed else Level.SERIES if narrowed else Level.STUDY
    return FetchRequest(EASTVALE, Target(level, study_uid, **narrowed), "request-1", 1, tuple(refs))
