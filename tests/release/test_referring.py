"""Referrers are told at once, chased until they act, and never keep a report from its patient (SAF-51, SAF-68)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config.release.terms import ReleaseContacts
from gateway.model.errors import InvalidRequest, StoreUnavailable
from gateway.model.reporting.incoming import Content, Exam, Practitioner
from gateway.model.reporting.notices import Notice
from gateway.release.planner import Rules
from gateway.release.referrers.chasing import Chasing
from gateway.release.referrers.referring import Answer, Referring, version_to_name
from gateway.release.staff.views import explained
from policy.release.chasing import Matter
from policy.release.circumstances import Death, Flag, HoldKind, ReleaseState
from policy.release.reports import Said, Verification
from storage.clinical import referrals
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.keyring.keyring import Keyring
from storage.registers.state import Author
from storage.release import listing
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import NORTH, SARAH
from tests.release.portal import Portal
from tests.release.release_rig import CLINICIAN, DUE_AT, MONDAY, Rig, verified
from tests.storage.keyrings import Place

AUTHOR = Author("Dr B Referrer (clinician)", "request-1", "read in clinic")
CONTACTS = ReleaseContacts(
    service_mailbox="results@north.example",
    deputies=("first@north.example", "second@north.example"),
    results_lead="lead@north.example",
    governance=("board@north.example",),
    caldicott_guardian="guardian@north.example",
    privacy_officer="privacy@north.example",
    referrers_left=frozenset({"C7654321"}),
)
DAY = timedelta(days=1)


@dataclass
class Postbox:
    """A notifier that keeps what it is given, or has a fault."""

    notices: list[Notice] = field(default_factory=list)
    is_broken: bool = False
    proof: str = ""
    """What its receiver says that it has them."""

    async def tell(self, notice: Notice) -> str:
        """See `Notifier`."""
        if self.is_broken:
            raise StoreUnavailable("a notice cannot be written")
        self.notices.append(notice)
        return self.proof

    def take(self) -> list[tuple[Matter, list[str]]]:
        """What came since it was last emptied: of what, and to whom."""
        taken = [(each.matter, [told.address for told in each.to]) for each in self.notices]
        self.notices.clear()
        return taken


class Ward(Rig):
    """A process whose reports have referrers."""

    def __init__(self, store: SqlStore, keys: Keyring, clock: FakeClock) -> None:
        self.referring = Referring(self._rules)
        super().__init__(store, keys, clock, Portal())
        self.postbox = Postbox()
        self.chasing = Chasing(store, self.contents, self.postbox, self._rules, lambda trust: CONTACTS)

    def _rules(self) -> Rules:
        return replace(super()._rules(), referred=self.referring.referred, noted=self.referring.noted)

    async def chase(self, at: datetime) -> list[tuple[Matter, list[str]]]:
        """Let time pass until then, plan what is to be planned, and tell what is to be told."""
        await self.look(at)
        await self.chasing.chase()
        return self.postbox.take()

    async def read(self, report_id: str, by: str = "Dr B Referrer", at: datetime | None = None) -> Answer:
        """What somebody says who has read the text that was verified last."""
        kept = await self.store.read(lambda read: referrals.current(read, report_id))
        named = "" if kept is None else await self.store.read(partial(version_to_name, kept=kept))
        return Answer(named, by, at or self.clock.now())

    async def acknowledge(self, report_id: str, answer: Answer | None = None) -> bool:
        said = answer or await self.read(report_id)

        def body(tx: Tx) -> bool:
            done = self.referring.acknowledge(tx, report_id, said, AUTHOR)
            self.planner.replan(tx, report_id, AUTHOR)
            return done

        return await self.store.write(body)

    async def follow_up(self, report_id: str) -> bool:
        said = await self.read(report_id)
        return await self.store.write(lambda tx: self.referring.record_follow_up(tx, report_id, said, AUTHOR))

    async def flags(self, report_id: str) -> frozenset[str]:
        return (await self.report(report_id)).flags


@pytest.fixture
async def ward(url: str, tmp_path: Path) -> AsyncIterator[Ward]:
    clock = FakeClock(MONDAY + timedelta(minutes=2))
    async with (
        SqlStore(DatabaseSettings(url), node="north", clock=clock) as store,
        Place(tmp_path / "keys", clock).keyring() as keys,
    ):
        yield Ward(store, keys, clock)


NOW = MONDAY + timedelta(minutes=3)


async def test_the_referrer_is_told_when_a_report_is_verified_and_once(ward: Ward) -> None:
    await ward.file(verified())
    assert await ward.chase(NOW) == [(Matter.REPORT, ["C1234567 Dr B Referrer"])]
    assert await ward.chase(NOW + timedelta(hours=1)) == []


async def test_nobody_is_told_of_what_nobody_verified(ward: Ward) -> None:
    await ward.file(verified(said=Said.PRELIMINARY, verification=None))
    assert await ward.chase(NOW + 30 * DAY) == []


async def test_an_alert_leaves_within_minutes_though_the_release_is_four_weeks_off(ward: Ward) -> None:
    report_id = await ward.file(verified(alert_codes=("critical",)))
    assert [matter for matter, _ in await ward.chase(NOW)] == [Matter.ALERT, Matter.REPORT]
    assert (await ward.report(report_id)).due_at == DUE_AT


async def test_an_alert_that_cannot_be_sent_is_alarmed_and_sent_later(ward: Ward) -> None:
    await ward.file(verified(alert_codes=("urgent",)))
    ward.postbox.is_broken = True
    with capture_logs() as logs:
        await ward.chase(NOW)
        await ward.chase(NOW + timedelta(minutes=16))
    alarms = [each for each in logs if each.get("alarm")]
    assert [each["event"] for each in alarms] == ["alert not sent in time"]
    ward.postbox.is_broken = False
    assert [matter for matter, _ in await ward.chase(NOW + timedelta(minutes=20))] == [Matter.ALERT, Matter.REPORT]


async def test_a_notice_carries_nothing_of_the_patient(ward: Ward) -> None:
    await ward.file(verified(alert_codes=("cancer",)))
    await ward.chasing.chase()
    told = repr(ward.postbox.notices)
    for word in ("Shea", "Sarah", "9990000018", "fracture", "cancer", "1980"):
        assert word not in told


async def test_an_unacknowledged_report_is_chased_more_widely_and_released_all_the_same(ward: Ward) -> None:
    report_id = await ward.file(verified())
    told = [await ward.chase(MONDAY + days * DAY) for days in (0.01, 7, 14, 21)]
    addresses = [
        {address for matter, to in each if matter is Matter.NOT_ACKNOWLEDGED for address in to} for each in told
    ]
    assert "first@north.example" in addresses[1]
    assert "lead@north.example" in addresses[2] - addresses[1]
    assert "board@north.example" in addresses[3] - addresses[2]
    await ward.look(DUE_AT)
    await ward.look(DUE_AT + timedelta(minutes=15))  # a job that met another transaction has run again
    report = await ward.report(report_id)
    assert report.state is ReleaseState.RELEASED
    assert Flag.UNACKNOWLEDGED in report.flags


async def test_an_acknowledgement_ends_the_chase_and_stands_in_the_audit(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.chase(NOW)
    assert await ward.acknowledge(report_id)
    assert not await ward.acknowledge(report_id)
    [entry] = await ward.audit("acknowledge")
    assert (entry["name"], entry["by"]) == ("Dr B Referrer", AUTHOR.subject)
    later = await ward.chase(MONDAY + 8 * DAY)
    assert Matter.NOT_ACKNOWLEDGED not in [matter for matter, _ in later]
    assert Flag.UNACKNOWLEDGED not in await ward.flags(report_id)
    delays = await ward.store.read(lambda read: referrals.delays_s(read, MONDAY, NORTH))
    assert delays == [(NOW - MONDAY).total_seconds()]


async def test_an_alert_is_chased_until_the_follow_up_is_recorded(ward: Ward) -> None:
    report_id = await ward.file(verified(alert_codes=("urgent",)))
    await ward.chase(NOW)
    await ward.acknowledge(report_id)
    assert Matter.NO_FOLLOW_UP in [matter for matter, _ in await ward.chase(MONDAY + 7 * DAY)]
    assert await ward.follow_up(report_id)
    assert not await ward.follow_up(report_id)
    assert Matter.NO_FOLLOW_UP not in [matter for matter, _ in await ward.chase(MONDAY + 15 * DAY)]


async def test_whoever_answered_before_a_report_was_coded_as_an_alert_is_told_and_chased(ward: Ward) -> None:
    """The same text with a code is no new text, and its acknowledgement none of the alert."""
    report_id = await ward.file(verified())
    await ward.chase(NOW)
    assert await ward.acknowledge(report_id)
    assert await ward.follow_up(report_id)
    await ward.file(verified(alert_codes=("urgent",), stated_at=NOW), "m-2")
    told = [matter for matter, _ in await ward.chase(NOW + timedelta(minutes=1))]
    assert told == [Matter.ALERT]
    told = [matter for matter, _ in await ward.chase(NOW + 8 * DAY)]
    assert {Matter.UNANSWERED_ALERT, Matter.NOT_ACKNOWLEDGED} <= set(told)
    assert await ward.acknowledge(report_id)
    await ward.file(verified(alert_codes=("critical",), stated_at=NOW + DAY), "m-3")
    assert Matter.ALERT in [matter for matter, _ in await ward.chase(NOW + 9 * DAY)]
    assert await ward.acknowledge(report_id)
    await ward.file(verified(stated_at=NOW + 2 * DAY), "m-4")
    assert [matter for matter, _ in await ward.chase(NOW + 10 * DAY)] == []


@pytest.mark.parametrize(
    ("said", "to"),
    [
        (Said.WITHDRAWN, {"privacy@north.example", "lead@north.example", "results@north.example"}),
        (Said.CANCELLED, {"lead@north.example", "results@north.example"}),
        (Said.TAKEN_BACK, {"lead@north.example", "results@north.example"}),
    ],
)
async def test_a_stop_of_a_report_that_nobody_sent_is_alarmed_and_told_once(
    ward: Ward, said: Said, to: set[str]
) -> None:
    stop = verified(said=said, verification=None, content=Content(""), stated_at=MONDAY + timedelta(minutes=1))
    with capture_logs() as logs:
        report_id = await ward.file(stop)
    assert [each["event"] for each in logs if each.get("alarm")] == ["word of an unknown report"]
    assert Flag.WORD_OF_UNKNOWN in await ward.flags(report_id)
    told = await ward.chase(NOW)
    assert Matter.WORD_OF_UNKNOWN in [matter for matter, _ in told]
    assert {each for _, addresses in told for each in addresses} == to
    assert await ward.chase(NOW + DAY) == []
    await ward.file(verified(), "m-2")
    assert Flag.WORD_OF_UNKNOWN not in await ward.flags(report_id)
    await ward.file(verified(MONDAY + 2 * DAY, "Another text."), "m-3")
    assert Matter.REPORT in [matter for matter, _ in await ward.chase(NOW + 2 * DAY)]


async def test_an_addendum_to_a_text_that_never_came_is_alarmed_and_told(ward: Ward) -> None:
    with capture_logs() as logs:
        report_id = await ward.file(verified(said=Said.APPENDED, text="It is broken.", alert_codes=("critical",)))
    assert [each["event"] for each in logs if each.get("alarm")] == ["word of an unknown report"]
    told = await ward.chase(NOW)
    assert [matter for matter, _ in told] == [Matter.WORD_OF_UNKNOWN]
    await ward.file(verified(MONDAY - timedelta(hours=1)), "m-2")
    assert Flag.WORD_OF_UNKNOWN not in await ward.flags(report_id)
    assert {Matter.REPORT, Matter.ALERT} <= {matter for matter, _ in await ward.chase(NOW)}


async def test_somebody_is_told_of_a_report_that_was_taken_back_before_anybody_heard_of_it(ward: Ward) -> None:
    stop = verified(said=Said.PRELIMINARY, verification=None, stated_at=MONDAY + timedelta(minutes=1))
    report_id = await ward.file(stop)
    await ward.file(verified(alert_codes=("critical",)), "m-2")
    assert (await ward.report(report_id)).state is ReleaseState.BEING_CORRECTED
    told = await ward.chase(MONDAY + 3 * DAY)
    assert [matter for matter, _ in told] == [Matter.NOT_VERIFIED_AGAIN]


async def test_a_withdrawal_of_a_report_that_was_sent_is_no_stop_of_an_unknown_one(ward: Ward) -> None:
    report_id = await ward.file(verified())
    stop = verified(said=Said.WITHDRAWN, verification=None, content=Content(""), stated_at=NOW)
    with capture_logs() as logs:
        await ward.file(stop, "m-2")
    assert [each["event"] for each in logs if each.get("alarm")] == []
    assert Flag.WORD_OF_UNKNOWN not in await ward.flags(report_id)


async def test_alerts_are_not_acknowledged_in_bulk(ward: Ward) -> None:
    plain = await ward.file(verified(), "m-1")
    alert = await ward.file(verified(report_number="R-2", alert_codes=("cancer",)), "m-2")
    corrected = await ward.file(verified(report_number="R-3"), "m-3")
    read = [(each, await ward.read(each)) for each in (plain, alert, corrected)]
    await ward.file(verified(report_number="R-3", text="A fracture.", stated_at=NOW, said=Said.CORRECTED), "m-4")
    stands = (await ward.read(corrected)).version_id
    done = await ward.store.write(lambda tx: ward.referring.acknowledge_many(tx, read, AUTHOR))
    assert done.acknowledged == (plain,)
    assert done.left_out.keys() == {alert, corrected}
    assert "alert" in done.left_out[alert]
    assert stands in done.left_out[corrected]


@pytest.mark.parametrize(
    ("name", "after"),
    [(" ", timedelta()), ("x" * 201, timedelta()), ("Dr B", timedelta(minutes=1)), ("Dr B", -timedelta(days=1))],
    ids=["no name", "too long a name", "ahead of now", "before it was verified"],
)
async def test_an_acknowledgement_has_a_name_and_a_possible_time(ward: Ward, name: str, after: timedelta) -> None:
    report_id = await ward.file(verified())
    with pytest.raises(InvalidRequest):
        await ward.acknowledge(report_id, await ward.read(report_id, name, ward.clock.now() + after))
    assert await ward.store.read(lambda read: ward.referring.referred(read, report_id)) == (False, False)


async def test_what_nobody_verified_cannot_be_acknowledged(ward: Ward) -> None:
    report_id = await ward.file(verified(said=Said.PRELIMINARY, verification=None))
    with pytest.raises(InvalidRequest, match="nothing of this report is verified"):
        await ward.acknowledge(report_id)


async def test_a_proof_of_dispatch_ends_its_work_item(ward: Ward) -> None:
    report_id = await ward.file(verified())
    proof = await ward.read(report_id, "RIS|1001 AA")
    assert await ward.store.write(lambda tx: ward.referring.prove_dispatch(tx, report_id, proof, AUTHOR))
    [entry] = await ward.audit("prove-dispatch")
    assert (entry["version"], entry["reference"]) == (proof.version_id, proof.by)
    assert await ward.store.read(lambda read: ward.referring.referred(read, report_id)) == (True, False)
    assert Matter.DISPATCH_NOT_PROVEN not in [matter for matter, _ in await ward.chase(MONDAY + 3 * DAY)]


async def test_that_the_referrers_system_took_the_notice_proves_that_it_was_sent(ward: Ward) -> None:
    report_id = await ward.file(verified())
    ward.postbox.proof = "order-comms: Communication 17, status 201"
    await ward.chase(NOW)
    [entry] = await ward.audit("prove-dispatch")
    assert entry["reference"] == ward.postbox.proof
    assert await ward.store.read(lambda read: ward.referring.referred(read, report_id)) == (True, False)
    assert Matter.DISPATCH_NOT_PROVEN not in [matter for matter, _ in await ward.chase(MONDAY + 3 * DAY)]


async def test_what_the_service_was_told_proves_nothing_of_the_referrer(ward: Ward) -> None:
    await ward.file(verified(referrer=Practitioner()))
    ward.postbox.proof = "order-comms: Communication 17, status 201"
    await ward.chase(NOW)
    assert await ward.audit("prove-dispatch") == []
    assert Matter.DISPATCH_NOT_PROVEN in [matter for matter, _ in await ward.chase(MONDAY + 2 * DAY)]


async def test_a_correction_is_to_be_proven_anew(ward: Ward) -> None:
    report_id = await ward.file(verified())
    ward.postbox.proof = "order-comms: Communication 17, status 201"
    await ward.chase(NOW)
    ward.postbox.proof = ""
    await ward.file(verified(MONDAY + DAY, "A fracture.", said=Said.CORRECTED), name="m-2")
    await ward.chase(MONDAY + 1.1 * DAY)
    assert await ward.store.read(lambda read: ward.referring.referred(read, report_id)) == (False, False)


async def test_without_proof_of_dispatch_the_service_is_told_after_a_working_day(ward: Ward) -> None:
    await ward.file(verified())
    await ward.chase(NOW)
    assert await ward.chase(MONDAY + 1.5 * DAY) == []
    assert await ward.chase(MONDAY + 2 * DAY) == [(Matter.DISPATCH_NOT_PROVEN, ["results@north.example"])]


async def test_a_report_without_a_referrer_goes_to_the_service_from_the_first_day(ward: Ward) -> None:
    await ward.file(verified(referrer=Practitioner()))
    [(matter, to)] = await ward.chase(NOW)
    assert matter is Matter.REPORT
    assert to == [CONTACTS.service_mailbox, *CONTACTS.deputies]


async def test_a_correction_is_to_be_read_anew(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.chase(NOW)
    await ward.acknowledge(report_id)
    corrected = verified(MONDAY + DAY, "A fracture.", said=Said.CORRECTED)
    await ward.on(MONDAY + DAY + timedelta(minutes=2))
    await ward.file(corrected, "m-2")
    assert (Matter.REPORT, ["C1234567 Dr B Referrer"]) in await ward.chase(MONDAY + DAY + timedelta(minutes=3))
    assert await ward.store.read(lambda read: ward.referring.referred(read, report_id)) == (False, False)
    await ward.chase(MONDAY + 9 * DAY)
    assert Flag.UNACKNOWLEDGED in await ward.flags(report_id)


@pytest.mark.parametrize("act", ["acknowledge", "record_follow_up", "prove_dispatch"])
@pytest.mark.parametrize("said", [Said.CORRECTED, Said.APPENDED])
async def test_what_is_said_of_a_text_counts_for_no_text_that_came_after_it(ward: Ward, act: str, said: Said) -> None:
    """Whoever acts names what they have read: a correction that came meanwhile is not taken for read."""
    report_id = await ward.file(verified())
    answer = await ward.read(report_id)
    await ward.file(verified(text="A fracture.", stated_at=NOW, said=said), "m-2")
    newer = (await ward.read(report_id)).version_id
    assert newer != answer.version_id
    with pytest.raises(InvalidRequest, match=f"does not stand.*{newer}"):
        await ward.store.write(lambda tx: getattr(ward.referring, act)(tx, report_id, answer, AUTHOR))
    assert await ward.store.read(lambda read: ward.referring.referred(read, report_id)) == (False, False)
    assert await ward.audit("acknowledge") == []
    named = replace(answer, version_id=newer)
    assert await ward.store.write(lambda tx: getattr(ward.referring, act)(tx, report_id, named, AUTHOR))


async def test_whoever_read_a_text_before_it_was_coded_as_an_alert_has_not_read_the_alert(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.chasing.chase()
    plain = await ward.read(report_id)
    await ward.file(verified(alert_codes=("critical",), stated_at=NOW), "m-2")
    coded = await ward.read(report_id)
    with pytest.raises(InvalidRequest, match=f"does not stand.*{coded.version_id}"):
        await ward.acknowledge(report_id, plain)
    ward.postbox.notices.clear()
    await ward.on(NOW)
    await ward.chasing.chase()
    assert [(each.matter, each.version_id) for each in ward.postbox.notices] == [(Matter.ALERT, coded.version_id)]
    told = await ward.store.read(lambda read: explained(read, ward.planner, report_id, None))
    assert told.report.version_id == coded.version_id
    assert await ward.acknowledge(report_id, coded)
    [entry] = await ward.audit("acknowledge")
    assert entry["version"] == coded.version_id
    early = partial(ward.acts.release_early, report_id=report_id, reason="spoke to the patient")
    await ward.store.write(partial(early, staff=CLINICIAN, version_id=coded.version_id))
    assert (await ward.report(report_id)).state is ReleaseState.DUE
    await ward.file(verified(MONDAY + DAY, "See also.", said=Said.APPENDED), "m-3")
    newest = await ward.read(report_id)
    assert newest.version_id not in (plain.version_id, coded.version_id)
    assert await ward.acknowledge(report_id, newest)


async def test_what_was_taken_back_is_acknowledged_by_nobody(ward: Ward) -> None:
    report_id = await ward.file(verified())
    answer = await ward.read(report_id)
    await ward.file(verified(NOW, "", said=Said.TAKEN_BACK, verification=None), "m-2")
    with pytest.raises(InvalidRequest, match="no version of it stands"):
        await ward.acknowledge(report_id, answer)


async def test_a_notice_names_the_text_that_it_is_about(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.chasing.chase()
    [notice] = ward.postbox.notices
    assert notice.version_id == (await ward.read(report_id)).version_id


async def test_an_addendum_after_release_is_told_the_same_day(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.chase(DUE_AT)
    await ward.acknowledge(report_id)
    at = DUE_AT + DAY
    await ward.on(at + timedelta(minutes=2))
    await ward.file(verified(at, "A second look.", said=Said.APPENDED), "m-2")
    assert Matter.REPORT in [matter for matter, _ in await ward.chase(at + timedelta(minutes=3))]


async def test_a_text_that_is_taken_away_after_release_asks_for_a_word_with_the_patient(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.chase(DUE_AT)
    await ward.acknowledge(report_id)
    at = DUE_AT + DAY
    await ward.on(at + timedelta(minutes=2))
    await ward.file(verified(at, "", said=Said.TAKEN_BACK, verification=None), "m-2")
    told = await ward.chase(at + timedelta(minutes=3))
    assert [matter for matter, _ in told] == [Matter.CORRECTION_CONTACT]
    overdue = await ward.chase(at + 4 * DAY)
    assert [address for _, to in overdue for address in to][-1] == "lead@north.example"
    assert await ward.follow_up(report_id)
    assert await ward.chase(at + 20 * DAY) == []


async def test_a_held_alert_is_chased_on_and_not_announced_as_near_its_release(ward: Ward) -> None:
    report_id = await ward.file(verified(alert_codes=("cancer",)))
    review_on = (MONDAY + 28 * DAY).date()
    await ward.store.write(
        lambda tx: ward.acts.hold(tx, CLINICIAN, report_id, HoldKind.LEGAL, "court order", review_on)
    )
    told = [matter for days in (1, 7, 14, 21) for matter, _ in await ward.chase(MONDAY + days * DAY)]
    assert Matter.ALERT in told
    assert Matter.NOT_ACKNOWLEDGED in told
    assert Matter.RELEASE_NEAR not in told


async def test_an_overdue_hold_is_told_to_the_lead_each_day(ward: Ward) -> None:
    report_id = await ward.file(verified())
    await ward.acknowledge(report_id)
    review_on = (MONDAY + 2 * DAY).date()
    await ward.store.write(
        lambda tx: ward.acts.hold(tx, CLINICIAN, report_id, HoldKind.LEGAL, "court order", review_on)
    )
    days = [await ward.chase(MONDAY + each * DAY) for each in (2.5, 3, 4, 4.2)]
    overdue = [[to for matter, to in each if matter is Matter.HOLD_OVERDUE] for each in days]
    assert overdue == [[], [["lead@north.example"]], [["lead@north.example"]], []]


BORN_1970 = date(1970, 1, 1)
BORN_2020 = date(2020, 1, 1)


@pytest.mark.parametrize(
    ("reason", "told_on", "overdue_on", "filed", "traced"),
    [
        ("no-content", 1, 2, {"content": Content("")}, {}),
        ("verification-time-invalid", 1, 2, {"verification": Verification(None)}, {}),
        ("verification-time-invalid", 1, 2, {"verification": Verification(MONDAY + 300 * DAY)}, {}),
        ("no-nhs-number", 1, 2, {"subject": replace(SARAH, nhs_number=None)}, {}),
        ("child", 1, 29, {"subject": replace(SARAH, birth_date=BORN_2020)}, {"birth_date": BORN_2020}),
        ("identity", 29, 30, {}, {"birth_date": BORN_1970}),
        ("identity", 29, 30, {}, {"number_status": "03"}),
        ("deceased", 29, 30, {}, {"death": Death.INFORMAL}),
    ],
)
async def test_what_a_rule_keeps_back_is_told_to_staff_until_somebody_takes_it_up(
    ward: Ward, reason: str, told_on: int, overdue_on: int, filed: dict[str, object], traced: dict[str, object]
) -> None:
    ward.demographics.sarah(**traced)
    report_id = await ward.file(replace(verified(), **filed))  # type: ignore[arg-type]  # by name
    await ward.chase(NOW)
    await ward.acknowledge(report_id)
    told, overdue = dict[int, list[str]](), dict[int, list[str]]()
    days = [*range(1, 9), *range(28, 38)]
    for day in days:
        for matter, to in await ward.chase(MONDAY + day * DAY):
            if matter is Matter.HELD_BY_RULE:
                told[day] = to
            if matter is Matter.HOLD_OVERDUE:
                overdue[day] = to
    assert (await ward.report(report_id)).held_for == {reason}
    assert list(told) == [day for day in days if day == told_on or (day > told_on and day % 7 == 0)]
    assert list(overdue) == [day for day in days if day >= overdue_on]
    assert set(map(tuple, told.values())) == {(CONTACTS.service_mailbox,)}
    assert [CONTACTS.results_lead] in overdue.values()
    assert all(to[0] == CONTACTS.results_lead for to in overdue.values())
    assert overdue[37] == [CONTACTS.results_lead, CONTACTS.caldicott_guardian]
    counted = await ward.store.read(listing.counts)
    assert (counted.held_by_rule, counted.overdue_review) == (1, 1)
    review_on = (MONDAY + 50 * DAY).date()
    await ward.store.write(
        lambda tx: ward.acts.hold(tx, CLINICIAN, report_id, HoldKind.LEGAL, "I see to it", review_on)
    )
    assert await ward.chase(MONDAY + 45 * DAY) == []
    counted = await ward.store.read(listing.counts)
    assert (counted.held_by_rule, counted.overdue_review) == (0, 0)


async def test_what_a_rule_keeps_back_is_told_no_more_once_its_reason_is_gone(ward: Ward) -> None:
    ward.demographics.sarah(birth_date=BORN_1970)
    report_id = await ward.file(verified())
    await ward.chase(NOW)
    await ward.acknowledge(report_id)
    await ward.chase(DUE_AT)
    assert [matter for matter, _ in await ward.chase(DUE_AT + DAY)] == [Matter.HELD_BY_RULE]
    assert [matter for matter, _ in await ward.chase(DUE_AT + 2 * DAY)] == [Matter.HOLD_OVERDUE]
    ward.demographics.sarah()
    told = {matter for matter, _ in await ward.chase(DUE_AT + 3 * DAY)}
    assert told.isdisjoint({Matter.HELD_BY_RULE, Matter.HOLD_OVERDUE})
    kept = await ward.report(report_id)
    assert (kept.state, kept.flags & {"held-by-rule", "hold-overdue"}) == (ReleaseState.RELEASED, frozenset())


async def test_who_disagreed_with_the_trace_is_held_at_night_and_traced_anew_in_the_morning(ward: Ward) -> None:
    ward.demographics.sarah(birth_date=BORN_1970)
    report_id = await ward.file(verified())
    await ward.look(DUE_AT)
    assert ward.demographics.asked == 1
    for hours in (1, 12, 16):  # the last is past midnight
        await ward.look(DUE_AT + timedelta(hours=hours))
        assert (await ward.report(report_id)).held_for == {"identity"}
    assert ward.demographics.asked == 1
    await ward.look(DUE_AT + timedelta(hours=23))
    assert ward.demographics.asked == 2


async def test_what_was_told_before_a_fall_is_told_under_the_same_key(ward: Ward) -> None:
    report_id = await ward.file(verified())
    [kept] = await ward.store.read(lambda read: referrals.due(read, NOW))
    await ward.chasing.chase()
    first = [each.key for each in ward.postbox.notices]
    await ward.store.write(lambda tx: tx.connection.execute(referrals.report_told.delete()))
    await ward.store.write(lambda tx: referrals.put_off(tx, kept, NOW))
    await ward.on(NOW)
    await ward.chasing.chase()
    assert [each.key for each in ward.postbox.notices] == first * 2
    assert report_id == kept.report_id


async def test_a_withdrawn_report_is_an_incident_and_chased_no_more(ward: Ward) -> None:
    await ward.file(verified())
    await ward.chase(NOW)
    await ward.file(verified(NOW, "", said=Said.WITHDRAWN, verification=None), "m-2")
    [(matter, to)] = await ward.chase(NOW + timedelta(minutes=5))
    assert (matter, to) == (Matter.WRONG_PATIENT, ["privacy@north.example", "lead@north.example"])
    assert await ward.chase(MONDAY + 30 * DAY) == []


async def test_a_report_that_stays_taken_back_is_told_of_once_and_stands_on_the_board(ward: Ward) -> None:
    await ward.file(verified())
    await ward.chase(NOW)
    await ward.file(verified(NOW, "", said=Said.TAKEN_BACK, verification=None), "m-2")
    assert await ward.chase(MONDAY + 2 * DAY) == []
    assert (await ward.store.read(listing.counts)).overdue_review == 0
    [(matter, to)] = await ward.chase(MONDAY + 3 * DAY)
    assert (matter, to) == (Matter.NOT_VERIFIED_AGAIN, [CONTACTS.service_mailbox, CONTACTS.results_lead])
    assert (await ward.store.read(listing.counts)).overdue_review == 1
    assert await ward.chase(MONDAY + 30 * DAY) == []


async def test_a_referrer_who_has_left_is_as_unknown(ward: Ward) -> None:
    await ward.file(verified(referrer=Practitioner("C7654321", "Dr E Gone")))
    assert await ward.chase(NOW) == [(Matter.REPORT, [CONTACTS.service_mailbox, *CONTACTS.deputies])]


async def test_a_notice_that_cannot_be_given_is_tried_once_a_round(ward: Ward) -> None:
    for number in range(3):
        await ward.file(verified(report_number=f"R-{number}"), f"m-{number}")
    ward.postbox.is_broken = True
    with capture_logs() as logs:
        assert await ward.chasing.chase() == 0
    assert [each["event"] for each in logs] == ["referrer not told"]
    ward.postbox.is_broken = False
    assert len(await ward.chase(NOW + timedelta(minutes=3))) == 3


async def test_the_referrers_team_hears_of_an_alert_that_its_patient_reads_soon(ward: Ward) -> None:
    await ward.file(verified(alert_codes=("cancer",)))
    await ward.chase(DUE_AT - 8 * DAY)
    told = dict(await ward.chase(DUE_AT - 7 * DAY))
    assert told[Matter.RELEASE_NEAR] == ["Orthopaedics", "lead@north.example"]


@pytest.mark.parametrize(
    "terms",
    [{"go_live_at": None}, {"is_on": False}, {"excluded_codes": frozenset({"XCHES"})}],
    ids=["before go-live", "off", "excluded exam"],
)
async def test_an_alert_of_a_report_that_is_not_for_release_is_told_and_chased(
    ward: Ward, terms: dict[str, object]
) -> None:
    ward.terms = replace(ward.terms, **terms)  # type: ignore[arg-type]  # each of its field's type
    report_id = await ward.file(verified(alert_codes=("critical",), exam=Exam(codes=("XCHES",))))
    assert (await ward.report(report_id)).state is ReleaseState.NOT_FOR_RELEASE
    assert [matter for matter, _ in await ward.chase(NOW)] == [Matter.ALERT, Matter.REPORT]
    assert Matter.UNANSWERED_ALERT in [matter for matter, _ in await ward.chase(NOW + timedelta(hours=2))]
    assert await ward.acknowledge(report_id)


async def test_what_is_not_for_release_and_no_alert_is_told_to_nobody(ward: Ward) -> None:
    ward.terms = replace(ward.terms, go_live_at=None)
    report_id = await ward.file(verified())
    assert await ward.chase(NOW) == []
    with pytest.raises(InvalidRequest, match="goes to no patient by itself"):
        await ward.acknowledge(report_id)


@pytest.mark.parametrize("days", [22, 400])
async def test_an_alert_that_comes_after_its_last_reminder_is_told_although_it_is_not_for_release(
    ward: Ward, days: int
) -> None:
    ward.terms = replace(ward.terms, go_live_at=None)
    await ward.look(NOW + days * DAY)
    await ward.file(verified(alert_codes=("critical",)))
    told = await ward.chase(NOW + (days + 1) * DAY)
    assert [matter for matter, _ in told if matter in (Matter.ALERT, Matter.REPORT)] == [Matter.ALERT, Matter.REPORT]
