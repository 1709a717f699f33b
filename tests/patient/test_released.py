"""The page over the real keeper of reports: what is released, waits, was taken back, and to whom it is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import orjson
import pytest

from gateway.model.imaging import JsonValue
from gateway.release.giving.composing import TrustCard
from gateway.release.giving.page import PageChannel
from gateway.release.giving.reading import PageReading
from policy.parties import NhsNumber
from policy.release.circumstances import ReleaseState
from policy.release.reports import Said
from storage.database import Read, Tx
from storage.registers import merges, patients
from storage.registers.merges import MergeBasis
from storage.registers.state import Author
from storage.tables.chain import audit_record
from tests.patient.memory_reading import MemoryAudit, MemoryReading
from tests.patient.provider import Claims, NhsLogin, running
from tests.patient.rig import Browser, new_client_key, served
from tests.patient.rig import Rig as Served
from tests.release import release_rig
from tests.release.incoming import NORTH
from tests.release.release_rig import CLINICIAN, DUE_AT, PHONE, verified

SARAH: Claims = {
    "sub": "sarah-at-provider",
    "nhs_number": "9990000018",
    "identity_proofing_level": "P9",
    "birthdate": "1980-02-29",
    "family_name": "O'Shea",
}

RECORDS = Author("clerk", "", "superseded")


@dataclass
class Whole:
    """Release, and the page over it."""

    release: release_rig.Rig
    page: Served

    @asynccontextmanager
    async def signed_in(self, **otherwise: object) -> AsyncIterator[Browser]:
        """Sarah's browser, or that of somebody who differs so; what was waiting for a sign-in is done."""
        self.page.provider.accounts["sarah"] = {**SARAH, **otherwise}
        async with self.page.signed_in("sarah") as browser:
            await self.release.work()
            yield browser

    async def key(self, report_id: str) -> str:
        """The document that was last given of a report."""
        return (await self.release.given(report_id))[-1].document_key

    async def audit(self, event: str) -> list[dict[str, JsonValue]]:
        """What the audit has of one event."""

        def body(read: Read) -> list[dict[str, JsonValue]]:
            rows = read.connection.execute(audit_record.select().order_by(audit_record.c.sequence))
            return [orjson.loads(row.encoded)["body"] for row in rows if row.event == event]

        return await self.release.store.read(body)


@pytest.fixture
async def whole(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Whole]:
    """One process whose only channel is its own page."""
    async with release_rig.opened(tmp_path, sqlite_url) as release:
        channel = PageChannel("page", release.store, release.vault, release.time.now, release_rig.render)
        release.channels = {"page": channel}
        release.terms = replace(release.terms, channels=("page",))
        reading = PageReading(
            release.store,
            release.vault,
            release.planner,
            release.acts,
            lambda trust: TrustCard("North Trust", PHONE),
            lambda: [NORTH],
            lambda: None,
        )
        folder = tmp_path / "page"
        folder.mkdir()
        client_key = new_client_key(folder)
        async with (
            running(NhsLogin(release.clock, client_key)) as provider,
            served(folder, release.clock, provider.url, reading, release.store) as (url, authority, behind),
        ):
            page = Served(release.clock, provider, MemoryReading(), MemoryAudit(), url, authority, behind)
            yield Whole(release, page)


async def test_a_report_that_waits_is_not_even_known_to_exist(whole: Whole) -> None:
    async with whole.signed_in():
        pass
    report_id = await whole.release.file(verified())
    await whole.release.look(DUE_AT - timedelta(seconds=2))
    async with whole.signed_in() as browser:
        assert "There are no reports to show." in (await browser.get("/reports")).text
    await whole.release.look(DUE_AT)
    async with whole.signed_in() as browser:
        assert "Available since 29 June 2026" in (await browser.get("/reports")).text
        shown = await browser.get(f"/reports/{await whole.key(report_id)}")
    assert shown.status == 200 and "No fracture." in shown.text
    *lists, read = await whole.audit("report-read")
    assert (read["report"], read["by"], read["form"]) == (report_id, "patient", "html")
    # One at the end of the sign-in, one of the list that was asked for.
    assert [(each["reports"], each["form"]) for each in lists] == [([report_id], "list")] * 2


async def test_without_an_account_a_report_stays_due_and_is_there_on_signing_up(whole: Whole) -> None:
    report_id = await whole.release.file(verified())
    await whole.release.look(DUE_AT)
    assert (await whole.release.report(report_id)).state is ReleaseState.DUE
    whole.page.provider.accounts["low"] = {**SARAH, "identity_proofing_level": "P5"}
    whole.page.provider.signed_in = "low"
    async with whole.page.browser() as browser:
        assert (await browser.sign_in()).status == 403
    await whole.release.look()
    assert (await whole.release.report(report_id)).state is ReleaseState.DUE, "below P9 is no account (SAF-66)"
    async with whole.signed_in() as browser:
        assert (await whole.release.report(report_id)).state is ReleaseState.RELEASED
        assert f'href="/reports/{await whole.key(report_id)}"' in (await browser.get("/reports")).text


async def test_a_report_that_is_being_corrected_is_its_neutral_text(whole: Whole) -> None:
    async with whole.signed_in():
        pass
    report_id = await whole.release.file(verified())
    await whole.release.look(DUE_AT)
    key = await whole.key(report_id)
    corrected = verified(DUE_AT + timedelta(hours=1), "A fracture.", said=Said.CORRECTED)
    await whole.release.on(DUE_AT + timedelta(hours=2))
    await whole.release.file(corrected, "m-2")
    async with whole.signed_in() as browser:
        answers = [await browser.get(path) for path in ("/reports", f"/reports/{key}", f"/reports/{key}.pdf")]
    for answer in answers:
        assert PHONE in answer.text and "fracture" not in answer.text.lower()


@pytest.mark.parametrize("other", [{"family_name": "Somebody"}, {"birthdate": "1980-02-28"}])
async def test_who_has_the_number_and_another_name_or_birthday_sees_nothing(
    whole: Whole, other: dict[str, object]
) -> None:
    async with whole.signed_in():
        pass
    report_id = await whole.release.file(verified())
    await whole.release.look(DUE_AT)
    key = await whole.key(report_id)
    async with whole.signed_in(**other) as browser:
        assert "There are no reports to show." in (await browser.get("/reports")).text
        assert (await browser.get(f"/reports/{key}")).status == 404
    assert await whole.audit("report-read") == []
    [refused] = await whole.audit("report-refused")
    assert refused["refusal"] == "no-such-report"


async def test_another_patient_does_not_reach_a_report_by_its_key(whole: Whole) -> None:
    async with whole.signed_in():
        pass
    report_id = await whole.release.file(verified())
    await whole.release.look(DUE_AT)
    key = await whole.key(report_id)
    async with whole.signed_in(nhs_number="9990000026") as browser:
        answers = [await browser.get(f"/reports/{path}") for path in (key, f"{key}.pdf", f"{key}.txt", "none")]
    assert len({(each.status, each.text) for each in answers}) == 1 and answers[0].status == 404


async def test_not_now_keeps_a_new_report_back_until_it_is_taken_back(whole: Whole) -> None:
    report_id = await whole.release.file(verified())
    async with whole.signed_in() as browser:
        token = (await browser.get("/choices")).form_token
        await browser.post("/choices", {"form": token, "not-now": "yes"})
    await whole.release.look(DUE_AT)
    async with whole.signed_in() as browser:
        assert "There are no reports to show." in (await browser.get("/reports")).text
        page = await browser.get("/choices")
        assert 'value="yes" checked' in page.text
        await browser.post("/choices", {"form": page.form_token})
        await whole.release.look()
        assert (await browser.get(f"/reports/{await whole.key(report_id)}")).status == 200


async def test_large_print_is_kept_and_holds_for_pages_and_for_reports_that_are_there_already(whole: Whole) -> None:
    report_id = await whole.release.file(verified())
    async with whole.signed_in():
        await whole.release.look(DUE_AT)
    address = f"/reports/{await whole.key(report_id)}"

    async def seen(browser: Browser) -> list[bool]:
        """Which of the list, the report and its PDF are in large print."""
        answers = [await browser.get(path) for path in ("/reports", address, f"{address}.pdf")]
        return [word in answer.text for word, answer in zip(("large-print", "large ", "large "), answers, strict=True)]

    async with whole.signed_in() as browser:
        assert await seen(browser) == [False, False, False]
        token = (await browser.get("/choices")).form_token
        saved = await browser.post("/choices", {"form": token, "large-print": "yes"})
        assert '<body class="large-print">' in saved.text
    async with whole.signed_in() as browser:
        assert await seen(browser) == [True, True, True]
        await browser.post("/choices", {"form": (await browser.get("/choices")).form_token})
        assert await seen(browser) == [False, False, False]


async def test_a_proxy_gives_a_child_of_thirteen_no_account(whole: Whole) -> None:
    born = date(2013, 1, 1)
    whole.release.demographics.sarah(birth_date=born)
    report = verified()
    child = replace(report, subject=replace(report.subject, birth_date=born))
    report_id = await whole.release.file(child)
    async with whole.signed_in(birthdate=born.isoformat(), act={"sub": "9990000026"}):
        pass
    await whole.release.look(DUE_AT)
    assert (await whole.release.report(report_id)).state is ReleaseState.DUE
    async with whole.signed_in(birthdate=born.isoformat()) as browser:
        assert (await browser.get(f"/reports/{await whole.key(report_id)}")).status == 200


async def test_a_reviewed_report_of_a_child_is_a_proxys_until_the_second_before_the_13th_birthday(whole: Whole) -> None:
    born, last = date(2013, 7, 10), datetime(2026, 7, 9, 22, 59, 59, tzinfo=UTC)
    whole.release.demographics.sarah(birth_date=born)
    report = verified()
    report_id = await whole.release.file(replace(report, subject=replace(report.subject, birth_date=born)))
    by_proxy = {"birthdate": born.isoformat(), "act": {"sub": "9990000026"}}
    async with whole.signed_in(**by_proxy):
        pass
    await whole.release.look(DUE_AT)
    assert (await whole.release.report(report_id)).state is ReleaseState.HELD
    version_id = (await whole.release.situation(report_id)).lifecycle.current
    assert version_id is not None
    acts, reviewed = whole.release.acts, version_id.version_id
    await whole.release.store.write(lambda tx: acts.review(tx, CLINICIAN, report_id, reviewed, "read, nothing in it"))
    await whole.release.look()
    path = f"/reports/{await whole.key(report_id)}"
    await whole.release.on(last)
    async with whole.signed_in(**by_proxy) as browser:
        assert "No fracture." in (await browser.get(path)).text
        await whole.release.clock.advance(1)
        assert (await browser.get(path)).status == 404
        assert "There are no reports to show." in (await browser.get("/reports")).text
    reads = await whole.audit("report-read")
    assert [(each["form"], each["by"], each["actor"]) for each in reads] == [
        ("list", "proxy", "9990000026"),
        ("html", "proxy", "9990000026"),
    ]
    assert [each["refusal"] for each in await whole.audit("report-refused")] == ["proxy", "proxy"]


async def test_what_a_proxy_signed_in_for_is_no_account_of_the_childs_own_at_13(whole: Whole) -> None:
    born = date(2013, 6, 20)
    whole.release.demographics.sarah(birth_date=born)
    report = verified()
    report_id = await whole.release.file(replace(report, subject=replace(report.subject, birth_date=born)))
    async with whole.signed_in(birthdate=born.isoformat(), act={"sub": "9990000026"}):
        pass
    await whole.release.look(DUE_AT)
    assert (await whole.release.report(report_id)).state is ReleaseState.DUE
    async with whole.signed_in(birthdate=born.isoformat()) as browser:
        assert (await whole.release.report(report_id)).state is ReleaseState.RELEASED
        assert "No fracture." in (await browser.get(f"/reports/{await whole.key(report_id)}")).text


async def test_access_is_paused_under_every_number_that_is_the_patients(whole: Whole) -> None:
    async with whole.signed_in():
        pass
    await whole.release.file(verified())
    await whole.release.look(DUE_AT)
    successor = NhsNumber("9990000026")

    def supersede(tx: Tx) -> None:
        former = patients.find(tx, patients.nhs(NhsNumber("9990000018")))
        assert former is not None
        row = patients.ensure(tx, patients.nhs(successor), RECORDS, source="pds")
        merges.merge(tx, former, row, MergeBasis.PDS_SUPERSESSION, RECORDS)

    await whole.release.store.write(supersede)
    subject = replace(verified().subject, nhs_number=successor, local=())
    later = await whole.release.file(verified(DUE_AT, report_number="R-2", subject=subject), "m-2")
    acts, shown = whole.release.acts, []
    for is_paused in (True, False):
        paused = partial(acts.pause_access, staff=CLINICIAN, report_id=later, reason="concern", is_paused=is_paused)
        await whole.release.store.write(paused)
        async with whole.signed_in() as browser:
            shown.append("Available since" in (await browser.get("/reports")).text)
    assert shown == [False, True]
