"""A region to attack: the demo's, with narrow limits, a revocation list, certificates of every wrong kind, and one
further trust whose archive is whatever a test makes of it.

Callers speak raw bytes over TLS. What matters is not only what they get but also when the connection ends.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp

from gateway.demo.cast import ANNE, EASTVALE
from gateway.demo.certificates import KeyPair
from gateway.demo.configuration import VIEWER
from gateway.demo.ports import free_port
from gateway.demo.region import Region, Start
from tests.attacks.hostile import Speaks, answer
from tests.dimse.scripted import ScriptedPeer
from tests.gateway.certificates import NOW, Authority, Files

HOSTILE = "RZ9"
"""The trust whose archive a test speaks for."""
ATTACKER = "127.0.0.2"
"""Where attackers connect from; everybody else comes from 127.0.0.1."""
HEAD_TIMEOUT_S = 2.0
CONNECTIONS_PER_ADDRESS_MAX = 24
HANG_GUARD_S = 30.0

LIMITS = {
    "GATEWAY__LIMITS__REQUEST_HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S),
    "GATEWAY__LIMITS__CONNECTIONS_PER_ADDRESS_MAX": str(CONNECTIONS_PER_ADDRESS_MAX),
    "GATEWAY__LIMITS__PEER_PROBE_INTERVAL_S": "2",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as it came over the wire."""

    status_line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.status_line.split(b" ")[1])

    def header(self, name: bytes) -> bytes:
        """All values of a header, one a line."""
        return b"\n".join(value for key, value in self.headers if key.lower() == name.lower())


class AttackedRegion(Region):
    """The demo region with what attacks need."""

    def __init__(self, folder: Path, start: Start) -> None:
        super().__init__(folder, start=start)
        self.hostile_port = free_port()
        self.certificates: dict[str, Files] = {}
        self._hostile: Speaks = nothing_found

    @asynccontextmanager
    async def hostile(self, speak: Speaks) -> AsyncIterator[None]:
        """The archive of `HOSTILE` speaks so meanwhile; else it has nothing."""
        self._hostile = speak
        try:
            yield
        finally:
            self._hostile = nothing_found

    @asynccontextmanager
    async def hostile_archive(self) -> AsyncIterator[None]:
        """Serve the hostile archive while the region runs."""
        speaking: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            speaking.add(task)
            task.add_done_callback(speaking.discard)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._hostile(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", self.hostile_port)
        try:
            yield
        finally:
            server.close()
            for task in list(speaking):
                task.cancel()

    async def start_gateway(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it with narrow limits."""
        await super().start_gateway({**LIMITS, **(environment or {})})

    async def figures(self) -> str:
        """The gateway's figures, as monitoring reads them."""
        connector = aiohttp.TCPConnector(ssl=self.tls(None))
        url = f"{self.people_url}/metrics"
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as found:
            return await found.text()

    async def figure(self, name: str) -> float:
        """One figure; 0 before its first change."""
        text = await self.figures()
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    def tls(self, certificate: str | None = VIEWER, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """What a client with this certificate brings; None: without one."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if certificate is not None:
            files = self.certificates[certificate]
            context.load_cert_chain(files.certificate, files.private_key)
        if version is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        return context

    @asynccontextmanager
    async def dimse_peer(
        self, certificate: str | None = VIEWER, address: str = "127.0.0.1", version: ssl.TLSVersion | None = None
    ) -> AsyncIterator[ScriptedPeer]:
        """A TLS connection to the DIMSE door; what is said on it is the test's."""
        async with asyncio.timeout(HANG_GUARD_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                self.dimse_port,
                ssl=self.tls(certificate, version),
                server_hostname="localhost",
                local_addr=(address, 0),
            )
        try:
            yield ScriptedPeer(reader, writer)
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def connection(
        self, certificate: str | None = VIEWER, address: str = "127.0.0.1", version: ssl.TLSVersion | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A TLS connection to the machines' door."""
        async with asyncio.timeout(HANG_GUARD_S):
            reader, writer = await asyncio.open_connection(
                "localhost",
                self.machines_port,
                ssl=self.tls(certificate, version),
                server_hostname="localhost",
                local_addr=(address, 0),
                family=2,
            )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def replies(self, request: bytes, certificate: str | None = VIEWER) -> list[Reply]:
        """Everything that comes back until the gateway closes the connection."""
        async with self.connection(certificate) as (reader, writer), asyncio.timeout(HANG_GUARD_S):
            received = b""
            with suppress(ConnectionError):
                writer.write(request)
                while chunk := await reader.read(65536):
                    received += chunk
        return split(received)

    async def get(
        self, target: str, *headers: bytes, certificate: str | None = VIEWER, method: bytes = b"GET"
    ) -> Reply:
        """The answer to one request on a connection of its own."""
        lines = [method + b" " + target.encode() + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
        found = await self.replies(b"\r\n".join(lines) + b"\r\n\r\n", certificate)
        assert len(found) == 1, found
        return found[0]

    async def until_all_answer(self) -> None:
        """Wait until no trust is left alone for what an earlier test made of it."""
        question = f"/dicom-web/studies?PatientID={ANNE.nhs_number}"
        async with asyncio.timeout(HANG_GUARD_S):
            while (await self.get(question)).header(b"gateway-sources").count(b"state=answered") < 3:
                pass  # each answer takes its own time

    def _write_certificates(self) -> None:
        folder = self.folder / "certificates"
        authority, other = Authority(folder, "authority"), Authority(folder / "other", "other")
        day = timedelta(days=1)
        super_names = ("gateway", VIEWER, "southbridge-pacs", "dr-hollis", "elm-surgery-viewer", "stranger", "revoked")
        archives = tuple(f"{code.lower()}-archive" for code in ("RZ1", "RZ2", "RZ3"))
        for name in (*super_names, *archives):
            self.certificates[name] = authority.issue(name, name, "localhost", "127.0.0.1")
        for name, issuer, begins, ends in (
            ("of another authority", other, NOW - day, NOW + day),
            ("expired", authority, NOW - 2 * day, NOW - day),
            ("not yet valid", authority, NOW + day, NOW + 2 * day),
        ):
            # All of them show the name of a caller that is known.
            self.certificates[name] = issuer.issue(name.replace(" ", "-"), VIEWER, not_before=begins, not_after=ends)
        authority.revoke(self.certificates["revoked"])
        self.authority = authority.certificate
        self._pairs = {name: KeyPair(files.certificate, files.private_key) for name, files in self.certificates.items()}

    def _write_configuration(self) -> None:
        super()._write_configuration()
        text = self.configuration.read_text(encoding="utf-8")
        listed = f'client_ca = "{self.authority}"'
        text = text.replace(listed, f'{listed}\ncrl = "{self.folder}/certificates/crl.pem"')
        text += "\n".join(
            (
                *(
                    "[[trust]]",
                    f'ods = "{HOSTILE}"',
                    'name = "Faraway"',
                    "enrolled = true",
                    'desk_phone = "0300 555 0199"',
                ),
                *('patient_id_issuer = "NHS"', "[[peer]]", f'trust = "{HOSTILE}"'),
                f'url = "http://127.0.0.1:{self.hostile_port}/dicom-web"',
                "plain_http_on_loopback = true",
                *("[[caller]]", 'name = "revoked"', f'trust = "{EASTVALE.ods_code}"', 'certificate_name = "revoked"'),
                "",
            )
        )
        self.configuration.write_text(text, encoding="utf-8")

    async def _fill_registers(self) -> None:
        await super()._fill_registers()
        path = self.folder / "registers" / "agreement-hostile.toml"
        path.write_text(f'custodian = "{HOSTILE}"\n[[clause]]\n', encoding="utf-8")
        await self.must("agreement", "import", str(path), "--by", "test")


async def nothing_found(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An honest archive without anything; it keeps no connection, so that the next question meets what a test says."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(answer(b"[]", b"Connection: close"))
    await writer.drain()


def split(received: bytes) -> list[Reply]:
    """The answers in what came over one connection; one without a length ends with it."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in lines))
        length = re.search(rb"(?i)^content-length: *([0-9]+)", head, re.MULTILINE)
        size = int(length[1]) if length else len(rest)
        found.append(Reply(status_line, headers, rest[:size]))
        received = rest[size:]
    return found
