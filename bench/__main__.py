"""`python -m bench`: measure, print and keep the figures. `make bench` and `make bench-quick` call it.

A whole run replaces `bench/results/latest.jsonl`; a quick one, or one of a single benchmark, leaves it alone and writes
`partial.jsonl`. A figure that misses its goal is printed like any other: this never fails for being slow.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import fanout, find, idle, memory, profile, qido, store
from bench.figures import LATEST, PARTIAL, Figure, load, machine, write
from bench.images import beside, cold, growing, ingest, jobs, warm, web
from bench.parts import audit, cache, decisions, locations, merge
from bench.plan import QUICK, TINY, WHOLE, Effort, Say
from bench.reports import intake, release
from gateway import logs

Benchmark = Callable[[Effort, Path, Say], Iterator[Figure]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "decisions": decisions.measure,
    "audit": audit.measure,
    "qido": qido.measure,
    "memory": memory.measure,
    "store": store.measure,
    "idle": idle.measure,
    "find": find.measure,
    "locations": locations.measure,
    "fanout": fanout.measure,
    "merge": merge.measure,
    "cache": cache.measure,
    "ingest": ingest.measure,
    "warm": warm.measure,
    "web": web.measure,
    "cold": cold.measure,
    "beside": beside.measure,
    "growing": growing.measure,
    "jobs": jobs.measure,
    "reports": intake.measure,
    "due": release.measure,
}
_EFFORTS = {"whole": WHOLE, "quick": QUICK, "tiny": TINY}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure against peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a few minutes")
    parser.add_argument("--only", choices=sorted(BENCHMARKS), action="append", help="this one (may be given again)")
    parser.add_argument("--tiny", action="store_true", help="only show that it runs: the figures mean nothing")
    parser.add_argument("--profile", action="store_true", help="show where an answer's time goes; no figures")
    parser.add_argument("--results", type=Path, help="write the lines here instead")
    chosen = parser.parse_args(arguments)
    logs.configure("error", as_json=False)
    if chosen.profile:
        return _profile()
    size = "tiny" if chosen.tiny else "quick" if chosen.quick else "whole"
    names = [name for name in BENCHMARKS if not chosen.only or name in chosen.only]
    is_whole = size == "whole" and not chosen.only
    head = machine(f"{size} run of {', '.join(names)}")
    print(json.dumps(head), flush=True)
    figures: list[Figure] = []
    for name in names:
        figures += _run(name, _EFFORTS[size])
    path = chosen.results or (LATEST if is_whole else PARTIAL)
    write(path, {**head, "load_after": load()}, figures)
    _say("bench", f"{len(figures)} figures in {path}; goals missed: {sum(f.is_met is False for f in figures)}")
    return 0


def _run(name: str, effort: Effort) -> list[Figure]:
    """Run one benchmark in a folder of its own on the disk that the checkout is on."""
    began = time.monotonic()
    figures = []
    with tempfile.TemporaryDirectory(prefix=f"gateway-bench-{name}-", dir=_disk()) as folder:
        for figure in BENCHMARKS[name](effort, Path(folder), lambda words: _say(name, words)):
            figures.append(figure)
            print(json.dumps(figure.to_json()), flush=True)
            gc.collect()
    _say(name, f"done in {time.monotonic() - began:.0f} s")
    return figures


def _profile() -> int:
    with tempfile.TemporaryDirectory(prefix="gateway-bench-profile-", dir=_disk()) as folder:
        for shares in profile.measure(Path(folder), lambda words: _say("profile", words)):
            print("\n".join(shares.lines()), flush=True)
    return 0


def _disk() -> str | None:
    """A folder on a real disk: where temporary files live in memory, durability would cost nothing."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None


def _say(name: str, words: str) -> None:
    print(f"{name}: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
