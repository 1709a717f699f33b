"""A link of so many megabits a second, on loopback: a relay that carries bytes no faster than that towards the caller.

`python -m bench.rig.images.link PORT MEGABITS` listens on a port of its own and connects to that one. All connections
share the link; what goes to the archive is little, and is not held back.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.rig import processes

READY = "link ready"
_READ_BYTES = 65_536
_BURST_S = 0.002
"""What a pause that lasted too long may be made up for."""


@contextmanager
def running(folder: Path, port: int, megabits_per_s: int) -> Iterator[int]:
    """A link to a port for as long as the block lasts; the port at which it begins."""
    command = processes.python("-m", "bench.rig.images.link", str(port), str(megabits_per_s))
    with processes.running(command, folder / "link.log", READY) as child:
        yield child.told(r"port=(\d+)")


class _Link:
    """When the next bytes may pass."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = time.perf_counter()
        self._lock = threading.Lock()

    def pass_through(self, count: int) -> None:
        """Wait as long as so many bytes take."""
        with self._lock:
            now = time.perf_counter()
            self._free_at = max(self._free_at, now - _BURST_S) + count / self._bytes_per_s
            pause_s = self._free_at - now
        if pause_s > 0:
            time.sleep(pause_s)


def _carry(from_: socket.socket, to: socket.socket, link: _Link | None) -> None:
    with suppress(OSError):
        while piece := from_.recv(_READ_BYTES):
            if link is not None:
                link.pass_through(len(piece))
            to.sendall(piece)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)


def _connect(caller: socket.socket, port: int, link: _Link) -> None:
    with caller, socket.create_connection(("127.0.0.1", port)) as archive:
        for end in (caller, archive):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asking = threading.Thread(target=_carry, args=(caller, archive, None), daemon=True)
        asking.start()
        _carry(archive, caller, link)
        asking.join()


def main(port: int, megabits_per_s: int) -> None:
    """Carry until the process is ended."""
    link = _Link(megabits_per_s * 1e6 / 8)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(f"{READY} port={listener.getsockname()[1]}", flush=True)
    while True:
        caller, _ = listener.accept()
        threading.Thread(target=_connect, args=(caller, port, link), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
