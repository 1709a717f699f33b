"""`gateway doctor`: look the trusts' archives and the bucket of the study cache over, and say what to mend or to set.

Nobody real is asked for: unique keys that cannot exist, and a labelled test patient only where the operator names one.
`--write-profile` writes what was found to `profiles/CODE.toml` beside the configuration; the file takes effect once the
trust's [[peer]] names it by `profile`, and whatever that [[peer]] says itself wins over it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway import logs
from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, PatientFile
from gateway.cli.session import INTERRUPTED, configuration_of, trust_of
from gateway.cli.session import nhs_number as nhs_number_of
from gateway.config.configuration import Configuration
from gateway.config.entries import DicomwebPeerEntry, DimsePeerEntry
from gateway.config.keeping import ObjectStore
from gateway.doctor.findings import Finding, Report, Verdict, profile, profile_text
from gateway.keeping.objects import bucket_of
from gateway.model.errors import InvalidRequest
from gateway.node import SystemClock, new_uid
from storage.observations.pseudonyms import pseudonyms

PROFILES_FOLDER = "profiles"
PROBE_BYTES = 1024
"""Of the object that is put into a bucket, and deleted."""

AnyPeer = DicomwebPeerEntry | DimsePeerEntry


def doctor(
    trust: Annotated[str, typer.Argument(help="ODS code. Default: every trust that has an archive.")] = "",
    write_profile: Annotated[bool, typer.Option("--write-profile", help="Write what was found to a file.")] = False,
    patient_file: PatientFile = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Examine archives: connection, TLS, association or HTTP, searches at each level, habits. 1 if one cannot be asked.

    Without a trust also the bucket of the study cache, where there is one. --patient-file names a labelled test
    patient, whose answers show what an empty one cannot.
    """
    configuration = configuration_of(config)
    logs.configure("error", as_json=False)
    patient = nhs_number_of("", patient_file, configuration.gateway.mode).digits if patient_file else ""
    peers = _peers(configuration, trust)
    reports: list[Report] = []
    for peer in peers:
        try:
            report = asyncio.run(_examined(configuration, peer, patient))
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.complain(f"stopped: {peer.trust} and those after it were not examined to the end")
            raise typer.Exit(INTERRUPTED) from None
        reports.append(report)
        if not as_json:
            _show(report, peer)
        if write_profile:
            _write(report, peer, config.absolute().parent, as_json=as_json)
    of_bucket = asyncio.run(_bucket_examined(configuration)) if not trust else []
    if of_bucket and not as_json:
        _show_findings("the bucket of the study cache:", of_bucket)
    if as_json:
        rows: list[dict[str, object]] = [_as_json(report, peer) for report, peer in zip(reports, peers, strict=True)]
        console.show_json(rows + ([{"bucket": _findings_as_json(of_bucket)}] if of_bucket else []))
    if any(report.has_failed for report in reports) or any(each.verdict is Verdict.FAILED for each in of_bucket):
        raise typer.Exit(1)


def _peers(configuration: Configuration, trust: str) -> list[AnyPeer]:
    if not trust:
        return list(configuration.peer)
    code = trust_of(trust)
    found = [peer for peer in configuration.peer if peer.trust == code]
    if not found:
        raise InvalidRequest(f"no [[peer]] of {code} can be read from the configuration: see gateway check")
    return found


async def _examined(configuration: Configuration, peer: AnyPeer, patient: str) -> Report:
    from gateway.doctor.examination import examine  # noqa: PLC0415  # HTTP and DICOM: seconds that no other command needs

    return await examine(configuration, peer, now=SystemClock().now(), new_uid=new_uid, test_patient=patient)


async def _bucket_examined(configuration: Configuration) -> list[Finding]:
    if configuration.cache.store is not ObjectStore.S3:
        return []
    from gateway.doctor.bucket import examine_bucket  # noqa: PLC0415  # as above

    clock, stand_ins = SystemClock(), pseudonyms(configuration.storage.location_key)
    bucket = bucket_of(configuration, stand_ins, clock)
    return await examine_bucket(bucket, clock, f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(PROBE_BYTES))


def _show(report: Report, peer: AnyPeer) -> None:
    _show_findings(f"{report.trust}, {peer.connector}:", report.findings)
    console.say(f"{report.trust}: {_summary(report)}")


def _show_findings(head: str, findings: Sequence[Finding]) -> None:
    console.say(head)
    rows: list[console.Row] = [
        {
            "layer": finding.layer,
            "check": finding.check,
            "verdict": finding.verdict,
            "found": finding.found,
            "seconds": None if finding.duration_s is None else round(finding.duration_s, 3),
        }
        for finding in findings
    ]
    console.show(rows, as_json=False, empty="nothing was looked at")
    for finding in findings:
        if finding.advice:
            console.say(f"{finding.verdict.value}: {finding.layer.value}, {finding.check}: {finding.advice}")


def _summary(report: Report) -> str:
    verdicts = {finding.verdict for finding in report.findings}
    if Verdict.FAILED in verdicts:
        return "cannot be asked until what failed is mended"
    if Verdict.SET in verdicts:
        return "can be asked once its profile is set (--write-profile writes it)"
    return "can be asked, with the warnings above" if Verdict.WARNING in verdicts else "can be asked"


def _as_json(report: Report, peer: AnyPeer) -> dict[str, object]:
    return {
        "trust": report.trust.code,
        "connector": peer.connector,
        "summary": _summary(report),
        "findings": _findings_as_json(report.findings),
        "profile": profile(report, frozenset(peer.quirks)),
    }


def _findings_as_json(findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [
        {
            "layer": finding.layer.value,
            "check": finding.check,
            "verdict": finding.verdict.value,
            "found": finding.found,
            "advice": finding.advice,
            "duration_s": finding.duration_s,
        }
        for finding in findings
    ]


def _write(report: Report, peer: AnyPeer, folder: Path, *, as_json: bool) -> None:
    if report.has_failed:
        console.complain(f"{report.trust}: no profile written, for it could not be examined to the end")
        return
    path = folder / PROFILES_FOLDER / f"{report.trust}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(profile_text(report, frozenset(peer.quirks), SystemClock().now().date().isoformat()), "utf-8")
    if not as_json:
        console.say(
            f'{path}: written; put profile = "{PROFILES_FOLDER}/{report.trust}.toml" into its [[peer]], then reload'
        )
