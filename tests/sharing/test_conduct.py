"""Budgets and signs of enumeration (M5, SAF-39): told once, to whom it concerns, and nobody is ever refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.errors import AuditUnavailable, Denied, QueryTooBroad
from gateway.model.imaging import PATIENT_NAME, Key, Level, Matches, Query
from gateway.sharing.conduct.ledger import CALLERS_MAX, HOUR_S, Budgets, Excess, Ledger, Passed
from gateway.sharing.conduct.watch import Watch
from policy.parties import NhsNumber, PurposeOfUse, TrustId
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA, asking_for, asking_for_study

FEW = Budgets(
    questions_per_minute=3,
    patients_per_hour=3,
    strangers_per_hour=1,
    misses_per_hour=2,
    successive_studies=2,
    too_broad_per_hour=1,
)
STRANGERS = (CLARA, NhsNumber("9990000042"), NhsNumber("9990000050"))


@dataclass
class Counted:
    """Figures of a test."""

    passed: list[tuple[str, str]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)

    def budget_passed(self, caller: str, excess: str) -> None:
        """See `CountsConduct`."""
        self.passed.append((caller, excess))

    def caller_answered(self, trust: TrustId, outcome: str, duration_s: float) -> None:
        """See `CountsConduct`."""
        assert duration_s >= 0
        self.ended.append((trust.code, outcome))


class Watched:
    """A region behind its watch."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.counted = Counted()
        self.watch = Watch(region.broker, Ledger(b"salt"), FEW, region.store, region.clock, self.counted)

    async def find(self, query: Query, purpose: PurposeOfUse = PurposeOfUse.TREAT) -> Matches:
        """Ask at the watched door."""
        caller = self.region.caller("RZ1", purpose=purpose)
        found = self.watch.find(caller, query)
        return await self.region.clock.run(found, is_busy=self.region.store.is_busy)

    async def alerts(self) -> list[tuple[object, object]]:
        """What the audit says."""
        records = await self.region.records("security-alert")
        bodies = [record["body"] for record in records]
        return [(body["alert"], body["excess"]) for body in bodies if isinstance(body, dict)]


@pytest.fixture
async def watched(region: Region) -> Watched:
    """RZ1 asks; Anne is in its care."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.3", of=ANNE, modalities="CT")
    await region.prepare()
    await region.refer(ANNE, to="RZ1")
    await region.refer(BEN, to="RZ1")
    return Watched(region)


async def test_a_caller_beyond_its_rate_is_answered_as_before_and_told_of_once(watched: Watched) -> None:
    answers = [await watched.find(asking_for(ANNE)) for _ in range(6)]
    assert [len(each.rows) for each in answers] == [1] * 6
    assert watched.counted.passed == [("rz1-pacs", "questions")]
    assert await watched.alerts() == [("rate-budget", "questions")]


async def test_each_trusts_questions_are_counted_by_how_they_ended(watched: Watched) -> None:
    await watched.find(asking_for(ANNE))
    await watched.region.opt_out(BEN)
    await watched.find(asking_for(BEN))
    with suppress(Denied):
        await watched.find(asking_for(CLARA))
    with suppress(QueryTooBroad):
        await watched.find(Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("SMITH*",)),)))
    # An answer of absence is an answer: who has opted out is no figure.
    assert watched.counted.ended == [
        ("RZ1", "answered"),
        ("RZ1", "answered"),
        ("RZ1", "Denied"),
        ("RZ1", "QueryTooBroad"),
    ]


async def test_an_emergency_beyond_every_budget_is_answered(watched: Watched) -> None:
    for _ in range(6):
        assert len((await watched.find(asking_for(ANNE), PurposeOfUse.ETREAT)).rows) == 1


async def test_asking_for_many_strangers_is_enumeration(watched: Watched) -> None:
    for patient in STRANGERS:
        with pytest.raises(Denied):
            await watched.find(asking_for(patient))
    assert ("enumeration", "strangers") in await watched.alerts()


async def test_the_same_stranger_again_is_no_enumeration(watched: Watched) -> None:
    for _ in range(3):
        with pytest.raises(Denied):
            await watched.find(asking_for(CLARA))
    assert await watched.alerts() == []


async def test_counting_up_study_uids_is_enumeration(watched: Watched) -> None:
    for number in (101, 102, 103):
        await watched.find(asking_for_study(f"1.2.{number}"))
    assert await watched.alerts() == [("enumeration", "successive"), ("enumeration", "misses")]


async def test_questions_that_pin_nobody_are_counted(watched: Watched) -> None:
    broad = Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("S*",)),))
    for _ in range(2):
        with pytest.raises(QueryTooBroad):
            await watched.find(broad)
    assert await watched.alerts() == [("enumeration", "too-broad")]


async def test_no_alert_names_a_patient(watched: Watched) -> None:
    for patient in STRANGERS:
        with suppress(Denied):
            await watched.find(asking_for(patient))
    records = await watched.region.records("security-alert")
    assert records and not any(patient.digits in repr(record) for patient in STRANGERS for record in records)


async def test_an_alert_that_cannot_be_recorded_holds_nobody_up(watched: Watched) -> None:
    await watched.find(asking_for(ANNE))
    await watched.find(asking_for(ANNE))
    await watched.find(asking_for(ANNE))
    store = watched.region.store
    store.failing_appends, store.failing_error = range(store.appends + 1, store.appends + 2), AuditUnavailable("full")
    assert len((await watched.find(asking_for(ANNE))).rows) == 1
    assert watched.counted.passed == [("rz1-pacs", "questions")]


def test_a_budget_is_told_again_in_the_next_hour() -> None:
    ledger = Ledger(b"salt")
    for hour in range(2):
        told = [ledger.missed("a", FEW, hour * HOUR_S + number) for number in range(5)]
        assert told == [[], [], [Passed("a", Excess.MISSES, 2)], [], []]


def test_at_the_budget_nothing_is_told_and_one_past_it_is() -> None:
    ledger = Ledger(b"salt")
    patients = [f"{number}" for number in range(4)]
    told = [ledger.asked("a", patient, (), Budgets(patients_per_hour=3), 0.0) for patient in patients]
    assert told == [[], [], [], [Passed("a", Excess.PATIENTS, 3)]]


def test_one_callers_questions_are_not_anothers() -> None:
    ledger = Ledger(b"salt")
    assert not any(ledger.asked(f"caller-{number}", "1", (), FEW, 0.0) for number in range(20))


def test_uids_made_at_random_or_asked_twice_are_no_run() -> None:
    ledger = Ledger(b"salt")
    uids = ["1.2.1", "1.2.900", "1.2.900", "1.2.17", "1.3.18", "2.25.329800735698586629295641978511506172918"]
    assert not any(ledger.asked("a", "", (uid,), Budgets(successive_studies=1), 0.0) for uid in uids)


@given(st.lists(st.tuples(st.integers(0, 2 * CALLERS_MAX), st.text("0123456789", max_size=10)), max_size=50))
def test_what_is_remembered_is_bounded(asked: list[tuple[int, str]]) -> None:
    ledger = Ledger(b"salt")
    for number in range(CALLERS_MAX):
        ledger.asked(f"caller-{number}", "1", (), FEW, 0.0)
    for number, patient in asked:
        ledger.asked(f"caller-{number}", patient, (f"1.2.{patient}",), FEW, 0.0)
    assert len(ledger._accounts) <= CALLERS_MAX
    assert all(len(account.patients) <= FEW.patients_per_hour + 1 for account in ledger._accounts.values())


async def test_guessing_at_studies_by_retrieving_them_is_told_like_guessing_by_questions(watched: Watched) -> None:
    await watched.region.prepare()
    query = replace(asking_for_study("1.2.999"), level=Level.IMAGE)
    for _ in range(FEW.misses_per_hour + 1):
        caller = watched.region.caller("RZ1")
        recipient = caller.principal.trust
        async with watched.watch.survey(caller, query, recipient=recipient, names=lambda _: True) as survey:
            assert not survey.instances
    assert [excess for _, excess in watched.counted.passed] == ["misses"]
