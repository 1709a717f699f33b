"""What is kept follows its sources: what grew is fetched, what was withdrawn is nobody's, and who has it is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.runner import Handler
from gateway.keeping.freshness import COMPARED_AFTER, CONFIRMED_AFTER, TELL, Freshness
from gateway.keeping.work import recurring_job
from gateway.model.errors import PeerUnavailable
from gateway.model.seams import RECEIVED_AND_WITHDRAWN
from gateway.model.work.jobs import Job, Lane, Progress
from gateway.model.work.transfers import CachedInstance, InstanceRef
from gateway.sharing.freshness import comparing
from policy.parties import TrustId
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import Pseudonyms
from storage.work import jobs
from tests.clock import NOON
from tests.retrieval.travels import CT, STUDY, Travels, encoded, uids, whole
from tests.sharing.rows import ANNE

RZ2, RZ3 = TrustId("RZ2"), TrustId("RZ3")


class Errand:
    """A job in its handler's hands (`gateway.jobs.runner.Work`)."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def advance(self, progress: Progress) -> None:
        """See `Work`."""


@pytest.fixture
def freshness(travels: Travels) -> Freshness:
    """What keeps the copies of this node true."""
    sql = travels.region.sql
    travels.region.locations = Notebook(sql, travels.clock, Pseudonyms(bytes(32)), max_age_days=100)
    return Freshness(
        sql,
        travels.cache,
        travels.withdrawals,
        lambda: travels.region.sampling,
        travels.clock,
        node="north",
        studies_max=10,
    )


async def due(travels: Travels, handlers: dict[str, Handler]) -> list[str]:
    """Do what is due, as a runner would; the kinds of what was done."""
    lease, sql = timedelta(seconds=60), travels.region.sql
    claim = partial(jobs.claim, owner="north", limit=10, lease=lease, kinds=sorted(handlers))
    found = await sql.write(lambda tx: claim(tx, lane=Lane.BACKGROUND, lease_now=tx.now))
    for job in found:
        await travels.clock.run(handlers[job.kind](Errand(job)), is_busy=travels.region.store.is_busy)
        await sql.write(partial(jobs.finish, held=job.claim))
    return [job.kind for job in found]


async def brought_once(travels: Travels, *sops: str) -> None:
    """Have a study of RZ2's kept and delivered to RZ1, and let its list be forgotten."""
    travels.hold("RZ2", *sops)
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)


async def test_of_a_study_that_grew_only_the_new_is_fetched(travels: Travels) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    held = travels.hold("RZ2", "1.2.3.3")
    got, _ = await travels.brought()
    assert set(got) == {"1.2.3.1", "1.2.3.2", "1.2.3.3"} and got["1.2.3.3"] == held[0].encoded
    assert [ref.sop_uid for ref in travels.region.trust("RZ2").pacs.fetches[-1].refs] == ["1.2.3.3"]


async def test_what_was_withdrawn_is_not_given_when_its_archive_is_down_either(travels: Travels) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    pacs = travels.region.trust("RZ2").pacs
    pacs.rows.pop()
    assert set((await travels.brought())[0]) == {"1.2.3.1"}
    pacs.down()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    assert set((await travels.brought())[0]) == {"1.2.3.1"}


async def test_what_is_listed_again_is_fetched_again(travels: Travels) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    pacs = travels.region.trust("RZ2").pacs
    missing = pacs.rows.pop()
    await travels.brought()
    pacs.with_row(missing)
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    assert set((await travels.brought())[0]) == {"1.2.3.1", "1.2.3.2"}


async def test_what_is_withdrawn_while_its_recipients_are_being_told_of_more_is_told_as_well(
    travels: Travels, freshness: Freshness
) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2", "1.2.3.3")
    pacs, sql = travels.region.trust("RZ2").pacs, travels.region.sql
    pacs.rows.pop()
    await travels.brought()
    await travels.clock.advance(CONFIRMED_AFTER.total_seconds())
    claim = partial(jobs.claim, owner="south", lane=Lane.BACKGROUND, limit=1, lease=timedelta(hours=1), kinds=[TELL])
    [telling] = await sql.write(lambda tx: claim(tx, lease_now=tx.now))
    pacs.rows.pop()  # behind what that job has heard
    await travels.brought()
    await sql.write(partial(jobs.finish, held=telling.claim))
    await travels.clock.advance(CONFIRMED_AFTER.total_seconds())
    assert await due(travels, dict(freshness.handlers)) == [TELL]
    [item] = await travels.region.quality()
    assert item.detail["instances"] == 2


async def test_who_received_what_was_withdrawn_is_told_once_it_is_certain(
    travels: Travels, freshness: Freshness
) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    travels.region.trust("RZ2").pacs.rows.pop()
    _, delivery = await travels.brought()
    assert await due(travels, dict(freshness.handlers)) == [] and await travels.region.quality() == []
    await travels.clock.advance(CONFIRMED_AFTER.total_seconds())
    assert await due(travels, dict(freshness.handlers)) == [TELL]
    [item] = await travels.region.quality()
    assert (item.kind, item.custodian.code, item.study_uid) == (RECEIVED_AND_WITHDRAWN, "RZ1", STUDY)
    assert (item.detail["source"], item.detail["instances"]) == ("RZ2", 1)
    # The retrieval behind the withdrawal did not have it.
    assert delivery.retrieval_id not in str(item.detail["retrievals"])
    opened = [each for each in await travels.region.records("register-change") if "received-images" in str(each)]
    assert len(opened) == 1


async def test_an_archive_that_listed_a_study_in_part_for_a_moment_alarms_nobody(
    travels: Travels, freshness: Freshness
) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    pacs = travels.region.trust("RZ2").pacs
    missing = pacs.rows.pop()
    await travels.brought()
    pacs.with_row(missing)
    await travels.clock.advance(CONFIRMED_AFTER.total_seconds())
    assert await due(travels, dict(freshness.handlers)) == [TELL]
    assert await travels.region.quality() == []


async def test_whoever_must_be_told_is_told_later_where_the_archive_is_away(
    travels: Travels, freshness: Freshness
) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    pacs = travels.region.trust("RZ2").pacs
    pacs.rows.pop()
    await travels.brought()
    pacs.down()
    await travels.clock.advance(CONFIRMED_AFTER.total_seconds())
    with pytest.raises(PeerUnavailable):
        await due(travels, dict(freshness.handlers))
    assert await travels.region.quality() == []


async def test_a_kept_study_that_its_archive_deleted_is_found_without_anybody_asking(
    travels: Travels, freshness: Freshness
) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    pacs = travels.region.trust("RZ2").pacs
    pacs.rows.clear()
    await travels.cache.settle()
    compare = freshness.handlers[freshness.kind]
    await travels.clock.advance(COMPARED_AFTER.total_seconds())
    job = await travels.region.sql.write(
        lambda tx: jobs.get(tx, jobs.enqueue(tx, recurring_job(freshness.kind)).job_id)
    )
    await travels.clock.run(compare(Errand(job)), is_busy=travels.region.store.is_busy)
    assert not await travels.cache.instances(STUDY)
    pacs.down()
    assert (await travels.brought())[0] == {}
    [looked] = await travels.region.records("location-sample")
    assert "kept copies" in str(looked)


async def test_an_archive_that_tells_of_a_kept_study_has_it_compared(travels: Travels, freshness: Freshness) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    travels.region.trust("RZ2").pacs.rows.pop()
    await freshness.told_of("1.2.99")
    await freshness.told_of(STUDY)
    await travels.clock.advance(60)
    assert await due(travels, dict(freshness.handlers)) == [freshness.kind]
    assert [each.ref.sop_uid for each in await travels.cache.instances(STUDY)] == ["1.2.3.1"]


async def test_a_list_that_is_cut_withdraws_nothing(travels: Travels) -> None:
    await brought_once(travels, "1.2.3.1", "1.2.3.2")
    pacs = travels.region.trust("RZ2").pacs
    pacs.lying(pacs.rows[0], is_truncated=True)
    assert set((await travels.brought())[0]) == {"1.2.3.1"}
    assert len(await travels.cache.instances(STUDY)) == 2


async def test_who_is_withheld_by_a_register_loses_nobody_a_copy(travels: Travels) -> None:
    held = travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    await travels.brought()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    await travels.region.opt_out(ANNE)
    assert (await travels.brought())[0] == {}
    await travels.region.opt_in(ANNE)
    assert (await travels.brought())[0] == uids(held)
    assert len(travels.region.trust("RZ2").pacs.fetches) == 1


def kept_of(uid: str, source: TrustId, seconds: int, *, sole: bool = False) -> CachedInstance:
    """An instance as the cache knows it, received so many seconds behind noon."""
    ref, at = InstanceRef(STUDY, "1.2.3.9", uid, CT), NOON + timedelta(seconds=seconds)
    return CachedInstance(ref, "1.2.840.10008.1.2.1", source, source, "00", 1, b"", 1, at, is_sole_copy=sole)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([RZ2, RZ3]), st.integers(0, 9), st.booleans())),
    st.dictionaries(st.sampled_from([RZ2, RZ3]), st.frozensets(st.sampled_from("abcdef"))),
    st.integers(0, 9),
)
def test_only_what_its_own_source_was_heard_to_lack_is_withdrawn(
    some: list[tuple[str, TrustId, int, bool]], listed: dict[TrustId, frozenset[str]], heard_s: int
) -> None:
    kept = [kept_of(uid, source, seconds, sole=sole) for uid, source, seconds, sole in some]
    heard_at = NOON + timedelta(seconds=heard_s)
    gone = comparing.withdrawn(kept, listed, heard_at)
    for each in kept:
        is_gone = any(each is one for one in gone)
        silent, later = each.source not in listed, each.received_at >= heard_at
        assert is_gone != (silent or later or each.is_sole_copy or each.ref.sop_uid in listed[each.source])
    assert comparing.grown(kept, listed).isdisjoint(each.ref.sop_uid for each in kept)


async def test_a_study_that_has_to_be_fetched_has_no_version_until_it_is_here(travels: Travels) -> None:
    [image] = travels.hold("RZ2", "1.2.3.1")
    await travels.region.refer(ANNE, to="RZ1")
    tags = []
    for content in (image.encoded, encoded(image.ref, ANNE.digits, name="SMITH^ANNA")):
        travels.region.trust("RZ2").pacs.images["1.2.3.1"] = replace(image, encoded=content)
        async with travels.retrieval() as delivery:
            assert delivery.etag == ""
            async for item in delivery:
                delivery.sent(item)
            tags.append(delivery.etag)
        async with travels.retrieval() as delivery:
            assert delivery.etag == tags[-1] != ""
        await travels.road.close()
        await travels.cache.forget(STUDY, "evicted")
        await travels.clock.advance(120)
    assert tags[0] != tags[1]


async def test_what_is_given_in_a_silent_archives_stead_says_when_it_was_last_compared(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    travels.hold("RZ3", "1.2.9.1", study="1.2.9")
    await travels.region.refer(ANNE, to="RZ1")
    compared_at = travels.clock.now()
    _, delivery = await travels.brought()
    assert all(source.checked_at is None for source in delivery.sources)
    travels.region.trust("RZ2").down()
    await travels.clock.advance(3600)
    got, delivery = await travels.brought()
    assert set(got) == {"1.2.3.1"}
    assert {each.trust.code: each.checked_at for each in delivery.sources if each.checked_at} == {"RZ2": compared_at}
    # Of a trust of which nothing is given, no time is told: it would say that there is something.
    _, other = await travels.brought(whole("1.2.9"))
    assert other.refs and all(source.checked_at is None for source in other.sources)
