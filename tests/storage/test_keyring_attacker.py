"""What is left to an attacker who has everything from before a shred, and the present master key besides (DEC-20).

Each copy is opened by our own code, given whatever the attacker holds: what opens for it before the shred must not open
after. The first check of each test shows that the attack works as long as nothing was destroyed.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.model.errors import ConfigurationError, Damaged, KeyClosed, RegisterUnavailable
from gateway.model.work.transfers import KeyDomain
from storage.cache.sealed import HEAD_BYTES, Opener, Sealer, key_id_of
from storage.engines import DatabaseSettings, open_engine
from storage.keyring.epochs import master_context
from storage.keyring.key_file import KeyFile
from storage.keyring.keyring import Keyring
from storage.keyring.rows import patient_context
from storage.keyring.tables import key_epoch, patient_key
from storage.keyring.wrapping import KeyWrapper, WrapRefused, open_key
from storage.tables.columns import TableRow
from tests.clock import FakeClock
from tests.peers.vault import running_vault
from tests.storage.keyrings import SHRED_AFTER_S, Place, vault_at

CACHE = KeyDomain.CACHE
SECRET = b"the pixels of a patient who has opted out"
CONTEXT = b"study, series, instance"


@dataclass
class Scene:
    """A key store, its wrapper, and what of the wrapper an attacker gets at any time."""

    place: Place
    wrapper: Callable[[], KeyWrapper]

    def keyring(self) -> Keyring:
        """A keyring as the gateway opens it."""
        return self.place.keyring(self.wrapper())

    def copied(self, name: str) -> Place:
        """All of the key store's files of this moment, with their log."""
        shutil.copytree(self.place.folder / "store", self.place.folder / name / "store")
        return Place(self.place.folder / name, self.place.clock)


@pytest.fixture(params=["key file", "vault"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Scene]:
    """A key store over each wrapper in turn."""
    place = Place(tmp_path / "gateway", clock)
    if request.param == "key file":
        yield Scene(place, lambda: KeyFile(place.file))
        return
    with running_vault(tmp_path / "vault.json") as (_, url):
        yield Scene(place, lambda: vault_at(url, tmp_path))


async def sealed(keyring: Keyring, study: str, patient: str) -> bytes:
    """An object sealed under a patient's key."""
    key_id, key = await keyring.data_key(study, patient, CACHE)
    sealer = Sealer(key_id, key, CONTEXT, secrets.token_bytes)
    return b"".join((sealer.head, *sealer.add(SECRET), sealer.finish()))


async def read(keyring: Keyring, thing: bytes) -> bytes:
    """The object, opened by what a keyring has."""
    key = await keyring.key(key_id_of(thing))
    opener = Opener(key, CONTEXT, thing[:HEAD_BYTES], len(thing))
    return opener.open(0, thing[HEAD_BYTES:])


async def is_opened_by(old: Place, wrapper: KeyWrapper, thing: bytes) -> bool:
    """Whether an old copy of the key store opens an object by the present wrapper, closures taken out of it."""
    copy = Place(old.folder.with_name(f"attack-{secrets.token_hex(4)}"), old.clock)
    shutil.copytree(old.folder / "store", copy.folder / "store")
    with open_engine(DatabaseSettings(copy.url)).connect() as connection:
        connection.exec_driver_sql("DELETE FROM key_closure")
    try:
        async with copy.keyring(wrapper) as keyring:
            return await read(keyring, thing) == SECRET
    except (KeyClosed, RegisterUnavailable, ConfigurationError):
        return False


async def test_nothing_of_before_opens_by_the_present_master_key(scene: Scene) -> None:
    async with scene.keyring() as keyring:
        annes, bens = await sealed(keyring, "1.2", "anne"), await sealed(keyring, "1.3", "ben")
        before = scene.copied("before")
        await keyring.close_patient("anne", CACHE)
        closed = scene.copied("closed")
        for old in (before, closed):
            assert await is_opened_by(old, scene.wrapper(), annes), "deleting alone would not be enough"
        await scene.place.clock.advance(SHRED_AFTER_S)
        await keyring.shred_due(scene.place.clock.now())
        during = scene.copied("during")
        assert await read(keyring, bens) == SECRET
    after = scene.copied("after")
    for old in (before, closed, during, after):
        assert not await is_opened_by(old, scene.wrapper(), annes)
    for old in (before, closed):
        assert not await is_opened_by(old, scene.wrapper(), bens), "an old copy of the store opens nothing at all"
    assert await is_opened_by(after, scene.wrapper(), bens)


async def test_a_present_master_key_grafted_into_an_old_store_opens_nothing_of_it(scene: Scene) -> None:
    async with scene.keyring() as keyring:
        annes, bens = await sealed(keyring, "1.2", "anne"), await sealed(keyring, "1.3", "ben")
        before = scene.copied("before")
        await keyring.close_patient("anne", CACHE)
        await scene.place.clock.advance(SHRED_AFTER_S)
        await keyring.shred_due(scene.place.clock.now())
    after = scene.copied("after")
    # The rows of anne as they were, put back under the epoch that is in force.
    with open_engine(DatabaseSettings(after.url)).connect() as connection:
        connection.exec_driver_sql(f"ATTACH '{before.folder}/store/keys.db' AS old")
        connection.exec_driver_sql(
            "INSERT INTO main.patient_key SELECT patient_key_id, patient_row, domain,"
            " (SELECT epoch_id FROM main.key_epoch), wrapped FROM old.patient_key WHERE patient_row = 'anne'"
        )
        connection.exec_driver_sql("INSERT INTO main.study_key SELECT * FROM old.study_key WHERE patient_row = 'anne'")
        connection.exec_driver_sql("DELETE FROM main.key_closure")
    async with after.keyring(scene.wrapper()) as keyring:
        assert await read(keyring, bens) == SECRET
        with pytest.raises(Damaged):
            await read(keyring, annes)


async def test_no_old_wrap_opens_under_the_present_master_key_itself(scene: Scene) -> None:
    def contents(place: Place) -> tuple[list[TableRow], TableRow]:
        with open_engine(DatabaseSettings(place.url)).connect() as connection:
            return list(connection.execute(select(patient_key))), connection.execute(select(key_epoch)).one()

    def opens(master: bytes, row: TableRow) -> bool:
        try:
            return bool(open_key(master, row.wrapped, patient_context(row, row.epoch_id)))
        except WrapRefused:
            return False

    def master_of(epoch: TableRow) -> bytes:
        return scene.wrapper().unwrap(epoch.wrapper_epoch, epoch.wrapped_master, master_context(epoch.epoch_id))

    async with scene.keyring() as keyring:
        await sealed(keyring, "1.2", "anne")
        await sealed(keyring, "1.3", "ben")
        rows, epoch = contents(scene.place)
        assert all(opens(master_of(epoch), row) for row in rows)
        await keyring.close_patient("anne", CACHE)
        await scene.place.clock.advance(SHRED_AFTER_S)
        await keyring.shred_due(scene.place.clock.now())
        left, current = contents(scene.place)
    with pytest.raises(WrapRefused):
        master_of(epoch)
    assert [opens(master_of(current), row) for row in left] == [True]
    assert not any(opens(master_of(current), row) for row in rows)


async def test_no_wrap_of_before_is_left_in_the_files_of_after(scene: Scene) -> None:
    async with scene.keyring() as keyring:
        for number in range(40):
            await sealed(keyring, f"1.{number}", "anne")
        await sealed(keyring, "2.1", "ben")
        with open_engine(DatabaseSettings(scene.place.url)).connect() as connection:
            wraps = [
                bytes(row[0])
                for table in ("patient_key", "study_key")
                for row in connection.exec_driver_sql(f"SELECT wrapped FROM {table} WHERE patient_row = 'anne'")
            ]
            masters = [bytes(row[0]) for row in connection.exec_driver_sql("SELECT wrapped_master FROM key_epoch")]
        assert len(wraps) == 41 and all(wrap in scene.place.held_bytes() for wrap in (*wraps, *masters))
        await keyring.close_patient("anne", CACHE)
        await scene.place.clock.advance(SHRED_AFTER_S)
        walked = await keyring.shred_due(scene.place.clock.now())
        assert walked.is_log_emptied
        held = scene.place.held_bytes()
    assert not [wrap for wrap in (*wraps, *masters) if wrap in held]
