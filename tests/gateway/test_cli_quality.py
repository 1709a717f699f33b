"""`gateway quality`: what custodians must put right, and the act that lets a study out of its quarantine (SAF-08)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.cli.session import configuration_of
from gateway.model.seams import STUDY_OF_TWO_PATIENTS, QualityItem
from gateway.node import SystemClock, open_store
from policy.parties import NhsNumber, TrustId
from tests.gateway.commands import ANNE, BEN, Commands
from tests.gateway.commands import gateway as gateway  # the fixture

AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
RZ1, RZ2 = TrustId("RZ1"), TrustId("RZ2")
OF_TWO = [
    QualityItem(STUDY_OF_TWO_PATIENTS, trust, "1.2.3", NhsNumber(number), {"trusts": ["RZ1", "RZ2"]})
    for trust, number in ((RZ1, ANNE), (RZ2, BEN))
]


def met(gateway: Commands, items: Sequence[QualityItem]) -> dict[str, str]:
    """Let the gateway meet these beside the commands; the items' numbers by custodian."""
    gateway.do("patient", "add", "--patient", ANNE)  # makes the database

    async def run() -> None:
        async with open_store(configuration_of(gateway.path), SystemClock(), node="node-1") as store:
            await store.report_quality(items, AT)

    asyncio.run(run())
    return {row["custodian"]: row["item"] for row in gateway.json("quality", "list")}


def test_items_are_listed_with_what_they_keep_from_callers_and_without_a_patient(gateway: Commands) -> None:
    met(gateway, [*OF_TWO, QualityItem("demographics-doubtful", RZ2, "1.2.4", NhsNumber(BEN), {})])
    listed = {row["study"]: row["withheld_until_resolved"] for row in gateway.json("quality", "list", "--trust", "RZ2")}
    assert listed == {"1.2.3": True, "1.2.4": False}
    assert BEN not in gateway.do("quality", "list")


def test_the_regions_status_says_what_waits_and_what_is_withheld_for_it(gateway: Commands) -> None:
    gateway.do("patient", "add", "--patient", ANNE)
    assert "put right" not in gateway.do("status", "--offline")
    met(gateway, [*OF_TWO, QualityItem("demographics-doubtful", RZ2, "1.2.4", NhsNumber(BEN), {})])
    assert "3 items, for which 1 studies are withheld" in gateway.do("status", "--offline")
    registers = gateway.json("status", "--offline")["registers"]
    assert (registers["quality_items_open"], registers["studies_in_quarantine"]) == (3, 1)


def test_a_study_of_two_patients_is_said_to_wait_for_the_other_custodian(gateway: Commands) -> None:
    items = met(gateway, OF_TWO)
    assert "reason" in gateway.refused("quality", "resolve", items["RZ1"], "--reason", " ")
    first = gateway.do("quality", "resolve", items["RZ1"], "--reason", "our copy was right")
    assert "stays withheld" in first and "RZ2" in first
    second = gateway.do("quality", "resolve", items["RZ2"], "--reason", "filed under the other patient now")
    assert "shown again" in second
    assert "no such open item" in gateway.refused("quality", "resolve", items["RZ2"], "--reason", "again")
    assert [change["act"] for change in gateway.changes()][-2:] == ["resolve", "resolve"]


def test_what_keeps_nothing_from_anybody_is_only_ticked_off(gateway: Commands) -> None:
    items = met(gateway, [QualityItem("demographics-doubtful", RZ2, "1.2.4", NhsNumber(BEN), {})])
    assert "shown" not in gateway.do("quality", "resolve", items["RZ2"], "--reason", "corrected")
