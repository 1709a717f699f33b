"""A portal that takes ORU messages over MLLP with TLS: a `Channel` that is not idempotent unless its portal says so.

A connection carries one message at a time and is closed after it. What was sent and not acknowledged is unknown, never
sent again by itself (SAF-67). An `AA` says that the portal has it, not that it shows it: the profile of the portal says
how it deletes, and its operator samples (K11).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.channels.hl7_messages import Deletion, Names, deletion_message, report_message
from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Receipt, Rendering
from gateway.model.reporting.hl7 import END, NotHl7, frame, read_ack, unframe

ACK_BYTES_MAX = 64 * 1024
CLOSE_TIMEOUT_S = 2.0

_REPLACED = "A newer version of this document has taken its place."


@dataclass(frozen=True, slots=True)
class Hl7Portal:
    """A portal, and how it is spoken to."""

    name: str
    host: str
    port: int
    names: Names
    timeout_s: float
    tls: ssl.SSLContext | None = None
    """None: plain, on loopback."""
    deletion: Deletion = Deletion.OBR_25_R
    is_idempotent: bool = False
    """Whether a second message of the same OBR-3 takes the place of the first there."""
    checks_proxies: bool = False


class Hl7Channel:
    """A `Channel`."""

    def __init__(self, portal: Hl7Portal, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._portal = portal
        self._now = now
        self._new_id = new_id

    @property
    def name(self) -> str:
        """See `Channel`."""
        return self._portal.name

    @property
    def is_idempotent(self) -> bool:
        """See `Channel`."""
        return self._portal.is_idempotent

    @property
    def checks_proxies(self) -> bool:
        """See `Channel`."""
        return self._portal.checks_proxies

    @property
    def notifies(self) -> bool:
        """See `Channel`: the portal tells its patients itself."""
        return False

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`: the portal keeps what is of nobody, or refuses it."""
        return Account(True, True, addressee.nhs_number, addressee.family_name, addressee.birth_date)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`: what it replaces goes first, so that never both are shown."""
        if report.replaces:
            gone = await self.withdraw(report.replaces, report.addressee, _REPLACED)
            if gone.receipt is not Receipt.CONFIRMED:
                return gone
        message_id = self._message_id()
        message = report_message(self._portal.names, message_id, self._now(), report, rendering)
        return await self._send(message, message_id)

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`: there is nothing to do."""
        return Outcome(Receipt.CONFIRMED)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        message_id = self._message_id()
        portal = self._portal
        message = deletion_message(
            portal.names, message_id, self._now(), document_key, addressee, words, portal.deletion
        )
        return await self._send(message, message_id)

    async def close(self) -> None:
        """See `Channel`: nothing stays open."""

    def _message_id(self) -> str:
        # MSH-10 has 20 characters.
        return self._new_id().replace("-", "")[:20]

    async def _send(self, message: bytes, message_id: str) -> Outcome:
        portal = self._portal
        try:
            async with asyncio.timeout(portal.timeout_s):
                reader, writer = await asyncio.open_connection(
                    portal.host, portal.port, ssl=portal.tls, limit=ACK_BYTES_MAX
                )
        except (OSError, TimeoutError) as error:
            return Outcome(Receipt.FAILED, f"no connection: {type(error).__name__}")
        try:
            async with asyncio.timeout(portal.timeout_s):
                writer.write(frame(message))
                await writer.drain()
                answer = await reader.readuntil(END)
        except NotHl7 as error:
            return Outcome(Receipt.REFUSED, str(error))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            return Outcome(Receipt.UNKNOWN, f"no acknowledgement: {type(error).__name__}")
        finally:
            await _closed(writer)
        return _outcome(answer, message_id)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def _outcome(answer: bytes, message_id: str) -> Outcome:
    try:
        acknowledged = read_ack(unframe(answer))
    except NotHl7 as error:
        return Outcome(Receipt.UNKNOWN, str(error))
    if acknowledged.message_id != message_id:
        return Outcome(Receipt.UNKNOWN, "the acknowledgement is of another message")
    if acknowledged.code in {"AA", "CA"}:
        return Outcome(Receipt.CONFIRMED, reference=message_id)
    return Outcome(Receipt.REFUSED, f"acknowledged with {acknowledged.code}")
