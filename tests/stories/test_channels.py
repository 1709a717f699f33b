"""A running gateway delivers by each kind of channel: to an app, a portal and a folder, and takes back what it gave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from joserfc.jwk import RSAKey

from gateway.demo.cast import EVE, FAITH, GRACE, HENRY, IVY, KATE, Patient
from gateway.demo.region import Region
from gateway.demo.reports.ris import Report
from policy.release.clock import embargo_end
from policy.release.terms import Calendar, EmbargoStep
from tests.forked import Forks
from tests.gateway.certificates import Authority
from tests.stories.portals import Folder, Stub, by_fhir, by_hl7

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

EMBARGO = timedelta(days=28)
DUE_IN = timedelta(seconds=15)
ALL = {"app", "portal", "letters"}
LATE = -timedelta(days=2)
WITHIN_S = 150.0
"""A hang guard: what is due is looked for, and what failed is tried again, every half a minute."""
TIMEOUT_S = 120
"""Of the gateway's patience with a portal: longer than a story that waits for the others."""


@dataclass
class World:
    """A region, and the portals of its reporting trust."""

    region: Region
    app: Stub
    portal: Stub
    letters: Folder

    def where(self, words: str) -> set[str]:
        """The places where a patient reads these words."""
        places: dict[str, Stub | Folder] = {"app": self.app, "portal": self.portal, "letters": self.letters}
        return {name for name, place in places.items() if any(words in text for text in place.shown().values())}

    async def send(
        self, patient: Patient, number: str, text: str, due_in: timedelta = LATE, *, status: str = "F"
    ) -> None:
        """The reporting system sends a version; one that is not final for the first time was verified just now."""
        verified_at = verified(due_in) if status == "F" else datetime.now(UTC)
        await self.region.reporting_system.send(Report(patient, number, text, verified_at, status))

    async def explained(self, number: str) -> dict[str, Any]:
        """What `gateway release explain` says."""
        found: dict[str, Any] = json.loads(await self.region.must("release", "explain", f"RZ2:{number}", "--json"))
        return found

    async def at(self, number: str) -> Mapping[str, str]:
        """Where the newest document of a report is at each channel."""
        return {each["channel"]: each["state"] for each in (await self.explained(number))["deliveries"]}

    async def board(self) -> dict[str, Any]:
        """What `gateway release board` says."""
        found: dict[str, Any] = json.loads(await self.region.must("release", "board", "--json"))
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[World]:
    """A region whose reporting trust releases by a portal of each kind, all of them running."""
    folder = tmp_path_factory.mktemp("portals")
    authority, key = Authority(folder), RSAKey.generate_key(2048)
    (folder / "client.pem").write_bytes(key.as_pem(private=True))
    (folder / "client.pem").chmod(0o600)
    (folder / "client.pub").write_bytes(key.as_pem(private=False))
    letters = Folder(folder / "letters")
    letters.path.mkdir()
    (folder / "recipient.pub").write_bytes(letters.key.as_pem(private=False))
    app, portal = (
        Stub(folder, name, authority, folder / "client.pub", reads)
        for name, reads in (("app", by_fhir), ("portal", by_hl7))
    )
    async with Region(tmp_path_factory.mktemp("channels"), start=forks.start, with_reports=True) as region:
        await region.stop_gateway()
        ours = authority.issue("gateway")
        secure = (
            f'client_certificate = "{ours.certificate}"\nclient_private_key = "{ours.private_key}"\n'
            f'ca = "{authority.certificate}"\ntimeout_s = {TIMEOUT_S}\n'
        )
        url = f"https://127.0.0.1:{app.port}"
        text = region.configuration.read_text().replace('channels = ["patient-page"]', f"channels = {sorted(ALL)}")
        text += f'[[channel]]\nname = "app"\nkind = "fhir"\nurl = "{url}/fhir"\n{secure}'
        text += f'token_url = "{url}/token"\nclient_id = "gateway"\nclient_key = "{folder}/client.pem"\n'
        text += f'[[channel]]\nname = "portal"\nkind = "hl7"\naddress = "127.0.0.1:{portal.port}"\n{secure}'
        text += f'[[channel]]\nname = "letters"\nkind = "folder"\nfolder = "{letters.path}"\n'
        text += f'recipient_key = "{folder}/recipient.pub"\n'
        region.configuration.write_text(text)
        app.start()
        portal.start()
        try:
            await region.start_gateway()
            yield World(region, app, portal, letters)
        finally:
            app.stop()
            portal.stop()


@pytest.fixture(autouse=True)
def all_work(world: World) -> Iterator[None]:
    """Have every portal work again after each story."""
    yield
    for portal in (world.app, world.portal):
        if portal.behaviour != "works":
            portal.start()


async def test_a_report_goes_to_every_channel_at_its_time_and_is_told_of_once(world: World) -> None:
    due_at = datetime.now(UTC) + DUE_IN
    await world.send(IVY, "CH-1", "A healed fracture.", DUE_IN)
    assert (await world.explained("CH-1"))["report"]["state"] == "embargoed"
    while datetime.now(UTC) < due_at - timedelta(seconds=1):
        assert not world.where("A healed fracture.") and not world.app.told()
        await asyncio.sleep(0.5)
    await until(lambda: world.where("A healed fracture.") == ALL)
    await settled(world, "CH-1", dict.fromkeys(ALL, "confirmed"))
    [key] = {each["document_key"] for each in (await world.explained("CH-1"))["deliveries"]}
    assert world.app.told() == [key]


async def test_a_correction_takes_the_old_version_back_everywhere_and_goes_once_it_may(world: World) -> None:
    await world.send(GRACE, "CH-2", "A left-sided effusion.")
    await until(lambda: world.where("A left-sided effusion.") == ALL)
    await settled(world, "CH-2", {"app": "confirmed", "portal": "confirmed"})
    await world.send(GRACE, "CH-2", "A right-sided effusion.", status="C")
    await until(lambda: not world.where("A left-sided effusion."))
    assert world.where("This report is being corrected.") == ALL
    assert not world.where("A right-sided effusion.")
    version = next(each["version_id"] for each in (await world.explained("CH-2"))["versions"] if each["is_current"])
    why = ("--reason", "seen in clinic", "--by", "dr-oyelaran")
    await world.region.must("release", "early", "RZ2:CH-2", "--version", version, *why)
    await until(lambda: world.where("A right-sided effusion.") == ALL)
    assert not world.where("A left-sided effusion.")


async def test_a_withdrawn_report_is_gone_everywhere(world: World) -> None:
    await world.send(KATE, "CH-3", "An enlarged heart.")
    await until(lambda: world.where("An enlarged heart.") == ALL)
    await settled(world, "CH-3", {"app": "confirmed", "portal": "confirmed"})
    await world.send(KATE, "CH-3", "An enlarged heart.", status="W")
    await until(lambda: not world.where("An enlarged heart."))
    await settled(world, "CH-3", {"app": "withdrawn", "portal": "withdrawn"})


async def test_a_portal_that_is_down_is_tried_again_and_delays_no_other(world: World) -> None:
    world.portal.stop()
    await world.send(FAITH, "CH-4", "A clear chest.")
    await until(lambda: world.where("A clear chest.") == ALL - {"portal"})
    await settled(world, "CH-4", {"app": "confirmed", "portal": "waiting"})
    board = await world.board()
    assert board["retried"] >= 1 and board["undeliverable"] == 0
    world.portal.start()
    await until(lambda: world.where("A clear chest.") == ALL)
    await settled(world, "CH-4", {"app": "confirmed", "portal": "confirmed"})


async def test_a_portal_that_hangs_delays_no_other(world: World) -> None:
    world.app.start("hangs")
    await world.send(HENRY, "CH-5", "A small nodule.")
    await until(lambda: world.where("A small nodule.") >= {"portal", "letters"})
    world.app.start()
    await settled(world, "CH-5", {"app": "confirmed", "portal": "confirmed"})
    assert len(world.app.told()) == len(set(world.app.told()))


async def test_what_a_portal_refuses_is_a_persons_work(world: World) -> None:
    world.portal.start("refuses")
    await world.send(EVE, "CH-6", "A broken wrist.")
    await settled(world, "CH-6", {"app": "confirmed", "portal": "refused"})
    assert (await world.board())["undeliverable"] == 1
    [line] = json.loads(await world.region.must("release", "undeliverable", "--json"))
    assert (line["channel"], line["what"]) == ("portal", "refused")
    world.portal.start()
    what = ("RZ2:CH-6", "--channel", "portal", "--document", line["document"], "--not-there")
    await world.region.must("release", "settle", *what, "--reason", "mended at the portal", "--by", "desk")
    await settled(world, "CH-6", {"app": "confirmed", "portal": "confirmed"})
    assert (await world.board())["undeliverable"] == 0


async def settled(world: World, number: str, states: Mapping[str, str]) -> None:
    """Wait until a report's newest documents are so at these channels; what lies in the folder is taken meanwhile."""

    async def is_so() -> bool:
        world.letters.shown()
        return states.items() <= (await world.at(number)).items()

    await awaited(is_so)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so."""

    async def look() -> bool:
        return is_so()

    await awaited(look)


async def awaited(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if await is_so():
                return
            await asyncio.sleep(0.2)  # these are processes of their own: nothing here hears of it


def verified(due_in: timedelta) -> datetime:
    """When a report was verified that is due so soon: an hour earlier where the clocks went back meanwhile."""
    due_at = (datetime.now(UTC) + due_in).replace(microsecond=0)
    late = embargo_end(due_at - EMBARGO, EmbargoStep(), Calendar()) - due_at
    return due_at - EMBARGO - late
