"""Foreign servers as processes of a test's own: the wait until they answer, and their end.

Only what was started here is ever stopped. Knows no protocol: whoever starts a server says how its readiness shows.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 20
_ANSWER_TIMEOUT_S = 5


def takes_connections(port: int) -> bool:
    """Whether somebody listens there; many a foreign process gives no other sign that it is ready."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_TIMEOUT_S).close()
    except OSError:
        return False
    return True


@contextmanager
def running(command: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """The server for as long as the block lasts; it is ready at its begin. What it prints goes to `log`.

    One that runs and does not become ready, as Orthanc does once in a long while, is started a second time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            if not _becomes_ready(process, is_ready) and process.poll() is None:
                _end(process)
                process = subprocess.Popen(command, stdout=output, stderr=output)
            if not _becomes_ready(process, is_ready):
                raise AssertionError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
            yield
        finally:
            _end(process)


def _becomes_ready(process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready():
            return True
        time.sleep(0.05)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
