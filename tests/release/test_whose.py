"""On the day: the report's patient against a fresh trace, the account, the age, and death (SAF-65, SAF-66, REL-44)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from gateway.model.errors import InvalidRequest
from gateway.model.reporting.channels import Account
from gateway.model.reporting.incoming import IncomingReport, ReportSource
from gateway.model.reporting.tracing import TracedPerson
from gateway.model.seams import TraceState
from policy.parties import NhsNumber, PatientId
from policy.release.circumstances import Death, ReleaseState
from policy.release.reports import Problem, Said
from storage.registers import merges
from storage.registers.merges import MergeBasis
from storage.registers.patients import nhs
from storage.registers.state import Author
from storage.release.deliveries import DeliveryState
from tests.release.incoming import OMAR, SARAH
from tests.release.portal import PROVEN, Portal
from tests.release.release_rig import CLERK, CLINICIAN, DUE_AT, LEAD, MONDAY, Rig, opened, verified

NUMBER = NhsNumber("9990000018")
OTHER = NhsNumber("9990000026")


@pytest.fixture
def portal() -> Portal:
    """One portal that takes everything."""
    return Portal()


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str, portal: Portal) -> AsyncIterator[Rig]:
    """One process over one portal."""
    async with opened(tmp_path, sqlite_url, portal) as running:
        yield running


@pytest.mark.parametrize(
    "otherwise",
    [
        {"birth_date": date(1980, 2, 28)},
        {"birth_date": None},
        {"family_name": "Haddad", "surnames": frozenset({"Haddad"})},
        {"given_name": "Omar"},
        {"number_status": "03"},
        {"number_status": ""},
        {"state": TraceState.SUPERSEDED, "number": OTHER},
        {"state": TraceState.INVALIDATED, "number": None},
    ],
)
async def test_a_report_whose_patient_disagrees_with_the_trace_is_held(
    rig: Rig, portal: Portal, otherwise: dict[str, object]
) -> None:
    rig.demographics.sarah(**otherwise)
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    assert portal.put_count == 0
    kept = await rig.report(report_id)
    assert (kept.state, kept.held_for) == (ReleaseState.HELD, frozenset({"identity"}))


@pytest.mark.parametrize(
    "otherwise",
    [
        {"surnames": frozenset({"O'Shea", "Brown"})},
        {"family_name": "Brown", "surnames": frozenset({"O'Shea", "Brown"})},
    ],
)
async def test_a_changed_surname_is_no_other_person(rig: Rig, portal: Portal, otherwise: dict[str, object]) -> None:
    rig.demographics.sarah(**otherwise)
    await rig.file(verified())
    await rig.look(DUE_AT)
    assert len(portal.shown) == 1


@pytest.mark.parametrize("state", [TraceState.FAILED, TraceState.UNKNOWN])
async def test_a_report_whose_patient_cannot_be_traced_stays_due_and_is_traced_again(
    rig: Rig, portal: Portal, state: TraceState
) -> None:
    rig.demographics.people = {NUMBER.digits: TracedPerson(state)}
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    assert (await rig.report(report_id)).state is ReleaseState.DUE
    rig.demographics.sarah()
    await rig.look(DUE_AT + timedelta(minutes=16))
    assert len(portal.shown) == 1


async def test_the_patient_is_not_asked_after_before_the_day(rig: Rig) -> None:
    await rig.file(verified())
    await rig.look(DUE_AT - timedelta(seconds=1))
    assert rig.demographics.asked == 0


async def test_a_formal_death_cancels_and_its_reversal_restores(rig: Rig, portal: Portal) -> None:
    rig.demographics.sarah(death=Death.FORMAL)
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    assert ((await rig.report(report_id)).state, portal.put_count) == (ReleaseState.CANCELLED, 0)
    rig.demographics.sarah()
    await rig.look(DUE_AT + timedelta(days=7, minutes=1))
    assert len(portal.shown) == 1


async def test_an_informal_death_holds(rig: Rig, portal: Portal) -> None:
    rig.demographics.sarah(death=Death.INFORMAL)
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    kept = await rig.report(report_id)
    assert (kept.state, kept.held_for, portal.put_count) == (ReleaseState.HELD, frozenset({"deceased"}), 0)


@pytest.mark.parametrize("account", [Account(is_there=False), Account(is_there=True, is_proven=False)])
async def test_without_a_proven_account_it_is_kept_due_and_looked_at_daily(
    rig: Rig, portal: Portal, account: Account
) -> None:
    portal.has_account = account
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    [delivery] = await rig.given(report_id)
    assert (delivery.state, portal.put_count) == (DeliveryState.NO_ACCOUNT, 0)
    assert (await rig.report(report_id)).state is ReleaseState.DUE
    portal.has_account = PROVEN
    await rig.look(DUE_AT + timedelta(days=1, minutes=1))
    assert len(portal.shown) == 1


async def test_signing_up_makes_visible_what_is_due(rig: Rig, portal: Portal) -> None:
    portal.has_account = Account(is_there=False)
    await rig.file(verified())
    await rig.look(DUE_AT)
    portal.has_account = PROVEN
    row = await rig.store.patient_row(nhs(NUMBER))
    await rig.clock.advance(600)
    assert await rig.store.write(lambda tx: rig.acts.signed_up(tx, row)) == 1
    await rig.work()
    assert len(portal.shown) == 1


async def test_a_sign_up_reaches_back_no_further_than_the_trust_says(rig: Rig, portal: Portal) -> None:
    rig.terms = replace(rig.terms, back_population_days=10)
    portal.has_account = Account(is_there=False)
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    for day in range(1, 12):
        await rig.look(DUE_AT + timedelta(days=day, minutes=day))
    [delivery] = await rig.given(report_id)
    assert delivery.state is DeliveryState.NOT_FOR


@pytest.mark.parametrize(
    "account",
    [
        Account(True, True, NUMBER, "Haddad", SARAH.birth_date),
        Account(True, True, NUMBER, "O'Shea", date(1975, 7, 1)),
        Account(True, True, OTHER, "O'Shea", SARAH.birth_date),
    ],
)
async def test_an_account_of_somebody_else_holds_the_report_until_a_person_has_looked(
    rig: Rig, portal: Portal, account: Account
) -> None:
    portal.has_account = account
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    kept = await rig.report(report_id)
    assert (kept.state, kept.held_for, portal.put_count) == (ReleaseState.HELD, frozenset({"identity"}), 0)
    portal.has_account = PROVEN
    await rig.look(DUE_AT + timedelta(days=21))
    assert portal.put_count == 0
    [hold] = (await rig.situation(report_id)).held
    await rig.store.write(lambda tx: rig.acts.end_hold(tx, CLINICIAN, hold.hold_id, "the portal has put it right"))
    await rig.work()
    assert len(portal.shown) == 1


async def test_a_childs_report_goes_nowhere_where_proxies_are_not_checked(tmp_path: Path, sqlite_url: str) -> None:
    careless, careful = Portal("careless", checks_proxies=False), Portal("careful")
    async with opened(tmp_path, sqlite_url, careless, careful) as rig:
        born = date(2012, 1, 1)
        rig.demographics.sarah(birth_date=born)
        await rig.file(verified(subject=replace(SARAH, birth_date=born)))
        await rig.look(DUE_AT)
        assert (careless.put_count, len(careful.shown)) == (0, 1)


async def test_a_small_childs_report_waits_for_a_review(rig: Rig, portal: Portal) -> None:
    born = date(2020, 1, 1)
    rig.demographics.sarah(birth_date=born)
    report_id = await rig.file(verified(subject=replace(SARAH, birth_date=born)))
    await rig.look(DUE_AT)
    kept = await rig.report(report_id)
    assert (kept.state, kept.held_for) == (ReleaseState.HELD, frozenset({"child"}))
    version = kept.current_version or ""
    with pytest.raises(InvalidRequest):
        await rig.store.write(lambda tx: rig.acts.review(tx, CLERK, report_id, version, "looked"))
    await rig.store.write(lambda tx: rig.acts.review(tx, CLINICIAN, report_id, version, "nothing against it"))
    await rig.work()
    assert len(portal.shown) == 1


async def test_another_patients_report_is_another_report(rig: Rig, portal: Portal) -> None:
    await rig.file(verified())
    await rig.file(verified(report_number="R-2", subject=OMAR), name="m-2")
    await rig.look(DUE_AT)
    assert [each.addressee.nhs_number for each in portal.shown.values()] == [NUMBER]


NO_NUMBER = replace(SARAH, nhs_number=None)
FINAL_TEXT = "No fracture."


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("numbered", range(3))
async def test_a_number_that_some_versions_leave_out_keeps_no_report_from_its_patient(
    rig: Rig, portal: Portal, order: tuple[int, ...], numbered: int
) -> None:
    said = [
        verified(MONDAY - timedelta(hours=1), "draft", said=Said.PRELIMINARY, verification=None),
        verified(),
        verified(MONDAY + timedelta(seconds=10), source=ReportSource.DICOM_SR),
    ]
    told = [replace(each, subject=SARAH if i == numbered else NO_NUMBER) for i, each in enumerate(said)]
    [report_id] = {await rig.file(told[place], name=f"m-{place}") for place in order}
    kept = await rig.report(report_id)
    assert (kept.state, kept.held_for, kept.flags) == (ReleaseState.EMBARGOED, frozenset(), frozenset())
    await rig.look(DUE_AT + timedelta(minutes=1))
    assert portal.texts == [[FINAL_TEXT]]
    assert {each.nhs_number for each in portal.asked_for} == {NUMBER}


async def test_a_changed_patient_is_settled_by_a_person_until_another_one_is_named(rig: Rig, portal: Portal) -> None:
    foreign = replace(SARAH, nhs_number=OTHER)
    report_id = await rig.file(verified(MONDAY - timedelta(hours=1), subject=foreign))
    await rig.file(verified(MONDAY, "hers", said=Said.CORRECTED), name="m-2")
    kept = await rig.report(report_id)
    version = kept.current_version or ""
    assert (kept.state, kept.held_for) == (ReleaseState.HELD, frozenset({"patient-changed"}))
    settle = partial(rig.acts.settle_patient, report_id=report_id, version_id=version, reason="the RIS was wrong")
    with pytest.raises(InvalidRequest):
        await rig.store.write(partial(settle, staff=CLERK))
    await rig.store.write(partial(settle, staff=LEAD))
    kept = await rig.report(report_id)
    assert (kept.state, kept.flags) == (ReleaseState.EMBARGOED, frozenset())
    [entry] = await rig.audit("settle-patient")
    assert (entry["by"], entry["reason"]) == ("R Lead (governance)", "the RIS was wrong")
    with pytest.raises(InvalidRequest):
        await rig.store.write(partial(settle, staff=LEAD))
    await rig.look(DUE_AT + timedelta(hours=2))
    assert portal.texts == [["hers"]]
    again = verified(rig.clock.now() - timedelta(hours=1), "his", said=Said.APPENDED, subject=foreign)
    await rig.file(again, name="m-3")
    await rig.work()
    assert ((await rig.report(report_id)).held_for, portal.texts) == (frozenset({"patient-changed"}), [])
    with pytest.raises(InvalidRequest):
        await rig.store.write(partial(settle, staff=LEAD))


async def test_two_numbers_of_a_confirmed_merge_are_one_patient(rig: Rig) -> None:
    report_id = await rig.file(verified(MONDAY - timedelta(hours=1), subject=replace(SARAH, nhs_number=OTHER)))
    await rig.file(verified(MONDAY, "hers", said=Said.CORRECTED), name="m-2")
    assert (await rig.report(report_id)).held_for == {"patient-changed"}
    rows = [await rig.store.patient_row(nhs(each)) for each in (OTHER, NUMBER)]
    author = Author("J Doe", "request-1")
    await rig.store.write(lambda tx: merges.merge(tx, rows[0], rows[1], MergeBasis.PDS_SUPERSESSION, author))
    assert Problem.PATIENT_CHANGED not in (await rig.situation(report_id)).lifecycle.problems


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_two_numbers_are_two_people_whatever_local_number_they_share(rig: Rig, order: tuple[int, ...]) -> None:
    subjects = [SARAH, NO_NUMBER, replace(SARAH, nhs_number=OTHER)]
    said = [
        verified(MONDAY + timedelta(hours=place), f"text {place}", said=Said.CORRECTED, subject=subject)
        for place, subject in enumerate(subjects)
    ]
    [report_id] = {await rig.file(said[place], name=f"m-{place}") for place in order}
    kept = await rig.report(report_id)
    assert (kept.state, "wrong-patient" in kept.flags) == (ReleaseState.HELD, True)
    assert kept.patient_id == await rig.store.patient_row(nhs(OTHER))


async def settled_as_hers(rig: Rig, *told: IncomingReport) -> str:
    """A report of which these were told, in order; a person then finds that it is of the patient whom it names."""
    [report_id] = {await rig.file(each, name=f"m-{place}") for place, each in enumerate(told)}
    kept = await rig.report(report_id)
    assert "patient-changed" in kept.held_for
    settle = partial(rig.acts.settle_patient, report_id=report_id, version_id=kept.current_version or "", reason="seen")
    await rig.store.write(partial(settle, staff=LEAD))
    return report_id


HIS = replace(SARAH, nhs_number=OTHER, local=(PatientId("RZ1", "0009999"),))
WITH_HER_LOCAL_NUMBER = replace(SARAH, nhs_number=OTHER)
FIRST = verified(MONDAY - timedelta(hours=2))
HERS = verified(MONDAY - timedelta(hours=1), "hers", said=Said.CORRECTED)
BARE = verified(MONDAY, "hers again", said=Said.CORRECTED, subject=NO_NUMBER)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([replace(FIRST, subject=HIS), HERS], [BARE]),
        ([replace(FIRST, subject=WITH_HER_LOCAL_NUMBER), HERS], [BARE]),
        ([replace(FIRST, subject=HIS), HERS, BARE], []),
    ],
)
async def test_a_version_without_the_number_is_hers_once_a_person_has_found_whose_it_is(
    rig: Rig, portal: Portal, before: list[IncomingReport], after: list[IncomingReport]
) -> None:
    report_id = await settled_as_hers(rig, *before)
    for each in after:
        await rig.file(each, name="m-after")
    kept = await rig.report(report_id)
    assert (kept.patient_id, kept.held_for) == (await rig.store.patient_row(nhs(NUMBER)), frozenset())
    await rig.look(DUE_AT + timedelta(hours=3))
    assert portal.texts == [["hers again"]]
    assert {each.nhs_number for each in portal.asked_for} == {NUMBER}


async def test_what_stands_is_settled_though_the_newest_statement_names_somebody_else(rig: Rig, portal: Portal) -> None:
    again = verified(MONDAY - timedelta(hours=1), subject=HIS, source=ReportSource.DICOM_SR)
    report_id = await settled_as_hers(rig, FIRST, again)
    kept = await rig.report(report_id)
    assert (kept.patient_id, kept.held_for) == (await rig.store.patient_row(nhs(NUMBER)), frozenset())
    await rig.look(DUE_AT + timedelta(hours=3))
    assert portal.texts == [[FINAL_TEXT]]
    assert {each.nhs_number for each in portal.asked_for} == {NUMBER}


async def test_which_of_two_numbers_belongs_to_a_hospital_number_is_no_guess(rig: Rig, portal: Portal) -> None:
    report_id = await settled_as_hers(rig, replace(FIRST, subject=WITH_HER_LOCAL_NUMBER), HERS, BARE)
    assert (await rig.report(report_id)).patient_id == await rig.store.patient_row(SARAH.local[0])
    await rig.look(DUE_AT + timedelta(hours=3))
    assert portal.put_count == 0
