"""One question to 3, 30 and 100 trusts: what an answer takes beside the slowest trust, and what one more trust costs.

The gateway is whole, as in `bench.qido`, one for each number of trusts; the trusts are one light process
(`bench.rig.crowd`) in which each answers after a time of its own, so that whatever an answer takes longer than the
slowest trust is the gateway's. Then ten trusts of which one is stalled and one is dead, beside ten good ones: at first,
while the gateway finds out, and once it leaves those two alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, middle, ratio_at_most, spread
from bench.plan import Effort, Say, in_turns
from bench.rig import crowd, studies
from bench.rig.dimse import asking, wire
from bench.rig.load import Door, Generator, Load, generator
from bench.rig.region import Crowd, Gateway, Peer, Region, new_region
from bench.rig.workers import Worker, working
from gateway.demo.ports import free_port
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

    median_ms: float
    processor_ms: float = 0.0
    """For one answer."""


@dataclass(frozen=True, slots=True)
class Rig:
    """The trusts, who asks, and how much."""

    region: Region
    crowd: Crowd
    load: Generator
    worker: Worker
    effort: Effort
    say: Say

    def peers_by_qido(self, trusts: Sequence[TrustId]) -> list[Peer]:
        """These trusts of the crowd, asked by QIDO over TLS."""
        return [self.region.peer_by_qido(trust, self.crowd.tls.port, crowd.root(trust)) for trust in trusts]

    def peers_by_c_find(self, trusts: Sequence[TrustId]) -> list[Peer]:
        """The same, asked by C-FIND."""
        return [self.region.peer_by_c_find(trust, self.crowd.dimse_port, trust.code) for trust in trusts]

    def slowest_by_qido(self, kind: Kind, questions: int) -> Turn:
        """The first trust of the crowd, asked directly with the same TLS."""
        path = crowd.root(crowd.codes(1)[0])
        return Turn(self.load.run(kind.load(self.crowd.tls, 1, questions, path=path)).median_ms)

    def slowest_by_c_find(self, kind: Kind, questions: int) -> Turn:
        """The same by C-FIND, over one association."""
        door = wire.Door(self.crowd.dimse_port, crowd.codes(1)[0].code)
        identifiers = (asking.identifier(kind.patient),)
        load = asking.Load(door, identifiers, kind.rows, callers=1, questions=questions)
        return Turn(asking.ask(self.worker, load).median_ms)

    def turn(self, gateway: Gateway, load: Load) -> Turn:
        """A load on a gateway, its processor time taken."""
        before_s = gateway.child.processor_s
        outcome = self.load.run(load)
        return Turn(outcome.median_ms, (gateway.child.processor_s - before_s) * 1000 / outcome.answers)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    region = new_region(folder)
    told = [one for kind in KINDS for one in kind.told(crowd.codes(max(*effort.fan_out, TEN)))]
    with (
        region.crowd(told, QUICK_S, (_STALLED,)) as trusts,
        generator() as load,
        working("bench.rig.dimse.asking") as worker,
    ):
        rig = Rig(region, trusts, load, worker, effort, say)
        with _gateways(rig, "qido", rig.peers_by_qido) as before:
            for kind in KINDS:
                yield from _beside_the_slowest(rig, "fan-out", kind, before, rig.slowest_by_qido)
            yield from _rates(rig, before)
        with _gateways(rig, "c-find", rig.peers_by_c_find) as before:
            yield from _beside_the_slowest(rig, "fan-out by C-FIND", KINDS[0], before, rig.slowest_by_c_find)
        yield from _with_two_silent(rig)


@contextmanager
def _gateways(
    rig: Rig, place: str, peers: Callable[[Sequence[TrustId]], list[Peer]]
) -> Iterator[Mapping[int, Gateway]]:
    """A gateway before each number of trusts."""
    with ExitStack() as stack:
        before = {}
        for count in rig.effort.fan_out:
            rig.say(f"starting a gateway before {count} trusts, asked by {place}")
            before[count] = stack.enter_context(
                rig.region.gateway_before(peers(crowd.codes(count)), _PATIENTS, place=f"{place}-{count}")
            )
        yield before


def _beside_the_slowest(
    rig: Rig, what: str, kind: Kind, before: Mapping[int, Gateway], slowest: Callable[[Kind, int], Turn]
) -> Iterator[Figure]:
    rig.say(f"{what} to {', '.join(map(str, before))} trusts, {kind.words}")
    asked = rig.effort.fan_out_questions
    questions = max(1, asked // 4) if kind.is_spread else asked
    turns: dict[str, Callable[[], Turn]] = {
        str(count): partial(rig.turn, gateway, kind.load(gateway.door, count, questions))
        for count, gateway in before.items()
    }
    rounds = in_turns({**turns, "slowest": lambda: slowest(kind, questions)}, rig.effort.rounds)
    medians = {who: [turn.median_ms for turn in theirs] for who, theirs in rounds.items()}
    for count in before:
        words = f"the slowest trust asked directly, {kind.slowest_s * 1000:g} ms"
        goal = ratio_at_most(SLOWEST_RATIO_MAX)
        name = f"{what} to {count} trusts, {kind.words}: median"
        yield _compared(name, "ms", medians[str(count)], medians["slowest"], goal, words)
    if kind.is_weighed:
        spent = {count: [turn.processor_ms for turn in rounds[str(count)]] for count in before}
        yield from _weights(what, kind, spent, rig.effort)


def _weights(what: str, kind: Kind, spent: Mapping[int, Sequence[float]], effort: Effort) -> Iterator[Figure]:
    """Processor time of an answer, and whether the hundredth trust costs what the tenth does."""
    for count, values_ms in spent.items():
        name = f"{what} to {count} trusts, {kind.words}: gateway's processor time an answer"
        yield Figure(name, middle(values_ms), None, "ms", None, {"ours": spread(values_ms)})
    few, some, many = effort.fan_out
    first = [(more - less) / (some - few) for less, more in zip(spent[few], spent[some], strict=True)]
    then = [(more - less) / (many - some) for less, more in zip(spent[some], spent[many], strict=True)]
    name = f"{what}, {kind.words}: gateway's processor time for a trust more, from {some} to {many}"
    yield _compared(name, "ms", then, first, ratio_at_most(ADDED_RATIO_MAX), f"from {few} to {some}")


def _rates(rig: Rig, before: Mapping[int, Gateway]) -> Iterator[Figure]:
    kind, questions = KINDS[0], rig.effort.fan_out_questions * 2
    rig.say(f"{kind.words}, {CALLERS} callers: {', '.join(map(str, before))} trusts")
    loads = {str(count): kind.load(gateway.door, count, questions, CALLERS) for count, gateway in before.items()}
    rounds = in_turns({count: partial(rig.load.run, load) for count, load in loads.items()}, rig.effort.rounds)
    for count, outcomes in rounds.items():
        rates = [outcome.per_s for outcome in outcomes]
        name = f"fan-out to {count} trusts, {kind.words}, {CALLERS} at once: answers a second"
        yield Figure(name, middle(rates), None, "1/s", None, {"ours": spread(rates)})


def _with_two_silent(rig: Rig) -> Iterator[Figure]:
    """Ten trusts of which one never answers and one has no listener, beside ten that answer."""
    kind, trusts, region = KINDS[0], crowd.codes(TEN), rig.region
    silent = [
        region.peer_by_qido(_STALLED, rig.crowd.tls.port, crowd.root(_STALLED)),
        region.peer_by_qido(_DEAD, free_port()),
    ]
    good, harmed = rig.peers_by_qido(trusts), [*rig.peers_by_qido(trusts[:-2]), *silent]
    with (
        region.gateway_before(good, _PATIENTS, place="ten-good") as sound,
        region.gateway_before(harmed, _PATIENTS, place="two-silent") as hit,
    ):
        rig.say("ten trusts, one stalled and one dead: the first answers")
        yield from _first_answers(rig, kind, hit)
        rig.say("ten trusts, one stalled and one dead, beside ten good ones")
        questions = rig.effort.fan_out_questions * 3
        turns = {
            "harmed": partial(rig.load.run, kind.load(hit.door, TEN - 2, questions)),
            "good": partial(rig.load.run, kind.load(sound.door, TEN, questions)),
        }
        rounds = in_turns(turns, rig.effort.rounds)
    name, goal = "ten trusts, one stalled and one dead, once left alone", ratio_at_most(UNHARMED_RATIO_MAX)
    medians = {who: [outcome.median_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    yield _compared(f"{name}: median", "ms", medians["harmed"], medians["good"], goal, "ten good trusts")
    tails = {who: [outcome.p99_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    yield _compared(f"{name}: p99", "ms", tails["harmed"], tails["good"], goal, "ten good trusts")


def _first_answers(rig: Rig, kind: Kind, hit: Gateway) -> Iterator[Figure]:
    """One caller, question after question, from the start on; none may lack a row of the eight that answer."""
    watched_s, began = rig.effort.opening_s, time.monotonic()
    times_ms: list[float] = []
    while not times_ms or time.monotonic() - began < watched_s:
        times_ms.append(rig.load.run(kind.load(hit.door, TEN - 2, 1)).median_ms)
    # What is not known by now is so after as many failures at once.
    rig.load.run(kind.load(hit.door, TEN - 2, CALLERS, CALLERS))
    name = "ten trusts, one stalled and one dead, at first"
    about: dict[str, JsonValue] = {"answers": len(times_ms), "watched_s": watched_s}
    deadline: dict[str, JsonValue] = {"peer": "the deadline, find_timeout_s", **about}
    yield Figure(f"{name}: the longest answer", max(times_ms), DEADLINE_MS, "ms", ratio_at_most(1.1), deadline)
    waited = sum(taken_ms > DEADLINE_MS / 2 for taken_ms in times_ms)
    yield Figure(f"{name}: answers that waited for the deadline", waited, None, "answers", None, about)


def _compared(
    name: str, unit: str, ours: Sequence[float], theirs: Sequence[float], goal: Goal | None, words: str
) -> Figure:
    about: dict[str, JsonValue] = {"peer": words, "ours": spread(ours), "theirs": spread(theirs)}
    return Figure(name, middle(ours), middle(theirs), unit, goal, about)
