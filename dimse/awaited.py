"""Which C-STORE belongs to which C-MOVE of ours: who waits for what, from which trust (PS3.7 9.1.4, 9.3.1).

An archive that was asked by C-MOVE sends on associations of its own, and may name the request as Move Originator or
leave that out: then the instance itself says for whom it is. Message ids are given out here, so that of two requests to
one trust each has its own. Knows no association and no data set; whether an instance is kept is the `Intake`'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from gateway.model.errors import GatewayError, OverCapacity, Unwanted
from gateway.model.work.transfers import Intake, Taking
from policy.parties import TrustId

MESSAGE_IDS = 65_535
OVER_MAX = 256
"""Requests remembered that are over: what still comes of them is no push."""
ERRANDS_MAX = 256
"""Requests under way to one trust; some archives tell so many message ids apart and no more."""


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE that a C-STORE says it is part of: who asked, and under which message id."""

    ae_title: str
    message_id: int


class Errand:
    """One C-MOVE of ours, as long as it is under way. An `Intake`: its own, and counted."""

    def __init__(self, originator: Originator, wanted: Collection[str], intake: Intake) -> None:
        self.originator = originator
        self.arrivals = 0
        """Instances of it that were taken or refused; a sign of life."""
        self.refused = 0
        """Those that its intake did not keep."""
        self.kept: set[str] = set()
        """SOP Instance UIDs of those that it did."""
        self._wanted = frozenset(wanted)
        self._intake = intake
        self._under_way = 0
        self._is_closed = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def is_receiving(self) -> bool:
        """Whether an instance of it is on its way in at this moment."""
        return self._under_way > 0

    @property
    def is_for_all(self) -> bool:
        """Whether it waits for everything of a study or series, which cannot be told by an instance's UID."""
        return not self._wanted

    def wants(self, sop_uid: str) -> bool:
        """Whether it waits for this very instance."""
        return sop_uid in self._wanted

    def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AbstractAsyncContextManager[Taking]:
        """See `Intake`."""
        return self._counted(sop_class_uid, sop_uid, transfer_syntax)

    async def quiet(self) -> None:
        """Return once nothing of it is on its way in: some archives end before their last C-STORE is answered."""
        await self._quiet.wait()

    def close(self) -> None:
        """Wait for nothing more."""
        self._is_closed = True

    @contextlib.asynccontextmanager
    async def _counted(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AsyncIterator[Taking]:
        if self._is_closed:
            raise Unwanted("nobody waits for this instance any more")
        self._under_way += 1
        self._quiet.clear()
        try:
            async with self._intake.take(sop_class_uid, sop_uid, transfer_syntax) as taking:
                yield taking
            self.kept.add(sop_uid)
        except GatewayError:
            self.refused += 1
            raise
        finally:
            self.arrivals += 1
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()


class Awaiting:
    """Every C-MOVE of ours that is under way. One for the whole process: archives answer at the one DIMSE door."""

    def __init__(self) -> None:
        self._errands: dict[TrustId, dict[int, Errand]] = {}
        self._over: deque[tuple[TrustId, Errand]] = deque(maxlen=OVER_MAX)
        self._last_message_id = 0

    def intake_for(self, trust: TrustId, sop_uid: str, originator: Originator | None) -> Intake | None:
        """Where an instance goes that a system of `trust` sends; None: nobody waits for it, it is a push.

        By the request that it names; else by the instance; else to the one request that waits for a whole study or
        series of this trust, if there is one alone. Its `take` raises `Unwanted` for what is no part of it.
        """
        errands = self._errands.get(trust, {})
        if originator is not None:
            over = (errand for whose, errand in self._over if whose == trust)
            named = next((errand for errand in (*errands.values(), *over) if errand.originator == originator), None)
            if named is not None:
                return named
        wanting = next((errand for errand in errands.values() if errand.wants(sop_uid)), None)
        if wanting is not None or originator is not None:
            return wanting
        for_all = [errand for errand in errands.values() if errand.is_for_all]
        return for_all[0] if len(for_all) == 1 else None

    @contextlib.contextmanager
    def expecting(self, trust: TrustId, ae_title: str, wanted: Collection[str], intake: Intake) -> Iterator[Errand]:
        """Wait for instances of a C-MOVE that is about to be asked under the message id that this gives.

        `ae_title`: ours, as requestor. `wanted`: SOP Instance UIDs; none for everything of a study or series. Raises
        `OverCapacity`.
        """
        errands = self._errands.setdefault(trust, {})
        if len(errands) >= ERRANDS_MAX:
            raise OverCapacity("too many retrievals are under way to one trust")
        message_id = self._new_message_id(errands)
        errand = errands[message_id] = Errand(Originator(ae_title, message_id), wanted, intake)
        try:
            yield errand
        finally:
            errand.close()
            self._over.append((trust, errand))
            del errands[message_id]
            if not errands:
                del self._errands[trust]

    def _new_message_id(self, errands: Collection[int]) -> int:
        """One that no request to this trust has; not the lowest, for a late C-STORE may still name an old one."""
        while True:
            self._last_message_id = self._last_message_id % MESSAGE_IDS + 1
            if self._last_message_id not in errands:
                return self._last_message_id
