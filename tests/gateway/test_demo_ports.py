"""A port that was given to one asker is no other's: not a second asker's, not another process's, not a connection's."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo import ports
from gateway.demo.ports import free_port

_MANY = 200


def test_no_port_is_given_twice() -> None:
    given = [free_port() for _ in range(_MANY)]
    assert len(set(given)) == _MANY


def test_the_kernel_gives_them_to_no_connection() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert all(free_port() < lowest for _ in range(_MANY))


def test_a_port_that_somebody_listens_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port, other = taken.getsockname()[1], free_port()
        ports._kept.pop().close()  # `other` may be given again
        monkeypatch.setattr(ports, "_candidates", lambda: iter([port, other]))
        assert free_port() == other


def test_another_process_is_not_given_what_this_one_was() -> None:
    mine, other = free_port(), free_port()
    ports._kept.pop().close()
    code = (
        f"from gateway.demo import ports\nports._candidates = lambda: iter([{mine}, {other}])\nprint(ports.free_port())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(answer.stdout) == other
