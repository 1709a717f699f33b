"""Who may do what about a report, and what comes of it: holds, early release, stops, choices (A6, SAF-64, SAF-69)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.model.errors import GatewayError, InvalidRequest, NotFound
from gateway.model.reporting.reading import Choices
from gateway.release.acts import Role, Staff
from policy.parties import NhsNumber, TrustId
from policy.release.circumstances import HoldKind, ReleaseState
from policy.release.reports import Said
from storage.registers import merges
from storage.registers.merges import MergeBasis
from storage.registers.patients import nhs
from storage.registers.state import Author
from tests.release.incoming import NORTH, SARAH
from tests.release.portal import Portal
from tests.release.release_rig import (
    CLERK,
    CLINICIAN,
    DUE_AT,
    GO_LIVE,
    LEAD,
    MONDAY,
    RESPONSIBLE,
    Rig,
    opened,
    verified,
)

STRANGER = Staff("Dr S Stranger", TrustId("RZ2"), Role.RESPONSIBLE)
REVIEW_ON = (MONDAY + timedelta(days=14)).date()


@pytest.fixture
def portal() -> Portal:
    """One portal that takes everything."""
    return Portal()


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str, portal: Portal) -> AsyncIterator[Rig]:
    """One process over one portal."""
    async with opened(tmp_path, sqlite_url, portal) as running:
        yield running


async def hold(rig: Rig, staff: Staff, report_id: str, kind: HoldKind, days: int = 14, reason: str = "as said") -> None:
    """A hold, for so many days."""
    review_on = (rig.clock.now() + timedelta(days=days)).date()
    await rig.store.write(lambda tx: rig.acts.hold(tx, staff, report_id, kind, reason, review_on))


async def current(rig: Rig, report_id: str) -> str:
    """The version that stands."""
    return (await rig.report(report_id)).current_version or ""


@pytest.mark.parametrize(
    ("staff", "kind", "error"),
    [
        (CLERK, HoldKind.SERIOUS_HARM, InvalidRequest),
        (CLINICIAN, HoldKind.SERIOUS_HARM, InvalidRequest),
        (LEAD, HoldKind.SERIOUS_HARM, InvalidRequest),
        (CLERK, HoldKind.TIMING, InvalidRequest),
        (STRANGER, HoldKind.WRONG_PATIENT, NotFound),
        (RESPONSIBLE, HoldKind.SERIOUS_HARM, None),
        (CLINICIAN, HoldKind.TIMING, None),
        (CLERK, HoldKind.WRONG_PATIENT, None),
        (LEAD, HoldKind.LEGAL, None),
    ],
)
async def test_a_hold_is_placed_by_whom_its_kind_allows(
    rig: Rig, staff: Staff, kind: HoldKind, error: type[GatewayError] | None
) -> None:
    report_id = await rig.file(verified())
    if error is not None:
        with pytest.raises(error):
            await hold(rig, staff, report_id, kind)
        assert (await rig.report(report_id)).state is ReleaseState.EMBARGOED
        return
    await hold(rig, staff, report_id, kind)
    [entry] = await rig.audit("hold")
    assert (entry["by"], entry["kind"], entry["reason"]) == (
        f"{staff.name} ({staff.role.value})",
        kind.value,
        "as said",
    )


@pytest.mark.parametrize("days", [0, -1, 29])
async def test_a_hold_names_a_review_date_that_is_neither_over_nor_far(rig: Rig, days: int) -> None:
    report_id = await rig.file(verified())
    with pytest.raises(InvalidRequest):
        await hold(rig, CLERK, report_id, HoldKind.WRONG_PATIENT, days)


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501])
async def test_no_act_goes_without_its_reason(rig: Rig, reason: str) -> None:
    report_id = await rig.file(verified())
    version = await current(rig, report_id)
    with pytest.raises(InvalidRequest):
        await hold(rig, CLERK, report_id, HoldKind.WRONG_PATIENT, reason=reason)
    with pytest.raises(InvalidRequest):
        await rig.store.write(lambda tx: rig.acts.release_early(tx, CLINICIAN, report_id, version, reason))
    with pytest.raises(InvalidRequest):
        await rig.store.write(lambda tx: rig.acts.stop(tx, LEAD, NORTH, reason, MONDAY + timedelta(days=1)))


async def test_a_hold_never_lapses_into_release_and_one_of_timing_does(rig: Rig, portal: Portal) -> None:
    lasting = await rig.file(verified())
    timed = await rig.file(verified(report_number="R-2"), name="m-2")
    await rig.on(DUE_AT - timedelta(days=7))
    await hold(rig, RESPONSIBLE, lasting, HoldKind.SERIOUS_HARM)
    await hold(rig, CLINICIAN, timed, HoldKind.TIMING)
    await rig.look(DUE_AT)
    assert portal.shown == {}
    await rig.look(DUE_AT + timedelta(days=8))
    assert [each.report_id for each in portal.shown.values()] == [timed]
    kept = await rig.report(lasting)
    assert (kept.state, "hold-overdue" in kept.flags) == (ReleaseState.HELD, True)


async def test_a_hold_that_somebody_has_looked_at_is_overdue_no_more(rig: Rig) -> None:
    report_id = await rig.file(verified())
    await hold(rig, RESPONSIBLE, report_id, HoldKind.SERIOUS_HARM, days=7)
    await rig.look(MONDAY + timedelta(days=9))
    assert "hold-overdue" in (await rig.report(report_id)).flags
    [kept] = (await rig.situation(report_id)).held
    prolong = partial(rig.acts.prolong_hold, hold_id=kept.hold_id, reason="it stands")
    day = (MONDAY + timedelta(days=20)).date()
    with pytest.raises(InvalidRequest):
        await rig.store.write(partial(prolong, staff=CLERK, review_on=day))
    with pytest.raises(InvalidRequest):
        await rig.store.write(partial(prolong, staff=RESPONSIBLE, review_on=(MONDAY + timedelta(days=60)).date()))
    await rig.store.write(partial(prolong, staff=RESPONSIBLE, review_on=day))
    kept_report = await rig.report(report_id)
    assert (kept_report.state, "hold-overdue" in kept_report.flags) == (ReleaseState.HELD, False)


async def test_only_the_trusts_own_clinician_with_a_reason_releases_early(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified())
    version = await current(rig, report_id)
    for staff, error in ((CLERK, InvalidRequest), (LEAD, InvalidRequest), (STRANGER, NotFound)):
        with pytest.raises(error):
            act = partial(rig.acts.release_early, staff=staff, report_id=report_id, version_id=version, reason="spoke")
            await rig.store.write(act)
    await rig.store.write(lambda tx: rig.acts.release_early(tx, CLINICIAN, report_id, version, "spoke to the patient"))
    await rig.work()
    assert portal.texts == [["No fracture."]]


async def test_an_early_release_passes_neither_a_hold_nor_a_foreign_identity(rig: Rig, portal: Portal) -> None:
    rig.demographics.sarah(family_name="Haddad", surnames=frozenset({"Haddad"}))
    report_id = await rig.file(verified())
    version = await current(rig, report_id)
    await hold(rig, CLERK, report_id, HoldKind.WRONG_PATIENT)
    await rig.store.write(lambda tx: rig.acts.release_early(tx, CLINICIAN, report_id, version, "spoke to the patient"))
    await rig.work()
    [entry] = await rig.audit("hold")
    await rig.store.write(lambda tx: rig.acts.end_hold(tx, LEAD, str(entry["hold"]), "it is this patient's"))
    await rig.work()
    assert portal.put_count == 0
    assert (await rig.report(report_id)).held_for == frozenset({"identity"})


async def test_a_clerk_stops_what_may_be_somebody_elses_and_does_not_let_it_go_on(rig: Rig) -> None:
    report_id = await rig.file(verified())
    for kind in (HoldKind.IDENTITY, HoldKind.WRONG_PATIENT):
        await hold(rig, CLERK, report_id, kind)
        kept = next(each for each in (await rig.situation(report_id)).held if each.kind is kind)
        end = partial(rig.acts.end_hold, hold_id=kept.hold_id, reason="looked into")
        with pytest.raises(InvalidRequest):
            await rig.store.write(partial(end, staff=CLERK))
        await rig.store.write(partial(end, staff=LEAD))


async def test_an_early_release_is_of_the_version_that_was_read(rig: Rig) -> None:
    report_id = await rig.file(verified())
    read = await current(rig, report_id)
    await rig.file(verified(MONDAY + timedelta(hours=1), "A fracture.", said=Said.CORRECTED), name="m-2")
    with pytest.raises(InvalidRequest):
        await rig.store.write(lambda tx: rig.acts.release_early(tx, CLINICIAN, report_id, read, "as read"))


async def test_what_was_never_released_cannot_be_retracted(rig: Rig) -> None:
    report_id = await rig.file(verified())
    version = await current(rig, report_id)
    with pytest.raises(InvalidRequest):
        await rig.store.write(lambda tx: rig.acts.retract(tx, CLINICIAN, report_id, version, "it misleads"))


async def test_a_stopped_trust_releases_nothing_until_somebody_lets_it_go_on(rig: Rig, portal: Portal) -> None:
    await rig.file(verified())
    await rig.on(DUE_AT - timedelta(hours=1))
    until = DUE_AT + timedelta(days=7)
    assert await rig.store.write(lambda tx: rig.acts.stop(tx, CLERK, NORTH, "the RIS sends nonsense", until))
    assert not await rig.store.write(lambda tx: rig.acts.stop(tx, LEAD, NORTH, "again", until))
    await rig.look(DUE_AT + timedelta(days=1))
    await rig.look(DUE_AT + timedelta(days=9))
    assert portal.put_count == 0
    with pytest.raises(InvalidRequest):
        await rig.store.write(lambda tx: rig.acts.restart(tx, CLERK, NORTH, "it is fine"))
    assert await rig.store.write(lambda tx: rig.acts.restart(tx, LEAD, NORTH, "the RIS was mended"))
    await rig.look()
    assert len(portal.shown) == 1


async def test_a_stop_names_its_review_time(rig: Rig) -> None:
    for until in (MONDAY, MONDAY + timedelta(days=15)):
        with pytest.raises(InvalidRequest):
            await rig.store.write(partial(rig.acts.stop, staff=LEAD, trust=NORTH, reason="why", review_at=until))


async def test_what_was_verified_before_go_live_goes_once_governance_approves_the_count(
    rig: Rig, portal: Portal
) -> None:
    rig.terms = replace(rig.terms, go_live_at=MONDAY + timedelta(days=1))
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    assert (await rig.report(report_id)).state is ReleaseState.NOT_FOR_RELEASE
    span = (GO_LIVE, MONDAY + timedelta(days=1))
    assert await rig.store.read(lambda read: rig.acts.retrospective(read, NORTH, *span)) == 1
    for staff, count in ((CLINICIAN, 1), (LEAD, 2)):
        with pytest.raises(InvalidRequest):
            act = partial(rig.acts.approve_retrospective, staff=staff, trust=NORTH, span=span, reason="agreed")
            await rig.store.write(partial(act, expected=count))
    await rig.store.write(lambda tx: rig.acts.approve_retrospective(tx, LEAD, NORTH, span, 1, "agreed by the board"))
    await rig.look()
    assert len(portal.shown) == 1


async def test_an_approval_lets_nothing_go_that_came_after_its_count(rig: Rig, portal: Portal) -> None:
    rig.terms = replace(rig.terms, go_live_at=MONDAY + timedelta(days=60))
    span = (MONDAY - timedelta(days=400), MONDAY)
    before = replace(verified(MONDAY - timedelta(days=301)), accessions=("D1",), report_number="D1")
    await rig.file(replace(before, said=Said.PRELIMINARY, verification=None), "draft")
    counted = await rig.file(verified(MONDAY - timedelta(days=300), "counted"), "counted")
    await rig.store.write(lambda tx: rig.acts.approve_retrospective(tx, LEAD, NORTH, span, 1, "agreed by the board"))
    await rig.on(MONDAY + timedelta(minutes=5))
    late = verified(MONDAY - timedelta(days=300), "backload", received_at=rig.clock.now())
    unread = await rig.file(replace(late, accessions=("N1",), report_number="N1"), "backload")
    drafted = await rig.file(replace(late, accessions=("D1",), report_number="D1"), "signed")
    await rig.look(MONDAY + timedelta(minutes=30))
    assert portal.texts == [["counted"]]
    assert (await rig.report(counted)).state is ReleaseState.RELEASED
    for report_id in (unread, drafted):
        assert (await rig.report(report_id)).state is ReleaseState.NOT_FOR_RELEASE


async def test_a_patient_who_wants_none_now_gets_none_until_they_say_otherwise(rig: Rig, portal: Portal) -> None:
    first = await rig.file(verified())
    await rig.look(DUE_AT)
    row = await rig.store.patient_row(nhs(NhsNumber("9990000018")))
    assert await rig.store.write(lambda tx: rig.acts.choose(tx, row, Choices(not_now=True), "request-9"))
    second = await rig.file(verified(report_number="R-2", text="Also well."), name="m-2")
    await rig.look(DUE_AT + timedelta(days=1))
    assert {each.report_id for each in portal.shown.values()} == {first}
    assert (await rig.report(second)).state is ReleaseState.HELD
    assert await rig.store.write(lambda tx: rig.acts.choose(tx, row, Choices(), "request-10"))
    await rig.look()
    assert {each.report_id for each in portal.shown.values()} == {first, second}


@pytest.mark.parametrize(("is_offered", "is_adult", "expected"), [(True, True, 1), (False, True, 0), (True, False, 0)])
async def test_an_adult_who_chose_a_letter_is_written_to_where_the_trust_offers_it(
    tmp_path: Path, sqlite_url: str, is_offered: bool, is_adult: bool, expected: int
) -> None:
    portal, letter = Portal(), Portal("letter")
    born = SARAH.birth_date if is_adult else date(2012, 1, 1)
    async with opened(tmp_path, sqlite_url, portal, letter) as rig:
        rig.terms = replace(rig.terms, channels=("portal",), letter_for_adults=is_offered)
        rig.demographics.sarah(birth_date=born)
        row = await rig.store.patient_row(nhs(NhsNumber("9990000018")))
        await rig.store.write(lambda tx: rig.acts.choose(tx, row, Choices(letter=True), "request-9"))
        await rig.file(verified(subject=replace(SARAH, birth_date=born)))
        await rig.look(DUE_AT)
        assert (len(portal.shown), len(letter.shown)) == (1, expected)


async def test_a_choice_under_one_number_counts_for_the_other_while_a_merge_waits(rig: Rig, portal: Portal) -> None:
    report_id = await rig.file(verified())
    row = await rig.store.patient_row(nhs(NhsNumber("9990000018")))
    other = await rig.store.patient_row(nhs(NhsNumber("9990000026")))
    author = Author("J Doe", "request-1")
    await rig.store.write(lambda tx: merges.merge(tx, other, row, MergeBasis.TWO_PEOPLE, author))
    await rig.store.write(lambda tx: rig.acts.choose(tx, other, Choices(not_now=True), "request-9"))
    await rig.look()
    assert (await rig.report(report_id)).held_for >= {"patient-request"}
    await rig.look(DUE_AT)
    assert portal.put_count == 0


async def test_a_choice_that_changes_nothing_leaves_nothing_behind(rig: Rig) -> None:
    row = await rig.store.patient_row(nhs(NhsNumber("9990000018")))
    assert not await rig.store.write(lambda tx: rig.acts.choose(tx, row, Choices(), "request-9"))
    assert await rig.audit() == []
