"""What a trust sends by itself is kept under its patient's key, once, and only if it may be."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.model.errors import Conflicting, Denied, InvalidRequest, Unwanted
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.intake.reception import Reception
from policy.parties import TrustId
from policy.trusts import Roll, Stage, Standing, TrustStanding
from storage.registers.patients import nhs
from tests.clock import settle
from tests.retrieval.pushing import LITTLE, REF, send
from tests.retrieval.travels import CT, STUDY, Travels, encoded
from tests.sharing.rows import ANNE, BEN

SMALL, LARGE = 3_000, 300_000
"""Bytes of pixels: the larger is sealed while it still comes."""


async def come_to_rest(travels: Travels) -> None:
    """Let longer pass than a sending rests."""
    for _ in range(15):
        await travels.clock.advance(1)
        await travels.region.until_idle()
        await settle()


@pytest.mark.parametrize("pixels", [SMALL, LARGE])
async def test_what_is_sent_is_kept_as_it_came_and_recorded_when_it_is_at_rest(
    travels: Travels, reception: Reception, pixels: int
) -> None:
    body = encoded(REF, ANNE.digits, pixels=pixels)
    await send(reception, travels, body)
    [kept] = await travels.cache.instances(STUDY)
    async with travels.cache.open(kept) as pieces:
        assert b"".join([piece async for piece in pieces]) == body
    assert kept.is_sole_copy and kept.custodian == TrustId("RZ2")
    await reception.close()
    [outcome] = await travels.region.records("store-outcome")
    assert isinstance(outcome["body"], dict) and outcome["body"]["transfers"] == {"kept": 1}


async def test_sending_again_changes_nothing(travels: Travels, reception: Reception) -> None:
    body = encoded(REF, ANNE.digits)
    await send(reception, travels, body)
    await send(reception, travels, body)
    assert len(await travels.cache.instances(STUDY)) == 1
    assert len(await travels.region.records("store-attempt")) == 1


async def test_other_content_under_the_same_uid_is_refused_and_told(travels: Travels, reception: Reception) -> None:
    await send(reception, travels, encoded(REF, ANNE.digits))
    with pytest.raises(Conflicting):
        await send(reception, travels, encoded(REF, ANNE.digits, pixels=2000))
    assert [item.kind for item in await travels.region.quality()] == ["instance-content-differs"]
    assert not await travels.cache.instances(STUDY), "neither is handed out until it is put right"


async def test_another_header_of_the_same_content_is_a_version_and_the_custodians_wins(
    travels: Travels, reception: Reception
) -> None:
    await send(reception, travels, encoded(REF, ANNE.digits))
    corrected = encoded(REF, ANNE.digits, name="SMITH^ANN")
    await send(reception, travels, corrected)
    [kept] = await travels.cache.instances(STUDY)
    async with travels.cache.open(kept) as pieces:
        assert b"".join([piece async for piece in pieces]) == corrected
    assert await travels.region.quality() == []


async def test_an_instance_that_breaks_off_while_it_is_sealed_leaves_nothing(
    travels: Travels, reception: Reception
) -> None:
    body = encoded(REF, ANNE.digits, pixels=LARGE)
    for is_settled in (True, False):
        async with reception.of(travels.region.caller("RZ2")).take(CT, REF.sop_uid, LITTLE) as taking:
            taking.add(body[:200_000])
            if is_settled:
                await settle()
                taking.add(body[200_000:250_000])
    assert not await travels.cache.instances(STUDY)
    await send(reception, travels, body)
    assert len(await travels.cache.instances(STUDY)) == 1


@pytest.mark.parametrize("pixels", [SMALL, LARGE])
async def test_an_instance_that_is_not_the_announced_one_is_refused(
    travels: Travels, reception: Reception, pixels: int
) -> None:
    other = InstanceRef(STUDY, "1.2.3.1", "1.2.3.1.2", CT)
    with pytest.raises(InvalidRequest):
        await send(reception, travels, encoded(other, ANNE.digits, pixels=pixels))
    assert not await travels.cache.instances(STUDY)


async def test_an_instance_that_names_nobody_is_refused(travels: Travels, reception: Reception) -> None:
    with pytest.raises(InvalidRequest):
        await send(reception, travels, encoded(REF, ""))


@pytest.mark.parametrize("pixels", [SMALL, LARGE])
async def test_a_trust_that_was_not_signed_off_for_it_is_told(
    travels: Travels, reception: Reception, pixels: int
) -> None:
    standing = TrustStanding(TrustId("RZ2"), Standing.ENROLLED, Stage.RETRIEVE)
    travels.region.roll = Roll({standing.trust: standing})
    with pytest.raises(Denied, match="not signed off for sending"):
        await send(reception, travels, encoded(REF, ANNE.digits, pixels=pixels))


async def test_for_a_patient_whose_keys_are_closed_nothing_is_kept(travels: Travels, reception: Reception) -> None:
    row = await travels.region.store.patient_row(nhs(ANNE))
    await travels.cache.shred(row, travels.domain)
    with pytest.raises(Unwanted):
        await send(reception, travels, encoded(REF, ANNE.digits))
    await reception.close()
    [outcome] = await travels.region.records("store-outcome")
    assert isinstance(outcome["body"], dict) and outcome["body"]["transfers"] == {"not-accepted": 1}


async def test_a_sending_that_has_come_to_rest_is_recorded(travels: Travels, reception: Reception) -> None:
    await send(reception, travels, encoded(REF, ANNE.digits))
    await come_to_rest(travels)
    assert len(await travels.region.records("store-outcome")) == 1


@pytest.mark.parametrize("moves", [False, True])
async def test_an_instance_that_takes_longer_than_a_sendings_rest_is_recorded_as_kept(
    travels: Travels, reception: Reception, moves: bool
) -> None:
    body = encoded(REF, ANNE.digits, pixels=LARGE)
    async with reception.of(travels.region.caller("RZ2")).take(CT, REF.sop_uid, LITTLE) as taking:
        taking.add(body[:200_000])
        await settle()
        await taking.drain()
        if moves:
            await travels.region.opt_out(BEN)
        await come_to_rest(travels)
        assert await travels.region.records("store-outcome") == []
        taking.add(body[200_000:])
        await taking.keep()
    await come_to_rest(travels)
    [outcome] = await travels.region.records("store-outcome")
    assert isinstance(outcome["body"], dict) and outcome["body"]["transfers"] == {"kept": 1}


async def test_after_a_register_moved_the_next_instance_is_judged_anew_while_another_is_under_way(
    travels: Travels, reception: Reception
) -> None:
    body = encoded(REF, ANNE.digits, pixels=LARGE)
    other = InstanceRef(STUDY, "1.2.3.1", "1.2.3.1.2", CT)
    async with reception.of(travels.region.caller("RZ2")).take(CT, REF.sop_uid, LITTLE) as taking:
        taking.add(body)
        await settle()
        await taking.drain()
        await travels.region.opt_out(BEN)
        await come_to_rest(travels)
        await send(reception, travels, encoded(other, ANNE.digits), other)
        assert len(await travels.region.records("store-attempt")) == 2
        await taking.keep()
    await come_to_rest(travels)
    outcomes = await travels.region.records("store-outcome")
    assert [cast(dict[str, object], each["body"])["transfers"] for each in outcomes] == [{"kept": 1}, {"kept": 1}]


async def test_what_a_trust_sent_by_itself_can_be_had_where_its_archive_does_not_list_it(
    travels: Travels, reception: Reception
) -> None:
    body = encoded(REF, ANNE.digits)
    await send(reception, travels, body)
    await travels.region.refer(ANNE, to="RZ1")
    assert (await travels.brought())[0] == {REF.sop_uid: body}
    await travels.region.opt_out(ANNE)
    assert (await travels.brought())[0] == {}
