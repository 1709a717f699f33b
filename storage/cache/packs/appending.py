"""What the thread does that alone adds to packs: write in order, sync once for all who wait, give room back.

After a failed write or sync nobody knows what the disk holds, and a second sync would lie: the pack is given up behind
its last sync, everybody who has bytes in it fails, and nothing is written to it again. Knows descriptors and places;
who waits for what is `storage.cache.packs.objects`.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.model.errors import StoreFull, StoreUnavailable
from gateway.model.faults import faultpoint
from storage.cache.packs.frames import Extent
from storage.cache.packs.port import Buffer
from storage.keys import sync_folder

log = structlog.get_logger(__name__)

_BUFFERS_MAX = 512
"""Buffers in one system call (IOV_MAX is 1024)."""
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


@dataclass(slots=True)
class Write:
    """Bytes on their way to their place; `packs` are all that have to be durable with them, None for a mere append."""

    pack_id: bytes
    at: int
    buffers: list[Buffer]
    length: int
    future: asyncio.Future[None]
    packs: frozenset[bytes] | None = None


@dataclass(slots=True)
class Drop:
    """Payloads whose room goes back to the disk, and whole packs that go."""

    extents: Sequence[Extent]
    packs: Sequence[bytes]
    future: asyncio.Future[None]
    length: int = field(default=0, init=False)


Job = Write | Drop
Outcome = tuple[Job, StoreUnavailable | None]


class Appender:
    """What the writing thread does and alone may touch: the file that is added to, and what is not durable of it."""

    def __init__(self, path_of: Callable[[bytes], Path], *, is_synced: bool) -> None:
        self._path_of = path_of
        self._is_synced = is_synced
        self.broken: dict[bytes, StoreUnavailable] = {}
        """The packs that were given up, and why."""
        self.syncs = 0
        self._pack_id = b""
        self._descriptor = -1
        self._durable = 0
        """The length up to which the pack was synced."""
        self._written = 0

    def serve(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Write all of it in order, then sync once if anybody waits for that."""
        outcomes: dict[int, StoreUnavailable | None] = {}
        for number, job in enumerate(jobs):
            try:
                if isinstance(job, Write):
                    self._write(job)
                else:
                    self._drop(job)
                outcomes[number] = None
            except OSError as error:
                outcomes[number] = self._failed(error, is_write=isinstance(job, Write))
            except StoreUnavailable as error:
                outcomes[number] = error
        is_waited_for = any(
            isinstance(job, Write) and job.packs and outcomes[number] is None for number, job in enumerate(jobs)
        )
        if is_waited_for and self._descriptor >= 0:  # else a later write failed, and its pack was given up
            self._sync_or_give_up()
        return [(job, outcomes[number] or self._lost(job)) for number, job in enumerate(jobs)]

    def failure_of(self, packs: Iterable[bytes]) -> StoreUnavailable | None:
        """Why one of these packs was given up, if one was."""
        return next((self.broken[pack_id] for pack_id in packs if pack_id in self.broken), None)

    def close(self) -> None:
        """Sync and close the file."""
        if self._descriptor >= 0:
            self._sync_or_give_up()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, job: Write) -> None:
        if (failure := self.failure_of((job.pack_id,))) is not None:
            raise failure
        if job.pack_id != self._pack_id:
            if self._descriptor >= 0:
                self._sync_or_give_up()
            self._begin(job.pack_id)
        faultpoint("objects.write.before")
        _write_whole(self._descriptor, job.buffers, job.at)
        self._written = job.at + job.length
        faultpoint("objects.write.after")

    def _begin(self, pack_id: bytes) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._pack_id, self._descriptor, self._durable, self._written = pack_id, -1, 0, 0
        path = self._path_of(pack_id)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        faultpoint("objects.pack.created")
        sync_folder(path.parent)

    def _sync_or_give_up(self) -> None:
        if self._durable == self._written:
            return
        try:
            faultpoint("objects.sync.before")
            if self._is_synced:
                self.syncs += 1
                os.fdatasync(self._descriptor)
            self._durable = self._written
            faultpoint("objects.sync.after")
        except OSError as error:
            self._failed(error, is_write=True)

    def _failed(self, error: OSError, *, is_write: bool) -> StoreUnavailable:
        """Give up the pack behind its last sync: after this nothing of it may be believed."""
        log.error("study cache disk failed", alarm=True, error=errno.errorcode.get(error.errno or 0, "error"))
        failure = StoreUnavailable("the disk of the study cache failed")
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            failure = StoreFull("the disk of the study cache is full")
        if is_write and self._pack_id:
            self.broken[self._pack_id] = failure
            self._cut()
        return failure

    def _cut(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with suppress(OSError):
            if descriptor >= 0:
                os.ftruncate(descriptor, self._durable)
                os.close(descriptor)
            if not self._durable:
                self._path_of(self._pack_id).unlink()
        self._pack_id = b""

    def _lost(self, job: Job) -> StoreUnavailable | None:
        packs = (job.pack_id, *(job.packs or ())) if isinstance(job, Write) else ()
        return self.failure_of(packs)

    def _drop(self, job: Drop) -> None:
        faultpoint("objects.drop.before")
        for extent in job.extents:
            with suppress(FileNotFoundError):
                _punch(self._path_of(extent.pack_id), extent)
        for pack_id in job.packs:
            self._path_of(pack_id).unlink(missing_ok=True)
        faultpoint("objects.drop.after")


def _write_whole(descriptor: int, buffers: list[Buffer], at: int) -> None:
    rest = [memoryview(buffer) for buffer in buffers]
    while rest:
        written = os.pwritev(descriptor, rest[:_BUFFERS_MAX], at)
        at += written
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest and written:
            rest[0] = rest[0][written:]


def _punch(path: Path, extent: Extent) -> None:
    """Give back the room of some bytes; where the file system cannot, they stay until their pack goes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        place, length = ctypes.c_int64(extent.at), ctypes.c_int64(extent.length)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate64(descriptor, _PUNCH_HOLE_KEEP_SIZE, place, length) != 0:
            number = ctypes.get_errno()
            if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
