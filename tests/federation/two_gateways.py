"""Two real gateways, each the other's peer: West fronts Northmoor, East fronts Eastvale and Southbridge.

Southbridge's archive is never there. Two trusts are configured in circles, each gateway taking the other for the one
that fronts them: Roundel by QIDO-RS, and Whirlow by C-FIND.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gateway.demo import cast
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import ANNE, BEN, FAITH, Patient
from gateway.demo.certificates import KeyPair
from gateway.demo.images import make_trust
from gateway.demo.ports import free_port
from tests.forked import Start
from tests.gateway.certificates import Authority, Files
from tests.gateway.node import Node, Serving
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs

NORTHMOOR, EASTVALE, SOUTHBRIDGE, ROUNDEL, WHIRLOW = "RZ1", "RZ2", "RZ3", "RZ4", "RZ5"
NAMES = {
    NORTHMOOR: "Northmoor",
    EASTVALE: "Eastvale",
    SOUTHBRIDGE: "Southbridge",
    ROUNDEL: "Roundel",
    WHIRLOW: "Whirlow",
}
IN_CARE: tuple[Patient, ...] = (ANNE, BEN, FAITH)
"""Whom both registers know to be in the care of Northmoor and Eastvale."""


@dataclass(frozen=True)
class Doors:
    """Where one gateway listens, and what it shows."""

    name: str
    web: int
    dimse: int
    own: Files
    by_dimse: Files
    """What it shows the other's DIMSE door: another certificate, so that it comes there as an ordinary caller."""


@dataclass(frozen=True)
class TwoGateways:
    """Both of them running, with the archive of each."""

    nodes: Mapping[str, Node]
    serving: Mapping[str, Serving]
    archives: Mapping[str, SimulatedPacs]
    doors: Mapping[str, Doors]
    callers: Mapping[str, Files]
    authority: Authority

    def viewer(self, gateway: str) -> Viewer:
        """The viewer of the trust whose gateway this is."""
        return Viewer(f"https://localhost:{self.doors[gateway].web}", self.authority.certificate, self._pair(gateway))

    def workstation(self, gateway: str) -> Workstation:
        """The workstation of that trust."""
        port = self.doors[gateway].dimse
        return Workstation(port, gateway.upper(), "STATION", self.authority.certificate, self._pair(gateway))

    async def ask(self, gateway: str, shown: Files, path: str, **headers: str) -> tuple[int, str]:
        """GET below /dicom-web with these headers (an underscore stands for a hyphen), showing this certificate."""
        context = self.serving[gateway].client(shown)
        url = f"https://localhost:{self.doors[gateway].web}/dicom-web{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url, headers=named) as answer:
            return answer.status, await answer.text()

    def _pair(self, gateway: str) -> KeyPair:
        files = self.callers[gateway]
        return KeyPair(files.certificate, files.private_key)


@asynccontextmanager
async def running(folder: Path, start: Start) -> AsyncIterator[TwoGateways]:
    """Both gateways and both archives, with their registers filled; ready when the block begins."""
    authority = Authority(folder / "certificates")
    doors = {
        name: Doors(
            name,
            free_port(),
            free_port(),
            authority.issue(f"{name}.example", f"{name}.example", "localhost"),
            authority.issue(f"{name}-dimse.example"),
        )
        for name in ("west", "east")
    }
    callers = {"west": authority.issue("north.example"), "east": authority.issue("vale.example")}
    async with AsyncExitStack() as stack:
        archives = {}
        for gateway, trust in (("west", cast.NORTHMOOR), ("east", cast.EASTVALE)):
            data = folder / "archives" / gateway
            await asyncio.to_thread(make_trust, trust, data)
            archives[gateway] = stack.enter_context(running_pacs(data, trust=trust.ods_code))
        nodes = {}
        for gateway, other in (("west", "east"), ("east", "west")):
            node = nodes[gateway] = Node(folder / gateway, start)
            node.authority = authority
            text = _configuration(doors[gateway], doors[other], archives[gateway].port("web"), authority)
            node.path.write_text(text, encoding="utf-8")
        await asyncio.gather(*(_fill(node) for node in nodes.values()))
        serving = {name: await stack.enter_async_context(node.serving()) for name, node in nodes.items()}
        yield TwoGateways(nodes, serving, archives, doors, callers, authority)


def _configuration(own: Doors, other: Doors, archive_port: int, authority: Authority) -> str:
    """One gateway's file: it fronts its own trusts, and asks the other one for all others."""
    is_west = own.name == "west"
    mine, theirs = (NORTHMOOR, EASTVALE) if is_west else (EASTVALE, NORTHMOOR)
    viewer = "north.example" if is_west else "vale.example"
    shown = f'certificate = "{own.own.certificate}"\nprivate_key = "{own.own.private_key}"\n'
    believed = f'client_ca = "{authority.certificate}"\n'
    parts = [
        f'[gateway]\nnode = "{own.name}-1"\nmode = "demo"\nlog_form = "json"\n',
        f"[listen.machines]\nport = {own.web}\n{shown}{believed}",
        f"[listen.people]\nport = 0\n{shown}",
        f'[listen.dimse]\nport = {own.dimse}\nae_title = "{own.name.upper()}"\n{shown}{believed}',
        "[audit]\nreserve_bytes = 65536\n",
        # The one that is asked gives up first, so that the one that asks hears what it has.
        f"[limits]\nfind_timeout_s = {8 if is_west else 6}\n",
        *(_trust(code) for code in NAMES),
        _caller("viewer", mine, viewer, 'ae_titles = ["STATION"]\nmissing_sources = "row"'),
        _caller("gateway", theirs, f"{other.name}.example", f'kind = "gateway"\nasks_for = ["{theirs}"]'),
        _caller("dimse", theirs, f"{other.name}-dimse.example", 'ae_titles = ["OTHER"]\nmissing_sources = "failure"'),
        _archive(mine, archive_port),
        *(_gateway_peer(code, own, other, authority) for code in (theirs, ROUNDEL)),
        _dimse_peer(WHIRLOW, own, other, authority),
    ]
    southbridge = _gateway_peer(SOUTHBRIDGE, own, other, authority) if is_west else _archive(SOUTHBRIDGE, free_port())
    return "".join((*parts, southbridge))


def _trust(code: str) -> str:
    phone = f"01632 96000{code[-1]}"
    return f'[[trust]]\nods = "{code}"\nname = "{NAMES[code]}"\nenrolled = true\ndesk_phone = "{phone}"\n'


def _caller(name: str, trust: str, certificate_name: str, more: str) -> str:
    return f'[[caller]]\nname = "{name}"\ntrust = "{trust}"\ncertificate_name = "{certificate_name}"\n{more}\n'


def _archive(code: str, port: int) -> str:
    url = f"http://127.0.0.1:{port}/dicom-web"
    return f'[[peer]]\ntrust = "{code}"\nurl = "{url}"\nplain_http_on_loopback = true\n'


def _gateway_peer(code: str, own: Doors, other: Doors, authority: Authority) -> str:
    url = f"https://localhost:{other.web}/dicom-web/trust/{code}"
    return f'[[peer]]\ntrust = "{code}"\nurl = "{url}"\ngateway = true\n{_shown(own.own, authority)}'


def _dimse_peer(code: str, own: Doors, other: Doors, authority: Authority) -> str:
    where = f'connector = "dimse"\naddress = "localhost:{other.dimse}"\nae_title = "{other.name.upper()}"\n'
    return f'[[peer]]\ntrust = "{code}"\n{where}calling_ae_title = "OTHER"\n{_shown(own.by_dimse, authority)}'


def _shown(files: Files, authority: Authority) -> str:
    keys = f'client_certificate = "{files.certificate}"\nclient_private_key = "{files.private_key}"\n'
    return f'{keys}ca = "{authority.certificate}"\n'


async def _fill(node: Node) -> None:
    """Everybody shares everything; but East knows that Eastvale leaves out MR, and that Ben has opted out."""
    is_east = node.folder.name == "east"
    commands: list[tuple[str, ...]] = []
    for code in NAMES:
        clauses = '[[clause]]\nmodalities = ["CT", "CR", "US"]\n' if is_east and code == EASTVALE else "[[clause]]\n"
        path = node.folder / f"{code}.toml"
        path.write_text(f'custodian = "{code}"\n{clauses}', encoding="utf-8")
        commands.append(("agreement", "import", str(path)))
    rows = [f"{patient.nhs_number},{code},referral,,letter" for patient in IN_CARE for code in (NORTHMOOR, EASTVALE)]
    sheet = node.folder / "relationships.csv"
    sheet.write_text("\n".join(("nhs_number,trust,kind,team,evidence", *rows)), encoding="utf-8")
    commands.append(("relationship", "import", str(sheet)))
    if is_east:
        commands.append(("optout", "receive", "--patient", BEN.nhs_number, "--channel", "web-form"))
        commands += [("optout", step, "1") for step in ("acknowledge", "verify", "consider", "implement")]
    await _run(node, commands)


async def _run(node: Node, commands: Sequence[Sequence[str]]) -> None:
    """Run these commands, which must succeed, by one start of the program."""
    lines = (shlex.join([*command, "--by", "test"]) for command in commands)
    ended = await node.run("batch", "-", typed="\n".join(lines))
    assert ended.status == 0, ended.errors
