"""Which documents of a report should stand before its patient, at which channel, and which should not. Pure.

A document is named by what it shows, so the same content is the same document at every channel, however often it is
given. What may not be seen is taken back before anything is given; what is replaced stays until its successor is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from gateway.model.reporting.channels import Outcome, Receipt
from policy.release.circumstances import TakenBackFor
from storage.release.deliveries import Delivery, DeliveryState

RETRY_FIRST = timedelta(seconds=30)
RETRY_MAX = timedelta(minutes=15)
ACCOUNT_AGAIN = timedelta(days=1)
"""A patient without an account is looked for so often, and when they sign in (REL-20, REL-41)."""


class Step(Enum):
    """What is to be done at a channel now."""

    PUT = auto()
    WAIT = auto()
    """Later: see `Delivery.next_at`."""
    NOTHING = auto()
    """It is there, or a person has to look."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The one document of a report that its patient is to see; no versions: none."""

    report_id: str
    versions: tuple[str, ...] = ()

    @property
    def document_key(self) -> str:
        """Names this content."""
        return hashlib.sha256("\n".join((self.report_id, *self.versions)).encode()).hexdigest()[:40]

    def at(self, channel: str, deliveries: Collection[Delivery]) -> Delivery | None:
        """Where it stands at a channel."""
        key = self.document_key
        return next((each for each in deliveries if each.channel == channel and each.document_key == key), None)


def to_withdraw(wish: Wanted, deliveries: Sequence[Delivery], *, is_waiting: bool) -> tuple[Delivery, ...]:
    """What the patient may see and is not to see: at once, and without waiting for what takes its place.

    `is_waiting`: its time has come and it only waits for an hour or a trace; of what was given meanwhile, and may be
    there, nothing is taken back for that alone.
    """
    allowed, key = frozenset(wish.versions), wish.document_key if wish.versions else ""
    considered = _stands if is_waiting else _may_stand
    return tuple(
        each
        for each in deliveries
        if each.state is DeliveryState.WITHDRAWING
        or (considered(each) and not allowed.issuperset(each.versions))
        or (not is_waiting and _was_tried(each) and each.document_key != key)
    )


def to_drop(wish: Wanted, deliveries: Sequence[Delivery], *, is_waiting: bool) -> tuple[Delivery, ...]:
    """What was never put and is wanted no more."""
    if is_waiting:
        return ()
    key = wish.document_key if wish.versions else ""
    return tuple(
        each for each in deliveries if each.state in _NEVER_PUT and not _was_tried(each) and each.document_key != key
    )


def _stands(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.CONFIRMED


def _may_stand(delivery: Delivery) -> bool:
    return delivery.state in _MAY_STAND or _was_tried(delivery)


def _was_tried(delivery: Delivery) -> bool:
    """Whether a channel was asked to show it and did not say for good that it will not: it may show it yet."""
    return delivery.state in _TRIED and delivery.attempts > 0


_MAY_STAND = frozenset({DeliveryState.CONFIRMED, DeliveryState.UNKNOWN})
_TRIED = frozenset({DeliveryState.PUTTING, DeliveryState.WAITING, DeliveryState.NO_ACCOUNT, DeliveryState.NOT_FOR})
_NEVER_PUT = frozenset({DeliveryState.WAITING, DeliveryState.NO_ACCOUNT, DeliveryState.NOT_FOR, DeliveryState.REFUSED})


def step(wish: Wanted, channel: str, deliveries: Sequence[Delivery], now: datetime) -> Step:
    """What is to be done at a channel for the document that is wanted."""
    if not wish.versions:
        return Step.NOTHING
    delivery = wish.at(channel, deliveries)
    if delivery is None:
        return Step.PUT
    match delivery.state:
        case DeliveryState.CONFIRMED | DeliveryState.UNKNOWN | DeliveryState.REFUSED | DeliveryState.STUCK:
            return Step.NOTHING
        case DeliveryState.WITHDRAWING:
            return Step.WAIT
        case _:
            return Step.WAIT if delivery.next_at is not None and delivery.next_at > now else Step.PUT


def state_after(outcome: Outcome, *, is_idempotent: bool, was_unknown: bool) -> DeliveryState:
    """Where a document is after a channel was given it; what may be there already stays so until that is known."""
    match outcome.receipt:
        case Receipt.CONFIRMED:
            return DeliveryState.CONFIRMED
        case Receipt.REFUSED:
            return DeliveryState.UNKNOWN if was_unknown else DeliveryState.REFUSED
        case Receipt.NO_ACCOUNT:
            return DeliveryState.NO_ACCOUNT
        case Receipt.FAILED:
            return DeliveryState.PUTTING if was_unknown else DeliveryState.WAITING
        case Receipt.UNKNOWN:
            return DeliveryState.PUTTING if is_idempotent else DeliveryState.UNKNOWN


def replaced(wish: Wanted, channel: str, deliveries: Sequence[Delivery]) -> Delivery | None:
    """What the wanted document takes the place of at a channel: the newest that can be seen there."""
    key = wish.document_key
    seen = [
        each
        for each in deliveries
        if each.channel == channel and each.state is DeliveryState.CONFIRMED and each.document_key != key
    ]
    return seen[-1] if seen else None


def next_look(wish: Wanted, channels: Collection[str], deliveries: Sequence[Delivery]) -> datetime | None:
    """When something is to be tried again; None: nothing waits for time to pass."""
    key = wish.document_key
    times = [
        each.next_at
        for each in deliveries
        if each.next_at is not None
        and (
            each.state is DeliveryState.WITHDRAWING
            or (wish.versions and each.document_key == key and each.channel in channels and each.state.is_tried_again)
        )
    ]
    return min(times, default=None)


def pause(attempts: int) -> timedelta:
    """How long a channel is left alone after so many attempts (REL-40)."""
    return min(RETRY_MAX, RETRY_FIRST * (1 << min(max(0, attempts - 1), 16)))


def neutral_words(reason: TakenBackFor | None, phone: str) -> str:
    """What stands in the place of a document that was taken back; it never says why it is held (REL-53, SAF-61)."""
    ring = f" If you have any questions, please ring {phone}." if phone else ""
    if reason is TakenBackFor.CORRECTION:
        return f"This report is being corrected. The corrected report will be shown here when it is ready.{ring}"
    return f"This report is not available.{ring}"
