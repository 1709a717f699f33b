"""A portal as a process of its own, over TLS with client certificates: takes ORU and FHIR, and fails as it is told.

`python -m tests.channels.stub_portal PORT BEHAVIOUR CERTIFICATE KEY CA RECORD`. Every document that it took is a
line of RECORD, on disk before it answers, as a portal would have it.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

from gateway.model.reporting.hl7 import END, START, ack_of, frame, unframe

PATIENT = {"resourceType": "Patient", "meta": {"tag": [{"code": "P9"}]}, "birthDate": "1980-02-29"}
FOUND = {"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}
DONE = {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": {"status": "201"}}]}


class Stub:
    """Answers one connection after the other."""

    def __init__(self, behaviour: str, record: Path) -> None:
        self._behaviour = behaviour
        self._record = record

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            first = await reader.readexactly(1)
            if first == START:
                await self._hl7(first + await reader.readuntil(END), writer)
            else:
                await self._http(first, reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()

    async def _hl7(self, block: bytes, writer: asyncio.StreamWriter) -> None:
        message = unframe(block)
        await self._taken("oru")
        code = "AE" if self._behaviour == "refuses" else "AA"
        answered = message.replace(b"|id", b"|other") if self._behaviour == "answers another" else message
        answer = frame(ack_of(answered, code, control_id="1", at="20260629"))
        await self._answer(writer, answer)

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode().lower()
            first = b""
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            await reader.readexactly(length)
            if "/_search" in head:
                writer.write(_response(200, FOUND))
                await writer.drain()
                continue
            await self._taken("bundle")
            status = {"refuses": 422, "errs": 500}.get(self._behaviour, 200)
            await self._answer(writer, _response(status, DONE if status == 200 else {}))
            return

    async def _taken(self, what: str) -> None:
        with self._record.open("a") as record:
            record.write(f"{what}\n")
            record.flush()
            os.fsync(record.fileno())
        if self._behaviour == "dies":
            os._exit(9)
        if self._behaviour == "hangs":
            await asyncio.Event().wait()

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        if self._behaviour == "closes":
            return
        if self._behaviour == "answers by half":
            answer = answer[: len(answer) // 2]
        for at in range(0, len(answer), 7):
            writer.write(answer[at : at + 7])
            await writer.drain()
        if self._behaviour == "answers twice":
            writer.write(answer)
            await writer.drain()


def _response(status: int, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def _main(port: str, behaviour: str, certificate: str, key: str, authority: str, record: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    stub = Stub(behaviour, Path(record))
    async with await asyncio.start_server(stub.serve, "127.0.0.1", int(port), ssl=context, limit=2**22) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
