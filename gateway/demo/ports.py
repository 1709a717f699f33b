"""Ports of loopback for servers that are told their port before they start, each given to one asker only.

A port that the kernel picks and that is closed again may be an outgoing connection's by the time that its server
starts. These come from below the kernel's range for connections, and stay this process's while it runs.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import random
import socket
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOWEST: Final = 10_240
_KERNELS_LOWEST: Final = 32_768
"""Linux's start value of `net.ipv4.ip_local_port_range`."""
_TRIES_MAX: Final = 1_000
_KEPT_MAX: Final = 512
"""Reservations of one process; whoever asked for an older one listens on it by then, or has ended."""

_kept: Final[deque[socket.socket]] = deque(maxlen=_KEPT_MAX)
_source: Final = random.SystemRandom()
"""Not a seeded one: tests that seed `random` alike in two processes would try the same ports."""


def free_port() -> int:
    """A loopback port that nothing listens on, that no connection gets by chance, and that is given only once.

    Raises `OSError` where none is left.
    """
    for port in _candidates():
        with contextlib.suppress(OSError):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            _kept.append(_reserved(port))
            return port
    raise OSError(errno.EADDRINUSE, "no port of loopback is free")


@atexit.register
def _give_back() -> None:
    while _kept:
        _kept.pop().close()


def _candidates() -> Iterator[int]:
    highest = max(_lowest_of_connections(), _LOWEST + _TRIES_MAX)
    return (_source.randrange(_LOWEST, highest) for _ in range(_TRIES_MAX))


def _lowest_of_connections() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return _KERNELS_LOWEST


def _reserved(port: int) -> socket.socket:
    """What keeps other processes that ask here from the port. Raises `OSError` if another has it."""
    held = socket.socket(socket.AF_UNIX)
    if sys.platform == "linux":  # an abstract name: it goes with the process, whatever ends it
        try:
            held.bind(f"\0gateway-demo-port-{port}")
        except OSError:
            held.close()
            raise
    return held
