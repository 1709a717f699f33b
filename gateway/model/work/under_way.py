"""How much of something is under way at this moment, for whoever has to wait until none of it is. Knows no time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class UnderWay:
    """A count of what has begun and not ended."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold while one is under way."""
        self.count += 1
        self._none.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._none.set()

    async def until_none(self) -> None:
        """Return when none is left."""
        await self._none.wait()
