"""The staff's desk behind the API: a proven caller becomes a member of a trust's staff, who looks and acts.

A caller's certificate says of which trust and of what kind (DEC-03): a clinician's stands for a clinician, that of an
officer for governance, a system's for the rest of the staff. What each may do is for `gateway.release.acts` to say.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.imaging import JsonValue
from gateway.model.reporting.views import Board, Done, Explained
from gateway.release.acts import Acts, Role, Staff
from gateway.release.linking import Images, Link, linked_by_person, unlinked_by_person
from gateway.release.planner import Planner, Situation
from gateway.release.referrers.referring import Answer, Referring
from gateway.release.staff import views
from gateway.release.staff.answering import acknowledged, noted
from gateway.web.api.desk import (
    Acknowledged,
    Acknowledgement,
    Acknowledgements,
    Approval,
    Asked,
    Counted,
    DeadLetters,
    Dispatch,
    FollowUp,
    LeftOut,
    Named,
    NewHold,
    NewLink,
    NewStop,
    Numbered,
    OfVersion,
    Reasoned,
    Reports,
    Settlement,
    Span,
    Switched,
    WrongLink,
)
from policy.parties import Caller, PrincipalKind
from storage.database import Read, Tx
from storage.release import holds, listing, messages, reports
from storage.store import SqlStore

T = TypeVar("T")

TOLD_LATE_MAX = timedelta(days=366)
"""So long ago something may be said to have happened."""


class ReleaseDesk:
    """Views and acts of `gateway.web.api.desk.Desk`."""

    def __init__(
        self,
        store: SqlStore,
        planner: Planner,
        acts: Acts,
        referring: Referring,
        images: Images,
        woken: Callable[[], None],
    ) -> None:
        """`woken` is called once an act may have queued a job."""
        self._store = store
        self._planner = planner
        self._acts = acts
        self._referring = referring
        self._images = images
        self._woken = woken

    async def refused(self, staff: Caller, operation: str, report_id: str, why: str) -> None:
        """Record what a caller asked for and was refused."""
        principal = staff.principal
        told: dict[str, JsonValue] = {
            "act": operation,
            "by": principal.subject,
            "trust": principal.trust.code,
            "report": report_id,
            "reason": why,
        }
        entry = AuditEntry(AuditEvent.REPORT_REFUSED, self._store.clock.now(), staff.request_id, told)
        await self._store.append_audit(entry)

    async def board(self, staff: Caller) -> Board:
        """How release stands in the caller's trust."""
        trust = staff.principal.trust
        return await self._store.read(lambda read: views.board(read, self._planner, trust))

    async def reports(self, staff: Caller, asked: Asked) -> Reports:
        """Reports of the trust."""
        trust, now = staff.principal.trust, self._planner.now()

        def body(read: Read) -> Reports:
            if asked.days is not None:
                until = now + timedelta(days=asked.days)
                found = listing.due_until(read, until, trust, asked.limit + 1, state=asked.state)
            else:
                states = () if asked.state is None else (asked.state,)
                found = listing.in_states(read, states, trust, asked.limit + 1)
            return Reports(views.lines_of(read, found[: asked.limit]), len(found) <= asked.limit)

        return await self._store.read(body)

    async def named(self, staff: Caller, numbered: Numbered) -> Named:
        """How a report of the trust is named here."""

        def body(read: Read) -> Named:
            found = reports.find(read, staff.principal.trust, numbered.report_number)
            if found is None:
                raise NotFound("no such report")
            [line] = views.lines_of(read, [found])
            return Named(line.report_id, line.version_id)

        return await self._store.read(body)

    async def explained(self, staff: Caller, report_id: str) -> Explained:
        """What will happen to a report, when, and why."""
        trust = staff.principal.trust
        return await self._store.read(lambda read: views.explained(read, self._planner, report_id, trust))

    async def dead_letters(self, staff: Caller) -> DeadLetters:
        """Messages of the trust's feeds that wait for a person."""
        trust = staff.principal.trust

        def body(read: Read) -> DeadLetters:
            found = views.dead_letters(read, trust)
            return DeadLetters(found, is_whole=messages.dead_count(read, trust) == len(found))

        return await self._store.read(body)

    async def hold(self, staff: Caller, report_id: str, body: NewHold) -> Done:
        """Keep a report back."""
        who = _staff(staff, is_responsible=body.is_responsible)
        return await self._acted(lambda tx: self._acts.hold(tx, who, report_id, body.kind, body.reason, body.review_on))

    async def end_hold(self, staff: Caller, report_id: str, hold_id: str, body: Reasoned) -> Done:
        """End a hold."""
        who = _staff(staff)

        def ended(tx: Tx) -> Situation:
            views.of_trust(tx, report_id, who.trust)
            if hold_id not in {each.hold_id for each in holds.holds(tx, report_id)}:
                raise NotFound("the report has no such hold in force")
            return self._acts.end_hold(tx, who, hold_id, body.reason)

        return await self._acted(ended)

    async def release_early(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Let a version go before its time."""
        who = _staff(staff)
        return await self._acted(lambda tx: self._acts.release_early(tx, who, report_id, body.version_id, body.reason))

    async def retract(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Take a released version back."""
        who = _staff(staff)
        return await self._acted(lambda tx: self._acts.retract(tx, who, report_id, body.version_id, body.reason))

    async def review(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Let a child's report go."""
        who = _staff(staff)
        return await self._acted(lambda tx: self._acts.review(tx, who, report_id, body.version_id, body.reason))

    async def settle_patient(self, staff: Caller, report_id: str, body: OfVersion) -> Done:
        """Say that a report is of the patient whom its standing version names."""
        who = _staff(staff)
        return await self._acted(lambda tx: self._acts.settle_patient(tx, who, report_id, body.version_id, body.reason))

    async def settle_delivery(self, staff: Caller, report_id: str, body: Settlement) -> Done:
        """Say what became of a document of which nobody knew."""
        who, told = _staff(staff), (body.channel, body.document_key, body.reason)
        return await self._acted(
            lambda tx: self._acts.settle_delivery(tx, who, report_id, *told, is_there=body.is_there)
        )

    async def acknowledge(self, staff: Caller, report_id: str, body: Acknowledgement) -> Done:
        """Note who has read a report, and when."""
        who, answer = _staff(staff).author(f"read by {body.name}"), self._answer(body.version_id, body.name, body.at)
        return await self._noted(staff, report_id, lambda tx: self._referring.acknowledge(tx, report_id, answer, who))

    async def acknowledge_many(self, staff: Caller, body: Acknowledgements) -> Acknowledged:
        """Note who has read several reports, and when."""
        who = _staff(staff).author(f"read by {body.name}")
        read = [(each.report_id, self._answer(each.version_id, body.name, body.at)) for each in body.reports]

        def acknowledge(tx: Tx) -> Acknowledged:
            for report_id, _ in read:
                views.of_trust(tx, report_id, staff.principal.trust)
            done = acknowledged(tx, self._planner, self._referring, read, who)
            return Acknowledged(done.acknowledged, tuple(LeftOut(*each) for each in done.left_out.items()))

        return await self._written(acknowledge)

    async def follow_up(self, staff: Caller, report_id: str, body: FollowUp) -> Done:
        """Note what was done for the patient."""
        who, answer = _staff(staff).author(body.reason), self._answer(body.version_id, body.name, body.at)
        return await self._noted(
            staff, report_id, lambda tx: self._referring.record_follow_up(tx, report_id, answer, who)
        )

    async def prove_dispatch(self, staff: Caller, report_id: str, body: Dispatch) -> Done:
        """Note that the referrer was sent the report."""
        who, answer = _staff(staff).author(body.reference), self._answer(body.version_id, body.reference, body.at)
        return await self._noted(
            staff, report_id, lambda tx: self._referring.prove_dispatch(tx, report_id, answer, who)
        )

    async def link(self, staff: Caller, report_id: str, body: NewLink) -> Done:
        """Say of which study a report is."""
        who, named, flag = _staff(staff).author(body.reason), Link(report_id, body.study_uid), body.is_of_another_trust
        return await self._noted(
            staff, report_id, lambda tx: linked_by_person(tx, named, who, self._images, is_of_another_trust=flag)
        )

    async def unlink(self, staff: Caller, report_id: str, body: WrongLink) -> Done:
        """Say of which study a report is not."""
        who, named = _staff(staff).author(body.reason), Link(report_id, body.study_uid)
        return await self._noted(staff, report_id, lambda tx: unlinked_by_person(tx, named, who))

    async def stop(self, staff: Caller, body: NewStop) -> Switched:
        """Stop the trust's release."""
        who, trust = _staff(staff), staff.principal.trust
        changed = await self._written(lambda tx: self._acts.stop(tx, who, trust, body.reason, body.review_at))
        return Switched(True, changed)

    async def restart(self, staff: Caller, body: Reasoned) -> Switched:
        """Let the trust's release go on."""
        who, trust = _staff(staff), staff.principal.trust
        return Switched(False, await self._written(lambda tx: self._acts.restart(tx, who, trust, body.reason)))

    async def retrospective(self, staff: Caller, span: Span) -> Counted:
        """How many reports an approval of this span would let go."""
        trust, within = staff.principal.trust, (span.verified_from, span.verified_until)
        return Counted(await self._store.read(lambda read: self._acts.retrospective(read, trust, *within)))

    async def approve_retrospective(self, staff: Caller, body: Approval) -> Counted:
        """Let them go."""
        who, trust, within = _staff(staff), staff.principal.trust, (body.verified_from, body.verified_until)
        return Counted(
            await self._written(
                lambda tx: self._acts.approve_retrospective(tx, who, trust, within, body.reports, body.reason)
            )
        )

    async def _acted(self, act: Callable[[Tx], Situation]) -> Done:
        return views.done_of(await self._written(act))

    async def _written(self, body: Callable[[Tx], T]) -> T:
        done = await self._store.write(body)
        self._woken()
        return done

    async def _noted(self, staff: Caller, report_id: str, note: Callable[[Tx], bool]) -> Done:
        """Plan a report of the caller's trust, so that its chase is there; note something; plan it by that."""
        author = _staff(staff).author("")

        def body(tx: Tx) -> Done:
            views.of_trust(tx, report_id, staff.principal.trust)
            found, changed = noted(tx, self._planner, report_id, author, note)
            return views.done_of(found, changed=changed)

        return await self._written(body)

    def _answer(self, version_id: str, by: str, at: datetime | None) -> Answer:
        """What is said of a version; now where no time is said. Raises `InvalidRequest`."""
        now = self._planner.now()
        if at is not None and not now - TOLD_LATE_MAX <= at <= now:
            raise InvalidRequest("the time lies ahead, or more than a year ago")
        return Answer(version_id, by, at or now)


def _staff(caller: Caller, *, is_responsible: bool = False) -> Staff:
    """The member of staff whom a caller's certificate stands for; raises `InvalidRequest`."""
    principal = caller.principal
    match principal.kind:
        case PrincipalKind.CLINICIAN:
            role = Role.RESPONSIBLE if is_responsible else Role.CLINICIAN
        case PrincipalKind.OFFICER:
            role = Role.GOVERNANCE
        case PrincipalKind.SYSTEM:
            role = Role.STAFF
        case PrincipalKind.GATEWAY | PrincipalKind.SERVICE:
            raise InvalidRequest("a gateway is no member of staff")
        case other:
            assert_never(other)
    return Staff(principal.subject, principal.trust, role, caller.request_id)
