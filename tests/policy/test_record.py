"""The stored form of a decision: it reads back whole, in any process, and decides the same again (DEC-14)."""

import copy
import json
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from policy.access import Access, Decision, Reason, Resource
from policy.facts import (
    Agreement,
    CareRelationship,
    Facts,
    Grant,
    ImplementedChoice,
    Organisation,
    SensitiveLabel,
)
from policy.record import (
    DecisionRecord,
    UnreadableRecord,
    access_from_json,
    access_to_json,
    decision_from_json,
    decision_to_json,
    facts_from_json,
    facts_to_json,
    replay,
)
from policy.settings import JsonValue
from tests.policy.examples import (
    ANYTHING_WITH_ANYBODY,
    CLAIM,
    DEMO,
    KNOWN,
    NORTHMOOR,
    OPT_IN,
    OPT_OUT,
    SAFEGUARDING,
    SEE_HEAD_CT,
    judged,
)
from tests.policy.worlds import worlds

FULL = replace(KNOWN, choices=(OPT_OUT, OPT_IN), labels=(SAFEGUARDING,), grants=(CLAIM,))
RECORD = DecisionRecord(SEE_HEAD_CT, FULL, DEMO, judged(facts=FULL))


def _through_text(record: DecisionRecord) -> DecisionRecord:
    return DecisionRecord.from_json(json.loads(json.dumps(record.to_json())))


def test_a_record_reads_back_whole_and_decides_the_same_again() -> None:
    for world in worlds(200, 2_000):
        decision = judged(world.access, world.facts, world.settings)
        record = DecisionRecord(world.access, world.facts, world.settings, decision)
        again = _through_text(record)
        assert again == record and replay(again) == decision


def test_equal_values_are_stored_as_equal_bytes() -> None:
    facts = replace(FULL, agreements=(replace(ANYTHING_WITH_ANYBODY, modalities=frozenset({"MR", "CT", "US"})),))
    assert json.dumps(facts_to_json(facts)) == json.dumps(facts_to_json(copy.deepcopy(facts)))


def test_instants_are_stored_in_utc() -> None:
    summer = timezone(timedelta(hours=1))
    at = datetime(2026, 7, 1, 10, tzinfo=summer)
    stored = access_to_json(replace(SEE_HEAD_CT, at=at))
    assert stored["at"] == "2026-07-01T09:00:00+00:00"
    assert access_from_json(stored).at == at and access_from_json(stored).at.tzinfo is UTC


def test_an_instant_without_zone_is_not_recorded() -> None:
    with pytest.raises(ValueError, match="time zone"):
        access_to_json(replace(SEE_HEAD_CT, at=datetime(2026, 7, 1)))  # noqa: DTZ001  # the fault under test


def test_no_field_is_forgotten() -> None:
    stored = RECORD.to_json()
    facts, decision, access = stored["facts"], stored["decision"], stored["access"]
    assert isinstance(facts, dict) and isinstance(decision, dict) and isinstance(access, dict)
    for kind, value in [
        (Access, access),
        (Resource, access["resource"]),
        (Facts, facts),
        (Organisation, _first(facts["organisations"])),
        (CareRelationship, _first(facts["relationships"])),
        (ImplementedChoice, _first(facts["choices"])),
        (Agreement, _first(facts["agreements"])),
        (SensitiveLabel, _first(facts["labels"])),
        (Grant, _first(facts["grants"])),
        (Decision, decision),
        (Reason, _first(decision["reasons"])),
    ]:
        assert isinstance(value, dict) and list(value) == [field.name for field in fields(kind)]


def _first(value: JsonValue) -> JsonValue:
    assert isinstance(value, list)
    return value[0]


def test_a_record_of_the_first_form_opens_for_ever() -> None:
    golden = json.loads((Path(__file__).parent.parent / "golden" / "decision-record-1.json").read_text())
    read = DecisionRecord.from_json(golden)
    assert (read.access, read.facts, read.settings) == (RECORD.access, RECORD.facts, RECORD.settings)
    assert read.decision.decision_id == "d-1" and not read.decision.is_permitted


def _without_form(stored: dict[str, JsonValue]) -> None:
    del stored["form"]


def _of_a_later_form(stored: dict[str, JsonValue]) -> None:
    stored["form"] = 2


def _without_settings(stored: dict[str, JsonValue]) -> None:
    del stored["settings"]


def _at(stored: dict[str, JsonValue], part: str) -> dict[str, JsonValue]:
    inner = stored[part]
    assert isinstance(inner, dict)
    return inner


def _set(part: str, key: str, value: JsonValue) -> Callable[[dict[str, JsonValue]], None]:
    def change(stored: dict[str, JsonValue]) -> None:
        _at(stored, part)[key] = value

    return change


def _drop(part: str, key: str) -> Callable[[dict[str, JsonValue]], None]:
    def change(stored: dict[str, JsonValue]) -> None:
        del _at(stored, part)[key]

    return change


@pytest.mark.parametrize(
    "damage",
    [
        _without_form,
        _of_a_later_form,
        _without_settings,
        _drop("access", "purpose"),
        _set("access", "purpose", "CARE"),
        _set("access", "purpose", 3),
        _set("access", "at", "yesterday"),
        _set("access", "at", "2026-07-01T09:00:00"),
        _set("access", "patient_named", 1),
        _set("access", "recipient", "?"),
        _set("access", "teams", "neurology"),
        _set("access", "extra", None),
        _set("access", "resource", None),
        _set("facts", "register_version", True),
        _set("facts", "patient", "9990000019"),
        _set("facts", "organisations", [None]),
        _set("facts", "faults", ["weather"]),
        _set("settings", "mode", "live"),
        _set("settings", "extra", 1),
        _drop("settings", "mode"),
        _set("settings", "proof_https", []),
        _set("decision", "effect", "maybe"),
    ],
)
def test_a_damaged_record_is_refused_and_not_guessed_at(damage: Callable[[dict[str, JsonValue]], None]) -> None:
    stored = RECORD.to_json()
    damage(stored)
    with pytest.raises(UnreadableRecord) as refusal:
        DecisionRecord.from_json(stored)
    assert "9990000019" not in str(refusal.value)


def test_the_parts_are_stored_alone_too() -> None:
    assert facts_from_json(facts_to_json(FULL)) == FULL
    assert decision_from_json(decision_to_json(RECORD.decision)) == RECORD.decision


def test_a_replay_under_other_facts_differs() -> None:
    assert replay(replace(RECORD, access=replace(SEE_HEAD_CT, recipient=NORTHMOOR), facts=KNOWN)) != RECORD.decision
