"""Make pynetdicom's pause hold, so that a response reaches whoever waits for it.

pynetdicom reads an association in a thread of its own, and pauses that while a request awaits its responses. It takes
the thread for paused as soon as it has come by: on a busy machine the thread then goes on, throws the response away as
unexpected, and the request ends at its time-out as if the other side had gone. Here a pause has begun when the thread
stands still.
"""

from __future__ import annotations

import threading
from typing import Final

from pynetdicom import evt

_LOOK_S: Final = 0.1
"""How often one who waits looks whether the thread is still there."""


class Checkpoint:
    """Where the reading thread of an association stands as long as it is paused: not set, as an event is not."""

    def __init__(self, reader: threading.Thread) -> None:
        self._reader = reader
        self._changed = threading.Condition()
        self._is_set = True
        self._stands = False

    def set(self) -> None:
        """Let the reading thread go on."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def wait(self) -> None:
        """Stand still until this is set: called by the reading thread."""
        with self._changed:
            while not self._is_set:
                self._stands = True
                self._changed.notify_all()
                self._changed.wait()
            self._stands = False

    def clear(self) -> None:
        """Pause the reading thread; returns when it stands still, or has ended, or is who asks."""
        with self._changed:
            self._is_set = False
            while not self._stands and self._reader.is_alive() and self._reader is not threading.current_thread():
                self._changed.wait(_LOOK_S)


def pause_soundly(event: evt.Event) -> None:
    """Bind this to `EVT_CONN_OPEN` of whatever sends requests."""
    event.assoc._reactor_checkpoint = Checkpoint(event.assoc)  # type: ignore[assignment]  # all that is asked of it
