"""A study that a trust sent goes back to its archive, and its sender asks for commitment: a process to be killed.

Run as a module: the folder of the node, the port of the archive, and the minutes since the begin. What the sender is
told is appended to a file.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.model.work.commitments import CommitmentReport
from tests.clock import FakeClock
from tests.custody.custody_rig import REGION, Line, custody_of, destination
from tests.gateway.keeping_rig import Place

ONE, TRANSACTION = "1.2.1.1", "1.9"


class WrittenLine(Line):
    """A sender that writes down what it is told."""

    def __init__(self, file: Path) -> None:
        super().__init__(is_open=True)
        self._file = file

    async def __call__(self, report: CommitmentReport) -> bool:
        with self._file.open("a", encoding="utf-8") as told:
            told.write(f"{report.transaction_uid} {[each.sop_uid for each in report.committed]} {report.failed}\n")
        return True


async def send_and_ask(folder: Path, port: int, minutes: float) -> None:
    """The whole way, or, once some minutes have passed, the rest of it."""
    place = Place(folder, FakeClock())
    place.more = [REGION, destination(port)]
    async with custody_of(place) as rig:
        await rig.push(ONE)
        await rig.turn(minutes)
        await rig.take(TRANSACTION, ONE, line=WrittenLine(folder / "told"))
        await rig.turn(minutes=2)
        await rig.follow()
        (folder / "sole").write_text(repr(await rig.sole()), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(send_and_ask(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
