"""Images out of the warm cache over associations: C-MOVE to `storescp` and to Orthanc, C-GET to `getscu`.

Ours is whole: the holder's list, guard, ledger, audit, opening what is sealed. The peers send plain files that lie in
memory, and ask nobody. The archive behind the gateway lists a study and has given it before the first round ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, beside, middle, ratio_at_least
from bench.plan import Effort, Say, in_turns
from bench.rig import orthanc
from bench.rig.dimse import dcmtk, objects, sending
from bench.rig.dimse.objects import Objects
from bench.rig.dimse.sending import Load, Sent
from bench.rig.dimse.wire import Door
from bench.rig.images import archive, moving, studies
from bench.rig.images.studies import Study
from bench.rig.region import EASTVALE, Associations, Destination, new_region
from bench.rig.workers import Worker, working

STORESCP, ORTHANC = "STORESCP", orthanc.AE_TITLE
OURS, STORESCU, PYNETDICOM = "ours", "storescu", "pynetdicom"
_BESIDE_DCMTK, _BESIDE_PYNETDICOM, _BESIDE_ORDINARY = ratio_at_least(1), ratio_at_least(6), ratio_at_least(4)
Turn = Callable[[], Sent]


@dataclass(frozen=True, slots=True)
class Rig:
    """What all the measurements share."""

    effort: Effort
    say: Say
    gateway: Door
    storescp: Door
    orthanc: orthanc.Orthanc | None
    ct: Objects
    few: Objects
    pynetdicom: Worker


def _ct(effort: Effort) -> Study:
    return Study(1, effort.instances)


def _few(effort: Effort) -> Study:
    return Study(2, effort.few_instances)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    if not dcmtk.is_installed() or not objects.MEMORY.is_dir():
        say("needs DCMTK (Debian package dcmtk) and /dev/shm: no figures")
        return
    with _rig(effort, folder, say) as rig:
        yield from _moved(rig)
        yield from _got(rig)
        if rig.orthanc is None:
            say("Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb): figures without it")
        else:
            yield from _into_orthanc(rig, rig.orthanc)


@contextmanager
def _rig(effort: Effort, folder: Path, say: Say) -> Iterator[Rig]:
    with ExitStack() as stack:
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=objects.MEMORY)))
        say("writing the images")
        region = new_region(folder)
        held = (_ct(effort), _few(effort))
        ports = stack.enter_context(archive.running(folder, region.files("archive"), region.ca, held))
        scp = stack.enter_context(dcmtk.storescp(folder, dcmtk.PDU_BYTES_MAX))
        destinations, theirs = [Destination(STORESCP, scp)], None
        if orthanc.is_installed():
            # As Debian starts it: with Nagle's algorithm on, which costs whoever does not know it 40 ms an image.
            theirs = stack.enter_context(orthanc.running(folder / "orthanc", environment=dcmtk.AS_INSTALLED))
            destinations.append(Destination(ORTHANC, theirs.dicom_port))
        peers = (region.peer_by_qido(EASTVALE, ports.tls),)
        gateway = stack.enter_context(
            region.gateway_before(peers, [studies.PATIENT], associations=Associations.PLAIN, destinations=destinations)
        )
        assert gateway.dimse is not None
        yield Rig(
            effort,
            say,
            gateway.dimse,
            Door(scp),
            theirs,
            studies.write(memory, "ct", _ct(effort)),
            studies.write(memory, "few", _few(effort)),
            stack.enter_context(working("bench.rig.dimse.pynetdicom_peer")),
        )


def _moved(rig: Rig) -> Iterator[Figure]:
    rig.say("C-MOVE to storescp")
    turns: dict[str, Turn] = {OURS: partial(moving.move, rig.gateway, _ct(rig.effort), STORESCP)}
    yield from _beside_senders(rig, "warm, CT by C-MOVE to storescp", turns)


def _got(rig: Rig) -> Iterator[Figure]:
    rig.say("C-GET to getscu")
    study = _ct(rig.effort)
    turns: dict[str, Turn] = {OURS: lambda: Sent(study.count, dcmtk.getscu(rig.gateway, study.uid))}
    yield from _beside_senders(rig, "warm, CT by C-GET to getscu", turns)


def _beside_senders(rig: Rig, name: str, turns: dict[str, Turn]) -> Iterator[Figure]:
    """Beside those who send plain files to storescp."""
    turns[STORESCU] = partial(dcmtk.send_folders, rig.storescp, [[rig.ct.folder]], rig.ct.count)
    load = Load.of(rig.storescp, [rig.few.folder], rig.few.count)
    turns[PYNETDICOM] = partial(sending.ask, rig.pynetdicom, load)
    rounds = in_turns(turns, rig.effort.rounds)
    yield _figure(name, rounds, STORESCU, _BESIDE_DCMTK, "storescu, plain files to storescp, one association")
    yield _figure(name, rounds, PYNETDICOM, _BESIDE_PYNETDICOM, "pynetdicom, data sets from memory to storescp")


def _into_orthanc(rig: Rig, theirs: orthanc.Orthanc) -> Iterator[Figure]:
    rig.say("into Orthanc as installed")
    door = Door(theirs.dicom_port, ORTHANC)

    def turn(send: Turn) -> Sent:
        sent = send()
        theirs.forget()
        return sent

    rounds = in_turns(
        {
            OURS: partial(turn, partial(moving.move, rig.gateway, _few(rig.effort), ORTHANC)),
            STORESCU: partial(
                turn, partial(dcmtk.send_folders, door, [[rig.few.folder]], rig.few.count, dcmtk.AS_INSTALLED)
            ),
        },
        rig.effort.rounds,
    )
    yield _figure("warm, CT by C-MOVE into Orthanc", rounds, STORESCU, _BESIDE_ORDINARY, "storescu as installed")


def _figure(name: str, rounds: dict[str, list[Sent]], peer: str, goal: Goal, words: str) -> Figure:
    ours, theirs = ([sent.per_s for sent in rounds[each]] for each in (OURS, peer))
    quantity = f"{name}: instances a second, beside {peer}"
    return Figure(quantity, middle(ours), middle(theirs), "1/s", goal, beside(words, ours, theirs))
