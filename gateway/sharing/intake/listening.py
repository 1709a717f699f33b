"""What a store door tells of the instances that come: to some they are more than images (SAF-20).

Knows nothing of what is made of them.
"""

from __future__ import annotations

from typing import Protocol

from gateway.model.work.transfers import InstanceRef
from policy.parties import TrustId


class Listening(Protocol):
    """Hears of what trusts send; raises a `ServiceFault`, and then it is not taken."""

    async def coming(self, ref: InstanceRef, trust: TrustId) -> None:
        """All of an instance is there, and it is about to be kept."""

    def bytes_wanted(self, ref: InstanceRef) -> int:
        """How much of an instance is wanted that no image cache may keep; 0: nothing."""

    async def unkept(self, ref: InstanceRef, trust: TrustId, transfer_syntax: str, body: bytes) -> None:
        """All of such an instance is there."""
