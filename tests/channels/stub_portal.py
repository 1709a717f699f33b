"""A portal as a process of its own, over TLS with client certificates: takes ORU and FHIR, and fails as it is told.

`python -m tests.channels.stub_portal PORT BEHAVIOUR CERTIFICATE KEY CA RECORD [CLIENT]`. Whatever it took is a line of
RECORD, what it is and its bytes in base64, on disk before it answers, as a portal would have it. With CLIENT, the
public key of a client, it gives a token for that client's assertion, and takes FHIR with this token alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gateway.model.reporting.hl7 import END, START, ack_of, frame, unframe

PATIENT = {"resourceType": "Patient", "meta": {"tag": [{"code": "P9"}]}}
FOUND = {"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}
TOKEN = "of-the-client"
GIVEN = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300}
DONE = {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": {"status": "201"}}]}


class Stub:
    """Answers one connection after the other."""

    def __init__(self, behaviour: str, record: Path, client: Path | None) -> None:
        self._behaviour = behaviour
        self._record = record
        self._client = RSAKey.import_key(client.read_bytes()) if client is not None else None

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
        await self._taken("oru", message)
        code = "AE" if self._behaviour == "refuses" else "AA"
        answered = message.replace(b"|id", b"|other") if self._behaviour == "answers another" else message
        answer = frame(ack_of(answered, code, control_id="1", at="20260629"))
        await self._answer(writer, answer)

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
            first = b""
            length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
            body = await reader.readexactly(length)
            path = head.split(" ")[1]
            if path.endswith("/token"):
                writer.write(_response(200, GIVEN) if self._is_client(body) else _response(400, {}))
            elif self._client is not None and f"Authorization: Bearer {TOKEN}\r\n" not in head:
                writer.write(_response(401, {}))
            elif path.endswith("/_search"):
                writer.write(_response(200, FOUND))
            else:
                await self._taken("communication" if path.endswith("/Communication") else "bundle", body)
                status = {"refuses": 422, "errs": 500}.get(self._behaviour, 200)
                await self._answer(writer, _response(status, DONE if status == 200 else {}))
                return
            await writer.drain()

    def _is_client(self, body: bytes) -> bool:
        """Whether a question for a token is that of RFC 7523, by the client whose key we know."""
        if self._client is None:
            return False
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        try:
            jwt.decode(form.get("client_assertion", ""), self._client, algorithms=["RS512"])
        except (JoseError, ValueError):
            return False
        return form.get("grant_type") == "client_credentials"

    async def _taken(self, what: str, content: bytes) -> None:
        with self._record.open("a") as record:
            record.write(f"{what} {base64.b64encode(content).decode()}\n")
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


def taken(record: Path) -> list[tuple[str, bytes]]:
    """What a portal took, in its order."""
    lines = record.read_text().splitlines() if record.exists() else []
    return [(what, base64.b64decode(content)) for what, _, content in (line.partition(" ") for line in lines)]


async def _main(port: str, behaviour: str, certificate: str, key: str, authority: str, *files: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    record, client = (Path(files[0]), Path(files[1]) if len(files) > 1 else None)
    stub = Stub(behaviour, record, client)
    async with await asyncio.start_server(stub.serve, "127.0.0.1", int(port), ssl=context, limit=2**22) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
