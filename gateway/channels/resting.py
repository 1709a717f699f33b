"""A channel that is left alone for a while once it does not answer, so that nobody waits for it again and again.

A portal that hangs would hold each report that is given, and with them the workers that give to all others (REL-40).
What is given meanwhile is said at once not to be there: it is tried again like everything that failed. Of a portal that
takes nothing twice far fewer reports become a person's work. Then one is let through to see whether it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from gateway.model.reporting.channels import Account, Addressee, Channel, Outcome, PatientReport, Receipt, Rendering
from policy.release.terms import LONG_AGO

FAILURES_MAX = 3
"""In a row, after which it is left alone."""
REST_S = 30.0

_ALONE = Outcome(Receipt.FAILED, "it did not answer lately, and was not asked")
_UNANSWERED = (Receipt.FAILED, Receipt.UNKNOWN)

log = structlog.get_logger(__name__)


class RestingChannel:
    """A `Channel` around another."""

    def __init__(self, channel: Channel, now: Callable[[], datetime]) -> None:
        self._channel = channel
        self._now = now
        self._failures = 0
        self._asked_at = LONG_AGO

    @property
    def name(self) -> str:
        """See `Channel`."""
        return self._channel.name

    @property
    def is_idempotent(self) -> bool:
        """See `Channel`."""
        return self._channel.is_idempotent

    @property
    def checks_proxies(self) -> bool:
        """See `Channel`."""
        return self._channel.checks_proxies

    @property
    def notifies(self) -> bool:
        """See `Channel`."""
        return self._channel.notifies

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`: one that is left alone cannot say."""
        if self._rests():
            return Account(True, True, addressee.nhs_number, addressee.family_name, addressee.birth_date)
        return await self._channel.account(addressee)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        return self._heard(await self._channel.put(report, rendering)) if self._may_be_asked() else _ALONE

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`: tried whatever was before, for it is tried once."""
        return await self._channel.notify(report)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        if not self._may_be_asked():
            return _ALONE
        return self._heard(await self._channel.withdraw(document_key, addressee, words))

    async def close(self) -> None:
        """See `Channel`."""
        await self._channel.close()

    def _rests(self) -> bool:
        since = self._now() - self._asked_at
        # A clock that was set back would have it rest for as long.
        return self._failures >= FAILURES_MAX and timedelta(0) <= since < timedelta(seconds=REST_S)

    def _may_be_asked(self) -> bool:
        if self._rests():
            return False
        if self._failures >= FAILURES_MAX:
            # This one goes, and the others wait for what comes of it.
            self._asked_at = self._now()
        return True

    def _heard(self, outcome: Outcome) -> Outcome:
        if outcome.receipt in _UNANSWERED:
            self._failures, self._asked_at = self._failures + 1, self._now()
            if self._failures == FAILURES_MAX:
                log.error("channel does not answer", alarm=True, channel=self.name, reason=outcome.words)
        elif self._failures:
            if self._failures >= FAILURES_MAX:
                log.info("channel answers again", channel=self.name)
            self._failures = 0
        return outcome
