"""Pack files on a local disk: appended to by one thread, made durable together, read from any thread.

Every byte that comes here is sealed already; nothing here opens it. Commits that wait while the disk syncs share the
next sync, so a lone writer pays exactly one for an instance and several pay less (DEC-36). Names are random ids; there
are no temporary files. What lies where is `storage.cache.packs.frames`, what the thread does `storage.cache.appending`.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from gateway.model.errors import ConfigurationError, Damaged, OverCapacity, StoreUnavailable
from storage.cache.packs.appending import Appender, Drop, Job, Outcome, Write
from storage.cache.packs.frames import HEAD_BYTES, ID_BYTES, Extent, Frame, FrameKind, head, part, read_head
from storage.cache.packs.port import Buffer, Placed, SealsEntry
from storage.keys import sync_folder

PACK_BYTES_MAX = 256 * 1024 * 1024
"""A pack that has reached so many bytes is not added to."""
WAITING_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of all writers together that wait for the disk; beyond it `OverCapacity`."""
_SUFFIX = ".pack"
_LOCK = "lock"


class LocalObjects:
    """The packs of one folder; see `storage.cache.packs.port.Objects`. `async with`; one process at a time adds."""

    segments_at_once = 4
    reads_at_once = 1

    def __init__(
        self,
        folder: Path,
        random: Callable[[int], bytes],
        *,
        pack_bytes_max: int = PACK_BYTES_MAX,
        is_synced: bool = True,
    ) -> None:
        """`is_synced=False` measures what durability costs; nothing acknowledged is safe then."""
        self.folder = folder
        self._random = random
        self._pack_bytes_max = pack_bytes_max
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._waiting_bytes = 0
        self._is_closed = False
        self._pack_id, self._end = b"", 0
        self._used: Counter[bytes] = Counter()
        self._lock = -1
        self._thread: threading.Thread | None = None
        self._appender = Appender(self._path, is_synced=is_synced)

    @property
    def syncs(self) -> int:
        """See `Objects`."""
        return self._appender.syncs

    @property
    def fault(self) -> str:
        """See `Objects`. A disk says it with each write."""
        return ""

    async def __aenter__(self) -> LocalObjects:
        """Take the folder; raises `ConfigurationError` where it cannot be used or another process has it."""
        await asyncio.to_thread(self._take)
        self._thread = threading.Thread(target=self._run, name="pack-writer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what waits, then let go of the folder."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        os.close(self._lock)

    def append(
        self, object_id: bytes, before: Sequence[Extent], buffers: list[Buffer], *, must_last: bool = False
    ) -> Placed:
        """See `Objects`. The future is done when they are written."""
        with self._changed:
            extent, write = self._placed(object_id, before, buffers)
            self._enqueue(write)
        return (*before, extent), write.future

    def commit(
        self,
        object_id: bytes,
        before: Sequence[Extent],
        rest: list[Buffer],
        entry: SealsEntry,
        *,
        must_last: bool = False,
    ) -> Placed:
        """See `Objects`."""
        with self._changed:
            chunk, write = self._placed(object_id, before, rest)
            extents = (*before, chunk)
            told = entry(extents)
            place = Extent(chunk.pack_id, chunk.at + chunk.length + HEAD_BYTES, len(told))
            write.buffers += [head(FrameKind.ENTRY, object_id, place), told]
            write.length += HEAD_BYTES + len(told)
            self._end = place.at + place.length
            write.packs = frozenset(extent.pack_id for extent in extents)
            self._enqueue(write)
        return (*extents, place), write.future

    def drop(self, extents: Sequence[Extent] = (), packs: Sequence[bytes] = ()) -> asyncio.Future[None]:
        """See `Objects`."""
        with self._changed:
            job = Drop(extents, packs, asyncio.get_running_loop().create_future())
            self._enqueue(job)
        return job.future

    def release(self, extents: Sequence[Extent]) -> None:
        """See `Objects`."""
        with self._changed:
            for pack_id in {extent.pack_id for extent in extents}:
                self._used[pack_id] -= 1

    def settled(self) -> list[bytes]:
        """See `Objects`."""
        with self._changed:
            found = [pack_id for pack_id, users in self._used.items() if not users and pack_id != self._pack_id]
            for pack_id in found:
                del self._used[pack_id]
                self._appender.broken.pop(pack_id, None)
        return found

    def goes_whole(self, pack_id: bytes) -> bool:
        """See `Objects`. Where the file system punches no holes it is so all the same, and nobody is the wiser."""
        return False

    def is_at_hand(self, extents: Sequence[Extent]) -> bool:
        """See `Objects`."""
        return True

    def packs(self) -> dict[bytes, int]:
        """See `Objects`."""
        return {
            bytes.fromhex(path.stem): path.stat().st_size for path in self.folder.glob(f"[0-9a-f][0-9a-f]/*{_SUFFIX}")
        }

    def frames(self, pack_id: bytes) -> Iterator[Frame]:
        """See `Objects`. Raises `OSError`."""
        with closing(_Pack(self._path(pack_id))) as pack:
            at, length = 0, pack.length
            while frame := read_head(pack_id, at, pack.read(at, HEAD_BYTES)):
                if frame.payload.at + frame.payload.length > length:
                    return
                yield frame
                at = frame.payload.at + frame.payload.length

    def read(self, extents: Sequence[Extent], at: int, length: int) -> bytes:
        """See `Objects`."""
        found = []
        try:
            for extent in part(extents, at, length):
                with closing(_Pack(self._path(extent.pack_id))) as pack:
                    found.append(pack.read(extent.at, extent.length))
        except OSError as error:
            raise Damaged(f"a pack cannot be read: {errno.errorcode.get(error.errno or 0, 'error')}") from error
        whole = found[0] if len(found) == 1 else b"".join(found)
        if len(whole) != length:
            raise Damaged("a pack ends before what it should hold")
        return whole

    def _path(self, pack_id: bytes) -> Path:
        name = pack_id.hex()
        return self.folder / f"{name[:2]}/{name}{_SUFFIX}"

    def _take(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for number in range(256):
                (self.folder / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_folder(self.folder)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ConfigurationError(["cache.folder: another process adds to it"]) from error
        except OSError as error:
            raise ConfigurationError([f"cache.folder: cannot be used: {error.strerror}"]) from error

    def _placed(self, object_id: bytes, before: Sequence[Extent], buffers: list[Buffer]) -> tuple[Extent, Write]:
        length = sum(map(len, buffers))
        if self._waiting_bytes + length > WAITING_BYTES_MAX:
            raise OverCapacity("too many bytes wait for the disk of the study cache")
        if not self._pack_id or self._end >= self._pack_bytes_max or self._appender.failure_of((self._pack_id,)):
            self._pack_id, self._end = self._random(ID_BYTES), 0
        extent = Extent(self._pack_id, self._end + HEAD_BYTES, length)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        framed = [head(FrameKind.CHUNK, object_id, extent), *buffers]
        write = Write(extent.pack_id, self._end, framed, HEAD_BYTES + length, future)
        self._end = extent.at + length
        if all(other.pack_id != extent.pack_id for other in before):
            self._used[extent.pack_id] += 1
        return extent, write

    def _enqueue(self, job: Job) -> None:
        if self._is_closed:
            raise StoreUnavailable("the study cache is closed")
        self._waiting.append(job)
        self._waiting_bytes += job.length
        self._changed.notify_all()

    def _run(self) -> None:
        while jobs := self._wait():
            outcomes = self._appender.serve(jobs)
            with self._changed:
                self._waiting_bytes -= sum(job.length for job in jobs)
            _hand_out(outcomes)
        self._appender.close()

    def _wait(self) -> list[Job]:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            jobs = list(self._waiting)
            self._waiting.clear()
            return jobs


class _Pack:
    """A pack that is read."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def length(self) -> int:
        """How much of it there is now. A system call, and a turn at the interpreter to wait for."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, at: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, at)


def _hand_out(outcomes: Sequence[Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for job, error in outcomes:
        by_loop.setdefault(job.future.get_loop(), []).append((job, error))
    for loop, theirs in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_deliver, theirs)


def _deliver(outcomes: Sequence[Outcome]) -> None:
    for job, error in outcomes:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(None)
        else:
            job.future.set_exception(error)
            job.future.exception()  # whoever gave up waiting need not hear of it
