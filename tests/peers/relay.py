"""A TCP relay in front of a server: cuts connections when a test says so, before or after certain bytes pass."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial


class Cut(Enum):
    """Where a connection is cut when the awaited bytes come from the client."""

    BEFORE = "before"
    """The server never gets them."""
    AFTER = "after"
    """The server gets them, and its answer is lost."""


class Relay:
    """A listening relay. A context manager; `port` is where clients connect."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._plan: tuple[bytes, Cut] | None = None
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.cuts = 0
        """How often a plan came true."""

    @property
    def port(self) -> int:
        """Where clients connect."""
        port: int = self._listener.getsockname()[1]
        return port

    def cut_at(self, awaited: bytes, where: Cut) -> None:
        """Cut the next connection whose client sends `awaited`."""
        self._plan = (awaited, where)

    def cut_all(self) -> None:
        """Cut every connection now."""
        for side in self._open:
            _hang_up(side)

    def __enter__(self) -> Relay:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        _hang_up(self._listener)
        self.cut_all()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                self._start(partial(self._forward, client, server))
                self._start(partial(self._pump, server, client))

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while content := client.recv(65536):
                plan = self._plan
                if plan is None or plan[0] not in content:
                    server.sendall(content)
                    continue
                self._plan = None
                self.cuts += 1
                if plan[1] is Cut.AFTER:
                    _hang_up(client)  # the answer finds nobody
                    server.sendall(content)
                    with suppress(OSError):
                        server.recv(65536)  # but the server has answered
                break
        _hang_up(client)
        _hang_up(server)

    def _pump(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while content := server.recv(65536):
                client.sendall(content)
        _hang_up(client)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()


def _hang_up(side: socket.socket) -> None:
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        side.close()
