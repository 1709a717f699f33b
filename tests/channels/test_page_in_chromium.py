"""The report's page in a browser: accessible as axe judges it, in both sizes, and under its own security policy."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.async_api import async_playwright

from gateway.channels.rendering.html import content_security_policy, html_page
from gateway.channels.rendering.sheet import sheet_of
from tests.channels.reports import REPORT

pytestmark = [pytest.mark.peer, pytest.mark.slow]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
SMUGGLED = "Clear.\n<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"


@asynccontextmanager
async def served(page: str) -> AsyncIterator[str]:
    """The page at an address, with its policy."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Security-Policy": content_security_policy()}
        return web.Response(text=page, content_type="text/html", headers=headers)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("large_print", [False, True])
async def test_the_page_is_accessible_and_runs_nothing(large_print: bool) -> None:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    section = replace(REPORT.sections[0], text=SMUGGLED + "w" * 200)
    report = replace(
        REPORT, sections=(section, replace(section, is_addendum=True)), note="Added to.", footnote="Words."
    )
    async with served(html_page(sheet_of(report), large_print=large_print)) as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 320, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        await page.goto(url)
        size = await page.evaluate("parseFloat(getComputedStyle(document.querySelector('.clinical-text')).fontSize)")
        sideways = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        found = await Axe().run(page, options=RULES)
        title = await page.title()
        await browser.close()
    assert [each["id"] for each in found.response["violations"]] == []
    assert title == "Your report: X-ray of the chest"
    assert size >= (28 if large_print else 19)
    assert sideways <= 0
    assert [each for each in complaints if "style" in each] == []
