"""Reports taken in: ORU messages a second that are durable before they are answered, and what memory does meanwhile.

Over one and over eight MLLP connections, of patients who are known and of patients who are not. The peer is what one
would write first: a door that inserts each message and commits. So the ratio is what reading, sealing, linking and
planning them and the audit cost, less what group commit gains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench.figures import Figure, at_most, beside, middle, ratio_at_most
from bench.plan import Effort, Say, in_turns
from bench.rig.processes import Child, python, running
from bench.rig.reports import sender
from bench.rig.reports.server import READY
from bench.rig.workers import Worker, working

CONNECTIONS = (1, 8)
KNOWN_PATIENTS = 200
GROWTH_MAX = 1.05
DELAY_MS_MAX = 100.0
"""A RIS waits for each answer: so many milliseconds for one message over one connection are nothing to it."""
_PATIENTS_MAX = 300_000
_PEER = "each message inserted and committed, unread"


class _Loads:
    """Messages that nobody has seen yet, about patients who are known, or are not."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._numbers = itertools.count(1)
        self._strangers = itertools.count(KNOWN_PATIENTS)
        self._first = 0

    def rate(self, port: int, connections: int, count: int, *, are_known: bool) -> float:
        """Messages a second of one turn."""
        patients = (0, KNOWN_PATIENTS) if are_known else ((next(self._strangers) * count) % _PATIENTS_MAX, count)
        first, self._first = self._first, self._first + count
        return count / sender.sent(self._worker, port, connections, first, count, patients)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    with (
        _server(folder / "ours") as ours,
        _server(folder / "plain", "plain") as plain,
        working(sender.__name__) as worker,
    ):
        loads = _Loads(worker)
        loads.rate(_port(ours), 1, KNOWN_PATIENTS, are_known=True)
        for are_known, connections in itertools.product((True, False), CONNECTIONS):
            words = "known patients" if are_known else "new patients"
            say(f"ORU of {words}, {connections} connections")
            load = partial(loads.rate, connections=connections, count=effort.instances, are_known=are_known)
            turns = {"ours": partial(load, _port(ours)), "plain": partial(load, _port(plain))}
            rounds = in_turns(turns, effort.rounds)
            name = f"reports, ORU of {words}, {connections} connections"
            yield Figure(
                f"{name}: messages a second, each durable",
                middle(rounds["ours"]),
                middle(rounds["plain"]),
                "1/s",
                None,
                beside(_PEER, rounds["ours"], rounds["plain"]),
            )
            delays_ms = [1000 * connections / rate for rate in rounds["ours"]]
            yield Figure(f"{name}: to the answer", middle(delays_ms), None, "ms", at_most(DELAY_MS_MAX, "ms"))
        say("memory")
        yield _memory(ours, loads, effort)


def _memory(ours: Child, loads: _Loads, effort: Effort) -> Figure:
    sizes = []
    sent = 0
    for count in (effort.queries_before, effort.queries_after):
        loads.rate(_port(ours), CONNECTIONS[-1], count - sent, are_known=True)
        sent = count
        sizes.append(ours.rss_bytes / 1e6)
    name = f"reports, resident after {effort.queries_after} messages beside {effort.queries_before}"
    return Figure(name, sizes[1], sizes[0], "MB", ratio_at_most(GROWTH_MAX), {"peer": "itself, earlier"})


def _server(folder: Path, *how: str) -> AbstractContextManager[Child]:
    folder.mkdir()
    return running(python("-m", "bench.rig.reports.server", folder, *how), folder / "server.log", READY)


def _port(child: Child) -> int:
    return child.told(r"port=(\d+)")
