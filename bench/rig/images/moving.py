"""C-MOVE as the benchmarks ask it: one request on an association of its own, timed to its last response.

Reads heads only, so that next to nothing is spent on this side; the images go elsewhere.
"""

from __future__ import annotations

import time

from bench.rig.dimse import wire
from bench.rig.dimse.sending import Sent
from bench.rig.images.studies import Study

MEDIUM, LOW = 0, 2
"""Priorities (PS3.7 9.3.4.1)."""


def move(door: wire.Door, study: Study, destination: str, *, priority: int = MEDIUM) -> Sent:
    """Have a study sent to an AE title; raises `RuntimeError` unless all of it went there."""
    named = [(0x00080052, "STUDY"), (0x0020000D, study.uid)]
    line = wire.Line(door, wire.STUDY_ROOT_MOVE, wire.IMPLICIT_LE)
    began = time.perf_counter()
    line.socket.sendall(wire.move_request(1, destination, wire.identifier(named), priority=priority))
    status, completed = line.read_move()
    elapsed_s = time.perf_counter() - began
    line.release()
    if (status, completed) != (wire.SUCCESS, study.count % 0x10000):
        raise RuntimeError(f"C-MOVE ended with {status:04X}, {completed} of {study.count} sent")
    return Sent(study.count, elapsed_s)
