"""A client of WADO-RS that reads studies as fast as they come and keeps nothing: when the first byte came, and all.

A worker (`python -m bench.rig.images.reading`): one thread and one connection a reader, blocking sockets, whose time is
spent in the kernel. It asks for the connection to be closed behind the answer, so that the end is the end.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from bench.rig.load import Door, context_of
from bench.rig.workers import Told, Worker, work

MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PATIENCE_S = 600.0
"""Without a byte: of several that want much of one archive, some wait until others have theirs."""
_BUFFER_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Load:
    """What is read, each path by a reader of its own, all at once."""

    door: Door
    paths: tuple[str, ...]
    body_bytes_min: int
    """An answer that is shorter is no answer."""
    first_bytes: int = 1
    """So many bytes of a body are the first of it."""
    accept: str = MULTIPART


@dataclass(frozen=True, slots=True)
class Read:
    """What a load came to."""

    body_bytes: int
    """Of all readers together."""
    elapsed_s: float
    first_s: float
    """Until the first of a body came, of the reader for whom it took longest."""

    @property
    def mb_per_s(self) -> float:
        """All readers together."""
        return self.body_bytes / self.elapsed_s / 1e6

    @property
    def first_ms(self) -> float:
        """In milliseconds."""
        return self.first_s * 1000


def ask(worker: Worker, load: Load) -> Read:
    """Have a worker read a load; raises `RuntimeError` when an answer is not what it should be."""
    return Read(**worker.ask(asdict(load)))  # type: ignore[arg-type]  # a `Read` as JSON


def read(load: Load) -> Read:
    """Read a load."""
    with ThreadPoolExecutor(len(load.paths)) as pool:
        began = time.perf_counter()
        all_read = list(pool.map(lambda path: _read(load, path), load.paths))
        elapsed_s = time.perf_counter() - began
    return Read(sum(count for count, _ in all_read), elapsed_s, max(first_s for _, first_s in all_read))


def _read(load: Load, path: str) -> tuple[int, float]:
    """How many bytes of body came, and after what time the first."""
    began = time.perf_counter()
    context = context_of(load.door)
    with socket.create_connection(("127.0.0.1", load.door.port), timeout=PATIENCE_S) as plain:
        connection = context.wrap_socket(plain, server_hostname="localhost") if context is not None else plain
        lines: Sequence[str] = (
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            f"Accept: {load.accept}",
            "User-Agent: bench",
            "Connection: close",
        )
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        buffer = bytearray(_BUFFER_BYTES)
        head = b""
        while not head.partition(b"\r\n\r\n")[2]:
            received = connection.recv(_BUFFER_BYTES)
            if not received:
                raise RuntimeError(f"no body: {head[:400]!r}")
            head += received
        if head[9:12] != b"200":
            raise RuntimeError(f"answered {head[:400]!r}")
        body_bytes = len(head.partition(b"\r\n\r\n")[2])
        while body_bytes < load.first_bytes and (count := connection.recv_into(buffer)):
            body_bytes += count
        first_s = time.perf_counter() - began
        while count := connection.recv_into(buffer):
            body_bytes += count
    if body_bytes < load.body_bytes_min:
        raise RuntimeError(f"{body_bytes} bytes came, not {load.body_bytes_min}")
    return body_bytes, first_s


def _perform(told: Told) -> Told:
    door, paths = told["door"], told["paths"]
    assert isinstance(door, dict) and isinstance(paths, list)
    rest = {name: value for name, value in told.items() if name not in ("door", "paths")}
    return asdict(read(Load(Door(**door), tuple(map(str, paths)), **rest)))  # type: ignore[arg-type]  # we wrote it


if __name__ == "__main__":
    work(_perform)
