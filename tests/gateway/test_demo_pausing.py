"""A pause of pynetdicom's reading thread begins when the thread stands still, not when it has come by."""

from __future__ import annotations

import threading

import pytest

from gateway.demo.pausing import Checkpoint

HANG_S = 30.0
WHILE_S = 0.2
"""How long a pause that must not have begun is given to begin."""


class Reader(threading.Thread):
    """Comes by its checkpoint, and then reads until it is let go; so it goes on until it is told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.checkpoint = Checkpoint(self)
        self.reads, self.may_end_reading = threading.Event(), threading.Event()
        self.is_told_to_end = False

    def run(self) -> None:
        while not self.is_told_to_end:
            self.checkpoint.wait()
            self.reads.set()
            assert self.may_end_reading.wait(HANG_S)


@pytest.fixture
def reader() -> Reader:
    """One that has come by its checkpoint and reads."""
    running = Reader()
    running.start()
    assert running.reads.wait(HANG_S)
    return running


def pausing(reader: Reader) -> threading.Thread:
    """Somebody who waits for the reader to be paused."""
    waiting = threading.Thread(target=reader.checkpoint.clear, daemon=True)
    waiting.start()
    return waiting


def test_a_pause_waits_for_a_reader_that_came_by_before_it(reader: Reader) -> None:
    waiting = pausing(reader)
    waiting.join(WHILE_S)
    assert waiting.is_alive()
    reader.may_end_reading.set()
    waiting.join(HANG_S)
    assert not waiting.is_alive()


def test_a_paused_reader_reads_nothing_until_it_is_let_go(reader: Reader) -> None:
    waiting = pausing(reader)
    reader.may_end_reading.set()
    waiting.join(HANG_S)
    reader.reads.clear()
    assert not reader.reads.wait(WHILE_S)
    reader.checkpoint.set()
    assert reader.reads.wait(HANG_S)
    reader.is_told_to_end = True


def test_nobody_waits_for_a_reader_that_is_gone(reader: Reader) -> None:
    reader.is_told_to_end = True
    waiting = pausing(reader)
    reader.may_end_reading.set()
    waiting.join(HANG_S)
    assert not waiting.is_alive() and not reader.is_alive()
