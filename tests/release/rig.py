"""An intake over a real store and a real keyring; what it has planned anew is only noted."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

from gateway.model.reporting.seams import FeedMessage
from gateway.release.contents import Contents
from gateway.release.intake import Intake
from gateway.release.letters import Letters
from storage.database import Tx
from storage.keyring.keyring import Keyring
from storage.release import reports
from storage.release.reports import KeptReport
from storage.store import SqlStore, new_id
from storage.tables.chain import audit_record


@dataclass
class Rig:
    """An intake over a real store and a real keyring."""

    store: SqlStore
    keys: Keyring
    planned: list[str] = field(default_factory=list)

    @property
    def intake(self) -> Intake:
        def replan(_: Tx, report_id: str) -> None:
            self.planned.append(report_id)

        return Intake(self.store, self.keys, replan, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)

    @property
    def contents(self) -> Contents:
        return Contents(self.store, self.keys)

    def letters(self, read_as: FeedMessage) -> Letters:
        return Letters(self.store, self.keys, self.intake, lambda *_: read_as)

    async def kept(self, report_id: str) -> KeptReport:
        """The report's row."""
        found = await self.store.read(lambda read: reports.get(read, report_id))
        assert found is not None
        return found

    async def texts(self, report_id: str) -> list[str]:
        """What each version says, in their order."""
        found = await self.store.read(lambda read: reports.versions(read, report_id))
        return [(await self.contents.open(each.version_id)).content.text for each in found]

    async def events(self) -> list[str]:
        """The kinds of the audit's records."""
        query = audit_record.select().order_by(audit_record.c.sequence)
        return await self.store.read(lambda read: [row.event for row in read.connection.execute(query)])
