"""A trust that lies in every way of the table, by either protocol: nothing untrue is shown, nothing honest is lost, and
the liar is named wherever it can be known (goal G6).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile
from dimse.connector import DimsePeer, DimsePeerProfile
from gateway.model.imaging import Match, Matches, Query
from gateway.model.seams import PeerConnector
from gateway.model.settings import Limits
from tests.attacks.hostile import answer, archive
from tests.attacks.house import House, states
from tests.attacks.kinds import LIES, NEVER_SHOWN, Lie
from tests.attacks.lies import says
from tests.peers.dimse_archive import Archive, listening
from tests.sharing.rows import ANNE, BEN, RZ2, RZ3, row

KINDS_MIN = 25
HANG_GUARD_S = 60.0
LIMITS = Limits(peer_answer_bytes_max=1024 * 1024, peer_matches_max=100)
TOLD = [(lie, door) for lie in LIES for door in ("web", "c-find") if (lie.web if door == "web" else lie.c_find)]


@asynccontextmanager
async def liar(lie: Lie, door: str, limits: Limits) -> AsyncIterator[PeerConnector]:
    """Southbridge's connector to an archive that tells this lie."""
    connector: PeerConnector
    if door == "web":
        assert lie.web is not None
        async with archive(lie.web) as url:
            connector = DicomwebPeer(DicomwebPeerProfile(RZ3, url), limits, None)
            yield connector
            await connector.close()
    else:
        async with listening(Archive(script=lie.c_find)) as listens:
            profile = DimsePeerProfile(RZ3, "127.0.0.1", listens.port, "ARCHIVE", "GATEWAY")
            connector = DimsePeer(profile, limits, None)
            yield connector
            await connector.close()


async def asked(house: House, connector: PeerConnector, question: Query, limits: Limits) -> Matches:
    """What Northmoor gets when Eastvale is honest and this is Southbridge."""
    house.build(limits, connectors=[house.archives[RZ2], connector])
    async with asyncio.timeout(HANG_GUARD_S):
        return await house.find(replace(question, include_all=True))


@pytest.fixture
async def eastvale(house: House) -> House:
    """Two studies of Anne's at the honest archive; Ben opted out."""
    house.archives[RZ2].rows = [row("1.1", ANNE, modalities="CT"), row("1.2", ANNE, modalities="MR")]
    await house.opts_out(BEN)
    return house


def of_eastvale(matches: Matches) -> list[Match]:
    return [match for match in matches.rows if RZ2 in match.holders]


def test_the_table_has_as_many_kinds_as_the_goal_wants() -> None:
    names = [lie.name for lie in LIES]
    assert len(set(names)) == len(names) >= KINDS_MIN
    for door in ("web", "c-find"):
        assert sum(told == door for _, told in TOLD) >= KINDS_MIN


@pytest.mark.parametrize(("lie", "door"), TOLD, ids=[f"{lie.name} by {door}" for lie, door in TOLD])
async def test_a_lie_is_not_believed_and_nothing_honest_is_lost(eastvale: House, lie: Lie, door: str) -> None:
    honest = Lie("nothing at all", says(answer(b"[]", b"Connection: close")), Archive.be_honest)
    async with liar(honest, door, LIMITS) as truthful:
        before = await asked(eastvale, truthful, lie.question, LIMITS)
    assert [match.study_uid for match in before.rows] == ["1.1", "1.2"]
    limits = replace(LIMITS, find_timeout_s=lie.timeout_s)
    async with liar(lie, door, limits) as lying:
        for _ in range(2):
            found = await asked(eastvale, lying, lie.question, limits)
            kept = [match for match in of_eastvale(before) if match.study_uid not in lie.withheld]
            assert of_eastvale(found) == kept
            assert states(found)[RZ3] in lie.state and states(found)[RZ2] == "answered"
            assert {s.trust.code for s in found.sources if s.has_identity_conflict} == lie.conflict_at
            if lie.state != frozenset({"truncated"}):
                assert {match.study_uid for match in found.rows if RZ3 in match.holders} == lie.shown
            assert {match.patient for match in found.rows} == {ANNE} or not found.rows
            assert [word for word in NEVER_SHOWN if word in str(found)] == []
