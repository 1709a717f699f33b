"""Tasks that live beside the service: watches, probes, things that end later. One that fails ends the service.

A watch that died quietly would leave a gateway that works and warns of nothing, so `until` raises what killed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Background:
    """An owner of tasks. `async with`: leaving it cancels them all and waits for their ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._named: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Background:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` until it ends or this does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        self._changed.set()
        return task

    def replace(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run `work` in place of what runs under `name`."""
        old = self._named.get(name)
        self._named[name] = self.start(work)
        if old is not None:
            old.cancel()

    async def until(self, event: asyncio.Event) -> None:
        """Return when `event` is set; raises what a task failed of before that."""
        waiting = asyncio.create_task(event.wait())
        try:
            while not event.is_set():
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({waiting, changed, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._sweep()
        finally:
            waiting.cancel()

    def _sweep(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            if not task.cancelled():
                task.result()
