"""Fault points: named places where a test may stop, slow or kill the process. In service they do nothing.

`GATEWAY_FAULTS` names them: `point=kill@3` kills the process with SIGKILL at the third passage of `point`,
`point=raise@1` raises `OSError` (as a full disk would), `point=sleep:250@2` blocks for 250 ms. Several are separated
by commas; without `@n` every passage is meant. With `GATEWAY_FAULTS_LOG` set, each passage appends the point's name to
that file: so tests learn which points a scenario passes, and that none is never passed. `GATEWAY_FAULTS_FROM` names a
file; until it is there nothing is counted, so that a plan for one question does not meet the start before it.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from functools import lru_cache


def faultpoint(name: str) -> None:
    """Pass the point `name`; every durable step has one before and one after."""
    if "GATEWAY_FAULTS" not in os.environ and "GATEWAY_FAULTS_LOG" not in os.environ:
        return
    begins = os.environ.get("GATEWAY_FAULTS_FROM")
    if begins and not os.path.exists(begins):
        return
    passage = _count(name)
    log_path = os.environ.get("GATEWAY_FAULTS_LOG")
    if log_path:
        with open(log_path, "a", encoding="utf-8") as log:
            log.write(name + "\n")
    for point, action, nth in _plan(os.environ.get("GATEWAY_FAULTS", "")):
        if point == name and nth in (0, passage):
            _act(name, action)


def _act(name: str, action: str) -> None:
    verb, _, argument = action.partition(":")
    match verb:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(int(argument) / 1000)
        case "raise":
            raise OSError(errno.ENOSPC, f"fault at {name}")
        case _:
            raise ValueError(f"unknown fault action {verb!r}: use kill, raise or sleep:<ms>")


@lru_cache(maxsize=16)
def _plan(text: str) -> tuple[tuple[str, str, int], ...]:
    plan = []
    for item in filter(None, text.split(",")):
        point, _, rest = item.partition("=")
        action, _, nth = rest.partition("@")
        plan.append((point, action, int(nth or 0)))
    return tuple(plan)


# The one piece of module state in the house: passages are counted per process, and only under test.
_passages: dict[str, int] = {}


def _count(name: str) -> int:
    _passages[name] = _passages.get(name, 0) + 1
    return _passages[name]
