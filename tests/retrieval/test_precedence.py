"""Who goes first: places at an archive, and standing back in a process."""

from __future__ import annotations

import asyncio

from dimse.scu.fetch import Fetching, FetchProfile
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.pdu import AssociateRequest
from gateway.model.imaging import Level
from gateway.model.settings import Limits
from gateway.model.work.jobs import Lane
from gateway.model.work.precedence import HURRY_S_MAX, Places, RightOfWay, Urgency
from gateway.model.work.transfers import FetchRequest, Target
from policy.parties import TrustId
from tests.dimse.intakes import MemoryIntake
from tests.retrieval.travels import CT


async def settled() -> None:
    """Let every task that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_last_place_is_kept_for_what_somebody_waits_for() -> None:
    places = Places(2)
    await places.acquire(Urgency(Lane.BACKGROUND))
    second = asyncio.create_task(places.acquire(Urgency(Lane.BACKGROUND)))
    await settled()
    assert not second.done() and not places.has_room(Urgency(Lane.BACKGROUND))
    await asyncio.wait_for(places.acquire(Urgency(Lane.INTERACTIVE)), 1)
    places.release()
    await settled()
    assert not second.done()
    places.release()
    await asyncio.wait_for(second, 1)


async def test_an_archive_that_bears_one_is_everybodys() -> None:
    places = Places(1)
    await asyncio.wait_for(places.acquire(Urgency(Lane.BACKGROUND)), 1)


async def test_the_most_urgent_is_next_and_of_equals_the_first() -> None:
    places, order = Places(1), []
    await places.acquire(Urgency())

    async def come(name: str, lane: Lane) -> None:
        await places.acquire(Urgency(lane))
        order.append(name)
        places.release()

    coming = [
        asyncio.create_task(come(*each))
        for each in (
            ("background", Lane.BACKGROUND),
            ("first", Lane.INTERACTIVE),
            ("second", Lane.INTERACTIVE),
            ("emergency", Lane.EMERGENCY),
        )
    ]
    await settled()
    places.release()
    await asyncio.gather(*coming)
    assert order == ["emergency", "first", "second", "background"]


async def test_an_errand_that_somebody_comes_to_wait_for_gets_the_kept_place() -> None:
    places, errand = Places(2), Urgency(Lane.BACKGROUND)
    await places.acquire(Urgency(Lane.BACKGROUND))
    waiting = asyncio.create_task(places.acquire(errand))
    await settled()
    assert not waiting.done()
    errand.raise_to(Lane.INTERACTIVE)
    await asyncio.wait_for(waiting, 1)
    errand.raise_to(Lane.BACKGROUND)
    assert errand.lane is Lane.INTERACTIVE


async def test_a_place_given_to_one_who_left_at_that_moment_is_not_lost() -> None:
    places = Places(1)
    await places.acquire(Urgency())
    leaving = asyncio.create_task(places.acquire(Urgency()))
    await settled()
    places.release()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.wait_for(places.acquire(Urgency()), 1)


async def test_what_nobody_waits_for_stands_back_until_the_first_image_is_there() -> None:
    ways = RightOfWay()
    hurry = ways.hurry(Lane.INTERACTIVE)
    behind = asyncio.create_task(ways.stand_back(Urgency(Lane.BACKGROUND)))
    await asyncio.wait_for(ways.stand_back(Urgency(Lane.EMERGENCY)), 1)
    await settled()
    assert not behind.done()
    hurry.over()
    hurry.over()
    await asyncio.wait_for(behind, 1)
    await asyncio.wait_for(ways.stand_back(Urgency(Lane.BACKGROUND)), 1)


async def test_the_background_goes_on_beside_a_hurry_that_does_not_end() -> None:
    ways = RightOfWay()
    ways.hurry(Lane.INTERACTIVE)
    for _ in range(3):
        await asyncio.wait_for(ways.stand_back(Urgency(Lane.BACKGROUND)), HURRY_S_MAX)


async def test_one_piece_of_the_background_goes_on_in_a_round_of_the_loop() -> None:
    ways, rounds, went = RightOfWay(), 0, []

    async def piece() -> None:
        await ways.stand_back(Urgency(Lane.BACKGROUND))
        went.append(rounds)

    pieces = [asyncio.create_task(piece()) for _ in range(5)]
    while not all(each.done() for each in pieces):
        await asyncio.sleep(0)
        rounds += 1
    assert len(set(went)) == len(went)


async def test_nobody_stands_back_for_the_background() -> None:
    ways = RightOfWay()
    ways.hurry(Lane.BACKGROUND)
    await asyncio.wait_for(ways.stand_back(Urgency(Lane.BACKGROUND)), 1)


async def test_two_connectors_to_one_archive_keep_to_its_places_together() -> None:
    places, may_go = Places(1), asyncio.Event()
    went: list[str] = []

    def fetching(name: str) -> Fetching:
        async def associate(request: AssociateRequest) -> Association:
            went.append(name)
            await may_go.wait()
            raise AssociationFailure("the archive hung up")

        return Fetching(FetchProfile(TrustId("RZ2"), "PACS", "GATEWAY"), Limits(), associate, None, places)

    study = FetchRequest(TrustId("RZ2"), Target(Level.STUDY, "1.2.3"), "request-1", 1)
    fetches = []
    for name in ("before the reload", "after it"):
        fetches.append(asyncio.create_task(fetching(name).fetch(study, MemoryIntake(), frozenset((CT,)))))
        await settled()
    assert went == ["before the reload"]
    may_go.set()
    assert all(isinstance(each, AssociationFailure) for each in await asyncio.gather(*fetches, return_exceptions=True))
    assert went == ["before the reload", "after it"]
