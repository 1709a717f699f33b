"""QIDO through the gateway, whole, against Orthanc answering alone and against the archive asked directly.

Four loads: one match or a hundred, one caller or sixteen. Every round gives each contender its turn, in an order that
moves on by one each round, so that a burst of other work on the machine meets all alike. The gateway is asked through
TLS with a client certificate and asks its archive through mutual TLS; the direct answers are taken both ways, and the
time added is reckoned against TLS, the same client and the same certificates. Orthanc is asked in plain HTTP, which
favours it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, Goal, middle, more_by_at_most, ratio_at_least, ratio_at_most, spread
from bench.plan import Effort, Say
from bench.rig import orthanc, studies
from bench.rig.load import Door, Generator, Load, Outcome, generator
from bench.rig.processes import Child
from bench.rig.region import Gateway, new_region
from gateway.model.imaging import JsonValue

STUDIES = 100
CALLERS = (1, 16)
ADDED_MS = 5.0
ADDED_MS_A_ROW = 0.05
_ROW_BYTES_MIN = 500
"""A study-level row is longer; a shorter answer lacks rows."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Who is asked, and whose processor time is read."""

    name: str
    door: Door
    child: Child | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of question: its paths and how many rows each brings."""

    rows: int
    paths: tuple[str, ...]

    @property
    def words(self) -> str:
        """For names of figures."""
        return "1 match" if self.rows == 1 else f"{self.rows} matches"

    def load(self, door: Door, callers: int, duration_s: float) -> Load:
        """This question, asked again and again."""
        return Load(door, self.paths, callers, duration_s, body_bytes_min=self.rows * _ROW_BYTES_MIN)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    one, many = studies.of_one_patient(STUDIES), studies.of_many_patients(STUDIES)
    questions = (
        Question(1, tuple(studies.question(study.patient) for study in many)),
        Question(STUDIES, (studies.question(one[0].patient),)),
    )
    with ExitStack() as stack:
        say("starting the archive and the gateway")
        region = new_region(folder)
        archive = stack.enter_context(region.archive((one, many)))
        gateway = stack.enter_context(region.gateway(archive, sorted({study.patient for study in (*one, *many)})))
        load = stack.enter_context(generator())
        direct = (Contender("direct-tls", archive.tls, archive.child), Contender("direct-plain", archive.plain))
        yield from _ceiling(load, direct, effort)
        large = list(_large_orthanc(stack, folder, one, effort, say))
        for question, held in zip(questions, (many, one), strict=True):
            peers = [*_orthanc(stack, folder / f"orthanc-{question.rows}", held, say), *large]
            for callers in CALLERS:
                contenders = (Contender("gateway", gateway.door, gateway.child), *direct, *peers)
                say(f"{question.words}, {callers} at once: {', '.join(contender.name for contender in contenders)}")
                rounds = _rounds(load, contenders, question, callers, effort)
                yield from _figures(question, callers, rounds)
                yield _share(question, callers, load, gateway, effort)


def _orthanc(stack: ExitStack, folder: Path, held: Sequence[studies.Study], say: Say) -> Iterator[Contender]:
    """Orthanc with these studies, where it is installed."""
    if orthanc.is_installed():
        say(f"starting Orthanc with {len(held)} studies")
        yield Contender("orthanc", Door(stack.enter_context(orthanc.running(folder, held)).port))
    else:
        say("Orthanc is not installed (Debian packages orthanc and orthanc-dicomweb): figures without it")


def _large_orthanc(
    stack: ExitStack, folder: Path, one: Sequence[studies.Study], effort: Effort, say: Say
) -> Iterator[Contender]:
    """Orthanc with as many studies as a small hospital: the same hundred and one patients, and others."""
    if effort.large_archive_studies and orthanc.is_installed():
        held = [*one, *studies.of_many_patients(effort.large_archive_studies - len(one))]
        for contender in _orthanc(stack, folder / "orthanc-large", held, say):
            yield Contender("orthanc-large", contender.door)


def _rounds(
    load: Generator, contenders: Sequence[Contender], question: Question, callers: int, effort: Effort
) -> Mapping[str, list[Outcome]]:
    """Every contender's outcomes; the first round warms up and is dropped."""
    outcomes: dict[str, list[Outcome]] = {contender.name: [] for contender in contenders}
    for number in range(effort.rounds + 1):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            outcome = load.run(question.load(contender.door, callers, effort.slice_s))
            if number:
                outcomes[contender.name].append(outcome)
    return outcomes


def _figures(question: Question, callers: int, rounds: Mapping[str, list[Outcome]]) -> Iterator[Figure]:
    name = f"qido, {question.words}, {callers} at once"
    for peer, words, rate_goal, tail_goal in (
        ("orthanc", f"Orthanc, {STUDIES} studies, plain HTTP", ratio_at_least(10), ratio_at_most(0.2)),
        ("orthanc-large", "Orthanc, 10,000 studies, plain HTTP", None, None),
    ):
        if peer in rounds or peer == "orthanc":
            suffix = "" if peer == "orthanc" else ", against a large archive"
            yield _compared(f"{name}: answers a second{suffix}", "1/s", "per_s", rounds, (peer, words), rate_goal)
            yield _compared(f"{name}: p99{suffix}", "ms", "p99_ms", rounds, (peer, words), tail_goal)
    bound_ms = ADDED_MS + ADDED_MS_A_ROW * question.rows
    added = f"{name}: median"
    directly = ("direct-tls", "the same archive asked directly, the same TLS")
    yield _compared(added, "ms", "median_ms", rounds, directly, more_by_at_most(bound_ms, "ms"))
    plain = ("direct-plain", "the same archive asked directly, plain HTTP")
    yield _compared(f"{added}, against plain HTTP", "ms", "median_ms", rounds, plain, None)


def _compared(
    name: str,
    unit: str,
    quantity: str,
    rounds: Mapping[str, list[Outcome]],
    peer: tuple[str, str],
    goal: Goal | None,
) -> Figure:
    ours = [_quantity(outcome, quantity) for outcome in rounds["gateway"]]
    theirs = [_quantity(outcome, quantity) for outcome in rounds.get(peer[0], ())]
    about: dict[str, JsonValue] = {"peer": peer[1], "ours": spread(ours)}
    if theirs:
        about["theirs"] = spread(theirs)
    return Figure(name, middle(ours), middle(theirs) if theirs else None, unit, goal, about)


def _quantity(outcome: Outcome, name: str) -> float:
    match name:
        case "per_s":
            return outcome.per_s
        case "median_ms":
            return outcome.median_ms
        case "p99_ms":
            return outcome.p99_ms
        case _:
            raise ValueError(name)


def _ceiling(load: Generator, direct: Sequence[Contender], effort: Effort) -> Iterator[Figure]:
    """What the load generator can do at most: the archive answering `[]`."""
    for contender in direct:
        for callers in CALLERS:
            nobody = Load(contender.door, ("/dicom-web/studies?PatientID=0",), callers, effort.slice_s)
            load.run(nobody)
            rates = [load.run(nobody).per_s for _ in range(effort.rounds)]
            name = f"load generator's ceiling, {contender.name}, {callers} at once"
            yield Figure(name, middle(rates), None, "1/s", None, {"ours": spread(rates)})


def _share(question: Question, callers: int, load: Generator, gateway: Gateway, effort: Effort) -> Figure:
    """The gateway's own processor time for one answer: what is left of a core limits the rate."""
    spent = []
    for _ in range(effort.rounds):
        before_s = gateway.child.processor_s
        outcome = load.run(question.load(gateway.door, callers, effort.slice_s))
        spent.append((gateway.child.processor_s - before_s) * 1000 / outcome.answers)
    name = f"qido, {question.words}, {callers} at once: gateway's processor time an answer"
    return Figure(name, middle(spent), None, "ms", None, {"ours": spread(spent)})
