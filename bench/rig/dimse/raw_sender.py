"""A sender faster than any receiver here: plain sockets, whole messages in one system call, nothing looked at.

A worker of its own (`python -m bench.rig.dimse.raw_sender`), with no code of the product. One thread an association:
they spend their time in the kernel, where Python's lock is not held.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from bench.rig.dimse import wire
from bench.rig.dimse.objects import Instance
from bench.rig.dimse.sending import Load, Sent
from bench.rig.workers import Told, work

UNLIMITED_PDU_BYTES = 1_048_576
"""What is sent at once to a peer that names no maximum."""
_VECTORS_MAX = 1000
"""Linux takes 1,024 in one call."""


def send(load: Load) -> Sent:
    """Send a load; raises `RuntimeError` when a response is no success."""
    parts = load.instances()
    with ThreadPoolExecutor(len(parts)) as pool:
        began = time.perf_counter()
        list(pool.map(lambda part: _send(load.door, part), parts))
        return Sent(sum(map(len, parts)), time.perf_counter() - began)


def _send(door: wire.Door, instances: Sequence[Instance]) -> None:
    line = wire.Line(door, wire.CT_IMAGE_STORAGE, wire.EXPLICIT_LE)
    for number, instance in enumerate(instances, start=1):
        command = wire.store_request(number % 0x10000, wire.CT_IMAGE_STORAGE, instance.sop_instance_uid)
        vectors: list[bytes | memoryview] = [command, *_fragments(instance.content, line.peer_pdu_bytes_max)]
        if isinstance(line.socket, ssl.SSLSocket):
            # TLS has no vectors: a piece is joined to the head of the next one while it is in the processor's cache.
            for first in range(0, len(vectors), 2):
                line.socket.sendall(b"".join(vectors[first : first + 2]))
        else:
            _write(line, vectors)
        status = line.read_status()
        if status != wire.SUCCESS:
            raise RuntimeError(f"C-STORE was answered by {status:04X}")
    line.release()


def _fragments(content: memoryview, pdu_bytes_max: int) -> list[bytes | memoryview]:
    piece_bytes = min(pdu_bytes_max or UNLIMITED_PDU_BYTES, UNLIMITED_PDU_BYTES) - 6
    fragments: list[bytes | memoryview] = []
    for start in range(0, len(content), piece_bytes):
        piece = content[start : start + piece_bytes]
        fragments += [wire.data_head(len(piece), start + len(piece) == len(content)), piece]
    return fragments


def _write(line: wire.Line, vectors: list[bytes | memoryview]) -> None:
    while vectors:
        written = line.socket.sendmsg(vectors[:_VECTORS_MAX])
        done = 0
        while done < len(vectors) and written >= len(vectors[done]):
            written -= len(vectors[done])
            done += 1
        vectors = vectors[done:]
        if vectors and written:
            vectors[0] = memoryview(vectors[0])[written:]


def _perform(told: Told) -> Told:
    return asdict(send(Load.told(told)))


if __name__ == "__main__":
    work(_perform)
