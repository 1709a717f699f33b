"""A report's referrer in its rows: what is chased, what was proven, who has read it and who has seen to the patient.

`noted` follows each plan in the transaction that makes it, so no verified report is without its chase. The text that
was verified last is what counts: an acknowledgement of an earlier one says nothing of it. Nothing here tells anybody
(`gateway.release.referrers.chasing`), and silence keeps no report from its patient (REL-03).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from gateway.model.errors import InvalidRequest
from gateway.model.imaging import JsonValue
from gateway.release.acts import check_stands
from gateway.release.planner import Rules, Situation, record
from policy.release import chasing
from policy.release.chasing import Referral
from policy.release.circumstances import Flag, ReleaseState
from policy.release.ordering.instants import order
from policy.release.reports import Lifecycle
from storage.clinical import referrals
from storage.clinical.referrals import KeptReferral
from storage.database import Read, Tx
from storage.registers.state import Author
from storage.release import reports

log = structlog.get_logger(__name__)

NAME_CHARS_MAX = 200
_TOLD_OF = frozenset(
    {
        Flag.HELD_BY_RULE,
        Flag.HOLD_OVERDUE,
        Flag.HOLD_TO_CALDICOTT,
        Flag.HOLD_ENDING,
        Flag.DELAY_ALARM,
        Flag.NOT_VERIFIED_AGAIN,
        Flag.WRONG_PATIENT,
        Flag.WORD_OF_UNKNOWN,
    }
)
_TOLD_AGAIN = frozenset({Flag.HELD_BY_RULE, Flag.HOLD_OVERDUE})
"""Told anew as time passes, although nothing about the report changes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody says of the text that they have read."""

    version_id: str
    by: str
    """The professional's name; of a proof of dispatch what proves it."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Bulk:
    """What became of many acknowledgements in one."""

    acknowledged: tuple[str, ...]
    left_out: Mapping[str, str]
    """Why some were not: coded as alerts (SAF-68), another text stands by now, nothing to acknowledge."""


def version_to_name(read: Read, kept: KeptReferral) -> str:
    """The version that whoever has read what is chased has read: of a text that was coded as an alert later, that one.

    The same text with a code is no new text; but whoever read it without the code knows of no alert.
    """
    if not kept.referral.alerts:
        return kept.version_id
    told = sorted(reports.versions(read, kept.report_id), key=order)
    text = next((each for each in told if each.version_id == kept.version_id), None)
    if text is None or not text.text_digest:
        return kept.version_id
    alike = [each for each in told if each.text_digest == text.text_digest]
    known = text.alerts.union(*(each.alerts for each in told if each not in alike))
    coded = [each for each in alike if not (kept.referral.alerts & each.alerts) <= known]
    return coded[-1].version_id if coded else kept.version_id


class Referring:
    """The acts of referrers and of those who stand in for them; each in its caller's transaction, and audited."""

    def __init__(self, rules: Callable[[], Rules]) -> None:
        self._rules = rules

    def noted(self, tx: Tx, found: Situation) -> bool:
        """Follow a plan: begin, change or end the chase of the text that was verified last.

        True where another text took the place of the one that was chased: what was answered is not of it.
        """
        kept = referrals.current(tx, found.report.report_id)
        wanted = _wanted(kept, found)
        if wanted is None or (wanted == kept and wanted.referral.flags.isdisjoint(_TOLD_AGAIN)):
            return False
        is_same = kept is not None and kept.version_id == wanted.version_id
        self._keep(tx, wanted, instead_of=None if is_same else kept, is_new=kept is None)
        if kept is None and found.word_of_unknown is not None:
            told = {"report": wanted.report_id, "trust": wanted.trust.code, "said": found.word_of_unknown.said.value}
            log.error("word of an unknown report", alarm=True, **told)
        return not is_same and kept is not None

    def referred(self, read: Read, report_id: str) -> tuple[bool, bool]:
        """Whether it is proven that the referrer was sent the report as it stands, and whether it is acknowledged."""
        kept = referrals.current(read, report_id)
        if kept is None:
            return False, False
        return kept.referral.dispatched_at is not None, kept.referral.acknowledged_at is not None

    def acknowledge(self, tx: Tx, report_id: str, answer: Answer, author: Author) -> bool:
        """Somebody has read the report and will act on it (SAF-51); False: it was acknowledged already.

        Raises `InvalidRequest` where another text stands by now, where nothing is there to be read, for a time that
        cannot be, or without a name.
        """
        kept = self._asked(tx, report_id, answer)
        if kept.referral.acknowledged_at is not None:
            return False
        self._keep(tx, referrals.acknowledged(kept, answer.at, answer.by))
        return _recorded(tx, report_id, answer, "acknowledge", author, {"name": answer.by, "at": answer.at.isoformat()})

    def acknowledge_many(self, tx: Tx, read: Collection[tuple[str, Answer]], author: Author) -> Bulk:
        """Acknowledge reports together; alerts are left out (SAF-68)."""
        done, left_out = list[str](), dict[str, str]()
        for report_id, answer in read:
            kept = referrals.current(tx, report_id)
            if kept is not None and kept.referral.is_alert and kept.referral.is_standing:
                left_out[report_id] = "it is coded as an alert: it is to be read for itself"
                continue
            try:
                if self.acknowledge(tx, report_id, answer, author):
                    done.append(report_id)
            except InvalidRequest as refused:
                left_out[report_id] = str(refused)
        return Bulk(tuple(done), left_out)

    def record_follow_up(self, tx: Tx, report_id: str, answer: Answer, author: Author) -> bool:
        """Somebody has seen to the patient (SAF-68); False: that was recorded already. Raises as `acknowledge`.

        Of a text that was taken back too: then its patient is to be spoken to (SAF-61).
        """
        kept = self._asked(tx, report_id, answer, even_taken_back=True)
        if kept.referral.followed_up_at is not None:
            return False
        self._keep(tx, referrals.followed_up(kept, answer.at, answer.by))
        return _recorded(tx, report_id, answer, "follow-up", author, {"name": answer.by, "at": answer.at.isoformat()})

    def prove_dispatch(self, tx: Tx, report_id: str, answer: Answer, author: Author) -> bool:
        """The referrer was sent the report as it stands: control ID and positive answer, or the RIS's word.

        False: that was proven already. Raises as `acknowledge`.
        """
        kept = self._asked(tx, report_id, answer)
        if kept.referral.dispatched_at is not None:
            return False
        self._keep(tx, referrals.dispatched(kept, answer.at, answer.by))
        return _recorded(
            tx, report_id, answer, "prove-dispatch", author, {"reference": answer.by, "at": answer.at.isoformat()}
        )

    def _asked(self, tx: Tx, report_id: str, answer: Answer, *, even_taken_back: bool = False) -> KeptReferral:
        report = reports.hold(tx, report_id)
        kept = referrals.current(tx, report_id)
        if kept is None and report.current_version is None:
            raise InvalidRequest("nothing of this report is verified: there is nothing to acknowledge")
        if kept is None:
            raise InvalidRequest("it goes to no patient by itself, and is no alert: nobody is chased for it (see why)")
        stands = [version_to_name(tx, kept)] if kept.referral.is_standing or even_taken_back else []
        check_stands(answer.version_id, stands)
        if not answer.by.strip() or len(answer.by) > NAME_CHARS_MAX:
            raise InvalidRequest(f"a name or reference has 1 to {NAME_CHARS_MAX} characters")
        if not kept.referral.verified_at <= answer.at <= self._rules().now():
            raise InvalidRequest("the time lies between the verification of the report and now")
        return kept

    def _keep(
        self, tx: Tx, kept: KeptReferral, *, instead_of: KeptReferral | None = None, is_new: bool = False
    ) -> None:
        rules = self._rules()
        told = frozenset[str]() if is_new else referrals.told(tx, kept)
        look_at = chasing.next_at(kept.referral, told, rules.terms_of(kept.trust), rules.calendar, rules.now())
        referrals.keep(tx, kept, look_at, instead_of)


def _wanted(kept: KeptReferral | None, found: Situation) -> KeptReferral | None:
    """The referral as it should stand; None: there is none."""
    report, plan = found.report, found.plan
    newest = found.lifecycle.newest
    is_contact_due = Flag.CORRECTION_CONTACT_DUE in plan.flags
    contact_from = (kept.referral.contact_from if kept else None) or found.now if is_contact_due else None
    flags = plan.flags & _TOLD_OF
    if newest is None:
        if kept is None:
            return _of_unread(found, flags)
        is_new = contact_from is not None and kept.referral.contact_from is None
        changed = replace(kept.referral, is_standing=False, contact_from=contact_from, flags=flags, release_at=None)
        return replace(kept, referral=replace(changed, followed_up_at=None) if is_new else changed)
    if kept is None and plan.state is ReleaseState.NOT_FOR_RELEASE and not _alerts(found.lifecycle):
        return None  # an alert is told of whatever the release says, and however late it comes (REL-11)
    if kept is None or kept.version_id != newest.version_id:
        verified_at = newest.verification.at if newest.verification else None
        begun = Referral(min(verified_at or newest.received_at, found.now))
        kept = KeptReferral(report.report_id, newest.version_id, report.trust, found.now, begun)
    alerts = _alerts(found.lifecycle)
    if not alerts <= kept.referral.alerts:
        # Whoever answered knew of no such alert.
        unanswered = replace(kept.referral, acknowledged_at=None, followed_up_at=None)
        kept = replace(kept, referral=unanswered, acknowledged_by="", followed_up_by="")
    changed = replace(
        kept.referral,
        alerts=alerts,
        is_standing=True,
        contact_from=contact_from,
        flags=flags,
        release_at=plan.due_at or (kept.referral.release_at if plan.state is ReleaseState.RELEASED else None),
    )
    return replace(kept, referral=changed)


def _of_unread(found: Situation, flags: frozenset[Flag]) -> KeptReferral | None:
    """Somebody is told of a report that is stopped or added to before anybody has sent it, or taken back before
    anybody was told.

    Of any other of which nothing stands there is none (REL-35, REL-36).
    """
    stop, life = found.word_of_unknown, found.lifecycle
    if stop is not None:
        since, version_id = stop.stated_at, stop.version_id
    elif life.stopped_at is not None and life.superseded:
        since, version_id = life.stopped_at, life.superseded[-1]
    else:
        return None
    begun = Referral(min(since, found.now), is_standing=False, flags=flags)
    return KeptReferral(found.report.report_id, version_id, found.report.trust, found.now, begun)


def _alerts(lifecycle: Lifecycle) -> frozenset[str]:
    return frozenset[str]().union(*(each.alerts for each in lifecycle.texts))


def _recorded(tx: Tx, report_id: str, answer: Answer, act: str, author: Author, detail: dict[str, JsonValue]) -> bool:
    report = reports.get(tx, report_id)
    assert report is not None
    record(tx, report, act, author, {"version": answer.version_id, **detail})
    return True
