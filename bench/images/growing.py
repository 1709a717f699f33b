"""What grows with a study: the gateway's memory must not, and its processor time in step.

A study of 2 GB passes that the gateway has never had, then one instance of 2 GB, then eight studies at once; beside
each a tenth of it. Then studies of ten to ten thousand small instances, not kept and kept: what one more costs.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, beside, middle, ratio_at_most
from bench.plan import Effort, Say
from bench.rig.images import archive, reading, studies
from bench.rig.images.reading import Load
from bench.rig.images.studies import Study
from bench.rig.region import EASTVALE, Associations, Gateway, new_region
from bench.rig.workers import Worker, working
from gateway.model.imaging import JsonValue

AT_ONCE = 8
SMALLER = 10
_SAME_PEAK = ratio_at_most(1.1, "ratio <= 1.1: constant")
_IN_STEP = ratio_at_most(1.2, "ratio <= 1.2: linear")
_LARGE = "large"
_DISK_SHARE = 3
"""A third of the disk's room may be used."""
_GROWING_FROM = 500


@dataclass(frozen=True, slots=True)
class Rig:
    """What all the measurements share."""

    gateway: Gateway
    reader: Worker

    def read(self, some: Sequence[Study]) -> float:
        """Read studies, all at once; the gateway's processor time in seconds."""
        paths = tuple(f"/dicom-web/studies/{study.uid}" for study in some)
        before_s = self.gateway.child.processor_s
        shortest = sum(study.count * study.file_bytes for study in some) // len(some)
        reading.ask(self.reader, Load(self.gateway.door, paths, shortest))
        return self.gateway.child.processor_s - before_s


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    large = _passing(effort, folder, say)
    rounds = max(1, effort.rounds // 2)
    numbers = itertools.count(_GROWING_FROM)
    growing = [[Study(next(numbers), count, "small") for count in effort.growing] for _ in range(rounds)]
    first = Study(0, 1, _LARGE)
    held = [first, *(study for _, pair in large for some in pair for study in some)]
    held += [study for each in growing for study in each]
    with _rig(folder, held) as rig:
        rig.read([first])
        for name, (smaller, larger) in large:
            say(f"memory: {name}")
            yield _peak(rig, name, smaller, larger)
        yield from _growth(rig, growing, say)


Pair = tuple[list[Study], list[Study]]


def _passing(effort: Effort, folder: Path, say: Say) -> list[tuple[str, Pair]]:
    """What passes at once, and a tenth of it beforehand: by name."""
    count = effort.passing_instances
    kept_bytes = (AT_ONCE + 2) * 2 * Study(0, count, _LARGE).file_bytes * count
    if kept_bytes > shutil.disk_usage(folder).free // _DISK_SHARE:
        count = max(1, count * (shutil.disk_usage(folder).free // _DISK_SHARE) // kept_bytes)
        say(f"too little room on the disk: studies of {count} instances of 8 MB only")
    numbers, tenth = itertools.count(1), max(1, count // SMALLER)
    gigabytes = Study(0, count, _LARGE).file_bytes * count / 1e9

    def some(each: int, at_once: int, frames: int = 1) -> list[Study]:
        return [Study(next(numbers), each, _LARGE, frames) for _ in range(at_once)]

    return [
        (f"a study of {gigabytes:.2g} GB", (some(tenth, 1), some(count, 1))),
        (f"one instance of {gigabytes:.2g} GB", (some(1, 1, tenth), some(1, 1, count))),
        (f"{AT_ONCE} studies of {gigabytes:.2g} GB at once", (some(tenth, AT_ONCE), some(count, AT_ONCE))),
    ]


def _peak(rig: Rig, name: str, smaller: Sequence[Study], larger: Sequence[Study]) -> Figure:
    peaks = []
    resident = rig.gateway.child.rss_bytes / 1e6
    for some in (smaller, larger):
        rig.gateway.child.forget_peak()
        rig.read(some)
        peaks.append(rig.gateway.child.peak_rss_bytes / 1e6)
    less, more = peaks
    about: dict[str, JsonValue] = {"peer": "a tenth of it", "resident before, MB": round(resident)}
    return Figure(f"passing, {name}: peak of resident memory", more, less, "MB", _SAME_PEAK, about)


def _growth(rig: Rig, growing: Sequence[Sequence[Study]], say: Say) -> Iterator[Figure]:
    counts = [study.count for study in growing[0]]
    spent: dict[str, list[list[float]]] = {"not kept": [], "kept": []}
    for number, each in enumerate(growing, start=1):
        say(f"growing studies, round {number} of {len(growing)}")
        for times in spent.values():
            times.append([rig.read([study]) * 1000 for study in each])
    for kept, rounds in spent.items():
        middles = [middle([times[place] for times in rounds]) for place in range(len(counts))]
        steps = [
            [
                (times[place + 1] - times[place]) / (counts[place + 1] - counts[place])
                for place in range(len(counts) - 1)
            ]
            for times in rounds
        ]
        last, one_before = [step[-1] for step in steps], [step[-2] for step in steps]
        about = beside(f"from {counts[-3]:,} to {counts[-2]:,}", last, one_before)
        about |= {f"{count:,} instances, ms": round(ms, 1) for count, ms in zip(counts, middles, strict=True)}
        name = f"studies that are {kept}: processor time for an instance more, from {counts[-2]:,} to {counts[-1]:,}"
        yield Figure(name, middle(last), middle(one_before), "ms", _IN_STEP, about)


@contextmanager
def _rig(folder: Path, held: Sequence[Study]) -> Iterator[Rig]:
    with ExitStack() as stack:
        region = new_region(folder)
        ports = stack.enter_context(archive.running(folder, region.files("archive"), region.ca, held))
        gateway = stack.enter_context(
            region.gateway_before(
                (region.peer_by_qido(EASTVALE, ports.tls),),
                [studies.PATIENT],
                associations=Associations.PLAIN,
                is_plain_http=True,
            )
        )
        yield Rig(gateway, stack.enter_context(working("bench.rig.images.reading")))
