"""What callers of one gateway see of the trusts behind another one, and that no question runs in circles (DEC-01)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.demo.callers.answer import Answer
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import ANNE, ANNE_BODY_CT, ANNE_HEAD_CT, ANNE_NECK_X_RAY, BEN, FAITH, Patient
from gateway.demo.images import study_instance_uid
from tests.federation.two_gateways import EASTVALE, ROUNDEL, SOUTHBRIDGE, WHIRLOW, TwoGateways, running
from tests.forked import Forks

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANNES_AT_EASTVALE = {study_instance_uid(study) for study in (ANNE_HEAD_CT, ANNE_BODY_CT)}
ASKED = f"/studies?PatientID={ANNE.nhs_number}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateways(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[TwoGateways]:
    """Both gateways."""
    async with running(tmp_path_factory.mktemp("two-gateways"), forks.start) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module", params=["qido", "c-find"])
async def door(gateways: TwoGateways, request: pytest.FixtureRequest) -> AsyncIterator[Viewer | Workstation]:
    """Northmoor's system at West, by either protocol."""
    async with AsyncExitStack() as stack:
        opened = gateways.viewer("west") if request.param == "qido" else gateways.workstation("west")
        yield await stack.enter_async_context(opened)


async def of(door: Viewer | Workstation, patient: Patient) -> Answer:
    """The patient's studies, as this door shows them."""
    return await door.studies(PatientID=patient.nhs_number)


def said_of(answer: Answer, trust: str) -> str:
    """What the answer says of this trust."""
    return " ".join(notice for notice in answer.notices if trust in notice)


async def until_left_alone(door: Viewer | Workstation, trust: str) -> None:
    """Ask until a trust that is down is told as such in the way in which it is told from then on."""
    for _ in range(20):
        if "failed repeatedly" in said_of(await of(door, FAITH), trust):
            return
    raise AssertionError(f"{trust} is still asked")


# --- what is shown ---


async def test_studies_behind_the_other_gateway_are_found_and_its_missing_archive_is_named(
    gateways: TwoGateways, door: Viewer | Workstation
) -> None:
    answer = await of(door, ANNE)
    assert answer.studies == ANNES_AT_EASTVALE
    assert {SOUTHBRIDGE, ROUNDEL, WHIRLOW} <= answer.missing and EASTVALE not in answer.missing
    assert "01632 960003" in said_of(answer, SOUTHBRIDGE)


async def test_they_are_found_in_the_other_direction_too(gateways: TwoGateways) -> None:
    async with gateways.viewer("east") as viewer:
        answer = await of(viewer, ANNE)
    assert answer.studies == {study_instance_uid(ANNE_NECK_X_RAY)}


async def test_what_the_other_gateways_agreement_leaves_out_is_told_here(
    gateways: TwoGateways, door: Viewer | Workstation
) -> None:
    for patient in (ANNE, BEN, FAITH):
        assert "only CR CT US" in " ".join((await of(door, patient)).notices)


async def test_who_opted_out_there_looks_here_like_somebody_without_imaging(
    gateways: TwoGateways, door: Viewer | Workstation
) -> None:
    await until_left_alone(door, SOUTHBRIDGE)
    gateways.archives["east"].reset()
    withheld = await of(door, BEN)
    assert not any(BEN.nhs_number in str(request) for request in gateways.archives["east"].requests())
    absent = await of(door, FAITH)
    assert withheld.outcome == absent.outcome and withheld.rows == absent.rows == type(absent.rows)()
    assert withheld.notices == absent.notices


async def test_both_audits_bear_the_same_request(gateways: TwoGateways) -> None:
    async with gateways.viewer("west") as viewer:
        await viewer.studies(PatientID=ANNE.nhs_number)
    requests = {name: await attempts(gateways, name) for name in ("west", "east")}
    [west, *_] = [request for request in requests["west"] if "/" not in request]
    there = [request for request in requests["east"] if request.startswith(f"{west}/")]
    assert len(there) in (2, 3), "for Eastvale, for Roundel, and for Southbridge unless that is left alone by now"


async def attempts(gateways: TwoGateways, name: str) -> list[str]:
    """The ids under which questions about a patient stand in this gateway's audit, latest first."""
    shown = (await gateways.nodes[name].run("audit", "show", "--limit", "1000", "--json")).json
    assert isinstance(shown, list)
    found = [str(record["said"]["request"]) for record in shown if record["said"]["event"] == "query-attempt"]
    return [request for request in reversed(found) if not request.startswith("probe-")]


# --- circles ---


async def test_a_question_in_circles_reaches_each_archive_once(
    gateways: TwoGateways, door: Viewer | Workstation
) -> None:
    for archive in gateways.archives.values():
        archive.reset()
    await of(door, ANNE)
    about = {
        name: [request for request in archive.requests() if ANNE.nhs_number in str(request)]
        for name, archive in gateways.archives.items()
    }
    assert len(about["east"]) == 1
    assert about["west"] == [], "the caller's own trust is asked by nobody"


async def test_a_trust_that_each_takes_to_be_behind_the_other_refuses_in_words(
    gateways: TwoGateways, door: Viewer | Workstation
) -> None:
    said = said_of(await of(door, ANNE), ROUNDEL)
    assert "refused to answer" in said and "01632 960004" in said


async def test_a_gateway_that_is_asked_by_c_find_refuses_and_echoes(
    gateways: TwoGateways, door: Viewer | Workstation
) -> None:
    assert "refused to answer" in said_of(await of(door, ANNE), WHIRLOW)
    line = await gateways.serving["east"].logged("find of another gateway refused", caller="dimse")
    assert line["level"] == "warning"


async def test_a_question_that_came_from_a_gateway_is_answered_for_own_trusts_alone(gateways: TwoGateways) -> None:
    shown = gateways.doors["west"].own
    status, body = await gateways.ask("east", shown, ASKED, Gateway_Asking_Trust="RZ1")
    assert status == 200 and all(uid in body for uid in ANNES_AT_EASTVALE)
    status, body = await gateways.ask("east", shown, f"/trust/{ROUNDEL}{ASKED}", Gateway_Asking_Trust="RZ1")
    assert status == 502 and "refused" in body


@pytest.mark.parametrize("hops", ["2", "99"])
async def test_a_question_that_passed_two_gateways_is_refused(gateways: TwoGateways, hops: str) -> None:
    shown = gateways.doors["west"].own
    status, body = await gateways.ask("east", shown, ASKED, Gateway_Asking_Trust="RZ1", Gateway_Hops=hops)
    assert status == 400 and "passed another gateway" in body


# --- who may ask for whom ---


async def test_a_gateway_that_does_not_say_for_whom_it_asks_is_told_to(gateways: TwoGateways) -> None:
    status, body = await gateways.ask("east", gateways.doors["west"].own, ASKED)
    assert status == 400 and "for which of its trusts" in body


@pytest.mark.parametrize("trust", ["RZ2", "RZ3", "XYZ", "rz1", "RZ1,RZ3", "'"])
async def test_a_gateway_speaks_for_no_trust_but_its_own(gateways: TwoGateways, trust: str) -> None:
    status, _ = await gateways.ask("east", gateways.doors["west"].own, ASKED, Gateway_Asking_Trust=trust)
    assert status == 401


async def test_nobody_but_a_gateway_speaks_for_another_trust(gateways: TwoGateways) -> None:
    status, _ = await gateways.ask("west", gateways.callers["west"], ASKED, Gateway_Asking_Trust="RZ2")
    assert status == 401
