"""`gateway doctor` at another gateway: for whom it may be asked, and what is wrong if for nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.doctor.findings import Report, Verdict
from gateway.model.errors import GatewayError, NotIdentified, PeerTimeout
from gateway.model.imaging import Source, SourceState
from policy.parties import TrustId
from tests.dicomweb.small_region import Shelf, serving, source
from tests.doctor.archives import examined, of, web_peer
from tests.gateway.simulated_pacs import SimulatedPacs

CALLER = '[[trust]]\nods = "RZ1"\nname = "Northmoor"\nenrolled = true\n[[caller]]\nname = "pacs"\ntrust = "RZ1"\n'


async def doctor(folder: Path, port: int, callers: str = CALLER) -> Report:
    """Examine the gateway at this port, which fronts RZ2."""
    return await examined(folder, web_peer(port, "gateway = true", callers))


async def visited(folder: Path, shelf: Shelf) -> Report:
    """Examine a gateway that answers so."""
    async with serving(shelf) as url:
        return await doctor(folder, int(url.rpartition(":")[2].partition("/")[0]))


def said(part: Source) -> Shelf:
    return Shelf(sources=(part,))


@pytest.mark.parametrize(
    ("part", "verdict", "found"),
    [
        (source(code="RZ2"), Verdict.GOOD, "answers"),
        (source(code="RZ2", shared=("CR", "CT")), Verdict.GOOD, "answers with CR CT alone"),
        (source(SourceState.TRUNCATED, code="RZ2"), Verdict.WARNING, "answers in part"),
        (source(SourceState.NOT_SHARED, code="RZ2"), Verdict.WARNING, "shares nothing"),
    ],
)
async def test_what_it_shows_each_trust_that_asks_here_is_told(
    tmp_path: Path, part: Source, verdict: Verdict, found: str
) -> None:
    report = await visited(tmp_path, said(part))
    finding = of(report, "asked for RZ1")
    assert (finding.verdict, finding.found) == (verdict, found) and not report.has_failed


@pytest.mark.parametrize(
    ("error", "advice"),
    [(NotIdentified("x"), "name RZ1 in asks_for"), (PeerTimeout(TrustId("RZ2"), "x"), "cannot be reached")],
)
async def test_a_refusal_says_what_to_mend_there(tmp_path: Path, error: GatewayError, advice: str) -> None:
    report = await visited(tmp_path, Shelf(error=error))
    assert advice in of(report, "asked for RZ1").advice
    assert of(report, "another gateway").verdict is Verdict.FAILED


async def test_an_archive_that_is_taken_for_a_gateway_is_found_out(tmp_path: Path, eastvale: SimulatedPacs) -> None:
    report = await doctor(tmp_path, eastvale.port("web"))
    assert "leave gateway = true out" in of(report, "asked for RZ1").advice and report.has_failed


async def test_without_a_trust_that_asks_there_is_nobody_to_ask_for(tmp_path: Path, eastvale: SimulatedPacs) -> None:
    report = await doctor(tmp_path, eastvale.port("web"), callers="")
    assert of(report, "another gateway").found == "nobody to ask for"
    assert eastvale.requests() == []
