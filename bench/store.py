"""C-STORE at the level of the association: receiving and dropping, sending from memory, plain and over TLS.

Our upper layer beside DCMTK's storescp and storescu and beside pynetdicom, on the same images, the same maximum length
of a PDU, the same sender or receiver at the other end. No service stands behind it: nothing is decoded, kept or
audited on any side. Rates are instances a second; a CT instance is 526 kB, so 1,000 a second are 526 MB/s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, middle, ratio_at_least, spread
from bench.plan import Effort, Say, in_turns
from bench.rig.dimse import dcmtk, objects, pynetdicom_peer, receiver, sending
from bench.rig.dimse.objects import Objects
from bench.rig.dimse.sending import Sent
from bench.rig.dimse.wire import Door
from bench.rig.processes import python, running
from bench.rig.region import Region, new_region
from bench.rig.workers import Worker, working
from gateway.model.imaging import JsonValue

PDUS = {"16 KB": 16_384, "128 KB": 131_072, "unlimited": 0}
ASSOCIATIONS = (1, 4)
USUAL_PDU = "128 KB"
Turn = Callable[[], Sent]
_BESIDE_DCMTK, _BESIDE_PYNETDICOM = ratio_at_least(1), ratio_at_least(6)


@dataclass(frozen=True, slots=True)
class Rig:
    """What all the measurements share."""

    folder: Path
    region: Region
    effort: Effort
    say: Say
    ct: Objects
    few_ct: Objects
    small: Objects
    few_small: Objects
    raw: Worker
    ours: Worker
    pynetdicom: Worker

    @property
    def server_tls(self) -> dcmtk.Tls:
        """What a DCMTK program that listens is given."""
        return dcmtk.Tls(str(self.region.ca), *self.region.files("archive"))

    @property
    def client_tls(self) -> dcmtk.Tls:
        """What a DCMTK program that connects is given."""
        return dcmtk.Tls(str(self.region.ca), *self.region.files("pacs"))

    def secure(self, port: int) -> Door:
        """A TLS port as a client of the region connects to it."""
        certificate, private_key = self.region.files("pacs")
        return Door(port, ca=str(self.region.ca), certificate=certificate, private_key=private_key)

    def sent_by(self, worker: Worker, door: Door, images: Objects, associations: int) -> Turn:
        """A worker's turn."""
        load = sending.Load.of(door, images.parts(associations), images.count)
        return partial(sending.ask, worker, load)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    if not dcmtk.is_installed():
        say("DCMTK is not installed (Debian package dcmtk): no figures")
        return
    with _rig(effort, folder, say) as rig:
        for words, pdu_bytes_max in PDUS.items():
            yield from _receiving(rig, words, pdu_bytes_max)
        for words, pdu_bytes_max in PDUS.items():
            yield from _sending(rig, words, pdu_bytes_max)
        yield from _over_tls(rig)
        yield from _as_installed(rig)


@contextmanager
def _rig(effort: Effort, folder: Path, say: Say) -> Iterator[Rig]:
    with ExitStack() as stack:
        memory = objects.MEMORY if objects.MEMORY.is_dir() else None
        images = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=memory)))
        say("writing the images")
        yield Rig(
            folder,
            new_region(folder),
            effort,
            say,
            objects.write(images, "ct", effort.instances, objects.CT),
            objects.write(images, "few-ct", effort.few_instances, objects.CT),
            objects.write(images, "small", effort.instances * 4, objects.SMALL),
            objects.write(images, "few-small", effort.few_instances, objects.SMALL),
            stack.enter_context(working("bench.rig.dimse.raw_sender")),
            stack.enter_context(working("bench.rig.dimse.sender")),
            stack.enter_context(working("bench.rig.dimse.pynetdicom_peer")),
        )


def _receiving(rig: Rig, words: str, pdu_bytes_max: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        ours, _ = stack.enter_context(our_receiver(rig.folder, rig.region, pdu_bytes_max))
        storescp = Door(stack.enter_context(dcmtk.storescp(rig.folder, pdu_bytes_max)))
        pynetdicom = stack.enter_context(_pynetdicom(rig.folder, pdu_bytes_max))
        for associations in ASSOCIATIONS:
            rig.say(f"receiving, PDU {words}, {associations} at once")
            for sender in ("raw sender", "storescu"):
                turns: dict[str, Turn] = {}
                for name, door, images in (
                    ("ours", ours, rig.ct),
                    ("storescp --ignore", storescp, rig.ct),
                    ("pynetdicom", pynetdicom, rig.few_ct),
                ):
                    if sender == "storescu":
                        turns[name] = partial(dcmtk.storescu, door, images, associations)
                    else:
                        turns[name] = rig.sent_by(rig.raw, door, images, associations)
                yield from _beside_both(rig, f"receive CT, {sender}, PDU {words}, {associations} at once", turns)


def _sending(rig: Rig, words: str, pdu_bytes_max: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        if pdu_bytes_max:
            door = Door(stack.enter_context(dcmtk.storescp(rig.folder, pdu_bytes_max)))
            receiving = "storescp"
        else:
            # DCMTK always names a limit; the one that names none is ours, for all three.
            door, _ = stack.enter_context(our_receiver(rig.folder, rig.region, pdu_bytes_max))
            receiving = "our receiver"
        for associations in ASSOCIATIONS:
            rig.say(f"sending, PDU {words}, {associations} at once")
            turns: dict[str, Turn] = {
                "ours": rig.sent_by(rig.ours, door, rig.ct, associations),
                "storescu": partial(dcmtk.storescu, door, rig.ct, associations),
                "pynetdicom": rig.sent_by(rig.pynetdicom, door, rig.few_ct, associations),
            }
            name = f"send CT, to {receiving}, PDU {words}, {associations} at once"
            yield from _beside_both(rig, name, turns)


def _over_tls(rig: Rig) -> Iterator[Figure]:
    pdu = PDUS[USUAL_PDU]
    half = ratio_at_least(0.5)
    with ExitStack() as stack:
        plain, secure = stack.enter_context(our_receiver(rig.folder, rig.region, pdu))
        storescp = Door(stack.enter_context(dcmtk.storescp(rig.folder, pdu)))
        their_port = stack.enter_context(dcmtk.storescp(rig.folder, pdu, tls=rig.server_tls))
        theirs = rig.secure(their_port)
        for associations in ASSOCIATIONS:
            rig.say(f"over TLS, {associations} at once")
            sent_by = partial(rig.sent_by, images=rig.ct, associations=associations)
            received: dict[str, list[Sent]] = in_turns(
                {
                    "ours": sent_by(rig.raw, secure),
                    "plain": sent_by(rig.raw, plain),
                    "storescp": sent_by(rig.raw, theirs),
                },
                rig.effort.rounds,
            )
            name = f"receive CT over TLS, raw sender, {associations} at once"
            yield _figure(name, received, "plain", half, "our receiver without TLS")
            yield _figure(f"{name}, beside storescp", received, "storescp", None, "storescp --ignore with TLS")
            sent: dict[str, list[Sent]] = in_turns(
                {
                    "ours": sent_by(rig.ours, theirs),
                    "plain": sent_by(rig.ours, storescp),
                    "storescu": partial(dcmtk.storescu, Door(their_port), rig.ct, associations, tls=rig.client_tls),
                },
                rig.effort.rounds,
            )
            name = f"send CT over TLS, to storescp, {associations} at once"
            yield _figure(name, sent, "plain", half, "our sender without TLS")
            yield _figure(f"{name}, beside storescu", sent, "storescu", None, "storescu with TLS")


def _as_installed(rig: Rig) -> Iterator[Figure]:
    """DCMTK without the cure for Nagle's algorithm, on either side or on both."""
    rig.say("as installed")
    pdu = dcmtk.AS_INSTALLED_PDU
    with ExitStack() as stack:
        ours, _ = stack.enter_context(our_receiver(rig.folder, rig.region, PDUS[USUAL_PDU]))
        storescp = Door(stack.enter_context(dcmtk.storescp(rig.folder, pdu, dcmtk.AS_INSTALLED)))
        for name, images, few, goal in (
            ("12.8 kB instances", rig.small, rig.few_small, ratio_at_least(20)),
            ("CT", rig.ct, rig.few_ct, None),
        ):
            received: dict[str, list[Sent]] = in_turns(
                {
                    "ours": partial(dcmtk.storescu, ours, images, 1, dcmtk.AS_INSTALLED),
                    "storescp": partial(dcmtk.storescu, storescp, few, 1, dcmtk.AS_INSTALLED),
                },
                rig.effort.rounds,
            )
            yield _figure(
                f"receive {name}, storescu as installed", received, "storescp", goal, "storescp --ignore as installed"
            )
        sent: dict[str, list[Sent]] = in_turns(
            {
                "ours": rig.sent_by(rig.ours, storescp, rig.ct, 1),
                "storescu": partial(dcmtk.storescu, storescp, rig.few_ct, 1, dcmtk.AS_INSTALLED),
            },
            rig.effort.rounds,
        )
        yield _figure("send CT, to storescp as installed", sent, "storescu", None, "storescu as installed")


def _beside_both(rig: Rig, name: str, turns: Mapping[str, Turn]) -> Iterator[Figure]:
    rounds = in_turns(turns, rig.effort.rounds)
    _, dcmtks, pynetdicom = rounds
    yield _figure(name, rounds, dcmtks, _BESIDE_DCMTK, f"DCMTK {dcmtks}, TCP_NODELAY=1")
    yield _figure(f"{name}, beside pynetdicom", rounds, pynetdicom, _BESIDE_PYNETDICOM, "pynetdicom")


def _figure(name: str, rounds: Mapping[str, list[Sent]], peer: str, goal: Goal | None, words: str) -> Figure:
    ours = [sent.per_s for sent in rounds["ours"]]
    theirs = [sent.per_s for sent in rounds[peer]]
    about: dict[str, JsonValue] = {"peer": words, "ours": spread(ours), "theirs": spread(theirs)}
    return Figure(name, middle(ours), middle(theirs), "1/s", goal, about)


@contextmanager
def our_receiver(folder: Path, region: Region, pdu_bytes_max: int) -> Iterator[tuple[Door, Door]]:
    """Our receiver's plain and TLS door."""
    command = python("-m", "bench.rig.dimse.receiver", str(pdu_bytes_max), *region.files("archive"), region.ca)
    with running(command, folder / f"receiver-{pdu_bytes_max}.log", receiver.READY) as child:
        certificate, private_key = region.files("pacs")
        yield (
            Door(child.told(r"plain=(\d+)")),
            Door(child.told(r"tls=(\d+)"), ca=str(region.ca), certificate=certificate, private_key=private_key),
        )


@contextmanager
def _pynetdicom(folder: Path, pdu_bytes_max: int) -> Iterator[Door]:
    command = python("-m", "bench.rig.dimse.pynetdicom_peer", "serve", str(pdu_bytes_max))
    with running(command, folder / f"pynetdicom-{pdu_bytes_max}.log", pynetdicom_peer.READY) as child:
        yield Door(child.told(r"port=(\d+)"))
