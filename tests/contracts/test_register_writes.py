"""What every register write promises: it raises the register version and stands in the audit, or did not happen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gateway.model.audit import AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.seams import QualityItem
from policy.facts import Register, RelationshipKind
from policy.optout import CaseEvent, CaseState, Role
from policy.parties import PatientId
from storage import audit_log
from storage.registers import agreements, labels, merges, optouts, patients, quality, relationships
from storage.registers.state import confirm, confirmed_at
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.storage.people import (
    ANNE,
    BEN,
    CALENDAR,
    CLERK,
    DAY,
    EAST,
    NORTH,
    OFFICER,
    SOUTH,
    case,
    grant,
    label,
    move,
    patient,
    relationship,
)

Act = Callable[[SqlStore], Awaitable[object]]
BASIS = merges.MergeBasis.TWO_PEOPLE


async def _merge(store: SqlStore) -> str:
    ben, anne = await patient(store, BEN), await patient(store, ANNE)
    return await store.write(lambda tx: merges.merge(tx, ben, anne, BASIS, CLERK))


async def _add_identifier(store: SqlStore) -> None:
    row = await patient(store)
    local = PatientId("RYJ", "0001234")
    await store.write(lambda tx: patients.add_identifier(tx, row, local, CLERK, source="test"))


async def _remove_identifier(store: SqlStore) -> None:
    await patient(store)
    await store.write(lambda tx: patients.remove_identifier(tx, patients.nhs(ANNE), CLERK))


async def _confirm_merge(store: SqlStore) -> None:
    merged = await _merge(store)
    await store.write(lambda tx: merges.confirm_merge(tx, merged, OFFICER))


async def _undo_merge(store: SqlStore) -> None:
    merged = await _merge(store)
    await store.write(lambda tx: merges.undo_merge(tx, merged, OFFICER))


async def _add_relationship(store: SqlStore) -> None:
    await relationship(store, await patient(store))


async def _end_relationship(store: SqlStore) -> None:
    kept = await relationship(store, await patient(store))
    await store.write(lambda tx: relationships.end(tx, kept, NOON, CLERK))


async def _undo_relationship(store: SqlStore) -> None:
    kept = await relationship(store, await patient(store))
    await store.write(lambda tx: relationships.undo(tx, kept, CLERK))


async def _open_case(store: SqlStore) -> None:
    await case(store, await patient(store))


async def _move_case(store: SqlStore) -> None:
    opened = await case(store, await patient(store))
    await move(store, opened.case_id, CaseEvent.VERIFY)


async def _import_agreement(store: SqlStore) -> None:
    await store.write(lambda tx: agreements.import_version(tx, SOUTH, [agreements.Clause()], NOON, CLERK))


async def _add_label(store: SqlStore) -> None:
    await label(store, await patient(store))


async def _end_label(store: SqlStore) -> None:
    labelled = await label(store, await patient(store))
    await store.write(lambda tx: labels.end_label(tx, labelled, NOON, CLERK))


async def _add_grant(store: SqlStore) -> None:
    await grant(store, await patient(store))


async def _end_grant(store: SqlStore) -> None:
    granted = await grant(store, await patient(store))
    await store.write(lambda tx: labels.end_grant(tx, granted, CLERK))


async def _confirm_register(store: SqlStore) -> None:
    await store.write(lambda tx: confirm(tx, Register.OPT_OUTS, CLERK))


ACTS: list[tuple[Act, str, str]] = [
    (patient, "patients", "create"),
    (_add_identifier, "patients", "add-identifier"),
    (_remove_identifier, "patients", "remove-identifier"),
    (_merge, "patients", "merge"),
    (_confirm_merge, "patients", "confirm-merge"),
    (_undo_merge, "patients", "undo-merge"),
    (_add_relationship, "relationships", "add"),
    (_end_relationship, "relationships", "end"),
    (_undo_relationship, "relationships", "undo"),
    (_open_case, "opt-outs", "receive"),
    (_move_case, "opt-outs", "verify"),
    (_import_agreement, "agreements", "import"),
    (_add_label, "labels", "add"),
    (_end_label, "labels", "end"),
    (_add_grant, "grants", "add"),
    (_end_grant, "grants", "end"),
    (_confirm_register, "opt-outs", "confirm"),
]


@pytest.mark.parametrize(("act", "register", "verb"), ACTS, ids=[f"{register}-{verb}" for _, register, verb in ACTS])
async def test_a_register_write_raises_the_version_and_stands_in_the_audit(
    store: SqlStore, act: Act, register: str, verb: str
) -> None:
    await act(store)
    records = await store.read(lambda read: audit_log.page(read, "north", 0))
    said = audit_log.contents(records[-1])
    body = said["body"]
    assert isinstance(body, dict)
    assert said["event"] == AuditEvent.REGISTER_CHANGE.value
    assert (body["register"], body["act"]) == (register, verb)
    assert body["by"] in ("clerk", "officer") and body["row"]
    # Each record is a write, and each write raised the version.
    assert await store.register_version() == len(records)


@pytest.mark.parametrize("number", [ANNE.digits])
async def test_the_audit_of_register_changes_names_rows_and_no_patient(store: SqlStore, number: str) -> None:
    for act, _, _ in ACTS:
        await act(store) if act not in (_confirm_merge, _undo_merge, _merge, _remove_identifier) else None
    records = await store.read(lambda read: audit_log.page(read, "north", 0))
    assert not [record for record in records if number.encode() in record.encoded]


async def test_looking_a_patient_up_again_is_no_register_write(store: SqlStore) -> None:
    first = await patient(store)
    assert await patient(store) == first
    assert await store.register_version() == 1


async def _clash(store: SqlStore) -> None:
    row = await patient(store, ANNE)
    await patient(store, BEN)
    await store.write(lambda tx: patients.add_identifier(tx, row, patients.nhs(BEN), CLERK, source="test"))


async def _unknown_identifier(store: SqlStore) -> None:
    await store.write(lambda tx: patients.remove_identifier(tx, patients.nhs(ANNE), CLERK))


async def _merge_again(store: SqlStore) -> None:
    await _merge(store)
    await _merge(store)


async def _merge_elsewhere(store: SqlStore) -> None:
    await _merge(store)
    ben, local = await patient(store, BEN), PatientId("RYJ", "7")
    third = await store.write(lambda tx: patients.ensure(tx, local, CLERK, source="test"))
    await store.write(lambda tx: merges.merge(tx, ben, third, BASIS, CLERK))


async def _confirm_alone(store: SqlStore) -> None:
    merged = await _merge(store)
    await store.write(lambda tx: merges.confirm_merge(tx, merged, CLERK))


async def _end_before_beginning(store: SqlStore) -> None:
    kept = await relationship(store, await patient(store))
    await store.write(lambda tx: relationships.end(tx, kept, NOON - DAY, CLERK))


async def _implement_at_once(store: SqlStore) -> None:
    opened = await case(store, await patient(store))
    await move(store, opened.case_id, CaseEvent.IMPLEMENT)


async def _import(store: SqlStore, clauses: list[agreements.Clause]) -> None:
    await store.write(lambda tx: agreements.import_version(tx, SOUTH, clauses, NOON, CLERK))


async def _grant_without_reason(store: SqlStore) -> None:
    new = labels.NewGrant(await patient(store), NORTH, "dr-jones", " ", NOON, NOON + DAY)
    await store.write(lambda tx: labels.add_grant(tx, new, CLERK))


async def _empty_grant(store: SqlStore) -> None:
    new = labels.NewGrant(await patient(store), NORTH, "dr-jones", "unconscious", NOON, NOON)
    await store.write(lambda tx: labels.add_grant(tx, new, CLERK))


REFUSALS: list[tuple[str, Callable[[SqlStore], Awaitable[object]]]] = [
    ("belongs to another", _clash),
    ("leads to no patient", _unknown_identifier),
    ("joined already", _merge_again),
    ("merged already", _merge_elsewhere),
    ("second person", _confirm_alone),
    ("no such merge", lambda store: store.write(lambda tx: merges.undo_merge(tx, "none", CLERK))),
    ("no such relationship", lambda store: store.write(lambda tx: relationships.undo(tx, "none", CLERK))),
    ("ends after it begins", _end_before_beginning),
    ("no such opt-out case", lambda store: move(store, "none", CaseEvent.VERIFY)),
    ("not in this state", _implement_at_once),
    ("two clauses", lambda store: _import(store, [agreements.Clause(), agreements.Clause()])),
    ("upper age", lambda store: _import(store, [agreements.Clause(age_min_years=16, age_max_years=15)])),
    ("no such label", lambda store: store.write(lambda tx: labels.end_label(tx, "none", NOON, CLERK))),
    ("no such grant", lambda store: store.write(lambda tx: labels.end_grant(tx, "none", CLERK))),
    ("needs a reason", _grant_without_reason),
    ("not after the beginning", _empty_grant),
]


@pytest.mark.parametrize(("words", "act"), REFUSALS, ids=[words for words, _ in REFUSALS])
async def test_a_refused_register_write_says_why_and_leaves_nothing(store: SqlStore, words: str, act: Act) -> None:
    with pytest.raises(InvalidRequest, match=words):
        await act(store)
    records = await store.read(lambda read: audit_log.page(read, "north", 0))
    assert await store.register_version() == len(records)


async def test_a_case_keeps_everything_that_happened_to_it(store: SqlStore, clock: FakeClock) -> None:
    row = await patient(store)
    opened = await case(store, row)
    for event in (CaseEvent.ACKNOWLEDGE, CaseEvent.VERIFY, CaseEvent.IMPLEMENT, CaseEvent.CONFIRM):
        await clock.advance(3600)
        await move(store, opened.case_id, event)
    past = await store.read(lambda read: optouts.history(read, opened.case_id))
    assert [(line.event, line.state) for line in past] == [
        ("receive", CaseState.RECEIVED),
        ("acknowledge", CaseState.ACKNOWLEDGED),
        ("verify", CaseState.VERIFIED),
        ("implement", CaseState.IMPLEMENTED),
        ("confirm", CaseState.CONFIRMED),
    ]
    assert [line.by for line in past] == ["clerk", *["officer"] * 4]
    assert past[0].role is Role.OFFICER
    (kept,) = await store.read(lambda read: optouts.cases(read, [row]))
    assert (kept.case.state, kept.patient_id, kept.channel) == (CaseState.CONFIRMED, row, "paper")
    assert kept.case.acknowledge_by == opened.acknowledge_by
    assert await store.read(lambda read: optouts.cases(read, ["somebody else"])) == []


async def test_cases_have_one_order_over_all_patients(store: SqlStore) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    opened = [await case(store, row) for row in (anne, ben, anne)]
    assert [each.sequence for each in opened] == [1, 2, 3]
    assert [each.case for each in await store.read(optouts.cases)] == opened
    assert CALENDAR.terms.acknowledge_working_days == 2


async def test_versions_of_an_agreement_are_numbered_and_compared(store: SqlStore, clock: FakeClock) -> None:
    everyone, ct = agreements.Clause(), agreements.Clause(modalities=frozenset({"CT"}))
    only_east = agreements.Clause(recipients=frozenset({EAST}))
    for clauses in ([everyone, ct], [ct, only_east]):
        await store.write(lambda tx, wanted=clauses: agreements.import_version(tx, SOUTH, wanted, clock.now(), CLERK))  # type: ignore[misc]  # the loop's own clauses
        await clock.advance(60)
    seen = await store.read(lambda read: agreements.versions(read, SOUTH))
    assert [(each.version, each.imported_by) for each in seen] == [(1, "clerk"), (2, "clerk")]
    before = await store.read(lambda read: agreements.in_force_at(read, SOUTH, NOON))
    found = agreements.difference(before, [ct, only_east])
    assert (found.added, found.removed, found.kept) == ((only_east,), (everyone,), (ct,))


async def test_an_open_quality_item_is_counted_and_not_doubled(store: SqlStore, clock: FakeClock) -> None:
    item = QualityItem("identity-conflict", SOUTH, "1.2.3", ANNE, {"differs": ["birth date"]})
    other = QualityItem("identity-conflict", EAST, "1.2.3", None, {})
    await store.report_quality([item, other], NOON)
    await clock.advance(60)
    await store.report_quality([item, item], clock.now())
    [opened] = await store.read(lambda read: quality.open_items(read, SOUTH))
    assert (opened.item, opened.times_seen, opened.opened_at, opened.last_seen_at) == (item, 3, NOON, clock.now())
    await store.write(lambda tx: quality.resolve(tx, opened.item_id, OFFICER))
    assert [each.item for each in await store.read(quality.open_items)] == [other]
    with pytest.raises(InvalidRequest, match="no such open item"):
        await store.write(lambda tx: quality.resolve(tx, opened.item_id, OFFICER))
    await store.report_quality([item], clock.now())
    assert len(await store.read(quality.open_items)) == 2
    assert await store.register_version() == 0


async def test_a_register_knows_when_it_was_last_confirmed(store: SqlStore, clock: FakeClock) -> None:
    assert await store.read(confirmed_at) == {}
    await store.write(lambda tx: confirm(tx, Register.OPT_OUTS, CLERK))
    await clock.advance(60)
    await store.write(lambda tx: confirm(tx, Register.OPT_OUTS, CLERK))
    assert await store.read(confirmed_at) == {Register.OPT_OUTS: clock.now()}


async def test_a_relationship_read_back_is_the_one_that_was_claimed(store: SqlStore) -> None:
    row = await patient(store)
    kept = await relationship(store, row, NORTH)
    [found] = await store.read(lambda read: relationships.of_patient(read, row))
    assert (found.relationship_id, found.trust, found.kind, found.evidence, found.valid_until) == (
        kept,
        NORTH,
        RelationshipKind.REFERRAL,
        "referral letter",
        None,
    )
