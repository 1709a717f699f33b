"""One light DICOMweb archive that answers QIDO from memory: what the gateway stands in front of, and is compared with.

Run as a process of its own: `python -m bench.rig.archive FOLDER` reads the `Plan` there and listens on a plain and on a
TLS port. Every answer is encoded beforehand, so that next to nothing is spent here. The gateway asks with more keys
than the direct client; the patient decides.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from bench.rig import wire

READY = "archive ready"
EMPTY = wire.answer(b"[]")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an archive process is told: its certificates, and who has which studies."""

    certificate: str
    private_key: str
    client_ca: str
    rows: dict[str, str]
    """The DICOM JSON answer for each PatientID; others get `[]`."""

    def write(self, folder: Path) -> None:
        """Leave the plan where the process looks for it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        (folder / "archive.json").write_text(json.dumps(fields), encoding="utf-8")


class Connection(asyncio.Protocol):
    """One keep-alive connection. Requests have no body and come one by one; `answer` gets the line of each."""

    def __init__(self, answer: Callable[[bytes, asyncio.Transport], None]) -> None:
        self._answer = answer
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            assert self._transport is not None
            self._answer(head.partition(b"\r\n")[0], self._transport)


def patient_of(line: bytes) -> str:
    """The PatientID that a request line asks for, by keyword or by tag."""
    query = parse_qs(line.decode("ascii").split(" ")[1].partition("?")[2])
    values = query.get("PatientID") or query.get("00100020") or [""]
    return values[0]


async def serve(plan: Plan) -> None:
    """Answer until the process is ended."""
    answers = {patient: wire.answer(rows.encode()) for patient, rows in plan.rows.items()}
    seen: dict[bytes, bytes] = {}

    def answer(line: bytes, transport: asyncio.Transport) -> None:
        found = seen.get(line)
        if found is None:
            found = seen[line] = answers.get(patient_of(line), EMPTY)
        transport.write(found)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plan.certificate, plan.private_key)
    context.load_verify_locations(plan.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()
    plain = await loop.create_server(lambda: Connection(answer), "127.0.0.1", 0)
    secure = await loop.create_server(lambda: Connection(answer), "127.0.0.1", 0, ssl=context)
    ports = [server.sockets[0].getsockname()[1] for server in (plain, secure)]
    print(f"{READY} plain={ports[0]} tls={ports[1]}", flush=True)
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(serve(Plan(**json.loads((Path(sys.argv[1]) / "archive.json").read_text(encoding="utf-8")))))
