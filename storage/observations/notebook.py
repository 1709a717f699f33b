"""What was observed, on its way into the database: kept for a moment, joined, and written down together.

Nobody waits for it and nothing fails of it (`gateway.model.seams.LocationIndex` and `StandingBook`): observations of
one patient at one trust become one row, those of a second a few transactions. Bounded; beyond the bound what is new is
forgotten, which costs a question at most. What a trust says by itself is another matter: `heard` returns when it is
durable, because a study of which nobody was told again must not be missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from gateway.model.errors import OverCapacity, ServiceFault
from gateway.model.locations import Knowledge, PeerStanding, Sighting, Told
from gateway.model.seams import Clock
from policy.parties import NhsNumber, TrustId
from storage.database import Tx
from storage.observations import locations, notices, samples, standings
from storage.observations.locations import Entry
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore

log = structlog.get_logger(__name__)

PENDING_MAX = 10_000
"""Rows that wait to be written; more than a minute of the busiest region."""
WRITE_INTERVAL_S = 1.0
SWEEP_INTERVAL_S = 3_600.0
WRITTEN_AT_ONCE_MAX = 200
"""Rows in one transaction. Each is a page of a large table: an audit record that came meanwhile shall not wait long."""
SWEPT_AT_ONCE_MAX = 5_000
"""Rows looked at in one transaction: a few milliseconds, so that no audit record waits long behind it."""


class Notebook:
    """The observations of one process. Enter `run` as a background task; without it nothing is written."""

    def __init__(self, store: SqlStore, clock: Clock, stand_ins: Pseudonyms, *, max_age_days: int) -> None:
        self._store = store
        self._clock = clock
        self._stand_ins = stand_ins
        self._max_age = timedelta(days=max_age_days)
        self._entries: dict[tuple[bytes, TrustId], Entry] = {}
        self._standings: dict[TrustId, PeerStanding] = {}
        self.forgotten = 0
        """Observations for which there was no room."""

    async def known(self, patient: NhsNumber) -> Knowledge:
        """See `gateway.model.seams.LocationIndex`."""
        return await self._store.read(lambda read: locations.known(read, patient, self._stand_ins))

    def note(self, sightings: Sequence[Sighting]) -> None:
        """See `gateway.model.seams.LocationIndex`."""
        for sighting in sightings:
            self._keep(locations.entry_of(sighting, self._stand_ins))

    def write_down(self, standing: PeerStanding) -> None:
        """See `gateway.model.seams.StandingBook`; there are no more of them than peers."""
        self._standings[standing.trust] = standing

    async def heard(self, trust: TrustId, at: datetime, sightings: Sequence[Sighting] = ()) -> None:
        """Record what a trust told by itself, or that it told of nothing new (a heartbeat); returns when it is durable.

        Raises `StoreUnavailable` or `OverCapacity`: then the trust has to be told that it was not heard.
        """
        entries = [locations.entry_of(sighting, self._stand_ins) for sighting in sightings]

        def body(tx: Tx) -> None:
            locations.record(tx, entries)
            locations.hear(tx, [(trust, at)])

        await self._store.write(body)

    async def told(self, trust: TrustId, study_uid: str, at: datetime, waiting_max: int) -> None:
        """See `gateway.model.seams.NoticeBook`."""

        def body(tx: Tx) -> bool:
            locations.hear(tx, [(trust, at)])
            return notices.tell(tx, trust, study_uid, at, waiting_max)

        if not await self._store.write(body):
            raise OverCapacity("too many notifications of this trust wait")

    async def claim(self, count_max: int, until: datetime) -> list[Told]:
        """See `gateway.model.seams.NoticeBook`."""
        return await self._store.write(lambda tx: notices.claim(tx, count_max, until))

    async def defer(self, told: Sequence[Told], until: datetime, *, is_try: bool) -> None:
        """See `gateway.model.seams.NoticeBook`."""
        await self._store.write(lambda tx: notices.defer(tx, told, until, is_try=is_try))

    async def settle(self, told: Told, sightings: Sequence[Sighting]) -> None:
        """See `gateway.model.seams.NoticeBook`."""
        entries = [locations.entry_of(sighting, self._stand_ins) for sighting in sightings]

        def body(tx: Tx) -> None:
            locations.record(tx, entries)
            notices.settle(tx, told)

        await self._store.write(body)

    async def lapse(self, before: datetime) -> int:
        """See `gateway.model.seams.NoticeBook`."""
        return await self._store.write(lambda tx: notices.lapse(tx, before))

    async def waiting(self) -> dict[TrustId, int]:
        """See `gateway.model.seams.NoticeBook`."""
        return await self._store.read(notices.waiting)

    async def feeds(self) -> dict[TrustId, datetime]:
        """See `gateway.model.seams.SampleBook`."""
        return await self._store.read(locations.feeds)

    async def least_checked(
        self, trusts: Collection[TrustId], after: str, count_max: int
    ) -> tuple[list[NhsNumber], str]:
        """See `gateway.model.seams.SampleBook`."""
        return await self._store.read(
            lambda read: samples.least_checked(read, self._stand_ins, trusts, after, count_max)
        )

    async def standings(self) -> list[PeerStanding]:
        """What this node wrote down before; raises `ServiceFault`."""
        return await self._store.read(lambda read: standings.standings(read, self._store.node))

    async def run(self) -> None:
        """Write at intervals, and delete what is too old now and then; on leaving, write what is left."""
        swept_at = self._clock.monotonic()
        try:
            while True:
                await self._clock.sleep(WRITE_INTERVAL_S)
                await self.write()
                if self._clock.monotonic() - swept_at >= SWEEP_INTERVAL_S:
                    swept_at = self._clock.monotonic()
                    await self.sweep()
        except asyncio.CancelledError:
            await self.write()
            raise

    async def write(self) -> None:
        """Write what waits, a few rows in each transaction; what could not be written waits on."""
        entries, changed = list(self._entries.values()), list(self._standings.values())
        self._entries, self._standings = {}, {}
        try:
            while entries or changed:
                some = entries[:WRITTEN_AT_ONCE_MAX]
                await self._store.write(partial(_write, entries=some, changed=changed))
                entries, changed = entries[WRITTEN_AT_ONCE_MAX:], []
        except ServiceFault:
            log.warning("observations not written", waiting=len(entries))
        finally:
            self._put_back(entries, changed)

    async def sweep(self) -> int:
        """Delete every row that says nothing newer than the age that is kept, chunk by chunk; how many those were."""
        before, after, deleted = self._clock.now() - self._max_age, b"", 0
        try:
            while True:
                start = after
                after, count = await self._store.write(
                    lambda tx, start=start: locations.sweep(tx, start, SWEPT_AT_ONCE_MAX, before)  # type: ignore[misc]  # the loop's own place
                )
                deleted += count
                if not after:
                    break
        except ServiceFault:
            log.warning("old locations not deleted", deleted=deleted)
        return deleted

    def _put_back(self, entries: Sequence[Entry], changed: Sequence[PeerStanding]) -> None:
        newer, self._entries = self._entries, {}
        for entry in (*entries, *newer.values()):
            self._keep(entry)
        self._standings = {**{each.trust: each for each in changed}, **self._standings}

    def _keep(self, entry: Entry) -> None:
        key = (entry.pseudonym, entry.trust)
        waiting = self._entries.get(key)
        if waiting is not None:
            self._entries[key] = Entry(*key, locations.merged(waiting.location, entry.location))
        elif len(self._entries) < PENDING_MAX:
            self._entries[key] = entry
        else:
            self.forgotten += 1


def _write(tx: Tx, entries: Sequence[Entry], changed: Sequence[PeerStanding]) -> None:
    locations.record(tx, entries)
    standings.write(tx, changed)
