"""A data set on its way in, passed on piece by piece while it arrives (PS3.8 9.3.5).

The association tells of a C-STORE as soon as its command is there, and hands over this. Until somebody takes it, little
of it is kept; from then on each fragment goes to its taker as a view of the receive buffer. A taker that falls behind
holds the peer back. Knows no PDU and no service; runs on the loop of its association, which feeds it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.model.errors import GatewayError

HELD_BYTES_MAX = 32 * 1024
"""Of a data set that nobody takes yet; beyond it the peer is not read, but for what is in the receive buffer."""
DRAIN_BYTES = 1024 * 1024
"""So much may be added before the taker is asked whether it keeps up."""


class Takes(Protocol):
    """Who takes a data set: a `Taking`, as far as this concerns."""

    def add(self, piece: bytes | memoryview) -> None:
        """The next bytes; taken over at once. Raises `GatewayError` if they are not what was expected."""

    async def drain(self) -> None:
        """Return once little enough waits; raises `GatewayError`."""


class Broken(Exception):
    """The rest of a data set will not come: its association has ended."""


class Inflow:
    """One data set on its way in. Its association writes, one taker reads; a `Sink`."""

    def __init__(self, hold: Callable[[bool], None], read_much: Callable[[bool], None]) -> None:
        self._hold = hold
        self._read_much = read_much
        self._is_holding = False
        self._early: deque[bytes] = deque()
        self._early_bytes = 0
        self._taker: Takes | None = None
        self._since_drain = 0
        self._failure: GatewayError | None = None
        self._is_dropped = False
        self._is_broken = False
        self._waiter: asyncio.Future[None] | None = None
        self.is_whole = False
        """Whether the last byte has come."""

    async def into(self, taker: Takes) -> None:
        """Pass everything on; returns once the last byte is added. Raises `Broken`, and what the taker raises: then the
        rest is still to be dropped.
        """
        try:
            while self._early:
                taker.add(self._early.popleft())
            self._since_drain, self._taker = self._early_bytes, taker
            if not self.is_whole:
                self._read_much(True)
            while True:
                if self._failure is not None:
                    raise self._failure
                if self._since_drain >= DRAIN_BYTES:
                    # From here on pieces count anew: those that come while it drains have to wait for the next time.
                    self._since_drain = 0
                    await taker.drain()
                    continue
                self._set_hold(False)
                if self.is_whole:
                    return
                await self._change()
        finally:
            self._let_go()

    async def dropped(self) -> None:
        """Let go of what is still to come; returns once the last byte has come. Raises `Broken`."""
        self._let_go()
        if not self.is_whole:
            self._read_much(True)
        while not self.is_whole:
            await self._change()

    # What its association tells.

    def write(self, piece: memoryview) -> None:
        """See `Sink`."""
        taker = self._taker
        if taker is not None:
            try:
                taker.add(piece)
            except GatewayError as error:
                self._fail(error)
                return
            self._since_drain += len(piece)
            if self._since_drain >= DRAIN_BYTES:
                self._set_hold(True)
                self._wake()
        elif not self._is_dropped:
            self._early.append(bytes(piece))
            self._early_bytes += len(piece)
            if self._early_bytes >= HELD_BYTES_MAX:
                self._set_hold(True)

    def finish(self) -> object:
        """See `Sink`. What comes behind it is another message: holding it back is nobody's wish any more."""
        self.is_whole = True
        self._read_much(False)
        self._set_hold(False)
        self._wake()
        return None

    def abandon(self) -> None:
        """See `Sink`."""
        self._is_broken = True
        self._wake()

    def _fail(self, error: GatewayError) -> None:
        self._failure, self._taker, self._is_dropped = error, None, True
        self._wake()

    def _let_go(self) -> None:
        self._taker, self._is_dropped = None, True
        self._early.clear()
        self._set_hold(False)

    def _set_hold(self, is_held: bool) -> None:
        if is_held is not self._is_holding:
            self._is_holding = is_held
            self._hold(is_held)

    async def _change(self) -> None:
        if self._is_broken:
            raise Broken("the association ended in mid-message")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
