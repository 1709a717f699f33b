"""DCMTK's archive from the Debian package as a foreign C-FIND archive: its own processes on a free port of loopback.

Its index knows neither Modalities in Study nor counts nor sequences, and its processes come and go with associations.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

AE_TITLE = "DCMTK"
_START_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 20


@contextmanager
def running_dcmqrscp(folder: Path, files: Iterable[Path]) -> Iterator[int]:
    """An archive of these files for as long as the block lasts; gives its port. Skips where DCMTK is not installed."""
    archive, index = shutil.which("dcmqrscp"), shutil.which("dcmqridx")
    if archive is None or index is None:
        pytest.skip("dcmtk is not installed")
    port = _free_port()
    database = folder / "database"
    database.mkdir()
    settings = folder / "dcmqrscp.cfg"
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AE_TITLE} {database} RW (200, 1024mb) ANY\nAETable END\n"
    )
    # Registered where they lie: no copy, and no association needed.
    subprocess.run([index, str(database), *map(str, files)], check=True, capture_output=True)
    with (folder / "dcmqrscp.log").open("wb") as output:
        process = subprocess.Popen([archive, "-c", str(settings)], stdout=output, stderr=output)
        try:
            _await_listening(process, port, folder / "dcmqrscp.log")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until it takes connections; a foreign process gives no other sign that it is ready."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"dcmqrscp did not start: {log.read_text(errors='replace')[-2000:]}")
