"""What goes wrong on a connection: chosen by a seed, so that a run can be told again.

A plan is a pure function of seed, place, connection and direction, and of nothing that the clock or the scheduler
decides. All is bounded: a connection that is stalled or trickles is let go, and a fault falls within its first bytes.
Garbling writes bytes that no number, date, UID or JSON can hold: on a plain hop nothing else could tell it from truth.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

AFTER_BYTES_MAX = 20_000
DELAY_S_MAX = 1.5
STALL_S_MAX = 6.0
TRICKLED_BYTES_MAX = 400
GARBLED_BYTES_MAX = 8
GARBAGE = 0xFF


class Direction(StrEnum):
    """Which way bytes go."""

    ASKING = "asking"
    """From whoever connected."""
    ANSWERING = "answering"


class Fault(StrEnum):
    """What happens to the bytes of one direction, once so many have passed."""

    NONE = "none"
    DELAY = "delay"
    """They come later, whole."""
    CUT = "cut"
    """The connection ends, both ways."""
    RESET = "reset"
    """The same, with a reset."""
    HALF_CLOSE = "half-close"
    """This direction ends in order, the other goes on."""
    GARBLE = "garble"
    """Some bytes are others."""
    STALL = "stall"
    """Nothing more comes; after a while the connection ends."""
    TRICKLE = "trickle"
    """Some hundred bytes come one by one, then the rest."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one direction of one connection."""

    fault: Fault = Fault.NONE
    after_bytes: int = 0
    """How many pass unharmed before it."""
    lasts_s: float = 0.0
    """How long it is delayed or stalled."""
    bytes_hit: int = 0
    """How many are garbled, or trickle."""


Plans = Callable[[int, Direction], Plan]
"""The plan of a connection, by its number at its place, and of a direction."""

HONEST = Plan()


def honest(_connection: int, _direction: Direction) -> Plan:
    """Everything passes."""
    return HONEST


def always(asking: Plan = HONEST, answering: Plan = HONEST) -> Plans:
    """The same on every connection."""
    return lambda _, direction: asking if direction is Direction.ASKING else answering


def seeded(seed: int, place: str, harmless_share: float = 0.5) -> Plans:
    """The plans of one place under a seed; that share of directions is honest."""

    def plan(connection: int, direction: Direction) -> Plan:
        draw = random.Random(f"{seed}/{place}/{connection}/{direction}")
        if draw.random() < harmless_share:
            return HONEST
        fault = draw.choice([each for each in Fault if each is not Fault.NONE])
        # As often among the first bytes, where protocols greet each other, as in the midst of rows.
        after_bytes = int(AFTER_BYTES_MAX ** draw.random()) - 1
        match fault:
            case Fault.DELAY:
                return Plan(fault, after_bytes, lasts_s=draw.uniform(0.01, DELAY_S_MAX))
            case Fault.STALL:
                return Plan(fault, after_bytes, lasts_s=draw.uniform(0.5, STALL_S_MAX))
            case Fault.TRICKLE:
                return Plan(fault, after_bytes, bytes_hit=draw.randint(1, TRICKLED_BYTES_MAX))
            case Fault.GARBLE:
                return Plan(fault, after_bytes, bytes_hit=draw.randint(1, GARBLED_BYTES_MAX))
            case _:
                return Plan(fault, after_bytes)

    return plan
