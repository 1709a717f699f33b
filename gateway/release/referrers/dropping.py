"""Notices to staff as files: one JSON file each in a folder per trust, for whatever sends mail or fills a worklist.

A file is whole when it has its name, and has the same name however often it is written; whoever takes it away deletes
it. It holds no report and nothing of a patient (SAF-41), so it is not sealed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from gateway.model.errors import StoreFull, StoreUnavailable
from gateway.model.reporting.notices import Notice

WAITING_MAX = 20_000
"""Files of one trust that nobody has fetched: beyond them none is written, and what is due waits."""
Elsewhere = Callable[[Callable[[], None]], Awaitable[None]]


class NoticeDrop:
    """A `Notifier` that writes files."""

    def __init__(self, folder: Path, elsewhere: Elsewhere) -> None:
        """`elsewhere` runs in a thread what would hold up the loop."""
        self._folder = folder
        self._elsewhere = elsewhere

    async def tell(self, notice: Notice) -> str:
        """See `Notifier`: that a file lies there proves nothing.

        Raises `StoreFull` where nobody fetches, `StoreUnavailable` where it cannot be written.
        """

        def body() -> None:
            _write(self._folder / notice.trust.code, notice)

        await self._elsewhere(body)
        return ""


def encoded(notice: Notice) -> bytes:
    """A notice as its file says it."""
    return orjson.dumps(
        {
            "notice": notice.key,
            "trust": notice.trust.code,
            "report": notice.report_id,
            "version": notice.version_id,
            "report_number": notice.report_number,
            "matter": notice.matter.value,
            "to": [{"role": each.recipient.value, "address": each.address} for each in notice.to],
            "due_at": notice.due_at.isoformat(),
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _write(folder: Path, notice: Notice) -> None:
    file = folder / f"{notice.key}.json"
    unfinished = folder / f".{notice.key}"
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        if file.exists():
            return
        with os.scandir(folder) as waiting:
            if sum(1 for _ in waiting) >= WAITING_MAX:
                raise StoreFull("nobody fetches the notices of this trust")
        with unfinished.open("wb") as stream:
            stream.write(encoded(notice))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
        _sync(folder)
    except OSError as error:
        raise StoreUnavailable("a notice cannot be written") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
