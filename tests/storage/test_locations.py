"""The location index on its own: what is remembered, under which name, in which order, and for how long."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from gateway.model.errors import ConfigurationError, StoreUnavailable
from gateway.model.imaging import SourceState
from gateway.model.locations import Location, PeerStanding, SeenBy, Sighting
from policy.parties import NhsNumber, PatientId, TrustId
from storage.engines import DatabaseSettings, sqlite_path
from storage.observations import locations
from storage.observations.notebook import PENDING_MAX, WRITE_INTERVAL_S, Notebook
from storage.observations.pseudonyms import KEY_BYTES, Pseudonyms, pseudonyms
from storage.registers import merges, patients
from storage.registers.merges import MergeBasis
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.storage.people import ANNE, BEN, CLERK, EAST, NORTH, SOUTH, patient

STAND_INS = Pseudonyms(b"k" * KEY_BYTES)
MINUTE = timedelta(minutes=1)
DOWN = PeerStanding(SOUTH, 5, NOON + MINUTE, SourceState.UNREACHABLE, SourceState.ANSWERED)
UP = PeerStanding(NORTH, 0, None, SourceState.ANSWERED, SourceState.TRUNCATED)


@pytest.fixture
def notebook(store: SqlStore, clock: FakeClock) -> Notebook:
    """A notebook over each engine in turn."""
    return Notebook(store, clock, STAND_INS, max_age_days=100)


def sighting(
    number: NhsNumber = ANNE,
    trust: TrustId = NORTH,
    at: datetime = NOON,
    *,
    has_imaging: bool | None = True,
    by: SeenBy = SeenBy.ANSWER,
    is_check: bool = False,
) -> Sighting:
    """Imaging of Anne, seen in the north at noon."""
    return Sighting(number, trust, at, by, has_imaging, is_check)


async def told(notebook: Notebook, *sightings: Sighting) -> None:
    """Note and write."""
    notebook.note(sightings)
    await notebook.write()


async def test_what_was_seen_is_known_with_when_and_how(notebook: Notebook) -> None:
    await told(notebook, sighting(), sighting(trust=SOUTH, has_imaging=False, by=SeenBy.SAMPLE, is_check=True))
    knowledge = await notebook.known(ANNE)
    assert knowledge.locations == {
        NORTH: Location(present_at=NOON, present_by=SeenBy.ANSWER),
        SOUTH: Location(absent_at=NOON, absent_by=SeenBy.SAMPLE, checked_at=NOON),
    }
    assert (await notebook.known(BEN)).locations == {}


async def test_imaging_and_its_absence_are_remembered_beside_each_other(notebook: Notebook) -> None:
    await told(notebook, sighting())
    await told(notebook, sighting(at=NOON + MINUTE, has_imaging=False, is_check=True))
    known = (await notebook.known(ANNE)).locations[NORTH]
    assert known == Location(NOON, SeenBy.ANSWER, NOON + MINUTE, SeenBy.ANSWER, NOON + MINUTE)


SIGHTINGS = st.lists(
    st.builds(
        lambda minute, has_imaging, by, is_check: sighting(
            at=NOON + minute * MINUTE, has_imaging=has_imaging, by=by, is_check=is_check
        ),
        st.integers(0, 5),
        st.sampled_from([True, False, None]),
        st.just(SeenBy.ANSWER),
        st.booleans(),
    ),
    max_size=8,
)


@given(SIGHTINGS, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_joined_is_of_no_matter(sightings: list[Sighting], random: object) -> None:
    def joined(some: Sequence[Sighting]) -> Location:
        whole = Location()
        for each in some:
            whole = locations.merged(whole, locations.entry_of(each, STAND_INS).location)
        return whole

    shuffled = list(sightings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random and types it less
    assert joined(shuffled) == joined(sightings)


@pytest.mark.parametrize("seed", range(4))
async def test_the_database_joins_as_the_notebook_does(notebook: Notebook, seed: int) -> None:
    cases = [(True, False), (False, True), (None, True), (True, None)][seed]
    sightings = [
        sighting(at=NOON + minute * MINUTE, has_imaging=has, is_check=minute % 2 == 0)
        for has in cases
        for minute in (3, 1, 4, 1, 5)
    ]
    whole = Location()
    for each in sightings:
        await told(notebook, each)
        whole = locations.merged(whole, locations.entry_of(each, STAND_INS).location)
    assert (await notebook.known(ANNE)).locations == {NORTH: whole}


async def test_many_observations_of_one_patient_at_one_trust_are_one_row(notebook: Notebook, store: SqlStore) -> None:
    await told(notebook, *[sighting(at=NOON + minute * MINUTE) for minute in range(50)])
    (count,) = await store.read(locations.counts)
    assert (count.trust, count.patients, count.present, count.present_at) == (NORTH, 1, 1, NOON + 49 * MINUTE)


async def test_the_tables_show_no_patient(notebook: Notebook, store: SqlStore) -> None:
    await told(notebook, sighting())
    (row,) = await store.read(lambda read: read.connection.execute(text("SELECT * FROM patient_location")).all())
    assert bytes(row.pseudonym) == STAND_INS.of(ANNE)
    assert ANNE.digits not in repr(tuple(row))
    path = sqlite_path(store.database.settings.url)
    if path is not None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert ANNE.digits.encode() not in path.read_bytes()


async def test_without_the_key_nothing_is_found(notebook: Notebook, store: SqlStore, clock: FakeClock) -> None:
    await told(notebook, sighting())
    another = Notebook(store, clock, Pseudonyms(b"x" * KEY_BYTES), max_age_days=100)
    assert (await another.known(ANNE)).locations == {}


async def test_it_is_no_register(notebook: Notebook, store: SqlStore) -> None:
    before = await store.register_version()
    await told(notebook, sighting())
    await notebook.heard(NORTH, NOON, [sighting()])
    assert await store.register_version() == before
    assert await store.read(lambda read: patients.find(read, patients.nhs(ANNE))) is None


# --- feeds ---


async def test_a_feed_that_was_heard_is_remembered_and_never_set_back(notebook: Notebook) -> None:
    await notebook.heard(NORTH, NOON + MINUTE)
    await notebook.heard(NORTH, NOON)
    await notebook.heard(SOUTH, NOON, [sighting(trust=SOUTH, by=SeenBy.NOTIFICATION)])
    knowledge = await notebook.known(ANNE)
    assert knowledge.feeds == {NORTH: NOON + MINUTE, SOUTH: NOON}
    assert knowledge.locations[SOUTH].present_by is SeenBy.NOTIFICATION


async def test_a_notification_that_cannot_be_kept_is_not_taken(store: SqlStore, clock: FakeClock) -> None:
    notebook = Notebook(store, clock, STAND_INS, max_age_days=100)
    await store.write(lambda tx: tx.connection.execute(text("ALTER TABLE patient_location RENAME TO lost")))
    with pytest.raises(StoreUnavailable):
        await notebook.heard(NORTH, NOON, [sighting(by=SeenBy.NOTIFICATION)])
    assert await store.read(locations.feeds) == {}


# --- merges ---


async def test_merging_and_parting_a_patient_are_seen_whoever_does_it(
    notebook: Notebook, store: SqlStore, clock: FakeClock
) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    await told(notebook, sighting(has_imaging=False, is_check=True))
    assert (await notebook.known(ANNE)).identity_changed_at is None
    await clock.advance(60)
    merge = await store.write(lambda tx: merges.merge(tx, anne, ben, MergeBasis.TWO_PEOPLE, CLERK))
    assert (await notebook.known(ANNE)).identity_changed_at == NOON + MINUTE
    await clock.advance(60)
    await store.write(lambda tx: merges.undo_merge(tx, merge, CLERK))
    assert (await notebook.known(ANNE)).identity_changed_at == NOON + 2 * MINUTE


async def test_a_hospitals_number_got_or_lost_is_seen(notebook: Notebook, store: SqlStore, clock: FakeClock) -> None:
    anne, local = await patient(store, ANNE), PatientId("RJ1", "0001234")
    await told(notebook, sighting(has_imaging=False, is_check=True))
    await clock.advance(60)
    await store.write(lambda tx: patients.add_identifier(tx, anne, local, CLERK, source="test"))
    assert (await notebook.known(ANNE)).identity_changed_at == NOON + MINUTE
    await clock.advance(60)
    await store.write(lambda tx: patients.remove_identifier(tx, local, CLERK))
    assert (await notebook.known(ANNE)).identity_changed_at == NOON + 2 * MINUTE


async def test_what_a_trust_files_under_a_number_stays_with_that_number(notebook: Notebook, store: SqlStore) -> None:
    anne, ben = await patient(store, ANNE), await patient(store, BEN)
    await told(notebook, sighting(), sighting(BEN, SOUTH))
    merge = await store.write(lambda tx: merges.merge(tx, anne, ben, MergeBasis.PDS_SUPERSESSION, CLERK))
    assert set((await notebook.known(ANNE)).locations) == {NORTH}
    await store.write(lambda tx: merges.undo_merge(tx, merge, CLERK))
    assert set((await notebook.known(BEN)).locations) == {SOUTH}


# --- how long, and how much ---


async def test_what_was_not_heard_again_for_too_long_is_deleted(
    notebook: Notebook, store: SqlStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.observations.notebook.SWEPT_AT_ONCE_MAX", 2)
    old = [sighting(NhsNumber(f"99900000{number:02}"), trust) for number in range(7) for trust in (NORTH, SOUTH, EAST)]
    await told(notebook, *old)
    await clock.advance(50 * 86_400)
    await told(notebook, sighting(at=clock.now()), sighting(BEN, at=clock.now(), has_imaging=False))
    await clock.advance(50 * 86_400 + 1)
    assert await notebook.sweep() == len(old)
    assert sum(count.patients for count in await store.read(locations.counts)) == 2
    await clock.advance(50 * 86_400)
    assert await notebook.sweep() == 2


async def test_no_more_waits_than_there_is_room_for(notebook: Notebook) -> None:
    others = [sighting(NhsNumber(f"{number:010}")) for number in range(PENDING_MAX + 3)]
    notebook.note(others)
    assert notebook.forgotten == 3
    notebook.note(others[:5])
    assert notebook.forgotten == 3


async def test_all_that_waits_is_written_in_however_many_transactions(
    notebook: Notebook, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.observations.notebook.WRITTEN_AT_ONCE_MAX", 3)
    notebook.write_down(DOWN)
    await told(notebook, *[sighting(NhsNumber(f"99900000{number:02}")) for number in range(10)])
    assert sum(count.patients for count in await store.read(locations.counts)) == 10
    assert await notebook.standings() == [DOWN]


async def test_what_could_not_be_written_is_written_later(notebook: Notebook, store: SqlStore) -> None:
    rename = "ALTER TABLE patient_location RENAME TO lost"
    await store.write(lambda tx: tx.connection.execute(text(rename)))
    await told(notebook, sighting())
    notebook.note([sighting(at=NOON + MINUTE)])
    await store.write(lambda tx: tx.connection.execute(text("ALTER TABLE lost RENAME TO patient_location")))
    await notebook.write()
    assert (await notebook.known(ANNE)).locations[NORTH].present_at == NOON + MINUTE


async def test_a_running_notebook_writes_by_itself_and_once_more_at_its_end(
    notebook: Notebook, clock: FakeClock
) -> None:
    async def story() -> None:
        notebook.note([sighting()])
        await clock.sleep(WRITE_INTERVAL_S + 0.1)
        while not (await notebook.known(ANNE)).locations:
            pass
        notebook.note([sighting(BEN)])

    running = asyncio.create_task(notebook.run())
    await clock.run(story())
    running.cancel()
    await asyncio.wait([running])
    assert set((await notebook.known(BEN)).locations) == {NORTH}


# --- standings ---


async def test_standings_outlive_the_process_each_nodes_its_own(
    notebook: Notebook, store: SqlStore, url: str, clock: FakeClock
) -> None:
    notebook.write_down(PeerStanding(SOUTH, 4, None, SourceState.TIMED_OUT, SourceState.ANSWERED))
    notebook.write_down(DOWN)
    notebook.write_down(UP)
    await notebook.write()
    assert await notebook.standings() == [UP, DOWN]
    async with SqlStore(DatabaseSettings(url), node="south", clock=clock) as other:
        theirs = Notebook(other, clock, STAND_INS, max_age_days=100)
        assert await theirs.standings() == []
        theirs.write_down(PeerStanding(SOUTH, 0, None, SourceState.ANSWERED, SourceState.ANSWERED))
        await theirs.write()
    assert await notebook.standings() == [UP, DOWN]


# --- the key ---


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "location.key"
    made = pseudonyms(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert pseudonyms(path) == made
    assert pseudonyms(tmp_path / "other.key").of(ANNE) != made.of(ANNE)
    assert str(made) == "Pseudonyms()"


@pytest.mark.parametrize(("content", "mode"), [(b"k" * KEY_BYTES, 0o640), (b"k" * (KEY_BYTES - 1), 0o600)])
def test_a_key_that_others_may_read_or_that_is_cut_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    path = tmp_path / "location.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"storage\.location_key"):
        pseudonyms(path)
