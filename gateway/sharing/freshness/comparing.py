"""Compare what is kept of a study with what its holders list: what they withdrew, what they have besides (SAF-37).

A holder's list counts only where it is whole, and only for what came here before it was made. A copy that nobody else
is known to have is never withdrawn by a list that lacks it (SAF-21). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.model.work.transfers import CachedInstance
from policy.parties import TrustId

Listed = Mapping[TrustId, Collection[str]]
"""By trust that answered with its whole list of a study: the SOP instance UIDs in it."""


class Withdraw(Protocol):
    """Gives up what is kept of instances, and has those told who received them; raises nothing."""

    async def __call__(self, gone: Sequence[CachedInstance], *, is_rejected: bool = False) -> None:
        """Their archive lists them no more, or has rejected them."""


def withdrawn(kept: Sequence[CachedInstance], listed: Listed, heard_at: datetime) -> list[CachedInstance]:
    """Of what is kept the instances that the archive which they came from lists no more.

    What came later than the list was made, from whichever request, is not judged by it.
    """
    return [
        each
        for each in kept
        if not each.is_sole_copy
        and each.source in listed
        and each.received_at < heard_at
        and each.ref.sop_uid not in listed[each.source]
    ]


def grown(kept: Sequence[CachedInstance], listed: Listed) -> frozenset[str]:
    """What holders of a kept study list besides: whoever retrieves it next has these fetched, and no others."""
    have = {each.ref.sop_uid for each in kept}
    return frozenset(uid for uids in listed.values() for uid in uids if uid not in have)
