"""MLLP release 1 on asyncio: blocks in, answers out, one message of a connection at a time, in their order.

Knows framing, limits and time, and nothing of what stands in a message: every feed of HL7 v2 is taken at this door.
What begins as a block is answered or the connection ends; a block that is too long, or begun anew before it ended, is
refused by the speaker and ends it, for nobody can tell where the next one starts.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

START, END, RETURN = 0x0B, 0x1C, 0x0D
_BETWEEN = b"\r\n"


@dataclass(frozen=True, slots=True)
class MllpLimits:
    """How much and how long, for one connection."""

    message_bytes_max: int = 10_000_000
    message_timeout_s: float = 60.0
    """From a block's first byte to its last."""
    idle_timeout_s: float = 86_400.0
    """Without a message: senders keep a connection for days, and say nothing at night."""
    send_timeout_s: float = 30.0
    """A peer that takes no answer for as long is given up."""


@dataclass(frozen=True, slots=True)
class Shown:
    """By what the other end can be told."""

    address: str
    certificate_sha256: str = ""
    """Of its certificate (DER), hex; empty without TLS."""


class Speaker(Protocol):
    """Who answers what one peer sends. Raises nothing that a peer can cause."""

    async def answer(self, raw: bytes) -> Sequence[bytes]:
        """Take a message; what to send back, in its order."""

    async def refuse(self, raw: bytes, why: str) -> Sequence[bytes]:
        """Answer what could not be taken whole; the connection ends afterwards."""


class Receiver(Protocol):
    """Who knows the peers."""

    def admit(self, shown: Shown) -> Speaker | None:
        """Who answers this peer; None: nobody, and the connection ends."""


class Mllp:
    """The connections of one door: `connection` makes each, `stop` lets work end, `close` ends all."""

    def __init__(self, receiver: Receiver, limits: MllpLimits) -> None:
        self._receiver = receiver
        self._limits = limits
        self._open: set[_Connection] = set()

    def connection(self) -> asyncio.Protocol:
        """A new connection's protocol."""
        return _Connection(self._receiver, self._limits, self._open)

    async def stop(self) -> None:
        """Take no further message; return when those at work are answered and every connection is closed."""
        await asyncio.gather(*(each.finish() for each in list(self._open)))

    def close(self) -> None:
        """End every connection now."""
        for each in list(self._open):
            each.abort()


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, receiver: Receiver, limits: MllpLimits, peers: set[_Connection]) -> None:
        self._receiver = receiver
        self._limits = limits
        self._peers = peers
        self._transport: asyncio.Transport
        self._speaker: Speaker
        self._buffer = bytearray()
        self._is_in_block = self._is_ending = False
        self._looked_at = 0
        self._waiting: deque[bytes] = deque()
        self._refusal: tuple[bytes, str] | None = None
        self._work: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        shown = _shown(transport)
        self._address = shown.address
        speaker = self._receiver.admit(shown)
        if speaker is None:
            log.warning("feed not known", address=shown.address)
            self._is_ending = True
            transport.abort()
            return
        self._speaker = speaker
        self._peers.add(self)
        self._expect(self._limits.idle_timeout_s, "nothing came")

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.discard(self)
        self._calm()
        self._can_write.set()
        if self._is_in_block and not self._is_ending:
            log.warning("feed block cut off", address=self._address)
        self._is_ending = True

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        if self._is_ending or self._refusal is not None:
            return
        self._buffer += data
        while self._take_block():
            pass
        if self._waiting or self._refusal is not None:
            self._transport.pause_reading()
            if self._work is None:
                self._calm()
                self._work = asyncio.get_running_loop().create_task(self._answer_all())

    async def finish(self) -> None:
        """Answer what is at work, and close."""
        self._is_ending = True
        if self._work is not None:
            await asyncio.wait({self._work})
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is at work goes on and finds nobody to answer."""
        self._is_ending = True
        self._transport.abort()

    def _take_block(self) -> bool:
        """Take a whole block from what came, and whether there may be another."""
        buffer = self._buffer
        if not self._is_in_block and not self._begin_block():
            return False
        end = buffer.find(END, self._looked_at)
        again = buffer.find(START, self._looked_at, end if end >= 0 else len(buffer))
        if again >= 0:
            return self._refuse("a block began before the last one ended")
        if min(end if end >= 0 else len(buffer), len(buffer)) > self._limits.message_bytes_max:
            return self._refuse(f"a message is longer than {self._limits.message_bytes_max} bytes")
        if end < 0 or end + 1 == len(buffer):
            self._looked_at = len(buffer) if end < 0 else end
            return False
        if buffer[end + 1] != RETURN:
            return self._refuse("a block's end is not followed by a carriage return")
        self._waiting.append(bytes(buffer[:end]))
        del buffer[: end + 2]
        self._is_in_block = False
        return True

    def _begin_block(self) -> bool:
        buffer = self._buffer
        while buffer and buffer[0] in _BETWEEN:
            # Some senders close a block with a line end too many.
            del buffer[0]
        if not buffer:
            return False
        if buffer[0] != START:
            self._refuse("what came is no block")
            return False
        del buffer[0]
        self._is_in_block, self._looked_at = True, 0
        if self._work is None:
            self._expect(self._limits.message_timeout_s, "a block did not end")
        return True

    def _refuse(self, why: str) -> bool:
        self._refusal = (bytes(self._buffer[: self._limits.message_bytes_max]), why)
        self._buffer.clear()
        return False

    async def _answer_all(self) -> None:
        try:
            while self._waiting and not self._transport.is_closing():
                await self._send(await self._speaker.answer(self._waiting.popleft()))
                if self._is_ending:
                    return
            if self._refusal is not None:
                raw, why = self._refusal
                log.warning("feed block refused", address=self._address, reason=why)
                await self._send(await self._speaker.refuse(raw, why))
                self._is_ending = True
                self._transport.close()
                return
        except TimeoutError:
            log.warning("feed takes no answers", address=self._address)
            self.abort()
            return
        except Exception as error:  # noqa: BLE001  # outermost frame of a connection: it ends, and the peer sends again
            log.error("feed connection broken", address=self._address, error=type(error).__name__)
            self.abort()
            return
        finally:
            self._work = None
        if not self._transport.is_closing():
            is_late = self._is_in_block
            limits = self._limits
            self._expect(
                limits.message_timeout_s if is_late else limits.idle_timeout_s,
                "a block did not end" if is_late else "nothing came",
            )
            self._transport.resume_reading()

    async def _send(self, answers: Sequence[bytes]) -> None:
        for answer in answers:
            if self._transport.is_closing():
                log.warning("feed gone before its answer", address=self._address)
                return
            self._transport.write(bytes([START]) + answer + bytes([END, RETURN]))
            async with asyncio.timeout(self._limits.send_timeout_s):
                await self._can_write.wait()

    def _expect(self, within_s: float, otherwise: str) -> None:
        self._calm()
        self._timer = asyncio.get_running_loop().call_later(within_s, self._late, otherwise)

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self, what: str) -> None:
        log.info("feed connection ended", address=self._address, reason=what)
        self.abort()


def _shown(transport: asyncio.Transport) -> Shown:
    peer = transport.get_extra_info("peername")
    secure = transport.get_extra_info("ssl_object")
    # Empty unless the certificate was verified, in which case the fingerprint alone is no evidence either.
    is_verified = isinstance(secure, ssl.SSLObject) and bool(secure.getpeercert())
    certificate = secure.getpeercert(binary_form=True) if is_verified else None
    return Shown(
        str(peer[0]) if isinstance(peer, tuple) else "",
        hashlib.sha256(certificate).hexdigest() if certificate else "",
    )
