"""What is written down of a retrieval: the set that it froze, what became of each instance, and how it ended.

The set is durable before anything of it is handed out; what became of it follows in little batches. The retrieval of
one request is closed when that is over. One that several requests share (`gateway.sharing.retrieval.sittings`) grows by
what each of them asks, and there an instance that was delivered once is delivered, whatever failed before or after.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.model.errors import GatewayError, ServiceFault
from gateway.model.imaging import JsonValue
from gateway.model.seams import Clock
from gateway.model.work.retrievals import (
    FrozenInstance,
    Halt,
    InstanceNote,
    InstanceState,
    NewRetrieval,
    TransferLedger,
)
from gateway.sharing.answers.tally import Tally
from policy.parties import TrustId

log = structlog.get_logger(__name__)

NOTES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class _Line:
    """What became of one instance."""

    study_uid: str
    note: InstanceNote


class Account:
    """One retrieval in the ledger. `freeze`, `note`, and in the end `close`."""

    def __init__(
        self, ledger: TransferLedger, clock: Clock, tally: Tally, new: NewRetrieval, *, is_shared: bool = False
    ) -> None:
        """`new` names no instances yet. `tally` is told what the outcome says of it."""
        self._ledger = ledger
        self._clock = clock
        self._tally = tally
        self._new = new
        self.is_shared = is_shared
        self._wanted: dict[str, FrozenInstance] = {}
        self._frozen: dict[str, FrozenInstance] = {}
        self._freezing = asyncio.Lock()
        self._begun: set[asyncio.Task[None]] = set()
        self._lines: dict[str, _Line] = {}
        self._held: dict[str, _Line] = {}
        """What came to nothing in a shared one: it has not if the next request has better luck."""
        self._notes: list[InstanceNote] = []
        self._halted: Halt | None = None
        self._stopped_by: JsonValue = None

    @property
    def retrieval_id(self) -> str:
        """Its name in the ledger."""
        return self._new.retrieval_id

    @property
    def series_uids(self) -> frozenset[str]:
        """Of all that it froze."""
        return frozenset(frozen.ref.series_uid for frozen in self._frozen.values())

    @property
    def instances(self) -> int:
        """How many it froze."""
        return len(self._frozen)

    def has(self, sop_uid: str) -> bool:
        """Whether it is in the set, durably."""
        return sop_uid in self._frozen

    def freeze(self, instances: Sequence[FrozenInstance]) -> asyncio.Task[None] | None:
        """Begin to have these in the set; None: nothing has to be done for it.

        None of them may be handed out before that is done. It raises `StoreUnavailable`.
        """
        asked = {each.ref.sop_uid: each for each in instances if each.ref.sop_uid not in self._frozen}
        if not asked and self._frozen:
            return None
        self._wanted |= asked
        task = asyncio.create_task(self._freeze())
        self._begun.add(task)
        task.add_done_callback(self._settled)
        return task

    def has_ended(self, sop_uid: str) -> bool:
        """Whether it is known for good what became of it."""
        return sop_uid in self._lines

    def note(self, study_uid: str, note: InstanceNote) -> None:
        """This became of an instance."""
        uid, line = note.sop_uid, _Line(study_uid, note)
        if uid in self._lines:
            return
        if self.is_shared and note.state in (InstanceState.FAILED, InstanceState.UNREAD):
            self._held[uid] = line
            return
        self._held.pop(uid, None)
        self._lines[uid] = line
        self._notes.append(note)

    async def keep_up(self) -> None:
        """Write down what became of instances once that is worth it."""
        if len(self._notes) >= NOTES_AT_ONCE:
            await self.write_down()

    async def write_down(self) -> None:
        """Write down what became of instances; what cannot be written is tried again."""
        try:
            await self._write()
        except ServiceFault:
            log.warning("retrieval not written down so far", retrieval=self.retrieval_id)

    def halt(self, halted: Halt | None, stopped_by: JsonValue) -> None:
        """It, or one request of it, ended before its end."""
        if halted is not None:
            self._halted, self._stopped_by = self._halted or halted, self._stopped_by or stopped_by

    async def close(self, requests: JsonValue = None) -> None:
        """It is over. `requests` is what the outcome says of those who shared it."""
        for uid, line in self._held.items():
            self._lines[uid] = line
            self._notes.append(line.note)
        self._held.clear()
        if self._begun:
            await asyncio.wait(self._begun)
        self._tally.transfers = self._for_the_record(requests)
        try:
            await self._write()
            await self._ledger.end(self.retrieval_id, self._clock.now(), self._halted)
        except ServiceFault:
            log.error("retrieval not written down", retrieval=self.retrieval_id)
            # The ledger was to say which instances went; now the outcome is all that does.
            each: dict[str, JsonValue] = {uid: line.note.state.value for uid, line in sorted(self._lines.items())}
            self._tally.transfers = {**self._for_the_record(requests), "instances": each}

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it hears of it; nobody has to

    async def _freeze(self) -> None:
        async with self._freezing:
            # Whoever waited here may find that theirs went with somebody else's.
            batch = {uid: each for uid, each in self._wanted.items() if uid not in self._frozen}
            if not batch and self._frozen:
                return
            if not self._frozen:
                await self._ledger.freeze(replace(self._new, instances=tuple(batch.values())))
            else:
                await self._ledger.add(self.retrieval_id, len(self._frozen), tuple(batch.values()))
            self._frozen |= batch
            for uid in batch:
                self._wanted.pop(uid, None)

    async def _write(self) -> None:
        notes, self._notes = self._notes, []
        if not notes:
            return
        try:
            await self._ledger.note(self.retrieval_id, notes)
        except GatewayError:
            self._notes = notes + self._notes
            raise

    def _for_the_record(self, requests: JsonValue) -> dict[str, JsonValue]:
        """What the outcome says: counts by study and source; which instances it were stands in the ledger."""
        studies: dict[tuple[str, TrustId], Counter[InstanceState]] = {}
        for line in self._lines.values():
            studies.setdefault((line.study_uid, line.note.source), Counter())[line.note.state] += 1
        return {
            "retrieval": self.retrieval_id,
            "halted": self._halted.value if self._halted is not None else "",
            "stopped_by": self._stopped_by,
            "studies": [
                {
                    "study": study,
                    "source": source.code,
                    **{state.value: count for state, count in sorted(states.items())},
                }
                for (study, source), states in sorted(studies.items())
            ],
            **({"requests": requests} if requests is not None else {}),
        }
