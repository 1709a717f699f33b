"""Whether one channel may have a report of one patient now: account, age, pause (REL-20, REL-55, SAF-65, SAF-66).

Asked at each giving, with the traced date of birth and the account as the channel has it at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.model.reporting.channels import Account, Addressee, Channel
from gateway.release.giving.tracing import same_person
from gateway.release.planner import LETTER_CHANNEL, Situation
from policy.release.clock import PLAIN_CALENDAR, age_on
from storage.release.deliveries import DeliveryState

ADULT_AGE = 16


@dataclass(frozen=True, slots=True)
class Barred:
    """Why a channel is not given a report now, and what is written down of it."""

    state: DeliveryState
    words: str
    again_at: datetime | None = None
    """When to ask again; None: after the usual time."""
    is_other_person: bool = False
    """The account is somebody else's: the report is held until a person has looked (SAF-66)."""


def barred(situation: Situation, channel: Channel, account: Account, addressee: Addressee) -> Barred | None:
    """Why not; None: it may have it."""
    age = age_on(addressee.birth_date, situation.now, PLAIN_CALENDAR)
    if age < ADULT_AGE and channel.name == LETTER_CHANNEL:
        return Barred(DeliveryState.NOT_FOR, "SAF-65: no letter under 16")
    if age < ADULT_AGE and not channel.checks_proxies:
        return Barred(DeliveryState.NOT_FOR, "SAF-65: the channel cannot check proxies, and the patient is under 16")
    if not account.is_there:
        due_at, known = situation.plan.due_at, situation.report.due_at
        since = due_at or known
        limit = timedelta(days=situation.terms.back_population_days)
        if since is not None and situation.now - since > limit:
            return Barred(DeliveryState.NOT_FOR, "REL-41: due for longer than back-population goes back")
        return Barred(DeliveryState.NO_ACCOUNT, "REL-20: no account")
    if not account.is_proven:
        return Barred(DeliveryState.NO_ACCOUNT, "SAF-66: the account's identity is not proved to P9")
    if account.is_paused:
        return Barred(DeliveryState.NOT_FOR, "REL-55: access is paused")
    if account.nhs_number is not None and account.nhs_number != addressee.nhs_number:
        return Barred(DeliveryState.NOT_FOR, "SAF-66: the account has another NHS number", is_other_person=True)
    if account.birth_date is not None and not same_person(account.family_name, account.birth_date, addressee):
        return Barred(DeliveryState.NOT_FOR, "SAF-66: the account's name or date of birth differ", is_other_person=True)
    return None
