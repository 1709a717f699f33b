"""The keyring on both engines: who gets a key, who gets none any more, and what two processes see of each other."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.model.errors import ConfigurationError, Damaged, KeyClosed, OverCapacity, RegisterUnavailable
from gateway.model.work.transfers import KeyDomain
from storage.engines import DatabaseSettings, open_engine
from storage.keyring import key_database
from storage.keyring.key_file import KeyFile
from storage.keyring.keyring import Keyring
from storage.keyring.master_keys import MasterKeys
from tests.clock import FakeClock
from tests.peers.postgres import Postgres
from tests.storage.databases import BOTH_ENGINES
from tests.storage.keyrings import NORTH, SHRED_AFTER_S, SOUTH, Place

T = TypeVar("T")

CACHE, PUSH = KeyDomain.CACHE, KeyDomain.PUSH


@pytest.fixture(params=BOTH_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Place]:
    """An empty key store on each engine in turn."""
    if request.param == "sqlite":
        yield Place(tmp_path, clock)
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create_database()
    yield Place(tmp_path, clock, url)
    server.drop_database(url)


@pytest.fixture
def file_place(tmp_path: Path, clock: FakeClock) -> Place:
    """An empty key store on SQLite."""
    return Place(tmp_path, clock)


async def is_open(keyring: Keyring, key_id: bytes) -> bool:
    """Whether the key of this id opens."""
    try:
        await keyring.key(key_id)
    except KeyClosed:
        return False
    return True


async def test_a_study_has_one_key_for_each_patient_and_domain(place: Place) -> None:
    async with place.keyring() as keyring:
        made = [
            await keyring.data_key(study, patient, domain)
            for study in ("1.2", "1.3")
            for patient in ("anne", "ben")
            for domain in (CACHE, PUSH)
        ]
        again = await keyring.data_key("1.2", "anne", CACHE)
    assert again == made[0]
    assert len({key_id for key_id, _ in made}) == len({key for _, key in made}) == 8
    assert {(len(key_id), len(key)) for key_id, key in made} == {(16, 32)}


async def test_a_key_opens_by_its_id_after_a_new_start(place: Place) -> None:
    async with place.keyring() as keyring:
        key_id, key = await keyring.data_key("1.2", "anne", CACHE)
        assert await keyring.key(key_id) == key
    async with place.keyring() as keyring:
        assert await keyring.key(key_id) == key
        assert await keyring.data_key("1.2", "anne", CACHE) == (key_id, key)
        with pytest.raises(KeyClosed):
            await keyring.key(bytes(16))


async def test_two_processes_that_start_and_ask_at_once_get_one_key(place: Place) -> None:
    async def started() -> tuple[Keyring, tuple[bytes, bytes]]:
        keyring = place.keyring()
        await keyring.__aenter__()
        return keyring, await keyring.data_key("1.2", "anne", CACHE)

    (north, one), (south, other) = await asyncio.gather(started(), started())
    try:
        assert one == other
        many = await asyncio.gather(*(each.data_key("1.3", "anne", CACHE) for each in (north, south) for _ in range(8)))
        assert len(set(many)) == 1
    finally:
        await north.__aexit__()
        await south.__aexit__()


async def test_a_closed_patient_has_no_key_in_any_process_within_a_second(place: Place) -> None:
    async with place.keyring() as serving, place.keyring() as command:
        annes, _ = await serving.data_key("1.2", "anne", CACHE)
        bens, key = await serving.data_key("1.3", "ben", CACHE)
        pushed, _ = await serving.data_key("1.2", "anne", PUSH)
        assert await command.key(annes) and await serving.key(annes)
        await command.close_patient("anne", CACHE)
        assert not await is_open(command, annes)
        await place.clock.advance(1)
        assert not await is_open(serving, annes)
        for keyring in (serving, command):
            with pytest.raises(KeyClosed):
                await keyring.data_key("1.2", "anne", CACHE)
            with pytest.raises(KeyClosed):
                await keyring.data_key("1.9", "anne", CACHE)
            assert await keyring.key(bens) == key
            assert await is_open(keyring, pushed), "another domain is another matter (SAF-20)"


async def test_several_patients_are_closed_at_once_and_once_more_changes_nothing(
    place: Place, clock: FakeClock
) -> None:
    async with place.keyring() as keyring, place.keyring() as another:
        kept = [(await keyring.data_key("1.2", patient, CACHE))[0] for patient in ("anne", "ben", "cara")]
        await keyring.close_patient("anne", CACHE)
        await clock.advance(60)
        for _ in range(2):
            await keyring.close_patients(["anne", "ben", "nobody"], CACHE)
        assert [await is_open(another, key_id) for key_id in kept] == [False, False, True]
        assert await another.closed_patients(CACHE) == {"anne": False, "ben": False, "nobody": False}
        assert await another.closed_patients(PUSH) == {}
        assert (await another.status()).closed == 3
        await clock.advance(SHRED_AFTER_S - 30)
        await keyring.shred_due(clock.now())
        assert await another.closed_patients(CACHE) == {"anne": True, "ben": False, "nobody": False}


async def test_a_wrapper_that_is_away_is_found_before_anybody_asks_for_a_key(place: Place) -> None:
    async with place.keyring() as keyring:
        await keyring.check()
    away = place.file.rename(place.file.with_name("away"))
    async with place.keyring() as keyring:
        with pytest.raises(RegisterUnavailable, match="key file cannot be read"):
            await keyring.check()
        await keyring.close_patient("anne", CACHE)
        away.rename(place.file)
        await keyring.check()
        place.file.rename(away)
        await keyring.check()  # it is in memory


async def test_a_patient_of_whom_nothing_is_kept_can_be_closed_too(place: Place) -> None:
    async with place.keyring() as keyring:
        await keyring.close_patient("anne", CACHE)
        await keyring.close_patient("anne", CACHE)
        with pytest.raises(KeyClosed):
            await keyring.data_key("1.2", "anne", CACHE)
        before = (await keyring.status()).epoch_began_at
        await place.clock.advance(SHRED_AFTER_S)
        assert (await keyring.shred_due(place.clock.now())).patients_shredded == 0
        status = await keyring.status()
        assert (status.closed, status.epoch_began_at) == (0, before), "there was nothing to rotate for"
        with pytest.raises(KeyClosed):
            await keyring.data_key("1.2", "anne", CACHE)


async def test_a_closing_overtakes_a_question_that_is_under_way(
    file_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with file_place.keyring() as keyring:
        key_id, _ = await keyring.data_key("1.2", "anne", CACHE)
        answer = MasterKeys.reading
        closings = [partial(keyring.close_patient, "anne", CACHE)]

        async def answered_late(masters: MasterKeys, body: Callable[..., T]) -> T:
            found = await answer(masters, body)
            while closings:
                await closings.pop()()
            return found

        monkeypatch.setattr(MasterKeys, "reading", answered_late)
        assert not await is_open(keyring, key_id), "the answer was found before the closing and given after it"
        assert not await is_open(keyring, key_id), "and it did not put the key back into memory"


async def test_of_many_questions_none_is_answered_after_a_closing(place: Place) -> None:
    async with place.keyring() as keyring:
        key_id, _ = await keyring.data_key("1.2", "anne", CACHE)
        for _ in range(3):
            await place.clock.advance(1)
            asked = [asyncio.create_task(is_open(keyring, key_id)) for _ in range(20)]
            await keyring.close_patient("anne", CACHE)
            assert not await is_open(keyring, key_id)
            await asyncio.gather(*asked)
            assert not await is_open(keyring, key_id)
            await keyring.reopen_patient("anne", CACHE)


async def test_a_closing_can_be_undone_until_the_keys_are_destroyed(place: Place) -> None:
    async with place.keyring() as keyring:
        key_id, key = await keyring.data_key("1.2", "anne", CACHE)
        await keyring.close_patient("anne", CACHE)
        await place.clock.advance(SHRED_AFTER_S - 1)
        assert (await keyring.shred_due(place.clock.now())).patients_shredded == 0
        assert await keyring.reopen_patient("anne", CACHE)
        assert await keyring.key(key_id) == key
        await keyring.close_patient("anne", CACHE)
        await place.clock.advance(SHRED_AFTER_S)
        assert (await keyring.shred_due(place.clock.now())).patients_shredded == 1
        assert not await keyring.reopen_patient("anne", CACHE)
        assert not await is_open(keyring, key_id)
        new_id, new = await keyring.data_key("1.2", "anne", CACHE)
        assert new_id != key_id and new != key


async def test_a_shred_takes_the_patients_keys_and_leaves_all_others(place: Place) -> None:
    async with place.keyring(rewrap_batch_max=3) as keyring:
        others = [await keyring.data_key(f"1.{n}", f"patient-{n}", CACHE) for n in range(10)]
        annes = [await keyring.data_key(f"2.{n}", "anne", CACHE) for n in range(3)]
        await keyring.close_patient("anne", CACHE)
        await place.clock.advance(SHRED_AFTER_S)
        walked = await keyring.shred_due(place.clock.now())
        assert (walked.patients_shredded, walked.epochs_retired, walked.is_log_emptied) == (1, 1, True)
        status = await keyring.status()
        assert (status.patient_keys, status.study_keys, status.closed, status.epochs_live) == (10, 10, 0, 1)
    async with place.keyring() as keyring:
        assert [await keyring.key(key_id) for key_id, _ in others] == [key for _, key in others]
        assert not any([await is_open(keyring, key_id) for key_id, _ in annes])


async def test_a_rotation_changes_no_data_key_and_leaves_one_epoch(place: Place) -> None:
    async with place.keyring(rewrap_batch_max=2) as keyring, place.keyring() as other:
        made = [await keyring.data_key(f"1.{n}", f"patient-{n}", CACHE) for n in range(7)]
        for _ in range(3):
            walked = await keyring.rotate()
            assert walked.epochs_retired == 1
            await place.clock.advance(1)
            for each in (keyring, other):
                assert [await each.key(key_id) for key_id, _ in made] == [key for _, key in made]
                assert len(each._masters._keys) == 1, "the master keys of before are forgotten in every process"
        assert (await other.data_key("1.0", "patient-0", CACHE)) == made[0]
        assert (await keyring.status()).epochs_live == 1
        assert not (await keyring.resume()).epochs_retired


async def test_keys_are_made_and_opened_while_another_process_rotates(place: Place) -> None:
    async with place.keyring(rewrap_batch_max=1) as rotating, place.keyring() as serving:
        made = [await serving.data_key(f"1.{n}", f"patient-{n}", CACHE) for n in range(20)]
        rotation = asyncio.create_task(rotating.rotate())
        number = 100
        while not rotation.done():
            made.append(await serving.data_key(f"1.{number}", f"patient-{number}", CACHE))
            await place.clock.advance(1)
            assert await serving.key(made[number % 20][0])
            number += 1
        await rotation
    async with place.keyring() as keyring:
        assert [await keyring.key(key_id) for key_id, _ in made] == [key for _, key in made]
        assert (await keyring.status()).epochs_live == 1


async def test_one_process_walks_at_a_time(place: Place) -> None:
    async with place.keyring() as keyring:
        await keyring.data_key("1.2", "anne", CACHE)
        other = key_database.open_database(DatabaseSettings(place.url), "south", place.clock.now, lambda: "x")
        async with key_database.walking(other, 0):
            with pytest.raises(OverCapacity):
                await keyring.rotate()
        assert (await keyring.rotate()).epochs_retired == 1


async def test_a_sole_copy_outlives_its_patients_key_for_its_custodian_alone(place: Place) -> None:
    async with place.keyring() as keyring:
        kept, key = await keyring.data_key("1.2", "anne", CACHE)
        other, _ = await keyring.data_key("1.3", "anne", CACHE)
        await keyring.close_patient("anne", CACHE)
        await keyring.keep_for_custodian(kept, SOUTH)
        await keyring.keep_for_custodian(kept, SOUTH)
        assert not await is_open(keyring, kept), "keeping opens nothing to anybody else"
        await place.clock.advance(SHRED_AFTER_S)
        await keyring.shred_due(place.clock.now())
        await keyring.rotate()
        assert await keyring.custodians_key(kept, SOUTH) == key
        assert [(each.study_uid, each.custodian, each.is_patients) for each in await keyring.kept_keys()] == [
            ("1.2", SOUTH, False)
        ]
        assert not await is_open(keyring, kept)
        for key_id, trust in ((kept, NORTH), (other, SOUTH)):
            with pytest.raises(KeyClosed):
                await keyring.custodians_key(key_id, trust)
        with pytest.raises(KeyClosed):
            await keyring.keep_for_custodian(other, SOUTH)


async def test_a_closed_key_a_destroyed_one_and_one_of_another_store_are_told_apart(place: Place) -> None:
    async with place.keyring() as keyring:
        gone, _ = await keyring.data_key("1.2", "anne", CACHE)
        kept, key = await keyring.data_key("1.3", "anne", CACHE)
        await keyring.close_patient("anne", CACHE)
        await keyring.keep_for_custodian(kept, SOUTH)
        assert await keyring.key_even_closed(kept) == key
        assert await keyring.key_even_closed(gone)
        await place.clock.advance(SHRED_AFTER_S)
        await keyring.shred_due(place.clock.now())
        assert await keyring.key_even_closed(kept) == key, "as long as its custodian's stands"
        await keyring.discard_kept(kept)
        for destroyed in (gone, kept):
            with pytest.raises(KeyClosed, match="destroyed"):
                await keyring.key_even_closed(destroyed)
        with pytest.raises(Damaged, match="never had"):
            await keyring.key_even_closed(bytes(16))


async def test_what_a_custodian_has_back_is_destroyed_by_the_next_walk(place: Place) -> None:
    async with place.keyring() as keyring:
        kept, _ = await keyring.data_key("1.2", "anne", CACHE)
        await keyring.keep_for_custodian(kept, SOUTH)
        await keyring.close_patient("anne", CACHE)
        await place.clock.advance(SHRED_AFTER_S)
        await keyring.shred_due(place.clock.now())
        await keyring.discard_kept(kept)
        with pytest.raises(KeyClosed):
            await keyring.custodians_key(kept, SOUTH)
        assert (await keyring.status()).is_walk_due
        assert (await keyring.shred_due(place.clock.now())).epochs_retired == 1
        status = await keyring.status()
        assert (status.study_keys, status.kept_keys, status.is_walk_due) == (0, 0, False)


async def test_a_mistaken_case_gets_its_kept_studies_back_too(place: Place) -> None:
    async with place.keyring() as keyring:
        kept, key = await keyring.data_key("1.2", "anne", CACHE)
        await keyring.close_patient("anne", CACHE)
        await keyring.keep_for_custodian(kept, SOUTH)
        assert await keyring.reopen_patient("anne", CACHE)
        await keyring.discard_kept(kept)
        assert await keyring.key(kept) == key


async def test_a_blob_put_into_another_row_does_not_open(place: Place) -> None:
    async with place.keyring() as keyring:
        annes, _ = await keyring.data_key("1.2", "anne", CACHE)
        bens, _ = await keyring.data_key("1.3", "ben", CACHE)
    with open_engine(DatabaseSettings(place.url)).connect() as connection:
        connection.exec_driver_sql(
            "UPDATE study_key SET wrapped = (SELECT wrapped FROM study_key WHERE study_uid = '1.3'),"
            " patient_key_id = (SELECT patient_key_id FROM study_key WHERE study_uid = '1.3') WHERE study_uid = '1.2'"
        )
    async with place.keyring() as keyring:
        with pytest.raises(Damaged):
            await keyring.key(annes)
        assert await is_open(keyring, bens)


async def test_keys_in_memory_are_bounded_and_still_all_open(file_place: Place) -> None:
    async with file_place.keyring(cached_keys_max=3) as keyring:
        made = [await keyring.data_key(f"1.{n}", "anne", CACHE) for n in range(20)]
        assert [await keyring.key(key_id) for key_id, _ in made] == [key for _, key in made]
        assert len(keyring._held) == 3


def unreadable(place: Place) -> None:
    """The key file is gone."""
    place.file.unlink()


def emptied(place: Place) -> None:
    """The key file of another store was put there."""
    place.file.write_bytes(b'{"format":1,"store":"another","keys":[]}')


@pytest.mark.parametrize("spoil", [unreadable, emptied])
async def test_without_its_wrapper_the_keyring_fails_for_everybody_and_destroys_nothing(
    file_place: Place, spoil: Callable[[Place], None]
) -> None:
    async with file_place.keyring() as keyring:
        key_id, _ = await keyring.data_key("1.2", "anne", CACHE)
    secret = file_place.file.read_bytes()
    spoil(file_place)
    async with file_place.keyring() as keyring:
        with pytest.raises(RegisterUnavailable):
            await keyring.key(key_id)
        with pytest.raises(RegisterUnavailable):
            await keyring.data_key("1.3", "ben", CACHE)
        with pytest.raises(RegisterUnavailable):
            await keyring.rotate()
        await keyring.close_patient("anne", CACHE)
        file_place.file.write_bytes(secret)
        file_place.file.chmod(0o600)
        assert not await is_open(keyring, key_id), "closing needs no wrapper"
        assert await keyring.reopen_patient("anne", CACHE)
        assert await is_open(keyring, key_id)


async def test_a_key_store_that_cannot_be_read_opens_nothing_even_from_memory(file_place: Place) -> None:
    async with file_place.keyring() as keyring:
        key_id, key = await keyring.data_key("1.2", "anne", CACHE)
        assert await keyring.key(key_id) == key
        with open_engine(DatabaseSettings(file_place.url)).connect() as connection:
            connection.exec_driver_sql("ALTER TABLE key_store RENAME TO hidden")
        await file_place.clock.advance(1)
        with pytest.raises(RegisterUnavailable):
            await keyring.key(key_id)


async def test_the_key_file_serves_one_store_and_is_read_by_its_owner_alone(file_place: Place, tmp_path: Path) -> None:
    async with file_place.keyring() as keyring:
        key_id, _ = await keyring.data_key("1.2", "anne", CACHE)
    assert file_place.file.stat().st_mode & 0o777 == 0o600
    other = Place(tmp_path / "other", file_place.clock)
    other.file = file_place.file
    with pytest.raises(ConfigurationError, match="another key store"):
        await other.keyring().__aenter__()
    file_place.file.chmod(0o640)
    async with file_place.keyring() as keyring:
        with pytest.raises(ConfigurationError, match="600"):
            await keyring.key(key_id)


async def test_a_key_store_of_another_version_is_refused(file_place: Place) -> None:
    async with file_place.keyring():
        pass
    with open_engine(DatabaseSettings(file_place.url)).connect() as connection:
        connection.exec_driver_sql("UPDATE key_store SET format = 99")
    with pytest.raises(ConfigurationError, match="version"):
        await file_place.keyring().__aenter__()


async def test_no_nonce_and_no_key_ever_comes_twice(file_place: Place) -> None:
    given: list[bytes] = []

    def random(count: int) -> bytes:
        given.append(secrets.token_bytes(count))
        return given[-1]

    wrapper = KeyFile(file_place.file, random)
    async with file_place.keyring(wrapper, random=random, rewrap_batch_max=10) as keyring:
        for number in range(60):
            await keyring.data_key(f"1.{number}", f"patient-{number % 30}", CACHE)
        for _ in range(4):
            await keyring.rotate()
    wraps = 30 + 60 + 5 + 4 * 30
    assert sum(len(each) == 12 for each in given) == wraps, "every wrap takes a nonce of its own from the source"
    assert len(set(given)) == len(given)


async def test_no_key_lies_in_any_file_but_wrapped(file_place: Place) -> None:
    given: list[bytes] = []

    def random(count: int) -> bytes:
        given.append(secrets.token_bytes(count))
        return given[-1]

    async with file_place.keyring(random=random) as keyring:
        made = [await keyring.data_key(f"1.{n}", f"patient-{n}", CACHE) for n in range(5)]
        await keyring.keep_for_custodian(made[0][0], SOUTH)
        during = file_place.held_bytes()
        await keyring.rotate()
        after = file_place.held_bytes()
    keys = [each for each in given if len(each) == 32]
    assert len(keys) == 2 + 5 + 5
    for lying in (during, after, file_place.held_bytes()):
        assert not [key for key in keys if key in lying or b64encode(key) in lying or key.hex().encode() in lying]
