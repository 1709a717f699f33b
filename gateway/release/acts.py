"""What professionals and patients decide about reports: each act judged, written down, audited and planned in one go.

Called with a transaction by command line, API and the patient's page alike. A clinician acts for reports of their own
trust alone; a report of another one does not exist for them. Anybody on the staff may stop a report of the wrong
patient (SAF-64); serious harm is for a clinician to judge who is responsible for the patient's care (REL-50). No act
releases what holds, identity or age keep back: those are asked again at each giving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.imaging import JsonValue
from gateway.model.reporting.reading import Choices
from gateway.model.work.jobs import Lane
from gateway.release.planner import Planner, Situation, record, tending
from policy.parties import TrustId
from policy.release.circumstances import EarlyRelease, Hold, HoldKind, ReleaseState
from policy.release.clock import day_of
from policy.release.reports import Problem
from policy.release.whose import are_one
from storage.database import Read, Tx
from storage.registers import patients as registered
from storage.registers.state import Author
from storage.release import deliveries, holds, patients, releases, reports, standing
from storage.release.deliveries import DeliveryState
from storage.release.releases import NoticeState
from storage.release.reports import KeptReport
from storage.release.upkeep import whose
from storage.work import jobs

REASON_CHARS_MAX = 500
STOP_REVIEW_MAX = timedelta(days=14)
"""The furthest review time that a stop switch may name: it is no way to end release for good (SAF-69)."""


class Role(StrEnum):
    """As what somebody acts."""

    CLINICIAN = "clinician"
    RESPONSIBLE = "responsible-clinician"
    """A clinician who is, or last was, responsible for the patient's care (REL-50)."""
    STAFF = "staff"
    """Any other member of a trust's staff: booking, records, results desk."""
    GOVERNANCE = "governance"
    """Results lead, Caldicott Guardian, privacy officer, or whoever runs the region for the trust."""


_CLINICAL = frozenset({Role.CLINICIAN, Role.RESPONSIBLE})
_PLACES: dict[HoldKind, frozenset[Role]] = {
    HoldKind.TIMING: _CLINICAL,
    HoldKind.SERIOUS_HARM: frozenset({Role.RESPONSIBLE}),
    HoldKind.SAFEGUARDING: _CLINICAL | {Role.GOVERNANCE},
    HoldKind.THIRD_PARTY: _CLINICAL | {Role.GOVERNANCE},
    HoldKind.LEGAL: _CLINICAL | {Role.GOVERNANCE},
    HoldKind.IDENTITY: frozenset(Role),
    HoldKind.WRONG_PATIENT: frozenset(Role),
    HoldKind.PATIENT_REQUEST: frozenset(Role),
    HoldKind.PORTAL_PAUSE: _CLINICAL,
}
"""Who may place a hold of each kind; a hold is ended by whoever might have placed it, or by governance."""
_NOT_ENDED_BY_STAFF = frozenset({HoldKind.WRONG_PATIENT, HoldKind.IDENTITY})
"""Anybody stops a report that may be somebody else's; that it is not, a clinician or governance says (SAF-33)."""


@dataclass(frozen=True, slots=True)
class Staff:
    """A member of a trust's staff, proved by whoever calls."""

    name: str
    trust: TrustId | None
    """None: whoever runs the region at its own command line."""
    role: Role
    request_id: str = ""

    def author(self, reason: str) -> Author:
        """As the audit names them."""
        return Author(f"{self.name} ({self.role.value})", self.request_id, reason)


def check_stands(version_id: str, standing: Sequence[str]) -> None:
    """Raises `InvalidRequest` for a version that is none of these: whoever names it has not read what stands now."""
    if version_id in standing:
        return
    if not standing:
        raise InvalidRequest("no version of it stands verified now")
    raise InvalidRequest(f"this version does not stand: read what does now ({', '.join(standing)}), and name it")


class Acts:
    """The acts. Each raises `NotFound` for a report of another trust, `InvalidRequest` for what may not be."""

    def __init__(self, planner: Planner, new_id: Callable[[], str]) -> None:
        self._planner = planner
        self._new_id = new_id

    def hold(self, tx: Tx, staff: Staff, report_id: str, kind: HoldKind, reason: str, review_on: date) -> Situation:
        """Keep a report back until somebody has looked again; a hold of timing ends by itself on that day (REL-43)."""
        report = _own(tx, staff, report_id)
        if staff.role not in _PLACES[kind]:
            raise InvalidRequest(f"a hold for {kind.value} is not for {staff.role.value} to place")
        self._check_review(report, review_on)
        now = self._planner.now()
        hold_id = self._new_id()
        hold = Hold(hold_id, kind, staff.name, staff.role.value, _reason(reason), now, review_on)
        holds.place(tx, report_id, hold)
        detail: dict[str, JsonValue] = {"hold": hold_id, "kind": kind.value, "review_on": review_on.isoformat()}
        return self._done(tx, report, "hold", staff.author(reason), detail)

    def prolong_hold(self, tx: Tx, staff: Staff, hold_id: str, reason: str, review_on: date) -> Situation:
        """Somebody has looked at a hold and it stays: it is looked at again by another day (REL-43, SAF-64)."""
        report, hold = self._hold_of(tx, staff, hold_id)
        if staff.role not in _PLACES[hold.kind]:
            raise InvalidRequest(f"a hold for {hold.kind.value} is not for {staff.role.value} to prolong")
        self._check_review(report, review_on)
        why = _reason(reason)
        holds.prolong(tx, hold_id, review_on)
        detail: dict[str, JsonValue] = {"hold": hold_id, "review_on": review_on.isoformat()}
        return self._done(tx, report, "prolong-hold", staff.author(why), detail)

    def end_hold(self, tx: Tx, staff: Staff, hold_id: str, reason: str) -> Situation:
        """End a hold: what fell due meanwhile goes."""
        report, hold = self._hold_of(tx, staff, hold_id)
        if staff.role not in _PLACES[hold.kind] | {Role.GOVERNANCE} or (
            hold.kind in _NOT_ENDED_BY_STAFF and staff.role is Role.STAFF
        ):
            raise InvalidRequest(f"a hold for {hold.kind.value} is not for {staff.role.value} to end")
        holds.end(tx, hold_id, staff.name, _reason(reason))
        return self._done(tx, report, "end-hold", staff.author(reason), {"hold": hold_id, "kind": hold.kind.value})

    def release_early(self, tx: Tx, staff: Staff, report_id: str, version_id: str, reason: str) -> Situation:
        """Let the version go that the professional has read, before its time (REL-24, REL-42)."""
        report = _own(tx, staff, report_id)
        _clinical(staff, "an early release")
        self._check_stands(tx, report_id, version_id)
        early = EarlyRelease(version_id, self._planner.now(), staff.name, _reason(reason))
        holds.let_go(tx, report_id, early)
        return self._done(tx, report, "release-early", staff.author(reason), {"version": version_id})

    def retract(self, tx: Tx, staff: Staff, report_id: str, version_id: str, reason: str) -> Situation:
        """Take a released version back from every channel; clinicians see it as before (REL-25)."""
        report = _own(tx, staff, report_id)
        _clinical(staff, "a retraction")
        released = releases.released(tx, report_id)
        if version_id not in released:
            # One that stands no more may be named: nothing stops a stop (SAF-25).
            instead = f"name one that was ({', '.join(sorted(released))})" if released else "place a hold instead"
            raise InvalidRequest(f"this version was never released: {instead}")
        holds.retract(tx, report_id, version_id, staff.name, _reason(reason))
        return self._done(tx, report, "retract", staff.author(reason), {"version": version_id})

    def review(self, tx: Tx, staff: Staff, report_id: str, version_id: str, reason: str) -> Situation:
        """Let a child's report go that the professional has read (SAF-65)."""
        report = _own(tx, staff, report_id)
        _clinical(staff, "the review of a child's report")
        self._check_stands(tx, report_id, version_id)
        holds.review(tx, report_id, version_id, staff.name, _reason(reason))
        return self._done(tx, report, "review", staff.author(reason), {"version": version_id})

    def settle_patient(self, tx: Tx, staff: Staff, report_id: str, version_id: str, reason: str) -> Situation:
        """Say that the patient whom the standing version names is the right one, though others were named (SAF-33).

        It settles the versions that are there; one that names somebody else again asks again.
        """
        report = _own(tx, staff, report_id)
        if staff.role is Role.STAFF:
            raise InvalidRequest("to settle whose a report is is for a clinician or for governance")
        life = self._planner.situation(tx, report_id).lifecycle
        if Problem.PATIENT_CHANGED not in life.problems:
            raise InvalidRequest("its versions name one patient: nothing is to be settled")
        check_stands(life.repeats.get(version_id, version_id), [each.version_id for each in life.texts[:1]])
        if not are_one([each.patient for each in life.texts]):
            raise InvalidRequest("the report and an addendum to it name two patients: its sender has to correct that")
        told = reports.versions(tx, report_id)
        holds.settle_patient(tx, report_id, [each.version_id for each in told], version_id, staff.name, _reason(reason))
        whose.renew(tx, report_id, told)
        return self._done(tx, report, "settle-patient", staff.author(reason), {"version": version_id})

    def stop(self, tx: Tx, staff: Staff, trust: TrustId, reason: str, review_at: datetime) -> bool:
        """Let nothing of a trust go out (SAF-69); False where it stands still already. Loud until it is ended."""
        _of_trust(staff, trust)
        now = self._planner.now()
        if not now < review_at <= now + STOP_REVIEW_MAX:
            raise InvalidRequest(f"the review time lies within the next {STOP_REVIEW_MAX.days} days")
        placed = standing.Stop(self._new_id(), trust, staff.name, _reason(reason), now, review_at)
        if not standing.stop(tx, placed):
            return False
        self._for_trust(tx, trust, "stop", staff.author(reason), {"review_at": review_at.isoformat()})
        return True

    def restart(self, tx: Tx, staff: Staff, trust: TrustId, reason: str) -> bool:
        """Let a trust's release go on; False where it was not stopped."""
        _of_trust(staff, trust)
        if staff.role is Role.STAFF:
            raise InvalidRequest("to let release go on is for a clinician or for governance")
        if not standing.restart(tx, trust, staff.name, _reason(reason)):
            return False
        self._for_trust(tx, trust, "restart", staff.author(reason), {})
        return True

    def retrospective(self, read: Read, trust: TrustId, verified_from: datetime, verified_until: datetime) -> int:
        """How many reports from before go-live an approval of `[verified_from, verified_until)` would let go."""
        return standing.verified_between(read, trust, verified_from, verified_until)

    def approve_retrospective(
        self,
        tx: Tx,
        staff: Staff,
        trust: TrustId,
        span: tuple[datetime, datetime],
        expected: int,
        reason: str,
    ) -> int:
        """Let reports from before go-live go; `expected` is what the preview said, and has to hold still (SAF-69)."""
        _of_trust(staff, trust)
        if staff.role is not Role.GOVERNANCE:
            raise InvalidRequest("a retrospective release is for governance to approve")
        if not span[0] < span[1]:
            raise InvalidRequest("the span ends before it begins")
        count = standing.verified_between(tx, trust, *span)
        if count != expected:
            raise InvalidRequest(f"{count} reports would go, not {expected}: look at the preview again")
        standing.approve(tx, trust, *span, staff.name, _reason(reason))
        detail: dict[str, JsonValue] = {
            "verified_from": span[0].isoformat(),
            "verified_until": span[1].isoformat(),
            "reports": count,
        }
        self._for_trust(tx, trust, "approve-retrospective", staff.author(reason), detail)
        return count

    def settle_delivery(
        self, tx: Tx, staff: Staff, report_id: str, channel: str, document_key: str, reason: str, *, is_there: bool
    ) -> Situation:
        """Say what became of a document of which nobody knew: it is there, or it is not and is given again (SAF-67)."""
        report = _own(tx, staff, report_id)
        delivery = deliveries.get(tx, report_id, channel, document_key)
        if delivery.state not in deliveries.UNDELIVERABLE:
            raise InvalidRequest(f"the delivery is {delivery.state.value}: nothing is to be settled")
        if delivery.state is DeliveryState.STUCK:
            state = DeliveryState.WITHDRAWING if is_there else DeliveryState.WITHDRAWN
        else:
            state = DeliveryState.CONFIRMED if is_there else DeliveryState.WAITING
        now = self._planner.now()
        deliveries.move(tx, delivery, state, words=_reason(reason), at=now)
        if state is DeliveryState.CONFIRMED:
            releases.release(tx, delivery, now)
        detail: dict[str, JsonValue] = {"channel": channel, "document": document_key, "to": state.value}
        return self._done(tx, report, "settle-delivery", staff.author(reason), detail)

    def settle_notice(self, tx: Tx, staff: Staff, report_id: str, version_id: str, reason: str) -> Situation:
        """A person has seen to it that the patient knows, or need not be told."""
        report = _own(tx, staff, report_id)
        told = [each.version_id for each in releases.notices(tx, report_id)]
        if version_id not in told:
            of = f", but of {', '.join(told)}" if told else ""
            raise InvalidRequest(f"the patient was never to be told of this version{of}")
        releases.end_notice(tx, report_id, [version_id], NoticeState.SETTLED, _reason(reason))
        return self._done(tx, report, "settle-notice", staff.author(reason), {"version": version_id})

    def pause_access(self, tx: Tx, staff: Staff, report_id: str, reason: str, *, is_paused: bool) -> Situation:
        """Pause the access to the patient's page of a report's patient, or let it go on (REL-22, REL-55)."""
        report = _own(tx, staff, report_id)
        _clinical(staff, "to pause a patient's access")
        # The account may lie under another number of theirs, and one of several that is paused pauses them all.
        rows = registered.person(tx, report.patient_id).joined if report.patient_id is not None else ()
        changed = [patients.pause(tx, row, is_paused=is_paused) for row in sorted(rows)]
        if report.patient_id is None or not any(changed):
            raise InvalidRequest("the patient has no account at the patient's page")
        self._look_at_person(tx, report.patient_id)
        act = "pause-access" if is_paused else "resume-access"
        return self._done(tx, report, act, staff.author(reason), {})

    def choose(self, tx: Tx, patient_row: str, chosen: Choices, request_id: str) -> bool:
        """What a patient asked for themself; False where nothing changes."""
        # What was chosen under another number of theirs is what they change here.
        others = [row for row in registered.person(tx, patient_row).joined if patients.choices(tx, row) != Choices()]
        changed = [patients.choose(tx, row, chosen, "patient") for row in {patient_row, *others}]
        if not any(changed):
            return False
        self._look_at_person(tx, patient_row)
        body: dict[str, JsonValue] = {
            "act": "choose",
            "patient": patient_row,
            "by": "patient",
            "not_now": chosen.not_now,
            "letter": chosen.letter,
            "large_print": chosen.large_print,
        }
        tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, request_id, body))
        return True

    def signed_up(self, tx: Tx, patient_row: str) -> int:
        """A patient has an account now: what was due and had no channel goes at once (REL-41); how many reports."""
        count = 0
        for row in sorted(registered.person(tx, patient_row).joined):
            for report in reports.of_patient(tx, row):
                waits = [each for each in deliveries.deliveries(tx, report.report_id) if each.state in _NO_CHANNEL]
                for each in waits:
                    deliveries.move(tx, each, DeliveryState.WAITING)
                if waits:
                    jobs.enqueue(tx, tending(report.report_id, Lane.INTERACTIVE))
                    count += 1
        return count

    def _hold_of(self, tx: Tx, staff: Staff, hold_id: str) -> tuple[KeptReport, Hold]:
        found = holds.hold_of(tx, hold_id)
        if found is None:
            raise InvalidRequest("no such hold in force")
        report_id, hold = found
        return _own(tx, staff, report_id), hold

    def _check_review(self, report: KeptReport, review_on: date) -> None:
        today = day_of(self._planner.now(), self._planner.calendar)
        furthest = self._planner.terms_of(report.trust).hold_review_days_max
        if not today < review_on <= today + timedelta(days=furthest):
            raise InvalidRequest(f"the review date lies within the next {furthest} days")

    def _check_stands(self, tx: Tx, report_id: str, version_id: str) -> None:
        life = self._planner.situation(tx, report_id).lifecycle
        check_stands(life.repeats.get(version_id, version_id), [each.version_id for each in life.texts])

    def _look_at_person(self, tx: Tx, patient_row: str) -> None:
        """Have looked at what is of this patient, under any number that may be theirs (SAF-33)."""
        for row in sorted(registered.person(tx, patient_row).related):
            standing.look_at_patient(tx, row, self._planner.now())

    def _done(self, tx: Tx, report: KeptReport, act: str, author: Author, detail: dict[str, JsonValue]) -> Situation:
        record(tx, report, act, author, detail)
        return self._planner.replan(tx, report.report_id, author)

    def _for_trust(self, tx: Tx, trust: TrustId, act: str, author: Author, detail: dict[str, JsonValue]) -> None:
        """Audit what concerns every report of a trust, and have looked at what it may change."""
        count = standing.look_again(tx, trust, _KEPT_BACK, self._planner.now())
        body: dict[str, JsonValue] = {
            "act": act,
            "trust": trust.code,
            "by": author.subject,
            "reason": author.reason,
            "looked_at": count,
            **detail,
        }
        tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, author.request_id, body))


_KEPT_BACK = (ReleaseState.DUE, ReleaseState.HELD, ReleaseState.NOT_FOR_RELEASE)
"""What an act about a whole trust may let go or keep; what is under embargo asks again at its time."""
_NO_CHANNEL = (DeliveryState.NO_ACCOUNT, DeliveryState.NOT_FOR)


def _own(tx: Tx, staff: Staff, report_id: str) -> KeptReport:
    """The report, held until the transaction ends: no version comes between what is checked and what is done."""
    report = reports.get(tx, report_id)
    if report is None or (staff.trust is not None and report.trust != staff.trust):
        raise NotFound("no such report")
    return reports.hold(tx, report_id)


def _of_trust(staff: Staff, trust: TrustId) -> None:
    if staff.trust is not None and staff.trust != trust:
        raise NotFound("no such trust")


def _clinical(staff: Staff, what: str) -> None:
    if staff.role not in _CLINICAL:
        raise InvalidRequest(f"{what} is for a clinician")


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if not reason:
        raise InvalidRequest("a reason is needed")
    if len(reason) > REASON_CHARS_MAX:
        raise InvalidRequest(f"the reason is longer than {REASON_CHARS_MAX} characters")
    return reason
