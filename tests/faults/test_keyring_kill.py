"""SIGKILL, or a failing disk, between any two steps of the keyring: no key lost, and none that was closed opens again.

Rotation: every key that was acknowledged opens, and the old master key opens nothing. Shred: from the acknowledgement
on nothing of the patient opens, and what was begun is ended by the next start alone.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from gateway.model.errors import KeyClosed
from storage.keyring.key_file import KeyFile
from storage.keyring.keyring import Keyring
from storage.keyring.wrapping import KeyWrapper
from tests.clock import NOON, FakeClock
from tests.faults.keyring_scenarios import CACHE, SCENARIOS, digest, place_of
from tests.faults.storage_scenarios import Zygote
from tests.peers.vault import Vault, running_vault
from tests.storage.keyrings import SOUTH, Place, vault_at

LATER = NOON + timedelta(hours=25)
KILLS_AT_RANDOM = 40
SEED = 20261122


@dataclass
class Said:
    """What a run acknowledged."""

    made: dict[str, dict[bytes, str]] = field(default_factory=dict)
    """Key ids and digests of keys, by patient."""
    is_closed: bool = False
    """Whether the last that was said of the patient is that she is closed."""
    is_shredded: bool = False
    is_discarded: bool = False
    kept: bytes = b""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.faults.keyring_scenarios") as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["kill", "raise"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_no_fault_between_two_steps_loses_a_key_or_opens_a_closed_one(
    zygote: Zygote, memory: Path, scenario: str, fault: str
) -> None:
    for point, passage in zygote.passages(scenario, fresh(memory / "run")):
        where = f"{point}={fault}@{passage}"
        folder = fresh(memory / "run")
        status, lines = zygote.run(scenario, folder, GATEWAY_FAULTS=where)
        assert status == (-signal.SIGKILL if fault == "kill" else 0), where
        if scenario == "vault":
            with running_vault(folder / "vault.json") as (vault, url):
                before = versions_of(vault)
                await check(place_of(folder, FakeClock(LATER)), said_in(lines), where, vault_at(url, folder))
                after = versions_of(vault)
        else:
            before, after = await checked(folder, lines, where)
        assert len(after) == 1 and not set(before) & set(after), f"{where}: an old key is still there"


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(KILLS_AT_RANDOM, marks=pytest.mark.timeout(600)),
        pytest.param(50 * KILLS_AT_RANDOM, marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
    ],
)
async def test_no_kill_at_a_random_moment_loses_a_key_or_opens_a_closed_one(
    zygote: Zygote, memory: Path, kills: int
) -> None:
    moments, killed = random.Random(SEED), 0
    scenarios = sorted(SCENARIOS.keys() - {"vault"})  # whose stub would be killed with the gateway
    lasts_s = {name: zygote.lasting_s(name, fresh(memory / "run")) for name in scenarios}
    for number in range(kills):
        folder = fresh(memory / "run")
        scenario = moments.choice(scenarios)
        status, lines = zygote.run(scenario, folder, KILLED_AFTER_S=str(moments.uniform(0.001, lasts_s[scenario])))
        assert status in (-signal.SIGALRM, 0), (SEED, number)
        killed += status != 0
        where = f"seed {SEED}, kill {number}"
        before, after = await checked(folder, lines, where)
        assert len(after) == 1 and not set(before) & set(after), f"{where}: an old key is still there"
    assert killed, "no run was ended before its end"


async def checked(folder: Path, lines: list[str], where: str) -> tuple[list[str], list[str]]:
    """Hold what lies in a folder to what a run said; the keys of its key file before and after."""
    place = place_of(folder, FakeClock(LATER))
    before = secrets_of(place)
    await check(place, said_in(lines), where, KeyFile(place.file))
    assert [path.name for path in place.file.parent.iterdir()] == [place.file.name], where
    return before, secrets_of(place)


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def said_in(lines: list[str]) -> Said:
    """What the lines of a run say."""
    said = Said()
    for line in lines:
        match line.split():
            case ["made", patient, key_id, told]:
                said.made.setdefault(patient, {})[bytes.fromhex(key_id)] = told
            case ["kept", key_id]:
                said.kept = bytes.fromhex(key_id)
            case ["closed"]:
                said.is_closed = True
            case ["opening"]:
                said.is_closed = False
            case ["shredded"]:
                said.is_shredded = True
            case ["discarded"]:
                said.is_discarded = True
            case _:
                pass
    return said


def secrets_of(place: Place) -> list[str]:
    """The keys in the key file, and in what a replacement of it left."""
    found: list[str] = []
    for path in place.file.parent.glob("*") if place.file.parent.exists() else ():
        content = path.read_bytes()
        if content.strip(b"\0"):
            try:
                found += [each["key"] for each in orjson.loads(content)["keys"]]
            except orjson.JSONDecodeError:
                continue  # killed while it was written
    return found


def versions_of(vault: Vault) -> list[str]:
    """The versions that Vault holds of the key."""
    return [version for key in vault.keys.values() for version in key["versions"].values()]


async def check(place: Place, said: Said, where: str, wrapper: KeyWrapper) -> None:
    """What must hold of a key store after any fault, by a process that starts on it."""
    async with place.keyring(wrapper) as keyring:
        for patient, keys in said.made.items():
            if patient != "anne" or not said.is_closed:
                await opens(keyring, keys, where, may_be_closed=patient == "anne")
        if said.is_closed:
            await opens_nothing(keyring, said.made["anne"], where)
        await keyring.resume()
        assert (await keyring.status()).epochs_live == 1, where
        await keyring.shred_due(LATER)
        status = await keyring.status()
        assert (status.closed, status.epochs_live, status.is_walk_due) == (0, 1, False), where
        if said.is_closed:
            await opens_nothing(keyring, said.made["anne"], where)
            assert all(kept.is_patients is False for kept in await keyring.kept_keys()), where
        if said.kept and not said.is_discarded and not said.is_shredded:
            assert digest(await keyring.custodians_key(said.kept, SOUTH)) == said.made["anne"][said.kept], where
        await keyring.rotate()
        for patient, keys in said.made.items():
            await opens(keyring, keys, where, may_be_closed=patient == "anne")
        key_id, key = await keyring.data_key("9.9", "elsa", CACHE)
        assert await keyring.key(key_id) == key


async def opens(keyring: Keyring, keys: dict[bytes, str], where: str, *, may_be_closed: bool) -> None:
    """Every key opens as it was made; of a patient who may have been closed all or none."""
    found: list[bool] = []
    for key_id, told in keys.items():
        try:
            assert digest(await keyring.key(key_id)) == told, where
            found.append(True)
        except KeyClosed:
            found.append(False)
    assert all(found) or (may_be_closed and not any(found)), where


async def opens_nothing(keyring: Keyring, keys: dict[bytes, str], where: str) -> None:
    """None of the keys opens."""
    for key_id in keys:
        with pytest.raises(KeyClosed):
            await keyring.key(key_id)
            raise AssertionError(f"{where}: a key of a closed patient opened")
