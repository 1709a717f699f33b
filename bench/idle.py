"""Associations that say nothing: what three hundred of them cost the gateway, and who else notices.

Memory and processor time are read from the kernel; beside them one more association asks C-ECHO. Once without TLS, once
with it, and once with 1,100 files open in the gateway's process: what waits by `select` ends at 1,024.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import Figure, at_most, middle, more_by_at_most, ratio_at_most, spread
from bench.plan import Effort, Say
from bench.rig.dimse import wire
from bench.rig.dimse.wire import Door, Line
from bench.rig.processes import Child
from bench.rig.region import Associations, new_region

PROCESSOR_PERCENT_MAX = 2.0
ECHO_RATIO_MAX = 3.0
MB_MAX = {Associations.PLAIN: 20.0, Associations.TLS: 120.0}
FILES = 1_100
ECHOES_A_SECOND = 150
_WORDS = {Associations.PLAIN: "plain", Associations.TLS: "TLS"}


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    alone: list[float] = []
    for associations in Associations:
        with _gateway(folder / _WORDS[associations], associations) as (child, door):
            say(f"{effort.idle_associations} idle associations, {_WORDS[associations]}")
            echo_ms = _echo_ms(door, effort)
            alone = alone or echo_ms
            name = f"{effort.idle_associations} idle associations, {_WORDS[associations]}"
            yield from _beside_idle(name, child, door, echo_ms, MB_MAX[associations], effort)
    with _many_files() as files, _gateway(folder / "files", Associations.PLAIN, files) as (_, door):
        say(f"{FILES} files open")
        yield _echo(f"{FILES} files open in the gateway: C-ECHO median", _echo_ms(door, effort), alone)


def _beside_idle(
    name: str, child: Child, door: Door, alone: Sequence[float], mb_max: float, effort: Effort
) -> Iterator[Figure]:
    before_mb = child.rss_bytes / 1e6
    with ExitStack() as stack:
        for _ in range(effort.idle_associations):
            stack.callback(_line(door).release)
        after_mb = child.rss_bytes / 1e6
        before_s, began = child.processor_s, time.monotonic()
        time.sleep(effort.slice_s * 2)
        percent = 100 * (child.processor_s - before_s) / (time.monotonic() - began)
        beside = _echo_ms(door, effort)
    yield Figure(f"{name}: processor time", percent, None, "%", at_most(PROCESSOR_PERCENT_MAX, "%"))
    grown = more_by_at_most(mb_max, "MB")
    yield Figure(f"{name}: resident memory", after_mb, before_mb, "MB", grown, {"peer": "before they came"})
    yield _echo(f"{name}: C-ECHO median", beside, alone)


def _echo(name: str, ours: Sequence[float], alone: Sequence[float]) -> Figure:
    return Figure(
        name,
        middle(ours),
        middle(alone),
        "ms",
        ratio_at_most(ECHO_RATIO_MAX),
        {"peer": "the gateway without them", "ours": spread(ours), "theirs": spread(alone)},
    )


def _echo_ms(door: Door, effort: Effort) -> list[float]:
    """The median of many C-ECHO, round by round."""
    line = _line(door)
    echoes = max(10, int(effort.slice_s * ECHOES_A_SECOND))
    medians = []
    for _ in range(effort.rounds):
        times = []
        for number in range(1, echoes + 1):
            began = time.perf_counter()
            line.socket.sendall(wire.echo_request(number))
            if line.read_status() != wire.SUCCESS:
                raise RuntimeError("C-ECHO failed")
            times.append(time.perf_counter() - began)
        medians.append(middle(times) * 1000)
    line.release()
    return medians


def _line(door: Door) -> Line:
    return Line(door, wire.VERIFICATION, wire.IMPLICIT_LE)


@contextmanager
def _gateway(folder: Path, associations: Associations, files: Sequence[int] = ()) -> Iterator[tuple[Child, Door]]:
    """A gateway before an empty archive: only its DIMSE door is of interest."""
    folder.mkdir()
    region = new_region(folder)
    with (
        region.archive(()) as archive,
        region.gateway(archive, (), associations=associations, files=files) as gateway,
    ):
        assert gateway.dimse is not None
        yield gateway.child, gateway.dimse


@contextmanager
def _many_files() -> Iterator[Sequence[int]]:
    """Open files for a process to inherit."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES * 3
    if allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(FILES)]
    try:
        yield files
    finally:
        for file in files:
            os.close(file)
