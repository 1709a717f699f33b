"""`gateway doctor` at archives behind DICOMweb: what is wrong is said in words, and habits become settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.demo.cast import EVE
from gateway.doctor.findings import Report, Verdict
from gateway.model.settings import Limits
from tests.doctor.archives import bad, examined, of, web_peer
from tests.gateway.simulated_pacs import SimulatedPacs

EVES_NUMBER = EVE.nhs_number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def doctor(folder: Path, archive: SimulatedPacs, *, test_patient: str = "") -> Report:
    """Examine this archive."""
    return await examined(folder, web_peer(archive.port("web")), test_patient=test_patient)


async def test_an_archive_that_keeps_to_the_standard_has_nothing_to_mend(folder: Path, eastvale: SimulatedPacs) -> None:
    report = await doctor(folder, eastvale, test_patient=EVES_NUMBER)
    assert bad(report) == [] and not report.quirks
    assert of(report, "/studies").found == "200, an empty list"
    assert of(report, "Accept: application/dicom+json").verdict is Verdict.GOOD
    assert of(report, "encoding").found == "UTF-8"


async def test_nobody_is_asked_for_unless_named(folder: Path, eastvale: SimulatedPacs) -> None:
    await doctor(folder, eastvale)
    assert eastvale.requests() and not any("PatientID" in str(request) for request in eastvale.requests())


async def test_an_empty_answer_of_status_204_is_told(folder: Path, eastvale: SimulatedPacs) -> None:
    eastvale.behave(empty_status=204)
    assert of(await doctor(folder, eastvale), "/studies").found == "204, no content"


async def test_an_archive_that_ignores_keys_is_warned_of(folder: Path, eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["ignores-keys"])
    finding = of(await doctor(folder, eastvale), "/studies")
    assert finding.verdict is Verdict.WARNING and "not asked for" in finding.found


async def test_an_archive_that_ignores_paging_is_asked_once(folder: Path, eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["ignores-paging"])
    report = await doctor(folder, eastvale, test_patient="9990000018")
    assert report.quirks == {"no-paging"}


async def test_text_in_no_declared_character_set_is_warned_of(folder: Path, eastvale: SimulatedPacs) -> None:
    eastvale.behave(charset="latin-1-undeclared")
    report = await doctor(folder, eastvale, test_patient=EVES_NUMBER)
    assert of(report, "encoding").found == "not UTF-8, declared nowhere"


@pytest.mark.parametrize(
    ("broken", "words"), [("server-error", "500"), ("redirect", "redirect"), ("not-a-list", "cannot be believed")]
)
async def test_an_answer_that_is_none_is_explained(
    folder: Path, eastvale: SimulatedPacs, broken: str, words: str
) -> None:
    eastvale.behave(lies=[broken])
    [finding] = [each for each in (await doctor(folder, eastvale)).findings if each.check == "/studies"]
    assert words in f"{finding.found} {finding.advice}"


async def test_a_wrong_path_is_suspected(folder: Path, eastvale: SimulatedPacs) -> None:
    peer = web_peer(eastvale.port("web")).replace("/dicom-web", "/elsewhere")
    report = await examined(folder, peer)
    assert report.has_failed and "the path in url" in of(report, "/studies").advice


async def test_another_form_than_was_asked_for_is_told_and_harms_nobody(folder: Path, eastvale: SimulatedPacs) -> None:
    report = await doctor(folder, eastvale)
    matrix = {finding.check: finding for finding in report.findings if finding.check.startswith("Accept: ")}
    assert {check: finding.verdict for check, finding in matrix.items()} == {
        "Accept: application/dicom+json": Verdict.GOOD,
        "Accept: application/json": Verdict.GOOD,
        "Accept: multipart/related": Verdict.NOTE,
        "Accept: */*": Verdict.GOOD,
    }
    assert "not what was asked for" in matrix["Accept: multipart/related"].found


async def test_a_media_type_that_is_no_json_fails(folder: Path, eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["wrong-content-type"])
    assert of(await doctor(folder, eastvale), "Accept: application/dicom+json").verdict is Verdict.FAILED


async def test_an_archive_that_turns_questions_away_when_there_are_many_is_to_be_asked_less(folder: Path) -> None:
    async with Turnstile.listening(3) as port:
        report = await examined(folder, web_peer(port))
    finding = of(report, "requests at once")
    assert (finding.verdict, finding.found) == (Verdict.SET, "3 of 8: status 429")
    assert report.limits == {"peer_requests_at_once_max": 3}


class Turnstile:
    """An archive that has nothing, and answers so many requests at once; the others it turns away.

    Whoever asks alone asks on the first connection, and is answered. On the others it waits until all have come.
    """

    def __init__(self, at_once_max: int) -> None:
        self._places = at_once_max - 1
        self._to_come = Limits().peer_requests_at_once_max - 1
        self._all_have_come = asyncio.Event()
        self._first: asyncio.BaseTransport | None = None

    @classmethod
    @asynccontextmanager
    async def listening(cls, at_once_max: int) -> AsyncIterator[int]:
        """One that listens until the block ends; its port."""
        application = web.Application()
        application.router.add_get("/{tail:.*}", cls(at_once_max)._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self._first = self._first or request.transport
        if request.transport is not self._first:
            self._to_come -= 1
            if self._to_come == 0:
                self._all_have_come.set()
            self._places -= 1
            if self._places < 0:
                return web.Response(status=429)
            await self._all_have_come.wait()
        return web.Response(body=b"[]", content_type="application/dicom+json")


async def test_no_word_of_a_report_names_the_test_patient(folder: Path, eastvale: SimulatedPacs) -> None:
    report = await doctor(folder, eastvale, test_patient=EVES_NUMBER)
    assert EVES_NUMBER not in repr(report) and "BRIAIN" not in repr(report)
