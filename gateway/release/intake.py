"""Take reports in: whatever a feed brought becomes one durable transaction, or is kept for a person (SAF-41, REL-30).

Patient's row, patient's key and sealing come first; then message, versions, links, audit and the new plan are written
together, so that a fall at any moment leaves all of it or nothing and the sender sends again. What cannot be read or
filed is a dead letter, sealed like the rest. Two people are never made one here: a report leads to the row of its NHS
number, else to that of its hospital's own number, and no number is given to a row that did not have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest, KeyClosed, OverCapacity
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from gateway.model.reporting.incoming import IncomingReport
from gateway.model.reporting.seams import FeedMessage, MessageState, Taken
from gateway.model.work.transfers import StudyKeys
from gateway.release.contents import Key, key_of, letter_name, naming_secret, owner_of_feed, seal_version
from gateway.release.filing.numbers import numbers_of
from gateway.release.filing.placing import Statement, doubt, placings
from gateway.release.naming import message_digest, report_id_of, version_of
from gateway.release.owners import Owner, owner_made, owner_of
from policy.parties import TrustId
from policy.release.withholding import VERSIONS_USUAL_MAX
from storage.database import Tx
from storage.registers.state import Author
from storage.release import content, links, messages, reports
from storage.release.messages import KeptMessage, NewMessage
from storage.release.reports import NewVersion, Put
from storage.release.upkeep import receipts
from storage.store import SqlStore

log = structlog.get_logger(__name__)

DEAD_LETTERS_MAX = 10_000
"""Of one trust, waiting for a person; from then on its senders keep what cannot be read."""
HEARD_EVERY = timedelta(seconds=30)
"""A feed's sign of life is written down no more often than this."""
FEEDS_MAX = 10_000
"""Feeds whose last sign of life is remembered."""

SHA256_CHARS = 64
"""Of a digest in hex."""
SEALED_HERE_BYTES_MAX = 262_144
"""What is larger is sealed beside the loop."""

T = TypeVar("T")
Replan = Callable[[Tx, str], None]
"""Plans a report anew in the transaction that changed it."""


class Elsewhere(Protocol):
    """Runs a function in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What `work` returns or raises."""


class ReceiptTime(Protocol):
    """By what is judged when something came: `gateway.release.giving.trusted`."""

    def now(self) -> datetime:
        """Time that no jump of the clock takes ahead."""

    def sure_instant(self) -> datetime:
        """That, or an earlier instant while it is in doubt."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A dead letter that a person has read anew."""

    row_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A message ready to be written."""

    message: FeedMessage
    row_id: str
    digest: str
    raw_digest: str
    """What its bytes alone would be called."""
    said: tuple[Statement, ...]
    key_id: bytes
    payload: bytes


class _NameReused(Exception):
    """A message came under the name of another one."""


class Intake:
    """Takes messages in (`gateway.model.reporting.seams.ReportIntake`)."""

    def __init__(
        self,
        store: SqlStore,
        keys: StudyKeys,
        replan: Replan,
        *,
        random: Callable[[int], bytes],
        new_id: Callable[[], str],
        elsewhere: Elsewhere,
        time: ReceiptTime | None = None,
    ) -> None:
        """`elsewhere` runs in a thread what would hold up the loop; by `time` is judged when something came.

        None: messages are believed when they came, as where a person has an old one read anew.
        """
        self._store = store
        self._keys = keys
        self._replan = replan
        self._random = random
        self._new_id = new_id
        self._elsewhere = elsewhere
        self._time = time
        self._heard: dict[tuple[TrustId, str], datetime] = {}

    async def take(self, message: FeedMessage, replay: Replay | None = None) -> Taken:
        """Keep the message and its reports; durable when it returns. The same message again changes nothing.

        `replay` names the dead letter that it was. Raises a `ServiceFault` where nothing can be kept now: the sender
        is to send it again; for a replay alone `InvalidRequest` or `KeyClosed`, and the dead letter stays as it is.
        """
        message, is_doubted = self._as_received(await self._as_named(message))
        if message.problem:
            if replay is not None:
                raise InvalidRequest(message.problem)
            return await self._bury(message, message.problem)
        try:
            sealed = await self._sealed(message, await self._owners(message))
            heard_at = message.received_at if is_doubted else None
            taken = await self._store.write(partial(self._file, sealed=sealed, replay=replay, heard_at=heard_at))
        except _NameReused as reused:
            if replay is not None:
                raise InvalidRequest(str(reused)) from reused
            return await self._bury(message, str(reused), is_reused=True)
        except (InvalidRequest, KeyClosed) as refused:
            if replay is not None:
                raise
            return await self._bury(message, str(refused))
        await self.heard_from(message.trust, message.feed, message.received_at)
        return taken

    async def doubt(self, report_id: str, trust: TrustId, reason: str) -> None:
        """Have a person say whose a report is before it goes out; what is out is taken back."""

        def held(tx: Tx) -> None:
            if doubt(tx, report_id, trust, reason):
                self._replan(tx, report_id)

        await self._store.write(held)

    async def heard_from(self, trust: TrustId, feed: str, at: datetime) -> None:
        """See `gateway.model.reporting.seams.ReportIntake`."""
        at = at if self._time is None else min(at, self._time.now())
        known = self._heard.get((trust, feed))
        if known is not None and abs(at - known) < HEARD_EVERY:
            return
        await self._store.write(lambda tx: messages.hear(tx, trust, feed, at))
        if len(self._heard) >= FEEDS_MAX:
            self._heard.clear()
        self._heard[trust, feed] = at

    async def _as_named(self, message: FeedMessage) -> FeedMessage:
        """The message; one that its feed could name by its bytes alone is named by the trust's secret as well."""
        if len(message.message_id) != SHA256_CHARS:
            return message
        secret = naming_secret(await key_of(self._keys, owner_of_feed(message.trust)))
        work = partial(_named, message, secret)
        return await self._elsewhere(work) if len(message.raw) > SEALED_HERE_BYTES_MAX else work()

    def _as_received(self, message: FeedMessage) -> tuple[FeedMessage, bool]:
        """The message as received at an instant that has come (SAF-31), and whether that is in doubt.

        While it is, its reports count as received at an earlier one, so that no verification is believed that may lie
        ahead; when they came is judged again.
        """
        if self._time is None:
            return message, False
        received_at, sure = min(message.received_at, self._time.now()), self._time.sure_instant()
        counted = tuple(replace(each, received_at=min(each.received_at, received_at, sure)) for each in message.reports)
        return replace(message, received_at=received_at, reports=counted), sure < received_at

    async def _owners(self, message: FeedMessage) -> Sequence[Owner]:
        """Whose each report is; a row is made where there is none."""
        subjects = [report.subject for report in message.reports]
        found = await self._store.read(lambda read: [owner_of(read, subject) for subject in subjects])
        owners = [owner for owner in found if owner is not None]
        if len(owners) == len(found):
            return owners
        author = Author(f"feed {message.feed}", "", "a report came")
        return await self._store.write(lambda tx: [owner_made(tx, subject, author) for subject in subjects])

    async def _sealed(self, message: FeedMessage, owners: Sequence[Owner]) -> _Sealed:
        if any(report.trust != message.trust for report in message.reports):
            raise InvalidRequest("a report of another trust than its feed's")
        feed = owner_of_feed(message.trust)
        names = [owner.patient_id or feed for owner in owners]
        # A message of one patient goes with that patient's keys; any other belongs to its feed.
        common = names[0] if len(set(names)) == 1 else feed
        keys = {name: await key_of(self._keys, name) for name in dict.fromkeys((*names, common, feed))}
        secret = naming_secret(keys[feed])
        work = partial(self._seal, message, owners, [keys[name] for name in names], keys[common], secret)
        held_bytes = len(message.raw) + sum(len(report.content.pdf) for report in message.reports)
        return await self._elsewhere(work) if held_bytes > SEALED_HERE_BYTES_MAX else work()

    def _seal(
        self, message: FeedMessage, owners: Sequence[Owner], keys: Sequence[Key], common: Key, secret: bytes
    ) -> _Sealed:
        said = [
            Statement(self._version(report, owner, key, secret), report, key)
            for report, owner, key in zip(message.reports, owners, keys, strict=True)
        ]
        row_id = self._new_id()
        raw_digest = message_digest((), message.raw, secret)
        digest = message_digest((each.version.version.version_id for each in said), message.raw, secret)
        payload = content.seal(letter_name(row_id), message.raw, *common, self._random)
        # In one order, so that two processes that change the same reports wait for each other.
        ordered = sorted(said, key=lambda each: (each.version.report_id, each.version.version.version_id))
        return _Sealed(message, row_id, digest, raw_digest, tuple(ordered), common[0], payload)

    def _version(self, report: IncomingReport, owner: Owner, key: Key, secret: bytes) -> NewVersion:
        version = version_of(report, owner.patient, secret)
        return NewVersion(
            report_id=report_id_of(report.trust, report.report_number),
            trust=report.trust,
            report_number=report.report_number,
            patient_id=owner.patient_id,
            version=version,
            birth_date=report.subject.birth_date,
            exam_codes=report.exam.codes,
            study_uids=report.study_uids,
            accessions=report.accessions,
            feed=report.feed,
            source=report.source.value,
            message_id=report.message_id,
            key_id=key[0],
            sealed=seal_version(version.version_id, report, key, self._random),
            called=numbers_of(report).called,
        )

    def _file(self, tx: Tx, sealed: _Sealed, replay: Replay | None, heard_at: datetime | None) -> Taken:
        """Everything that follows from a message, in one transaction."""
        message = sealed.message
        dead = None if replay is None else messages.hold_dead(tx, replay.row_id)
        if dead is None:
            known = messages.find(tx, message.trust, message.feed, message.message_id)
            if known is not None and not _is_readable_now(known, sealed):
                return _again(known, sealed)
            dead = known
        called = [each.numbers for each in sealed.said]
        links.alone(tx, message.trust, (number for each in called for number in each.all))
        placed: list[str] = []
        row_id = sealed.row_id if dead is None else dead.row_id
        for said in sealed.said:
            for each in placings(tx, said, sealed.said, self._random):
                placed.append(each.version.report_id)
                kept = reports.put(tx, each.version)
                if kept.is_new:
                    _count(kept, message)
                    tx.chain.append(_filed(tx, row_id, each.version))
                    if heard_at is not None and each.version.version.received_at == said.version.version.received_at:
                        receipts.doubt(tx, each.version.report_id, each.version.version.version_id, heard_at)
                    if each.is_doubted:
                        doubt(tx, each.version.report_id, each.version.trust)
                    faultpoint("intake.replan.before")
                    self._replan(tx, each.version.report_id)
        report_ids = tuple(dict.fromkeys(placed))
        if dead is None:
            state = MessageState.FILED if sealed.said else MessageState.IGNORED
            messages.add(tx, _kept(sealed, state, report_ids))
            return Taken(state, True, report_ids)
        by, reason = ("", "") if replay is None else (replay.by, replay.reason)
        messages.settle(tx, dead, MessageState.REPLAYED, by=by, reason=reason, report_ids=report_ids)
        return Taken(MessageState.REPLAYED, True, report_ids)

    async def _bury(self, message: FeedMessage, problem: str, *, is_reused: bool = False) -> Taken:
        """Keep it for a person."""
        key = await key_of(self._keys, owner_of_feed(message.trust))
        digest = message_digest((), message.raw, naming_secret(key))
        row_id = self._new_id()
        work = partial(content.seal, letter_name(row_id), message.raw, *key, self._random)
        payload = await self._elsewhere(work) if len(message.raw) > SEALED_HERE_BYTES_MAX else work()
        letter = NewMessage(
            row_id=row_id,
            trust=message.trust,
            feed=message.feed,
            message_id=message.message_id or f"#{digest[:16]}",
            digest=digest,
            kind=message.kind,
            state=MessageState.DEAD,
            received_at=message.received_at,
            problem=problem,
            key_id=key[0],
            sealed=payload,
        )
        taken = await self._store.write(lambda tx: _buried(tx, letter))
        if taken.is_new:
            told = {"trust": message.trust.code, "feed": message.feed, "kind": message.kind, "problem": problem}
            if is_reused:
                log.error("message name used again", alarm=True, **told)
            else:
                log.warning("message kept for a person", **told)
        await self.heard_from(message.trust, message.feed, message.received_at)
        return taken


def _named(message: FeedMessage, secret: bytes) -> FeedMessage:
    name = message.message_id
    if name != hashlib.sha256(message.raw).hexdigest():
        return message
    keyed = message_digest((), message.raw, secret)
    told = (replace(each, message_id=keyed) if each.message_id == name else each for each in message.reports)
    return replace(message, message_id=keyed, reports=tuple(told))


def _count(kept: Put, message: FeedMessage) -> None:
    """Say so of a report that will soon be kept back for its many versions, and again as they grow."""
    if kept.count == VERSIONS_USUAL_MAX // 2 or kept.count % VERSIONS_USUAL_MAX == 0:
        told = {"report": kept.report_id, "trust": message.trust.code, "feed": message.feed}
        log.error("report has many versions", alarm=True, versions=kept.count, **told)


def _is_readable_now(known: KeptMessage, sealed: _Sealed) -> bool:
    """Whether it is a dead letter that came again byte for byte, and can be read by now."""
    return known.state is MessageState.DEAD and known.digest == sealed.raw_digest


def _again(known: KeptMessage, sealed: _Sealed) -> Taken:
    """The message that is there; raises `_NameReused` where this is another one."""
    if known.digest not in (sealed.digest, sealed.raw_digest):
        raise _NameReused("its sender has used its name before, for another message")
    return Taken(known.state, False, known.report_ids)


def _buried(tx: Tx, letter: NewMessage) -> Taken:
    for name in (letter.message_id, f"{letter.message_id}#{letter.digest[:16]}"):
        known = messages.find(tx, letter.trust, letter.feed, name)
        if known is not None and known.digest == letter.digest:
            return Taken(known.state, False, known.report_ids)
        if known is None:
            break
    else:
        raise OverCapacity("the message is named like two others")
    if messages.dead_count(tx, letter.trust) >= DEAD_LETTERS_MAX:
        raise OverCapacity("too many messages of this trust wait for a person")
    messages.add(tx, replace(letter, message_id=name))
    told: dict[str, JsonValue] = {
        "by": f"feed {letter.feed}",
        "kind": letter.kind,
        "message": letter.row_id,
        "reason": letter.problem,
        "trust": letter.trust.code,
    }
    tx.chain.append(AuditEntry(AuditEvent.REPORT_REFUSED, tx.now, letter.row_id, told))
    return Taken(MessageState.DEAD, True)


def _filed(tx: Tx, row_id: str, new: NewVersion) -> AuditEntry:
    told: dict[str, JsonValue] = {
        "by": f"feed {new.feed}",
        "message": row_id,
        "patient": new.patient_id,
        "report": new.report_id,
        "said": new.version.said.value,
        "trust": new.trust.code,
        "version": new.version.version_id,
    }
    return AuditEntry(AuditEvent.REPORT_FILED, tx.now, row_id, told)


def _kept(sealed: _Sealed, state: MessageState, report_ids: tuple[str, ...]) -> NewMessage:
    message = sealed.message
    return NewMessage(
        row_id=sealed.row_id,
        trust=message.trust,
        feed=message.feed,
        message_id=message.message_id,
        digest=sealed.digest,
        kind=message.kind,
        state=state,
        received_at=message.received_at,
        report_ids=report_ids,
        key_id=sealed.key_id,
        sealed=sealed.payload,
    )
