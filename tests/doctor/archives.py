"""Archives of a configuration with one peer, as `gateway doctor` examines them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gateway.config.reading import read
from gateway.doctor.examination import examine
from gateway.doctor.findings import Finding, Report, Verdict
from gateway.node import new_uid

HEAD = """
[gateway]
mode = "demo"
[limits]
find_timeout_s = 20.0
connect_timeout_s = 10.0
artim_timeout_s = 10.0
[[trust]]
ods = "RZ2"
name = "Eastvale"
[[peer]]
trust = "RZ2"
"""


def dimse_peer(port: int, *more: str) -> str:
    """A [[peer]] that is asked by C-FIND, plain unless `more` says otherwise."""
    plain = () if any("client_certificate" in line for line in more) else ("plain_on_loopback = true",)
    own = ('connector = "dimse"', f'address = "localhost:{port}"', 'ae_title = "ARCHIVE"', 'calling_ae_title = "US"')
    return "\n".join((*own, *plain, *more))


def web_peer(port: int, *more: str) -> str:
    """A [[peer]] that is asked by QIDO, plain."""
    return "\n".join((f'url = "http://127.0.0.1:{port}/dicom-web"', "plain_http_on_loopback = true", *more))


async def examined(folder: Path, peer: str, *, test_patient: str = "") -> Report:
    """What the doctor finds at the one archive."""
    path = folder / "gateway.toml"
    path.write_text(HEAD + peer)
    reading = read(path)
    assert reading.configuration is not None and reading.configuration.peer, reading.problems
    return await examine(
        reading.configuration,
        reading.configuration.peer[0],
        now=datetime.now(UTC),
        new_uid=new_uid,
        test_patient=test_patient,
    )


def of(report: Report, check: str) -> Finding:
    """The one finding of a check."""
    [finding] = [finding for finding in report.findings if finding.check == check]
    return finding


def bad(report: Report) -> list[Finding]:
    """What is not as it should be."""
    return [finding for finding in report.findings if finding.verdict not in (Verdict.GOOD, Verdict.NOTE)]
