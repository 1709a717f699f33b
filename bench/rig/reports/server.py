"""Whoever takes reports: our MLLP door before the real intake, or what one would write first.

`python -m bench.rig.reports.server FOLDER` is ours: store and keys on disk, the rules of release, the audit.
With `plain` behind it each message is inserted into one table and committed, at the same durability, and answered:
neither read, sealed, linked, planned nor audited. Both listen on loopback without TLS, whose handshake a sender pays
once a day.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.rig.reports.messages import FEED
from bench.rig.reports.rig import RealClock, release_over
from gateway import logs
from gateway.feeds.hl7.acknowledging import Answer, Verdict, acknowledge
from gateway.feeds.hl7.mllp import Mllp, MllpLimits, Shown, Speaker
from gateway.feeds.hl7.receiving import Reports
from gateway.node import new_id

READY = "reports ready"


class _NoFigures:
    """Keeps no figures."""

    def message_taken(self, feed: str, outcome: str, duration_s: float) -> None:
        """See `CountsMessages`."""


class _OneFeed:
    """Admits everybody as one sender."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    def admit(self, shown: Shown) -> Speaker | None:
        """See `Receiver`."""
        return self._speaker


class _Plain:
    """Inserts, commits, answers."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"):
            self._connection.execute(statement)
        self._connection.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, raw BLOB)")
        self._lock = threading.Lock()

    async def answer(self, raw: bytes) -> Sequence[bytes]:
        """See `Speaker`."""
        await asyncio.to_thread(self._insert, raw)
        return acknowledge(raw, Answer(Verdict.ACCEPTED), now=RealClock().now(), control_id=new_id())

    async def refuse(self, raw: bytes, why: str) -> Sequence[bytes]:
        """See `Speaker`."""
        raise OSError(why)

    def _insert(self, raw: bytes) -> None:
        with self._lock:
            self._connection.execute("INSERT INTO message (raw) VALUES (?)", (raw,))


async def serve(folder: Path, *, is_plain: bool) -> None:
    """Take reports until the process is ended."""
    async with AsyncExitStack() as stack:
        speaker: Speaker
        if is_plain:
            speaker = _Plain(folder / "plain.db")
        else:
            release = await stack.enter_async_context(release_over(folder, RealClock()))
            speaker = Reports(FEED, release.intake, RealClock(), _NoFigures(), new_id=new_id)
        mllp = Mllp(_OneFeed(speaker), MllpLimits())
        server = await asyncio.get_running_loop().create_server(mllp.connection, "127.0.0.1", 0)
        print(f"{READY} port={server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logs.configure("error", as_json=False)
    asyncio.run(serve(Path(sys.argv[1]), is_plain="plain" in sys.argv[2:]))
