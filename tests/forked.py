"""Start processes of ours by forking one that has loaded everything: a start then costs no imports.

A region has four processes, a test that kills starts dozens of gateways, and loading modules is nearly all that a
start costs. `Forks.start` stands in for `asyncio.create_subprocess_exec` where the command is `python -m module`: same
arguments, environment and descriptors, a process of its own with an id to be killed by. Its parent is a minder, forked
as well, which says how it ended and kills it when the tests go away. That `python -m gateway.cli` itself starts, the
check of the demonstration and the tests of `gateway` say.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import import_module
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, NoReturn

import pytest

LOADED = (
    *("gateway.app", "gateway.cli.session", "gateway.cli.operating.serving", "gateway.cli.batch", "gateway.demo.pacs"),
    *("gateway.demo.pacs.simulator", "alembic.command", "alembic.context"),
)
"""What is loaded before anything is forked; more would do no harm."""
REQUEST_BYTES_MAX = 256 * 1024
PIPE_BYTES_MAX = 64 * 1024
"""What a pipe takes without anybody reading."""


class Forked:
    """A process that was forked, as `asyncio.subprocess.Process` shows one."""

    def __init__(self, pid: int, minder: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._writer = writer
        self._ended = asyncio.create_task(self._end(minder))

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit status at its end; negative: the signal."""
        return await asyncio.shield(self._ended)

    async def communicate(self, typed: bytes = b"") -> tuple[bytes, bytes]:
        """What it printed until its end, where that was asked for, having been typed a little."""
        if self.stdin is not None:
            assert len(typed) <= PIPE_BYTES_MAX
            self.stdin.write(typed)
            self.stdin.close()
        output, errors = await asyncio.gather(*(_all_of(stream) for stream in (self.stdout, self.stderr)))
        await self.wait()
        return output, errors

    async def _end(self, minder: asyncio.StreamReader) -> int:
        status = int(await minder.readline())
        self.returncode = status
        self._writer.close()
        if self.stdin is not None:
            self.stdin.close()
        return status


class Forks:
    """The tests' end of the process that forks. A context manager."""

    def __enter__(self) -> Forks:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __spec__.name, str(theirs.fileno())]
        self._process = Popen(command, pass_fds=[theirs.fileno()], stdin=DEVNULL)
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait()

    async def start(
        self,
        program: str,
        *arguments: str,
        stdin: int | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Forked:
        """Start `python -m module ...` as `asyncio.create_subprocess_exec` does."""
        assert program == sys.executable and arguments[0] == "-m", arguments
        order = {"module": arguments[1], "arguments": arguments[2:], "environment": dict(env or os.environ)}
        with contextlib.ExitStack() as stack:  # ours of what is theirs: closed once it is sent
            minder, theirs = socket.socketpair()
            stack.enter_context(theirs)
            keyboard, their_keyboard = _keyboard(stdin, stack)
            output, their_output = _screen(stdout, 1, stack)
            errors, their_errors = _screen(stderr, 2, stack)
            theirs_all = [theirs.fileno(), their_keyboard, their_output, their_errors]
            await asyncio.to_thread(socket.send_fds, self._control, [json.dumps(order).encode()], theirs_all)
        reader, writer = await asyncio.open_connection(sock=minder)
        forked = Forked(int(await reader.readline()), reader, writer)
        forked.stdin = keyboard
        forked.stdout = None if output is None else await _reader(output)
        forked.stderr = None if errors is None else await _reader(errors)
        return forked


Start = Callable[..., Awaitable[asyncio.subprocess.Process | Forked]]
"""How a process is started: `asyncio.create_subprocess_exec`, or `Forks.start`."""


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts processes of ours in little time."""
    with Forks() as running:
        yield running


def _keyboard(asked: int | None, stack: contextlib.ExitStack) -> tuple[IO[bytes] | None, int]:
    """Our end of its standard input, if a pipe was asked for, and its own."""
    if asked == PIPE:
        theirs, ours = os.pipe()
        stack.callback(os.close, theirs)
        return os.fdopen(ours, "wb"), theirs
    theirs = os.open(os.devnull, os.O_RDONLY)
    stack.callback(os.close, theirs)
    return None, theirs


def _screen(asked: int | IO[bytes] | None, inherited: int, stack: contextlib.ExitStack) -> tuple[int | None, int]:
    """Our end of its output, if a pipe was asked for, and its own."""
    if asked == PIPE:
        ours, theirs = os.pipe()
        stack.callback(os.close, theirs)
        return ours, theirs
    if asked is None:
        return None, inherited
    assert not isinstance(asked, int)
    return None, asked.fileno()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


def fork_on_demand(control: socket.socket) -> None:
    """The other end: fork a minder for each order, until the tests go away."""
    for module in LOADED:
        import_module(module)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a minder
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, 4)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _mind(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _mind(order: dict[str, object], status: int, *streams: int) -> NoReturn:
    """Fork the process, and tell its id and its end; kill it when nobody listens any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _run(order, streams)
    for descriptor in streams:
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"{pid}\n".encode())
    ended, listening = os.pidfd_open(pid), select.poll()
    listening.register(ended, select.POLLIN)
    listening.register(status, select.POLLIN)
    if ended not in dict(listening.poll()):
        os.kill(pid, signal.SIGKILL)
    _, code = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def _run(order: dict[str, object], streams: tuple[int, ...]) -> NoReturn:
    """Be `python -m module`, with these as standard input, output and errors."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        module, arguments, environment = order["module"], order["arguments"], order["environment"]
        assert isinstance(module, str) and isinstance(arguments, list) and isinstance(environment, dict)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001  # the outermost frame of the child
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    fork_on_demand(socket.socket(fileno=int(sys.argv[1])))
