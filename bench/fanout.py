"""One question to 3, 30 and 100 trusts: what an answer takes beside the slowest trust, and what one more trust costs.

The gateway is whole, as in `bench.qido`, one for each number of trusts; the trusts are one light process
(`bench.rig.crowd`) in which each answers after a time of its own, so that whatever an answer takes longer than the
slowest trust is the gateway's. Then ten trusts of which one is stalled and one is dead, beside ten good ones: at first,
while the gateway finds out, and once it leaves those two alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, middle, ratio_at_most, spread
from bench.plan import Effort, Say, in_turns
from bench.rig import crowd, processes, studies
from bench.rig.load import Door, Generator, Load, Outcome, generator
from bench.rig.region import Gateway, Peer, Region, new_region
from gateway.model.imaging import JsonValue
from policy.parties import NhsNumber, TrustId

SLOWEST_RATIO_MAX = 1.3
ADDED_RATIO_MAX = 1.2
UNHARMED_RATIO_MAX = 1.1
CALLERS = 8
QUICK_S, SLOW_S = 0.05, 0.5
TEN = 10
DEADLINE_MS = 5_000.0
"""`find_timeout_s`, which a trust that never answers has in the first answers."""
_ROW_BYTES_MIN = 500
_STALLED, _DEAD = TrustId("RS001"), TrustId("RD001")
_PATIENTS = [study.patient for study in studies.of_many_patients(4)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of patient, who is known at so many trusts."""

    words: str
    patient: NhsNumber
    rows: int
    """At each trust that has any."""
    holders: int
    """How many trusts have some; the others have nothing. No more than there are."""
    slowest_s: float = QUICK_S
    """What the first trust takes; the others as much, or down to a tenth of it."""
    is_spread: bool = False
    is_weighed: bool = True
    """Whether the gateway's processor time is told as well."""

    def delay_s(self, index: int) -> float:
        """What the trust with this index takes over the question."""
        return self.slowest_s * (1 - 0.9 * (index * 37 % 100) / 100) if self.is_spread else self.slowest_s

    def told(self, trusts: Sequence[TrustId]) -> Iterator[crowd.Told]:
        """What each trust says of the patient."""
        for index, trust in enumerate(trusts):
            count = self.rows if index < self.holders else 0
            held = [studies.Study(index * 1_000 + number + 1, self.patient) for number in range(count)]
            yield crowd.Told(trust.code, self.patient.digits, self.delay_s(index), studies.rows(held))

    def load(self, door: Door, trusts: int, questions: int, callers: int = 1, path: str = "") -> Load:
        """Questions for the patient; an answer without all rows is an error."""
        rows = self.rows * min(self.holders, trusts)
        paths = (path + studies.question(self.patient),)
        return Load(door, paths, callers, questions=questions, body_bytes_min=rows * _ROW_BYTES_MIN)


KINDS = (
    Kind("1 row at each", _PATIENTS[0], rows=1, holders=100),
    Kind("10 rows at each", _PATIENTS[1], rows=10, holders=100),
    Kind("1 row at 2 of them", _PATIENTS[2], rows=1, holders=2),
    Kind("1 row at each, slow", _PATIENTS[3], 1, 100, slowest_s=SLOW_S, is_spread=True, is_weighed=False),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender's turn came to."""

    outcome: Outcome
    processor_ms: float = 0.0
    """For one answer."""


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    trusts = crowd.codes(max(*effort.fan_out, TEN))
    region = new_region(folder)
    told = [one for kind in KINDS for one in kind.told(trusts)]
    with ExitStack() as stack:
        door = stack.enter_context(region.crowd(told, QUICK_S, (_STALLED,)))
        load = stack.enter_context(generator())
        with ExitStack() as gateways:
            before: dict[int, Gateway] = {}
            for count in effort.fan_out:
                say(f"starting a gateway before {count} trusts")
                peers = _peers(region, trusts[:count], door.port)
                before[count] = gateways.enter_context(region.gateway_before(peers, _PATIENTS, place=f"before-{count}"))
            for kind in KINDS:
                yield from _beside_the_slowest(load, kind, before, door, effort, say)
            yield from _rates(load, before, effort, say)
        yield from _with_two_silent(load, region, door, effort, say)


def _peers(region: Region, trusts: Sequence[TrustId], port: int) -> list[Peer]:
    return [region.peer_by_qido(trust, port, crowd.root(trust)) for trust in trusts]


def _beside_the_slowest(
    load: Generator, kind: Kind, before: Mapping[int, Gateway], slowest: Door, effort: Effort, say: Say
) -> Iterator[Figure]:
    say(f"{kind.words}, 1 caller: {', '.join(map(str, before))} trusts")
    questions = effort.fan_out_questions if not kind.is_spread else max(1, effort.fan_out_questions // 4)
    directly = kind.load(slowest, 1, questions, path=crowd.root(crowd.codes(1)[0]))
    turns: dict[str, Callable[[], Turn]] = {
        str(count): partial(_turn, load, gateway, kind.load(gateway.door, count, questions))
        for count, gateway in before.items()
    }
    turns["slowest"] = lambda: Turn(load.run(directly))
    rounds = in_turns(turns, effort.rounds)
    medians = {who: [turn.outcome.median_ms for turn in theirs] for who, theirs in rounds.items()}
    for count in before:
        name = f"fan-out to {count} trusts, {kind.words}"
        words = f"the slowest trust asked directly, {kind.slowest_s * 1000:g} ms"
        goal = ratio_at_most(SLOWEST_RATIO_MAX)
        yield _compared(f"{name}: median", "ms", medians[str(count)], medians["slowest"], goal, words)
    if kind.is_weighed:
        spent = {count: [turn.processor_ms for turn in rounds[str(count)]] for count in before}
        yield from _weights(kind, spent, effort)


def _weights(kind: Kind, spent: Mapping[int, Sequence[float]], effort: Effort) -> Iterator[Figure]:
    """Processor time of an answer, and whether the hundredth trust costs what the tenth does."""
    for count, values_ms in spent.items():
        name = f"fan-out to {count} trusts, {kind.words}: gateway's processor time an answer"
        yield Figure(name, middle(values_ms), None, "ms", None, {"ours": spread(values_ms)})
    few, some, many = effort.fan_out
    first = [(more - less) / (some - few) for less, more in zip(spent[few], spent[some], strict=True)]
    then = [(more - less) / (many - some) for less, more in zip(spent[some], spent[many], strict=True)]
    name = f"fan-out, {kind.words}: gateway's processor time for a trust more, from {some} to {many}"
    yield _compared(name, "ms", then, first, ratio_at_most(ADDED_RATIO_MAX), f"from {few} to {some}")


def _rates(load: Generator, before: Mapping[int, Gateway], effort: Effort, say: Say) -> Iterator[Figure]:
    kind = KINDS[0]
    say(f"{kind.words}, {CALLERS} callers: {', '.join(map(str, before))} trusts")
    turns = {
        str(count): partial(_turn, load, gateway, kind.load(gateway.door, count, effort.fan_out_questions * 2, CALLERS))
        for count, gateway in before.items()
    }
    rounds = in_turns(turns, effort.rounds)
    for count in before:
        rates = [turn.outcome.per_s for turn in rounds[str(count)]]
        name = f"fan-out to {count} trusts, {kind.words}, {CALLERS} at once"
        yield Figure(f"{name}: answers a second", middle(rates), None, "1/s", None, {"ours": spread(rates)})


def _with_two_silent(load: Generator, region: Region, door: Door, effort: Effort, say: Say) -> Iterator[Figure]:
    """Ten trusts of which one never answers and one has no listener, beside ten that answer."""
    kind, trusts = KINDS[0], crowd.codes(TEN)
    silent = [
        region.peer_by_qido(_STALLED, door.port, crowd.root(_STALLED)),
        region.peer_by_qido(_DEAD, processes.free_port()),
    ]
    good, harmed = _peers(region, trusts, door.port), [*_peers(region, trusts[:-2], door.port), *silent]
    with (
        region.gateway_before(good, _PATIENTS, place="ten-good") as sound,
        region.gateway_before(harmed, _PATIENTS, place="two-silent") as hit,
    ):
        say("ten trusts, one stalled and one dead: the first answers")
        yield from _first_answers(load, kind, hit, effort)
        say("ten trusts, one stalled and one dead, beside ten good ones")
        turns = {
            "harmed": partial(load.run, kind.load(hit.door, TEN - 2, effort.fan_out_questions * 3)),
            "good": partial(load.run, kind.load(sound.door, TEN, effort.fan_out_questions * 3)),
        }
        rounds = in_turns(turns, effort.rounds)
    name, goal = "ten trusts, one stalled and one dead, once left alone", ratio_at_most(UNHARMED_RATIO_MAX)
    medians = {who: [outcome.median_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    yield _compared(f"{name}: median", "ms", medians["harmed"], medians["good"], goal, "ten good trusts")
    tails = {who: [outcome.p99_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    yield _compared(f"{name}: p99", "ms", tails["harmed"], tails["good"], goal, "ten good trusts")


def _first_answers(load: Generator, kind: Kind, hit: Gateway, effort: Effort) -> Iterator[Figure]:
    """One caller, question after question, from the start on; none may lack a row of the eight that answer."""
    began = time.monotonic()
    times_ms: list[float] = []
    while not times_ms or time.monotonic() - began < effort.opening_s:
        times_ms.append(load.run(kind.load(hit.door, TEN - 2, 1)).median_ms)
    # What is not known by now is so after as many failures at once.
    load.run(kind.load(hit.door, TEN - 2, CALLERS, CALLERS))
    name = "ten trusts, one stalled and one dead"
    waited = sum(taken_ms > DEADLINE_MS / 2 for taken_ms in times_ms)
    about: dict[str, JsonValue] = {"peer": "the deadline, find_timeout_s", "watched_s": effort.opening_s}
    longest_ms = max(times_ms)
    yield Figure(f"{name}, at first: the longest answer", longest_ms, DEADLINE_MS, "ms", ratio_at_most(1.1), about)
    about = {"answers": len(times_ms), "watched_s": effort.opening_s}
    yield Figure(f"{name}, at first: answers that waited for the deadline", waited, None, "answers", None, about)


def _turn(load: Generator, gateway: Gateway, asked: Load) -> Turn:
    before_s = gateway.child.processor_s
    outcome = load.run(asked)
    return Turn(outcome, (gateway.child.processor_s - before_s) * 1000 / outcome.answers)


def _compared(
    name: str, unit: str, ours: Sequence[float], theirs: Sequence[float], goal: Goal | None, words: str
) -> Figure:
    about: dict[str, JsonValue] = {"peer": words, "ours": spread(ours), "theirs": spread(theirs)}
    return Figure(name, middle(ours), middle(theirs), unit, goal, about)
