"""DCMTK's programs as Debian packages them: storescp and storescu as peers, dcmqrscp as the archive.

`TCP_NODELAY=1`, which dcmnet reads from the environment, cures the 40 ms that Nagle's algorithm costs at every message:
with it the programs are at their best, without it as installed. They are called by their full path, because pynetdicom
puts scripts of the same names into a virtual environment.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rig import processes, studies
from bench.rig.dimse.objects import Objects
from bench.rig.dimse.sending import Sent
from bench.rig.dimse.wire import CALLED, CALLING, Door

PROGRAMS = Path("/usr/bin")
AT_ITS_BEST: Mapping[str, str] = {"TCP_NODELAY": "1"}
AS_INSTALLED: Mapping[str, str] = {}
PDU_BYTES_MAX = 131_072
"""The most that DCMTK can be told to take; it has no word for unlimited."""
AS_INSTALLED_PDU = 16_384
"""What the programs take unless told otherwise."""
SEND_TIMEOUT_S = 300.0
ARCHIVE = "EASTARCHIVE"
_NOBODY = 1
"""A port where nobody listens."""


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
    folder: Path, pdu_bytes_max: int, environment: Mapping[str, str] = AT_ITS_BEST, tls: Tls | None = None
) -> Iterator[int]:
    """A storescp that drops what it receives, one process an association; its port."""
    port = processes.free_port()
    options = ("--fork", "--ignore", "-pdu", str(pdu_bytes_max or PDU_BYTES_MAX), *(tls.arguments if tls else ()))
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
    """Send a set by so many storescu at once.

    The programs' own start (dictionary, list of files) is measured by sending to a port that refuses, and taken off.
    """
    whole_s = _storescu(door.port, objects, associations, environment, tls, is_refused=False)
    start_s = _storescu(_NOBODY, objects, associations, environment, tls, is_refused=True)
    return Sent(objects.count, max(whole_s - start_s, 1e-3))


def _storescu(
    port: int,
    objects: Objects,
    associations: int,
    environment: Mapping[str, str],
    tls: Tls | None,
    *,
    is_refused: bool,
) -> float:
    options = ("-aet", CALLING, "-aec", CALLED, "+sd", "+r", *(tls.arguments if tls else ()))
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            [PROGRAMS / "storescu", *options, "127.0.0.1", str(port), folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
        )
        for folder in objects.parts(associations)
    ]
    words = [sender.communicate(timeout=SEND_TIMEOUT_S)[0] for sender in senders]
    elapsed_s = time.perf_counter() - began
    if not is_refused and any(sender.returncode for sender in senders):
        raise RuntimeError(f"storescu failed: {b''.join(words)[-1000:].decode(errors='replace')}")
    return elapsed_s


@contextmanager
def dcmqrscp(folder: Path, held: Sequence[studies.Study], pdu_bytes_max: int = PDU_BYTES_MAX) -> Iterator[Door]:
    """An archive with these studies (500 at most, its own limit), one process an association."""
    storage = folder / "dcmqrscp"
    storage.mkdir()
    for study in held:
        (storage / f"{study.number}.dcm").write_bytes(studies.file(study))
    files = sorted(str(path) for path in storage.glob("*.dcm"))
    subprocess.run([PROGRAMS / "dcmqridx", storage, *files], check=True, capture_output=True)
    port = processes.free_port()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = {pdu_bytes_max}\nMaxAssociations = 64\nHostTable BEGIN\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\n{ARCHIVE} {storage} RW (500, 1024mb) ANY\nAETable END\n"
    )
    command: list[str | Path] = [PROGRAMS / "dcmqrscp", "-c", configuration]
    with processes.listening(command, folder / "dcmqrscp.log", port, AT_ITS_BEST):
        yield Door(port, ARCHIVE)
