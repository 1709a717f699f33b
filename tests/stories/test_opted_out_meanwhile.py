"""An opt-out that is entered by the command line while a transfer runs stops it before the next image (DEC-12, SAF-36).

The workstation holds back its answer to the first image until the case is implemented and the gateway, another process
than the command, follows it. What it had taken by then is listed; of the rest it learns no more than that it failed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pynetdicom import evt

from gateway.demo import cast
from gateway.demo.callers.retriever import Retrieved, Shelf, get, roles_for_get
from gateway.demo.callers.viewer import Viewer
from gateway.demo.configuration import AE_TITLES, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import told_in
from tests.stories.fetching import kept_at
from tests.stories.test_real_files import associated, entity, naming
from tests.stories.test_retrieving import assert_as_kept, walk_case

pytestmark = pytest.mark.asyncio(loop_scope="session")

STUDY, HOLDER = cast.ANNE_HEAD_CT, "RZ2"
NUMBER = STUDY.patient.nhs_number
UNDER_WAY_MAX = 2
"""A destination gets so many at a time, each on an association of its own."""
HANG_S = 60.0
SOME_FAILED = 0xB000


class HoldingBack:
    """Answers the first images only when it is told to."""

    def __init__(self) -> None:
        self.shelf = Shelf(refuses=self._hold_back)
        self.has_come, self.may_answer = threading.Event(), threading.Event()

    def _hold_back(self, _uid: str) -> int:
        self.has_come.set()
        assert self.may_answer.wait(HANG_S)
        return 0


@pytest_asyncio.fixture(loop_scope="session")
async def restored(region: Region) -> AsyncIterator[None]:
    """Anne shares again afterwards, and her images open again."""
    yield
    await walk_case(region, "optin", NUMBER)
    await until_had(region, is_had=True)


async def until_had(region: Region, *, is_had: bool) -> None:
    """Wait until the gateway follows what the command line said: in lists, decisions and keys."""
    async with (
        Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer,
        asyncio.timeout(HANG_S),
    ):
        while True:
            received = await viewer.retrieve(f"studies/{study_instance_uid(STUDY)}")
            if (received.status == 200 and received.is_whole) if is_had else received.status == 404:
                return


def gotten(region: Region, shelf: Shelf) -> Retrieved:
    """The study by C-GET, onto this shelf."""
    ae = entity(VIEWER)
    roles = roles_for_get(ae)
    with associated(region, ae, VIEWER, roles, [(evt.EVT_C_STORE, shelf.take)]) as association:
        return get(association, naming(study_instance_uid(STUDY)), shelf)


async def moved(region: Region, shelf: Shelf) -> Retrieved:
    """The study by C-MOVE, onto this shelf."""
    async with region.workstation(VIEWER) as workstation:
        with workstation.receiving(region.receiving_port) as taking:
            taking.refuses = shelf.refuses
            return await workstation.move(AE_TITLES[VIEWER], taking, StudyInstanceUID=study_instance_uid(STUDY))


@pytest.mark.parametrize("by", ["c-get", "c-move"])
@pytest.mark.usefixtures("restored")
async def test_an_opt_out_by_the_command_line_stops_a_transfer_before_its_next_image(region: Region, by: str) -> None:
    kept, holding_back = kept_at(region, HOLDER, STUDY), HoldingBack()
    async with told_in(region):
        shelf = holding_back.shelf
        fetching = asyncio.to_thread(gotten, region, shelf) if by == "c-get" else moved(region, shelf)
        transfer = asyncio.create_task(fetching)
        assert await asyncio.to_thread(holding_back.has_come.wait, HANG_S)
        await walk_case(region, "optout", NUMBER)
        await until_had(region, is_had=False)
        holding_back.may_answer.set()
        ended = await transfer
    assert 1 <= len(ended.images) <= UNDER_WAY_MAX < len(kept)
    assert_as_kept(ended.images, {uid: kept[uid] for uid in ended.images})
    assert (ended.status, ended.comment) == (SOME_FAILED, "not all images could be sent")
    assert {*ended.failed_uids} == kept.keys() - ended.images.keys()
    [newest, *_] = json.loads(await region.must("retrieve", "list", "--json"))
    shown = json.loads(await region.must("retrieve", "show", newest["retrieval"], "--json"))
    assert (shown["stopped"], shown["sent"]) == ("policy", len(ended.images))
    assert {each["instance"] for each in shown["delivered"]} == ended.images.keys()
