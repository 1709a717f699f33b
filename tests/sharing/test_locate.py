"""Who is left unasked (SAF-05): only on a fresh negative of a live feed, never in an emergency, and never so that what
an answer says of it would tell what is withheld from what is not there (SAF-06).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.imaging import JsonValue, Key, Level, NotAskedReason, Query, SourceState
from gateway.model.locations import Knowledge, Location, SeenBy, Sighting
from gateway.model.settings import SharingSettings
from gateway.sharing import locate
from gateway.sharing.directory import PatientIdAsked
from gateway.sharing.identity.conflicts import Judgement
from gateway.sharing.merge import Part
from gateway.sharing.scope import for_peers, pinned_scope
from policy.parties import NhsNumber, PurposeOfUse, TrustId
from storage.observations.locations import entry_of, merged
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import KEY_BYTES, Pseudonyms
from storage.registers import merges, patients
from storage.registers.merges import MergeBasis
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.region import CLERK, Region
from tests.sharing.rows import ANNE, BEN, CLARA, RZ2, RZ3, RZ4, asking_for, asking_for_study, found, row

SETTINGS = SharingSettings(absence_timing=False, location_feeds=frozenset({"RZ2", "RZ3"}))
TIMED = replace(SETTINGS, absence_timing=True, absence_grid_ms=20)
MINUTE = timedelta(minutes=1)
STAND_INS = Pseudonyms(b"k" * KEY_BYTES)
FAITH = NhsNumber("9990000069")
"""In care, and nowhere is there an image of hers."""
EVERYBODY = (RZ2, RZ3, RZ4)
ANSWERING = dict.fromkeys(EVERYBODY, SourceState.ANSWERED)
BY_DATE = Key(("00080020",), "DA", ("20260101-20261231",))


# --- the rule ---


def negative(at: datetime, **more: datetime | SeenBy) -> Location:
    """Lately asked, and there was nothing."""
    return replace(Location(absent_at=at, absent_by=SeenBy.ANSWER, checked_at=at), **more)  # type: ignore[arg-type]  # by name


def unasked(
    location: Location,
    *,
    heard_at: datetime | None = NOON,
    identity_changed_at: datetime | None = None,
    unsettled: frozenset[TrustId] = frozenset(),
) -> bool:
    """Whether a trust of which this is known is left unasked at noon."""
    feeds = {RZ2: heard_at} if heard_at is not None else {}
    knowledge = Knowledge({RZ2: location}, feeds, unsettled, identity_changed_at)
    return locate.left_out(knowledge, ANSWERING, SETTINGS, NOON).unasked == {RZ2}


def test_a_trust_is_left_unasked_on_a_fresh_negative_of_a_live_feed() -> None:
    assert unasked(negative(NOON - MINUTE))


@pytest.mark.parametrize(("age", "is_unasked"), [(15 * MINUTE, True), (15.01 * MINUTE, False), (-MINUTE, False)])
def test_a_negative_is_good_for_so_many_minutes_and_never_from_the_future(age: timedelta, is_unasked: bool) -> None:
    assert unasked(negative(NOON - age)) is is_unasked


@pytest.mark.parametrize(("silence", "is_unasked"), [(10 * MINUTE, True), (10.01 * MINUTE, False), (-MINUTE, False)])
def test_a_feed_that_falls_silent_is_relied_on_no_more(silence: timedelta, is_unasked: bool) -> None:
    assert unasked(negative(NOON - MINUTE), heard_at=NOON - silence) is is_unasked


def test_a_feed_that_was_never_heard_or_is_not_configured_counts_for_nothing() -> None:
    assert not unasked(negative(NOON), heard_at=None)
    knowledge = Knowledge({RZ4: negative(NOON)}, {RZ4: NOON})
    assert locate.left_out(knowledge, ANSWERING, SETTINGS, NOON) == locate.NOBODY


@pytest.mark.parametrize("of_whom", [Location(), Location(present_at=NOON, checked_at=NOON)])
def test_imaging_or_ignorance_is_no_negative(of_whom: Location) -> None:
    assert not unasked(of_whom)


def test_imaging_seen_since_or_at_once_ends_a_negative() -> None:
    for seen_at in (NOON - MINUTE, NOON):
        assert not unasked(negative(NOON - MINUTE, present_at=seen_at, present_by=SeenBy.ANSWER))
    assert unasked(negative(NOON, present_at=NOON - MINUTE, present_by=SeenBy.ANSWER))


def test_a_trusts_own_word_outlives_an_archive_that_does_not_find_the_study_yet() -> None:
    assert not unasked(negative(NOON, present_at=NOON - MINUTE, present_by=SeenBy.NOTIFICATION))
    assert unasked(negative(NOON, present_at=NOON - 15.1 * MINUTE, present_by=SeenBy.NOTIFICATION))


def test_a_trust_that_told_of_a_study_of_nobody_knows_whom_is_asked_and_its_answer_told_as_before() -> None:
    assert not unasked(negative(NOON - MINUTE), unsettled=frozenset({RZ2}))
    assert unasked(negative(NOON - MINUTE), unsettled=frozenset({RZ3}))
    knowledge = Knowledge({RZ2: negative(NOON - MINUTE)}, {RZ2: NOON}, frozenset({RZ2}))
    assert locate.left_out(knowledge, ANSWERING, SETTINGS, NOON).checked == {RZ2}


def test_what_is_older_than_a_merge_counts_for_nothing() -> None:
    assert not unasked(negative(NOON - MINUTE), identity_changed_at=NOON - MINUTE)
    assert unasked(negative(NOON - MINUTE), identity_changed_at=NOON - 2 * MINUTE)


def test_knowing_one_trust_excludes_no_other() -> None:
    here = Location(present_at=NOON, present_by=SeenBy.ANSWER, checked_at=NOON)
    knowledge = Knowledge({RZ2: here}, {RZ2: NOON, RZ3: NOON})
    assert locate.left_out(knowledge, ANSWERING, SETTINGS, NOON).unasked == frozenset()


def test_when_nobody_who_answers_would_be_left_everybody_is_asked() -> None:
    nothing = Knowledge({RZ2: negative(NOON), RZ3: negative(NOON)}, {RZ2: NOON, RZ3: NOON})
    two = {RZ2: SourceState.ANSWERED, RZ3: SourceState.ANSWERED}
    assert locate.left_out(nothing, two, SETTINGS, NOON) == locate.NOBODY
    assert locate.left_out(nothing, {**two, RZ4: SourceState.UNREACHABLE}, SETTINGS, NOON) == locate.NOBODY
    assert locate.left_out(nothing, ANSWERING, SETTINGS, NOON).unasked == {RZ2, RZ3}


def test_a_trust_that_fails_is_not_left_out_but_told() -> None:
    nothing = Knowledge({RZ2: negative(NOON)}, {RZ2: NOON})
    failing = {**ANSWERING, RZ2: SourceState.BACKING_OFF}
    assert locate.left_out(nothing, failing, SETTINGS, NOON) == locate.NOBODY


@pytest.mark.parametrize("purpose", PurposeOfUse)
def test_in_an_emergency_everybody_is_asked(purpose: PurposeOfUse) -> None:
    is_emergency = purpose.value in ("ETREAT", "ERTREAT", "BTG")
    assert locate.may_leave_out(pinned_scope(asking_for(ANNE)), purpose) is not is_emergency


def test_a_question_for_a_study_asks_everybody() -> None:
    for query in (asking_for_study("1.2.3"), asking_for(ANNE, Key(("0020000D",), "UI", ("1.2.3",)))):
        assert not locate.may_leave_out(pinned_scope(query), PurposeOfUse.TREAT)


@pytest.mark.parametrize(
    ("query", "is_whole"),
    [
        (asking_for(ANNE), True),
        (asking_for(ANNE, level=Level.PATIENT), True),
        (asking_for(ANNE, born="19580314"), True),
        (asking_for(ANNE, Key(("00080061",), "CS", ("*",))), True),
        (asking_for(ANNE, Key(("00080061",), "CS", ("CT",))), False),
        (asking_for(ANNE, BY_DATE), False),
        (asking_for(ANNE, level=Level.SERIES), False),
        (asking_for_study("1.2.3"), False),
    ],
)
def test_only_a_question_for_everything_of_a_patient_can_find_nothing(query: Query, is_whole: bool) -> None:
    scope = pinned_scope(query)
    assert locate.asks_for_everything(for_peers(query, scope), scope) is is_whole


# --- what answers teach ---


def taught(query: Query, judgement: Judgement, *parts: Part) -> dict[tuple[NhsNumber, TrustId], bool | None]:
    """What is learnt of whom and where."""
    scope = pinned_scope(query)
    learnt = locate.learnt(for_peers(query, scope), scope, judgement, parts, locate.NOBODY, NOON)
    return {(each.patient, each.trust): each.has_imaging for each in learnt}


def test_rows_teach_presence_and_silence_absence() -> None:
    seen = Judgement((found(RZ2, row("1.2.3")),), ())
    parts = (Part(RZ2, SourceState.ANSWERED, 1), Part(RZ3, SourceState.ANSWERED), Part(RZ4, SourceState.TIMED_OUT))
    assert taught(asking_for(ANNE), seen, *parts) == {(ANNE, RZ2): True, (ANNE, RZ3): False}


def test_rows_that_are_not_the_patients_teach_neither() -> None:
    assert taught(asking_for(ANNE), Judgement((), ()), Part(RZ2, SourceState.ANSWERED, 3)) == {(ANNE, RZ2): None}


def test_a_cut_answer_teaches_no_absence() -> None:
    assert taught(asking_for(ANNE), Judgement((), ()), Part(RZ2, SourceState.TRUNCATED)) == {(ANNE, RZ2): None}


def test_a_narrow_question_teaches_presence_alone() -> None:
    seen = Judgement((found(RZ2, row("1.2.3")),), ())
    parts = (Part(RZ2, SourceState.ANSWERED, 1), Part(RZ3, SourceState.ANSWERED))
    assert taught(asking_for(ANNE, BY_DATE), seen, *parts) == {(ANNE, RZ2): True}
    assert taught(asking_for_study("1.2.3"), seen, *parts) == {(ANNE, RZ2): True}


# --- over time: worlds that must look alike, and what may never be missed ---


@dataclass
class World:
    """One patient in one world: where there is imaging, and whether it is shown; with an index of its own."""

    imaging: frozenset[TrustId] = frozenset()
    is_shown: bool = True
    is_hidden: bool = False
    """Whether a register withholds the patient before anybody is asked."""
    known: dict[TrustId, Location] = field(default_factory=dict)
    feeds: dict[TrustId, datetime] = field(default_factory=dict)
    absent_at: dict[TrustId, datetime] = field(default_factory=dict)
    unsettled: frozenset[TrustId] = frozenset()

    def ask(self, query: Query, purpose: PurposeOfUse, failing: frozenset[TrustId], now: datetime) -> Sequence[Part]:
        """Ask, learn, and see what the answer says of every trust."""
        scope = pinned_scope(query)
        states = {t: SourceState.UNREACHABLE if t in failing else SourceState.ANSWERED for t in EVERYBODY}
        out = locate.NOBODY
        if locate.may_leave_out(scope, purpose):
            out = locate.left_out(Knowledge(self.known, self.feeds, self.unsettled), states, SETTINGS, now)
        question = for_peers(query, scope)
        if self.is_hidden:
            parts = [Part(trust, state) for trust, state in states.items()]
            self.note(locate.feigned(question, scope, parts, out, now))
            return locate.as_told(parts, out, ())
        answering = {t for t in EVERYBODY if t not in out.unasked and t not in failing}
        seen = answering & self.imaging
        parts = [Part(t, states[t], int(t in seen)) for t in EVERYBODY if t not in out.unasked]
        judgement = Judgement(tuple(found(trust, row("1.2.3")) for trust in sorted(seen)), ())
        self.note(locate.learnt(question, scope, judgement, parts, out, now))
        if locate.asks_for_everything(question, scope):
            self.absent_at |= dict.fromkeys(answering - seen, now)
        whole = sorted([*parts, *map(locate.unasked_part, out.unasked)], key=lambda part: part.trust)
        return locate.as_told(whole, out, seen if self.is_shown else ())

    def note(self, sightings: Sequence[Sighting]) -> None:
        for each in sightings:
            location = entry_of(each, STAND_INS).location
            self.known[each.trust] = merged(self.known.get(each.trust, Location()), location)


@dataclass(frozen=True)
class Step:
    """What happens in every world alike."""

    minutes: float
    query: Query
    purpose: PurposeOfUse
    failing: frozenset[TrustId]
    heard: frozenset[TrustId]


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.0, 0.5, 4.0, 9.0, 15.0, 40.0]),
        st.sampled_from([asking_for(ANNE), asking_for(ANNE), asking_for(ANNE, BY_DATE), asking_for_study("1.2.3")]),
        st.sampled_from([PurposeOfUse.TREAT, PurposeOfUse.TREAT, PurposeOfUse.ETREAT]),
        st.frozensets(st.sampled_from(EVERYBODY), max_size=2),
        st.frozensets(st.sampled_from(EVERYBODY)),
    ),
    max_size=12,
)
PLACES = st.frozensets(st.sampled_from(EVERYBODY))


def told(part: Part) -> tuple[TrustId, SourceState, NotAskedReason | None]:
    """What an answer says of a trust."""
    return part.trust, part.state, part.reason


@given(STEPS, PLACES, st.lists(st.tuples(PLACES, PLACES), max_size=12))
def test_what_is_withheld_is_told_like_what_is_not_there_whatever_was_asked_before(
    steps: list[Step], imaging: frozenset[TrustId], notices: list[tuple[frozenset[TrustId], frozenset[TrustId]]]
) -> None:
    worlds = [World(), World(imaging, is_shown=False), World(imaging, is_hidden=True)]
    now = NOON
    for number, step in enumerate(steps):
        now += step.minutes * MINUTE
        answers = []
        unsettled, settled = notices[number] if number < len(notices) else (frozenset(), frozenset())
        for world in worlds:
            # Trusts tell of what they have: where there is nothing they tell nothing.
            world.unsettled = unsettled & world.imaging
            world.note([locate.notified(ANNE, trust, now) for trust in sorted(settled & world.imaging)])
            world.feeds |= dict.fromkeys(step.heard, now)
            answers.append([told(part) for part in world.ask(step.query, step.purpose, step.failing, now)])
        assert answers[0] == answers[1] == answers[2]


@given(STEPS, st.lists(st.tuples(st.sampled_from(EVERYBODY), st.booleans()), max_size=12))
def test_imaging_is_missed_only_where_a_negative_is_fresh_and_nobody_told(
    steps: list[Step], arrivals: list[tuple[TrustId, bool]]
) -> None:
    """Beside it a world without an index, which asks everybody: its rows are the truth."""
    world, now, was_told = World(), NOON, set[TrustId]()
    for number, step in enumerate(steps):
        now += step.minutes * MINUTE
        if number < len(arrivals):
            trust, is_told = arrivals[number]
            world.imaging |= {trust}
            if is_told:
                was_told.add(trust)
                world.note([locate.notified(ANNE, trust, now)])
        world.feeds |= dict.fromkeys(step.heard, now)
        parts = world.ask(step.query, step.purpose, step.failing, now)
        missed = {part.trust for part in parts if part.state is SourceState.NOT_ASKED} & world.imaging
        assert not missed & was_told
        assert all(now - world.absent_at[trust] <= 15 * MINUTE for trust in missed)
        assert all(now - world.feeds[trust] <= 10 * MINUTE for trust in missed)
        assert not missed or (step.purpose is PurposeOfUse.TREAT and step.query != asking_for_study("1.2.3"))


# --- through the door ---


@pytest.fixture
def notebook(store: SqlStore, clock: FakeClock) -> Notebook:
    """Written to when a test says so."""
    return Notebook(store, clock, STAND_INS, max_age_days=100)


async def described(region: Region, notebook: Notebook) -> Region:
    """RZ1 asks. Anne is at RZ2; Ben, opted out, at RZ2; Clara's one study at RZ2 is labelled; Faith is nowhere."""
    region.locations = notebook
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.1", of=ANNE).with_study("1.2.2", of=BEN).with_study("1.2.3", of=CLARA)
    region.trust("RZ3")
    region.trust("RZ4")
    for patient in (ANNE, BEN, CLARA, FAITH):
        await region.refer(patient, to="RZ1")
    await region.opt_out(BEN)
    await region.label(CLARA, "RZ2")
    await region.prepare()
    return region


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock, notebook: Notebook) -> Region:
    """The region with an index; the feeds of RZ2 and RZ3 are live."""
    region = await described(Region(store, clock, sharing=SETTINGS), notebook)
    await heartbeat(notebook, clock)
    return region


async def heartbeat(notebook: Notebook, clock: FakeClock) -> None:
    """Hear every feed."""
    for trust in (RZ2, RZ3, RZ4):
        await notebook.heard(trust, clock.now())


@contextmanager
def counting(region: Region) -> Iterator[Callable[[], list[int]]]:
    """How often each archive is asked within the context."""
    archives = [region.trust(trust.code).pacs for trust in EVERYBODY]
    before = [len(archive.requests) for archive in archives]
    yield lambda: [len(archive.requests) - n for archive, n in zip(archives, before, strict=True)]


async def answer(region: Region, notebook: Notebook, query: Query) -> list[str]:
    """Ask; what became of each trust, and let what was learnt be written."""
    matches = await region.find(query)
    await notebook.write()
    return [f"{source.state.value} {source.not_asked_because or ''}".strip() for source in matches.sources]


AGAIN = ["not-asked recently-checked", "not-asked recently-checked", "answered"]


async def test_who_answered_that_there_is_nothing_is_not_asked_again_so_soon(
    region: Region, notebook: Notebook
) -> None:
    assert await answer(region, notebook, asking_for(FAITH)) == ["answered"] * 3
    with counting(region) as asked:
        assert await answer(region, notebook, asking_for(FAITH)) == AGAIN
        assert asked() == [0, 0, 1]


async def test_a_trust_that_has_imaging_is_always_asked(region: Region, notebook: Notebook) -> None:
    for _ in range(3):
        assert (await answer(region, notebook, asking_for(ANNE)))[0] == "answered"
    matches = await region.find(asking_for(ANNE))
    assert [match.study_uid for match in matches.rows] == ["1.2.1"]


@pytest.mark.parametrize("withheld", [BEN, CLARA], ids=["opted out", "labelled"])
async def test_who_is_withheld_is_told_like_who_is_nowhere_time_after_time(
    region: Region, notebook: Notebook, clock: FakeClock, withheld: NhsNumber
) -> None:
    chance = random.Random(7)
    for _ in range(25):
        more = chance.choice([(), (), (BY_DATE,)])
        one = await answer(region, notebook, asking_for(withheld, *more))
        assert one == await answer(region, notebook, asking_for(FAITH, *more))
        await clock.advance(60 * chance.choice([0.5, 4, 8, 16]))
        if chance.random() < 0.7:
            await heartbeat(notebook, clock)


def recorded(entry: dict[str, JsonValue]) -> list[str]:
    """What an outcome's record says became of each trust."""
    body = entry["body"]
    assert isinstance(body, dict) and isinstance(body["sources"], list)
    sources = [source for source in body["sources"] if isinstance(source, dict)]
    return [f"{source['state']} {source.get('reason', '')}".strip() for source in sources]


async def test_the_audit_tells_who_was_really_asked(region: Region, notebook: Notebook) -> None:
    for patient in (CLARA, FAITH):
        for _ in range(2):
            await answer(region, notebook, asking_for(patient))
    states = [recorded(entry) for entry in await region.records("query-outcome")]
    assert states[1] == ["answered", "not-asked recently-checked", "answered"]
    assert states[3] == AGAIN


async def test_a_notified_study_is_found_at_once(region: Region, notebook: Notebook, clock: FakeClock) -> None:
    assert await answer(region, notebook, asking_for(FAITH)) == ["answered"] * 3
    region.trust("RZ3").with_study("1.2.9", of=FAITH)
    assert (await region.find(asking_for(FAITH))).rows == ()
    await notebook.heard(RZ3, clock.now(), [locate.notified(FAITH, RZ3, clock.now())])
    assert [match.study_uid for match in (await region.find(asking_for(FAITH))).rows] == ["1.2.9"]


async def test_a_merge_makes_everybody_be_asked(region: Region, notebook: Notebook, store: SqlStore) -> None:
    await answer(region, notebook, asking_for(FAITH))
    rows = [await _row(store, patient) for patient in (FAITH, ANNE)]
    await store.write(lambda tx: merges.merge(tx, rows[0], rows[1], MergeBasis.TWO_PEOPLE, CLERK))
    assert await answer(region, notebook, asking_for(FAITH)) == ["answered"] * 3


async def _row(store: SqlStore, number: NhsNumber) -> str:
    found_row = await store.read(lambda read: patients.find(read, patients.nhs(number)))
    assert found_row is not None
    return found_row


async def test_an_index_that_cannot_be_read_leaves_nobody_out(
    region: Region, notebook: Notebook, store: SqlStore
) -> None:
    await answer(region, notebook, asking_for(FAITH))
    await region.lose("patient_location")
    assert await answer(region, notebook, asking_for(FAITH)) == ["answered"] * 3


async def test_without_a_live_feed_everybody_is_asked(region: Region, notebook: Notebook, clock: FakeClock) -> None:
    await answer(region, notebook, asking_for(FAITH))
    await clock.advance(601)
    assert await answer(region, notebook, asking_for(FAITH)) == ["answered"] * 3


async def test_a_page_follows_its_first_page(region: Region, notebook: Notebook) -> None:
    region.trust("RZ4").with_study("1.3.1", of=FAITH).with_study("1.3.2", of=FAITH)
    await answer(region, notebook, asking_for(FAITH))
    first = await region.find(replace(asking_for(FAITH), limit=1))
    second = await region.find(replace(asking_for(FAITH), limit=1, offset=1), snapshot=first.snapshot)
    assert [source.state for source in second.sources] == [source.state for source in first.sources]
    assert first.sources[0].state is SourceState.NOT_ASKED


async def test_haste_does_not_tell_who_was_not_asked(store: SqlStore, clock: FakeClock, notebook: Notebook) -> None:
    region = await described(Region(store, clock, sharing=TIMED), notebook)
    await heartbeat(notebook, clock)
    region.trust("RZ2").pacs.slow(0.7)
    await clock.run(region.peers.probe(lambda: "2.25.1"))
    durations = []
    for patient in (CLARA, BEN, FAITH):
        for _ in range(2):
            began = clock.monotonic()
            await answer(region, notebook, asking_for(patient))
            durations.append(clock.monotonic() - began)
    assert durations == pytest.approx([0.7] * 6, abs=0.021)


# --- sampling ---


async def test_a_sample_teaches_and_asks_for_nobody_who_opted_out(
    region: Region, notebook: Notebook, clock: FakeClock
) -> None:
    sampling = region.sampling.sample([ANNE, BEN, FAITH], [RZ2, RZ3], "sample-1")
    await clock.run(sampling, is_busy=region.store.is_busy)
    await notebook.write()
    assert (await notebook.known(ANNE)).locations[RZ2].present_by is SeenBy.SAMPLE
    assert not region.trust("RZ2").pacs.asked_for(BEN)
    assert not region.trust("RZ4").pacs.requests
    assert await answer(region, notebook, asking_for(FAITH)) == AGAIN
    assert await answer(region, notebook, asking_for(BEN)) == AGAIN
    (entry,) = await region.records("location-sample")
    assert entry["body"] == {"patients": [ANNE.digits, FAITH.digits], "trusts": ["RZ2", "RZ3"]}


async def test_a_sample_asks_for_no_more_patients_than_it_may(
    region: Region, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sharing.locations.sampling.SAMPLES_MAX", 2)
    sampling = region.sampling.sample([ANNE, FAITH, CLARA], [RZ2], "sample-1")
    await clock.run(sampling, is_busy=region.store.is_busy)
    assert len(region.trust("RZ2").pacs.requests) == 2


async def test_a_sample_asks_an_archive_by_the_numbers_it_files_under(
    store: SqlStore, clock: FakeClock, notebook: Notebook
) -> None:
    region = Region(store, clock, sharing=SETTINGS)
    region.locations = notebook
    archive = region.trust("RZ2").filing_under("RZ2-PAS", asked_by=PatientIdAsked.LOCAL)
    archive.with_study("1.2.1", of=None, patient_id="A17")
    await region.link(ANNE, "RZ2-PAS", "A17")
    await region.register_local("RZ2-PAS", "B18")
    await clock.run(region.sampling.sample([ANNE, FAITH], [RZ2], "sample-1"), is_busy=region.store.is_busy)
    await notebook.write()
    assert (await notebook.known(ANNE)).locations[RZ2].present_at is not None
    # Nobody could ask that archive for Faith, so that nothing is known of her there.
    assert (await notebook.known(FAITH)).locations == {}
