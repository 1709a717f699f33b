"""The process in which pixels are decoded: gives up what it does not need, then does one task after the other.

Started by the pool as `python -m gateway.pixels.worker`. Before the first task it has loaded every codec and can open
no file and no socket any more, write no file, leave no core; time is set anew for each task. What codecs print goes
nowhere. Ends when its input does, and with its parent.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from io import BytesIO, FileIO

from gateway.model.errors import GatewayError, NotAcceptable
from gateway.pixels.tasks import Tasks
from gateway.pixels.wire import HEAD_BYTES_MAX, LENGTHS, Head, Message, decoded_head, encoded_head

_TASK_BYTES_MAX = 1024 * 1024 * 1024
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_SET_PARENT_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38


def main() -> None:
    """Serve tasks until the pool closes the pipe."""
    memory_bytes_max, cpu_s_max, frame_bytes_max = (int(argument) for argument in sys.argv[1:4])
    source, sink = FileIO(0, closefd=False), FileIO(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    _isolate()
    tasks = Tasks(frame_bytes_max)
    tasks.warm()
    confine(memory_bytes_max)
    while (task := _next(source)) is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        used_s = int(used.ru_utime + used.ru_stime)
        resource.setrlimit(resource.RLIMIT_CPU, (used_s + cpu_s_max + 1, resource.RLIM_INFINITY))
        answer = _answer(tasks, task)
        sink.write(encoded_head(answer.head, len(answer.body)))
        _write(sink, answer.body)
        if answer.head.get("is_last"):
            return


def _answer(tasks: Tasks, task: Message) -> Message:
    try:
        return tasks.run(task)
    except MemoryError:
        return Message({"refused": "the pixels need more memory than they may have", "is_last": True})
    except GatewayError as error:
        return Message({"refused": str(error), "is_asked_wrongly": not isinstance(error, NotAcceptable)})
    except Exception:  # noqa: BLE001 - the outermost frame: what codecs raise has no common kind
        return Message({"refused": "the pixels cannot be decoded"})


def _isolate() -> None:
    """Leave the network where the kernel lets anybody do so, and die with the pool."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.unshare(_NEW_USER | _NEW_NETWORK)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def confine(memory_bytes_max: int) -> None:
    """Open nothing, write no file, leave no core, take no more memory: from now on and for good."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _next(source: FileIO) -> Message | None:
    lengths = _read(source, LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head_bytes, body_bytes = LENGTHS.unpack(lengths)
    if head_bytes > HEAD_BYTES_MAX or body_bytes > _TASK_BYTES_MAX:
        return None
    head: Head = decoded_head(_read(source, head_bytes))
    return Message(head, _read(source, body_bytes))


def _read(source: FileIO, size: int) -> bytes:
    found = BytesIO()
    while size and (piece := source.read(min(size, 1024 * 1024))):
        found.write(piece)
        size -= len(piece)
    return found.getvalue()


def _write(sink: FileIO, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[sink.write(rest) or 0 :]


if __name__ == "__main__":
    main()
