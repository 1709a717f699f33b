"""A cache of images with no report in it, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import cast

from gateway.model.work.transfers import CachedInstance, StudyCache


class _Nothing:
    async def instances(self, _: str) -> tuple[CachedInstance, ...]:
        """See `StudyCache`."""
        return ()


NO_COPIES = cast(StudyCache, _Nothing())  # nothing else of it is asked for where nothing is kept


def at(instant: datetime) -> Callable[[], Awaitable[datetime]]:
    """A clock that stands still."""

    async def now() -> datetime:
        return instant

    return now
