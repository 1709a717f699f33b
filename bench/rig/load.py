"""The load generator: a process that keeps N connections busy and times every answer from question to last byte.

Run as `python -m bench.rig.load`. One JSON object a line comes in on standard input (a `Load`), an `Outcome` goes out.
Connections live only for their load; each asks its next question when the last answer is whole (a closed loop), so the
rate at N callers is N over the mean time. Light by writing every question beforehand and hardly reading the answers:
what it can do at most is measured beside the rest and reported.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count

from bench.figures import ROOT, quantile
from bench.rig import wire
from bench.rig.processes import python, stop

HANG_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where to ask: a port of loopback, with or without TLS and client certificate."""

    port: int
    ca: str = ""
    certificate: str = ""
    private_key: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, by how many callers, until when: `duration_s`, or `questions` in all if that is not zero."""

    door: Door
    paths: tuple[str, ...]
    callers: int
    duration_s: float = 0.0
    questions: int = 0
    body_bytes_min: int = 2
    """A shorter answer is an error: it cannot hold the rows."""
    accept: str = wire.DICOM_JSON


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load met. Times are of whole answers, in milliseconds."""

    per_s: float
    median_ms: float
    p99_ms: float
    answers: int
    body_bytes: int
    """Of the last answer."""
    errors: int
    first_error: str


class Generator:
    """The process, seen from the benchmark."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, load: Load) -> Outcome:
        """Run a load to its end; raises `RuntimeError` when an answer was not what it should be."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(load)).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended")
        outcome = Outcome(**json.loads(line))
        if outcome.errors or not outcome.answers:
            raise RuntimeError(f"{outcome.errors} answers were wrong: {outcome.first_error} at {load.paths[0]}")
        return outcome


@contextmanager
def generator() -> Iterator[Generator]:
    """A load generator for as long as the block lasts."""
    process = subprocess.Popen(
        [str(part) for part in python("-m", "bench.rig.load")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        yield Generator(process)
    finally:
        stop(process)


def context_of(door: Door) -> ssl.SSLContext | None:
    """The client's side of TLS, or None for plain TCP."""
    if not door.ca:
        return None
    context = ssl.create_default_context(cafile=door.ca)
    context.load_cert_chain(door.certificate, door.private_key)
    return context


class _Run:
    """One load under way."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.questions = [wire.question(path, load.door.port, load.accept) for path in load.paths]
        self.numbers = count()
        self.left = load.questions or sys.maxsize
        self.deadline = time.perf_counter() + load.duration_s if load.duration_s else float("inf")
        self.times: list[float] = []
        self.body_bytes = 0
        self.errors: list[str] = []

    def next_question(self) -> bytes | None:
        if self.left <= 0 or self.errors or time.perf_counter() >= self.deadline:
            return None
        self.left -= 1
        return self.questions[next(self.numbers) % len(self.questions)]


class _Caller(asyncio.Protocol):
    """One connection that asks and waits, again and again."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbound = wire.Inbound()
        self._began = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self) -> None:
        assert self._transport is not None
        question = self.run.next_question()
        if question is None:
            self._finish()
            return
        self._inbound = wire.Inbound()
        self._began = time.perf_counter()
        self._transport.write(question)

    def data_received(self, data: bytes) -> None:
        try:
            self._inbound.feed(data)
        except ValueError as error:
            self.run.errors.append(str(error))
            self._finish()
            return
        if not self._inbound.is_whole:
            return
        self.run.times.append(time.perf_counter() - self._began)
        self.run.body_bytes = self._inbound.body_bytes
        if self._inbound.status != 200 or self._inbound.body_bytes < self.run.load.body_bytes_min:
            self.run.errors.append(f"status {self._inbound.status}, {self._inbound.body_bytes} bytes")
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.run.errors.append(f"the connection was closed: {exc}")
            self.done.set_result(None)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        assert self._transport is not None
        self._transport.close()


async def _perform(load: Load) -> Outcome:
    run = _Run(load)
    loop = asyncio.get_running_loop()
    context = context_of(load.door)
    callers = []
    server_name = "localhost" if context is not None else None
    for _ in range(load.callers):
        _, caller = await loop.create_connection(
            lambda: _Caller(run), "127.0.0.1", load.door.port, ssl=context, server_hostname=server_name
        )
        callers.append(caller)
    began = time.perf_counter()
    if load.duration_s:
        run.deadline = began + load.duration_s
    for caller in callers:
        caller.ask()
    async with asyncio.timeout(HANG_TIMEOUT_S + load.duration_s):
        await asyncio.gather(*(caller.done for caller in callers))
    elapsed_s = time.perf_counter() - began
    times = sorted(run.times) or [0.0]
    return Outcome(
        per_s=len(run.times) / elapsed_s,
        median_ms=quantile(times, 0.5) * 1000,
        p99_ms=quantile(times, 0.99) * 1000,
        answers=len(run.times),
        body_bytes=run.body_bytes,
        errors=len(run.errors),
        first_error=run.errors[0] if run.errors else "",
    )


def main() -> None:
    """Run the loads that come in, one by one."""
    for line in sys.stdin:
        told = json.loads(line)
        door = Door(**told.pop("door"))
        try:
            outcome = asyncio.run(_perform(Load(door=door, **told)))
        except (OSError, TimeoutError) as error:
            outcome = Outcome(0.0, 0.0, 0.0, 0, 0, 1, f"{type(error).__name__}: {error}")
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
