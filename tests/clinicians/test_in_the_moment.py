"""Whoever is given a report in the moment in which it changes is told of that, whichever came first (SAF-62)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeVar, cast

import pytest
from sqlalchemy import update

from gateway.model.errors import Damaged
from gateway.model.reporting.incoming import IncomingReport
from gateway.model.reporting.seams import FeedMessage
from gateway.model.seams import RECEIVED_AND_WITHDRAWN
from gateway.model.work.jobs import Lane
from gateway.model.work.retrievals import FrozenInstance, NewRetrieval
from gateway.model.work.transfers import StudyCache
from gateway.release.clinicians import telling
from gateway.release.clinicians.book import Book
from gateway.release.clinicians.readers import Readers
from gateway.release.clinicians.telling import CHANGED, Telling
from gateway.release.contents import Contents
from gateway.release.intake import Intake
from gateway.release.naming import report_id_of
from gateway.sharing.reading.reports import ReadReport, ReportReading
from policy.parties import Caller, Principal, PrincipalKind, PurposeOfUse, TrustId
from policy.release.reports import Said
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.registers.quality import open_items
from storage.release.reports import KeptContent
from storage.release.tables import report_version
from storage.store import SqlStore, new_id
from storage.work import jobs
from tests.clinicians.test_changes import LATER, told
from tests.clinicians.ward import Ward, reported
from tests.clock import NOON, FakeClock
from tests.retrieval.test_freshness import Errand, due
from tests.retrieval.travels import STUDY, whole
from tests.sharing.rows import ANNE
from tests.storage.cache_rig import FixedKeys

T = TypeVar("T")
TOLERANCE = timedelta(minutes=5)
CORRECTION = reported("A fracture.", said=Said.CORRECTED, at=LATER)


def between(ward: Ward, event: Callable[[], Awaitable[object]]) -> ReportReading:
    """Who answers for reports as such, and to whom something happens after reading and before writing down."""
    reading = ward.reading

    async def given(caller: Caller, reports: Sequence[ReadReport]) -> None:
        await event()
        await ward.readers.given(caller, reports)

    reading._kept = replace(reading._kept, given=given)
    return reading


async def corrected_and_told(ward: Ward) -> None:
    """The correction comes, and its telling is over."""
    await ward.file(CORRECTION)
    await due(ward.travels, ward.handlers)


async def test_a_correction_between_reading_a_report_and_writing_its_reader_down_is_told(ward: Ward) -> None:
    await ward.file(reported())
    await ward.region.prepare()
    reading = between(ward, partial(corrected_and_told, ward))
    ask = reading.of_patient(ward.region.caller("RZ1"), ANNE)
    read = await ward.travels.clock.run(ask, is_busy=ward.region.store.is_busy)
    assert read.found[0].documents[0].content.content.text == reported().content.text
    assert await told(ward) == []
    assert await due(ward.travels, ward.handlers) == [CHANGED]
    assert [item.custodian.code for item in await told(ward)] == ["RZ1"]


async def test_a_retrieval_under_way_is_told_of_a_correction_and_only_once(ward: Ward) -> None:
    await ward.file(reported())
    async with ward.travels.retrieval(whole(STUDY)) as delivery:
        items = [item async for item in delivery]
        await corrected_and_told(ward)
        assert [item.custodian.code for item in await told(ward)] == ["RZ1"]
        for item in items:
            delivery.sent(item)
    await ward.file(reported("See also.", said=Said.APPENDED, at=LATER + timedelta(hours=1)))
    await due(ward.travels, ward.handlers)
    assert len(await told(ward)) == 1


async def test_a_correction_between_a_retrievals_list_and_its_ledger_is_told(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ward.file(reported())
    await ward.region.refer(ANNE, to="RZ3")
    await ward.travels.brought(whole(STUDY), by="RZ3")
    freeze = ward.travels.ledger.freeze

    async def late(new: NewRetrieval) -> None:
        await corrected_and_told(ward)
        await freeze(new)

    monkeypatch.setattr(ward.travels.ledger, "freeze", late)
    await ward.travels.clock.advance(60)
    await ward.travels.brought(whole(STUDY))
    assert {item.custodian.code for item in await told(ward)} == {"RZ3"}
    assert await due(ward.travels, ward.handlers) == [CHANGED]
    assert {item.custodian.code for item in await told(ward)} == {"RZ1", "RZ3"}


async def test_whoever_a_process_fell_over_while_handing_out_is_told(ward: Ward) -> None:
    await ward.file(reported())
    [document] = (await ward.book.of_studies([STUDY])).present
    frozen = FrozenInstance(document.ref, document.trust, "anne", "d-1")
    new = NewRetrieval("fallen", "request", "rz1-pacs", TrustId("RZ1"), "", NOON, (frozen,))
    await ward.travels.ledger.freeze(new)
    assert await ward.travels.ledger.end_unfinished(NOON) == 1
    await corrected_and_told(ward)
    assert [item.custodian.code for item in await told(ward)] == ["RZ1"]


async def test_what_stood_again_after_its_recipient_was_told_is_told_of_again(ward: Ward) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("", said=Said.TAKEN_BACK, at=LATER))
    await due(ward.travels, ward.handlers)
    assert len(await told(ward)) == 1
    await ward.file(reported(at=LATER + timedelta(hours=1)))
    await due(ward.travels, ward.handlers)
    await ward.travels.clock.advance(60)
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER + timedelta(hours=2)))
    await due(ward.travels, ward.handlers)
    assert len(await told(ward)) == 2


@pytest.mark.parametrize("is_forgotten", [True, False])
async def test_who_has_a_version_that_cannot_be_opened_is_told_all_the_same(ward: Ward, is_forgotten: bool) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    await ward.file(CORRECTION)
    spoiled = update(report_version).where(report_version.c.said == Said.VERIFIED.value)
    values = spoiled.values(sealed=b"" if is_forgotten else b"damaged" * 100)
    await ward.store.write(lambda tx: tx.connection.execute(values))
    await due(ward.travels, ward.handlers)
    assert [item.custodian.code for item in await told(ward)] == ["RZ1"]


async def test_a_damaged_old_version_keeps_nobody_from_the_report_that_stands(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ward.file(reported(), CORRECTION)
    opened = ward.contents.opened

    async def spoiled(kept: KeptContent) -> IncomingReport:
        said = await opened(kept)
        if said.said is Said.VERIFIED:
            raise Damaged("it does not open")
        return said

    monkeypatch.setattr(ward.contents, "opened", spoiled)
    found = await ward.book.of_studies([STUDY])
    assert [each.content.content.text for each in found.present] == ["A fracture."]
    assert found.cut == {TrustId("RZ2")}


async def test_how_far_ahead_a_verification_may_lie_is_the_trusts_setting(ward: Ward) -> None:
    ahead = reported(received_at=reported().stated_at - timedelta(minutes=3))
    await ward.file(ahead)
    [document] = (await ward.book.of_studies([STUDY])).present
    ward.tolerance = timedelta(minutes=2)
    assert (await ward.book.of_studies([STUDY])).present != [document]


THE_REPORT = report_id_of(reported().trust, reported().report_number)
CALLER = Caller(Principal("rz1-clinic", PrincipalKind.SYSTEM, TrustId("RZ1")), PurposeOfUse.TREAT, "r-1")
LOCKED_S = 0.3
"""So long a transaction is given to show that it waits for the other one."""


class Waiting:
    """A process's store whose transactions wait before they are committed, until a test says so."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.reached, self.goes_on = threading.Event(), threading.Event()

    async def write(self, body: Callable[[Tx], T]) -> T:
        """See `SqlStore`."""

        def waiting(tx: Tx) -> T:
            result = body(tx)
            self.reached.set()
            assert self.goes_on.wait(30), "nobody lets it go on"
            return result

        return await self.store.write(waiting)

    async def read(self, body: Callable[[Tx], T]) -> T:
        """See `SqlStore`."""
        return await self.store.read(body)  # type: ignore[arg-type]  # as the store itself is asked


class NoCopies:
    """A cache with nothing in it."""

    async def instances(self, _: str) -> list[object]:
        """Nothing."""
        return []


class Node:
    """What one process of a region does with a report."""

    def __init__(self, store: SqlStore, clock: FakeClock) -> None:
        self.store = store
        self.keys = FixedKeys()
        self._telling = Telling(store, lambda _: TOLERANCE, cast(StudyCache, NoCopies()), clock)

    async def file(self, incoming: IncomingReport, store: SqlStore | Waiting | None = None) -> None:
        """A message brings it."""
        over = cast(SqlStore, store or self.store)
        intake = Intake(over, self.keys, telling.queue, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)
        name = f"RIS|{incoming.stated_at.isoformat()}"
        await intake.take(
            FeedMessage(incoming.trust, "ris", name, "ORU^R01", incoming.received_at, (incoming,), raw=b"MSH")
        )

    async def read(self) -> ReadReport:
        """The report as it stands."""
        book = Book(self.store, Contents(self.store, self.keys), lambda _: TOLERANCE)
        found = await book.of_studies([STUDY])
        return ReadReport(THE_REPORT, found.standings[THE_REPORT], tuple(found.present))

    async def give(self, read: ReadReport, store: SqlStore | Waiting | None = None) -> None:
        """RZ1 is given the report as it was read."""
        await Readers(cast(SqlStore, store or self.store), lambda _: TOLERANCE).given(CALLER, [read])

    async def tell(self) -> None:
        """Do what is queued."""
        lease = timedelta(seconds=60)
        claim = partial(jobs.claim, owner=self.store.node, limit=10, lease=lease, kinds=[CHANGED])
        for job in await self.store.write(lambda tx: claim(tx, lane=Lane.BACKGROUND, lease_now=tx.now)):
            await self._telling(Errand(job))
            await self.store.write(partial(jobs.finish, held=job.claim))

    async def told(self) -> list[str]:
        """Who was told."""
        items = await self.store.read(open_items)
        return [each.item.custodian.code for each in items if each.item.kind == RECEIVED_AND_WITHDRAWN]


@pytest.fixture
async def nodes(url: str, clock: FakeClock) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes over one database."""
    database = DatabaseSettings(url)
    async with (
        SqlStore(database, node="north", clock=clock) as north,
        SqlStore(database, node="south", clock=clock) as south,
    ):
        yield Node(north, clock), Node(south, clock)


async def test_a_reader_who_is_being_written_down_is_told_of_a_correction_by_another_process(
    nodes: tuple[Node, Node],
) -> None:
    north, south = nodes
    await north.file(reported())
    read, slow = await north.read(), Waiting(north.store)

    async def correct_and_tell() -> None:
        await south.file(CORRECTION)
        await south.tell()

    giving = asyncio.create_task(north.give(read, slow))
    await asyncio.to_thread(slow.reached.wait, 30)
    correcting = asyncio.create_task(correct_and_tell())
    await asyncio.wait({correcting}, timeout=LOCKED_S)
    slow.goes_on.set()
    await asyncio.gather(giving, correcting)
    await north.tell()
    assert await north.told() == ["RZ1"]


async def test_a_reader_who_is_written_down_beside_a_correction_by_another_process_is_told(
    nodes: tuple[Node, Node],
) -> None:
    north, south = nodes
    await north.file(reported())
    read, slow = await north.read(), Waiting(south.store)
    correcting = asyncio.create_task(south.file(CORRECTION, slow))
    await asyncio.to_thread(slow.reached.wait, 30)
    giving = asyncio.create_task(north.give(read))
    await asyncio.wait({giving}, timeout=LOCKED_S)
    slow.goes_on.set()
    await asyncio.gather(giving, correcting)
    await south.tell()
    assert await south.told() == ["RZ1"]


async def test_a_reader_who_is_written_down_after_the_telling_of_another_process_is_told(
    nodes: tuple[Node, Node],
) -> None:
    north, south = nodes
    await north.file(reported())
    read = await north.read()
    await south.file(CORRECTION)
    await south.tell()
    await north.give(read)
    await south.tell()
    assert await north.told() == ["RZ1"]
