"""The C-FIND load: a worker that keeps N associations busy and times every answer from question to final status.

`python -m bench.rig.dimse.asking`. Questions are prepared bytes; of the answers only heads and statuses are read, so
that the client's processor time does not decide. An association lives for the whole load, as a gateway's or a viewer's
does, or for one question, as most archives' workstations do: then its opening and its release belong to the time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from itertools import count

from bench.figures import quantile
from bench.rig.dimse import wire
from bench.rig.workers import Told, Worker, work
from policy.parties import NhsNumber

HANG_TIMEOUT_S = 120.0
_MESSAGE_ID_MAX = 0xFFFF
# Study Date, Study Time, Accession Number, Modalities, Description; name, birth date, sex; UID, Study ID, counts.
_KEYS = (
    *(0x00080020, 0x00080030, 0x00080050, 0x00080061, 0x00081030),
    *(0x00100010, 0x00100030, 0x00100040),
    *(0x0020000D, 0x00200010, 0x00201206, 0x00201208),
)
_LEVEL, _PATIENT_ID = 0x00080052, 0x00100020


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, by how many callers, until when: `duration_s`, or `questions` in all if that is not zero."""

    door: wire.Door
    identifiers: tuple[str, ...]
    """In hexadecimal; they take turns."""
    rows: int
    """How many matches each brings; fewer are an error, a row for missing trusts may be added."""
    callers: int
    duration_s: float = 0.0
    questions: int = 0
    is_long_lived: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load met. Times in milliseconds."""

    per_s: float
    median_ms: float
    p99_ms: float
    first_match_ms: float
    answers: int
    errors: int
    first_error: str


def identifier(patient: NhsNumber) -> str:
    """The question for a patient's studies, in hexadecimal."""
    asked = {_LEVEL: "STUDY", _PATIENT_ID: patient.digits, **dict.fromkeys(_KEYS, "")}
    return wire.identifier(sorted(asked.items())).hex()


def ask(worker: Worker, load: Load) -> Outcome:
    """Have a worker run a load; raises `RuntimeError` when an answer was not what it should be."""
    outcome = Outcome(**worker.ask(asdict(load)))  # type: ignore[arg-type]  # an `Outcome` as JSON
    if outcome.errors or not outcome.answers:
        raise RuntimeError(f"{outcome.errors} answers were wrong: {outcome.first_error}")
    return outcome


class _Run:
    """One load under way."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.identifiers = [bytes.fromhex(text) for text in load.identifiers]
        self.numbers = count()
        self.unasked = load.callers
        """A caller each has its question, however short the time."""
        self.left = load.questions or 1 << 60
        self.deadline = time.perf_counter() + load.duration_s if load.duration_s else float("inf")
        self.times: list[float] = []
        self.first_times: list[float] = []
        self.errors: list[str] = []

    def next_question(self, message_id: int) -> bytes | None:
        if self.is_over:
            return None
        self.left -= 1
        self.unasked -= 1
        return wire.find_request(message_id, self.identifiers[next(self.numbers) % len(self.identifiers)])

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be asked."""
        return self.left <= 0 or bool(self.errors) or (self.unasked <= 0 and time.perf_counter() >= self.deadline)


class _Association(asyncio.Protocol):
    """One association: asks, waits for the final status, then asks again, or releases if it was for one question."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replies = wire.Replies()
        self._began = self._asked = time.perf_counter()
        self._message_id = 0
        self._is_answered = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(wire.associate_request(self.run.load.door.ae_title, wire.STUDY_ROOT_FIND, wire.IMPLICIT_LE))

    def data_received(self, data: bytes) -> None:
        replies = self._replies
        had_rows = replies.pending > 0
        replies.feed(data)
        if replies.pending and not had_rows:
            self.run.first_times.append(time.perf_counter() - self._asked)
        if replies.others:
            self._control(replies.others.pop())
        if replies.statuses:
            self._answered(replies.statuses.pop())

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"the connection was closed: {exc}")

    def _control(self, kind: int) -> None:
        if kind == wire.ACCEPTED:
            self._ask()
        elif kind == wire.RELEASE_REPLY:
            if self._is_answered and not self.run.load.is_long_lived:
                self.run.times.append(time.perf_counter() - self._began)
            self._finish()
        else:
            self._finish(f"a PDU of type {kind} came")

    def _ask(self) -> None:
        assert self._transport is not None
        self._message_id = self._message_id % _MESSAGE_ID_MAX + 1
        question = self.run.next_question(self._message_id)
        self._replies.pending = 0
        self._asked = time.perf_counter()
        self._transport.write(question or wire.RELEASE_REQUEST)

    def _answered(self, status: int) -> None:
        assert self._transport is not None
        self._is_answered = True
        if status != wire.SUCCESS or self._replies.pending < self.run.load.rows:
            self._finish(f"status {status:04X} after {self._replies.pending} matches")
        elif self.run.load.is_long_lived:
            self.run.times.append(time.perf_counter() - self._asked)
            self._ask()
        else:
            self._transport.write(wire.RELEASE_REQUEST)

    def _finish(self, error: str = "") -> None:
        if not self.done.done():
            if error:
                self.run.errors.append(error)
            self.done.set_result(None)
        assert self._transport is not None
        self._transport.close()


async def _call(run: _Run) -> None:
    """One caller: an association, or one after the other."""
    loop = asyncio.get_running_loop()
    door = run.load.door
    while True:
        server_name = "localhost" if door.ca else None
        _, association = await loop.create_connection(
            lambda: _Association(run), "127.0.0.1", door.port, ssl=door.tls(), server_hostname=server_name
        )
        await association.done
        if run.load.is_long_lived or run.is_over:
            return


async def _run(load: Load) -> Outcome:
    run = _Run(load)
    began = time.perf_counter()
    async with asyncio.timeout(HANG_TIMEOUT_S + load.duration_s):
        await asyncio.gather(*(_call(run) for _ in range(load.callers)))
    elapsed_s = time.perf_counter() - began
    times, firsts = sorted(run.times) or [0.0], sorted(run.first_times) or [0.0]
    return Outcome(
        per_s=len(run.times) / elapsed_s,
        median_ms=quantile(times, 0.5) * 1000,
        p99_ms=quantile(times, 0.99) * 1000,
        first_match_ms=quantile(firsts, 0.5) * 1000,
        answers=len(run.times),
        errors=len(run.errors),
        first_error=run.errors[0] if run.errors else "",
    )


def _perform(told: Told) -> Told:
    door, identifiers = told["door"], told["identifiers"]
    assert isinstance(door, dict) and isinstance(identifiers, list)
    made = {**told, "door": wire.Door(**door), "identifiers": tuple(identifiers)}  # type: ignore[arg-type]  # ours
    return asdict(asyncio.run(_run(Load(**made))))  # type: ignore[arg-type]  # a `Load` as JSON


if __name__ == "__main__":
    work(_perform)
