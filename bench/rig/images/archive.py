"""An archive that gives images out of memory by DICOMweb: what the gateway fetches from, and is compared with.

`python -m bench.rig.images.archive FOLDER` reads the `Plan` there and listens on a plain and on a TLS port. It lists
the instances of its studies by QIDO-RS and gives studies, series and instances by WADO-RS: a thread a connection, heads
made on the spot and one buffer of pixels for all, so that it costs little and a study may be of any size.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qs

from bench.rig import processes
from bench.rig.images.studies import Study, with_uid

READY = "image archive ready"
ROWS_MAX = 10_000
_BOUNDARY = b"next-image"
_PART = b"\r\n--" + _BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n"
_END = b"\r\n--" + _BOUNDARY + b"--\r\n"
_HEAD_BYTES_MAX = 65_536
_PIECE_BYTES = 1_048_576
_PATH = re.compile(r"/studies/([0-9.]+)(?:/series/[0-9.]+)?(?:/instances/([0-9.]+))?(/instances)?$")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an archive process is told: its certificates, and which studies it has."""

    certificate: str
    private_key: str
    client_ca: str
    studies: tuple[Study, ...]

    def write(self, folder: Path) -> None:
        """Leave the plan where the process looks for it."""
        (folder / "images.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan as it was left."""
        told = json.loads((folder / "images.json").read_text(encoding="utf-8"))
        held = tuple(Study(**each) for each in told.pop("studies"))
        return cls(**told, studies=held)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a running archive is asked."""

    plain: int
    tls: int


@contextmanager
def running(folder: Path, files: tuple[str, str], ca: Path, held: Sequence[Study]) -> Iterator[Ports]:
    """An archive with these studies for as long as the block lasts."""
    Plan(*files, str(ca), tuple(held)).write(folder)
    command = processes.python("-m", "bench.rig.images.archive", folder)
    with processes.running(command, folder / "images.log", READY) as child:
        yield Ports(child.told(r"plain=(\d+)"), child.told(r"tls=(\d+)"))


class _Caller:
    """One connection, kept open: a request and its answer, again and again."""

    def __init__(self, connection: socket.socket, held: Sequence[Study]) -> None:
        self._connection = connection
        self._held = held

    def serve(self) -> None:
        """Answer until the caller goes away."""
        pending = b""
        while True:
            while b"\r\n\r\n" not in pending:
                received = self._connection.recv(_HEAD_BYTES_MAX)
                if not received:
                    return
                pending += received
            head, _, pending = pending.partition(b"\r\n\r\n")
            self._answer(head.partition(b"\r\n")[0].split(b" ")[1].decode("ascii"))
            if b"\r\nconnection: close" in head.lower():
                return

    def _answer(self, target: str) -> None:
        path, _, asked = target.partition("?")
        found = _PATH.search(path)
        study = with_uid(self._held, found.group(1)) if found is not None else None
        if asked or found is None:
            self._rows(study if found is not None and found.group(3) else None, parse_qs(asked))
        elif study is None:
            self._connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif found.group(2):
            self._images(study, [int(found.group(2).rpartition(".")[2]) - int(study.sop_uid(0).rpartition(".")[2])])
        else:
            self._images(study, range(study.count))

    def _rows(self, study: Study | None, asked: dict[str, list[str]]) -> None:
        first, count = int(asked.get("offset", ["0"])[0]), int(asked.get("limit", [str(ROWS_MAX)])[0])
        body = (study.rows(first, count) if study is not None else "[]").encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._connection.sendall(head.encode() + body)

    def _images(self, study: Study, indexes: Sequence[int]) -> None:
        length = len(indexes) * (len(_PART) + study.file_bytes) + len(_END)
        content_type = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY.decode()}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        waiting, frame = head.encode(), memoryview(study.frame)
        for index in indexes:
            waiting += _PART + study.head(index)
            if len(frame) < _PIECE_BYTES // 8:
                # Small images leave several at a time.
                waiting += bytes(frame) * study.frames
                if len(waiting) >= _PIECE_BYTES:
                    self._connection.sendall(waiting)
                    waiting = b""
                continue
            self._connection.sendall(waiting)
            waiting = b""
            for start in [*range(0, len(frame), _PIECE_BYTES)] * study.frames:
                self._connection.sendall(frame[start : start + _PIECE_BYTES])
        self._connection.sendall(waiting + _END)


def _listen(plan: Plan, tls: ssl.SSLContext | None) -> int:
    """Take connections in a thread of its own; the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve(accepted: socket.socket) -> None:
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with tls.wrap_socket(accepted, server_side=True) if tls is not None else accepted as connection:
                _Caller(connection, plan.studies).serve()

    def take() -> None:
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=serve, args=(accepted,), daemon=True).start()

    threading.Thread(target=take, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def _context(plan: Plan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plan.certificate, plan.private_key)
    context.load_verify_locations(plan.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def main(folder: Path) -> None:
    """Answer until the process is ended."""
    plan = Plan.read(folder)
    print(f"{READY} plain={_listen(plan, None)} tls={_listen(plan, _context(plan))}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
