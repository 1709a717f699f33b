"""Images through the gateway that it has never had, beside going to the archive directly: all of a study, its first.

The archive is Orthanc; or one that answers from memory behind a link of 1 Gbit/s, as archives are reached; or that one
without such a link, which is told without a goal: there the second hop, the sealing and TLS twice are all there is. A
study is fetched once by each, through the gateway by WADO-RS as directly; no study is asked for twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, beside, middle, ratio_at_most
from bench.plan import Effort, Say, in_turns
from bench.rig import orthanc
from bench.rig.dimse import dcmtk
from bench.rig.dimse.wire import Door as DimseDoor
from bench.rig.images import archive, link, reading, studies
from bench.rig.images.reading import Load, Read
from bench.rig.images.studies import Study
from bench.rig.load import Door
from bench.rig.region import EASTVALE, Associations, Peer, Region, new_region
from bench.rig.workers import Worker, working

LINK_MEGABITS_PER_S = 1_000
ROOT = "/dicom-web"
OURS, DIRECT = "ours", "direct"
_ALL, _FIRST = ratio_at_most(1.2), ratio_at_most(2)


@dataclass(frozen=True, slots=True)
class Archive:
    """Who has the studies, how it is asked directly, and how the gateway is told of it."""

    name: str
    door: Door
    root: str
    peer: Peer
    is_judged: bool = True


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    held = [Study(number, effort.instances) for number in range(1, effort.rounds + 2)]
    region = new_region(folder)
    with working("bench.rig.images.reading") as reader:
        for opened in (_orthanc, _linked, _unlinked):
            with opened(region, held, say) as theirs:
                if theirs is not None:
                    yield from _beside(effort, region, theirs, held, reader, say)


def _beside(
    effort: Effort, region: Region, theirs: Archive, held: Sequence[Study], reader: Worker, say: Say
) -> Iterator[Figure]:
    place = theirs.name.replace(" ", "-")
    plain = Associations.PLAIN
    with region.gateway_before(
        [theirs.peer], [studies.PATIENT], place=place, associations=plain, is_plain_http=True
    ) as gateway:
        say(f"through the gateway and directly: {theirs.name}")
        before_s = gateway.child.processor_s
        rounds = in_turns(
            {
                OURS: _each(reader, gateway.door, ROOT, held),
                DIRECT: _each(reader, theirs.door, theirs.root, held),
            },
            effort.rounds,
        )
        processor_ms = (gateway.child.processor_s - before_s) * 1000 / (len(held) * held[0].count)
    name = f"cold, CT study from {theirs.name}"
    ours, direct = rounds[OURS], rounds[DIRECT]
    words = "the same client asking the archive itself"
    for quantity, unit, goal, of in _QUANTITIES:
        mine, others = [of(each) for each in ours], [of(each) for each in direct]
        about = beside(words, mine, others)
        judged = goal if theirs.is_judged else None
        yield Figure(f"{name}: {quantity}", middle(mine), middle(others), unit, judged, about)
    yield Figure(f"{name}: gateway's processor time an instance", processor_ms, None, "ms")


_Quantity = tuple[str, str, Goal, Callable[[Read], float]]
_QUANTITIES: tuple[_Quantity, ...] = (
    ("all of it", "s", _ALL, lambda read: read.elapsed_s),
    ("the first instance", "ms", _FIRST, lambda read: read.first_ms),
)


def _each(reader: Worker, door: Door, root: str, held: Sequence[Study]) -> Callable[[], Read]:
    """Turns of one contender: the next study each time."""
    left = itertools.cycle(held)

    def turn() -> Read:
        study = next(left)
        length = study.count * study.file_bytes
        return reading.ask(reader, Load(door, (f"{root}/studies/{study.uid}",), length, study.file_bytes))

    return turn


@contextmanager
def _orthanc(region: Region, held: Sequence[Study], say: Say) -> Iterator[Archive | None]:
    if not (orthanc.is_installed() and dcmtk.is_installed()):
        say("Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb, dcmtk): figures without it")
        yield None
        return
    with orthanc.running(region.folder / "orthanc", settings=orthanc.TUNED) as theirs:
        say("filling Orthanc")
        files = studies.write(region.folder, "ct", held[0])
        send = partial(dcmtk.send_folders, DimseDoor(theirs.dicom_port, orthanc.AE_TITLE), [[files.folder]])
        for study in held:
            studies.rewrite(files, study)
            send(files.count)
        yield Archive("Orthanc", Door(theirs.port), ROOT, region.peer_by_plain_http(EASTVALE, theirs.port))


@contextmanager
def _linked(region: Region, held: Sequence[Study], say: Say) -> Iterator[Archive]:
    with ExitStack() as stack:
        ports = stack.enter_context(archive.running(region.folder, region.files("archive"), region.ca, held))
        port = stack.enter_context(link.running(region.folder, ports.tls, LINK_MEGABITS_PER_S))
        yield Archive("an archive behind 1 Gbit a second", region.door(port), "", region.peer_by_qido(EASTVALE, port))


@contextmanager
def _unlinked(region: Region, held: Sequence[Study], say: Say) -> Iterator[Archive]:
    with archive.running(region.folder, region.files("archive"), region.ca, held) as ports:
        peer = region.peer_by_qido(EASTVALE, ports.tls)
        yield Archive("an archive in memory", region.door(ports.tls), "", peer, is_judged=False)
