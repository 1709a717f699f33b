"""Sessions of patients' browsers as they are kept for all processes of a gateway: how long, how many, and by whom.

A browser holds a random value and nobody else does. What is kept opens with that value alone, so whoever reads the
database, or a copy of it, signs in as nobody and learns of nobody who did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """How long sessions last, and how many there may be."""

    idle: timedelta = timedelta(minutes=15)
    whole: timedelta = timedelta(hours=1)
    sessions_max: int = 10_000


class SessionBook(Protocol):
    """Where they are kept. Everything raises a `ServiceFault` while that cannot be reached."""

    async def begin(self, value: str, content: bytes, terms: SessionTerms) -> bool:
        """Keep what a new session holds; False where there is no room for one more."""

    async def find(self, value: str, terms: SessionTerms) -> bytes | None:
        """What the session of this value holds, seen now; None: there is none, or it is over."""

    async def end(self, value: str) -> None:
        """End it in every process; nothing happens where there is none."""
