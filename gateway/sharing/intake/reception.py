"""Taking in what a trust sends by itself: whose it is, whether it may be kept here, and keeping it (C-STORE, STOW-RS).

An instance is read as far as its identifiers before anything of it is kept. One trust's sending of one study passes the
guard once, not image by image, and is recorded when it has come to rest. Sending again is no conflict; other content
under the same UID is, and neither is believed until the trust has put it right (SAF-35). What is kept so is taken for
the only copy there is until its custodian's archive has committed itself to another (SAF-21).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import orjson
import structlog

from gateway.instances.header import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    Header,
    HeaderReader,
)
from gateway.instances.listing import row_of
from gateway.model.errors import (
    Conflicting,
    GatewayError,
    InvalidRequest,
    KeyClosed,
    OverCapacity,
    RegisterUnavailable,
    StoreUnavailable,
    Unwanted,
)
from gateway.model.imaging import JsonValue
from gateway.model.seams import CONTENT_DIFFERS, Clock, QualityItem, Store
from gateway.model.settings import Limits
from gateway.model.work.transfers import (
    CacheClass,
    Described,
    InstanceRef,
    ReceivedHead,
    StudyCache,
    Taking,
    Writing,
)
from gateway.model.work.under_way import UnderWay
from gateway.sharing.directory import Directory
from gateway.sharing.guard.gate import Gate
from gateway.sharing.guard.passage import Passage, Wish
from gateway.sharing.identity.patients import identity_of
from gateway.sharing.identity.translation import identifiers_to_look_up, translated
from gateway.sharing.intake.listening import Listening
from gateway.sharing.intake.versions import Versions
from policy.access import Action
from policy.parties import NHS_NUMBER_ISSUER, Caller, NhsNumber, PatientId, TrustId

log = structlog.get_logger(__name__)

_SEALED_AS_IT_COMES_BYTES = 64 * 1024
"""From so many bytes on an instance is not held back until all of it is there; a small one costs less at once."""


@dataclass(frozen=True, slots=True)
class _Whose:
    """The patient of an instance: by NHS number where it leads to one, and the row whose keys seal it."""

    number: NhsNumber | None
    row: str


@dataclass(slots=True, eq=False)
class _Sending:
    """One caller's sending of one study, as long as it goes on."""

    passage: Passage
    whose: _Whose
    touched: float
    counts: Counter[str] = field(default_factory=Counter)
    under_way: UnderWay = field(default_factory=UnderWay)
    """Its instances that have begun and not ended: it is not at rest before they have."""


class Reception:
    """Where everything goes that trusts send by themselves. `close` records what is still going on."""

    def __init__(
        self,
        gate: Gate,
        directory: Directory,
        store: Store,
        cache: StudyCache,
        clock: Clock,
        limits: Limits,
        arriving: Listening | None = None,
    ) -> None:
        """`arriving` hears of each instance before it is kept."""
        self.arriving = arriving
        self._gate = gate
        self._directory = directory
        self._store = store
        self._cache = cache
        self.versions = Versions(cache)
        self._clock = clock
        self._limits = limits
        self._sendings: dict[tuple[str, str, str, str], asyncio.Future[_Sending]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, caller: Caller) -> _Pushed:
        """Where this caller's own instances go (`gateway.model.work.transfers.Intake`)."""
        return _Pushed(self, caller)

    async def close(self) -> None:
        """Record what was sent until now; nothing more is taken in."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def rested(self) -> None:
        """Return once nothing is sent any more and all of it is recorded."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    @contextlib.asynccontextmanager
    async def sending(self, caller: Caller, header: Header) -> AsyncIterator[_Sending]:
        """The sending that an instance belongs to, until it has ended; passes the guard where it is new.

        Raises `GatewayError`.
        """
        who, study_uid = caller.principal, header.uid(STUDY_UID)
        name = (header.text(PATIENT_ID), header.text(ISSUER_OF_PATIENT_ID))
        key = (who.subject, study_uid, *name)
        if key not in self._sendings:
            if len(self._sendings) >= self._limits.store_studies_at_once_max:
                raise OverCapacity("too many studies are being sent at once")
            self._sendings[key] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._guarded(key, caller, header, self._sendings[key]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        sending = await asyncio.shield(self._sendings[key])
        try:
            with sending.under_way.one():
                yield sending
        finally:
            sending.touched = self._clock.monotonic()

    def put(self, head: ReceivedHead) -> AbstractAsyncContextManager[Writing]:
        """A place in the cache."""
        return self._cache.put(head)

    async def coming(self, ref: InstanceRef, trust: TrustId) -> None:
        """All of an instance is there, and it is about to be kept; raises `StoreUnavailable`."""
        if self.arriving is not None:
            await self.arriving.coming(ref, trust)

    async def conflict(
        self, caller: Caller, ref: InstanceRef, number: NhsNumber | None, kept_from: TrustId | None
    ) -> None:
        """Tell those whose content it is of one UID with two contents."""
        trust = caller.principal.trust
        log.warning("instance in conflict", trust=trust.code)
        concerned = sorted({trust, kept_from or trust})
        detail: dict[str, JsonValue] = {"instance": ref.sop_uid}
        await self._gate.report(
            [QualityItem(CONTENT_DIFFERS, each, ref.study_uid, number, detail) for each in concerned]
        )

    async def _guarded(
        self, key: tuple[str, str, str, str], caller: Caller, header: Header, known: asyncio.Future[_Sending]
    ) -> None:
        try:
            whose = await self._whose(caller, header)
            wish = Wish(caller, whose.number, caller.principal.trust, {"store": header.uid(STUDY_UID)}, Action.STORE)
            async with self._gate.guard(wish) as passage:
                if passage.is_hidden:
                    raise Unwanted("the instance is not accepted")
                sending = _Sending(passage, whose, self._clock.monotonic())
                known.set_result(sending)
                try:
                    await self._until_at_rest(sending)
                    self._forget(key, known)
                    await sending.under_way.until_none()
                finally:
                    passage.tally.returned = sending.counts["kept"]
                    passage.tally.transfers = {**dict(sorted(sending.counts.items()))}
        except GatewayError as error:
            if not known.done():
                known.set_exception(error)
                known.exception()  # whoever waits for it hears of it; nobody has to
            else:
                log.error("sending not recorded", error=type(error).__name__)
        finally:
            self._forget(key, known)
            known.cancel()

    def _forget(self, key: tuple[str, str, str, str], known: asyncio.Future[_Sending]) -> None:
        """Whatever comes from now on is another sending, and judged anew."""
        if self._sendings.get(key) is known:
            del self._sendings[key]

    async def _until_at_rest(self, sending: _Sending) -> None:
        """Until nothing is under way and nothing has come for a while, or a register moves or cannot be read."""
        version = await self._version()
        while (left_s := self._rest_left_s(sending)) > 0:
            await self._clock.sleep(min(left_s, 1.0))
            if version is None or await self._version() != version:
                return

    def _rest_left_s(self, sending: _Sending) -> float:
        if sending.under_way.count:
            return self._limits.store_rest_s
        return sending.touched + self._limits.store_rest_s - self._clock.monotonic()

    async def _version(self) -> int | None:
        with contextlib.suppress(StoreUnavailable):
            return await self._store.register_version()
        return None

    async def _whose(self, caller: Caller, header: Header) -> _Whose:
        entry = self._directory.trust(caller.principal.trust)
        identity = identity_of(row_of(header), entry.patient_id_issuer)
        try:
            known = await self._store.cross_references(identifiers_to_look_up(identity, entry))
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error
        identity = translated(identity, entry, known)
        if identity.is_contradicted:
            raise Conflicting("the instance's identifiers lead to different patients")
        if identity.nhs_number is not None:
            identifier = PatientId(NHS_NUMBER_ISSUER, identity.nhs_number.digits)
        elif identity.local_ids:
            identifier = identity.local_ids[0]
        else:
            raise InvalidRequest("the instance names no patient")
        return _Whose(identity.nhs_number, await self._store.patient_row(identifier))


class _Pushed:
    """One caller's instances on their way in."""

    def __init__(self, reception: Reception, caller: Caller) -> None:
        self._reception = reception
        self._caller = caller

    @contextlib.asynccontextmanager
    async def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AsyncIterator[Taking]:
        """See `Intake`."""
        async with contextlib.AsyncExitStack() as held:
            announced = InstanceRef("", "", sop_uid, sop_class_uid)
            coming = _Coming(self._reception, self._caller, announced, transfer_syntax, held)
            try:
                yield coming
            finally:
                await coming.leave()


class _Coming:
    """One instance; held back until it has said whose it is, then sealed as it comes."""

    def __init__(
        self,
        reception: Reception,
        caller: Caller,
        announced: InstanceRef,
        transfer_syntax: str,
        held: contextlib.AsyncExitStack,
    ) -> None:
        self._reception = reception
        self._caller = caller
        self._announced = announced
        self._transfer_syntax = transfer_syntax
        self._held = held
        self._reader = HeaderReader(transfer_syntax)
        self._is_read = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._beginning: asyncio.Task[None] | None = None
        self._writing: Writing | None = None
        self._sending: _Sending | None = None
        self._refused: Unwanted | None = None
        """Why it is not kept, though it is taken to its end: its trust's own use of it is no sharing (SAF-20)."""

    def add(self, piece: bytes | memoryview) -> None:
        """See `Taking`."""
        if self._writing is not None:
            self._writing.add(piece)
            return
        if self._refused is not None:
            self._wait(piece)
            return
        self._is_read = self._is_read or self._reader.feed(piece)
        self._wait(piece)
        if self._is_read and self._beginning is None and self._waiting_bytes >= _SEALED_AS_IT_COMES_BYTES:
            # The rest is sealed while its sender still sends, and not copied.
            self._beginning = asyncio.get_running_loop().create_task(self._begin())

    def _wait(self, piece: bytes | memoryview) -> None:
        self._waiting.append(bytes(piece))
        self._waiting_bytes += len(piece)

    async def leave(self) -> None:
        """Begin nothing any more: nobody waits for it."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.gather(self._beginning, return_exceptions=True)

    async def drain(self) -> None:
        """See `Taking`."""
        if self._beginning is not None:
            await self._beginning
        elif self._is_read and self._writing is None and self._refused is None:
            await self._begin()
        if self._refused is not None and self._waiting_bytes > self._wanted_bytes():
            raise self._refused
        if self._writing is not None:
            await self._writing.drain()

    async def keep(self) -> None:
        """See `Taking`."""
        if not self._is_read:
            self._reader.end()
            self._is_read = True
        await self.drain()
        if self._refused is not None:
            await self._hand_over()
            raise self._refused
        assert self._writing is not None and self._sending is not None
        described = Described(metadata=orjson.dumps(row_of(self._reader.header)))
        await self._reception.coming(self._announced, self._caller.principal.trust)
        try:
            await self._reception.versions.keep(self._announced, self._writing, described, is_custodians=True)
        except Conflicting as error:
            self._sending.counts["in-conflict"] += 1
            number = self._sending.whose.number
            await self._reception.conflict(self._caller, self._announced, number, error.kept_from)
            raise
        self._sending.counts["kept"] += 1

    def _wanted_bytes(self) -> int:
        arriving = self._reception.arriving
        return arriving.bytes_wanted(self._announced) if arriving is not None else 0

    async def _hand_over(self) -> None:
        if self._reception.arriving is not None:
            trust, body = self._caller.principal.trust, b"".join(self._waiting)
            await self._reception.arriving.unkept(self._announced, trust, self._transfer_syntax, body)

    async def _begin(self) -> None:
        header = self._reader.header
        said = InstanceRef(
            header.uid(STUDY_UID), header.uid(SERIES_UID), header.uid(SOP_INSTANCE_UID), header.uid(SOP_CLASS_UID)
        )
        if (said.sop_uid, said.sop_class_uid) != (self._announced.sop_uid, self._announced.sop_class_uid):
            raise InvalidRequest("the instance is not the one that was announced")
        if not said.study_uid or not said.series_uid:
            raise InvalidRequest("the instance names no study or no series")
        self._sending = await self._held.enter_async_context(self._reception.sending(self._caller, header))
        trust = self._caller.principal.trust
        head = ReceivedHead(
            said,
            self._transfer_syntax,
            trust,
            trust,
            self._sending.whose.row,
            cache_class=CacheClass.PUSH,
            is_sole_copy=True,
        )
        self._announced = said
        try:
            self._writing = await self._held.enter_async_context(self._reception.put(head))
        except KeyClosed as error:
            # Whoever sends is told no more than that (SAF-02); the record says it.
            self._sending.counts["not-accepted"] += 1
            log.warning("instance not accepted", trust=trust.code)
            refused = Unwanted("the instance is not accepted")
            if not self._wanted_bytes():
                raise refused from error
            self._refused = refused
            return
        for piece in self._waiting:
            self._writing.add(piece)
        self._waiting.clear()
