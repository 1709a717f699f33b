"""What trusts tell of new studies by themselves: who may, what is learnt of it, and what is never missed by it (C7)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from gateway.model.errors import InvalidRequest, OverCapacity, ServiceFault
from gateway.model.locations import Notice, SeenBy
from gateway.model.settings import Limits, SharingSettings
from gateway.sharing.directory import Directory, PatientIdAsked
from gateway.sharing.identity.people import People
from gateway.sharing.locations.notices import CLAIMED_S, LOOK_INTERVAL_S, RETRY_FIRST_S, Notices
from gateway.sharing.locations.rounds import Rounds
from gateway.sharing.locations.sampling import Sampling
from policy.parties import NhsNumber, PrincipalKind, TrustId
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import KEY_BYTES, Pseudonyms
from storage.store import SqlStore
from tests.clock import FakeClock, settle
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, RZ2, RZ3, RZ4, asking_for

HANG_S = 30.0
SETTINGS = SharingSettings(absence_timing=False, location_feeds=frozenset({"RZ2", "RZ3"}))
FAITH = NhsNumber("9990000069")
NEW = Notice("1.2.9", 12, is_available=True)


class Tally:
    """Figures, kept."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.rounds: list[int | None] = []
        self.lapsed = 0
        self.waiting: Mapping[TrustId, int] = {}

    def notice_heard(self, trust: TrustId, result: str) -> None:
        """See `CountsNotices`."""
        self.heard[f"{trust.code} {result}"] += 1

    def notices_lapsed(self, count: int) -> None:
        """See `CountsNotices`."""
        self.lapsed += count

    def notices_waiting(self, by_trust: Mapping[TrustId, int]) -> None:
        """See `CountsNotices`."""
        self.waiting = by_trust

    def sampled(self, patients: int, at: datetime) -> None:
        """See `CountsSamples`."""
        self.rounds.append(patients)

    def sampling_failed(self) -> None:
        """See `CountsSamples`."""
        self.rounds.append(None)


class RestingClock:
    """The test's clock, which says when the work in the background has nothing left to do until it is moved."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._is_resting = asyncio.Event()
        self.now, self.monotonic, self.advance = clock.now, clock.monotonic, clock.advance

    async def sleep(self, delay_s: float) -> None:
        """See `Clock`."""
        if delay_s == LOOK_INTERVAL_S:
            self._is_resting.set()
        try:
            await self._clock.sleep(delay_s)
        finally:
            self._is_resting.clear()

    async def rest(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and wait until what is due then is worked off."""
        await self._clock.advance(seconds)
        await settle()
        async with asyncio.timeout(HANG_S):
            await self._is_resting.wait()


@pytest.fixture
def notebook(store: SqlStore, clock: FakeClock) -> Notebook:
    """Written to when a test says so."""
    return Notebook(store, clock, Pseudonyms(b"k" * KEY_BYTES), max_age_days=100)


@pytest.fixture
def tally() -> Tally:
    """The figures of one test."""
    return Tally()


@pytest.fixture
async def region(store: SqlStore, clock: FakeClock, notebook: Notebook) -> Region:
    """RZ1 asks; RZ2's and RZ3's feeds are live, RZ4 has none. Nobody has images of Anne, Ben (opted out) and Faith."""
    region = Region(store, clock, sharing=SETTINGS)
    region.locations = notebook
    for code in ("RZ1", "RZ2", "RZ3", "RZ4"):
        region.trust(code)
    for patient in (ANNE, BEN, FAITH):
        await region.refer(patient, to="RZ1")
    await region.opt_out(BEN)
    await region.prepare()
    for trust in (RZ2, RZ3):
        await notebook.heard(trust, clock.now())
    return region


@pytest.fixture
def time(clock: FakeClock) -> RestingClock:
    """The clock of the work in the background."""
    return RestingClock(clock)


@pytest.fixture
def notices(region: Region, notebook: Notebook, tally: Tally, time: RestingClock) -> Notices:
    """Who takes notices; two of a trust may wait."""
    limits = Limits(location_notices_waiting_max=2)
    return Notices(notebook, lambda: region.sampling, SETTINGS, limits, time, tally, new_id=region.new_id)


@asynccontextmanager
async def working(notices: Notices) -> AsyncIterator[None]:
    """Look into notices while the context is."""
    task = asyncio.create_task(notices.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def states(region: Region, patient: NhsNumber, notebook: Notebook) -> list[str]:
    """What becomes of each trust when RZ1 asks for a patient."""
    matches = await region.find(asking_for(patient))
    await notebook.write()
    return [f"{source.state.value} {source.not_asked_because or ''}".strip() for source in matches.sources]


CHECKED = "not-asked recently-checked"


async def test_a_notified_study_is_found_although_its_trust_was_lately_checked(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock, tally: Tally
) -> None:
    await states(region, FAITH, notebook)
    assert await states(region, FAITH, notebook) == [CHECKED, CHECKED, "answered"]
    region.trust("RZ2").with_study("1.2.9", of=FAITH)
    async with working(notices):
        await notices.take(region.caller("RZ2"), NEW)
        await time.rest()
    knowledge = await notebook.known(FAITH)
    assert knowledge.locations[RZ2].present_by is SeenBy.NOTIFICATION and knowledge.unsettled == frozenset()
    assert [match.study_uid for match in (await region.find(asking_for(FAITH))).rows] == ["1.2.9"]
    assert tally.heard == {"RZ2 taken": 1, "RZ2 settled": 1}


async def test_from_the_moment_that_a_trust_is_heard_its_new_study_is_not_missed(
    region: Region, notebook: Notebook, notices: Notices
) -> None:
    await states(region, FAITH, notebook)
    region.trust("RZ2").with_study("1.2.9", of=FAITH)
    # Nobody has looked into it yet, and the gateway may stop before anybody does.
    await notices.take(region.caller("RZ2"), NEW)
    assert [match.study_uid for match in (await region.find(asking_for(FAITH))).rows] == ["1.2.9"]


async def test_nobody_but_the_trust_itself_is_asked_and_the_audit_says_for_what(
    region: Region, notices: Notices, time: RestingClock
) -> None:
    region.trust("RZ3").with_study("1.2.9", of=ANNE)
    async with working(notices):
        await notices.take(region.caller("RZ3"), NEW)
        await time.rest()
    assert [len(region.trust(code).pacs.requests) for code in ("RZ2", "RZ3", "RZ4")] == [0, 1, 0]
    (entry,) = await region.records("location-sample")
    assert entry["body"] == {"studies": ["1.2.9"], "trusts": ["RZ3"]}


async def test_who_opted_out_is_told_as_before_whatever_was_notified(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock
) -> None:
    assert await states(region, BEN, notebook) == await states(region, FAITH, notebook)
    region.trust("RZ2").with_study("1.2.9", of=BEN)
    await notices.take(region.caller("RZ2"), NEW)
    assert await states(region, BEN, notebook) == await states(region, FAITH, notebook)
    async with working(notices):
        await time.rest()
    told = [await states(region, patient, notebook) for patient in (BEN, FAITH)]
    assert told == [[CHECKED, CHECKED, "answered"]] * 2


async def test_a_study_under_a_number_of_the_trusts_own_is_its_linked_patients(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock
) -> None:
    archive = region.rebuilt().trust("RZ2").filing_under("RZ2-PAS", asked_by=PatientIdAsked.LOCAL)
    archive.with_study("1.2.9", of=None, patient_id="A17")
    await region.link(ANNE, "RZ2-PAS", "A17")
    async with working(notices):
        await notices.take(region.caller("RZ2"), NEW)
        await time.rest()
    assert (await notebook.known(ANNE)).locations[RZ2].present_at is not None


async def test_an_archive_that_does_not_show_the_study_yet_is_asked_again_later_and_later(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock
) -> None:
    pacs, counts = region.trust("RZ2").pacs, []
    async with working(notices):
        await notices.take(region.caller("RZ2"), NEW)
        await time.rest()
        for _ in range(8):
            counts.append(len(pacs.requests))
            await time.rest(LOOK_INTERVAL_S)
        assert (await notebook.known(FAITH)).unsettled == {RZ2}
        region.trust("RZ2").with_study("1.2.9", of=FAITH)
        await time.rest(8 * RETRY_FIRST_S)
    assert counts == [1, 1, 2, 2, 2, 2, 3, 3]
    assert (await notebook.known(FAITH)).unsettled == frozenset()


async def test_a_study_that_is_never_shown_is_forgotten_once_it_can_mislead_nobody(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock, tally: Tally
) -> None:
    async with working(notices):
        await notices.take(region.caller("RZ2"), NEW)
        await time.rest()
        # Twice as long as a negative is believed: so late an archive may have said that it does not find the study.
        await time.rest(2 * 60 * SETTINGS.index_negative_max_age_minutes)
        assert (await notebook.known(FAITH)).unsettled == {RZ2} and tally.lapsed == 0
        await time.rest(LOOK_INTERVAL_S)
        assert (await notebook.known(FAITH)).unsettled == frozenset() and tally.lapsed == 1


async def test_a_trust_that_is_down_is_not_pestered_and_its_word_is_kept(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock
) -> None:
    archive = region.trust("RZ2").down()
    for uid in ("1.2.1", "1.2.2"):
        await notices.take(region.caller("RZ2"), replace(NEW, study_uid=uid))
    async with working(notices):
        await time.rest()
        await time.rest(LOOK_INTERVAL_S)
        # One question showed that it is down: the other study waits.
        assert len(archive.pacs.requests) == 1
        archive.pacs.up()
        archive.with_study("1.2.1", of=FAITH).with_study("1.2.2", of=FAITH)
        await time.rest(RETRY_FIRST_S)
    assert await notebook.waiting() == {}


async def test_a_trust_in_planned_downtime_or_without_an_archive_by_now_is_not_asked(
    region: Region, notebook: Notebook, tally: Tally, time: RestingClock
) -> None:
    gate, left = region.gate, frozenset({RZ2})
    people = People(gate.store, Directory([], []), region.identity)
    sampling = Sampling(gate, region.peers, people, notebook, region.limits, left_alone=lambda: left)
    notices = Notices(notebook, lambda: sampling, SETTINGS, Limits(), time, tally, new_id=region.new_id)
    await notices.take(region.caller("RZ2"), NEW)
    await notebook.told(TrustId("RZ9"), "1.2.9", time.now(), 10)
    async with working(notices):
        await time.rest()
    await region.clock.run(sampling.sample([FAITH], [RZ2], "sample-1"), is_busy=region.store.is_busy)
    assert not region.trust("RZ2").pacs.requests
    assert await notebook.waiting() == {RZ2: 1, TrustId("RZ9"): 1}


async def test_one_trusts_silence_keeps_no_other_waiting(
    region: Region, notices: Notices, time: RestingClock, tally: Tally
) -> None:
    region.trust("RZ2").stalled()
    region.trust("RZ3").with_study("1.2.9", of=FAITH)
    async with working(notices):
        for code in ("RZ2", "RZ3"):
            await notices.take(region.caller(code), NEW)
        await region.at_the_peers("RZ2")
        await region.at_the_peers("RZ3")
        await region.until_idle()
        await time.rest(region.limits.find_timeout_s)
    assert tally.heard["RZ3 settled"] == 1 and not tally.heard["RZ2 settled"]


async def test_a_study_of_which_nothing_can_be_had_teaches_nothing_and_is_a_sign_of_life(
    region: Region, notebook: Notebook, notices: Notices, clock: FakeClock
) -> None:
    await clock.advance(500)
    await notices.take(region.caller("RZ2"), replace(NEW, is_available=False))
    knowledge = await notebook.known(FAITH)
    assert await notebook.waiting() == {} and knowledge.unsettled == frozenset()
    assert (await notebook.feeds())[RZ2] == clock.now()


async def test_a_heartbeat_keeps_a_feed_live(
    region: Region, notebook: Notebook, notices: Notices, clock: FakeClock
) -> None:
    await clock.advance(500)
    await notices.heartbeat(region.caller("RZ2"))
    heard_at = clock.now()
    assert (await notebook.feeds())[RZ2] == heard_at
    await clock.advance(9)
    await notices.heartbeat(region.caller("RZ2"))
    assert (await notebook.feeds())[RZ2] == heard_at
    await clock.advance(1)
    await notices.heartbeat(region.caller("RZ2"))
    assert (await notebook.feeds())[RZ2] == clock.now()


async def test_one_more_than_may_wait_is_refused_and_nobody_is_missed_by_it(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock, tally: Tally
) -> None:
    await states(region, FAITH, notebook)
    region.trust("RZ2").with_study("1.2.3", of=FAITH).with_study("1.2.1", of=ANNE).with_study("1.2.2", of=ANNE)
    for uid in ("1.2.1", "1.2.2"):
        await notices.take(region.caller("RZ2"), replace(NEW, study_uid=uid))
    with capture_logs() as logged, pytest.raises(OverCapacity):
        await notices.take(region.caller("RZ2"), replace(NEW, study_uid="1.2.3"))
    assert [event["event"] for event in logged] == ["availability notice dropped"]
    async with working(notices):
        await time.rest()
    assert (tally.heard["RZ2 settled"], tally.heard["RZ2 dropped"]) == (2, 1)
    assert [match.study_uid for match in (await region.find(asking_for(FAITH))).rows] == ["1.2.3"]


async def test_a_notice_that_cannot_be_read_lets_nobody_be_missed(
    region: Region, notebook: Notebook, notices: Notices
) -> None:
    await states(region, FAITH, notebook)
    region.trust("RZ2").with_study("1.2.9", of=FAITH)
    await notices.not_read(region.caller("RZ2"))
    assert [match.study_uid for match in (await region.find(asking_for(FAITH))).rows] == ["1.2.9"]


@pytest.mark.parametrize("kind", [PrincipalKind.CLINICIAN, PrincipalKind.OFFICER])
async def test_only_a_trusts_system_tells_of_studies(
    region: Region, notebook: Notebook, notices: Notices, kind: PrincipalKind
) -> None:
    with pytest.raises(InvalidRequest):
        await notices.take(region.caller("RZ2", kind=kind), NEW)
    assert await notebook.waiting() == {}


async def test_a_trust_without_an_archive_here_has_nothing_to_tell(region: Region, notices: Notices) -> None:
    region.rebuilt().trust("RZ2").without_archive()
    with pytest.raises(InvalidRequest):
        await notices.take(region.caller("RZ2"), NEW)


async def test_while_nothing_can_be_recorded_nobody_is_asked_and_the_work_goes_on_after(
    region: Region, notebook: Notebook, notices: Notices, time: RestingClock
) -> None:
    region.trust("RZ2").with_study("1.2.9", of=FAITH)
    await notices.take(region.caller("RZ2"), NEW)
    region.store.failing_appends = range(1, 1_000)
    async with working(notices):
        await time.rest()
        assert not region.trust("RZ2").pacs.requests
        region.store.failing_appends = range(0)
        await time.rest(CLAIMED_S)
    assert await notebook.waiting() == {}


async def test_a_bug_in_the_work_ends_neither_it_nor_the_gateway(
    region: Region, notebook: Notebook, tally: Tally, time: RestingClock
) -> None:
    region.trust("RZ2").with_study("1.2.9", of=FAITH)
    sampling = Failing(region, RuntimeError("a bug"), ServiceFault("not accepting questions"))
    notices = Notices(notebook, sampling, SETTINGS, Limits(), time, tally, new_id=region.new_id)
    await notebook.told(RZ2, "1.2.9", time.now(), 10)
    with capture_logs() as logged:
        async with working(notices):
            await time.rest()
            for _ in range(2):
                await time.rest(CLAIMED_S)
    events = [each["event"] for each in logged]
    assert events == ["availability notices not looked into", "availability notices wait"]
    assert await notebook.waiting() == {}


class Failing:
    """Who may ask: first these errors, then the region's."""

    def __init__(self, region: Region, *errors: Exception) -> None:
        self._region = region
        self._errors = list(errors)

    def __call__(self) -> Sampling:
        if self._errors:
            raise self._errors.pop(0)
        return self._region.sampling


# --- sampling in the background ---


def rounds(region: Region, notebook: Notebook, tally: Tally, settings: SharingSettings = SETTINGS) -> Rounds:
    """Who samples."""
    return Rounds(notebook, lambda: region.sampling, settings, region.clock, tally, new_id=region.new_id)


async def gone_round(region: Region, work: Rounds, notebook: Notebook) -> None:
    """Let a round be gone, and what it taught be written."""
    await region.clock.run(work.go_round(), is_busy=region.store.is_busy)
    await notebook.write()


async def test_a_round_asks_only_trusts_whose_feed_is_live_for_patients_known_somewhere(
    region: Region, notebook: Notebook, tally: Tally, clock: FakeClock
) -> None:
    await states(region, FAITH, notebook)
    await clock.advance(300)
    await notebook.heard(RZ2, clock.now())
    await clock.advance(400)
    for code in ("RZ2", "RZ3", "RZ4"):
        region.trust(code).pacs.requests.clear()
    await gone_round(region, rounds(region, notebook, tally), notebook)
    assert [len(region.trust(code).pacs.requests) for code in ("RZ2", "RZ3", "RZ4")] == [1, 0, 0]
    assert region.trust("RZ2").pacs.asked_for(FAITH) and tally.rounds == [1]
    known = (await notebook.known(FAITH)).locations
    assert known[RZ2].absent_by is SeenBy.SAMPLE and known[RZ4].absent_by is SeenBy.ANSWER


async def test_a_round_asks_for_no_more_patients_than_it_may_and_the_next_one_for_the_others(
    region: Region, notebook: Notebook, tally: Tally, clock: FakeClock
) -> None:
    for patient in (ANNE, FAITH):
        await states(region, patient, notebook)
    work, pacs = rounds(region, notebook, tally, replace(SETTINGS, sample_patients_max=1)), region.trust("RZ2").pacs
    pacs.requests.clear()
    for _ in range(2):
        await clock.advance(60)
        await gone_round(region, work, notebook)
    assert [pacs.asked_for(patient) for patient in (ANNE, FAITH)] == [True, True] and len(pacs.requests) == 2


async def test_rounds_are_gone_at_intervals_and_one_that_fails_is_followed_by_the_next(
    region: Region, notebook: Notebook, tally: Tally, clock: FakeClock
) -> None:
    sampling = Failing(region, ServiceFault("not accepting questions"), RuntimeError("a bug"))
    work = Rounds(notebook, sampling, SETTINGS, clock, tally, new_id=region.new_id)
    task = asyncio.create_task(work.run())
    await clock.advance(299)
    assert tally.rounds == []
    await clock.advance(1)
    assert tally.rounds == [None]
    await clock.advance(300)
    assert tally.rounds == [None, None] and not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_live_feed_a_round_asks_nobody(
    region: Region, notebook: Notebook, tally: Tally, clock: FakeClock
) -> None:
    await states(region, FAITH, notebook)
    region.trust("RZ2").pacs.requests.clear()
    await clock.advance(601)
    await gone_round(region, rounds(region, notebook, tally), notebook)
    assert not region.trust("RZ2").pacs.requests and tally.rounds == [0]
