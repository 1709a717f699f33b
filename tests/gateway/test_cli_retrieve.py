"""`gateway retrieve`: what the ledger says of retrievals, for people and as JSON."""

from __future__ import annotations

import json

from gateway.keeping.keeping import Keeping
from gateway.model.imaging import JsonValue
from gateway.model.seams import RECEIVED_AND_WITHDRAWN, QualityItem
from gateway.model.work.retrievals import Halt, InstanceState
from storage.store import SqlStore
from tests.clock import NOON
from tests.gateway.commands import Commands
from tests.gateway.commands import gateway as gateway  # the fixture
from tests.gateway.test_cli_keeping import served
from tests.storage.people import NORTH
from tests.storage.test_ledger import frozen, noted, retrieval


async def one_sent_one_failed(keeping: Keeping, store: SqlStore) -> None:
    """A retrieval of two instances that ended, and one that is under way."""
    sent, failed = frozen(1), frozen(2)
    await keeping.ledger.freeze(retrieval("r1", [sent, failed]))
    words = "the archive did not send it"
    await keeping.ledger.note("r1", [noted(sent, InstanceState.SENT), noted(failed, InstanceState.FAILED, words=words)])
    await keeping.ledger.end("r1", NOON, None)
    await keeping.ledger.freeze(retrieval("r2", [frozen(3)]))


def test_retrievals_are_listed_with_what_was_sent_and_what_failed(gateway: Commands) -> None:
    served(gateway, one_sent_one_failed)
    listed = {row["retrieval"]: row for row in json.loads(gateway.do("retrieve", "list", "--json"))}
    assert listed["r1"]["instances"] == "1 of 2" and listed["r1"]["failed"] == 1
    assert listed["r1"]["state"] == "ended" and listed["r2"]["state"] == "under way"
    assert [row["retrieval"] for row in json.loads(gateway.do("retrieve", "list", "--failed", "--json"))] == ["r1"]
    assert [row["retrieval"] for row in json.loads(gateway.do("retrieve", "list", "--open", "--json"))] == ["r2"]


def test_a_retrieval_is_shown_with_every_failure(gateway: Commands) -> None:
    served(gateway, one_sent_one_failed)
    shown = json.loads(gateway.do("retrieve", "show", "r1", "--json"))
    assert (shown["sent"], shown["failed"], shown["remaining"]) == (1, 1, 0)
    assert [(each["instance"], each["words"]) for each in shown["failures"]] == [
        ("1.2.1.2", "the archive did not send it")
    ]
    assert shown["delivered"] == []
    assert "the archive did not send it" in gateway.do("retrieve", "show", "r1")


def test_what_failed_is_resumed_once_and_its_job_stands_beside_it(gateway: Commands) -> None:
    served(gateway, one_sent_one_failed)
    [first] = json.loads(gateway.do("retrieve", "resume", "r1", "--by", "coordinator", "--json"))
    [again] = json.loads(gateway.do("retrieve", "resume", "r1", "--by", "coordinator", "--json"))
    assert (first["is"], again["is"]) == ("queued", "queued before") and first["job"] == again["job"]
    assert f"and the job is queued until it runs: gateway jobs show {first['job']}" in gateway.errors
    shown = json.loads(gateway.do("retrieve", "show", "r1", "--json"))
    assert [(each["resumed_by"], each["state"]) for each in shown["resumed"]] == [(first["job"], "ready")]
    assert json.loads(gateway.do("jobs", "show", first["job"], "--json"))["of_retrieval"] == "r1"
    assert "still under way" in gateway.refused("retrieve", "resume", "r2", "--by", "coordinator")


async def one_sent_one_stopped(keeping: Keeping, store: SqlStore) -> None:
    """A retrieval that policy stopped behind its first instance."""
    sent, stopped = frozen(1), frozen(2)
    await keeping.ledger.freeze(retrieval("r1", [sent, stopped]))
    await keeping.ledger.note("r1", [noted(sent, InstanceState.SENT), noted(stopped, InstanceState.FAILED)])
    await keeping.ledger.end("r1", NOON, Halt.POLICY)


def test_what_went_before_policy_stopped_the_rest_is_listed(gateway: Commands) -> None:
    served(gateway, one_sent_one_stopped)
    shown = json.loads(gateway.do("retrieve", "show", "r1", "--json"))
    assert (shown["stopped"], [each["instance"] for each in shown["delivered"]]) == ("policy", ["1.2.1.1"])
    assert "1.2.1.1" in gateway.do("retrieve", "show", "r1")


async def withdrawn_from_north(keeping: Keeping, store: SqlStore) -> None:
    """RJ1 received what its source withdrew."""
    detail: dict[str, JsonValue] = {"source": "RYJ", "instances": 2, "retrievals": ["r1"]}
    items = [
        QualityItem(RECEIVED_AND_WITHDRAWN, NORTH, "1.2", None, detail),
        QualityItem("demographics-differ", NORTH, "1.3", None, {}),
    ]
    await store.report_quality(items, NOON)


def test_who_has_withdrawn_images_is_listed_until_it_is_put_right(gateway: Commands) -> None:
    served(gateway, withdrawn_from_north)
    [row] = json.loads(gateway.do("retrieve", "told", "--json"))
    assert (row["trust"], row["study"], row["withdrawn_at"], row["instances"]) == ("RJ1", "1.2", "RYJ", 2)
    assert json.loads(gateway.do("retrieve", "told", "--trust", "RT3", "--json")) == []
    gateway.do("quality", "resolve", row["item"], "--by", "officer", "--reason", "deleted here too")
    assert json.loads(gateway.do("retrieve", "told", "--json")) == []


def test_the_status_of_the_region_says_what_waits_and_what_is_under_way(gateway: Commands) -> None:
    served(gateway, one_sent_one_failed)
    gateway.do("retrieve", "resume", "r1", "--by", "coordinator")
    images = gateway.json("status", "--offline")["images"]
    assert (images["retrievals_open"], images["cache_bytes"], images["sole_copies"]) == (1, 0, 0)
    assert images["jobs"]["interactive"]["ready"] == 1
    assert "jobs (interactive): 0 run, 1 are queued" in gateway.do("status", "--offline")


def test_an_unknown_retrieval_is_refused(gateway: Commands) -> None:
    served(gateway, one_sent_one_failed)
    assert "no such retrieval" in gateway.refused("retrieve", "show", "r9")
