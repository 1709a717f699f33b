"""The story of five reports: one due in a minute, one held, one corrected, one withdrawn, one without an account.

Eastvale's reporting system sends them as they were verified four weeks ago, patients look by the page, staff act by
`gateway release`; each chapter judges what they can see.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.demo.callers.answer import ChapterFailed, expect
from gateway.demo.cast import ANNE, BEN, CLARA, FAITH, GRACE, IVY, Patient
from gateway.demo.region import Region
from gateway.demo.reports.browser import Browser
from gateway.demo.reports.ris import Report
from policy.release.clock import embargo_end
from policy.release.terms import Calendar, EmbargoStep

DISCLAIMER: Final = (
    "This report has been sent to the referring clinician (doctor or other healthcare professional) who referred you "
    "for this investigation. If you have any questions, please discuss with your referring clinician."
)
EMBARGO: Final = timedelta(days=28)
DUE_IN: Final = timedelta(seconds=15)
SHOWN_WITHIN_S: Final = 120.0
"""Due reports are looked for every half a minute; a machine that does other things as well takes its time."""
_LOOK_S: Final = 0.5


async def send_some(region: Region) -> None:
    """Have something to look at: Anne's report has waited its four weeks, Ben's is due in a minute."""
    await _send(region, ANNE, "RIS-ANNE", "No fracture.\nLungs clear.", _verified(-timedelta(days=2)))
    await _send(region, BEN, "RIS-BEN", "A healed rib fracture.", _verified(timedelta(minutes=1)))


async def due_in_a_minute(region: Region) -> str:
    async with _signed_in(region, BEN) as browser:
        await _send(region, BEN, "RIS-BEN", "No fracture. Lungs clear.", _verified(DUE_IN))
        state = await _state(region, "RIS-BEN")
        expect(state == "embargoed", f"it is {state} before its time")
        expect(await browser.texts() == [], "something is shown before its time")
        text = await _shown(browser, "No fracture. Lungs clear.")
    expect(text.count(DISCLAIMER) == 1, f"the disclaimer stands there {text.count(DISCLAIMER)} times")
    return "Ben opted out of sharing, and has his own report on the minute, with the disclaimer once"


async def held(region: Region) -> str:
    async with _signed_in(region, CLARA) as browser:
        await _send(region, CLARA, "RIS-CLARA", "A small nodule.", _verified(DUE_IN))
        review = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
        why = ("--kind", "timing", "--review-on", review, "--reason", "clinic on Thursday")
        await region.must("release", "hold", _named("RIS-CLARA"), *why, "--by", "dr-oyelaran")
        await _passed(region)
        state = await _state(region, "RIS-CLARA")
        expect(state == "held", f"it is {state}")
        expect(await browser.texts() == [], "a report that is held is shown")
        explained = await region.must("release", "explain", _named("RIS-CLARA"))
        expect("timing" in explained and review in explained, "explain does not say why")
    return f"Clara's report waits for her clinic, and goes by itself on {review}; explain says so"


async def corrected(region: Region) -> str:
    async with _signed_in(region, IVY) as browser:
        await _send(region, IVY, "RIS-IVY", "Left-sided effusion.", _verified(-timedelta(days=2)))
        await _shown(browser, "Left-sided effusion.")
        await _send(region, IVY, "RIS-IVY", "Right-sided effusion.", datetime.now(UTC), status="C")
        await _gone(browser, "Left-sided effusion.")
        expect(not any("Right-sided" in text for text in await browser.texts()), "the correction is shown at once")
    return "Ivy's wrong report is gone at once; the right one has an embargo of its own"


async def withdrawn(region: Region) -> str:
    async with _signed_in(region, GRACE) as browser:
        await _send(region, GRACE, "RIS-GRACE", "Enlarged heart.", _verified(-timedelta(days=2)))
        await _shown(browser, "Enlarged heart.")
        await _send(region, GRACE, "RIS-GRACE", "Enlarged heart.", datetime.now(UTC), status="W")
        await _gone(browser, "Enlarged heart.")
        state = await _state(region, "RIS-GRACE")
        expect(state == "withdrawn", f"it is {state}")
    return "the report that was somebody else's is gone from Grace's page at once"


async def without_account(region: Region) -> str:
    await _send(region, FAITH, "RIS-FAITH", "Healed rib.", _verified(-timedelta(days=2)))
    await _until_state(region, "RIS-FAITH", "due")
    async with _signed_in(region, FAITH) as browser:
        await _shown(browser, "Healed rib.")
    return "Faith had no account: her report was kept due, and was there when she signed in"


Chapter = Callable[[Region], Awaitable[str]]
"""What a chapter says of itself at its end; raises `ChapterFailed` where it saw something else."""

CHAPTERS: Final[tuple[tuple[str, Chapter], ...]] = (
    ("report on its day", due_in_a_minute),
    ("report held", held),
    ("report corrected", corrected),
    ("report withdrawn", withdrawn),
    ("no account", without_account),
)


@asynccontextmanager
async def _signed_in(region: Region, patient: Patient) -> AsyncIterator[Browser]:
    async with Browser(region.people_url, region.authority) as browser:
        await browser.sign_in(patient)
        yield browser


def _verified(due_in: timedelta) -> datetime:
    """When a report was verified that is due so soon: an hour earlier where the clocks went back meanwhile."""
    due_at = (datetime.now(UTC) + due_in).replace(microsecond=0)
    late = embargo_end(due_at - EMBARGO, EmbargoStep(), Calendar()) - due_at
    return due_at - EMBARGO - late


def _named(number: str) -> str:
    return f"RZ2:{number}"


async def _send(
    region: Region, patient: Patient, number: str, text: str, verified_at: datetime, *, status: str = "F"
) -> None:
    await region.reporting_system.send(Report(patient, number, text, verified_at, status))


async def _state(region: Region, number: str) -> str:
    explained = json.loads(await region.must("release", "explain", _named(number), "--json"))
    return str(explained["report"]["state"])


async def _until_state(region: Region, number: str, state: str) -> None:
    async def is_there() -> bool:
        return await _state(region, number) == state

    await _until(is_there, f"it is not {state}")


async def _passed(region: Region) -> None:
    """Wait until the report that was due with the others has been looked at since."""
    await asyncio.sleep(DUE_IN.total_seconds())


async def _shown(browser: Browser, words: str) -> str:
    found: list[str] = []

    async def is_shown() -> bool:
        found[:] = [text for text in await browser.texts() if words in text]
        return bool(found)

    await _until(is_shown, "the report is not shown")
    return found[0]


async def _gone(browser: Browser, words: str) -> None:
    async def is_gone() -> bool:
        return not any(words in text for text in await browser.texts())

    await _until(is_gone, "the report is still shown")


async def _until(is_so: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    try:
        async with asyncio.timeout(SHOWN_WITHIN_S):
            while True:
                if await is_so():
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError as error:
        raise ChapterFailed(f"{otherwise} within {SHOWN_WITHIN_S:g} s") from error
