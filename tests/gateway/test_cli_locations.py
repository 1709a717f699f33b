"""`gateway location show`, on a real store: what it prints, what it refuses, and that each look is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from gateway.cli.session import configuration_of
from gateway.model.imaging import SourceState
from gateway.model.locations import PeerStanding, SeenBy, Sighting
from gateway.node import SystemClock, open_notebook, open_store
from policy.parties import NhsNumber, TrustId
from storage.observations.notebook import Notebook
from tests.gateway.commands import ANNE, BEN, Commands
from tests.gateway.commands import gateway as gateway  # the fixture

AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
RZ1, RZ2 = TrustId("RZ1"), TrustId("RZ2")


def observed(gateway: Commands, work: Callable[[Notebook], Awaitable[None]]) -> None:
    """Let the gateway observe something, beside the commands."""
    gateway.do("patient", "add", "--patient", ANNE)  # makes the database
    configuration, clock = configuration_of(gateway.path), SystemClock()

    async def run() -> None:
        async with open_store(configuration, clock, node="node-1") as store:
            notebook = open_notebook(configuration, store, clock)
            await work(notebook)
            await notebook.write()

    asyncio.run(run())


async def anne_at_rz2(notebook: Notebook) -> None:
    """Anne was seen at RZ2, which is heard since, and fails; and there was nothing of her at RZ1."""
    anne = NhsNumber(ANNE)
    notebook.note([Sighting(anne, RZ1, AT, SeenBy.SAMPLE, False, True)])
    notebook.write_down(PeerStanding(RZ2, 4, AT + timedelta(seconds=30), SourceState.TIMED_OUT, SourceState.ANSWERED))
    await notebook.told(RZ2, "1.2.3", AT, 10)
    await notebook.heard(RZ2, AT, [Sighting(anne, RZ2, AT, SeenBy.NOTIFICATION, True, False)])


def test_where_imaging_was_seen_is_shown_with_when_and_how(gateway: Commands) -> None:
    observed(gateway, anne_at_rz2)
    none_there, seen = gateway.json("location", "show", "--patient", ANNE, "--by", "anna.ig")
    assert (seen["trust"], seen["seen_by"], seen["none_there"]) == ("RZ2", "notification", None)
    assert seen["seen"].startswith("2026-11-20T09:30:00")
    assert (none_there["trust"], none_there["seen"], none_there["none_by"]) == ("RZ1", None, "sample")


def test_nothing_known_is_never_called_nothing_there(gateway: Commands) -> None:
    observed(gateway, anne_at_rz2)
    assert "does not mean there is nothing" in gateway.do("location", "show", "--patient", BEN)


def test_each_look_at_a_patient_stands_in_the_audit(gateway: Commands) -> None:
    observed(gateway, anne_at_rz2)
    gateway.do("location", "show", "--patient", ANNE, "--by", "anna.ig")
    gateway.do("location", "show", "--trust", "RZ2")
    [look] = [entry for entry in gateway.audit() if entry["event"] == "explain"]
    assert "anna.ig" in str(look) and "location-show" in str(look)


def test_a_trust_is_shown_with_its_feed_and_its_standing(gateway: Commands) -> None:
    observed(gateway, anne_at_rz2)
    shown = gateway.json("location", "show", "--trust", "rz2")
    assert (shown["trust"], shown["patients_seen"], shown["feed_live"]) == ("RZ2", 1, False)
    assert (shown["peer_state"], shown["peer_failures"]) == ("timed-out", 4)
    assert shown["notices_waiting"] == 1
    assert gateway.json("location", "show", "--trust", "RZ1")["feed_heard"] is None


def test_a_look_is_at_one_patient_or_one_trust(gateway: Commands) -> None:
    assert "one of the two" in gateway.refused("location", "show")
    assert "one of the two" in gateway.refused("location", "show", "--patient", ANNE, "--trust", "RZ1")
    assert "RZ9" in gateway.refused("location", "show", "--trust", "RZ9")
