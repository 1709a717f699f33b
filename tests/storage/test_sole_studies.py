"""Which studies hold what nobody else is known to have is told from memory, at once and after a start alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.model.work.transfers import KeyDomain, Standing
from tests.storage.cache_rig import NORTH, body, head, opened, put


@pytest.fixture
def folder(tmp_path: Path, migrated_file: Path) -> Path:
    """A folder with an empty database."""
    shutil.copyfile(migrated_file, tmp_path / "gateway.db")
    return tmp_path


async def test_they_are_known_at_once_and_by_their_patient(folder: Path) -> None:
    async with opened(folder) as rig:
        assert not rig.cache.sole_studies()
        await put(rig.cache, head("1.2"), body(1_000))
        await put(rig.cache, head("1.3", "1.3.1.1", is_sole_copy=True), body(1_000))
        await put(rig.cache, head("1.4", "1.4.1.1", is_sole_copy=True, patient_row="row-of-ben"), body(1_000))
        assert set(rig.cache.sole_studies()) == {"1.3", "1.4"}
        assert rig.cache.sole_studies_of(["row-of-anne", "row-of-nobody"]) == ["1.3"]
        assert rig.cache.sole_studies_of(["row-of-anne", "row-of-ben"]) == ["1.3", "1.4"]


async def test_more_of_one_changes_its_number_alone(folder: Path) -> None:
    async with opened(folder) as rig:
        for study in ("1.3", "1.4"):
            await put(rig.cache, head(study, f"{study}.1.1", is_sole_copy=True), body(1_000))
        before = dict(rig.cache.sole_studies())
        await put(rig.cache, head("1.3", "1.3.1.2", is_sole_copy=True), body(1_000))
        after = rig.cache.sole_studies()
        assert after["1.3"].change != before["1.3"].change and after["1.4"] == before["1.4"]
        assert after["1.4"].sources == {NORTH}


async def test_they_are_known_after_a_start(folder: Path) -> None:
    async with opened(folder) as rig:
        confirmed = await put(rig.cache, head("1.2", "1.2.1.1", is_sole_copy=True), body(1_000))
        quarantined = await put(rig.cache, head("1.3", "1.3.1.1", is_sole_copy=True), body(1_000))
        await put(rig.cache, head("1.4", "1.4.1.1", is_sole_copy=True), body(1_000))
        await put(rig.cache, head("1.5", "1.5.1.1", is_sole_copy=True, domain=KeyDomain.PUSH), body(1_000))
        await rig.cache.sole_copies.confirm("1.2", [confirmed.object_id])
        await rig.cache.stand(quarantined, Standing.QUARANTINED, "a test")
        assert set(rig.cache.sole_studies()) == {"1.4"}
    async with opened(folder) as rig:
        assert set(rig.cache.sole_studies()) == {"1.4"} and rig.cache.sole_studies_of(["row-of-anne"]) == ["1.4"]
        [again] = await rig.cache.instances("1.4")
        await rig.cache.sole_copies.confirm("1.4", [again.object_id])
        assert not rig.cache.sole_studies() and not rig.cache.sole_studies_of(["row-of-anne"])
