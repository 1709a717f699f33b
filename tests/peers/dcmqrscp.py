"""DCMTK's archive from the Debian package as a foreign C-FIND archive: its own processes on a free port of loopback.

Its index knows neither Modalities in Study nor counts nor sequences, and its processes come and go with associations.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.demo.ports import free_port
from tests.peers.processes import running, takes_connections

AE_TITLE = "DCMTK"


@contextmanager
def running_dcmqrscp(
    folder: Path, files: Iterable[Path], *options: str, moves_to: Mapping[str, int] | None = None
) -> Iterator[int]:
    """An archive of these files for as long as the block lasts; gives its port. Skips where DCMTK is not installed.

    `moves_to`: AE titles that it knows as destinations, with their ports on this machine.
    """
    archive, index = shutil.which("dcmqrscp"), shutil.which("dcmqridx")
    if archive is None or index is None:
        pytest.skip("dcmtk is not installed")
    port = free_port()
    database = folder / "database"
    database.mkdir()
    settings = folder / "dcmqrscp.cfg"
    hosts = "".join(f"{title} = ({title}, localhost, {at})\n" for title, at in (moves_to or {}).items())
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AE_TITLE} {database} RW (200, 1024mb) ANY\nAETable END\n"
    )
    # Registered where they lie: no copy, and no association needed.
    subprocess.run([index, str(database), *map(str, files)], check=True, capture_output=True)
    command = [archive, *options, "-c", str(settings)]
    with running(command, folder / "dcmqrscp.log", lambda: takes_connections(port)):
        yield port
