"""A retrieval that somebody waits for while eight others run for nobody: when its first instance comes.

The others are C-MOVE of low priority of studies that the gateway has never had, to a storescp; the one that is timed is
a study by WADO-RS, kept or not. Beside it stands the same with nothing else under way.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, beside, middle, ratio_at_most
from bench.plan import Effort, Say
from bench.rig.dimse import dcmtk, wire
from bench.rig.images import archive, moving, reading, studies
from bench.rig.images.reading import Load
from bench.rig.images.studies import Study
from bench.rig.region import EASTVALE, Associations, Destination, Gateway, new_region
from bench.rig.workers import Worker, working

OTHERS = 8
STORESCP = "STORESCP"
EACH_TURN = 3
"""Retrievals that are timed while the others run."""
_FIRST = ratio_at_most(2)
_COUNT = 20
"""Instances of a study that is timed."""
_OTHERS_FROM = 1_000
_STUDIES_EACH = 3
"""What each of the others takes in a turn, again and again if it comes to the end."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What all turns share."""

    gateway: Gateway
    reader: Worker
    fresh: Iterator[Study]
    others: Iterator[Study]

    def first_ms(self, study: Study) -> float:
        """How long the first instance of a study takes."""
        assert self.gateway.door is not None
        length = study.count * study.file_bytes
        load = Load(self.gateway.door, (f"/dicom-web/studies/{study.uid}",), length, study.file_bytes)
        return reading.ask(self.reader, load).first_ms


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    if not dcmtk.is_installed():
        say("DCMTK is not installed (Debian package dcmtk): no figures")
        return
    with _rig(effort, folder) as rig:
        kept = next(rig.fresh)
        rig.first_ms(kept)
        alone: dict[str, list[float]] = {"kept": [], "not kept": []}
        among: dict[str, list[float]] = {"kept": [], "not kept": []}
        for number in range(effort.rounds):
            say(f"round {number + 1} of {effort.rounds}")
            _turn(rig, kept, alone)
            with _others(rig) as is_busy:
                _turn(rig, kept, among)
                if not is_busy():
                    say("the others had ended before")
    for name, idle in alone.items():
        about = beside("the same with nothing beside it", among[name], idle)
        quantity = f"beside {OTHERS} in the background, a study that is {name}: the first instance"
        yield Figure(quantity, middle(among[name]), middle(idle), "ms", _FIRST, about)


def _turn(rig: Rig, kept: Study, times: dict[str, list[float]]) -> None:
    for _ in range(EACH_TURN):
        times["kept"].append(rig.first_ms(kept))
        times["not kept"].append(rig.first_ms(next(rig.fresh)))


@contextmanager
def _rig(effort: Effort, folder: Path) -> Iterator[Rig]:
    turns = effort.rounds * EACH_TURN * 2 + 1
    fresh = [Study(number, _COUNT) for number in range(1, turns + 1)]
    length = max(4, effort.instances // 4)
    others = [Study(_OTHERS_FROM + number, length) for number in range(effort.rounds * OTHERS * _STUDIES_EACH)]
    with ExitStack() as stack:
        region = new_region(folder)
        held = (*fresh, *others)
        ports = stack.enter_context(archive.running(folder, region.files("archive"), region.ca, held))
        port = stack.enter_context(dcmtk.storescp(folder, dcmtk.PDU_BYTES_MAX))
        gateway = stack.enter_context(
            region.gateway_before(
                (region.peer_by_qido(EASTVALE, ports.tls),),
                [studies.PATIENT],
                associations=Associations.PLAIN,
                destinations=(Destination(STORESCP, port),),
                is_plain_http=True,
            )
        )
        yield Rig(gateway, stack.enter_context(working("bench.rig.images.reading")), iter(fresh), iter(others))


class _Other:
    """One that moves studies until it is told to end."""

    def __init__(self, door: wire.Door, held: Sequence[Study]) -> None:
        self._door = door
        self._held = held
        self._is_ending = threading.Event()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run)

    def end(self) -> None:
        """Begin no further study."""
        self._is_ending.set()

    def _run(self) -> None:
        try:
            for study in itertools.cycle(self._held):
                if self._is_ending.is_set():
                    return
                moving.move(self._door, study, STORESCP, priority=moving.LOW)
        except (OSError, RuntimeError) as error:
            self.failure = error


@contextmanager
def _others(rig: Rig) -> Iterator[Callable[[], bool]]:
    """Run the others; gives whether all of them still do."""
    assert rig.gateway.dimse is not None
    running = [_Other(rig.gateway.dimse, list(itertools.islice(rig.others, _STUDIES_EACH))) for _ in range(OTHERS)]
    for other in running:
        other.thread.start()
    try:
        yield lambda: all(other.thread.is_alive() for other in running)
    finally:
        for other in running:
            other.end()
        for other in running:
            other.thread.join()
    failure = next((other.failure for other in running if other.failure is not None), None)
    if failure is not None:
        raise failure
