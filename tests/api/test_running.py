"""The API of a gateway process, over mutual TLS: a certificate says whose reports are seen, and who decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from tests.feeds.messages import line, message, result
from tests.forked import Forks
from tests.gateway.certificates import Files
from tests.gateway.node import Node, Serving

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
WEEK = (datetime.now(UTC) + timedelta(days=7)).date().isoformat()
ORU = message(
    result(at=f"{YESTERDAY:%Y%m%d%H%M%S}+0000"),
    line("Heart size normal."),
    patient="PID|1||9990000018^^^NHS^NH||TESTER^ANNE||19800229|F",
)


class Deciding:
    """A gateway with one feed, and staff of two trusts."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.node = Node(folder, forks.start)
        self.ris = self.node.authority.issue("ris.northmoor.example")
        self.staff: dict[str, Files] = {}
        more: list[str] = []
        for name, trust, kind in (
            ("dr-a", "RZ1", "clinician"),
            ("lead", "RZ1", "officer"),
            ("dr-b", "RZ2", "clinician"),
        ):
            files = self.staff[name] = self.node.authority.issue(f"{name}.example")
            more.append(f'[[caller]]\nname = "{name}"\ntrust = "{trust}"\nkind = "{kind}"')
            more.append(f'certificate_sha256 = "{files.fingerprint}"')
        own, authority = self.node.own, self.node.authority
        self.node.write(
            "[listen.hl7]\nport = 0",
            f'certificate = "{own.certificate}"\nprivate_key = "{own.private_key}"',
            f'client_ca = "{authority.certificate}"',
            f'[[report_feed]]\nname = "ris"\ntrust = "RZ1"\ncertificate_sha256 = "{self.ris.fingerprint}"',
            *more,
        )

    async def send(self, serving: Serving) -> None:
        """The RIS sends its report and hears that it is kept."""
        ready = await serving.logged("ready")
        host, port = str(ready["hl7"]).rsplit(":", 1)
        secure = serving.client(self.ris)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=secure, server_hostname="localhost")
        writer.write(b"\x0b" + ORU + b"\x1c\r")
        assert b"MSA|AA" in await reader.readuntil(b"\x1c\r")
        writer.close()

    @asynccontextmanager
    async def caller(self, serving: Serving, name: str) -> AsyncIterator[aiohttp.ClientSession]:
        """A member of staff at the API."""
        connector = aiohttp.TCPConnector(ssl=serving.client(self.staff[name]))
        base = serving.machines.removesuffix("/dicom-web")
        async with aiohttp.ClientSession(base, connector=connector) as session:
            yield session


async def test_a_hold_by_api_keeps_the_report_and_is_seen_by_command(tmp_path: Path, forks: Forks) -> None:
    deciding = Deciding(tmp_path, forks)
    async with deciding.node.serving() as serving:
        await deciding.send(serving)
        async with deciding.caller(serving, "dr-a") as dr_a, deciding.caller(serving, "dr-b") as dr_b:
            async with dr_a.get("/api/release/reports") as answer:
                [listed] = (await answer.json())["reports"]
            assert listed["state"] == "not-for-release", "no trust is live yet"
            place = f"/api/release/reports/{listed['report_id']}"
            hold = {"kind": "legal", "reason": "court order", "review_on": WEEK}
            async with dr_b.get(place) as answer:
                assert answer.status == 404
            async with dr_b.post(f"{place}/holds", json=hold) as answer:
                assert answer.status == 404
            async with dr_a.post(f"{place}/holds", json=hold) as answer:
                assert (answer.status, (await answer.json())["state"]) == (200, "held")
            async with dr_a.post(
                f"{place}/acknowledgement", json={"version_id": listed["version_id"], "name": "Dr A"}
            ) as answer:
                assert (answer.status, (await answer.json())["changed"]) == (200, True)
        async with deciding.caller(serving, "lead") as lead:
            async with lead.get("/api/release/board") as answer:
                assert (await answer.json())["held"] == 1
            async with lead.get("/api/openapi.json") as answer:
                assert (await answer.json())["openapi"] == "3.1.0"
        log = str(serving.log)
    assert "TESTER" not in log and "9990000018" not in log and listed["report_id"] not in log
    told = json.loads((await deciding.node.run("release", "explain", listed["report_id"], "--json")).output)
    assert (told["report"]["state"], told["is_acknowledged"]) == ("held", True)
    audit = (await deciding.node.run("audit", "export", "--node", "node-1")).output.splitlines()
    refused = [said["body"] for entry in audit if (said := json.loads(entry)["said"])["event"] == "report-refused"]
    assert [(body["act"], body["by"]) for body in refused] == [("explained", "dr-b"), ("hold", "dr-b")]
    [kept] = told["holds"]
    assert (kept["by"], kept["role"]) == ("dr-a", "clinician")
