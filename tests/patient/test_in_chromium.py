"""The whole way in Chromium, with axe on every page, and with a provider of another hand as well as our own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # has no types
from playwright.async_api import BrowserContext, Page, async_playwright

from gateway.channels.rendering.disclaimer import DISCLAIMER
from gateway.channels.rendering.forms import render
from gateway.model.reporting.channels import Addressee, PatientReport, Section
from gateway.model.reporting.incoming import Practitioner
from gateway.model.reporting.reading import Choices
from gateway.node import SystemClock
from policy.parties import NhsNumber, TrustId
from tests.patient import foreign_provider
from tests.patient.memory_reading import CHEST, MemoryAudit, MemoryReading
from tests.patient.provider import ANNE
from tests.patient.rig import Rig, new_client_key, served

pytestmark = [pytest.mark.peer, pytest.mark.slow]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
LARGE_PX = 28
SMUGGLED = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\"> Clear lungs."
REPORT = PatientReport(
    report_id="r1",
    document_key=CHEST.key,
    trust=TrustId("RZ1"),
    trust_name="Northmoor",
    addressee=Addressee(NhsNumber("9990000018"), "Ashworth", "Anne", date(1980, 2, 1)),
    exam_name=CHEST.exam_name,
    exam_on=CHEST.exam_on,
    ordering_team=CHEST.ordering_team,
    contact=CHEST.contact,
    referrer=Practitioner(name="Dr Referrer"),
    sections=(Section("v1", False, datetime(2026, 10, 2, 9, tzinfo=UTC), "Dr Reporter", SMUGGLED),),
    released_at=CHEST.released_at,
)


@asynccontextmanager
async def chromium() -> AsyncIterator[BrowserContext]:
    """A browser without cookies, which takes the page's certificate."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield await browser.new_context(ignore_https_errors=True)
        finally:
            await browser.close()


async def violations(page: Page) -> list[str]:
    """What axe has against a page. Its script is put in by the debugger: the page's own policy lets none through."""
    found = await Axe().run(page, options=RULES)
    return [f"{page.url}: {each['id']}: {each['help']}" for each in found.response["violations"]]


def given() -> MemoryReading:
    reading = MemoryReading()
    rendering = render(REPORT)
    reading.give("9990000018", CHEST, rendering.html, rendering.text, rendering.pdf)
    taken_back = replace(CHEST, key="knee-1", exam_name="MRI of the knee", taken_back_words="It is being corrected.")
    reading.give("9990000018", taken_back, "")
    return reading


async def test_a_patient_goes_the_whole_way_and_every_page_is_accessible(rig: Rig) -> None:
    rig.reading.reports = given().reports
    found: list[str] = []
    async with chromium() as context:
        page = await context.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
        await page.goto(rig.url + "/reports")
        assert page.url.endswith("/sign-in")
        found += await violations(page)
        await page.get_by_role("link", name="Continue to NHS login").click()
        await page.wait_for_url("**/reports")
        found += await violations(page)
        await page.get_by_role("link", name="X-ray of the chest").click()
        text = await page.inner_text("body")
        assert text.count(DISCLAIMER) == 1 and "Clear lungs." in text and "<script>" in text
        assert await page.title() != "run"
        size = await page.evaluate("getComputedStyle(document.body).maxWidth")
        assert size not in ("", "none"), "the report's own style sheet is let through"
        found += await violations(page)
        await page.get_by_role("link", name="Back to your reports").click()
        await page.get_by_role("link", name="MRI of the knee").click()
        assert "It is being corrected." in await page.inner_text("main")
        found += await violations(page)
        await page.get_by_role("link", name="Back to your reports").click()
        await page.get_by_role("link", name="How reports reach you").click()
        found += await violations(page)
        await page.get_by_label("Do not show me new reports for now").check()
        await page.get_by_label("Large print").check()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("status").wait_for()
        found += await violations(page)
        await page.get_by_role("link", name="Back to your reports").click()
        size = await page.evaluate("parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)")
        assert size >= LARGE_PX
        found += await violations(page)
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("heading", name="You are signed out").wait_for()
        found += await violations(page)
        await page.go_back()
        assert "X-ray of the chest" not in await page.inner_text("body")
    assert found == [] and refused == []
    assert rig.reading.chosen == {"9990000018": Choices(not_now=True, large_print=True)}


async def test_who_is_not_proven_or_refused_is_told_accessibly(rig: Rig) -> None:
    found: list[str] = []
    for level in ("P5", ""):
        rig.provider.accounts["anne"] = {**ANNE, "identity_proofing_level": level, **({} if level else {"act": 1})}
        async with chromium() as context:
            page = await context.new_page()
            await page.goto(rig.url + "/sign-in/start")
            found += await violations(page)
            assert "report" not in (await page.inner_text("main")).replace("reports", "")
    assert found == []


async def test_a_page_can_be_used_by_keyboard_alone(rig: Rig) -> None:
    rig.reading.reports = given().reports
    async with chromium() as context:
        page = await context.new_page()
        await page.goto(rig.url + "/sign-in/start")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert page.url.endswith("#main"), "the first stop skips to the main part"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/reports/chest-1")


async def test_a_provider_of_another_hand_signs_a_patient_in(tmp_path: Path) -> None:
    new_client_key(tmp_path)
    reading, audit = given(), MemoryAudit()
    async with (
        foreign_provider.running(ANNE, tmp_path) as issuer,
        served(tmp_path, SystemClock(), issuer, reading, audit, algorithms=["RS256"]) as (url, _, _),
        chromium() as context,
    ):
        page = await context.new_page()
        await page.goto(url + "/sign-in")
        await page.get_by_role("link", name="Continue to NHS login").click()
        await page.get_by_role("button", name="anne-at-provider").first.click()
        await page.wait_for_url("**/reports")
        assert "X-ray of the chest" in await page.inner_text("main")
    assert reading.accounts == ["9990000018"] and audit.refusals == []


@pytest.mark.parametrize("width", [320, 1280])
async def test_no_page_has_to_be_moved_sideways(rig: Rig, width: int) -> None:
    """320 pixels are a small telephone, or a large screen at 400 per cent (WCAG 2.2 1.4.10)."""
    rig.reading.reports = given().reports
    long = replace(CHEST, key="long-1", exam_name="Hysterosalpingography" * 4, ordering_team="Gynäkologie" * 9)
    rig.reading.give("9990000018", long, render(replace(REPORT, exam_name=long.exam_name)).html)
    async with chromium() as context:
        page = await context.new_page()
        await page.set_viewport_size({"width": width, "height": 640})
        await page.goto(rig.url + "/sign-in/start")
        for path in ("/reports", "/choices", "/reports/chest-1", "/reports/long-1", "/reports/knee-1", "/reports/none"):
            await page.goto(rig.url + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
