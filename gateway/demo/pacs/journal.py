"""What the simulated PACS was asked: counters, and the last requests with their headers, never a body.

This is how a test proves that a trust was *not* asked, or was asked with exactly these keys. It holds identifiers of
test patients and is read only through the loopback control port. Written by the event loop and by pynetdicom's threads.
"""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

Json = Mapping[str, object]


class Door(StrEnum):
    """Which service was asked."""

    QIDO = "qido"
    WADO = "wado"
    STOW = "stow"
    OTHER_HTTP = "other-http"
    ASSOCIATION = "association"
    ECHO = "c-echo"
    FIND = "c-find"
    MOVE = "c-move"
    GET = "c-get"
    STORE = "c-store"


class Journal:
    """Counts every request and keeps the last `requests_max` of them."""

    def __init__(self, requests_max: int) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Door] = Counter()
        self._requests: deque[Json] = deque(maxlen=requests_max)
        self._number = 0

    def record(self, door: Door, details: Json) -> None:
        """Count one request and keep it with its details."""
        with self._lock:
            self._number += 1
            self._counts[door] += 1
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._requests.append({"number": self._number, "at": at, "door": door.value, **details})

    def as_json(self) -> Json:
        """Every door's count since the start or the last `clear`, and the requests kept, oldest first."""
        with self._lock:
            counts = {door.value: self._counts[door] for door in Door}
            return {"counts": counts, "requests": list(self._requests)}

    def clear(self) -> None:
        """Forget all requests; their numbers go on."""
        with self._lock:
            self._counts.clear()
            self._requests.clear()
