"""What keeps images of one node or two, in a folder, on a clock that a test moves; and patients who choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.session import configuration_of
from gateway.config.configuration import Configuration
from gateway.keeping.keeping import Keeping
from gateway.keeping.keys import open_keyring
from gateway.model.seams import Clock
from gateway.node import database_settings, open_store
from policy.facts import SharingChoice
from policy.optout import Case, CaseEvent
from storage import migrate
from storage.keyring.keyring import Keyring
from storage.observations.pseudonyms import pseudonyms
from storage.store import SqlStore
from tests.storage import people

NODE = "node-1"


@dataclass
class Kept:
    """One node's keeping, and what it said of itself."""

    keeping: Keeping
    store: SqlStore
    told: list[str] = field(default_factory=list)

    @property
    def fault(self) -> str:
        """Why images cannot be had, as it was last said."""
        return self.told[-1]

    async def choose(self, patient_row: str, choice: SharingChoice = SharingChoice.OPT_OUT) -> Case:
        """A patient's request, implemented."""
        case = await people.case(self.store, patient_row, choice)
        return await people.move(self.store, case.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)


class Place:
    """The files of a region on one machine."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.more: list[str] = []

    @property
    def key_file(self) -> Path:
        return self.folder / "var" / "keys" / "master-keys.json"

    def configuration(self, node: str = NODE) -> Configuration:
        path = self.folder / f"{node}.toml"
        path.write_text("\n".join([f'[gateway]\nnode = "{node}"\nmode = "demo"', *self.more]), encoding="utf-8")
        return configuration_of(path)

    def keyring(self) -> Keyring:
        """The keys, as another process would open them."""
        return open_keyring(self.configuration(), self.clock, node="another")

    @asynccontextmanager
    async def open(self, node: str = NODE) -> AsyncIterator[Kept]:
        """A node's keeping as it is when its doors open."""
        configuration = self.configuration(node)
        settings = database_settings(configuration)
        configuration.gateway.data_folder.mkdir(parents=True, exist_ok=True)
        migrate.upgrade(settings)
        stand_ins = pseudonyms(configuration.storage.location_key)
        told: list[str] = []
        async with (
            open_store(configuration, self.clock, node=node) as store,
            Keeping(configuration, store, stand_ins, self.clock, told.append) as keeping,
        ):
            yield Kept(keeping, store, told)
