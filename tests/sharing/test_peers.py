"""Asking the trusts: one that is down, slow, lying or broken costs the others nothing and is named (C5, G6)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import STUDY_UID, SourceState
from gateway.model.locations import PeerStanding
from gateway.model.seams import PeerRequest, StandingBook
from gateway.model.settings import Limits
from gateway.sharing.peers import Peers, TrustAnswer
from policy.parties import TrustId
from tests.clock import FakeClock, settle
from tests.memory_archive import Archive
from tests.region import Sights
from tests.sharing.rows import RZ2, RZ3, RZ4, asking_for_study, row

LIMITS = Limits()
STUDY = row("1.2.3")


class Asked:
    """Some archives, asked by the peers under test."""

    def __init__(
        self,
        clock: FakeClock,
        limits: Limits = LIMITS,
        trusts: Sequence[TrustId] = (RZ2, RZ3, RZ4),
        book: StandingBook | None = None,
    ) -> None:
        self.clock = clock
        self.sights = Sights()
        self.empty: list[tuple[TrustId, SourceState, float]] = []
        self.archives = {trust: Archive(trust, clock).with_row(STUDY) for trust in trusts}
        self.peers = Peers(
            self.archives.values(),
            limits,
            clock,
            self.sights,
            on_empty=lambda trust, state, duration_s: self.empty.append((trust, state, duration_s)),
            book=book,
        )

    def __getitem__(self, trust: TrustId) -> Archive:
        return self.archives[trust]

    async def ask(self, *trusts: TrustId, study: str = "1.2.3") -> dict[TrustId, TrustAnswer]:
        """Ask these trusts (all if none is named), letting time pass; each one's part."""
        return await self.clock.run(self.asking(*trusts, study=study))

    async def asking(self, *trusts: TrustId, study: str = "1.2.3") -> dict[TrustId, TrustAnswer]:
        """Ask these trusts; the test moves the clock."""
        request = PeerRequest(asking_for_study(study), "request-1", 1, 100)
        answers = await self.peers.ask(request, trusts or self.archives)
        return {answer.trust: answer for answer in answers}

    async def fail(self, trust: TrustId, times: int) -> None:
        """Let a trust fail so often, and be up again."""
        self[trust].down()
        for _ in range(times):
            await self.ask(trust)
        self[trust].up()


@pytest.fixture
def asked(clock: FakeClock) -> Asked:
    """Three archives that hold the study."""
    return Asked(clock)


def states(answers: dict[TrustId, TrustAnswer]) -> list[str]:
    """The states in the order of the ODS codes."""
    assert list(answers) == sorted(answers)
    return [answer.state.value for answer in answers.values()]


async def test_every_trust_answers_for_itself(asked: Asked) -> None:
    answers = await asked.ask()
    assert states(answers) == ["answered", "answered", "answered"]
    assert all(list(answer.rows) == [STUDY] for answer in answers.values())


async def test_trusts_are_asked_at_the_same_time(asked: Asked, clock: FakeClock) -> None:
    for archive in asked.archives.values():
        archive.slow(2)
    await asked.ask()
    assert clock.monotonic() == 2


async def test_one_stalled_and_one_dead_trust_cost_the_other_nothing(asked: Asked, clock: FakeClock) -> None:
    asked[RZ2].stalled()
    asked[RZ3].down()
    answers = await asked.ask()
    assert states(answers) == ["timed-out", "unreachable", "answered"]
    assert list(answers[RZ4].rows) == [STUDY]
    assert clock.monotonic() == LIMITS.find_timeout_s


async def test_an_answer_just_before_the_deadline_counts_and_one_after_it_does_not(asked: Asked) -> None:
    asked[RZ2].slow(LIMITS.find_timeout_s - 0.001)
    asked[RZ3].slow(LIMITS.find_timeout_s + 0.001)
    assert states(await asked.ask()) == ["answered", "timed-out", "answered"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PeerUnavailable, SourceState.UNREACHABLE),
        (PeerTimeout, SourceState.TIMED_OUT),
        (PeerRefused, SourceState.REFUSED),
        (PeerProtocolError, SourceState.INVALID_ANSWER),
        (PeerError, SourceState.UNREACHABLE),
    ],
)
async def test_each_failure_is_a_state_of_that_trust(asked: Asked, error: type[PeerError], state: SourceState) -> None:
    asked[RZ2].failing(error(RZ2, "as the test says"))
    answers = await asked.ask()
    assert answers[RZ2].state is state
    assert states(answers)[1:] == ["answered", "answered"]


async def test_a_further_kind_of_known_failure_is_known_by_its_family(asked: Asked) -> None:
    class HandshakeTimeout(PeerTimeout):
        pass

    asked[RZ2].failing(HandshakeTimeout(RZ2, "as the test says"))
    assert states(await asked.ask())[0] == "timed-out"


async def test_a_failure_is_told_of_the_trust_that_was_asked(asked: Asked) -> None:
    asked[RZ2].failing(PeerUnavailable(RZ4, "a connector that confuses its trusts"))
    assert states(await asked.ask()) == ["unreachable", "answered", "answered"]


@pytest.mark.parametrize("error", [KeyError("00100020"), RuntimeError("bug"), OSError("socket"), TimeoutError()])
async def test_a_connector_with_a_bug_costs_the_others_nothing(asked: Asked, error: Exception) -> None:
    asked[RZ3].failing(error)
    answers = await asked.ask()
    assert states(answers) == ["answered", "invalid-answer", "answered"]


async def test_a_connector_with_a_bug_is_left_alone_after_some_failures(asked: Asked) -> None:
    asked[RZ3].failing(KeyError("00100020"))
    for _ in range(LIMITS.peer_failures_before_backoff):
        await asked.ask(RZ3)
    assert states(await asked.ask(RZ3)) == ["backing-off"]


async def test_a_connector_that_does_not_let_go_is_not_waited_for(asked: Asked, clock: FakeClock) -> None:
    asked[RZ3].clinging(60)
    assert states(await asked.ask()) == ["answered", "timed-out", "answered"]
    assert clock.monotonic() == LIMITS.find_timeout_s


async def test_a_cut_answer_says_so(asked: Asked) -> None:
    asked[RZ2].lying(STUDY, is_truncated=True)
    assert states(await asked.ask())[0] == "truncated"


async def test_nobody_is_asked_when_nobody_is_named(clock: FakeClock) -> None:
    assert await Asked(clock, trusts=()).ask() == {}


# --- back-off and recovery ---


async def test_a_trust_is_left_alone_after_some_failures_in_a_row(asked: Asked) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    assert states(await asked.ask()) == ["backing-off", "answered", "answered"]
    assert len(asked[RZ2].requests) == LIMITS.peer_failures_before_backoff


async def test_one_failure_fewer_is_not_enough(asked: Asked) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff - 1)
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_an_answer_between_failures_begins_the_count_anew(asked: Asked) -> None:
    for _ in range(5):
        await asked.fail(RZ2, LIMITS.peer_failures_before_backoff - 1)
        assert states(await asked.ask(RZ2)) == ["answered"]


async def test_pauses_double_up_to_the_longest(asked: Asked, clock: FakeClock) -> None:
    asked[RZ2].down()
    for _ in range(LIMITS.peer_failures_before_backoff):
        await asked.ask(RZ2)
    pauses = []
    for _ in range(8):
        began = clock.monotonic()
        while states(await asked.ask(RZ2)) == ["backing-off"]:
            await clock.advance(0.25)
        pauses.append(clock.monotonic() - began)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_trust_that_is_back_is_asked_after_the_pause_and_trusted_again(asked: Asked, clock: FakeClock) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff + 5)
    await clock.advance(LIMITS.peer_backoff_max_s)
    assert states(await asked.ask(RZ2)) == ["answered"]
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff - 1)
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_failing_for_years_is_no_problem(asked: Asked, clock: FakeClock) -> None:
    asked[RZ2].down()
    for _ in range(1_200):
        await asked.ask(RZ2)
        await clock.advance(LIMITS.peer_backoff_max_s)
    asked[RZ2].up()
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_a_trust_that_refuses_us_is_not_left_alone(asked: Asked) -> None:
    asked[RZ2].refusing()
    for _ in range(10):
        assert states(await asked.ask(RZ2)) == ["refused"]


async def test_a_refusal_is_a_sign_of_life(asked: Asked) -> None:
    for _ in range(5):
        await asked.fail(RZ2, LIMITS.peer_failures_before_backoff - 1)
        asked[RZ2].refusing()
        assert states(await asked.ask(RZ2)) == ["refused"]


async def test_what_is_garbled_or_late_counts_as_a_failure(asked: Asked) -> None:
    for archive in (asked[RZ2].garbled(), asked[RZ3].stalled()):
        for _ in range(LIMITS.peer_failures_before_backoff):
            await asked.ask(archive.trust)
        assert states(await asked.ask(archive.trust)) == ["backing-off"]


# --- limits ---


async def test_no_more_questions_are_under_way_to_one_peer_than_it_may_have(clock: FakeClock) -> None:
    asked = Asked(clock, replace(LIMITS, peer_requests_at_once_max=2))
    asked[RZ2].slow(1)
    three = await clock.run(gathered(*(asked.asking(RZ2) for _ in range(3))))
    assert [states(each) for each in three] == [["answered"]] * 3
    assert asked[RZ2].under_way_at_most == 2
    assert clock.monotonic() == 2


async def test_no_more_trusts_are_asked_at_once_than_may_be(clock: FakeClock) -> None:
    asked = Asked(clock, replace(LIMITS, peers_at_once_max=2))
    for archive in asked.archives.values():
        archive.slow(1)
    assert states(await asked.ask()) == ["answered"] * 3
    assert clock.monotonic() == 2


async def test_waiting_for_a_busy_trust_keeps_no_other_from_being_asked(clock: FakeClock) -> None:
    asked = Asked(clock, replace(LIMITS, peers_at_once_max=1, peer_requests_at_once_max=1))
    asked[RZ2].slow(2)
    earlier = asyncio.create_task(asked.asking(RZ2))
    await settle()
    later = asyncio.create_task(asked.asking(RZ2, RZ3))
    await settle()
    assert len(asked[RZ3].requests) == 1
    await clock.advance(10)
    assert states(await earlier) == ["answered"]
    assert states(await later) == ["answered", "answered"]


async def test_waiting_in_our_own_queue_is_not_the_trusts_failure(clock: FakeClock) -> None:
    """Eight answers in ten seconds each, forty questions: the trust is well, we ask too much."""
    asked = Asked(clock, replace(LIMITS, peer_requests_at_once_max=1))
    asked[RZ2].slow(LIMITS.find_timeout_s)
    asked[RZ2].slow(4.5)
    await clock.run(gathered(*(asked.asking(RZ2) for _ in range(20))))
    asked[RZ2].up()
    assert states(await asked.ask(RZ2)) == ["answered"]


async def gathered(*questions: object) -> list[dict[TrustId, TrustAnswer]]:
    """Several questions at once."""
    return await asyncio.gather(*questions)  # type: ignore[call-overload,no-any-return]  # coroutines of Asked.asking


# --- giving up ---


async def test_a_caller_that_leaves_takes_its_questions_along(asked: Asked, clock: FakeClock) -> None:
    for archive in asked.archives.values():
        archive.stalled()
    question = asyncio.create_task(asked.asking())
    await settle()
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    assert [archive.under_way for archive in asked.archives.values()] == [0, 0, 0]
    assert [archive.cancelled for archive in asked.archives.values()] == [1, 1, 1]
    assert not clock.is_slept_on


async def test_a_caller_that_leaves_is_no_failure_of_the_trusts(asked: Asked) -> None:
    for _ in range(LIMITS.peer_failures_before_backoff + 1):
        asked[RZ2].stalled()
        question = asyncio.create_task(asked.asking(RZ2))
        await settle()
        question.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await question
    asked[RZ2].up()
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_a_caller_that_leaves_frees_its_places(clock: FakeClock) -> None:
    asked = Asked(clock, replace(LIMITS, peer_requests_at_once_max=1))
    asked[RZ2].stalled()
    question = asyncio.create_task(asked.asking(RZ2))
    await settle()
    question.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await question
    asked[RZ2].up()
    assert states(await asked.ask(RZ2)) == ["answered"]
    assert clock.monotonic() == 0


async def test_closing_closes_every_connector(asked: Asked) -> None:
    await asked.peers.close()
    await asked.peers.close()
    assert all(archive.is_closed for archive in asked.archives.values())


# --- probes ---


class Uids:
    """UIDs that nobody has, counted."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"2.25.{self.given}"


async def test_a_probe_asks_everybody_for_what_cannot_exist(asked: Asked, clock: FakeClock) -> None:
    await clock.run(asked.peers.probe(Uids()))
    for archive in asked.archives.values():
        [request] = archive.requests
        [key] = request.query.keys
        assert key.path == (STUDY_UID,)
        assert key.values[0].startswith("2.25.")
    assert [(trust, state) for trust, state, _ in asked.empty] == [
        (trust, SourceState.ANSWERED) for trust in (RZ2, RZ3, RZ4)
    ]


async def test_a_probe_finds_that_a_trust_is_back(asked: Asked, clock: FakeClock) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff + 3)
    await clock.run(asked.peers.probe(Uids()))
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_a_probe_keeps_a_dead_trust_in_back_off(asked: Asked, clock: FakeClock) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    asked[RZ2].down()
    await clock.run(asked.peers.probe(Uids()))
    assert states(await asked.ask(RZ2)) == ["backing-off"]


async def test_while_a_stalled_trust_is_probed_callers_still_leave_it_alone(asked: Asked, clock: FakeClock) -> None:
    asked[RZ2].stalled()
    for _ in range(LIMITS.peer_failures_before_backoff + 5):
        await asked.ask(RZ2)
        await clock.advance(LIMITS.peer_backoff_max_s)
    await asked.ask(RZ2)
    probe = asyncio.create_task(asked.peers.probe(Uids()))
    await settle()
    began = clock.monotonic()
    assert states(await asked.ask()) == ["backing-off", "answered", "answered"]
    assert clock.monotonic() == began
    await clock.advance(LIMITS.find_timeout_s)
    await probe


async def test_probes_come_at_once_and_then_at_intervals(asked: Asked, clock: FakeClock) -> None:
    async with asked.peers.probing(Uids()):
        await settle()
        assert len(asked[RZ2].requests) == 1
        await clock.advance(LIMITS.peer_probe_interval_s * 3)
        assert len(asked[RZ2].requests) == 4
    await clock.advance(LIMITS.peer_probe_interval_s * 3)
    assert len(asked[RZ2].requests) == 4


# --- what an empty answer would look like now (SAF-06) ---


async def test_the_expected_answer_is_that_of_the_trusts_as_last_seen(asked: Asked) -> None:
    assert expected(asked) == ["answered", "answered", "answered"]
    asked[RZ2].stalled()
    asked[RZ3].garbled()
    asked[RZ4].refusing()
    await asked.ask()
    assert expected(asked) == ["timed-out", "invalid-answer", "refused"]


async def test_the_expected_answer_names_who_is_left_alone(asked: Asked) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    assert expected(asked) == states(await asked.ask()) == ["backing-off", "answered", "answered"]


async def test_the_expected_answer_is_never_a_cut_one(asked: Asked) -> None:
    asked[RZ2].lying(STUDY, is_truncated=True)
    await asked.ask()
    assert expected(asked) == ["answered", "answered", "answered"]


async def test_how_long_absence_took_is_told_and_presence_is_not(asked: Asked) -> None:
    asked[RZ2].slow(2)
    asked[RZ3].down()
    await asked.ask()
    assert asked.empty == [(RZ3, SourceState.UNREACHABLE, 0)]
    await asked.ask(RZ2, study="1.2.9")
    assert asked.empty[1:] == [(RZ2, SourceState.ANSWERED, 2)]


def expected(asked: Asked) -> list[str]:
    """The states of an empty answer as it would be now."""
    return [answer.state.value for answer in asked.peers.expected(asked.archives)]


# --- beyond the process ---


class Book:
    """A `StandingBook` of lists."""

    def __init__(self) -> None:
        self.written: list[PeerStanding] = []

    def write_down(self, standing: PeerStanding) -> None:
        """See `StandingBook`."""
        self.written.append(standing)


@pytest.fixture
def book() -> Book:
    """An empty book."""
    return Book()


def reopened(clock: FakeClock, book: Book, archive: Archive) -> Peers:
    """Peers of another process that has read the book."""
    peers = Peers([archive], LIMITS, clock, Sights(), on_empty=lambda *_: None)
    peers.restore(book.written[-1:])
    return peers


async def test_a_restart_does_not_forget_whom_it_is_better_to_leave_alone(clock: FakeClock, book: Book) -> None:
    asked = Asked(clock, trusts=(RZ2,), book=book)
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff + 5)
    again = reopened(clock, book, asked[RZ2])
    assert [answer.state.value for answer in again.expected([RZ2])] == ["backing-off"]
    await clock.advance(LIMITS.peer_backoff_max_s)
    assert [answer.state.value for answer in again.expected([RZ2])] == ["unreachable"]
    asked[RZ2].down()
    request = PeerRequest(asking_for_study("1.2.3"), "request-1", 1, 100)
    await clock.run(again.ask(request, [RZ2]))
    assert [answer.state.value for answer in again.expected([RZ2])] == ["backing-off"]


async def test_a_clock_that_was_set_back_makes_no_pause_longer_than_the_longest(clock: FakeClock) -> None:
    peers = Peers([Archive(RZ2, clock)], LIMITS, clock, Sights(), on_empty=lambda *_: None)
    far = clock.now() + timedelta(days=365)
    peers.restore([PeerStanding(RZ2, 9, far, SourceState.TIMED_OUT, SourceState.ANSWERED)])
    await clock.advance(LIMITS.peer_backoff_max_s)
    assert [answer.state.value for answer in peers.expected([RZ2])] == ["timed-out"]


async def test_a_standing_is_written_down_when_it_changes_and_only_then(clock: FakeClock, book: Book) -> None:
    asked = Asked(clock, trusts=(RZ2,), book=book)
    for _ in range(5):
        await asked.ask()
    assert [standing.last_state.value for standing in book.written] == ["answered"]
    await asked.fail(RZ2, 1)
    await asked.ask()
    await asked.ask()
    assert [standing.last_state.value for standing in book.written] == ["answered", "unreachable", "answered"]


async def test_a_trust_that_speaks_to_us_is_asked_again(asked: Asked) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    assert states(await asked.ask(RZ2)) == ["backing-off"]
    asked.peers.heard_from(RZ2)
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_speaking_often_does_not_end_every_pause(asked: Asked, clock: FakeClock) -> None:
    asked[RZ2].down()
    for _ in range(LIMITS.peer_failures_before_backoff):
        await asked.ask(RZ2)
    tried = []
    for _ in range(3):
        asked.peers.heard_from(RZ2)
        tried.append(states(await asked.ask(RZ2)))
    assert tried == [["unreachable"], ["backing-off"], ["backing-off"]]
    await clock.advance(LIMITS.peer_backoff_max_s)
    await asked.ask(RZ2)
    asked.peers.heard_from(RZ2)
    assert states(await asked.ask(RZ2)) == ["unreachable"]


async def test_somebody_who_cannot_be_asked_may_speak_to_us(asked: Asked) -> None:
    asked.peers.heard_from(TrustId("RZ9"))
    assert states(await asked.ask()) == ["answered"] * 3


# --- who finds out whether a trust is up again ---


async def test_while_one_question_tries_a_trust_no_other_waits_for_it(asked: Asked, clock: FakeClock) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    await clock.advance(LIMITS.peer_backoff_max_s)
    asked[RZ2].stalled()
    trial = asyncio.create_task(asked.asking(RZ2))
    await asked[RZ2].is_asked.wait()
    before = clock.monotonic()
    assert states(await asked.ask()) == ["backing-off", "answered", "answered"]
    assert [answer.state.value for answer in asked.peers.expected([RZ2])] == ["backing-off"]
    assert clock.monotonic() == before
    assert states(await clock.run(_waited_for(trial))) == ["timed-out"]


async def test_no_caller_waits_for_a_stalled_trust_again_once_it_is_left_alone(asked: Asked, clock: FakeClock) -> None:
    asked[RZ2].stalled()
    async with asked.peers.probing(Uids()):
        for _ in range(LIMITS.peer_failures_before_backoff):
            await asked.ask()
        for _ in range(300):
            before = clock.monotonic()
            assert states(await asked.ask()) == ["backing-off", "answered", "answered"]
            assert clock.monotonic() == before
            await clock.advance(0.5)


async def test_a_trust_that_is_back_is_found_by_a_probe_at_the_end_of_its_pause(asked: Asked, clock: FakeClock) -> None:
    async with asked.peers.probing(Uids()):
        await settle()
        asked[RZ2].down()
        for _ in range(LIMITS.peer_failures_before_backoff):
            await asked.ask(RZ2)
        asked[RZ2].up()
        await clock.advance(LIMITS.peer_backoff_first_s)
        assert states(await asked.ask(RZ2)) == ["answered"]


async def test_a_trial_that_clings_on_leaves_nobody_alone_once_a_trust_is_found_up(
    asked: Asked, clock: FakeClock
) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    await clock.advance(LIMITS.peer_backoff_max_s)
    asked[RZ2].clinging(600)
    assert states(await asked.ask(RZ2)) == ["timed-out"]
    asked[RZ2].up()
    await clock.run(asked.peers.probe(Uids()))
    assert states(await asked.ask(RZ2)) == ["answered"]


async def test_a_question_that_tries_a_trust_asks_it_by_all_of_a_patients_numbers(
    asked: Asked, clock: FakeClock
) -> None:
    await asked.fail(RZ2, LIMITS.peer_failures_before_backoff)
    await clock.advance(LIMITS.peer_backoff_max_s)
    request = PeerRequest(asking_for_study("1.2.3"), "request-1", 1, 100)
    (answer,) = await clock.run(asked.peers.ask_each({RZ2: [request, request]}))
    assert answer.state is SourceState.ANSWERED


async def _waited_for(task: asyncio.Task[dict[TrustId, TrustAnswer]]) -> dict[TrustId, TrustAnswer]:
    return await task
