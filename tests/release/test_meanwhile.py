"""Whoever acts on a text while another process files its correction has not read what stands then."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from gateway.model.errors import InvalidRequest
from gateway.release.intake import Intake
from policy.release.reports import Said
from storage.database import Tx
from storage.store import SqlStore
from tests.release.incoming import message
from tests.release.portal import Portal
from tests.release.release_rig import CLINICIAN, opened, verified

T = TypeVar("T")
HANG_GUARD_S = 30
LOCKED_S = 0.3
"""So long an act may run that should wait for the other process, before that one goes on."""


class Waiting:
    """A process's store whose transactions wait before they are committed, until a test says so."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.reached, self.goes_on = threading.Event(), threading.Event()

    async def write(self, body: Callable[[Tx], T]) -> T:
        """See `SqlStore`."""

        def waiting(tx: Tx) -> T:
            result = body(tx)
            self.reached.set()
            assert self.goes_on.wait(HANG_GUARD_S), "nobody lets it go on"
            return result

        return await self.store.write(waiting)

    async def read(self, body: Callable[[Tx], T]) -> T:
        """See `SqlStore`."""
        return await self.store.read(body)  # type: ignore[arg-type]  # as the store itself is asked


@pytest.mark.parametrize("act", ["release_early", "review"])
async def test_an_act_waits_for_a_correction_that_is_being_filed_and_is_refused(
    tmp_path: Path, url: str, act: str
) -> None:
    async with (
        opened(tmp_path, url, Portal()) as north,
        opened(tmp_path, url, Portal(), clock=north.clock, node="south") as south,
    ):
        report_id = await north.file(verified())
        read = (await north.report(report_id)).current_version or ""
        slow = Waiting(south.store)
        intake = Intake(
            cast("SqlStore", slow),
            south.keys,
            south.planner.filed,
            random=os.urandom,
            new_id=lambda: "m-2",
            elsewhere=asyncio.to_thread,
        )
        corrected = verified(text="A fracture.", said=Said.CORRECTED, stated_at=north.clock.now())
        filing = asyncio.create_task(intake.take(message(corrected, name="m-2")))
        assert await asyncio.to_thread(slow.reached.wait, HANG_GUARD_S)
        acting = asyncio.create_task(
            north.store.write(lambda tx: getattr(north.acts, act)(tx, CLINICIAN, report_id, read, "as read"))
        )
        await asyncio.wait({acting}, timeout=LOCKED_S)
        slow.goes_on.set()
        await filing
        stands = (await south.report(report_id)).current_version
        assert stands != read
        with pytest.raises(InvalidRequest, match=f"does not stand.*{stands}"):
            await acting
        assert await north.audit(act.replace("_", "-")) == []
