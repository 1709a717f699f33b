"""Dead letters in a person's hands: shown, read anew, or dismissed; each with a name, a reason and an audit record.

A letter is read anew by whatever reads its feed now, so that a mended profile or a newer version of this program
files what it could not file before. What was read stands where the message would have stood, in time too: versions
are ordered by what they say (REL-31).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.reporting.seams import FeedMessage, MessageState, Taken
from gateway.model.work.transfers import StudyKeys
from gateway.release.clinicians import arriving
from gateway.release.contents import Contents
from gateway.release.intake import Intake, Replay
from policy.parties import TrustId
from storage.database import Tx
from storage.registers.state import Author
from storage.release import messages
from storage.release.messages import KeptMessage
from storage.store import SqlStore

Reader = Callable[[TrustId, str, bytes, datetime], FeedMessage]
"""Reads a message of a trust's feed: the trust, the feed's name, the bytes, and when they came."""


class Letters:
    """The dead letters of one store."""

    def __init__(self, store: SqlStore, keys: StudyKeys, intake: Intake, read_anew: Reader) -> None:
        self._store = store
        self._contents = Contents(store, keys)
        self._intake = intake
        self._read_anew = read_anew

    async def waiting(self) -> Sequence[KeptMessage]:
        """Those that wait for a person, the oldest first."""
        return await self._store.read(messages.dead_letters)

    async def show(self, row_id: str, author: Author) -> bytes:
        """What stood in a message, once it is recorded who looks and why.

        Raises `InvalidRequest`, or a `ServiceFault`: nothing is shown that could not be recorded.
        """
        _check(author)
        kept = await self._store.read(lambda read: messages.get(read, row_id))
        raw = await self._contents.letter(row_id)
        told = {"act": "show-message", "by": author.subject, "message": row_id, "reason": author.reason}
        entry = AuditEntry(AuditEvent.AUDIT_READ, self._store.clock.now(), author.request_id, told | _of(kept))
        await self._store.append_audit(entry)
        # A stored object is no text: its letter begins with a line that names it.
        return raw.partition(b"\n")[0] if kept.feed == arriving.FEED else raw

    async def replay(self, row_id: str, author: Author) -> Taken:
        """Read it anew and file what it says. A stored object is still dead: whoever keeps images will read it.

        Raises `InvalidRequest` where it is no dead letter, or cannot be read or filed yet: then it stays one.
        """
        _check(author)
        kept = await self._store.read(lambda read: messages.get(read, row_id))
        raw = await self._contents.letter(row_id)
        if kept.feed == arriving.FEED:
            await self._store.write(lambda tx: arriving.queue_replay(tx, kept, author))
            return Taken(MessageState.DEAD, False)
        # It may have come by a clock that ran ahead: a verification that lies ahead of now is believed by nobody.
        received_at = min(kept.received_at, self._store.clock.now())
        message = self._read_anew(kept.trust, kept.feed, raw, received_at)
        return await self._intake.take(message, Replay(row_id, author.subject, author.reason))

    async def dismiss(self, row_id: str, author: Author) -> None:
        """Say that nothing is to come of it; raises `InvalidRequest`."""
        _check(author)
        await self._store.write(lambda tx: _dismissed(tx, row_id, author))


def _check(author: Author) -> None:
    if not author.subject.strip() or not author.reason.strip():
        raise InvalidRequest("a name and a reason are needed")


def _dismissed(tx: Tx, row_id: str, author: Author) -> None:
    dead = messages.hold_dead(tx, row_id)
    messages.settle(tx, dead, MessageState.DISMISSED, by=author.subject, reason=author.reason, report_ids=())
    told = {"act": "dismiss-message", "by": author.subject, "message": row_id, "reason": author.reason}
    tx.chain.append(AuditEntry(AuditEvent.REPORT_REFUSED, tx.now, author.request_id, told | _of(dead)))


def _of(kept: KeptMessage) -> dict[str, str]:
    return {"feed": kept.feed, "kind": kept.kind, "trust": kept.trust.code}
