"""Images out of the warm cache by WADO-RS, beside Orthanc, which serves plain files: studies, metadata, frames.

Both without TLS, on loopback; ours with TLS is told besides. Ours is whole: guard, ledger, audit, opening what is
sealed; and one process, where Orthanc has a thread for each client. What this machine can do at most at opening and at
carrying bytes stands beside, for neither goes faster than that.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.figures import Figure, Goal, beside, middle, ratio_at_least, ratio_at_most
from bench.plan import Effort, Say, in_turns
from bench.rig import load as loads
from bench.rig import orthanc
from bench.rig.dimse import dcmtk
from bench.rig.dimse.wire import Door as DimseDoor
from bench.rig.images import archive, reading, studies
from bench.rig.images.reading import Load, Read
from bench.rig.images.studies import Study
from bench.rig.load import Door, Generator, Outcome
from bench.rig.region import EASTVALE, Associations, new_region
from bench.rig.wire import DICOM_JSON
from bench.rig.workers import Worker, working

OURS, ORTHANC, TLS = "ours", "Orthanc", "with TLS"
CLIENTS = (1, 4)
FRAMES_AT_ONCE = 16
FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
ROOT = "/dicom-web"
_FASTER = {1: ratio_at_least(1.3), 4: ratio_at_least(0.7)}
_FIRST_BYTE = ratio_at_most(0.25)
_METADATA, _FRAMES = ratio_at_least(50), ratio_at_least(8)
_SEGMENT_BYTES = 262_144
_PIECE_BYTES = 1_048_576
_SERVING = "Orthanc, plain files, plain HTTP"


@dataclass(frozen=True, slots=True)
class Rig:
    """What all the measurements share."""

    effort: Effort
    say: Say
    study: Study
    doors: dict[str, Door]
    reader: Worker
    generator: Generator


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    with _rig(effort, folder, say) as rig:
        for clients in CLIENTS:
            yield from _studies(rig, clients)
        yield from _metadata(rig)
        yield from _frames(rig)
    say("what the machine can do")
    yield from _limits(effort)


@contextmanager
def _rig(effort: Effort, folder: Path, say: Say) -> Iterator[Rig]:
    study = Study(1, effort.instances)
    with ExitStack() as stack:
        region = new_region(folder)
        ports = stack.enter_context(archive.running(folder, region.files("archive"), region.ca, (study,)))
        doors = {}
        for name, associations in ((OURS, Associations.PLAIN), (TLS, None)):
            gateway = stack.enter_context(
                region.gateway_before(
                    (region.peer_by_qido(EASTVALE, ports.tls),),
                    [studies.PATIENT],
                    place=name.replace(" ", "-"),
                    associations=associations,
                    is_plain_http=name == OURS,
                )
            )
            doors[name] = gateway.door
        if orthanc.is_installed() and dcmtk.is_installed():
            say("filling Orthanc")
            theirs = stack.enter_context(orthanc.running(folder / "orthanc"))
            files = studies.write(folder, "ct", study)
            dcmtk.send_folders(DimseDoor(theirs.dicom_port, orthanc.AE_TITLE), [[files.folder]], files.count)
            doors[ORTHANC] = Door(theirs.port)
        else:
            say("Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb): figures without it")
        reader = stack.enter_context(working("bench.rig.images.reading"))
        yield Rig(effort, say, study, doors, reader, stack.enter_context(loads.generator()))


def _studies(rig: Rig, clients: int) -> Iterator[Figure]:
    rig.say(f"the whole study, {clients} at once")
    path, length = f"{ROOT}/studies/{rig.study.uid}", rig.study.count * rig.study.file_bytes
    turns = {
        name: partial(reading.ask, rig.reader, Load(door, (path,) * clients, length))
        for name, door in rig.doors.items()
    }
    rounds = in_turns(turns, rig.effort.rounds)
    name = f"warm, CT study by WADO-RS, {clients} at once"
    yield _figure(f"{name}: MB a second", rounds, "MB/s", _FASTER[clients])
    yield _figure(f"{name}: time to first byte", rounds, "ms", _FIRST_BYTE if clients == 1 else None)
    ours, secured = ([each.mb_per_s for each in rounds[name]] for name in (OURS, TLS))
    about = beside("ours without TLS", secured, ours)
    yield Figure(f"{name}, with TLS: MB a second", middle(secured), middle(ours), "MB/s", None, about)


def _figure(name: str, rounds: dict[str, list[Read]], unit: str, goal: Goal | None) -> Figure:
    def quantity(read: Read) -> float:
        return read.first_ms if unit == "ms" else read.mb_per_s

    ours = [quantity(each) for each in rounds[OURS]]
    theirs = [quantity(each) for each in rounds.get(ORTHANC, ())]
    return Figure(name, middle(ours), middle(theirs) if theirs else None, unit, goal, beside(_SERVING, ours, theirs))


def _metadata(rig: Rig) -> Iterator[Figure]:
    rig.say("metadata of the study")
    path = f"{ROOT}/studies/{rig.study.uid}/metadata"
    outcomes = _asked(rig, (path,), 1, DICOM_JSON, rig.study.count * 500)
    name = f"warm, metadata of {rig.study.count} instances"
    yield _rates(f"{name}: answers a second", outcomes, _METADATA)


def _frames(rig: Rig) -> Iterator[Figure]:
    rig.say("single frames")
    series = f"{ROOT}/studies/{rig.study.uid}/series/{rig.study.series_uid}"
    paths = tuple(f"{series}/instances/{rig.study.sop_uid(index)}/frames/1" for index in range(rig.study.count))
    outcomes = _asked(rig, paths, FRAMES_AT_ONCE, FRAME, len(rig.study.frame))
    yield _rates(f"warm, one frame, {FRAMES_AT_ONCE} at once: answers a second", outcomes, _FRAMES)


def _asked(
    rig: Rig, paths: tuple[str, ...], callers: int, accept: str, body_bytes_min: int
) -> dict[str, list[Outcome]]:
    turns = {
        name: partial(
            rig.generator.run,
            loads.Load(
                rig.doors[name], paths, callers, rig.effort.slice_s, body_bytes_min=body_bytes_min, accept=accept
            ),
        )
        for name in (OURS, ORTHANC)
        if name in rig.doors
    }
    return in_turns(turns, rig.effort.rounds)


def _rates(name: str, outcomes: dict[str, list[Outcome]], goal: Goal) -> Figure:
    ours = [each.per_s for each in outcomes[OURS]]
    theirs = [each.per_s for each in outcomes.get(ORTHANC, ())]
    about = beside(_SERVING, ours, theirs) | {"our p99, ms": round(middle([each.p99_ms for each in outcomes[OURS]]), 1)}
    return Figure(name, middle(ours), middle(theirs) if theirs else None, "1/s", goal, about)


def _limits(effort: Effort) -> Iterator[Figure]:
    opened = [_opened_mb_per_s(effort.slice_s) for _ in range(effort.rounds)]
    carried = [_carried_mb_per_s(effort.slice_s) for _ in range(effort.rounds)]
    name = "AES-256-GCM opened on one core, segments of 256 KB"
    yield Figure(f"{name}: MB a second", middle(opened), None, "MB/s", None, beside("", opened))
    name = "loopback, one connection, pieces of 1 MB"
    yield Figure(f"{name}: MB a second", middle(carried), None, "MB/s", None, beside("", carried))


def _opened_mb_per_s(duration_s: float) -> float:
    cipher, nonce = AESGCM(bytes(32)), bytes(12)
    sealed = cipher.encrypt(nonce, os.urandom(_SEGMENT_BYTES), None)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < duration_s:
        cipher.decrypt(nonce, sealed, None)
        count += 1
    return count * _SEGMENT_BYTES / (time.perf_counter() - began) / 1e6


def _carried_mb_per_s(duration_s: float) -> float:
    sending, receiving = socket.create_server(("127.0.0.1", 0)), bytearray(_PIECE_BYTES)

    def send() -> None:
        with socket.create_connection(sending.getsockname()) as connection:
            began, piece = time.perf_counter(), bytes(_PIECE_BYTES)
            while time.perf_counter() - began < duration_s:
                connection.sendall(piece)

    sender = threading.Thread(target=send)
    sender.start()
    with sending, sending.accept()[0] as connection:
        began, total = time.perf_counter(), 0
        while count := connection.recv_into(receiving):
            total += count
        elapsed_s = time.perf_counter() - began
    sender.join()
    return total / elapsed_s / 1e6
