"""A gateway under test as its operator has it: files in a folder, a `gateway serve` process, `gateway` commands.

Only processes of its own are started and ended. Everything is seen from outside: lines printed, sockets, exit codes.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.forked import Forked, Start
from tests.gateway.certificates import Authority, Files

READY_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0

CLAUSES = '[[clause]]\nmodalities = ["CT", "CR"]\n'


@dataclass(frozen=True)
class Ended:
    """How a command or a gateway ended."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> object:
        return json.loads(self.output)


@dataclass
class Serving:
    """A running `gateway serve`."""

    process: asyncio.subprocess.Process | Forked
    machines: str
    people: str
    authority: Authority
    dimse: str = ""
    log: list[dict[str, object]] = field(default_factory=list)
    _heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def get(self, url: str, caller: Files | None = None) -> tuple[int, str]:
        """GET over TLS as `caller`; status and body."""
        connector = aiohttp.TCPConnector(ssl=self.client(caller))
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as answer:
            return answer.status, await answer.text()

    def client(self, caller: Files | None = None) -> ssl.SSLContext:
        """TLS as this caller's, or as anybody's."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if caller is not None:
            context.load_cert_chain(caller.certificate, caller.private_key)
        return context

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def logged(self, event: str, **fields: object) -> dict[str, object]:
        """Wait for a log event with these fields."""
        async with asyncio.timeout(READY_TIMEOUT_S), self._heard:
            while True:
                for line in self.log:
                    if line.get("event") == event and all(line.get(key) == value for key, value in fields.items()):
                        return line
                await self._heard.wait()

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        async with asyncio.timeout(END_TIMEOUT_S):
            return await self.process.wait()

    async def read_log(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": raw.decode(errors="replace").strip()}
            async with self._heard:
                self.log.append(line)
                self._heard.notify_all()


class Node:
    """The files of one gateway, and what can be done with them."""

    def __init__(self, folder: Path, start: Start = asyncio.create_subprocess_exec) -> None:
        self.folder = folder
        self._start = start
        self.authority = Authority(folder / "certificates")
        self.own = self.authority.issue("gateway.example", "localhost", "127.0.0.1")
        self.pacs = self.authority.issue("pacs.northmoor.example")
        self.path = folder / "gateway.toml"
        self.write()

    @property
    def database(self) -> Path:
        return self.folder / "var" / "data" / "gateway.db"

    def write(self, *more: str, replace: Mapping[str, str] | None = None) -> None:
        """Write the configuration; `replace` changes words of it, `more` follows it."""
        text = f"""
[gateway]
node = "node-1"
mode = "demo"
log_form = "json"
[listen.machines]
port = 0
certificate = "{self.own.certificate}"
private_key = "{self.own.private_key}"
client_ca = "{self.authority.certificate}"
[listen.people]
port = 0
certificate = "{self.own.certificate}"
private_key = "{self.own.private_key}"
[audit]
reserve_bytes = 65536
[limits]
drain_timeout_s = 10.0
[[trust]]
ods = "RZ1"
name = "Northmoor"
enrolled = true
desk_phone = "01632 960001"
[[trust]]
ods = "RZ2"
name = "Eastvale"
enrolled = true
desk_phone = "01632 960002"
[[caller]]
name = "northmoor-pacs"
trust = "RZ1"
certificate_name = "pacs.northmoor.example"
"""
        for word, other in (replace or {}).items():
            assert word in text
            text = text.replace(word, other)
        self.path.write_text("\n".join((text, *more)), encoding="utf-8")

    async def run(self, *arguments: str, typed: str = "", environment: Mapping[str, str] | None = None) -> Ended:
        """Run `gateway <arguments>` on this configuration."""
        process = await self._start(
            *(sys.executable, "-m", "gateway.cli", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "GATEWAY_CONFIG": str(self.path), **(environment or {})},
        )
        output, errors = await process.communicate(typed.encode())
        return Ended(process.returncode or 0, output.decode(), errors.decode())

    @asynccontextmanager
    async def serving(self, environment: Mapping[str, str] | None = None) -> AsyncIterator[Serving]:
        """Run `gateway serve` until the block ends; it is ready at its begin."""
        process = await self._start(
            *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdout is not None and process.stderr is not None
        serving = Serving(process, "", "", self.authority)
        listening = asyncio.create_task(serving.read_log(process.stderr))
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = (await process.stdout.readline()).decode()
            words = dict(word.partition("=")[::2] for word in line.split()[1:])
            assert line.startswith("ready "), f"{line!r} {serving.log}"
            serving.machines, serving.people = words["machines"], words["people"]
            serving.dimse = words.get("dimse", "")
            yield serving
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.wait()
                await listening
