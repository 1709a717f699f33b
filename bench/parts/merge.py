"""The core alone, without sockets or store: the rows of ten trusts read, judged and merged, by the row.

Ten answers of a hundred rows each beside ten of a thousand: what one row costs must not hang on how many there are.
The same number of rows is worked off on both sides, ten questions of a thousand rows or one of ten thousand, so that
all of them lie in memory and none in the processor's cache. Two kinds of rows: those of studies of their own, and
copies, where each study is at two trusts and the copies differ in their description. Processor time, for nobody else's
work is then in it; no peer, for nobody else merges by these rules.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.figures import Figure, middle, ratio_at_most, spread
from bench.plan import Effort, Say, in_turns
from bench.rig import studies
from dicomweb.dicomjson import Reading, read_rows
from gateway.model.imaging import PATIENT_ID, STUDY_DATE, JsonValue, Key, Level, Query, SourceState
from gateway.sharing.identity.conflicts import judge
from gateway.sharing.merge import merge, read_answers
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.scope import pinned_scope
from policy.parties import TrustId

TRUSTS = tuple(TrustId(f"RB{number:03}") for number in range(1, 11))
FEWER = 10
"""How many times smaller the question is that the large one is held against."""
RATIO_MAX = 1.2
_PATIENT = studies.of_one_patient(1)[0].patient
_QUERY = Query(
    Level.STUDY,
    (Key((PATIENT_ID,), "LO", (_PATIENT.digits,)), Key((STUDY_DATE,), "DA", ("20100101-",))),
)
_STAGES = ("read and match", "judge", "merge", "all three")

Answers = Sequence[TrustAnswer]


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of processor time for all rows, stage by stage."""

    read_s: float
    judge_s: float
    merge_s: float

    def stages(self) -> tuple[float, ...]:
        """In the order of `_STAGES`."""
        return (self.read_s, self.judge_s, self.merge_s, self.read_s + self.judge_s + self.merge_s)


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    total = effort.merged_rows
    gc.collect()
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000, 50, 50)  # as `gateway serve` runs
    try:
        for words, copies in (("each at one trust", 1), ("each at two trusts", 2)):
            say(f"merging {total:,} rows of {len(TRUSTS)} trusts, {words}")
            large, small = [answers(total, copies)], [answers(total // FEWER, copies) for _ in range(FEWER)]
            turns = {"large": partial(work_off, large), "small": partial(work_off, small)}
            yield from _figures(f"merge, {total:,} rows of ten trusts, {words}", in_turns(turns, effort.rounds), total)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def answers(total: int, copies: int) -> Answers:
    """Ten trusts' answers with `total` rows, as the connector reads them; each study is at so many trusts."""
    each = total // len(TRUSTS)
    told = []
    for index, trust in enumerate(TRUSTS):
        first = (index // copies) * each + 1
        held = studies.of_one_patient(each, first)
        body = studies.rows(held).replace("with contrast", f"with contrast {trust.code}")
        rows = read_rows(body.encode(), Reading(trust, depth_max=32))
        told.append(TrustAnswer(trust, SourceState.ANSWERED, rows, 0.05))
    return told


def work_off(questions: Sequence[Answers]) -> Spent:
    """Read, judge and merge the answers to each question; raises `RuntimeError` if rows got lost."""
    scope = pinned_scope(_QUERY)
    spent = Spent(0.0, 0.0, 0.0)
    for told in questions:
        began = time.thread_time()
        reading = read_answers(_QUERY, scope, told, lambda trust: trust.code)
        read = time.thread_time()
        judgement = judge(_QUERY, scope, reading.candidates, asker=TRUSTS[0])
        judged = time.thread_time()
        matches = merge(Level.STUDY, judgement.accepted)
        ended = time.thread_time()
        if sum(len(match.holders) for match in matches) != sum(len(answer.rows) for answer in told):
            raise RuntimeError("rows got lost on the way")
        spent = replace(
            spent,
            read_s=spent.read_s + read - began,
            judge_s=spent.judge_s + judged - read,
            merge_s=spent.merge_s + ended - judged,
        )
    return spent


def _figures(name: str, rounds: Mapping[str, Sequence[Spent]], total: int) -> Iterator[Figure]:
    us = {
        size: [[stage_s / total * 1e6 for stage_s in spent.stages()] for spent in measured]
        for size, measured in rounds.items()
    }
    for number, stage in enumerate(_STAGES):
        ours, small = ([stages[number] for stages in us[size]] for size in ("large", "small"))
        goal = ratio_at_most(RATIO_MAX) if stage == _STAGES[-1] else None
        words = f"a row of a question of {total // FEWER:,} rows"
        about: dict[str, JsonValue] = {"peer": words, "ours": spread(ours), "theirs": spread(small)}
        yield Figure(f"{name}: {stage}, a row", middle(ours), middle(small), "us", goal, about)
