"""A process that works on request: one JSON object a line in, one out. Both ends of that line.

Loads run in such processes, so that what they cost is not the cost of what they measure, and so that what is warm
stays warm between rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bench.figures import ROOT
from bench.rig.processes import python, stop
from gateway.model.imaging import JsonValue

Told = Mapping[str, JsonValue]


class Worker:
    """The process, seen from the benchmark."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, told: Told) -> Told:
        """Have one piece of work done; raises `RuntimeError` with the worker's words if it fails."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended")
        answer: Told = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self._process.args!r}: {answer['error']}")
        return answer


@contextmanager
def working(module: str) -> Iterator[Worker]:
    """A worker for as long as the block lasts."""
    command = [str(part) for part in python("-m", module)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        yield Worker(process)
    finally:
        stop(process)


def work(perform: Callable[[Told], Told]) -> None:
    """The worker's own side: perform what comes in until the input ends."""
    for line in sys.stdin:
        try:
            answer = perform(json.loads(line))
        except (OSError, TimeoutError, RuntimeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
