"""The mixed region: a real gateway before DCMTK's archive, Orthanc, two simulated ones, and one that follows a script.

| trust | archive | asked by | transport |
|---|---|---|---|
| RZ2 Eastvale | simulated | C-FIND | TLS |
| RZ3 Southbridge | simulated | QIDO-RS | TLS |
| RZ4 Westhaven | DCMTK dcmqrscp | C-FIND | plain, loopback |
| RZ5 Oakfield | Orthanc | QIDO-RS | plain, loopback |
| RZ6 Harbourside | scripted (`tests.peers.dimse_archive`) | C-FIND | plain, loopback |

Each stands behind a fault proxy, so that anything may happen on the way to it. Northmoor (RZ1) asks.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

from gateway.demo.cast import EASTVALE, SOUTHBRIDGE, TRUSTS, Trust
from gateway.demo.configuration import Ports, configuration_text
from gateway.demo.images import MadeStudy, make_trust
from gateway.demo.region import Region, Start
from tests.federation.filing import (
    FILED_AT_OAKFIELD,
    FILED_AT_WESTHAVEN,
    FOREIGN,
    HARBOURSIDE,
    OAKFIELD,
    WESTHAVEN,
    WESTHAVENS_NUMBERS,
    scripted_row,
    write,
)
from tests.peers.dcmqrscp import running_dcmqrscp
from tests.peers.dimse_archive import Archive as ScriptedArchive
from tests.peers.dimse_archive import listening
from tests.peers.fault_proxy import FaultProxy
from tests.peers.orthanc import running_orthanc

ASKED: Final = (EASTVALE, SOUTHBRIDGE, WESTHAVEN, OAKFIELD, HARBOURSIDE)
"""The trusts that Northmoor's questions go to."""
PHONES: Final = {trust.ods_code: f"0300 555 01{number}0" for number, trust in enumerate((*TRUSTS, *FOREIGN))}
"""The PACS desks, as the demo region numbers them."""
CONNECT_TIMEOUT_S: Final = 1.5
FIND_TIMEOUT_S: Final = 3.0
LIMITS: Final = {
    "GATEWAY__LIMITS__CONNECT_TIMEOUT_S": str(CONNECT_TIMEOUT_S),
    "GATEWAY__LIMITS__FIND_TIMEOUT_S": str(FIND_TIMEOUT_S),
    "GATEWAY__LIMITS__PEER_PROBE_INTERVAL_S": "3",
    "GATEWAY__LIMITS__PEER_BACKOFF_FIRST_S": "0.5",
    "GATEWAY__LIMITS__PEER_BACKOFF_MAX_S": "1",
    "GATEWAY__LIMITS__CANCEL_TIMEOUT_S": "1",
}
"""Short, so that a trust that failed in one story is heard again in the next."""


class MixedRegion(Region):
    """The running region. `async with`."""

    def __init__(self, folder: Path, start: Start) -> None:
        super().__init__(folder, start=start)
        self.proxies: Final = {trust.ods_code: FaultProxy() for trust in ASKED}
        self.scripted: Final = ScriptedArchive(rows=[scripted_row()])
        self.made: Sequence[MadeStudy] = ()
        """The studies of the demo region's archives, of which the foreign ones file some."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> MixedRegion:
        async with AsyncExitStack() as stack:
            for proxy in self.proxies.values():
                await stack.enter_async_context(proxy)
            await stack.enter_async_context(listening(self.scripted))
            self.proxies[HARBOURSIDE.ods_code].target_port = self.scripted.port
            foreign = stack.enter_context(ExitStack())
            await asyncio.to_thread(self._start_foreign_archives, foreign)
            await super().__aenter__()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self._stack.aclose()

    async def start_gateway(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it with short times."""
        await super().start_gateway({**LIMITS, **(environment or {})})

    async def be_honest(self) -> None:
        """All archives and all ways to them are again as they were at the start."""
        fresh = ScriptedArchive(rows=[scripted_row()])
        self.scripted.rows, self.scripted.script, self.scripted.reject = fresh.rows, None, None
        for archive in self.archives.values():
            await archive.behave()
        for proxy in self.proxies.values():
            await proxy.behave()

    def _start_foreign_archives(self, stack: ExitStack) -> None:
        made = [make_trust(trust, self.folder / "made" / trust.ods_code) for trust in TRUSTS]
        self.made = [study for each in made for study in each.studies]
        for name in ("dcmqrscp", "orthanc"):
            (self.folder / name).mkdir()
        files = list(write(FILED_AT_WESTHAVEN, self.made, self.folder / "westhaven"))
        port = stack.enter_context(running_dcmqrscp(self.folder / "dcmqrscp", files))
        self.proxies[WESTHAVEN.ods_code].target_port = port
        files = list(write(FILED_AT_OAKFIELD, self.made, self.folder / "oakfield"))
        archive = stack.enter_context(running_orthanc(self.folder / "orthanc"))
        assert archive.store(files) == len(files)
        self.proxies[OAKFIELD.ods_code].target_port = archive.port

    def _write_configuration(self) -> None:
        ready = {code: dict(archive.ready) for code, archive in self.archives.items()}
        for trust, door in ((EASTVALE, "dimse_port"), (SOUTHBRIDGE, "web_port")):
            proxy = self.proxies[trust.ods_code]
            proxy.target_port = int(str(ready[trust.ods_code][door]))
            ready[trust.ods_code][door] = proxy.port
        ports = Ports(self.machines_port, self.people_port, self.dimse_port, self.receiving_port)
        text = configuration_text(self.folder / "certificates", ports, ready)
        more = [line for trust in FOREIGN for line in self._foreign_lines(trust)]
        self.configuration.write_text(text + "\n".join(more) + "\n", encoding="utf-8")

    def _foreign_lines(self, trust: Trust) -> list[str]:
        port = self.proxies[trust.ods_code].port
        where = ['connector = "dimse"', f'address = "127.0.0.1:{port}"', f'ae_title = "{trust.ae_title}"']
        where += ["plain_on_loopback = true"]
        if trust is OAKFIELD:
            where = [f'url = "http://127.0.0.1:{port}/dicom-web"', "plain_http_on_loopback = true"]
        return [
            *("[[trust]]", f'ods = "{trust.ods_code}"', f'name = "{trust.name}"', "enrolled = true"),
            *(f'desk_phone = "{PHONES[trust.ods_code]}"', f'patient_id_issuer = "{trust.local_issuer}"'),
            *("[[peer]]", f'trust = "{trust.ods_code}"', *where),
            # What they mean by a Patient ID without an issuer, which not every index keeps.
            'patient_id = "both"' if trust is WESTHAVEN else 'patient_id_issuer = "NHS"',
        ]

    async def _fill_registers(self) -> None:
        await super()._fill_registers()
        registers = self.folder / "registers"
        commands: list[tuple[str, ...]] = []
        for trust in FOREIGN:
            agreement = registers / f"agreement-{trust.ods_code}.toml"
            agreement.write_text(f'custodian = "{trust.ods_code}"\n[[clause]]\n', encoding="utf-8")
            commands.append(("agreement", "import", str(agreement)))
        links = registers / "westhavens-numbers.csv"
        rows = [f"{patient},{number}" for patient, numbers in WESTHAVENS_NUMBERS.items() for number in numbers]
        links.write_text("\n".join(("nhs_number,local_number", *rows)) + "\n", encoding="utf-8")
        commands.append(("patient", "import", str(links), "--trust", WESTHAVEN.ods_code))
        batch = registers / "mixed"
        batch.write_text("\n".join(shlex.join((*command, "--by", "test")) for command in commands), encoding="utf-8")
        await self.must("batch", str(batch))
