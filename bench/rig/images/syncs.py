"""How often a process has the disk synced while something happens: counted by strace, system call by system call.

The process is slowed by being watched, so nothing is timed at the same time. Needs Debian's package strace.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.rig.processes import Child

_CALL = re.compile(r"\bf(?:data)?sync\(\d+<([^>]*)>")
_PACK = ".pack"
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Syncs:
    """System calls that sync."""

    packs: int
    """Of the sealed cache."""
    others: int
    """Of the databases, above all: registers, audit, keys and index."""


def is_installed() -> bool:
    """Whether strace is here."""
    return shutil.which("strace") is not None


def counted(child: Child, log: Path, happening: Callable[[], object]) -> Syncs:
    """What the process synced while it happened."""
    calls = ("-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(log), "-p", str(child.process.pid))
    tracer = subprocess.Popen(["strace", *calls], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if b"attached" not in said:
            raise RuntimeError(f"strace does not watch: {said.decode(errors='replace')}")
        happening()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=STOP_TIMEOUT_S)
    paths = _CALL.findall(log.read_text(encoding="utf-8", errors="replace"))
    packs = sum(path.endswith(_PACK) for path in paths)
    return Syncs(packs, len(paths) - packs)
