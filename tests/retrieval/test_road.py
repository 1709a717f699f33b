"""The road as callers meet it: what they may have arrives, bit for bit, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.model.errors import Denied, GatewayError, PeerError, StoreUnavailable
from gateway.model.imaging import Level
from gateway.model.seams import SENT_OTHERWISE
from gateway.model.work.retrievals import Counts, Halt, RetrieveWish
from gateway.model.work.transfers import CachedInstance, InstanceRef
from gateway.sharing.retrieval import delivery as deliveries
from policy.parties import TrustId
from policy.trusts import Downtime, Roll
from storage.registers.agreements import Clause
from tests.memory_archive import Image
from tests.retrieval.travels import CT, STUDY, Travels, content, encoded, image_row, uids, whole
from tests.sharing.rows import ANNE, BEN


async def test_a_study_is_brought_bit_for_bit_and_every_count_adds_up(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    await travels.region.refer(ANNE, to="RZ1")
    got: dict[str, bytes] = {}
    async with travels.retrieval() as delivery:
        assert delivery.counts == Counts(remaining=3, completed=0, failed=0, warning=0)
        async for item in delivery:
            got[item.ref.sop_uid] = await content(item)
            assert item.data_bytes == len(got[item.ref.sop_uid])
            delivery.sent(item)
            assert delivery.counts.total == 3
        assert delivery.counts == Counts(remaining=0, completed=3, failed=0, warning=0)
    assert got == uids(held)


async def test_what_is_kept_is_not_fetched_again_and_is_decided_on_again(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    assert (await travels.brought())[0] == uids(held)
    assert (await travels.brought())[0] == uids(held)
    assert len(travels.region.trust("RZ2").pacs.fetches) == 1
    refused, delivery = await travels.brought(by="RZ4")
    assert refused == {} and delivery.counts.total == 0


async def test_nobody_without_a_part_in_the_care_has_any_of_it(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    got, delivery = await travels.brought(by="RZ1")
    assert got == {} and not delivery.refs
    assert not travels.region.trust("RZ2").pacs.fetches
    with pytest.raises(Denied):
        await travels.brought(RetrieveWish(Level.STUDY, patient=ANNE, study_uids=(STUDY,)))


async def test_an_opted_out_patients_study_is_as_one_that_does_not_exist(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    assert len((await travels.brought())[0]) == 1
    await travels.region.opt_out(ANNE)
    got, delivery = await travels.brought()
    absent, none = await travels.brought(whole("1.2.99"))
    assert got == absent == {} and delivery.refs == none.refs == ()
    assert [source.state for source in delivery.sources] == [source.state for source in none.sources]


async def test_a_series_and_an_instance_are_had_alone(travels: Travels) -> None:
    first = travels.hold("RZ2", "1.2.3.1", "1.2.3.2", series="1.2.3.10")
    second = travels.hold("RZ2", "1.2.3.3", series="1.2.3.20")
    await travels.region.refer(ANNE, to="RZ1")
    series = RetrieveWish(Level.SERIES, study_uids=(STUDY,), series_uids=("1.2.3.20",))
    assert (await travels.brought(series))[0] == uids(second)
    one = RetrieveWish(Level.IMAGE, study_uids=(STUDY,), series_uids=("1.2.3.10",), sop_uids=("1.2.3.2",))
    assert (await travels.brought(one))[0] == uids(first[1:])
    asked = travels.region.trust("RZ2").pacs.fetches
    assert asked[0].target.level is Level.SERIES and not asked[0].refs
    assert [ref.sop_uid for ref in asked[1].refs] == ["1.2.3.2"]


async def test_a_patient_is_had_as_the_studies_that_may_be_had(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1") + travels.hold("RZ3", "1.2.4.1", study="1.2.4")
    travels.hold("RZ3", "1.2.5.1", study="1.2.5", patient=BEN)
    await travels.region.refer(ANNE, to="RZ1")
    assert (await travels.brought(RetrieveWish(Level.PATIENT, patient=ANNE)))[0] == uids(held)


async def test_two_who_want_a_cold_study_share_one_fetch_and_have_two_decisions(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    travels.region.trust("RZ4")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.region.refer(ANNE, to="RZ4")
    going = asyncio.Event()

    async def pace(_ref: InstanceRef) -> None:
        await going.wait()

    travels.region.trust("RZ2").pacs.pace = pace
    async with travels.retrieval(by="RZ1") as first, travels.retrieval(by="RZ4") as second:
        going.set()
        for delivery in (first, second):
            got = {}
            async for item in delivery:
                got[item.ref.sop_uid] = await content(item)
                delivery.sent(item)
            assert got == uids(held)
    assert len(travels.region.trust("RZ2").pacs.fetches) == 1
    assert len(await travels.region.records("retrieve-outcome")) == 2


async def test_a_study_that_grows_while_it_travels_ends_as_it_was_and_the_next_time_brings_the_rest(
    travels: Travels,
) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    pacs = travels.region.trust("RZ2").pacs
    grown: list[Image] = []

    async def grow(_ref: InstanceRef) -> None:
        if not grown:
            grown.extend(travels.hold("RZ2", "1.2.3.3"))

    pacs.pace = grow
    got, delivery = await travels.brought()
    assert grown and got == uids(held)
    assert delivery.counts == Counts(remaining=0, completed=2, failed=0, warning=0)
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    got, delivery = await travels.brought()
    assert got == uids(held + grown) and delivery.counts.completed == 3
    assert [[ref.sop_uid for ref in fetch.refs] for fetch in pacs.fetches[1:]] == [["1.2.3.3"]]


async def test_what_one_holder_breaks_off_comes_from_another(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    travels.hold("RZ3", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    await travels.region.refer(ANNE, to="RZ1")
    travels.region.trust("RZ2").pacs.sends_at_most = 1
    got, delivery = await travels.brought()
    assert got == uids(held) and delivery.counts.completed == 3
    assert [ref.sop_uid for ref in travels.region.trust("RZ3").pacs.fetches[0].refs] == ["1.2.3.2", "1.2.3.3"]


async def test_what_nobody_sends_has_failed_and_is_named(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    del travels.region.trust("RZ2").pacs.images["1.2.3.2"]
    await travels.region.refer(ANNE, to="RZ1")
    got, delivery = await travels.brought()
    assert got == uids(held[:1])
    assert delivery.counts == Counts(remaining=0, completed=1, failed=1, warning=0)
    assert [(failure.ref.sop_uid, failure.words) for failure in delivery.failures] == [
        ("1.2.3.2", "the archive did not send it")
    ]
    [item] = await travels.region.quality()
    assert (item.kind, item.custodian.code, item.detail) == (SENT_OTHERWISE, "RZ2", {"missing": 1, "unasked": 0})


@pytest.mark.parametrize("inside", ["9990000026", "MRN-7"])
async def test_an_image_of_somebody_else_under_an_awaited_uid_is_not_kept(travels: Travels, inside: str) -> None:
    travels.hold("RZ2", "1.2.3.1", inside=inside)
    await travels.region.refer(ANNE, to="RZ1")
    got, delivery = await travels.brought()
    assert got == {} and delivery.counts.failed == 1
    assert not await travels.cache.instances(STUDY)
    assert len(travels.region.trust("RZ2").pacs.refused) == 1


async def test_extra_instances_are_refused_and_not_kept(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1")
    pacs = travels.region.trust("RZ2").pacs
    ref = InstanceRef("1.2.9", "1.2.9.1", "1.2.9.1.1", CT)
    image = type(held[0])(ref, encoded(ref, BEN.digits), is_extra=True)
    pacs.images[ref.sop_uid] = image
    await travels.region.refer(ANNE, to="RZ1")
    assert (await travels.brought())[0] == uids(held)
    assert not await travels.cache.instances("1.2.9") and len(pacs.refused) == 1
    [item] = await travels.region.quality()
    assert (item.kind, item.detail) == (SENT_OTHERWISE, {"missing": 0, "unasked": 1})


async def test_an_opt_out_between_two_instances_stops_the_rest_and_says_what_went(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    await travels.region.refer(ANNE, to="RZ1")
    got = []
    async with travels.retrieval() as delivery:
        async for item in delivery:
            got.append(item.ref.sop_uid)
            delivery.sent(item)
            await travels.region.opt_out(ANNE)
            travels.version += 1
    assert len(got) == 1 and delivery.halted is Halt.POLICY
    assert delivery.counts == Counts(remaining=0, completed=1, failed=2, warning=0)
    [outcome] = await travels.region.records("retrieve-outcome")
    body = outcome["body"]
    assert isinstance(body, dict)
    transfers = body["transfers"]
    assert isinstance(transfers, dict) and transfers["halted"] == "policy"
    assert transfers["studies"] == [{"study": STUDY, "source": "RZ2", "failed": 2, "sent": 1}]


async def test_a_number_that_leads_to_somebody_else_between_two_instances_stops_the_rest(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2", patient="R2-77")
    travels.region.trust("RZ2").filing_under("RZ2-PAS")
    await travels.region.refer(ANNE, to="RZ1")
    local = await travels.region.link(ANNE, "RZ2-PAS", "R2-77", source="RZ2")
    got = []
    async with travels.retrieval() as delivery:
        async for item in delivery:
            got.append(item.ref.sop_uid)
            delivery.sent(item)
            await travels.region.unlink(local)
            travels.version += 1
    assert len(got) == 1 and delivery.halted is Halt.POLICY and delivery.counts.failed == 1
    [outcome] = await travels.region.records("retrieve-outcome")
    assert "no longer taken for this patient" in str(outcome)


async def test_care_that_ends_does_not_stop_what_began_in_it(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    relationship = await travels.region.refer(ANNE, to="RZ1")
    got = {}
    async with travels.retrieval() as delivery:
        async for item in delivery:
            got[item.ref.sop_uid] = await content(item)
            delivery.sent(item)
            if len(got) == 1:
                await travels.region.end(relationship)
                travels.version += 1
    assert got == uids(held)
    assert (await travels.brought())[0] == {}


async def test_an_agreement_that_shrinks_stops_what_it_does_not_cover_any_more(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    got: list[str] = []
    async with travels.retrieval() as delivery:
        async for item in delivery:
            got.append(item.ref.sop_uid)
            delivery.sent(item)
            await travels.region.agree("RZ2", Clause(modalities=frozenset({"US"})))
            travels.version += 1
    assert len(got) == 1 and delivery.halted is Halt.POLICY and delivery.counts.failed == 1


async def test_who_goes_away_stops_the_archive(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    stopped = asyncio.Event()

    async def pace(ref: InstanceRef) -> None:
        if ref.sop_uid == "1.2.3.2":
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                stopped.set()

    travels.region.trust("RZ2").pacs.pace = pace
    async with travels.retrieval() as delivery:
        async for item in delivery:
            delivery.sent(item)
            delivery.cancel()
    assert stopped.is_set() and delivery.halted is Halt.CANCELLED
    assert delivery.counts == Counts(remaining=0, completed=1, failed=1, warning=0)


async def test_a_caller_is_shown_its_own_number_in_the_images(travels: Travels) -> None:
    [image] = travels.hold("RZ2", "1.2.3.1", patient="R2-77")
    travels.region.trust("RZ2").filing_under("RZ2-PAS")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.region.link(ANNE, "RZ2-PAS", "R2-77", source="RZ2")
    got, _ = await travels.brought()
    assert ANNE.digits.encode() in got["1.2.3.1"] and got["1.2.3.1"] != image.encoded
    assert got["1.2.3.1"].endswith(image.encoded[-3000:])


async def test_a_holder_that_cannot_be_asked_is_named(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    travels.region.trust("RZ2").down()
    await travels.region.refer(ANNE, to="RZ1")
    got, delivery = await travels.brought()
    assert got == {} and [source.trust.code for source in delivery.sources if source.state.is_missing] == ["RZ2"]


async def test_when_nobody_answers_it_is_a_fault_and_no_absence(travels: Travels) -> None:
    for trust in ("RZ2", "RZ3", "RZ4"):
        travels.region.trust(trust).down()
    await travels.region.refer(ANNE, to="RZ1")
    with pytest.raises(PeerError):
        await travels.brought()


async def test_where_a_holder_is_down_what_it_gave_is_given_for_a_day_and_it_is_named(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    travels.region.trust("RZ2").down()
    await travels.clock.advance(23 * 3600)
    got, delivery = await travels.brought()
    assert got == uids(held)
    assert [source.trust.code for source in delivery.sources if source.state.is_missing] == ["RZ2"]
    await travels.clock.advance(2 * 3600)
    assert (await travels.brought())[0] == {}


async def test_where_everybody_is_down_what_they_gave_is_given(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    for trust in ("RZ2", "RZ3", "RZ4"):
        travels.region.trust(trust).down()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    assert (await travels.brought())[0] == uids(held)


async def test_in_a_planned_downtime_what_a_trust_gave_is_given(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    now = travels.clock.now()
    downtime = Downtime("d-1", TrustId("RZ2"), now - timedelta(hours=1), now + timedelta(hours=1), "new disks")
    travels.region.roll = Roll(downtimes=(downtime,))
    got, delivery = await travels.brought()
    assert got == uids(held)
    assert [source.note for source in delivery.sources if source.trust.code == "RZ2"] != [""]


async def test_what_its_archive_lists_no_more_is_not_given(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    travels.region.trust("RZ2").pacs.rows.pop()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    assert (await travels.brought())[0] == uids(held[:1])


async def test_the_ledger_has_every_instance(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    _, delivery = await travels.brought()
    shown = await travels.ledger.show(delivery.retrieval_id)
    assert shown.counts == Counts(remaining=0, completed=2, failed=0, warning=0)


@pytest.mark.parametrize("is_kept", [False, True])
async def test_nothing_goes_before_the_set_is_written_down(
    travels: Travels, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    if is_kept:
        await travels.brought()
    before = len(await travels.region.records("retrieve-outcome"))

    async def gone(*_: object) -> None:
        raise StoreUnavailable("the ledger cannot be written")

    monkeypatch.setattr(travels.ledger, "freeze", gone)
    with pytest.raises(StoreUnavailable):
        async with travels.retrieval() as delivery:
            async for item in delivery:
                pytest.fail(f"{item.ref} was handed out")
    assert delivery.counts.completed == 0
    await travels.road.close()
    assert len(await travels.region.records("retrieve-outcome")) == before + 1, "the outcome is recorded all the same"


def test_rows_and_images_name_the_same_patient() -> None:
    ref = InstanceRef(STUDY, "1.2.3.1", "1.2.3.1.1", CT)
    assert ANNE.digits.encode() in encoded(ref, ANNE.digits)
    assert image_row(ref, ANNE.digits)["00100020"]["Value"] == [ANNE.digits]


async def test_two_holders_whose_pixels_differ_are_believed_neither_and_told(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    [other] = travels.hold("RZ3", "1.2.3.1")
    pacs = travels.region.trust("RZ3").pacs
    pacs.images[other.ref.sop_uid] = replace(other, encoded=encoded(other.ref, ANNE.digits, pixels=2000))
    await travels.region.refer(ANNE, to="RZ1")
    assert len((await travels.brought())[0]) == 1
    got, delivery = await travels.brought(replace(whole(STUDY), only_trust=TrustId("RZ3")))
    assert got == {} and [failure.words for failure in delivery.failures] == ["another instance of this UID is kept"]
    told = [(item.kind, item.custodian.code) for item in await travels.region.quality()]
    assert told == [("instance-content-differs", "RZ2"), ("instance-content-differs", "RZ3")]


async def test_what_is_damaged_on_disk_is_fetched_again(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    for pack in travels.packs.rglob("*"):
        if pack.is_file() and pack.stat().st_size:
            body = bytearray(pack.read_bytes())
            body[len(body) // 2] ^= 1
            pack.write_bytes(body)
    assert (await travels.brought())[0] == uids(held)
    assert len(travels.region.trust("RZ2").pacs.fetches) == 2


async def test_of_what_is_kept_no_more_is_read_ahead_of_a_slow_receiver_than_its_limit(
    travels: Travels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = travels.hold("RZ2", *(f"1.2.3.{number}" for number in range(1, 13)))
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    read, before = [0], travels.cache.read

    async def counted(
        instances: Sequence[CachedInstance], *, beginnings: bool = False
    ) -> Sequence[tuple[bytes, ...] | GatewayError]:
        read[0] += len(instances)
        return await before(instances, beginnings=beginnings)

    monkeypatch.setattr(travels.cache, "read", counted)
    monkeypatch.setattr(deliveries, "GROUP_INSTANCES", 2)
    got: dict[str, bytes] = {}
    async with travels.retrieval() as delivery:
        async for item in delivery:
            got[item.ref.sop_uid] = await content(item)
            delivery.sent(item)
            # The first is read alone, so that it goes at once.
            assert read[0] <= 1 + 2 * (len(got) // 2 + deliveries.GROUPS_AHEAD)
        assert read[0] == 12
    assert got == uids(held)
