"""Images into the sealed cache: `storescu` sends to our door and to the plain archives, side by side.

Ours is whole: guard, audit, seal, digest, index. On the disk it is compared with Orthanc as installed, both durable
before they answer; in memory, where a sync costs nobody anything, with Orthanc told not to sync and with DCMTK's
storescp, which never does. Each turn sends a study that nobody has yet. Syncs are counted by strace, apart from what is
timed.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, beside, middle, ratio_at_least
from bench.plan import Effort, Say, in_turns
from bench.rig import orthanc
from bench.rig.dimse import dcmtk, objects
from bench.rig.dimse.objects import Objects
from bench.rig.dimse.sending import Sent
from bench.rig.dimse.wire import Door
from bench.rig.images import archive, studies, syncs
from bench.rig.region import EASTVALE, Associations, Gateway, new_region

ASSOCIATIONS = (1, 4)
COUNTED_AT = (1, 4, 16)
OURS, ORTHANC = "ours", "Orthanc"
STORESCP, BIT_PRESERVING = "storescp", "storescp +B"
_DURABLE: Mapping[tuple[str, int], Goal] = {
    ("CT", 1): ratio_at_least(2.2),
    ("CT", 4): ratio_at_least(1.6),
    ("small", 1): ratio_at_least(2),
    ("small", 4): ratio_at_least(1.3),
}
_LIKE_FOR_LIKE = {ORTHANC: ratio_at_least(1.3), STORESCP: ratio_at_least(1), BIT_PRESERVING: ratio_at_least(0.7)}
_IN_WORDS = {
    ORTHANC: "Orthanc, nothing synced or digested, PDU 128 KB",
    STORESCP: "storescp, writing anew what it receives",
    BIT_PRESERVING: "storescp +B, writing what it receives",
}
_ROOM_BYTES_MIN = 3 * 1024**3
"""What is left free of the memory's file system."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Who receives."""

    door: Door
    forget: Callable[[], object] = lambda: None
    """Makes room for the next turn, outside what is timed."""


@dataclass(frozen=True, slots=True)
class Set:
    """Files that go out again and again, each time as another study."""

    files: Objects
    size: str
    numbers: Iterator[int]

    def renewed(self) -> None:
        """Make it a study that nobody has."""
        studies.rewrite(self.files, studies.Study(next(self.numbers), self.files.count, self.size))

    def sent_to(self, contender: Contender, senders: int) -> Sent:
        """One turn."""
        self.renewed()
        sent = dcmtk.send_folders(contender.door, studies.parts(self.files, senders), self.files.count)
        contender.forget()
        return sent


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    if not dcmtk.is_installed() or not objects.MEMORY.is_dir():
        say("needs DCMTK (Debian package dcmtk) and /dev/shm: no figures")
        return
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=objects.MEMORY) as memory:
        say("writing the images")
        numbers = itertools.count(1)
        sets = [
            Set(_written(Path(memory), size, count, numbers), size, numbers)
            for size, count in (("CT", effort.instances), ("small", effort.instances * 4))
        ]
        yield from _durable(effort, folder, sets, say)
        yield from _like_for_like(effort, Path(memory), sets[0], say)


def _durable(effort: Effort, folder: Path, sets: Sequence[Set], say: Say) -> Iterator[Figure]:
    with ExitStack() as stack:
        gateway = stack.enter_context(receiving(folder))
        contenders = {OURS: Contender(_door(gateway))}
        if orthanc.is_installed():
            installed = stack.enter_context(orthanc.running(folder / "orthanc"))
            contenders[ORTHANC] = Contender(Door(installed.dicom_port, orthanc.AE_TITLE), installed.forget)
        else:
            say("Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb): figures without it")
        for each, senders in itertools.product(sets, ASSOCIATIONS):
            say(f"{each.size}, durable, {senders} at once")
            turns = {name: partial(each.sent_to, contender, senders) for name, contender in contenders.items()}
            rounds = in_turns(turns, effort.rounds)
            goals = {ORTHANC: _DURABLE[each.size, senders]}
            words = {ORTHANC: "Orthanc as installed, Nagle's algorithm off"}
            yield from _figures(f"ingest, {each.size}, durable, {senders} at once", rounds, goals, words)
        if syncs.is_installed():
            yield from _syncs(gateway, folder, sets[0], say)
        else:
            say("strace is not installed: syncs are not counted")


def _like_for_like(effort: Effort, memory: Path, images: Set, say: Say) -> Iterator[Figure]:
    sent_bytes = images.files.count * images.files.file_bytes * len(ASSOCIATIONS) * (effort.rounds + 1)
    if shutil.disk_usage(memory).free < sent_bytes * 1.1 + _ROOM_BYTES_MIN:
        say("too little room in memory: not compared like for like")
        return
    with ExitStack() as stack:
        home = memory / "region"
        home.mkdir()
        contenders = {OURS: Contender(_door(stack.enter_context(receiving(home))))}
        if orthanc.is_installed():
            tuned = stack.enter_context(orthanc.running(memory / "orthanc", settings=orthanc.TUNED))
            contenders[ORTHANC] = Contender(Door(tuned.dicom_port, orthanc.AE_TITLE), tuned.forget)
        for name, options in ((STORESCP, ()), (BIT_PRESERVING, ("+B",))):
            kept = memory / name.replace(" ", "")
            kept.mkdir()
            keeping = ("-od", kept, *options)
            port = stack.enter_context(dcmtk.storescp(memory, dcmtk.PDU_BYTES_MAX, keeping=keeping))
            contenders[name] = Contender(Door(port), partial(_emptied, kept))
        for senders in ASSOCIATIONS:
            say(f"{images.size}, nothing synced, {senders} at once")
            turns = {name: partial(images.sent_to, contender, senders) for name, contender in contenders.items()}
            rounds = in_turns(turns, effort.rounds)
            yield from _figures(f"ingest, CT, nothing synced, {senders} at once", rounds, _LIKE_FOR_LIKE, _IN_WORDS)


def _syncs(gateway: Gateway, folder: Path, images: Set, say: Say) -> Iterator[Figure]:
    count = images.files.count
    for senders in COUNTED_AT:
        say(f"counting syncs, {senders} at once")
        ours = Contender(_door(gateway))
        found = syncs.counted(gateway.child, folder / "syncs", partial(images.sent_to, ours, min(senders, count)))
        name = f"ingest, CT, durable, {senders} at once: syncs an instance"
        yield Figure(name, found.packs / count, None, "1", None, {"of the databases": round(found.others / count, 3)})


def _figures(
    name: str, rounds: Mapping[str, list[Sent]], goals: Mapping[str, Goal], words: Mapping[str, str]
) -> Iterator[Figure]:
    ours = [sent.per_s for sent in rounds[OURS]]
    others = [peer for peer in rounds if peer != OURS]
    if not others:
        yield Figure(f"{name}: instances a second", middle(ours), None, "1/s", None, beside("", ours))
    for peer in others:
        theirs = [sent.per_s for sent in rounds[peer]]
        quantity, about = f"{name}: instances a second, beside {peer}", beside(words[peer], ours, theirs)
        yield Figure(quantity, middle(ours), middle(theirs), "1/s", goals[peer], about)


@contextmanager
def receiving(folder: Path) -> Iterator[Gateway]:
    """A gateway that takes what Northmoor sends; what it keeps lies in the folder."""
    region = new_region(folder)
    with archive.running(folder, region.files("archive"), region.ca, ()) as ports:
        peers = (region.peer_by_qido(EASTVALE, ports.tls),)
        with region.gateway_before(peers, [studies.PATIENT], associations=Associations.PLAIN) as gateway:
            yield gateway


def _door(gateway: Gateway) -> Door:
    assert gateway.dimse is not None
    return gateway.dimse


def _written(folder: Path, size: str, count: int, numbers: Iterator[int]) -> Objects:
    return studies.write(folder, size, studies.Study(next(numbers), count, size))


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
