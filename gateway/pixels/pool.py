"""Processes that decode, encode and show pixels, and may be killed for it.

Decoders read what strangers wrote, in C: each runs in a process without network, without files, with little memory and
little time, one task at a time. A process that dies, lies or takes too long is replaced, and its task alone fails. How
large a frame may be is checked before a task is made. Knows nothing of what tasks mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import structlog

from gateway.model.errors import InvalidRequest, NotAcceptable, OverCapacity
from gateway.pixels.limits import PixelLimits as PixelLimits
from gateway.pixels.wire import HEAD_BYTES_MAX, LENGTHS, Head, Message, decoded_head, encoded_head

log = structlog.get_logger(__name__)

Pieces = Sequence[bytes | memoryview]
Body = Pieces | Callable[[], Awaitable[Pieces]]
"""The bytes of a task, or what reads them."""

_STREAM_BYTES = 1024 * 1024
_TASKS_OF_ONE_MAX = 1_000
"""After as many tasks a process is replaced: what codecs leak does not add up."""


class Pool:
    """Runs tasks in workers. Processes are started when they are needed, and kept."""

    def __init__(self, limits: PixelLimits) -> None:
        self.limits = limits
        self._slots = asyncio.Semaphore(limits.workers_max)
        self._waiting = 0
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        for worker in workers:
            await worker.end()

    async def run(self, head: Head, body: Body) -> Message:
        """The answer to a task. Raises `NotAcceptable` where the pixels cannot be decoded within the limits,
        `InvalidRequest` where the task itself is wrong, `OverCapacity` where too many wait.

        A body that is still to be read is read once a worker is free: what waits holds no frame.
        """
        if self._waiting >= self.limits.waiting_max:
            raise OverCapacity("too many images wait to be decoded")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            return _read(await self._in_worker(head, await body() if callable(body) else body))
        finally:
            self._slots.release()

    async def _free(self) -> _Worker:
        """A worker that lives: one that was killed between two tasks costs nobody an image."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await worker.end()
        return await _started(self.limits)

    async def _in_worker(self, head: Head, body: Pieces) -> Message:
        worker = await self._free()
        self._busy.add(worker)
        is_sound = False
        try:
            async with asyncio.timeout(self.limits.wall_s_max):
                answer = await worker.exchange(head, body)
            is_sound = worker.tasks < _TASKS_OF_ONE_MAX and not answer.head.get("is_last")
            return answer
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            log.warning(
                "pixel worker replaced",
                task=str(head.get("task")),
                transfer_syntax=str(head.get("transfer_syntax")),
                error=type(error).__name__,
                tasks=worker.tasks,
            )
            raise NotAcceptable("the pixels could not be decoded within limits") from error
        finally:
            self._busy.discard(worker)
            if is_sound:
                self._idle.append(worker)
            else:
                await asyncio.shield(worker.end())


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, answer_bytes_max: int) -> None:
        self._process = process
        self._answer_bytes_max = answer_bytes_max
        self.tasks = 0

    @property
    def is_alive(self) -> bool:
        """Whether nobody has seen it end."""
        return self._process.returncode is None

    async def exchange(self, head: Head, body: Pieces) -> Message:
        """One task and its answer."""
        self.tasks += 1
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None, "the process was started with pipes"
        stdin.write(encoded_head(head, sum(len(piece) for piece in body)))
        for piece in body:
            stdin.write(piece)
            await stdin.drain()
        head_bytes, body_bytes = LENGTHS.unpack(await stdout.readexactly(LENGTHS.size))
        if head_bytes > HEAD_BYTES_MAX or body_bytes > self._answer_bytes_max:
            raise ValueError("the answer is longer than its limit")
        answer = decoded_head(await stdout.readexactly(head_bytes))
        return Message(answer, await stdout.readexactly(body_bytes))

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        transport = self._process.stdin
        if transport is not None:
            transport.close()


async def _started(limits: PixelLimits) -> _Worker:
    # Nothing of our own environment goes there but where modules are: it may hold what a key is unwrapped with.
    environment = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "gateway.pixels.worker",
            str(limits.memory_bytes_max),
            str(limits.cpu_s_max),
            str(limits.frame_bytes_max),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd="/",
            limit=_STREAM_BYTES,
        )
    except OSError as error:
        raise OverCapacity("no process could be started to decode pixels in") from error
    return _Worker(process, limits.answer_bytes_max)


def _read(answer: Message) -> Message:
    refused = answer.head.get("refused")
    if refused is None:
        return answer
    words = str(refused)[:200]
    raise InvalidRequest(words) if answer.head.get("is_asked_wrongly") else NotAcceptable(words)
