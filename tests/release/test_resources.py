"""FHIR resources by their ids: what a server says later of a report reaches it, whatever else it leaves out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.feeds.fhir.reading import read_message
from gateway.feeds.profile import Feed, FeedKind
from gateway.model.imaging import JsonValue
from gateway.model.reporting.seams import MessageState
from policy.release.lifecycle import fold
from policy.release.reports import Standing
from storage.release import reports
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import NORTH, RECEIVED_AT
from tests.release.rig import Rig
from tests.release.test_numbers import TOLERANCE
from tests.storage.keyrings import Place

Json = dict[str, JsonValue]
OTHER = "north-fhir-2"


def resource(hour: int = 9, status: str = "final", text: str = "Cancer.", more: Json | None = None) -> Json:
    """A report of which nothing is told but its id, and what else is given."""
    whole: Json = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": status,
        "subject": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}},
        "issued": f"2026-11-20T{hour:02}:00:00Z",
        "conclusion": text,
    }
    return whole | (more or {})


def ordered(number: str, kind: str = "ACSN") -> Json:
    """Inside a report: the order that it answers, by one number."""
    identifier: Json = {"type": {"coding": [{"code": kind}]}, "value": number}
    order: Json = {"resourceType": "ServiceRequest", "id": "s", "identifier": [identifier]}
    return {"contained": [order], "basedOn": [{"reference": "#s"}]}


@pytest.fixture
async def rig(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    place = Place(tmp_path / "keys", clock)
    async with place.keyring() as keys:
        yield Rig(store, keys)


async def take(rig: Rig, whole: Json, feed: str = "north-fhir") -> str:
    """The report to which it was filed."""
    raw = orjson.dumps(whole)
    received, wrong = read_message(raw, Feed(feed, NORTH, FeedKind.FHIR, "RZ1-PAS"), RECEIVED_AT)
    assert wrong is None
    taken = await rig.intake.take(received)
    assert taken.state is MessageState.FILED
    (report_id,) = taken.report_ids
    return report_id


async def standing(rig: Rig, report_id: str) -> Standing:
    """What stands of a report."""
    return fold(await rig.store.read(lambda read: reports.versions(read, report_id)), TOLERANCE).standing


STOPPED = [("entered-in-error", Standing.WITHDRAWN), ("cancelled", Standing.CANCELLED)]


@pytest.mark.parametrize(("status", "stands"), STOPPED)
@pytest.mark.parametrize("kind", ["ACSN", "FILL"])
@pytest.mark.parametrize(
    "says", [{}, {"basedOn": [{"reference": "ServiceRequest/9"}]}, {"identifier": [{"value": "REP-9"}]}]
)
async def test_a_bare_resource_stops_the_report_that_came_with_its_order(
    rig: Rig, status: str, stands: Standing, kind: str, says: Json
) -> None:
    told = await take(rig, resource(more=ordered("A-1", kind)))
    assert await take(rig, resource(11, status, "", says)) == told
    assert await standing(rig, told) is stands


async def test_a_report_that_comes_after_its_bare_withdrawal_is_the_one_that_was_withdrawn(rig: Rig) -> None:
    told = await take(rig, resource(11, "entered-in-error", ""))
    assert await take(rig, resource(more=ordered("A-1"))) == told
    assert await standing(rig, told) is Standing.WITHDRAWN


async def test_a_resource_that_was_read_already_keeps_its_id(rig: Rig) -> None:
    whole = resource(more=ordered("A-1"))
    told = await take(rig, {name: value for name, value in whole.items() if name != "id"})
    assert await take(rig, whole) == told
    assert await take(rig, resource(11, "entered-in-error", "")) == told


async def test_an_id_is_that_of_its_feed_alone(rig: Rig) -> None:
    told = await take(rig, resource(more=ordered("A-1")))
    assert await take(rig, resource(11, "entered-in-error", ""), OTHER) != told
    assert await standing(rig, told) is Standing.VERIFIED


async def test_reports_of_two_accessions_are_two_though_a_server_calls_both_alike(rig: Rig) -> None:
    told = await take(rig, resource(more=ordered("A-1")))
    other = await take(rig, resource(10, text="No cancer.", more=ordered("A-2")))
    assert told != other
    assert {await standing(rig, told), await standing(rig, other)} == {Standing.VERIFIED}
