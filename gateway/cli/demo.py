"""`gateway demo`: a whole region on this machine, to try by hand or to walk unattended."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import AsJson
from gateway.demo.cast import ANNE, ANNE_HEAD_CT, BEN, CLARA, EASTVALE, FAITH, JACK, TRUSTS
from gateway.demo.certificates import KeyPair
from gateway.demo.check import ChapterResult, walk
from gateway.demo.configuration import AE_TITLES, ALIASES, GATEWAY_AE_TITLE, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region, RegionError
from gateway.demo.reports.walk import send_some

MACHINES_PORT, PEOPLE_PORT, DIMSE_PORT = 8443, 8444, 2762
"""The documented ports; others are taken where these are in use."""

VIEWER_FOLDER = Path("var/viewer")
"""Where `make viewer` unpacks it."""

Check = Annotated[bool, typer.Option("--check", help="Walk the story unattended, print a table, exit 0 or 1.")]
Folder = Annotated[Path | None, typer.Option(help="Where the region's files go; kept afterwards. Default: temporary.")]


def demo(check: Check = False, folder: Folder = None, as_json: AsJson = False) -> None:
    """Run a demo region: the gateway and three trusts' simulated archives on loopback, until Ctrl-C."""
    with _folder(folder) as place:
        try:
            has_passed = asyncio.run(_check(place, as_json=as_json) if check else _stay(place))
        except RegionError as error:
            console.complain(*f"the demo region did not start: {error}".splitlines())
            raise typer.Exit(1) from error
    if not has_passed:
        raise typer.Exit(1)


async def _check(folder: Path, *, as_json: bool) -> bool:
    results: list[ChapterResult] = []

    def report(result: ChapterResult) -> None:
        results.append(result)
        if not as_json:
            console.say(f"{'pass' if result.has_passed else 'FAIL'}  {result.title:<22}  {result.detail}")

    console.complain("starting the gateway and three trusts ...")
    async with Region(folder, with_reports=True) as region:
        has_passed = await walk(region, report)
    if as_json:
        console.show(
            [{"chapter": r.title, "passed": r.has_passed, "detail": r.detail} for r in results], as_json=True, empty=""
        )
    else:
        console.say(f"{sum(r.has_passed for r in results)} of {len(results)} chapters passed")
    return has_passed


async def _stay(folder: Path) -> bool:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console.say("starting the gateway and three trusts ...")
    run, stopped = asyncio.create_task(_run(folder)), asyncio.create_task(stop.wait())
    await asyncio.wait({run, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        console.say("stopping ...")
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        return True
    await run
    return False


async def _run(folder: Path) -> None:
    """Keep the region running until it ends by itself, or this task is cancelled."""
    machines, people, dimse = map(_port, (MACHINES_PORT, PEOPLE_PORT, DIMSE_PORT))
    async with Region(
        folder,
        machines_port=machines,
        people_port=people,
        dimse_port=dimse,
        viewer_folder=_viewer_folder(),
        with_reports=True,
    ) as region:
        await send_some(region)
        console.say(*lines_to_try(region))
        assert region.gateway is not None
        status = await region.gateway.wait()
        raise RegionError(f"the gateway ended with status {status}: see {region.folder / 'gateway.log'}")


def lines_to_try(region: Region) -> list[str]:
    """What to type, as it works from the folder the demo was started in."""
    pair = region.key_pair(VIEWER)
    shown = f"+tls {_q(pair.private_key)} {_q(pair.certificate)} +cf {_q(region.authority)}"
    titles = f"-aet {AE_TITLES[VIEWER]} -aec {GATEWAY_AE_TITLE}"
    associate = f"{shown} {titles} localhost {region.dimse_port}"
    returned = "-k PatientName -k StudyDate -k StudyDescription"
    find = f"{_dcmtk('findscu')} -v -S {associate} -k QueryRetrieveLevel=STUDY {returned}"
    curl = f"curl --cacert {_q(region.authority)} --cert {_q(pair.certificate)} --key {_q(pair.private_key)}"
    studies = f"{region.machines_url}/dicom-web/studies"
    gateway = f"{_q(Path(sys.argv[0]))}"
    config = f"--config {_q(region.configuration)}"
    return [
        "",
        f"A region of {len(TRUSTS)} trusts is running. You are Northmoor's viewer. In another terminal, try:",
        "",
        "  # Anne is in Northmoor's care: what the other trusts share of her (-i shows what is said of each trust)",
        f"  {curl} -i '{studies}?PatientID={ANNE.nhs_number}'",
        "  # Clara is not: refused in words",
        f"  {curl} '{studies}?PatientID={CLARA.nhs_number}'",
        "  # Ben opted out, Faith has no studies: nobody can tell them apart",
        f"  {curl} -i '{studies}?PatientID={BEN.nhs_number}'",
        f"  {curl} -i '{studies}?PatientID={FAITH.nhs_number}'",
        "  # two men are filed under Jack's number: neither is shown, and you are told whom to ring",
        f"  {curl} -i '{studies}?PatientID={JACK.nhs_number}'",
        "  # a question that names nobody is refused",
        f"  {curl} '{studies}?PatientName=W*'",
        "  # the same by C-FIND (echoscu and findscu are in Debian's package dcmtk): Anne, and Clara, who is refused",
        f"  {_dcmtk('echoscu')} -v {associate}",
        *(f"  {find} -k PatientID={patient.nhs_number}" for patient in (ANNE, CLARA)),
        f"  # {EASTVALE.name} alone, by the AE title that stands for it",
        f"  {find.replace(GATEWAY_AE_TITLE, ALIASES[EASTVALE.ods_code])} -k PatientID={ANNE.nhs_number}",
        f"  # take {EASTVALE.name} down, ask for Anne again, and bring it back",
        f'  curl -d \'{{"dead": "closed"}}\' {region.archives[EASTVALE.ods_code].control_url}/_simulator/behaviour',
        f"  curl -X DELETE {region.archives[EASTVALE.ods_code].control_url}/_simulator/behaviour",
        "  # why, for information governance; what custodians must put right; and is the audit whole?",
        f"  {gateway} explain --caller {VIEWER} --patient {CLARA.nhs_number} {config}",
        f"  {gateway} quality list {config}",
        f"  {gateway} audit verify {config}",
        "  # health and figures",
        f"  curl --cacert {_q(region.authority)} {region.people_url}/ready",
        f"  curl --cacert {_q(region.authority)} {region.people_url}/metrics",
        *_lines_on_reports(region, f"{gateway} release", config),
        *_lines_on_viewer(region, pair),
        "",
        f"Everything lies in {region.folder}. Ctrl-C stops it.",
    ]


def _viewer_folder() -> Path | None:
    return VIEWER_FOLDER.absolute() if VIEWER_FOLDER.is_dir() else None


def _lines_on_reports(region: Region, release: str, config: str) -> list[str]:
    if not region.hl7_port:
        return []
    return [
        "  # reports: Anne's has waited its four weeks, Ben's is due in a minute; in a browser, sign in as one of them",
        f"  {region.people_url}/reports",
        "  # what will happen to each, when and why; Ben's is kept back if you are quick",
        f"  {release} list {config}",
        f"  {release} explain RZ2:RIS-BEN {config}",
        f"  {release} hold RZ2:RIS-BEN --kind timing --review-on {_in_a_week()} --reason clinic --by me {config}",
    ]


def _in_a_week() -> str:
    return f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"


def _lines_on_viewer(region: Region, pair: KeyPair) -> list[str]:
    if region.viewer_folder is None:
        return ["  # to see the images in a browser, stop this and type: make viewer demo"]
    bundle = region.folder / f"{VIEWER}.p12"
    keys = f"-in {_q(pair.certificate)} -inkey {_q(pair.private_key)} -out {_q(bundle)}"
    return [
        "  # Anne's head CT in a browser, once it has Northmoor's certificate: import the file that this makes",
        f"  openssl pkcs12 -export -passout pass:demo {keys}",
        f"  {region.machines_url}/viewer?StudyInstanceUIDs={study_instance_uid(ANNE_HEAD_CT)}",
    ]


def _dcmtk(tool: str) -> str:
    """DCMTK's own tool, which a tool of the same name in a Python environment may stand before."""
    return shutil.which(tool, path="/usr/bin") or tool


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _port(wanted: int) -> int:
    """The documented port if it is free, else 0 for any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


@contextlib.contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as made:
        yield Path(made)
