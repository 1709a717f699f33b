"""pynetdicom as receiver and as sender: `serve` takes C-STORE and drops it, without argument it is a worker that sends.

At its best: the data set is never decoded where it receives, Nagle's algorithm is off where it sends, and its own log
handlers, which format every message, are off.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pydicom import FileDataset, dcmread
from pynetdicom import AE, _config, evt

from bench.rig.dimse import wire
from bench.rig.dimse.sending import Load, Sent
from bench.rig.workers import Told, work
from gateway.demo.ports import free_port

READY = "pynetdicom ready"
ATTEMPTS_MAX = 5
RESPONSE_TIMEOUT_S = 5.0
_config.LOG_HANDLER_LEVEL = "none"


def serve(pdu_bytes_max: int) -> None:
    """Take and drop instances until the process is ended."""
    entity = AE(wire.CALLED)
    entity.maximum_pdu_size = pdu_bytes_max
    entity.maximum_associations = 1_000
    for syntax in (wire.CT_IMAGE_STORAGE, wire.VERIFICATION):
        entity.add_supported_context(syntax, [wire.EXPLICIT_LE, wire.IMPLICIT_LE])
    port = free_port()
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: wire.SUCCESS)])
    print(f"{READY} port={port}", flush=True)
    threading.Event().wait()


def send(load: Load) -> Sent:
    """Send a load as pynetdicom does, from data sets read beforehand.

    Now and then its reactor thread takes a response before the sender does and drops it as unexpected (3.0.4): such a
    turn is done again.
    """
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return _sent(load)
        except RuntimeError:
            continue
    return _sent(load)


def _sent(load: Load) -> Sent:
    parts = load.instances()
    datasets = [
        [dcmread(path) for path in sorted(Path(folder).rglob("*.dcm"))[: len(part)]]
        for folder, part in zip(load.folders, parts, strict=True)
    ]
    with ThreadPoolExecutor(len(parts)) as pool:
        began = time.perf_counter()
        list(pool.map(partial(_send, load.door.port), datasets))
        return Sent(sum(map(len, parts)), time.perf_counter() - began)


def _send(port: int, datasets: Sequence[FileDataset]) -> None:
    entity = AE(wire.CALLING)
    entity.maximum_pdu_size = 131_072
    entity.dimse_timeout = RESPONSE_TIMEOUT_S
    entity.add_requested_context(wire.CT_IMAGE_STORAGE, wire.EXPLICIT_LE)
    association = entity.associate("127.0.0.1", port, evt_handlers=[(evt.EVT_CONN_OPEN, _without_nagle)])
    if not association.is_established:
        raise RuntimeError("pynetdicom got no association")
    for dataset in datasets:
        status = association.send_c_store(dataset)
        if "Status" not in status or status.Status != wire.SUCCESS:
            association.abort()
            raise RuntimeError("pynetdicom's C-STORE failed")
    association.release()


def _without_nagle(event: evt.Event) -> None:
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _perform(told: Told) -> Told:
    return asdict(send(Load.told(told)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        work(_perform)
