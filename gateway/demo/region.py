"""A whole region on this machine: three trusts' simulated archives and the gateway, each a process of its own.

Writes images, certificates, configuration and registers into one folder, starts everything on loopback, and stops what
it started. The demonstration, its check and the story tests all live in such a region. Everything is told to the
gateway as an operator would tell it: by `gateway.toml` and by `gateway` commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

import aiohttp

from gateway.demo import cast
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import BEN, EASTVALE, NORTHMOOR, SENSITIVE, SOUTHBRIDGE, TRUSTS, Trust
from gateway.demo.certificates import Authority, KeyPair
from gateway.demo.configuration import (
    AE_TITLES,
    CALLERS,
    GATEWAY_AE_TITLE,
    SURGEONS,
    Ports,
    Reports,
    archive_name,
    configuration_text,
    own_habits,
)
from gateway.demo.images import make_trust, study_instance_uid
from gateway.demo.ports import free_port
from gateway.demo.reports.lines import REPORTING_SYSTEM, REPORTING_TRUST
from gateway.demo.reports.national import NationalServices
from gateway.demo.reports.ris import ReportingSystem

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 40.0


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a `gateway` command ended, and what it printed."""

    status: int
    output: str
    errors: str


class RegionError(RuntimeError):
    """Something of the region did not start; the message says what, and where its log lies."""


class Process(Protocol):
    """What a region needs of a process that it started."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def returncode(self) -> int | None:
        """How it ended; None: it runs."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """What it prints, where that is read."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    async def wait(self) -> int:
        """Its status at its end."""

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it printed until its end."""


class Start(Protocol):
    """How a process is started: `asyncio.create_subprocess_exec`, or what does the same in less time."""

    async def __call__(
        self,
        program: str,
        *arguments: str,
        stdin: int | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a program."""


@dataclass(slots=True)
class Archive:
    """One trust's simulated PACS as a process."""

    trust: Trust
    process: Process
    ready: Mapping[str, object]
    """What it said once it listened (docs/simulator.md)."""

    @property
    def control_url(self) -> str:
        """Where its switches are."""
        return f"http://127.0.0.1:{self.ready['control_port']}"

    async def behave(self, **switches: object) -> None:
        """Set the simulator's switches (docs/simulator.md); without any, it is honest again."""
        behaviour = f"{self.control_url}/_simulator/behaviour"
        async with aiohttp.ClientSession() as session:
            if not switches:
                (await session.delete(behaviour)).raise_for_status()
                switches = own_habits(self.trust)
            (await session.post(behaviour, json=switches)).raise_for_status()

    async def know(self, destinations: Mapping[str, str]) -> None:
        """Let it know these AE titles and their addresses as destinations of C-MOVE, and no others."""
        async with aiohttp.ClientSession() as session:
            answer = await session.put(f"{self.control_url}/_simulator/destinations", json=dict(destinations))
            answer.raise_for_status()

    async def requests(self) -> list[dict[str, object]]:
        """What it was asked lately, oldest first."""
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{self.control_url}/_simulator/requests")
            journal = await answer.json()
        return list(journal["requests"])

    async def forget_requests(self) -> None:
        """Empty the journal."""
        async with aiohttp.ClientSession() as session:
            (await session.delete(f"{self.control_url}/_simulator/requests")).raise_for_status()


class Region:
    """The running region. Use `async with Region(...)`."""

    def __init__(
        self,
        folder: Path,
        *,
        machines_port: int = 0,
        people_port: int = 0,
        dimse_port: int = 0,
        storage_url: str = "",
        start: Start = asyncio.create_subprocess_exec,
        viewer_folder: Path | None = None,
        with_reports: bool = False,
    ) -> None:
        self.folder = folder
        self.configuration = folder / "gateway.toml"
        self.machines_port = machines_port or free_port()
        self.people_port = people_port or free_port()
        self.dimse_port = dimse_port or free_port()
        self.receiving_port = free_port()
        self.archives: dict[str, Archive] = {}
        self.gateway: Process | None = None
        self.viewer_folder = viewer_folder
        self.hl7_port = free_port() if with_reports else 0
        """Where reports are sent; 0: nowhere."""
        self._national: NationalServices | None = None
        self._storage_url = storage_url
        self._start = start
        self._pairs: dict[str, KeyPair] = {}
        self.authority: Path = folder / "certificates" / "authority.pem"

    @property
    def machines_url(self) -> str:
        """Where DICOMweb clients find the gateway."""
        return f"https://localhost:{self.machines_port}"

    @property
    def people_url(self) -> str:
        """Where people and monitoring find it."""
        return f"https://localhost:{self.people_port}"

    def workstation(self, caller: str) -> Workstation:
        """The caller's PACS workstation."""
        return Workstation(self.dimse_port, GATEWAY_AE_TITLE, AE_TITLES[caller], self.authority, self.key_pair(caller))

    @property
    def reporting_system(self) -> ReportingSystem:
        """Eastvale's, in a region that was made with reports."""
        return ReportingSystem(REPORTING_TRUST, self.hl7_port, self.authority, self.key_pair(REPORTING_SYSTEM))

    @property
    def database(self) -> Path:
        """The gateway's SQLite file."""
        return self.folder / "data" / "gateway.db"

    async def __aenter__(self) -> Region:
        try:
            self._write_certificates()
            await asyncio.gather(*(self._start_archive(trust) for trust in TRUSTS))
            if self.hl7_port:
                self._national = NationalServices(self.folder / "keys" / "patient-page.pem", free_port())
                await self._national.__aenter__()
            self._write_configuration()
            await self._fill_registers()
            await self.start_gateway()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def key_pair(self, caller: str) -> KeyPair:
        """The client certificate of a caller, or of an archive."""
        return self._pairs[caller]

    async def command(self, *arguments: str) -> CommandResult:
        """Run `gateway <arguments>` on this region's configuration, whatever comes of it."""
        process = await self._start(
            *(sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.configuration)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        return CommandResult(process.returncode or 0, output.decode(), errors.decode())

    async def must(self, *arguments: str) -> str:
        """Run a command that must succeed; what it printed. Raises `RegionError`."""
        result = await self.command(*arguments)
        if result.status != 0:
            raise RegionError(f"gateway {' '.join(arguments)}: status {result.status}\n{result.errors}{result.output}")
        return result.output

    async def start_gateway(self, environment: Mapping[str, str] | None = None) -> None:
        """Start `gateway serve` and wait until it is ready."""
        log_path = self.folder / "gateway.log"
        with log_path.open("ab") as log:
            self.gateway = await self._start(
                *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.configuration)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._gateway_ready(self.gateway, log_path)
        except TimeoutError as error:
            raise RegionError(f"the gateway was not ready in {START_TIMEOUT_S:g} s: see {log_path}") from error

    async def stop_gateway(self) -> None:
        """Stop it with SIGTERM and wait for its end."""
        if self.gateway is not None:
            await _stop(self.gateway)
            self.gateway = None

    async def close(self) -> None:
        """Stop everything that was started."""
        await self.stop_gateway()
        await asyncio.gather(*(_stop(archive.process) for archive in self.archives.values()))
        self.archives.clear()
        if self._national is not None:
            await self._national.__aexit__()
            self._national = None

    async def _gateway_ready(self, process: Process, log_path: Path) -> None:
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                if process.returncode is not None:
                    raise RegionError(f"the gateway ended with status {process.returncode}: see {log_path}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.people_url}/ready") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def _start_archive(self, trust: Trust) -> None:
        data = self.folder / "archives" / trust.ods_code
        await asyncio.to_thread(make_trust, trust, data)
        pair = self._pairs[archive_name(trust)]
        process = await self._start(
            *(sys.executable, "-m", "gateway.demo.pacs", "--trust", trust.ods_code, "--data", str(data)),
            *("--ae-title", trust.ae_title, "--die-with-parent"),
            *("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.private_key)),
            *("--tls-client-ca", str(self.authority), "--dimse-tls", "--behaviour", json.dumps(own_habits(trust))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise RegionError(f"the archive of {trust.ods_code} did not start") from error
        if not line:
            raise RegionError(f"the archive of {trust.ods_code} ended before it was ready")
        archive = self.archives[trust.ods_code] = Archive(trust, process, json.loads(line))
        await archive.know({GATEWAY_AE_TITLE: f"localhost:{self.dimse_port}"})

    def _write_certificates(self) -> None:
        authority = Authority(self.folder / "certificates")
        for name in ("gateway", REPORTING_SYSTEM, *CALLERS, *map(archive_name, TRUSTS)):
            self._pairs[name] = authority.issue(name)

    def _write_configuration(self) -> None:
        ports = Ports(self.machines_port, self.people_port, self.dimse_port, self.receiving_port)
        text = configuration_text(
            self.folder / "certificates",
            ports,
            {code: archive.ready for code, archive in self.archives.items()},
            storage_url=self._storage_url,
            viewer=str(self.viewer_folder or ""),
            reports=self._reports(),
        )
        self.configuration.write_text(text, encoding="utf-8")

    def _reports(self) -> Reports | None:
        if self._national is None:
            return None
        return Reports(self.hl7_port, self._national.url, self.key_pair(REPORTING_SYSTEM).fingerprint)

    async def _fill_registers(self) -> None:
        """Agreements, relationships, one opt-out case walked to its end (Ben's, SAF-23), one sensitive label."""
        registers = self.folder / "registers"
        registers.mkdir(exist_ok=True)
        for ods_code, clauses in _AGREEMENTS.items():
            (registers / f"agreement-{ods_code}.toml").write_text(clauses, encoding="utf-8")
        self._write_relationships(registers / "relationships.csv")
        of_study = ("--patient", SENSITIVE.patient.nhs_number, "--study", study_instance_uid(SENSITIVE))
        commands = [
            *(("agreement", "import", str(registers / f"agreement-{ods_code}.toml")) for ods_code in _AGREEMENTS),
            ("relationship", "import", str(registers / "relationships.csv")),
            ("optout", "receive", "--patient", BEN.nhs_number, "--channel", "web-form"),
            *(("optout", step, "1") for step in _STEPS_OF_A_CASE),
            ("label", "add", "--trust", EASTVALE.ods_code, *of_study, "--kind", "sexual-health"),
        ]
        batch = registers / "commands"
        lines = [shlex.join((*command, "--by", "demo")) for command in commands]
        batch.write_text("\n".join(lines), encoding="utf-8")
        await self.must("batch", str(batch))

    def _write_relationships(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["nhs_number", "trust", "kind", "team", "evidence"])
            for ods_code, team, patients in _PATIENTS_IN_CARE:
                for patient in patients:
                    writer.writerow([patient.nhs_number, ods_code, "referral", team, f"referral-{patient.given_name}"])


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


_STEPS_OF_A_CASE: Final = ("acknowledge", "verify", "consider", "implement", "confirm")
_AGREEMENTS: Final = {
    NORTHMOOR.ods_code: f'custodian = "{NORTHMOOR.ods_code}"\n[[clause]]\n',
    EASTVALE.ods_code: f'custodian = "{EASTVALE.ods_code}"\n[[clause]]\nmodalities = ["CT", "CR", "DX", "US", "NM"]\n',
    SOUTHBRIDGE.ods_code: f'custodian = "{SOUTHBRIDGE.ods_code}"\n[[clause]]\n',
}
"""Northmoor and Southbridge share everything with every enrolled trust; Eastvale leaves out MR."""

_NORTHMOOR_PATIENTS: Final = tuple(patient for patient in cast.PATIENTS if patient is not cast.CLARA)
_PATIENTS_IN_CARE: Final = (
    (NORTHMOOR.ods_code, "", _NORTHMOOR_PATIENTS),
    (NORTHMOOR.ods_code, SURGEONS, (cast.ANNE,)),
    (SOUTHBRIDGE.ods_code, "", (cast.ANNE, cast.BEN)),
)
"""By trust and team. Clara is nobody's but Eastvale's and Southbridge's own."""
