"""The DIMSE door as a process of its own, so that what attacks cost it can be read: `python -m tests.dimse.besieged`.

The real door, services and associations on a loopback port; what is asked for lies on a shelf. Prints its port, and
ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from dimse.identifier import EXTENDED
from dimse.scp.find_scp import FIND_CLASSES, FindService
from dimse.server import DimseDoor
from dimse.sop_classes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from dimse.upper_layer.association import AssociationLimits, accepting
from dimse.upper_layer.wire import WireLimits
from gateway.model.imaging import Level, Match
from gateway.model.settings import Limits
from policy.identity import CallerBinding
from policy.parties import TrustId
from tests.clock import FakeClock
from tests.dimse.door import COMMENT, EXPLICIT, IMPLICIT, OURS, PACS, Doorkeeper, Shelf, Tally
from tests.dimse.storing import CT, Storing, counted
from tests.sharing.rows import ANNE, RZ2, row

ROWS = 5_000
ATTACKER = "ATTACKER"
HANG_S = 30.0
START_VALUES = Limits()
LIMITS = AssociationLimits(
    wire=WireLimits(associate_bytes_max=START_VALUES.associate_bytes_max, artim_timeout_s=HANG_S),
    send_timeout_s=1.0,
)
WIDE = Limits(
    dimse_associations_max=1_000, dimse_associations_per_address_max=900, dimse_associations_per_caller_max=900
)


async def besieged() -> None:
    """Serve until standard input ends; what is logged as a fault goes to standard error."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    uids = [f"1.2.{number}" for number in range(1, ROWS + 1)]
    studies = [Match(Level.STUDY, ANNE, uid, "", "", (RZ2,), row(uid, ANNE, date="20260101")) for uid in uids]
    attacker = CallerBinding("attacker", TrustId("RZ9"), loopback_only=True, ae_titles=(ATTACKER,))
    find = FindService(Shelf(*studies), lambda _: COMMENT, WIDE, ae_title=OURS)
    assert DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN in find.transfer_syntaxes
    door = DimseDoor(
        Doorkeeper(PACS, attacker),
        {**dict.fromkeys(FIND_CLASSES, find), CT: Storing(EXPLICIT, IMPLICIT)},
        WIDE,
        Tally(),
        FakeClock(),
        ae_title=OURS,
        extended=EXTENDED,
        new_id=lambda: "request",
        sink_for=counted,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(accepting(door, LIMITS), "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    door.close()


@dataclass(frozen=True, slots=True)
class Besieged:
    """The running process."""

    port: int
    pid: int
    log: Path

    def resident_bytes(self, what: str = "VmRSS") -> int:
        """What it holds in memory; `VmHWM`: the most since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(what))) * 1024

    def forget_peak(self) -> None:
        """Let the peak begin anew (`proc(5)`)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Besieged]:
    """The process while the context is open."""
    log = folder / "besieged.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.dimse.besieged"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(HANG_S):
            yield Besieged(int(await process.stdout.readline()), process.pid, log)
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(besieged())
