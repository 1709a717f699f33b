"""The disk of images is full, or what guards their keys is gone: told at every door, nothing lost, all well behind it.

In the real gateway, by STOW-RS and C-STORE, WADO-RS, C-GET and C-MOVE. A full disk is a write that fails as one would
(`gateway.model.faults`); that a real small disk does the same below the doors, `test_cache_kill` shows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome
from gateway.demo.callers.received import Received
from gateway.demo.callers.viewer import Viewer, WebImages
from gateway.demo.cast import StudyPlan
from gateway.demo.configuration import PACS_CALLER, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.faults.test_image_road import Pushed, begin, ended, fetched, is_kept, made, open_on_disk, push
from tests.forked import Forks
from tests.peers.vault import TOKEN, running_vault
from tests.stories.fetching import DOORS, kept_at, opened
from tests.stories.test_real_files import CT, associated, entity
from tests.stories.test_retrieving import assert_as_kept

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

WARM, COLD, HOLDER = cast.ANNE_HEART_US, cast.DAVID_NECK_X_RAY, "RZ3"
OUT_OF_RESOURCES, NOT_CHECKED = 0xA700, "sharing not checked"
WELL_AGAIN_S = 60.0
"""A hang guard: keys are looked for every ten seconds."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A region, what it says without what guards its keys, and how that is taken away and given back."""

    region: Region
    words: str
    take_away: Callable[[], object]
    give_back: Callable[[], object]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    async with Region(tmp_path_factory.mktemp("outage"), start=forks.start) as running:
        await running.stop_gateway()
        yield running


@pytest_asyncio.fixture(loop_scope="module", params=["file", "vault"])
async def guarded(tmp_path: Path, forks: Forks, request: pytest.FixtureRequest) -> AsyncIterator[Guarded]:
    """A region whose keys a key file guards, or Vault. One of its own: nobody else has what was pushed into another."""
    with running_vault(tmp_path / "vault.json") as (vault, url):
        async with Region(tmp_path / "region", start=forks.start) as region:
            await region.stop_gateway()
            if request.param == "vault":
                keep_keys_in_vault(region, url)
                seal = partial(setattr, vault, "is_sealed")
                yield Guarded(region, "Vault", partial(seal, True), partial(seal, False))
            else:
                key_file = region.folder / "var" / "keys" / "master-keys.json"
                away = key_file.with_suffix(".away")
                words = "the key file cannot be read"
                yield Guarded(region, words, partial(key_file.rename, away), partial(away.rename, key_file))


def keep_keys_in_vault(region: Region, url: str) -> None:
    """From its next start on: a key store of its own, guarded by Vault."""
    token = region.folder / "vault-token"
    token.write_text(TOKEN + "\n", encoding="utf-8")
    token.chmod(0o600)
    with region.configuration.open("a", encoding="utf-8") as lines:
        lines.write(f'[keys]\nurl = "sqlite:///{region.folder}/data/keys-of-vault.db"\nwrapper = "vault"\n')
        lines.write(f'[keys.vault]\nurl = "{url}"\ntoken_file = "{token}"\nkey = "gateway-keys"\n')


async def study(region: Region, door: str, plan: StudyPlan) -> Received:
    """A study, by one of the doors."""
    async with AsyncExitStack() as stack:
        return await (await opened(region, door, stack)).study(study_instance_uid(plan))


async def stowed(region: Region, pushed: Pushed) -> tuple[int, bytes]:
    """Push an image by STOW-RS: the status, and what is said beside it."""
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        status, answer = await viewer.store(pushed.image.file)
    return status, json.dumps(answer).encode()


def stored(region: Region, pushed: Pushed) -> tuple[int, str]:
    """Push an image by C-STORE: the status and its comment."""
    ae = entity(PACS_CALLER)
    ae.add_requested_context(CT, pushed.image.transfer_syntax)
    with associated(region, ae, PACS_CALLER) as association:
        answer = association.send_c_store(pushed.image.dataset)
    return int(answer.Status), str(answer.get("ErrorComment", ""))


async def images_told(region: Region) -> tuple[bool, str]:
    """What `gateway status` says of images: whether they can be had, and why not."""
    images = json.loads((await region.command("status", "--json")).output)["gateway"]["images"]
    return images["ready"], images["reason"]


async def is_nowhere(region: Region, pushed: Pushed) -> bool:
    """Whether nothing of an image is kept: it is like what does not exist."""
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        return (await viewer.retrieve(f"studies/{pushed.study_uid}")).status == 404


async def assert_all_is_well(region: Region, *pushed: Pushed) -> None:
    """What was refused is taken when it is sent again, and comes back; so do the studies of the archive."""
    for each in pushed:
        assert await push(region, each)
        assert is_kept(each, await fetched(region, f"studies/{each.study_uid}"))
    for door in DOORS:
        for plan in (WARM, COLD):
            received = await study(region, door, plan)
            assert received.is_whole, (door, received.told)
            assert_as_kept(received.images, kept_at(region, HOLDER, plan))


async def test_a_full_disk_takes_in_nothing_and_gives_what_it_keeps(region: Region, tmp_path: Path) -> None:
    begins = tmp_path / "begins"
    await region.start_gateway({"GATEWAY_FAULTS": "objects.write.before=raise", "GATEWAY_FAULTS_FROM": str(begins)})
    assert (await study(region, "wado", WARM)).is_whole
    begin(begins, is_begun=True)
    by_stow, by_store = made(), made()
    status, answer = await stowed(region, by_stow)
    assert status == 507 and b'"00081197": {"vr": "US", "Value": [42752]}' in answer and b"00081199" not in answer
    assert await asyncio.to_thread(stored, region, by_store) == (OUT_OF_RESOURCES, "no room to keep this")
    assert await is_nowhere(region, by_stow) and await is_nowhere(region, by_store)
    for door in DOORS:
        received = await study(region, door, WARM)
        assert received.is_whole and received.images.keys() == kept_at(region, HOLDER, WARM).keys()
        received = await study(region, door, COLD)
        assert not received.is_whole and received.images == {}
        # Over HTTP it is the gateway's own fault, and no archive's.
        assert received.status == 503 if isinstance(received, WebImages) else "could" in received.told
    assert "study cache disk failed" in (region.folder / "gateway.log").read_text(encoding="utf-8")
    begin(begins, is_begun=False)
    await assert_all_is_well(region, by_stow, by_store)
    await ended(region)


async def test_without_what_guards_the_keys_no_image_comes_or_goes_and_all_is_told(guarded: Guarded) -> None:
    region, words = guarded.region, guarded.words
    await region.start_gateway()
    assert (await study(region, "wado", WARM)).is_whole
    await ended(region)
    guarded.take_away()
    await region.start_gateway()
    is_ready, reason = await images_told(region)
    assert not is_ready and words in reason
    refused = made()
    status, answer = await stowed(region, refused)
    assert status == 503 and NOT_CHECKED.encode() in answer
    assert await asyncio.to_thread(stored, region, refused) == (OUT_OF_RESOURCES, NOT_CHECKED)
    for door in DOORS:
        for plan in (WARM, COLD):
            received = await study(region, door, plan)
            assert (received.outcome, received.told, received.images) == (Outcome.FAULT, NOT_CHECKED, {})
    assert words in (await region.command("keys", "status")).output
    # Questions need no keys.
    async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
        assert study_instance_uid(WARM) in (await viewer.studies(PatientID=WARM.patient.nhs_number)).studies
    assert await asyncio.to_thread(open_on_disk, region, refused.image) == []
    guarded.give_back()
    async with asyncio.timeout(WELL_AGAIN_S):
        while not (await images_told(region))[0]:
            pass
    await assert_all_is_well(region, refused)
    await ended(region)
