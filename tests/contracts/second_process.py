"""Another process over the same database: does what it is told on its input, one JSON list a line, and answers a line.

`python -m tests.contracts.second_process URL NODE`. Used by the tests that need two writers that share nothing but the
database.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.locations import SeenBy, Sighting
from policy.parties import NhsNumber, PatientId, TrustId
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import KEY_BYTES, Pseudonyms
from storage.registers import patients
from storage.registers.state import Author
from storage.store import SqlStore

STAND_INS = Pseudonyms(b"k" * KEY_BYTES)
BY_THE_OTHER = 7
"""The minutes of an hour in which the second process sees imaging: those that this divides."""


def observations(minute: int, divisor: int) -> list[Sighting]:
    """What one process sees in a minute, of a few patients at two trusts, in an order of its own."""
    at = datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(minutes=minute)
    seen = [
        Sighting(NhsNumber(f"99900000{number:02}"), TrustId(code), at, SeenBy.ANSWER, minute % divisor == 0, True)
        for number in range(5)
        for code in ("RJ1", "RYJ")
    ]
    return seen[minute % 10 :] + seen[: minute % 10]


class _SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class SecondProcess:
    """The test's end of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def tell(self, *order: str | int) -> None:
        """Send an order without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        await self.process.stdin.drain()

    async def answer(self) -> object:
        """The next answer."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the second process ended"
        return json.loads(line)

    async def ask(self, *order: str | int) -> object:
        """Send an order and wait for its answer."""
        await self.tell(*order)
        return await self.answer()


@asynccontextmanager
async def second_process(url: str, node: str) -> AsyncIterator[SecondProcess]:
    """A running second process, ready for orders."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contracts.second_process",
        url,
        node,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    other = SecondProcess(process)
    try:
        assert await other.answer() == "ready"
        yield other
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


async def _obey(store: SqlStore, order: list[str]) -> object:
    match order:
        case ["ensure", *numbers]:
            return [
                await store.write(
                    lambda tx, number=number: patients.ensure(  # type: ignore[misc]  # the loop's own number
                        tx, patients.nhs(NhsNumber(number)), Author("other", "r"), source="other"
                    )
                )
                for number in numbers
            ]
        case ["link", number, *local_numbers]:
            return [await store.write(lambda tx, local=local: _link(tx, number, local)) for local in local_numbers]  # type: ignore[misc]  # the loop's own number
        case ["append", count]:
            for _ in range(int(count)):
                await store.append_audit(AuditEntry(AuditEvent.QUERY_ATTEMPT, store.clock.now(), "r", {}))
            return "appended"
        case ["observe", count]:
            notebook = Notebook(store, store.clock, STAND_INS, max_age_days=100)
            for minute in range(int(count)):
                notebook.note(observations(minute, BY_THE_OTHER))
                await notebook.write()
            return "observed"
        case ["standings"]:
            found = await Notebook(store, store.clock, STAND_INS, max_age_days=100).standings()
            return [f"{each.trust.code} {each.last_state.value} {each.failures}" for each in found]
        case ["version"]:
            return await store.register_version()
        case ["hold-chain"]:
            await store.write(_hold_chain)
            return "released"
        case _:
            raise ValueError("unknown order")


def _link(tx: Tx, number: str, local: str) -> bool:
    """Give a patient a hospital's number; whether nobody else had it."""
    author = Author("other", "r")
    row = patients.ensure(tx, patients.nhs(NhsNumber(number)), author, source="other")
    try:
        patients.add_identifier(tx, row, PatientId("RYJ", local), author, source="other")
    except InvalidRequest:
        return False
    return True


def _hold_chain(tx: Tx) -> None:
    tx.chain.append(AuditEntry(AuditEvent.QUERY_ATTEMPT, tx.now, "r", {}))
    _say("held")
    sys.stdin.readline()


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _main(url: str, node: str) -> None:
    loop = asyncio.get_running_loop()
    async with SqlStore(DatabaseSettings(url), node=node, clock=_SystemClock()) as store:
        _say("ready")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            _say(await _obey(store, json.loads(line)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2]))
