"""A viewer asks for a study image by image: it is decided once for a few seconds, and each disclosure is on record."""

from __future__ import annotations

import asyncio
from typing import NotRequired, TypedDict, cast

import orjson

from gateway.model.imaging import Level
from gateway.model.work.retrievals import Counts, RetrieveWish
from gateway.model.work.transfers import Standing
from policy.parties import Caller, PurposeOfUse
from tests.retrieval.travels import STUDY, Travels, content, uids, whole
from tests.sharing.rows import ANNE

SERIES = f"{STUDY}.1"
SOPS = ("1.2.3.1", "1.2.3.2", "1.2.3.3")


class Requests(TypedDict):
    """What the outcome says of those who shared a passage."""

    count: int
    ids: list[str]


class Transfers(TypedDict):
    """What the outcome says of a retrieval."""

    retrieval: str
    halted: str
    studies: list[dict[str, object]]
    requests: NotRequired[Requests]


def one(sop: str) -> RetrieveWish:
    """One image."""
    return RetrieveWish(Level.IMAGE, study_uids=(STUDY,), series_uids=(SERIES,), sop_uids=(sop,))


async def attempts(travels: Travels) -> int:
    """How often the guard was passed for images."""
    return len(await travels.region.records("retrieve-attempt"))


async def outcomes(travels: Travels) -> list[Transfers]:
    """What was recorded of retrievals that are over."""
    records = await travels.region.records("retrieve-outcome")
    return [cast(Transfers, cast(dict[str, object], record["body"])["transfers"]) for record in records]


async def test_image_by_image_is_one_passage_from_the_second_on(travels: Travels) -> None:
    held = uids(travels.hold("RZ2", *SOPS))
    await travels.region.refer(ANNE, to="RZ1")
    for sop in (*SOPS, *SOPS):
        got, delivery = await travels.brought(one(sop))
        assert got == {sop: held[sop]}
        assert delivery.counts == Counts(remaining=0, completed=1, failed=0, warning=0)
    assert await attempts(travels) == 2
    await travels.road.close()
    alone, shared = await outcomes(travels)
    assert "requests" not in alone
    assert shared["requests"]["count"] == len(shared["requests"]["ids"]) == 5
    assert shared["studies"] == [{"study": STUDY, "source": "RZ2", "sent": 3}]
    shown = await travels.ledger.show(shared["retrieval"])
    assert shown.counts == Counts(remaining=0, completed=3, failed=0, warning=0)
    assert sorted(each.frozen.ref.sop_uid for each in shown.instances) == sorted(SOPS)


async def test_only_what_was_asked_is_in_the_set_and_it_is_there_before_the_first_byte(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought(one("1.2.3.1"))
    async with travels.retrieval(one("1.2.3.1")), travels.retrieval(one("1.2.3.3")) as delivery:
        (shown,) = [await travels.ledger.show(delivery.retrieval_id) async for _ in delivery]
        assert [each.frozen.ref.sop_uid for each in shown.instances] == ["1.2.3.1", "1.2.3.3"]
        assert shown.counts == Counts(remaining=2, completed=0, failed=0, warning=0)


async def test_an_opt_out_holds_for_the_next_image(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    for sop in SOPS:
        assert (await travels.brought(one(sop)))[0]
    # Nobody has noticed yet that a register moved: it is looked at for each request.
    await travels.region.opt_out(ANNE)
    got, delivery = await travels.brought(one("1.2.3.1"))
    assert got == {} and not delivery.refs


async def test_a_decision_is_made_anew_however_busy_the_viewer_is(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    for _ in range(8):
        await travels.brought(one("1.2.3.1"))
        await travels.clock.advance(3)
    # Alone, then from second 3 to 13, then from second 15.
    assert await attempts(travels) == 3


async def test_a_viewer_that_rests_is_on_record_as_soon_as_it_does(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought(one("1.2.3.1"))
    await travels.brought(one("1.2.3.2"))
    assert len(await outcomes(travels)) == 1
    await travels.clock.advance(travels.region.limits.retrieve_rest_s)
    # The ledger is closed before the outcome is appended.
    await asyncio.wait_for(travels.road.rested(), 30)
    assert [each.get("requests", {"count": 0})["count"] for each in await outcomes(travels)] == [0, 1]


async def test_nobody_rides_on_somebody_else_s_passage(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    callers: list[str | Caller] = ["RZ1", travels.region.caller("RZ1", purpose=PurposeOfUse.ETREAT), "RZ4"]
    for _ in range(2):
        for caller in callers:
            got, _delivery = await travels.brought(one("1.2.3.1"), by=caller)
            assert bool(got) is (caller != "RZ4")
    assert await attempts(travels) == 6


async def test_what_the_study_does_not_have_is_absent_as_ever(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    for _ in range(2):
        assert (await travels.brought(one("1.2.3.1")))[0]
    got, delivery = await travels.brought(one("1.2.3.99"))
    assert got == {} and not delivery.refs and delivery.sources


async def test_what_is_withdrawn_meanwhile_is_looked_at_anew(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    await travels.brought(one("1.2.3.1"))
    assert await attempts(travels) == 2
    kept = await travels.cache.instance(STUDY, "1.2.3.2")
    assert kept is not None
    await travels.cache.stand(kept, Standing.QUARANTINED, "its archive rejected it")
    await travels.brought(one("1.2.3.2"))
    assert await attempts(travels) == 3, "somebody has to say again that it may be had"


async def test_what_failed_once_and_was_delivered_then_is_delivered(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought(one("1.2.3.1"))
    async with travels.retrieval(one("1.2.3.2")) as delivery:
        async for item in delivery:
            delivery.failed(item, "the reader is gone")
    async with travels.retrieval(one("1.2.3.3")) as never:
        pass
    assert [failure.words for failure in delivery.failures] == ["the reader is gone"]
    await travels.brought(one("1.2.3.2"))
    await travels.road.close()
    shown = await travels.ledger.show(never.retrieval_id)
    assert {each.frozen.ref.sop_uid: each.state.value for each in shown.instances} == {
        "1.2.3.2": "sent",
        "1.2.3.3": "failed",
    }


async def test_the_whole_study_rides_too_and_images_asked_for_together_share(travels: Travels) -> None:
    held = uids(travels.hold("RZ2", *SOPS))
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought(one("1.2.3.1"))

    async def had(wish: RetrieveWish) -> dict[str, bytes]:
        got: dict[str, bytes] = {}
        async with travels.retrieval(wish) as delivery:
            async for item in delivery:
                got[item.ref.sop_uid] = await content(item)
                delivery.sent(item)
        return got

    several = await asyncio.gather(had(whole(STUDY)), *(had(one(sop)) for sop in SOPS))
    assert several == [held, *({sop: held[sop]} for sop in SOPS)]
    assert await attempts(travels) == 2


async def test_a_region_may_have_each_request_stand_alone(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    travels.each_alone()
    for sop in SOPS:
        assert (await travels.brought(one(sop)))[0]
    assert await attempts(travels) == len(await outcomes(travels)) == 3


async def descriptions(travels: Travels, by: str = "RZ1") -> dict[str, str]:
    """The Patient ID that each instance of the study says, as it is described to a caller."""
    found = {}
    async with travels.retrieval(whole(STUDY), by=by) as delivery:
        async for written in delivery.described():
            found[written.ref.sop_uid] = orjson.loads(written.json)["00100020"]["Value"][0]
            delivery.sent(written)
    assert delivery.counts == Counts(remaining=0, completed=len(found), failed=0, warning=0)
    return found


async def test_a_study_is_described_alike_alone_at_first_sight_and_again(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    for _ in range(4):
        assert await descriptions(travels) == dict.fromkeys(SOPS, ANNE.digits)


async def test_a_damaged_image_is_fetched_again_to_be_described(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    for pack in travels.packs.glob("*/*.pack"):  # a few small files of the test's own
        pack.write_bytes(b"\0" * pack.stat().st_size)
    assert await descriptions(travels) == dict.fromkeys(SOPS, ANNE.digits)
    assert len(travels.region.trust("RZ2").pacs.fetches) > 1


async def test_what_is_remembered_of_a_study_is_not_given_to_whom_it_is_closed(travels: Travels) -> None:
    travels.hold("RZ2", *SOPS)
    await travels.region.refer(ANNE, to="RZ1")
    for _ in range(3):
        await descriptions(travels)
    await travels.region.opt_out(ANNE)
    assert await descriptions(travels) == {}
