"""Images between trusts: they arrive as they are kept, from whoever has them, and nobody is told that all came if not.

Told over C-MOVE, C-GET and WADO-RS; of the archives, one is asked over DIMSE and the others over HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from pydicom.dataset import Dataset

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome
from gateway.demo.callers.received import Image
from gateway.demo.cast import EVE, StudyPlan
from gateway.demo.configuration import AE_TITLES, PACS_CALLER, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import HEARD_AGAIN_S, NOWHERE, told_in
from tests.stories.fetching import DOORS, ImageDoor, kept_at, opened
from tests.stories.test_changing_registers import opt_out_case

pytestmark = pytest.mark.asyncio(loop_scope="session")

OF_PATIENT = ("PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence")
"""What is written anew for the caller (SAF-34)."""
BEHIND_PATIENT = b"\x20\x00\x0d\x00UI"
"""The Study Instance UID, explicit little endian: from here on nothing is."""
FOR_IMAGES = {"wado", "c-get", "c-move"}
STEPS = ("acknowledge", "verify", "consider", "implement", "confirm")


@pytest_asyncio.fixture(loop_scope="session", params=DOORS)
async def door(region: Region, request: pytest.FixtureRequest) -> AsyncIterator[ImageDoor]:
    """A door to images; archives are honest again afterwards."""
    async with told_in(region), AsyncExitStack() as stack:
        yield await opened(region, request.param, stack)


@pytest_asyncio.fixture(loop_scope="session")
async def one_door(region: Region) -> AsyncIterator[ImageDoor]:
    """One of them, for what comes to pass behind all alike."""
    async with told_in(region), AsyncExitStack() as stack:
        yield await opened(region, DOORS[0], stack)


@pytest_asyncio.fixture(loop_scope="session")
async def cold(region: Region) -> None:
    """Nothing is in the cache."""
    await region.must("cache", "evict", "--all")


def assert_as_kept(received: Mapping[str, Image], kept: Mapping[str, Image]) -> None:
    """Every image is the archive's, bit for bit but for the patient's numbers."""
    assert received.keys() == kept.keys()
    for uid, image in received.items():
        assert image.transfer_syntax == kept[uid].transfer_syntax
        assert image.encoded.endswith(kept[uid].encoded[kept[uid].encoded.index(BEHIND_PATIENT) :])
        assert _without_numbers(image) == _without_numbers(kept[uid])


def _without_numbers(image: Image) -> Dataset:
    dataset = image.dataset
    for keyword in OF_PATIENT:
        if keyword in dataset:
            del dataset[keyword]
    return dataset


async def walk_case(region: Region, kind: str, nhs_number: str) -> None:
    """Receive a case and walk it to its end."""
    case = await opt_out_case(region, kind, nhs_number)
    steps = region.folder / f"{kind}-steps"
    steps.write_text("".join(f"{kind} {step} {case}\n" for step in STEPS), encoding="utf-8")
    await region.must("batch", str(steps))


async def asked_for_images(region: Region) -> list[str]:
    """The trusts whose archives were asked for images since they last forgot."""
    journals = {code: await archive.requests() for code, archive in region.archives.items()}
    return [code for code, journal in journals.items() if FOR_IMAGES & {str(request["door"]) for request in journal}]


async def forget(region: Region) -> None:
    for archive in region.archives.values():
        await archive.forget_requests()


@pytest.mark.parametrize(
    ("plan", "holder"),
    [(cast.ANNE_HEART_US, "RZ3"), (cast.ANNE_BODY_CT, "RZ2"), (cast.ANNE_HEAD_CT, "RZ2")],
    ids=lambda value: getattr(value, "name", value),
)
async def test_images_arrive_as_their_archive_keeps_them(
    door: ImageDoor, region: Region, plan: StudyPlan, holder: str
) -> None:
    for _ in ("cold", "warm"):
        received = await door.study(study_instance_uid(plan))
        assert received.outcome is Outcome.ANSWERED and received.is_whole
        assert_as_kept(received.images, kept_at(region, holder, plan))


async def test_a_series_or_an_image_arrives_alone(door: ImageDoor, region: Region) -> None:
    kept = kept_at(region, "RZ3", cast.ANNE_HEART_US)
    study_uid, (uid, image) = study_instance_uid(cast.ANNE_HEART_US), next(iter(kept.items()))
    series_uid = str(image.dataset.SeriesInstanceUID)
    alone = {uid: image}
    assert_as_kept((await door.instance(study_uid, series_uid, uid)).images, alone)
    assert_as_kept((await door.series(study_uid, series_uid)).images, alone)


async def test_what_may_not_be_had_is_like_what_does_not_exist(door: ImageDoor, region: Region) -> None:
    await forget(region)
    hidden = [cast.BEN_BODY_CT, cast.CLARA_BRAIN_MR, cast.IVY_PELVIS_US, cast.ANNE_LIVER_MR]
    answers = [await door.study(study_instance_uid(plan)) for plan in hidden]
    nowhere = await door.study(NOWHERE)
    assert nowhere.outcome is Outcome.ANSWERED and not nowhere.images
    assert [answer.comparable == nowhere.comparable for answer in answers] == [True] * len(hidden)
    assert await asked_for_images(region) == []


@pytest.mark.usefixtures("cold")
async def test_what_is_in_the_cache_is_not_fetched_again(door: ImageDoor, region: Region) -> None:
    await forget(region)
    first = await door.study(study_instance_uid(cast.ANNE_HEART_US))
    assert await asked_for_images(region)
    await forget(region)
    assert (await door.study(study_instance_uid(cast.ANNE_HEART_US))).images == first.images
    assert await asked_for_images(region) == []


async def test_an_opt_out_takes_away_what_is_in_the_cache(one_door: ImageDoor, region: Region) -> None:
    study_uid = study_instance_uid(cast.EVE_HEAD_CT)
    before = await one_door.study(study_uid)
    assert before.images and before.is_whole
    await walk_case(region, "optout", EVE.nhs_number)
    assert (await one_door.study(study_uid)).comparable == (await one_door.study(NOWHERE)).comparable
    await walk_case(region, "optin", EVE.nhs_number)
    async with asyncio.timeout(HEARD_AGAIN_S):  # the gateway follows the register within a second
        while (await one_door.study(study_uid)).images != before.images:
            pass


@pytest.mark.parametrize("lie", ["fewer-images", "cut-image", "wrong-patient-inside", "wrong-uids-inside"])
@pytest.mark.parametrize("liar", ["RZ2", "RZ3"])
@pytest.mark.usefixtures("cold")
async def test_what_one_holder_does_not_send_comes_from_the_other(
    one_door: ImageDoor, region: Region, liar: str, lie: str
) -> None:
    await region.archives[liar].behave(lies=[lie])
    received = await one_door.study(study_instance_uid(cast.ANNE_HEAD_CT))
    kept = kept_at(region, liar, cast.ANNE_HEAD_CT)
    assert received.is_whole and received.images.keys() == kept.keys()
    # Both copies have the same pixels; whose the rest is, is another question.
    for uid, image in received.images.items():
        assert image.dataset.PixelData == kept[uid].dataset.PixelData


@pytest.mark.parametrize("lie", ["fewer-images", "wrong-patient-inside"])
@pytest.mark.parametrize(
    ("plan", "holder"),
    [(cast.DAVID_NECK_X_RAY, "RZ3"), (cast.GRACE_BODY_CT, "RZ2")],
    ids=lambda value: getattr(value, "name", value),
)
async def test_what_nobody_sends_is_never_called_whole(
    door: ImageDoor, region: Region, plan: StudyPlan, holder: str, lie: str
) -> None:
    await region.archives[holder].behave(lies=[lie])
    received = await door.study(study_instance_uid(plan))
    kept = kept_at(region, holder, plan)
    assert not received.is_whole and received.images.keys() < kept.keys()
    assert_as_kept(received.images, {uid: kept[uid] for uid in received.images})


@pytest.mark.parametrize(("plan", "holder"), [(cast.ANNE_HEART_US, "RZ3"), (cast.ANNE_BODY_CT, "RZ2")])
@pytest.mark.usefixtures("cold")
async def test_an_image_that_nobody_asked_for_goes_no_further(
    one_door: ImageDoor, region: Region, plan: StudyPlan, holder: str
) -> None:
    await region.archives[holder].behave(lies=["extra-image"])
    received = await one_door.study(study_instance_uid(plan))
    assert received.is_whole
    assert_as_kept(received.images, kept_at(region, holder, plan))


async def test_a_holder_that_is_down_is_named(door: ImageDoor, region: Region) -> None:
    await region.archives["RZ3"].behave(dead="closed")
    # Nobody listed it lately: what a trust said stands for a minute.
    nothing = await door.study(study_instance_uid(cast.KATE_KNEE_MR))
    assert not nothing.images and "RZ3" in nothing.told


@pytest.mark.usefixtures("cold")
async def test_what_one_holder_is_too_dead_to_send_comes_from_the_other(one_door: ImageDoor, region: Region) -> None:
    await region.archives["RZ3"].behave(dead="closed")
    received = await one_door.study(study_instance_uid(cast.ANNE_HEAD_CT))
    assert_as_kept(received.images, kept_at(region, "RZ2", cast.ANNE_HEAD_CT))


async def test_what_lies_on_the_disk_is_sealed(one_door: ImageDoor, region: Region) -> None:
    received = await one_door.study(study_instance_uid(cast.ANNE_HEART_US))
    files = [path for path in (region.folder / "data" / "cache").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert len(content) > sum(len(image.encoded) for image in received.images.values())
    for image in received.images.values():
        pixels = image.dataset.PixelData
        assert pixels[len(pixels) // 2 :][:32] not in content
    for canary in (b"WHITFIELD", cast.ANNE.nhs_number.encode(), study_instance_uid(cast.ANNE_HEART_US).encode()):
        assert canary not in content


async def test_a_destination_of_others_is_refused_and_an_unknown_one_is_said_to_be(region: Region) -> None:
    keys = {"StudyInstanceUID": study_instance_uid(cast.ANNE_HEART_US)}
    async with region.workstation(VIEWER) as workstation:
        with workstation.receiving(region.receiving_port) as shelf:
            others = await workstation.move(AE_TITLES[PACS_CALLER], shelf, **keys)
            unknown = await workstation.move("STRANGER", shelf, **keys)
    assert (others.status, others.outcome, others.images) == (0x0124, Outcome.DENIED, {})
    assert (unknown.status, unknown.images) == (0xA801, {})
    refused = json.loads(await region.must("audit", "show", "--event", "retrieve-refused", "--json"))
    said = [record["said"]["body"] for record in refused]
    assert {(each["destination"], each["is_known"]) for each in said} == {
        (AE_TITLES[PACS_CALLER], True),
        ("STRANGER", False),
    }
