"""DCMTK's programs as Debian packages them: storescp and storescu as peers, dcmqrscp as the archive.

`TCP_NODELAY=1`, which dcmnet reads from the environment, cures the 40 ms that Nagle's algorithm costs at every message:
with it the programs are at their best, without it as installed. They are called by their full path, because pynetdicom
puts scripts of the same names into a virtual environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.rig import processes, studies
from bench.rig.dimse.objects import Objects
from bench.rig.dimse.sending import Sent
from bench.rig.dimse.wire import CALLING, Door
from gateway.demo.ports import free_port

PROGRAMS = Path("/usr/bin")
AT_ITS_BEST: Mapping[str, str] = {"TCP_NODELAY": "1"}
AS_INSTALLED: Mapping[str, str] = {}
PDU_BYTES_MAX = 131_072
"""The most that DCMTK can be told to take; it has no word for unlimited."""
AS_INSTALLED_PDU = 16_384
"""What the programs take unless told otherwise."""
SEND_TIMEOUT_S = 300.0
ARCHIVE = "EASTARCHIVE"
_POLL_S = 0.0005


@dataclass(frozen=True, slots=True)
class Tls:
    """The files by which a program proves itself and checks the other side."""

    ca: str
    certificate: str
    private_key: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """For the command line."""
        return ("+tls", self.private_key, self.certificate, "+cf", self.ca)


def is_installed() -> bool:
    """Whether Debian's package dcmtk is here."""
    return (PROGRAMS / "storescp").exists()


@contextmanager
def storescp(
    folder: Path,
    pdu_bytes_max: int,
    environment: Mapping[str, str] = AT_ITS_BEST,
    tls: Tls | None = None,
    keeping: Sequence[str | Path] = ("--ignore",),
) -> Iterator[int]:
    """A storescp that drops what it receives unless `keeping` says other, one process an association; its port."""
    port = free_port()
    options = (
        "--fork",
        *map(str, keeping),
        "-pdu",
        str(pdu_bytes_max or PDU_BYTES_MAX),
        *(tls.arguments if tls else ()),
    )
    log = folder / f"storescp-{port}.log"
    with processes.listening([PROGRAMS / "storescp", *options, str(port)], log, port, environment):
        yield port


def storescu(
    door: Door,
    objects: Objects,
    associations: int,
    environment: Mapping[str, str] = AT_ITS_BEST,
    tls: Tls | None = None,
) -> Sent:
    """Send a set by so many storescu at once."""
    return send_folders(door, [(folder,) for folder in objects.parts(associations)], objects.count, environment, tls)


def send_folders(
    door: Door,
    folders: Sequence[Sequence[Path]],
    count: int,
    environment: Mapping[str, str] = AT_ITS_BEST,
    tls: Tls | None = None,
) -> Sent:
    """Send the files in these folders, `count` in all, by a storescu for each of the outer sequence."""
    options = ("-aet", CALLING, "-aec", door.ae_title, "+sd", "+r", *(tls.arguments if tls else ()))
    address = ("127.0.0.1", str(door.port))
    commands = [("storescu", *options, *address, *map(str, each)) for each in folders]
    return Sent(count, _timed(commands, environment, can_be_held=tls is None))


def getscu(door: Door, study_uid: str, environment: Mapping[str, str] = AT_ITS_BEST) -> float:
    """Have a getscu fetch a study and drop it; the seconds that took."""
    options = ("--ignore", "-pdu", str(PDU_BYTES_MAX), "-aet", CALLING, "-aec", door.ae_title)
    named = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}")
    return _timed([("getscu", *options, *named, "127.0.0.1", str(door.port))], environment)


def _timed(commands: Sequence[tuple[str, ...]], environment: Mapping[str, str], *, can_be_held: bool = True) -> float:
    """Run programs from the moment at which they connect: their own start (dictionary, list of files) is not counted.

    Each is held back as soon as it has opened its socket, until all have, so that all begin together. Where they cannot
    be held (DCMTK takes a stop in its TLS handshake for a failure), it is the moment at which the first connects.
    Raises `RuntimeError` with the words of one that failed.
    """
    programs = [
        subprocess.Popen(
            [PROGRAMS / name, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
        )
        for name, *options in commands
    ]
    try:
        starting = list(programs)
        while len(starting) == len(programs) or (can_be_held and starting):
            for program in [each for each in starting if each.poll() is not None or _has_socket(each.pid)]:
                starting.remove(program)
                if can_be_held:
                    program.send_signal(signal.SIGSTOP)
            time.sleep(_POLL_S)
        began = time.perf_counter()
        for program in programs:
            if can_be_held:
                program.send_signal(signal.SIGCONT)
        words = [program.communicate(timeout=SEND_TIMEOUT_S)[0] for program in programs]
        elapsed_s = time.perf_counter() - began
    finally:
        for program in programs:
            if program.poll() is None:
                program.kill()
    if any(program.returncode for program in programs):
        raise RuntimeError(f"{commands[0][0]} failed: {b''.join(words)[-1000:].decode(errors='replace')}")
    return elapsed_s


def _has_socket(pid: int) -> bool:
    links = f"/proc/{pid}/fd"
    with suppress(OSError):
        return any(os.readlink(f"{links}/{number}").startswith("socket:") for number in os.listdir(links))
    return False


@contextmanager
def dcmqrscp(folder: Path, held: Sequence[studies.Study], pdu_bytes_max: int = PDU_BYTES_MAX) -> Iterator[Door]:
    """An archive with these studies (500 at most, its own limit), one process an association."""
    storage = folder / "dcmqrscp"
    storage.mkdir()
    for study in held:
        (storage / f"{study.number}.dcm").write_bytes(studies.file(study))
    files = sorted(str(path) for path in storage.glob("*.dcm"))
    subprocess.run([PROGRAMS / "dcmqridx", storage, *files], check=True, capture_output=True)
    port = free_port()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = {pdu_bytes_max}\nMaxAssociations = 64\nHostTable BEGIN\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\n{ARCHIVE} {storage} RW (500, 1024mb) ANY\nAETable END\n"
    )
    command: list[str | Path] = [PROGRAMS / "dcmqrscp", "-c", configuration]
    with processes.listening(command, folder / "dcmqrscp.log", port, AT_ITS_BEST):
        yield Door(port, ARCHIVE)
