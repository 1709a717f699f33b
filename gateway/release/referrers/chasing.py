"""Tell staff what is due to be told of reports: notices, alerts, reminders, warnings, one by one, each once.

A job that looks: what is to be told, and when, are rows. A notice is given before it is written down as told, and has
the same key when it is given again, so a fall between the two repeats it and loses nothing. One that cannot be given is
put off; an alert that has not left in its time is alarmed (SAF-68).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from gateway.config.release.terms import ReleaseContacts
from gateway.jobs.runner import Work
from gateway.model.errors import Damaged, NotFound, ServiceFault
from gateway.model.imaging import JsonValue
from gateway.model.reporting.incoming import Practitioner
from gateway.model.reporting.notices import Notice, Notifier, Told
from gateway.release.contents import Contents
from gateway.release.planner import Rules, record
from gateway.release.referrers.referring import version_to_name
from policy.parties import TrustId
from policy.release import chasing
from policy.release.chasing import Matter, Recipient, Step
from storage.clinical import referrals
from storage.clinical.referrals import KeptReferral
from storage.database import Tx
from storage.registers.state import Author
from storage.release import reports
from storage.release.reports import KeptReport
from storage.store import SqlStore

log = structlog.get_logger(__name__)

CHASE = "referrer-chase"
"""The kind of the job."""
CHASE_INTERVAL_S = 30.0
PUT_OFF = timedelta(minutes=2)
NOBODY = Practitioner()
_AUTHOR = Author("release", "", "the time has come")


class Chasing:
    """The handler of `CHASE` jobs."""

    def __init__(
        self,
        store: SqlStore,
        contents: Contents,
        notifier: Notifier,
        rules: Callable[[], Rules],
        contacts_of: Callable[[TrustId], ReleaseContacts],
    ) -> None:
        self._store = store
        self._contents = contents
        self._notifier = notifier
        self._rules = rules
        self._contacts_of = contacts_of

    async def __call__(self, work: Work) -> None:
        """See `Handler`."""
        await self.chase()

    async def chase(self) -> int:
        """Tell all that is due by now; of how many reports. Raises a `ServiceFault` where nothing can be read.

        A trust whose notices cannot be given is tried again with the next round, and keeps no other waiting.
        """
        now, count = self._rules().now(), 0
        away: set[TrustId] = set()
        while found := await self._store.read(partial(referrals.due, now=now, without=frozenset(away))):
            for each in found:
                if each.trust not in away and await self._tell(each, now):
                    count += 1
                else:
                    away.add(each.trust)
                    await self._alarm(each, now)
        return count

    async def _alarm(self, kept: KeptReferral, now: datetime) -> None:
        """Say so if this is an alert that has not left in its time."""
        told = await self._store.read(lambda read: referrals.told(read, kept))
        terms = self._rules().terms_of(kept.trust)
        if chasing.alert_is_late(kept.referral, told, terms, now, kept.known_at):
            log.error("alert not sent in time", alarm=True, report=kept.report_id, trust=kept.trust.code)

    async def _tell(self, kept: KeptReferral, now: datetime) -> bool:
        """Tell what is due of one report; False: it cannot be told now."""
        rules = self._rules()
        terms = rules.terms_of(kept.trust)
        told = await self._store.read(lambda read: referrals.told(read, kept))
        version_id = await self._store.read(partial(version_to_name, kept=kept))
        try:
            report, referrer = await self._of(kept)
            has_left = referrer.identifier in self._contacts_of(kept.trust).referrers_left
            is_known = bool(referrer.identifier or referrer.name) and not has_left
            kept = replace(kept, referral=replace(kept.referral, is_referrer_known=is_known))
            steps = chasing.due(kept.referral, told, terms, rules.calendar, now)
            proofs = [
                await self._notifier.tell(self._notice(kept, report, step, referrer, version_id)) for step in steps
            ]
        except ServiceFault as fault:
            log.warning("referrer not told", report=kept.report_id, trust=kept.trust.code, reason=str(fault))
            await self._store.write(lambda tx: referrals.put_off(tx, kept, now + PUT_OFF))
            return False
        given = dict(zip(steps, proofs, strict=True))
        await self._store.write(lambda tx: self._settle(tx, kept, report, given, now))
        return True

    async def _of(self, kept: KeptReferral) -> tuple[KeptReport, Practitioner]:
        """The report, and who asked for it: by the text that is chased, else by the one that it adds to."""
        report = await self._store.read(lambda read: reports.get(read, kept.report_id))
        assert report is not None
        for version_id in dict.fromkeys((kept.version_id, report.current_version)):
            if version_id is None:
                continue
            try:
                referrer = (await self._contents.open(version_id)).referrer
            except (NotFound, Damaged):  # whatever became of it, staff are told
                continue
            if referrer.identifier or referrer.name:
                return report, referrer
        return report, NOBODY

    def _notice(
        self, kept: KeptReferral, report: KeptReport, step: Step, referrer: Practitioner, version_id: str
    ) -> Notice:
        named = "\n".join((kept.report_id, kept.version_id, step.key))
        return Notice(
            key=hashlib.sha256(named.encode()).hexdigest()[:40],
            trust=kept.trust,
            report_id=kept.report_id,
            version_id=version_id,
            report_number=report.report_number,
            matter=step.matter,
            to=tuple(dict.fromkeys(self._addressed(kept.trust, step, referrer))),
            due_at=step.due_at,
        )

    def _addressed(self, trust: TrustId, step: Step, referrer: Practitioner) -> Sequence[Told]:
        """Whom a step names, and where each is reached; the service's mailbox stands in for an address not told."""
        contacts = self._contacts_of(trust)
        addresses: dict[Recipient, tuple[str, ...]] = {
            Recipient.REFERRER: (" ".join(filter(None, (referrer.identifier, referrer.name))),),
            Recipient.TEAM: (referrer.team,),
            Recipient.SERVICE_MAILBOX: (contacts.service_mailbox,),
            Recipient.DEPUTIES: contacts.deputies,
            Recipient.RESULTS_LEAD: (contacts.results_lead,),
            Recipient.GOVERNANCE: contacts.governance,
            Recipient.CALDICOTT_GUARDIAN: (contacts.caldicott_guardian,),
            Recipient.PRIVACY_OFFICER: (contacts.privacy_officer,),
        }
        return [
            Told(recipient, address or contacts.service_mailbox)
            for recipient in step.to
            for address in addresses[recipient] or ("",)
        ]

    def _settle(self, tx: Tx, kept: KeptReferral, report: KeptReport, given: Mapping[Step, str], now: datetime) -> None:
        """Write down what was told, and what proves it; what somebody answered meanwhile stands."""
        reports.hold(tx, kept.report_id)
        fresh = referrals.current(tx, kept.report_id)
        for step in given:
            to = [each.value for each in step.to]
            if referrals.tell(tx, kept, step.key, to, now):
                told_to: JsonValue = [*to]
                record(tx, report, "tell", _AUTHOR, {"version": kept.version_id, "step": step.key, "to": told_to})
        if fresh is None or fresh.version_id != kept.version_id:
            return
        proof = next((proof for step, proof in given.items() if proof and _is_dispatch(step)), "")
        if proof and fresh.referral.dispatched_at is None:
            fresh = referrals.dispatched(fresh, now, proof)
            record(tx, report, "prove-dispatch", _AUTHOR, {"version": kept.version_id, "reference": proof})
        rules = self._rules()
        known = replace(fresh.referral, is_referrer_known=kept.referral.is_referrer_known)
        terms, told = rules.terms_of(kept.trust), referrals.told(tx, kept)
        look_at = chasing.next_at(known, told, terms, rules.calendar, now)
        referrals.keep(tx, replace(fresh, referral=known), look_at)


def _is_dispatch(step: Step) -> bool:
    """Whether whoever has this notice was told that the report is there, and is the referrer (A2)."""
    return step.matter in (Matter.REPORT, Matter.ALERT) and Recipient.REFERRER in step.to
