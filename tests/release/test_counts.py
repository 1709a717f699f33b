"""How many reports stand how is counted for all trusts at once, from an index, however many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from gateway.model.reporting.incoming import Subject
from policy.parties import TrustId
from policy.release.circumstances import Flag, HoldKind, Plan, ReleaseState
from policy.release.reports import Standing
from storage.database import Read
from storage.release import listing, reports
from storage.release.listing import NONE
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import NORTH, incoming, message
from tests.release.rig import Rig
from tests.storage.keyrings import Place

SOUTH = TrustId("RZ2")
IDENTITY, UNREAD = frozenset({HoldKind.IDENTITY.value}), frozenset({Flag.UNACKNOWLEDGED})


@pytest.fixture
async def rig(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    async with Place(tmp_path / "keys", clock).keyring() as keys:
        yield Rig(store, keys)


async def kept(rig: Rig, trust: TrustId, number: str, plan: Plan, **otherwise: object) -> None:
    """A report that stands so."""
    told = message(incoming(trust=trust, report_number=number, **otherwise), trust=trust, name=number)
    [report_id] = (await rig.intake.take(told)).report_ids
    await rig.store.write(lambda tx: reports.settle(tx, report_id, plan, Standing.VERIFIED, None))


async def test_each_trust_is_counted_for_itself_and_together(rig: Rig) -> None:
    out, unread = Plan(ReleaseState.RELEASED), Plan(ReleaseState.RELEASED, flags=UNREAD)
    await kept(rig, NORTH, "R-1", out)
    await kept(rig, NORTH, "R-2", unread, study_uids=("1.2.3",), accessions=())
    await kept(rig, NORTH, "R-3", Plan(ReleaseState.HELD, held_for=tuple(IDENTITY)), accessions=())
    await kept(rig, SOUTH, "R-1", Plan(ReleaseState.HELD, flags=frozenset({Flag.HOLD_OVERDUE})), subject=Subject())
    await kept(rig, SOUTH, "R-2", Plan(ReleaseState.CANCELLED), subject=Subject(), accessions=())
    await rig.intake.take(message(problem="an unknown code", name="dead", trust=SOUTH))
    north = replace(NONE, by_state={ReleaseState.RELEASED: 2, ReleaseState.HELD: 1}, unlinked=2, unmatched=1)
    north = replace(north, identity_changed=1, unacknowledged=1)
    south = replace(NONE, by_state={ReleaseState.HELD: 1, ReleaseState.CANCELLED: 1}, unlinked=1, unmatched=1)
    south = replace(south, overdue_review=1, dead_letters=1)
    assert await rig.store.read(listing.counts_by_trust) == {NORTH: north, SOUTH: south}
    for trust, counted in ((NORTH, north), (SOUTH, south), (TrustId("RZ3"), NONE), (None, north + south)):
        assert await rig.store.read(lambda read, of=trust: listing.counts(read, of)) == counted  # type: ignore[misc]  # the loop's own trust


async def test_no_count_goes_through_the_reports(store: SqlStore) -> None:
    def ways(read: Read) -> list[str]:
        asked: list[tuple[str, object]] = []

        def heard(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
            asked.append((statement, parameters))

        event.listen(read.connection, "before_cursor_execute", heard)
        listing.counts_by_trust(read)
        event.remove(read.connection, "before_cursor_execute", heard)
        plans = (read.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {each}", how) for each, how in asked)  # type: ignore[arg-type]  # as the driver had them
        return [" ".join(str(row[3]) for row in plan) for plan in plans]

    if store.database.is_sqlite:
        standing, unmatched, dead = await store.read(ways)
        assert standing == "SCAN report USING COVERING INDEX ix_report_counted"
        assert "ix_report_unmatched" in unmatched and "ix_feed_message_dead" in dead
