"""C-FIND through the gateway, whole, in front of dcmqrscp: beside asking that archive directly, and beside Orthanc.

The gateway decides, audits and logs as it always does, and asks upstream over pooled associations. It is asked over
long-lived associations, as viewers and other gateways hold them, and over one association a question, as most archives'
workstations do. A relay that only carries bytes shows what a second hop costs by itself. DIMSE is plain on both sides
of the gateway, because dcmqrscp knows no TLS; what TLS at its door costs is one figure more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.figures import Figure, Goal, middle, more_by_at_most, ratio_at_least, spread
from bench.plan import Effort, Say, in_turns
from bench.rig import orthanc, studies
from bench.rig.dimse import asking, dcmtk, relay, wire
from bench.rig.dimse.asking import Load, Outcome
from bench.rig.processes import Child, python, running
from bench.rig.region import Associations, new_region
from bench.rig.workers import Worker, working
from gateway.model.imaging import JsonValue
from policy.parties import NhsNumber

STUDIES = 100
CALLERS = 8
ADDED_MS, ADDED_MS_A_ROW = 5.0, 0.05
_DIRECTLY = "dcmqrscp asked directly, TCP_NODELAY=1"


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of question: its identifiers and how many rows each brings."""

    rows: int
    identifiers: tuple[str, ...]

    @property
    def words(self) -> str:
        """For names of figures."""
        return "1 match" if self.rows == 1 else f"{self.rows} matches"

    def load(self, door: wire.Door, callers: int, duration_s: float, *, is_long_lived: bool = True) -> Load:
        """This question, asked again and again."""
        return Load(door, self.identifiers, self.rows, callers, duration_s, is_long_lived=is_long_lived)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures as they are ready."""
    if not dcmtk.is_installed():
        say("DCMTK is not installed (Debian package dcmtk): no figures")
        return
    one, many = studies.of_one_patient(STUDIES), studies.of_many_patients(STUDIES)
    patients = sorted({study.patient for study in (*one, *many)})
    single = Question(1, tuple(asking.identifier(study.patient) for study in many))
    hundred = Question(STUDIES, (asking.identifier(one[0].patient),))
    with ExitStack() as stack:
        say("starting the archive and the gateway")
        archive = stack.enter_context(dcmtk.dcmqrscp(folder, (*one, *many)))
        relayed = stack.enter_context(_relayed(folder, archive))
        worker = stack.enter_context(working("bench.rig.dimse.asking"))
        doors = {"dcmqrscp": archive, "relay": relayed, **_orthancs(stack, folder, one, effort, say)}
        with _gateway(folder / "plain", archive, patients, Associations.PLAIN) as (child, door):
            doors = {"ours": door, **doors}
            yield from _at_once(worker, doors, hundred, effort, say)
            yield from _one_by_one(worker, doors, hundred, effort, say)
            for question in (single, hundred):
                yield from _added(worker, doors, question, effort, say)
                yield _share(worker, door, child, question, effort)
            with _gateway(folder / "tls", archive, patients, Associations.TLS) as (_, secure):
                yield from _over_tls(worker, {"ours": secure, "plain": door}, hundred, effort, say)
            with _gateway(folder / "series", archive, patients, Associations.PLAIN, shares_everything=False) as (
                _,
                gathering,
            ):
                yield _gathering(worker, {"ours": gathering, "told": door}, hundred, effort, say)


def _at_once(
    worker: Worker, doors: Mapping[str, wire.Door], question: Question, effort: Effort, say: Say
) -> Iterator[Figure]:
    say(f"{question.words}, {CALLERS} long-lived associations: {', '.join(doors)}")
    rounds = _rounds(worker, doors, question, CALLERS, effort)
    name = f"c-find, {question.words}, {CALLERS} long-lived associations: answers a second"
    yield _rates(name, rounds, "dcmqrscp", ratio_at_least(0.4), _DIRECTLY)
    yield _rates(f"{name}, against a bare relay", rounds, "relay", None, "a relay before dcmqrscp")
    words = f"Orthanc, {STUDIES} studies"
    yield _rates(f"{name}, against Orthanc", rounds, "orthanc", ratio_at_least(5), words)
    if "orthanc-large" in rounds:
        words = f"Orthanc, {effort.large_archive_studies} studies"
        yield _rates(f"{name}, against a large Orthanc", rounds, "orthanc-large", ratio_at_least(5), words)


def _one_by_one(
    worker: Worker, doors: Mapping[str, wire.Door], question: Question, effort: Effort, say: Say
) -> Iterator[Figure]:
    contenders = {name: doors[name] for name in ("ours", "dcmqrscp", "relay")}
    say(f"{question.words}, an association a question: {', '.join(contenders)}")
    rounds = _rounds(worker, contenders, question, CALLERS, effort, is_long_lived=False)
    name = f"c-find, {question.words}, an association a question, {CALLERS} at once: answers a second"
    yield _rates(name, rounds, "dcmqrscp", ratio_at_least(0.8), _DIRECTLY)
    yield _rates(f"{name}, against a bare relay", rounds, "relay", None, "a relay before dcmqrscp")


def _added(
    worker: Worker, doors: Mapping[str, wire.Door], question: Question, effort: Effort, say: Say
) -> Iterator[Figure]:
    contenders = {name: doors[name] for name in ("ours", "dcmqrscp", "relay")}
    say(f"{question.words}, 1 caller: {', '.join(contenders)}")
    rounds = _rounds(worker, contenders, question, 1, effort)
    name = f"c-find, {question.words}, 1 caller"
    bound = more_by_at_most(ADDED_MS + ADDED_MS_A_ROW * question.rows, "ms")
    medians = {who: [outcome.median_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    yield _compared(f"{name}: median", "ms", medians, "dcmqrscp", bound, _DIRECTLY)
    yield _compared(f"{name}: median, against a bare relay", "ms", medians, "relay", None, "a relay before dcmqrscp")
    firsts = {who: [outcome.first_match_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    yield _compared(f"{name}: first match", "ms", firsts, "dcmqrscp", None, _DIRECTLY)


def _over_tls(
    worker: Worker, doors: Mapping[str, wire.Door], question: Question, effort: Effort, say: Say
) -> Iterator[Figure]:
    say(f"{question.words}, TLS at the gateway's door")
    for is_long_lived, how in ((True, "long-lived associations"), (False, "an association a question")):
        rounds = _rounds(worker, doors, question, CALLERS, effort, is_long_lived=is_long_lived)
        name = f"c-find over TLS, {question.words}, {how}, {CALLERS} at once: answers a second"
        yield _rates(name, rounds, "plain", None, "the gateway without TLS")


def _gathering(worker: Worker, doors: Mapping[str, wire.Door], question: Question, effort: Effort, say: Say) -> Figure:
    """Where modalities decide who may see a study, and the archive tells them only series by series."""
    say(f"{question.words}, modalities gathered from the series")
    rounds = _rounds(worker, doors, question, 1, effort)
    medians = {who: [outcome.median_ms for outcome in outcomes] for who, outcomes in rounds.items()}
    name = f"c-find, {question.words}, 1 caller, modalities gathered from the series: median"
    return _compared(name, "ms", medians, "told", None, "the gateway before a trust that shares every modality")


def _share(worker: Worker, door: wire.Door, child: Child, question: Question, effort: Effort) -> Figure:
    """The gateway's own processor time for one answer: what is left of a core limits the rate."""
    spent = []
    for _ in range(effort.rounds):
        before_s = child.processor_s
        outcome = asking.ask(worker, question.load(door, CALLERS, effort.slice_s))
        spent.append((child.processor_s - before_s) * 1000 / outcome.answers)
    name = f"c-find, {question.words}, {CALLERS} at once: gateway's processor time an answer"
    return Figure(name, middle(spent), None, "ms", None, {"ours": spread(spent)})


def _rounds(
    worker: Worker,
    doors: Mapping[str, wire.Door],
    question: Question,
    callers: int,
    effort: Effort,
    *,
    is_long_lived: bool = True,
) -> dict[str, list[Outcome]]:
    loads = {
        name: question.load(door, callers, effort.slice_s / 2, is_long_lived=is_long_lived)
        for name, door in doors.items()
    }
    return in_turns({name: partial(asking.ask, worker, load) for name, load in loads.items()}, effort.rounds)


def _rates(name: str, rounds: Mapping[str, list[Outcome]], peer: str, goal: Goal | None, words: str) -> Figure:
    rates = {who: [outcome.per_s for outcome in outcomes] for who, outcomes in rounds.items()}
    return _compared(name, "1/s", rates, peer, goal, words)


def _compared(
    name: str, unit: str, values: Mapping[str, Sequence[float]], peer: str, goal: Goal | None, words: str
) -> Figure:
    about: dict[str, JsonValue] = {"peer": words, "ours": spread(values["ours"])}
    theirs = values.get(peer)
    if theirs:
        about["theirs"] = spread(theirs)
    return Figure(name, middle(values["ours"]), middle(theirs) if theirs else None, unit, goal, about)


@contextmanager
def _gateway(
    folder: Path,
    archive: wire.Door,
    known: Sequence[NhsNumber],
    associations: Associations,
    *,
    shares_everything: bool = True,
) -> Iterator[tuple[Child, wire.Door]]:
    folder.mkdir()
    with new_region(folder).gateway(
        archive, known, associations=associations, shares_everything=shares_everything
    ) as gateway:
        assert gateway.dimse is not None
        yield gateway.child, gateway.dimse


@contextmanager
def _relayed(folder: Path, archive: wire.Door) -> Iterator[wire.Door]:
    command = python("-m", "bench.rig.dimse.relay", str(archive.port))
    with running(command, folder / "relay.log", relay.READY) as child:
        yield replace(archive, port=child.told(r"port=(\d+)"))


def _orthancs(
    stack: ExitStack, folder: Path, one: Sequence[studies.Study], effort: Effort, say: Say
) -> dict[str, wire.Door]:
    """Orthanc with these studies, and in a whole run once more with as many as a small hospital has."""
    if not orthanc.is_installed():
        say("Orthanc is not installed (Debian packages orthanc and orthanc-dicomweb): figures without it")
        return {}
    doors = {}
    held = {"orthanc": list(one)}
    if effort.large_archive_studies:
        others = studies.of_many_patients(effort.large_archive_studies - len(one))
        held["orthanc-large"] = [*one, *others]
    for name, theirs in held.items():
        say(f"starting Orthanc with {len(theirs)} studies")
        running_orthanc = stack.enter_context(orthanc.running(folder / name, theirs))
        doors[name] = wire.Door(running_orthanc.dicom_port, orthanc.AE_TITLE)
    return doors
