"""One archive of the mixed region fails, each in its own way: it is named, and what the others hold is all there."""

from __future__ import annotations

import asyncio

import pytest

from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association
from dimse.upper_layer.messages import Message
from dimse.upper_layer.wire import Ended
from gateway.demo.callers.answer import Answer, Outcome
from gateway.demo.callers.workstation import FindAnswer
from gateway.demo.cast import ANNE, EASTVALE, SOUTHBRIDGE, Trust
from gateway.demo.configuration import CLINICIAN, PACS_CALLER
from tests.federation.filing import HARBOURSIDE, OAKFIELD, WESTHAVEN, found, scripted_row
from tests.federation.mixed import FIND_TIMEOUT_S, PHONES, MixedRegion
from tests.peers.dimse_archive import Archive
from tests.peers.faults import Fault, Plan, always
from tests.stories.conftest import Door

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]

HANG_S = 60.0
KINDS = {
    "simulated by C-FIND": EASTVALE,
    "simulated by QIDO": SOUTHBRIDGE,
    "DCMTK": WESTHAVEN,
    "Orthanc": OAKFIELD,
}
FOREIGN = {kind: KINDS[kind] for kind in ("DCMTK", "Orthanc")}

each_kind = pytest.mark.parametrize("failing", KINDS.values(), ids=KINDS)
each_foreign = pytest.mark.parametrize("failing", FOREIGN.values(), ids=FOREIGN)


def named_alone(answer: Answer, *failing: Trust) -> None:
    """These trusts are named with their desks, and nothing of the others is missing."""
    assert answer.outcome is Outcome.ANSWERED
    assert answer.missing == {trust.ods_code for trust in failing}
    assert answer.studies == found(ANNE, *failing)
    for trust in failing:
        assert any(trust.ods_code in text and PHONES[trust.ods_code] in text for text in answer.notices)


async def heard_again(door: Door) -> Answer:
    """Ask until nobody is missing; whatever is answered meanwhile is true."""
    async with asyncio.timeout(HANG_S):
        while (answer := await door.studies(PatientID=ANNE.nhs_number)).missing:
            assert answer.studies <= found(ANNE)
    return answer


@each_kind
async def test_an_archive_that_is_down_is_named_and_heard_again_when_it_is_back(
    door: Door, mixed: MixedRegion, failing: Trust
) -> None:
    async with mixed.proxies[failing.ods_code].down():
        named_alone(await door.studies(PatientID=ANNE.nhs_number), failing)
    answer = await heard_again(door)
    assert answer.studies == found(ANNE)
    assert len(answer.rows) == len(found(ANNE))


async def test_two_archives_that_are_down_are_both_named(door: Door, mixed: MixedRegion) -> None:
    async with mixed.proxies[WESTHAVEN.ods_code].down(), mixed.proxies[OAKFIELD.ods_code].down():
        named_alone(await door.studies(PatientID=ANNE.nhs_number), WESTHAVEN, OAKFIELD)


@pytest.mark.parametrize("failing", [EASTVALE, OAKFIELD], ids=["C-FIND over TLS", "QIDO"])
async def test_an_archive_that_takes_no_connection_is_given_up(door: Door, mixed: MixedRegion, failing: Trust) -> None:
    async with mixed.proxies[failing.ods_code].deaf():
        named_alone(await door.studies(PatientID=ANNE.nhs_number), failing)


@pytest.mark.parametrize(
    "reject",
    [pdu.LOCAL_LIMIT_EXCEEDED, pdu.CALLING_AE_TITLE_NOT_RECOGNISED],
    ids=["for now", "for good"],
)
async def test_an_archive_that_refuses_after_some_associations_is_named_from_then_on(
    door: Door, mixed: MixedRegion, reject: pdu.AssociateReject
) -> None:
    archive, way = mixed.scripted, mixed.proxies[HARBOURSIDE.ods_code]
    await way.hang_up()
    archive.associations_max, archive.reject = len(archive.associations) + 2, reject
    answers = []
    for _ in range(5):  # a probe may use up associations of its own
        answers.append(await door.studies(PatientID=ANNE.nhs_number))
        await way.hang_up()
    assert not answers[0].missing
    named_alone(answers[-1], HARBOURSIDE)
    assert all(answer.missing or answer.studies == found(ANNE) for answer in answers)
    archive.reject = None
    assert (await heard_again(door)).studies == found(ANNE)


@each_foreign
async def test_an_archive_that_ends_every_connection_after_the_second_is_named_from_then_on(
    door: Door, mixed: MixedRegion, failing: Trust
) -> None:
    way = mixed.proxies[failing.ods_code]
    await way.behave(lambda connection, _: Plan(Fault.RESET) if connection >= 2 else Plan())
    answers = []
    for _ in range(3):
        answers.append(await door.studies(PatientID=ANNE.nhs_number))
        await way.hang_up()
    named_alone(answers[-1], failing)
    await way.behave()
    assert (await heard_again(door)).studies == found(ANNE)


@each_foreign
@pytest.mark.parametrize(
    "plan",
    [
        Plan(Fault.CUT, 500),
        Plan(Fault.HALF_CLOSE, 500),
        Plan(Fault.STALL, 500, lasts_s=FIND_TIMEOUT_S * 2),
        Plan(Fault.GARBLE, 150, bytes_hit=60),
    ],
    ids=lambda plan: str(plan.fault),
)
async def test_an_archive_that_breaks_off_in_mid_answer_is_named_and_nothing_of_it_is_shown(
    door: Door, mixed: MixedRegion, failing: Trust, plan: Plan
) -> None:
    way = mixed.proxies[failing.ods_code]
    await way.behave(always(answering=plan))
    named_alone(await door.studies(PatientID=ANNE.nhs_number), failing)
    assert way.met[plan.fault]


@each_foreign
async def test_an_answer_that_comes_byte_by_byte_is_an_answer(door: Door, mixed: MixedRegion, failing: Trust) -> None:
    await mixed.proxies[failing.ods_code].behave(always(answering=Plan(Fault.TRICKLE, bytes_hit=300)))
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.studies == found(ANNE)
    assert not answer.missing


@each_foreign
async def test_rows_that_come_after_the_deadline_change_nothing_and_harm_nothing(
    door: Door, mixed: MixedRegion, failing: Trust
) -> None:
    way = mixed.proxies[failing.ods_code]
    # So that they come while the given-up question is still being put an end to.
    await way.behave(always(answering=Plan(Fault.DELAY, 400, lasts_s=FIND_TIMEOUT_S + 0.3)))
    named_alone(await door.studies(PatientID=ANNE.nhs_number), failing)
    async with asyncio.timeout(HANG_S):
        await way.is_past.wait()
    await way.behave()
    answer = await heard_again(door)
    assert answer.studies == found(ANNE)
    assert len(answer.rows) == len(found(ANNE))


async def rows_for_ever(archive: Archive, association: Association, message: Message) -> None:
    """Send the same row as long as the association lasts, deaf to C-CANCEL."""
    while True:
        await archive.give(association, message, scripted_row())
        await asyncio.sleep(0.001)  # leaves the loop to the proxies


async def test_an_archive_that_sends_for_ever_and_ignores_cancel_loses_its_association(
    door: Door, mixed: MixedRegion
) -> None:
    archive = mixed.scripted
    before = len(archive.associations)
    await mixed.proxies[HARBOURSIDE.ods_code].hang_up()
    archive.script = rows_for_ever
    named_alone(await door.studies(PatientID=ANNE.nhs_number), HARBOURSIDE)
    async with asyncio.timeout(HANG_S):
        end = await archive.associations[before].over()
    assert end.why is Ended.ABORTED_BY_PEER
    archive.script = None
    assert (await heard_again(door)).studies == found(ANNE)


async def test_missing_archives_are_told_as_each_caller_chose(mixed: MixedRegion) -> None:
    async with (
        mixed.workstation(PACS_CALLER) as pacs,
        mixed.workstation(CLINICIAN) as clinician,
        mixed.proxies[WESTHAVEN.ods_code].down(),
    ):
        failure: FindAnswer = await pacs.studies(PatientID=ANNE.nhs_number)
        comment: FindAnswer = await clinician.studies(PatientID=ANNE.nhs_number)
    assert (failure.status, comment.status) == (0xC000, 0x0000)
    assert comment.studies == found(ANNE, WESTHAVEN)
    assert failure.studies >= found(ANNE, WESTHAVEN, SOUTHBRIDGE)
    for answer in (failure, comment):
        assert answer.missing == {WESTHAVEN.ods_code}
        assert PHONES[WESTHAVEN.ods_code] in answer.comment
        assert not answer.marks
