"""The associations kept open to one archive: how many, which one, for how long, and what becomes of spoilt ones."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trustme

from dimse.scu.pool import Lease, Pool, PoolClosed, PoolLimits
from dimse.upper_layer.association import Association, AssociationLimits
from dimse.upper_layer.negotiation import propose
from dimse.upper_layer.requestor import NotConnected, associate
from dimse.upper_layer.wire import Ended
from tests.peers.dimse_archive import Archive, ended, listening

VERIFICATION = "1.2.840.10008.1.1"
LONG_S = 3_600.0


@asynccontextmanager
async def pool_of(
    archive: Archive,
    *,
    associations_max: int = 2,
    idle_s: float = LONG_S,
    life_max_s: float = LONG_S,
    queries_max: int = 0,
    secure: ssl.SSLContext | None = None,
    now: float = 0.0,
) -> AsyncIterator[Pool]:
    request = propose("GATEWAY", "ARCHIVE", [(VERIFICATION, ("1.2.840.10008.1.2",))], pdu_bytes_max=16_384)

    async def connected() -> Association:
        return await associate(
            "127.0.0.1", archive.port, request, AssociationLimits(), tls=secure, connect_timeout_s=10
        )

    pool = Pool(connected, PoolLimits(associations_max, idle_s, life_max_s, queries_max), now=lambda: now)
    try:
        yield pool
    finally:
        await pool.close()


async def used(pool: Pool, *, is_clean: bool = True, is_fresh: bool = False) -> Association:
    """Lease an association once, and leave it clean or not."""
    async with pool.lease(is_fresh=is_fresh) as lease:
        lease.is_clean = is_clean
        return lease.association


async def test_the_association_used_last_is_used_first() -> None:
    async with listening(Archive()) as archive, pool_of(archive) as pool:
        async with pool.lease() as first, pool.lease() as second:
            first.is_clean = second.is_clean = True
        # The inner one was handed back first, so the outer one was used last.
        assert await used(pool) is first.association
        assert await used(pool) is first.association
    assert len(archive.associations) == 2


async def test_there_are_never_more_than_the_limit_and_who_waits_gets_the_next_free_one() -> None:
    async with listening(Archive()) as archive, pool_of(archive, associations_max=1) as pool:
        async with pool.lease() as lease:
            waiting = asyncio.create_task(used(pool))
            await asyncio.sleep(0)
            assert not waiting.done()
            lease.is_clean = True
        assert await waiting is lease.association
    assert len(archive.associations) == 1


async def test_an_association_that_is_not_left_clean_is_aborted_and_its_place_is_free() -> None:
    async with listening(Archive()) as archive, pool_of(archive, associations_max=1) as pool:
        spoilt = await used(pool, is_clean=False)
        assert await used(pool) is not spoilt
        await ended(archive.associations[:1])
        assert archive.associations[0].end is not None
        assert archive.associations[0].end.why is Ended.ABORTED_BY_PEER


async def test_a_lease_knows_whether_somebody_used_it_before() -> None:
    async with listening(Archive()) as archive, pool_of(archive) as pool:
        for is_reused in (False, True, True):
            async with pool.lease() as lease:
                lease.is_clean = True
                assert lease.is_reused is is_reused
        async with pool.lease(is_fresh=True) as lease:
            assert not lease.is_reused
        # What was idle beside a stale association is stale as well.
        await ended(archive.associations[:1])


async def test_an_association_that_nobody_uses_is_released_in_order() -> None:
    async with listening(Archive()) as archive, pool_of(archive, idle_s=0.01) as pool:
        await used(pool)
        await ended(archive.associations)
        assert archive.associations[0].end is not None and archive.associations[0].end.why is Ended.RELEASED
        assert not (await pool_is_reusing(pool))


async def pool_is_reusing(pool: Pool) -> bool:
    async with pool.lease() as lease:
        lease.is_clean = True
        return lease.is_reused


@pytest.mark.parametrize("queries_max", [1, 3])
async def test_an_association_is_used_as_often_as_its_limit_and_then_released(queries_max: int) -> None:
    async with listening(Archive()) as archive, pool_of(archive, queries_max=queries_max) as pool:
        first = [await used(pool) for _ in range(queries_max)]
        assert len(set(first)) == 1
        await ended(archive.associations)
        assert await used(pool) is not first[0]


async def test_an_association_past_its_life_is_not_used_again() -> None:
    async with listening(Archive()) as archive, pool_of(archive, life_max_s=0.0) as pool:
        old = await used(pool)
        await ended(archive.associations)
        assert await used(pool) is not old
        assert archive.associations[0].end is not None and archive.associations[0].end.why is Ended.RELEASED


async def test_an_association_that_dies_while_idle_is_thrown_away() -> None:
    async with listening(Archive()) as archive, pool_of(archive) as pool:
        dead = await used(pool)
        archive.associations[0].abort("as archives do in the night")
        await dead.over()
        assert not (await pool_is_reusing(pool))


async def test_an_archive_that_cannot_be_reached_keeps_no_place() -> None:
    async with listening(Archive()) as archive:
        pass
    async with pool_of(archive, associations_max=1) as pool:
        for _ in range(2):
            with pytest.raises(NotConnected):
                await used(pool)


# A query under way when its asker leaves.


async def test_a_query_under_way_is_ended_behind_the_caller_and_the_next_waits_for_that() -> None:
    may_end = asyncio.Event()

    async def end_it() -> bool:
        await may_end.wait()
        return True

    async with listening(Archive()) as archive, pool_of(archive, associations_max=1) as pool:
        async with pool.lease() as lease:
            lease.settle = end_it
        next_one = asyncio.create_task(used(pool))
        await asyncio.sleep(0)
        assert not next_one.done()
        may_end.set()
        assert await next_one is lease.association
    assert len(archive.associations) == 1


async def test_a_query_that_cannot_be_ended_costs_its_association() -> None:
    async def fail() -> bool:
        return False

    async with listening(Archive()) as archive, pool_of(archive, associations_max=1) as pool:
        async with pool.lease() as lease:
            lease.settle = fail
        assert await used(pool) is not lease.association
        await ended(archive.associations[:1])


async def test_closing_ends_a_query_that_is_being_ended_at_once() -> None:
    async with listening(Archive()) as archive, pool_of(archive) as pool, asyncio.timeout(30):
        async with pool.lease() as lease:

            async def hear_it_out() -> bool:
                await lease.association.receive()
                return True

            lease.settle = hear_it_out
        await pool.close()
        await ended(archive.associations)
        assert archive.associations[0].end is not None
        assert archive.associations[0].end.why is Ended.ABORTED_BY_PEER


# The end.


async def test_closing_releases_the_idle_aborts_those_in_use_and_opens_no_more() -> None:
    async with listening(Archive()) as archive, pool_of(archive) as pool, AsyncExitStack() as stack:
        in_use = await stack.enter_async_context(pool.lease())
        await used(pool)
        await pool.close()
        await pool.close()
        await ended(archive.associations)
        ends = {association.end.why for association in archive.associations if association.end is not None}
        assert ends == {Ended.RELEASED, Ended.ABORTED_BY_PEER} and not in_use.association.is_open
        with pytest.raises(PoolClosed):
            await used(pool)


async def test_who_waits_for_a_place_when_the_pool_closes_gets_none() -> None:
    async with listening(Archive()) as archive, pool_of(archive, associations_max=1) as pool:
        async with pool.lease():
            waiting = asyncio.create_task(used(pool))
            await asyncio.sleep(0)
            await pool.close()
        with pytest.raises(PoolClosed):
            await waiting


# Certificates.


@pytest.mark.parametrize(("left_s", "is_kept"), [(60, True), (0, False), (-60, False)])
async def test_no_association_is_used_beyond_the_end_of_the_archives_certificate(left_s: int, is_kept: bool) -> None:
    authority = trustme.CA()
    ends = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=1)
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1", not_after=ends).configure_cert(theirs)
    authority.configure_trust(ours)
    now = ends.timestamp() - left_s
    async with listening(Archive(), theirs) as archive, pool_of(archive, secure=ours, now=now) as pool:
        first: Lease
        async with pool.lease() as first:
            first.is_clean = True
        assert await pool_is_reusing(pool) is is_kept
