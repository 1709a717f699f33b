"""The processes of a benchmark: started by hand on loopback, awaited until they answer, stopped by their own number.

Everything measured runs in a process of its own, so that no interpreter lock is shared and each one's memory and
processor time can be read from the kernel. Knows nothing of what the processes do.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import ROOT

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.05
_LISTEN = "0A"
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Child:
    """A running process of ours."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def rss_bytes(self) -> int:
        """Memory resident now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell the resident memory")

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory that was resident since `forget_peak`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell the peak of resident memory")

    def forget_peak(self) -> None:
        """Have the kernel take what is resident now for the peak (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    @property
    def processor_s(self) -> float:
        """Processor time used so far, all threads."""
        # The kernel's clock of another process (clock_getcpuclockid): /proc/<pid>/stat counts in ticks of 10 ms.
        return time.clock_gettime(~self.process.pid << 3 | _CPUCLOCK_SCHED)

    def words(self) -> str:
        """What it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def told(self, pattern: str) -> int:
        """A number in what it has written, such as its port; raises `RuntimeError` if it is not there."""
        found = re.search(pattern, self.words())
        if found is None:
            raise RuntimeError(f"{pattern} is not told: {self.last_words()}")
        return int(found.group(1))

    def last_words(self) -> str:
        """The end of what it has written."""
        return self.words()[-2000:]


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    ready: str,
    environment: Mapping[str, str] | None = None,
    *,
    files: Sequence[int] = (),
) -> Iterator[Child]:
    """A process that has written that it is `ready`, for as long as the block lasts; it has these `files` open too.

    Asking its port instead might reach another process of this machine. Raises `RuntimeError` with its last words.
    """
    with _started(command, log, environment, files) as child:
        _await(child, lambda: ready in child.words())
        yield child


@contextmanager
def listening(
    command: Sequence[str | Path], log: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """A process that says nothing when it is ready: it is when somebody listens on the free port it was given."""
    with _started(command, log, environment, ()) as child:
        _await(child, lambda: _is_listened_on(port))
        yield child


@contextmanager
def _started(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None, files: Sequence[int]
) -> Iterator[Child]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            pass_fds=files,
        )
    try:
        yield Child(process, log)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, by force if it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def python(*arguments: str | Path) -> list[str | Path]:
    """The command of a Python process of this environment."""
    return [sys.executable, "-B", *arguments]


def _await(child: Child, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if child.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{child.process.args!r} did not start: {child.last_words()}")
        time.sleep(_POLL_S)


def _is_listened_on(port: int) -> bool:
    """Whether the kernel has a listening socket there, on one address or on all; connecting would be a first caller."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = (line.split() for table in tables if table.exists() for line in table.read_text("ascii").splitlines()[1:])
    return any(row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port for row in rows)
