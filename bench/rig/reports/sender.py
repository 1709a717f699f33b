"""A RIS under load: sends ORU messages over one or several MLLP connections, each after the last one's answer.

A worker (`bench.rig.workers`): a thread for each connection, with messages made before the clock starts. Whoever is not
answered AA fails the whole turn.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence

from bench.rig.reports.messages import oru
from bench.rig.workers import Told, Worker, work

TIMEOUT_S = 60.0
_START, _END = b"\x0b", b"\x1c\r"


def sent(worker: Worker, port: int, connections: int, first: int, count: int, patients: tuple[int, int]) -> float:
    """Seconds for `count` messages from number `first` on; `patients` are the first one's number and how many."""
    told = worker.ask(
        {"port": port, "connections": connections, "first": first, "count": count, "patients": [*patients]}
    )
    seconds = told["seconds"]
    assert isinstance(seconds, float)
    return seconds


def _perform(told: Told) -> Told:
    match told:
        case {
            "port": int(port),
            "connections": int(connections),
            "first": int(first),
            "count": int(count),
            "patients": [int(patient), int(patients)],
        }:
            pass
        case _:
            raise RuntimeError("a load names port, connections, first, count and patients")
    messages = [oru(first + at, patient + at % patients) for at in range(count)]
    lines = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(connections)]
    failures: list[str] = []
    threads = [
        threading.Thread(target=_send, args=(line, messages[at::connections], failures))
        for at, line in enumerate(lines)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    if failures:
        raise RuntimeError(failures[0])
    return {"seconds": seconds}


def _send(line: socket.socket, messages: Sequence[bytes], failures: list[str]) -> None:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for message in messages:
            line.sendall(_START + message + _END)
            answer = b""
            while not answer.endswith(_END):
                piece = line.recv(65_536)
                if not piece:
                    raise OSError("the connection was closed")
                answer += piece
            if b"\rMSA|AA|" not in answer:
                raise OSError("a message was not accepted")
    except OSError as error:
        failures.append(str(error))


if __name__ == "__main__":
    work(_perform)
