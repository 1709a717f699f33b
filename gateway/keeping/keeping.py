"""What keeps images, as one thing that a node opens, watches and closes: keys, sealed cache, ledger, durable jobs.

Questions need none of it. What cannot be opened (a key file that is gone, a wrapper that is away, a folder that another
process has) is said in words, alarmed, and tried again; meanwhile every door to images is at fault for everybody alike
(SAF-01) and C-FIND and QIDO go on, and say of which trusts they lack something. The key store is opened apart from the
rest, because closing a patient's keys needs no wrapper and no cache (SAF-25). The register of opt-outs is followed from
before the doors open.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial

import structlog

from gateway.config.configuration import Configuration
from gateway.jobs.runner import Handler, Runner, RunnerSettings
from gateway.keeping.cache import KeptCache, Room
from gateway.keeping.closings import Closings
from gateway.keeping.counting import CountedTime
from gateway.keeping.freshness import Withdrawals
from gateway.keeping.keys import open_keyring
from gateway.keeping.objects import cache_settings, checked_room, open_objects
from gateway.keeping.work import Upkeep, WorkSettings, recurring_job
from gateway.model.errors import GatewayError, OverCapacity, RegisterUnavailable, ServiceFault, StoreUnavailable
from gateway.model.seams import Clock
from policy.parties import TrustId
from storage.cache import census
from storage.cache.cache import SealedCache
from storage.cache.packs.port import Objects
from storage.keyring.keyring import Keyring
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore
from storage.work import jobs
from storage.work.book import SqlJobBook
from storage.work.ledger import SqlLedger

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 10.0
"""How often keys and cache are looked at, or tried again: well within the minute of SAF-01."""
REGISTER_CHECK_INTERVAL_S = 0.5
"""How often the register version is looked at: well below the second of DEC-12."""


class Keeping:
    """`async with`, then `run` beside everything else. Entering raises a `ServiceFault` without a database."""

    def __init__(
        self,
        configuration: Configuration,
        store: SqlStore,
        stand_ins: Pseudonyms,
        clock: Clock,
        told: Callable[[str], None],
    ) -> None:
        """`told` hears at each look why images cannot be had, or nothing if they can."""
        self._configuration = configuration
        self._store = store
        self._stand_ins = stand_ins
        self._clock = clock
        self._told = told
        node = configuration.gateway.node
        self._stack = AsyncExitStack()
        self._keyring: Keyring | None = None
        self._cache: SealedCache | None = None
        self._objects: Objects | None = None
        self._cache_opened = asyncio.Event()
        self._fault: ServiceFault = StoreUnavailable("images are not available yet")
        self._is_behind = True
        """Whether something of the register of opt-outs is still to be followed."""
        self._following = asyncio.Lock()
        self._closings = Closings(store, clock)
        room = Room(configuration.cache_folder, configuration.cache.disk_reserve_bytes, clock)
        self._check_room = room.check
        self._check_takes_in = checked_room(configuration, room)
        self.cache = KeptCache(
            self._opened_cache, self._check_takes_in, lambda: self._closings.opted_out, self._sole_sources
        )
        """The study cache; every call raises the fault that keeps it closed."""
        self.withdrawals = Withdrawals(store, self.cache, clock)
        """Gives up what archives withdrew."""
        self.ledger = SqlLedger(store, node)
        self.book = SqlJobBook(store)
        self.time = CountedTime(store, clock)
        """By which is destroyed and forgotten."""
        self._upkeep = Upkeep(_work_settings(configuration), store, self.ledger, self.time, self._opened)
        self._handlers: dict[str, Handler] = {**self._upkeep.handlers}
        self._recurring: dict[str, float] = {**self._upkeep.recurring}
        section = configuration.jobs
        self.runner = Runner(
            self.book,
            self._handlers,
            clock,
            owner=f"{node}/{secrets.token_hex(4)}",
            settings=RunnerSettings(section.capacity, section.lease_s, section.poll_s, section.retry),
        )

    async def __aenter__(self) -> Keeping:
        await self._stack.__aenter__()
        ended = await self.ledger.end_unfinished(self._clock.now())
        if ended:
            log.warning("retrievals of the last process ended", retrievals=ended)
        await self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cache = self._keyring = None
        self._fault = StoreUnavailable("the gateway is stopping")
        await self._stack.aclose()

    @property
    def keyring(self) -> Keyring:
        """The keys; raises the fault that keeps them closed."""
        if self._keyring is None:
            raise self._fault
        return self._keyring

    def handle(self, kind: str, handler: Handler, *, every_s: float | None = None) -> None:
        """Have jobs of one more kind run here, from the next look at the table on; `every_s`: one is queued so often.

        What recurs is named before `run`.
        """
        self._handlers[kind] = handler
        if every_s is not None:
            self._recurring[kind] = every_s

    async def run(self) -> None:
        """Keep it all open, follow the register and run jobs, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_ever())
            group.create_task(self._tend_cache())
            group.create_task(self._follow_for_ever())
            for kind, interval_s in self._recurring.items():
                group.create_task(self._queue_for_ever(kind, interval_s))
            async with self.runner.running():
                await asyncio.Event().wait()

    async def look(self) -> None:
        """Open what is not open, see whether the keys can be had, and say how it is. Raises nothing of that."""
        try:
            await self._open_keyring()
            await self.follow()
            await self.keyring.check()
            await self._open_cache()
            await self.follow()
            self._check_takes_in()
        except ServiceFault as fault:
            self._fault = fault
            self._told(str(fault))
        except (GatewayError, OSError) as error:
            # What the configuration says of keys or folder is wrong: the operator's to mend, and for callers a fault.
            self._fault = RegisterUnavailable(f"images are not available: {error}")
            self._told(str(error))
        else:
            self._told(self._objects.fault if self._objects is not None else "")

    def stand_in_of(self, patient_row: str) -> bytes:
        """What stands for a patient's row in the index of the cache."""
        return self._stand_ins.of_row(patient_row)

    async def follow(self) -> None:
        """Close the keys of whom the register says so. Raises a `ServiceFault`; what failed is tried again."""
        async with self._following:
            self._is_behind |= await self._closings.read()
            if self._is_behind and self._keyring is not None:
                self._is_behind = not await self._closings.apply(self._keyring, self._cache)

    async def _open_keyring(self) -> None:
        if self._keyring is None:
            # In a thread: a client of a key service is slow to make, and is made again while that is away.
            node = self._configuration.gateway.node
            keyring = await asyncio.to_thread(open_keyring, self._configuration, self._clock, node=node)
            self._keyring = await self._stack.enter_async_context(keyring)

    async def _open_cache(self) -> None:
        if self._cache is not None:
            return
        with suppress(OverCapacity):  # another process walks: it ends what is unfinished
            await self.keyring.resume()
        settings = cache_settings(self._configuration)
        async with AsyncExitStack() as opening:
            placed = open_objects(self._configuration, self._stand_ins, self._clock, self._check_room)
            objects = await opening.enter_async_context(placed)
            cache = SealedCache(
                self._store, objects, self.keyring, self._stand_ins, self._clock, settings, secrets.token_bytes
            )
            await opening.enter_async_context(cache)
            self._stack.push_async_callback(opening.pop_all().aclose)
        self._cache, self._objects, self._is_behind = cache, objects, True
        self._cache_opened.set()

    def _opened_cache(self) -> SealedCache:
        if self._cache is None:
            raise self._fault
        return self._cache

    async def _sole_sources(self) -> frozenset[TrustId]:
        """By the index, which opens without keys; nothing where it cannot be read, for then nobody is answered."""
        place = cache_settings(self._configuration).place
        try:
            return await self._store.read(partial(census.sole_sources, place=place))
        except ServiceFault:
            return frozenset()

    def _opened(self) -> tuple[Keyring, SealedCache]:
        return self.keyring, self._opened_cache()

    async def _look_for_ever(self) -> None:
        while True:
            await self._clock.sleep(CHECK_INTERVAL_S)
            await self.look()

    async def _tend_cache(self) -> None:
        await self._cache_opened.wait()
        await self._opened_cache().run()

    async def _follow_for_ever(self) -> None:
        while True:
            await self._clock.sleep(REGISTER_CHECK_INTERVAL_S)
            reason = "the key store or the study cache is not open"
            try:
                await self.follow()
            except ServiceFault as fault:
                reason = str(fault)
            if self._is_behind and self._closings.opted_out:
                self._closings.alarm(reason)

    async def _queue_for_ever(self, kind: str, interval_s: float) -> None:
        while True:
            try:
                await self._store.write(lambda tx: jobs.enqueue(tx, recurring_job(kind)))
                self.runner.wake()
            except ServiceFault as fault:
                log.warning("job not queued", kind=kind, error=str(fault))
            await self._clock.sleep(interval_s)


def _work_settings(configuration: Configuration) -> WorkSettings:
    return WorkSettings(
        node=configuration.gateway.node,
        shred_after=timedelta(hours=configuration.keys.shred_after_hours),
        verify_interval_s=60.0 * configuration.cache.verify_interval_minutes,
        verify_instances_max=configuration.cache.verify_instances_max,
        ended_kept=timedelta(days=configuration.jobs.ended_kept_days),
        retrievals_kept=timedelta(days=configuration.jobs.retrievals_kept_days),
    )
