"""Give a trust's sole copies back to its own archive, and ask that to commit itself to them: a durable job (SAF-21).

One job for each study and custodian. It sends what the archive was not asked for yet, writes down what it is about to
ask, and asks; whatever the archive answers then or later is heard by `gateway.custody.desk`. It may run twice: an
archive that gets an instance again has it, and one that answers twice is heard twice. An image goes back as it came,
also under an opt-out, for a trust's own images are its own (SAF-12). Nothing here makes a copy less than a sole one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from dimse.scu.commitment import NotAsked, ask
from dimse.scu.send import NotSent, Sender, Sent
from gateway.custody.archives import Addresses, Archive
from gateway.jobs.runner import JobFailed, Work
from gateway.keeping.cache import KeptCache
from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from gateway.model.settings import Limits
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest, Custody, Reference
from gateway.model.work.jobs import FailureKind, Progress
from gateway.model.work.transfers import CachedInstance, InstanceRef
from policy.parties import TrustId
from storage.cache.sole import SoleCopies
from storage.database import Tx
from storage.registers.state import Author, record_change
from storage.store import SqlStore
from storage.work import commitments

log = structlog.get_logger(__name__)

RETURN = "custody-return"
REGISTER = "custody"
INSTANCES_AT_ONCE_MAX = 10_000
"""Instances that go back in one job, and are asked for in one request; more go in the next."""

Heard = Callable[[TrustId, CommitmentReport], Awaitable[None]]
"""Writes down what a trust's archive reports; raises `InvalidRequest` for what it was not asked."""


@dataclass(frozen=True, slots=True)
class ReturnTerms:
    """How sole copies go back."""

    node: str
    answer_timeout: timedelta
    limits: Limits


class Returning:
    """The handler of these jobs."""

    def __init__(
        self,
        terms: ReturnTerms,
        store: SqlStore,
        cache: KeptCache,
        addresses: Callable[[], Addresses],
        heard: Heard,
        *,
        new_uid: Callable[[], str],
    ) -> None:
        self._terms = terms
        self._store = store
        self._cache = cache
        self._addresses = addresses
        self._heard = heard
        self._new_uid = new_uid

    async def __call__(self, work: Work) -> None:
        """See `Handler`."""
        study_uid, custodian = _named(work.job.detail)
        archive = self._addresses().archives.get(custodian)
        if archive is None:
            return  # none any more: the alarm tells of what stays
        sole_copies = self._cache.sole_copies
        instances = await self._due(sole_copies, study_uid, custodian)
        if not instances:
            return
        author = Author(self._terms.node, work.job.job_id, "return of sole copies")
        detail: dict[str, JsonValue] = {
            "custodian": custodian.code,
            "destination": archive.name,
            "instances": len(instances),
        }
        await self._store.write(lambda tx: record_change(tx, author, REGISTER, "return", study_uid, detail))
        sent, words = await self._sent(work, archive, sole_copies, instances)
        faultpoint("custody.returned")
        if sent and archive.custody is Custody.STORED:
            await self._store.write(partial(_stored, author=author, archive=custodian, study_uid=study_uid, sent=sent))
        elif sent:
            await self._ask(archive, custodian, study_uid, sent)
        if words:
            raise JobFailed(FailureKind.TRANSIENT, words)

    async def _due(self, sole_copies: SoleCopies, study_uid: str, custodian: TrustId) -> Sequence[CachedInstance]:
        """What the archive has not been asked for, or has left without an answer for too long."""
        kept = await sole_copies.of(study_uid, custodian)
        since = (await self._store.read(lambda read: read.now)) - self._terms.answer_timeout
        node = self._terms.node
        awaited = await self._store.read(
            lambda read: commitments.awaited(read, node, study_uid, custodian, since=since)
        )
        due = [each for each in kept if (each.ref.sop_uid, each.digest) not in awaited]
        return due[:INSTANCES_AT_ONCE_MAX]

    async def _sent(
        self, work: Work, archive: Archive, sole_copies: SoleCopies, instances: Sequence[CachedInstance]
    ) -> tuple[list[commitments.Sent], str]:
        """What the archive took, and why it did not take the rest."""
        sent: list[commitments.Sent] = []
        words, done_bytes = "", 0
        classes = {each.ref.sop_class_uid for each in instances}
        async with Sender(archive.receiver, classes, self._terms.limits) as sender:
            for number, instance in enumerate(instances, start=1):
                match await sender.send(_Returned(instance, sole_copies)):
                    case Sent(warning=warning):
                        # Only its plain word is trusted: of one that had the UID before nobody knows the content.
                        if not warning or archive.custody is not Custody.STORED:
                            sent.append(_as_sent(instance))
                        else:
                            words = warning
                    case NotSent(words=why, is_final=is_final):
                        words = why
                        if is_final:
                            break
                done_bytes += instance.plain_bytes
                work.advance(Progress(number, len(instances), done_bytes))
        return sent, words

    async def _ask(
        self, archive: Archive, custodian: TrustId, study_uid: str, sent: Sequence[commitments.Sent]
    ) -> None:
        request = CommitmentRequest(self._new_uid(), tuple(each.reference for each in sent))
        # Known before it is asked: its answer may be quicker than ours to the question.
        await self._store.write(
            partial(
                commitments.ask,
                transaction_uid=request.transaction_uid,
                place=self._terms.node,
                study_uid=study_uid,
                archive=custodian,
                sent=sent,
            )
        )
        faultpoint("custody.asking")
        try:
            await ask(archive.receiver, request, self._terms.limits, partial(self._heard, custodian))
        except NotAsked as error:
            words = str(error)
            refused = partial(commitments.refused, transaction_uid=request.transaction_uid, words=words)
            await self._store.write(refused)
            raise JobFailed(FailureKind.TRANSIENT, words) from error


class _Returned:
    """An `Item` of a sole copy, for its custodian."""

    def __init__(self, instance: CachedInstance, sole_copies: SoleCopies) -> None:
        self._instance = instance
        self._sole_copies = sole_copies

    @property
    def ref(self) -> InstanceRef:
        """See `Item`."""
        return self._instance.ref

    @property
    def transfer_syntax(self) -> str:
        """See `Item`."""
        return self._instance.transfer_syntax

    @property
    def data_bytes(self) -> int:
        """See `Item`."""
        return self._instance.plain_bytes

    @property
    def source(self) -> TrustId:
        """See `Item`."""
        return self._instance.source

    @property
    def etag(self) -> str:
        """See `Item`."""
        return self._instance.digest.hex()

    def open(self, first: int = 0, last: int | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `Item`."""
        return self._sole_copies.open(self._instance, first, last)

    async def metadata(self) -> bytes:
        """See `Item`: nobody asks for it on this way."""
        return b"{}"


def _named(detail: object) -> tuple[str, TrustId]:
    match detail:
        case {"study": str(study_uid), "custodian": str(code)}:
            return study_uid, TrustId(code)
        case _:
            raise InvalidRequest("the job names no study and no custodian")


def _as_sent(instance: CachedInstance) -> commitments.Sent:
    return commitments.Sent(Reference(instance.ref.sop_class_uid, instance.ref.sop_uid), instance.digest)


def _stored(tx: Tx, author: Author, archive: TrustId, study_uid: str, sent: Sequence[commitments.Sent]) -> None:
    commitments.stored(tx, archive, study_uid, sent)
    detail: dict[str, JsonValue] = {"archive": archive.code, "instances": len(sent), "basis": Custody.STORED.value}
    record_change(tx, author, REGISTER, "committed", study_uid, detail)
