"""What is withheld looks like what is not there, in all that a caller can see, time included (SAF-02, SAF-06, G15)."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import pytest

from gateway.model.audit import AuditEntry, AuditRecord, ChainHead
from gateway.model.errors import PeerError
from gateway.model.imaging import Attributes, Matches, Query, SourceState
from gateway.model.seams import CrossReference, FactsSnapshot, QualityItem
from gateway.model.settings import SharingSettings
from gateway.sharing.hearing import Allowance, Witnessed
from gateway.sharing.scope import Scope
from policy.parties import NhsNumber, PatientId, TrustId
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA, asking_for, asking_for_study, row

TIMINGS = 1_000
"""Of each kind: with so many the area under the curve strays by less than 0.04 in all but one of a thousand runs."""

FAITH = NhsNumber("9990000069")
"""In care, and nowhere is there an image of hers."""
TIMED = SharingSettings(absence_grid_ms=20)
"""A finer grid than the start value, so that differences would show in it."""


def describe(region: Region) -> Region:
    """RZ1 asks; Ben (opted out) has images at RZ2 and RZ3, Clara (not in care) at RZ4."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.3", of=BEN)
    region.trust("RZ3").with_study("1.2.3", of=BEN).with_study("1.2.4", of=BEN)
    region.trust("RZ4").with_study("1.2.5", of=CLARA)
    return region


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock) -> Region:
    """The region, its absence timed."""
    region = describe(Region(store, clock, sharing=TIMED))
    for patient in (ANNE, BEN, FAITH):
        await region.refer(patient, to="RZ1")
    await region.opt_out(BEN)
    await region.prepare()
    return region


PAIRS = {
    "opted out, by number": (asking_for(BEN), asking_for(FAITH)),
    "opted out, by number, at one trust": (asking_for(BEN, at="RZ2"), asking_for(FAITH, at="RZ2")),
    "opted out, by study": (asking_for_study("1.2.3"), asking_for_study("1.2.999")),
    "not in care, by study": (asking_for_study("1.2.5"), asking_for_study("1.2.999")),
    "opted out, with a date beside it": (asking_for(BEN, born="19990101"), asking_for(FAITH, born="19990101")),
}
EVERY_PAIR = pytest.mark.parametrize(("withheld", "absent"), PAIRS.values(), ids=PAIRS.keys())


async def seen(region: Region, query: Query) -> Matches | tuple[str, str]:
    """All that a caller sees but the time: the answer, or the error."""
    try:
        return await region.find(query)
    except PeerError as error:
        return type(error).__name__, str(error)


@EVERY_PAIR
async def test_what_is_withheld_is_answered_like_what_is_not_there(
    region: Region, withheld: Query, absent: Query
) -> None:
    assert await seen(region, withheld) == await seen(region, absent)


BY_NUMBER = pytest.mark.parametrize(
    ("withheld", "absent"),
    [pair for name, pair in PAIRS.items() if "number" in name],
    ids=[name for name in PAIRS if "number" in name],
)


@BY_NUMBER
@pytest.mark.parametrize("trouble", ["stalled", "down", "garbled", "refusing"])
async def test_and_so_it_is_while_trusts_are_in_trouble(
    region: Region, withheld: Query, absent: Query, trouble: str
) -> None:
    """From the first failure that somebody met: while a trust is asked again, left alone, and back in order."""
    for code in ("RZ2", "RZ4"):
        getattr(region.trust(code).pacs, trouble)()
    await seen(region, absent)
    for _ in range(12):
        assert await seen(region, withheld) == await seen(region, absent)
        await region.clock.advance(0.9)
    for code in ("RZ2", "RZ4"):
        region.trust(code).pacs.up()
    await region.clock.run(region.peers.probe(lambda: "2.25.1"))
    assert await seen(region, withheld) == await seen(region, absent)


@BY_NUMBER
async def test_and_so_it_is_while_every_trust_is_down(region: Region, withheld: Query, absent: Query) -> None:
    for code in ("RZ2", "RZ3", "RZ4"):
        region.trust(code).down()
    await seen(region, absent)
    for _ in range(5):
        assert await seen(region, withheld) == await seen(region, absent)


@EVERY_PAIR
async def test_and_so_it_is_where_something_is_not_shared(region: Region, withheld: Query, absent: Query) -> None:
    await region.agree("RZ4")
    assert await seen(region, withheld) == await seen(region, absent)


async def test_nobody_is_asked_for_a_patient_who_opted_out(region: Region) -> None:
    await region.find(asking_for(BEN))
    assert not any(region.trust(code).pacs.requests for code in ("RZ2", "RZ3", "RZ4"))


async def test_what_is_withheld_takes_as_long_as_absence_lately_took(region: Region, clock: FakeClock) -> None:
    region.trust("RZ3").pacs.slow(0.9)
    for _ in range(10):
        await region.find(asking_for(FAITH))
    began = clock.monotonic()
    await region.find(asking_for(BEN))
    assert clock.monotonic() - began == pytest.approx(0.9, abs=0.021)


async def test_a_probe_teaches_how_long_absence_takes(region: Region, clock: FakeClock) -> None:
    """Before anybody has asked for anything."""
    region.trust("RZ3").pacs.slow(0.7)
    await clock.run(region.peers.probe(lambda: "2.25.1"))
    began = clock.monotonic()
    await region.find(asking_for(BEN))
    assert clock.monotonic() - began == pytest.approx(0.7, abs=0.021)


async def test_answers_without_rows_leave_on_the_grid_and_others_at_once(region: Region, clock: FakeClock) -> None:
    region.trust("RZ3").pacs.slow(0.0333)
    region.trust("RZ2").with_study("1.2.8", of=ANNE)
    for query, took_s in ((asking_for(FAITH), 0.04), (asking_for(ANNE), 0.0333)):
        began = clock.monotonic()
        await region.find(query)
        assert clock.monotonic() - began == pytest.approx(took_s)


class Holding:
    """A `Witness` of one study of Clara's, which RZ4 sent and nobody else has; reading it takes its time."""

    def __init__(self, clock: FakeClock, takes_s: float) -> None:
        self._clock = clock
        self._takes_s = takes_s
        self.cannot_read = frozenset[TrustId]()

    async def rows(
        self, study_uids: Collection[str], silent: Collection[TrustId]
    ) -> Mapping[TrustId, Sequence[Attributes]]:
        """Nothing was fetched."""
        return {}

    async def sole(
        self, question: Query, scope: Scope, known_by: Collection[PatientId], allowance: Allowance
    ) -> Witnessed:
        """The study, where the question names it."""
        if "1.2.7" not in scope.study_uids:
            return Witnessed({})
        await self._clock.sleep(self._takes_s)
        return Witnessed({TrustId("RZ4"): [row("1.2.7", CLARA)]})

    async def unread(self) -> frozenset[TrustId]:
        """All of it can be looked at, or nothing of RZ3's can."""
        return self.cannot_read


@EVERY_PAIR
async def test_and_so_it_is_while_what_the_gateway_holds_cannot_be_opened(
    region: Region, clock: FakeClock, withheld: Query, absent: Query
) -> None:
    holding = region.witness = Holding(clock, 0.0)
    holding.cannot_read = frozenset({TrustId("RZ2")})
    found = await seen(region, withheld)
    assert found == await seen(region, absent) and isinstance(found, Matches)
    states = {source.trust.code: source.state for source in found.sources}
    assert states.pop("RZ2") is SourceState.TRUNCATED and SourceState.TRUNCATED not in states.values()


async def test_reading_a_hidden_study_that_only_the_gateway_holds_takes_no_time_of_its_own(
    region: Region, clock: FakeClock
) -> None:
    """By its UID, for nobody is withheld before it is known whose it is: it is read while archives are asked."""
    region.witness = Holding(clock, 0.2)
    region.trust("RZ3").pacs.slow(0.3)
    took_s = []
    for query in (asking_for_study("1.2.7"), asking_for_study("1.2.999")):
        began = clock.monotonic()
        assert (await region.find(query)).rows == ()
        took_s.append(clock.monotonic() - began)
    assert took_s[0] == pytest.approx(took_s[1])


class FrozenStore:
    """A `Store` that answers from what another once answered, without threads: thousands of questions take seconds."""

    def __init__(self, snapshot: FactsSnapshot) -> None:
        self._snapshot = snapshot
        self._head = ChainHead.empty("north")

    async def facts(
        self, recipient: TrustId, patients: Sequence[NhsNumber], *, at: datetime, known_at: datetime | None = None
    ) -> FactsSnapshot:
        """What was known of these patients."""
        known = {patient: self._snapshot.by_patient[patient] for patient in patients}
        return FactsSnapshot(self._snapshot.register_version, self._snapshot.unpinned, known)

    async def cross_references(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        """Nobody has a second number."""
        return {}

    async def patient_row(self, identifier: PatientId) -> str:
        """Nobody has images here."""
        return "row"

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        """Nobody is known."""
        return frozenset()

    async def register_version(self) -> int:
        """Always the same."""
        return self._snapshot.register_version

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """Make the record, and keep only its hash."""
        record = AuditRecord.following("north", self._head.sequence + 1, self._head.hash, entry.encoded())
        self._head = ChainHead("north", record.sequence, record.hash)
        return record

    async def report_quality(self, items: Sequence[QualityItem], at: datetime) -> None:
        """Nobody looks."""


def area_under_curve(some: Sequence[float], others: Sequence[float]) -> float:
    """How often one of `some` is longer than one of `others`, ties counted half: 0.5 tells nothing."""
    ranked = sorted({*some, *others})
    rank = {value: place for place, value in enumerate(ranked)}
    counts = [0] * len(ranked)
    for value in others:
        counts[rank[value]] += 1
    below, running = [], 0
    for count in counts:
        below.append(running + count / 2)
        running += count
    return sum(below[rank[value]] for value in some) / (len(some) * len(others))


def test_the_measure_can_tell() -> None:
    assert area_under_curve([1, 2, 3], [1, 2, 3]) == 0.5
    assert area_under_curve([2, 3], [0, 1]) == 1.0
    assert area_under_curve([1], [1, 3]) == 0.25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("withheld", "absent"),
    [(asking_for(BEN), asking_for(FAITH)), (asking_for_study("1.2.3"), asking_for_study("1.2.999"))],
    ids=["by number", "by study"],
)
async def test_the_time_of_an_answer_tells_nothing(
    region: Region, store: SqlStore, withheld: Query, absent: Query
) -> None:
    """Archives as quick and slow as they come, one of them failing now and then; questions in any order."""
    patients = [ANNE, BEN, CLARA, FAITH]
    frozen = FrozenStore(await store.facts(TrustId("RZ1"), patients, at=region.clock.now()))
    clock, chance = FakeClock(), random.Random(20261121)
    many = describe(Region(frozen, clock, sharing=TIMED))
    many.trust("RZ2").pacs.slow_by(lambda: chance.lognormvariate(-2.5, 0.5))
    many.trust("RZ3").pacs.slow_by(lambda: chance.choice((0.02, 0.3)) * chance.uniform(0.9, 1.1))
    many.trust("RZ4").pacs.slow_by(lambda: 6.0 if chance.random() < 0.02 else chance.uniform(0.05, 0.15))
    await many.clock.run(many.peers.probe(lambda: "2.25.1"))
    took: dict[Query, list[float]] = {withheld: [], absent: []}
    questions = [withheld, absent] * TIMINGS
    chance.shuffle(questions)
    for query in questions:
        began = clock.monotonic()
        await clock.run(many.broker.find(many.caller("RZ1"), query))
        took[query].append(clock.monotonic() - began)
        await clock.advance(chance.uniform(0, 2))
    assert len({round(duration_s, 3) for duration_s in took[absent]}) > 10  # there is something to tell by
    assert abs(area_under_curve(took[withheld], took[absent]) - 0.5) <= 0.05
