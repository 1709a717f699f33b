"""What every sender is told and what it tells: a load of C-STORE, and how long it took.

`Load` says which files go where over how many associations. Whatever sends them, the time runs from the first
connection to the last release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.rig.dimse.objects import Instance, load
from bench.rig.dimse.wire import Door
from bench.rig.workers import Told, Worker


@dataclass(frozen=True, slots=True)
class Load:
    """The files in each folder go over an association of their own, all at once."""

    door: Door
    folders: tuple[str, ...]
    count: int
    """So many instances in all at most."""

    @classmethod
    def of(cls, door: Door, folders: Sequence[Path], count: int) -> Load:
        """A load of the files in these folders."""
        return cls(door, tuple(map(str, folders)), count)

    @classmethod
    def told(cls, told: Told) -> Load:
        """As it came in over a worker's line."""
        door, folders, count = told["door"], told["folders"], told["count"]
        assert isinstance(door, dict) and isinstance(folders, list) and isinstance(count, int)
        return cls(Door(**door), tuple(map(str, folders)), count)  # type: ignore[arg-type]  # we wrote it ourselves

    def instances(self) -> list[tuple[Instance, ...]]:
        """What each association sends."""
        return [load(Path(folder))[: self.count // len(self.folders)] for folder in self.folders]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a load took."""

    instances: int
    elapsed_s: float

    @property
    def per_s(self) -> float:
        """Instances a second."""
        return self.instances / self.elapsed_s


def ask(worker: Worker, load: Load) -> Sent:
    """Have a worker send a load."""
    return Sent(**worker.ask(asdict(load)))  # type: ignore[arg-type]  # a `Sent` as JSON
