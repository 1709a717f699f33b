"""Where the time of one answer goes: the gateway's event loop under cProfile, own time by what the code is there for.

Run by `python -m bench --profile`. The profiler makes calls dearer than they are, so the shares say more than the
milliseconds; a start and stop without questions is taken off. The store's threads are not seen by the profiler.
"""

from __future__ import annotations

import pstats
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import fanout
from bench.figures import ROOT
from bench.plan import Say
from bench.rig import crowd, studies
from bench.rig.dimse import asking, dcmtk
from bench.rig.load import Load, generator
from bench.rig.region import Associations, new_region
from bench.rig.workers import working

FUNCTIONS_SHOWN = 20
_QUESTIONS = {1: 3_000, 100: 1_000}
_TRUSTS, _OF_MANY_TRUSTS = 100, {100: 100}
"""One row at each trust."""
_PLACES = (
    ("epoll", "waiting"),
    ("importlib", "starting"),
    ("builtins.compile", "starting"),
    ("builtins.exec", "starting"),
    ("_verify_paths", "starting"),
    ("_ssl", "TLS"),
    ("/ssl.py", "TLS"),
    ("sslproto", "TLS"),
    ("_socket.socket", "sockets"),
    ("orjson", "JSON"),
    ("/aiohttp/client", "HTTP client"),
    ("/aiohttp/connector", "HTTP client"),
    ("/aiohttp/", "HTTP server"),
    ("/multidict/", "HTTP server"),
    ("/yarl/", "HTTP server"),
    ("/asyncio/", "asyncio"),
    ("/structlog/", "log"),
    ("/logging/", "log"),
    ("/dimse/elements.py:row", "peer's answer"),
    ("/gateway/instances/encoding/values", "peer's answer"),
    ("/gateway/instances/encoding/structure", "data sets, read the long way"),
    ("/gateway/instances/encoding/written", "C-FIND edge: data sets written"),
    ("/dimse/elements", "C-FIND edge: data sets written"),
    ("/dimse/upper_layer/", "association"),
    ("/dimse/scu/", "C-FIND to the archive"),
    ("/dimse/connector", "C-FIND to the archive"),
    ("/dimse/", "C-FIND edge"),
    ("/dicomweb/connector", "peer's answer"),
    ("/dicomweb/dicomjson", "peer's answer"),
    ("/dicomweb/", "QIDO edge"),
    ("/gateway/sharing/gate", "gate"),
    ("/gateway/sharing/", "broker, matching, merging"),
    ("/gateway/", "other of gateway"),
    ("/policy/record", "audit's form of facts"),
    ("/policy/", "policy"),
    ("/storage/", "store, seen from the loop"),
    ("_thread.", "store, seen from the loop"),
    ("/threading.py", "store, seen from the loop"),
)
"""What stands in a function's file or name, and where its time is counted; the first that fits."""

_NOT_COUNTED = frozenset({"waiting", "starting"})
_Function = tuple[str, int, str]
_Stats = Mapping[_Function, tuple[int, int, float, float, Mapping[_Function, tuple[int, int, float, float]]]]


@dataclass(frozen=True, slots=True)
class Shares:
    """Own time of one answer, in milliseconds under the profiler."""

    protocol: str
    rows: int
    by_place: tuple[tuple[str, float], ...]
    by_function: tuple[tuple[str, float], ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        busy_ms = sum(ms for _, ms in self.by_place)
        yield f"{self.protocol}, {self.rows} rows: {busy_ms:.2f} ms an answer under the profiler, without waiting"
        yield from (f"  {ms / busy_ms:6.1%}  {place}" for place, ms in self.by_place)
        yield from (f"  {ms:8.4f} ms  {function}" for function, ms in self.by_function)


def measure(folder: Path, say: Say) -> Iterator[Shares]:
    """Profile answers of one row, then of a hundred, one caller: by QIDO, by C-FIND before dcmqrscp, of many trusts."""
    one, many = studies.of_one_patient(100), studies.of_many_patients(100)
    patients = sorted({study.patient for study in (*one, *many)})
    asked = {1: [study.patient for study in many], 100: [one[0].patient]}

    def by_qido(place: Path, rows: int, profile: Path) -> None:
        region = new_region(place)
        with (
            generator() as load,
            region.archive((one, many)) as archive,
            region.gateway(archive, patients, profile=profile) as gateway,
        ):
            if rows:
                paths = tuple(map(studies.question, asked[rows]))
                load.run(Load(gateway.door, paths, 1, questions=_QUESTIONS[rows]))

    def by_c_find(place: Path, rows: int, profile: Path) -> None:
        start = partial(new_region(place).gateway, associations=Associations.PLAIN, shares_everything=True)
        with (
            working("bench.rig.dimse.asking") as worker,
            dcmtk.dcmqrscp(place, (*one, *many)) as archive,
            start(archive, patients, profile=profile) as gateway,
        ):
            assert gateway.dimse is not None
            if rows:
                identifiers = tuple(map(asking.identifier, asked[rows]))
                asking.ask(worker, asking.Load(gateway.dimse, identifiers, rows, 1, questions=_QUESTIONS[rows]))

    def of_many_trusts(place: Path, rows: int, profile: Path) -> None:
        region, kind, trusts = new_region(place), fanout.KINDS[0], crowd.codes(_TRUSTS)
        with generator() as load, region.crowd(list(kind.told(trusts)), delay_s=0.0) as archives:
            peers = [region.peer_by_qido(trust, archives.tls.port, crowd.root(trust)) for trust in trusts]
            with region.gateway_before(peers, [kind.patient], profile=profile) as gateway:
                if rows:
                    load.run(kind.load(gateway.door, _TRUSTS, _OF_MANY_TRUSTS[rows]))

    yield from _profiled("QIDO", by_qido, folder / "qido", say, _QUESTIONS)
    if dcmtk.is_installed():
        yield from _profiled("C-FIND", by_c_find, folder / "c-find", say, _QUESTIONS)
    yield from _profiled(f"QIDO to {_TRUSTS} trusts", of_many_trusts, folder / "fanout", say, _OF_MANY_TRUSTS)


def _profiled(
    protocol: str,
    run: Callable[[Path, int, Path], None],
    folder: Path,
    say: Say,
    questions: Mapping[int, int],
) -> Iterator[Shares]:
    idle: dict[str, float] = {}
    for rows in (0, *questions):
        say(f"{protocol}: profiling answers of {rows} rows" if rows else f"{protocol}: profiling start and stop")
        place = folder / str(rows)
        place.mkdir(parents=True)
        run(place, rows, place / "profile")
        spent = _own_ms(place / "profile")
        if rows:
            one = {name: (ms - idle.get(name, 0.0)) / questions[rows] for name, ms in spent.items()}
            yield _shares(protocol, rows, one)
        else:
            idle = spent


def _own_ms(profile: Path) -> dict[str, float]:
    """Own time by function; what the language itself does (`dict.get`) is counted where it was asked for."""
    stats: _Stats = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]  # typeshed leaves it out
    spent: Counter[str] = Counter()
    for function, (_, _, own_s, _, callers) in stats.items():
        if _place(_name(function)) is None and function[0] == "~":
            for caller, (_, _, own_by_caller_s, _) in callers.items():
                spent[_name(caller)] += own_by_caller_s * 1000  # type: ignore[assignment]  # a Counter counts floats too
        else:
            spent[_name(function)] += own_s * 1000  # type: ignore[assignment]  # as above
    return dict(spent)


def _shares(protocol: str, rows: int, spent_ms: Mapping[str, float]) -> Shares:
    places: Counter[str] = Counter()
    counted = {name: ms for name, ms in spent_ms.items() if _place(name) not in _NOT_COUNTED}
    for name, ms in counted.items():
        places[_place(name) or "the rest of Python"] += ms  # type: ignore[assignment]  # a Counter counts floats too
    functions = sorted(counted.items(), key=lambda item: -item[1])[:FUNCTIONS_SHOWN]
    return Shares(protocol, rows, tuple(places.most_common()), tuple((_short(name), ms) for name, ms in functions))


def _place(name: str) -> str | None:
    return next((place for part, place in _PLACES if part in name), None)


def _name(function: _Function) -> str:
    return f"{function[0]}:{function[2]}"


def _short(name: str) -> str:
    """Without the folders that differ from machine to machine."""
    for folder in (f"{ROOT}/", "site-packages/", "/lib/python"):
        name = name.rpartition(folder)[2]
    return name.removeprefix("~:")
