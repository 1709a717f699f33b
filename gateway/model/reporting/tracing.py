"""Who a patient is on the day of a release, as a service of demographics says: the seam that SAF-66 needs.

What it says lives no longer than the release that asked for it, but for the addressee, which is kept sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from gateway.model.seams import TraceState
from policy.parties import NhsNumber
from policy.release.circumstances import Death


@dataclass(frozen=True, slots=True)
class TracedPerson:
    """The person behind an NHS number, or why nobody can say."""

    state: TraceState
    number: NhsNumber | None = None
    """The surviving one."""
    number_status: str = ""
    """How far the service has it verified (domain.md C1); empty: it does not say."""
    family_name: str = ""
    given_name: str = ""
    surnames: frozenset[str] = frozenset()
    """As written: the present one, and those that the person had before."""
    birth_date: date | None = None
    death: Death = Death.NO


class PersonLookup(Protocol):
    """A service that knows people by their NHS number. Never raises: see `TraceState`."""

    async def person(self, number: NhsNumber, request_id: str) -> TracedPerson:
        """Ask anew: nothing is remembered from an earlier answer."""

    async def close(self) -> None:
        """Give up pooled connections; idempotent."""
