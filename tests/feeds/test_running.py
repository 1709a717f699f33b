"""Feeds as an operator has them: a gateway process, its doors, its store, its dead letters and its log."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.feeds import test_fhir
from tests.feeds.messages import line, message, result
from tests.forked import Forks
from tests.gateway.certificates import Files
from tests.gateway.node import Node, Serving

PATIENT = "PID|1||9990000018^^^NHS^NH~0001234^^^RZ1^PI||TESTER^ANNE||19800229|F"
ORU = message(result(), line("Heart size normal."), patient=PATIENT)


class Feeding:
    """A gateway with a feed of each kind."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.node = Node(folder, forks.start)
        self.ris = self.node.authority.issue("ris.northmoor.example")
        self.fhir = self.node.authority.issue("fhir.northmoor.example")
        self.write()

    def write(self, *profile: str) -> None:
        own, authority = self.node.own, self.node.authority
        self.node.write(
            "[listen.hl7]\nport = 0",
            f'certificate = "{own.certificate}"\nprivate_key = "{own.private_key}"',
            f'client_ca = "{authority.certificate}"',
            '[[report_feed]]\nname = "rz1-fhir"\ntrust = "RZ1"\nkind = "fhir"',
            f'certificate_sha256 = "{self.fhir.fingerprint}"',
            f'[[report_feed]]\nname = "rz1-ris"\ntrust = "RZ1"\ncertificate_sha256 = "{self.ris.fingerprint}"',
            *profile,
        )

    @asynccontextmanager
    async def connected(
        self, serving: Serving, files: Files
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        ready = await serving.logged("ready")
        host, port = str(ready["hl7"]).rsplit(":", 1)
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=serving.client(files), server_hostname="localhost"
        )
        try:
            yield reader, writer
        finally:
            writer.close()

    async def listed(self, *arguments: str) -> list[dict[str, object]]:
        ended = await self.node.run(*arguments, "--json")
        assert ended.status == 0, ended.errors
        found = json.loads(ended.output)
        assert isinstance(found, list)
        return found


@pytest.fixture
def feeding(tmp_path: Path, forks: Forks) -> Feeding:
    return Feeding(tmp_path, forks)


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> str:
    writer.write(b"\x0b" + raw + b"\x1c\r")
    answer = await reader.readuntil(b"\x1c\r")
    return answer.decode().split("\r")[1]


async def test_reports_come_in_by_both_doors_and_are_there_once(feeding: Feeding) -> None:
    async with feeding.node.serving() as serving:
        async with feeding.connected(serving, feeding.ris) as (reader, writer):
            assert await said(reader, writer, ORU) == "MSA|AA|M1"
            assert await said(reader, writer, ORU) == "MSA|AA|M1"
            assert (await said(reader, writer, ORU.replace(b"ORU^R01^ORU_R01", b"ADT^A01"))).startswith("MSA|AR|M1")
        connector = aiohttp.TCPConnector(ssl=serving.client(feeding.fhir))
        url = serving.machines.removesuffix("/dicom-web") + "/fhir/in"
        headers = {"Content-Type": "application/fhir+json"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            for status in (201, 200):
                async with session.post(url, data=json.dumps(test_fhir.report())) as answer:
                    assert answer.status == status, await answer.text()
        log = str(serving.log)
    assert "TESTER" not in log and "9990000018" not in log
    reports = await feeding.listed("release", "list")
    assert len(reports) == 1, "both doors told of one report: RZ1's A1"
    (letter,) = await feeding.listed("reports", "dead-letters")
    assert letter["feed"] == "rz1-ris"
    heard = {each["feed"]: each["silent"] for each in await feeding.listed("feeds", "list")}
    assert heard == {"rz1-fhir": False, "rz1-ris": False}


async def test_a_stranger_is_no_feed_at_either_door(feeding: Feeding) -> None:
    async with feeding.node.serving() as serving:
        async with feeding.connected(serving, feeding.fhir) as (reader, writer):
            writer.write(b"\x0b" + ORU + b"\x1c\r")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readuntil(b"\x1c\r")
        connector = aiohttp.TCPConnector(ssl=serving.client(feeding.ris))
        url = serving.machines.removesuffix("/dicom-web") + "/fhir/in"
        headers = {"Content-Type": "application/fhir+json"}
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
            session.post(url, data=json.dumps(test_fhir.report())) as answer,
        ):
            assert answer.status == 403
        await serving.logged("feed not known")
    assert await feeding.listed("release", "list") == []


async def test_a_mended_profile_holds_from_the_reload_on(feeding: Feeding) -> None:
    training = ORU.replace(b"|P|2.5", b"|T|2.5")
    async with feeding.node.serving() as serving:
        async with feeding.connected(serving, feeding.ris) as (reader, writer):
            assert (await said(reader, writer, training)).startswith("MSA|AR|M1")
            feeding.write('[report_feed.profile]\nprocessing_ids = ["P", "T"]')
            serving.signal(signal.SIGHUP)
            assert await reader.read() == b"", "senders of changed feeds connect anew"
        await serving.logged("reloaded")
        async with feeding.connected(serving, feeding.ris) as (reader, writer):
            assert await said(reader, writer, training.replace(b"|M1|", b"|M2|")) == "MSA|AA|M2"


async def test_what_a_sender_says_it_sent_is_compared(feeding: Feeding) -> None:
    counts = feeding.node.folder / "counts.csv"
    counts.write_text("day,count\n2026-06-01,5\n", encoding="utf-8")
    for arguments in (("--day", "2026-06-02", "--sent", "3"), ("--file", str(counts))):
        ended = await feeding.node.run("feeds", "count", "rz1-ris", "--by", "Rita Reader", *arguments)
        assert ended.status == 0, ended.errors
    for wrong in (["--day", "2999-01-01"], ["--file", "nowhere.csv"], [], ["--day", "soon"]):
        assert (await feeding.node.run("feeds", "count", "rz1-ris", "--by", "Rita", *wrong)).status != 0
    assert (await feeding.node.run("feeds", "count", "other", "--by", "Rita", "--day", "2026-06-01")).status != 0
