"""What a benchmark hands back: figures, each beside its peer's and its goal, written as one JSON line.

The first line of a file of results describes the machine and the versions, so that a figure read years later says where
it comes from. Pure but for reading the machine's own description and for writing the file.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median

from gateway.model.imaging import JsonValue

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
LATEST = RESULTS / "latest.jsonl"
"""The last whole run; in the repository."""
PARTIAL = RESULTS / "partial.jsonl"
"""The last quick run, or run of a single benchmark; not in the repository."""

_PACKAGES = ("aiohttp", "orjson", "sqlalchemy", "psycopg", "cryptography", "pydicom", "pynetdicom")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach: a bound on our figure itself, or on its ratio to the peer's."""

    words: str
    is_met: Callable[[Figure], bool]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured. `peer` is None where nobody does the same; `ratio` is ours to the peer's."""

    name: str
    ours: float
    peer: float | None
    unit: str
    goal: Goal | None = None
    about: dict[str, JsonValue] = field(default_factory=dict)
    """Who the peer is, how often it was measured, how far the rounds lay apart."""

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        return self.goal.is_met(self) if self.goal is not None else None

    def to_json(self) -> dict[str, JsonValue]:
        """The line in a file of results."""
        return {
            "name": self.name,
            "ours": _rounded(self.ours),
            "peer": _rounded(self.peer),
            "unit": self.unit,
            "ratio": _rounded(self.ratio),
            "goal": self.goal.words if self.goal is not None else None,
            "met": self.is_met,
            "about": self.about,
        }


def ratio_at_least(bound: float, words: str = "") -> Goal:
    """Our figure is at least `bound` times the peer's."""
    return Goal(words or f"ratio >= {bound:g}", lambda figure: figure.ratio is not None and figure.ratio >= bound)


def ratio_at_most(bound: float, words: str = "") -> Goal:
    """Our figure is at most `bound` times the peer's."""
    return Goal(words or f"ratio <= {bound:g}", lambda figure: figure.ratio is not None and figure.ratio <= bound)


def at_most(bound: float, unit: str) -> Goal:
    """Our figure itself is at most `bound`."""
    return Goal(f"<= {bound:g} {unit}", lambda figure: figure.ours <= bound)


def more_by_at_most(bound: float, unit: str, words: str = "") -> Goal:
    """Our figure exceeds the peer's by `bound` at most."""
    return Goal(
        words or f"ours - peer <= {bound:g} {unit}",
        lambda figure: figure.peer is not None and figure.ours - figure.peer <= bound,
    )


def spread(values: Sequence[float]) -> dict[str, JsonValue]:
    """How many rounds there were, and how far apart they lay."""
    return {"rounds": len(values), "low": _rounded(min(values)), "high": _rounded(max(values))}


def beside(words: str, ours: Sequence[float], theirs: Sequence[float] = ()) -> dict[str, JsonValue]:
    """What a figure says about itself: the peer in words, if there is one, and how far the rounds lay apart."""
    about: dict[str, JsonValue] = {"peer": words} if words else {}
    about["ours"] = spread(ours)
    return about | {"theirs": spread(theirs)} if theirs else about


def middle(values: Sequence[float]) -> float:
    """The median of the rounds."""
    return median(values)


def quantile(ascending: Sequence[float], part: float) -> float:
    """The value below which `part` of the sorted values lie; of few values an upper one."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * part))]


def machine(run: str) -> dict[str, JsonValue]:
    """The first line of a file of results: the machine in words, the revision, the date, the versions."""
    return {
        "machine": f"{_processors()}, {_memory_gib()} GiB, {platform.system()} {platform.release()}, {_system_name()}",
        "run": run,
        "load_before": load(),
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _revision(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
            "dcmtk": _debian("dcmtk"),
            "orthanc": _debian("orthanc"),
            "orthanc-dicomweb": _debian("orthanc-dicomweb"),
            "postgresql": _debian("postgresql-15"),
        },
    }


def load() -> float:
    """How many processes wanted a processor in the last minute: far above none, others were at work as well."""
    return _rounded(os.getloadavg()[0]) or 0.0


def write(path: Path, head: dict[str, JsonValue], figures: Sequence[Figure]) -> None:
    """Write a file of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [head, *(figure.to_json() for figure in figures)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _rounded(value: float | None) -> float | None:
    """Four significant digits: more would claim what no measurement here can hold."""
    return None if value is None else float(f"{value:.4g}")


def _processors() -> str:
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    names = [line.partition(":")[2].strip() for line in cpus[0].splitlines() if line.startswith("model name")]
    return f"{len(cpus) - 1} x {names[0] if names else platform.machine()}"


def _memory_gib() -> int:
    first = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()[0]
    return round(int(first.split()[1]) / 1024 / 1024)


def _system_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown system")


def _revision() -> str:
    return _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*") or "not in git"


def _debian(package: str) -> str:
    return _output("dpkg-query", "-W", "-f=${Version}", package) or "not installed"


def _output(*command: str) -> str:
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return outcome.stdout.strip() if outcome.returncode == 0 else ""
