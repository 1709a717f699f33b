"""Scenarios of the keyring: keys made, rotated, shredded and kept, in a process that may be killed at any fault point.

What was acknowledged is said with a digest of the key, so that the test can hold a later process to it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.model.errors import GatewayError
from gateway.model.work.transfers import KeyDomain
from storage.keyring.keyring import Keyring
from storage.keyring.wrapping import KeyWrapper
from tests.clock import FakeClock
from tests.faults.storage_scenarios import Run, Scenarios, serve
from tests.peers.vault import running_vault
from tests.storage.keyrings import SHRED_AFTER_S, SOUTH, Place, vault_at

CACHE = KeyDomain.CACHE
STUDIES = {"1.2": "anne", "1.3": "anne", "2.2": "ben", "3.2": "clara"}


def place_of(folder: Path, clock: FakeClock) -> Place:
    """Where a run keeps its keys."""
    return Place(folder / "keys", clock)


def digest(key: bytes) -> str:
    """What a key is told by."""
    return hashlib.blake2b(key, digest_size=16).hexdigest()


async def rotation(run: Run) -> None:
    """Keys made, then two rotations in batches of one, a key made in between."""
    keyring = await _opened(place_of(run.folder, FakeClock()))
    try:
        ids = [await _make(keyring, study, patient) for study, patient in STUDIES.items()]
        await _twice(lambda: keyring.keep_for_custodian(ids[0], SOUTH))
        _say(f"kept {ids[0].hex()}")
        await _twice(keyring.rotate)
        _say("rotated")
        await _make(keyring, "4.2", "dora")
        await _twice(keyring.rotate)
    finally:
        await keyring.__aexit__()


async def shred(run: Run) -> None:
    """A patient closed, opened again, closed and destroyed; a sole copy kept and given up."""
    clock = FakeClock()
    keyring = await _opened(place_of(run.folder, clock))
    try:
        ids = [await _make(keyring, study, patient) for study, patient in STUDIES.items()]
        await _twice(lambda: keyring.close_patients(["anne"], CACHE))
        _say("closed")
        _say("opening")
        await _twice(lambda: keyring.reopen_patient("anne", CACHE))
        await _twice(lambda: keyring.close_patient("anne", CACHE))
        _say("closed")
        await _twice(lambda: keyring.keep_for_custodian(ids[0], SOUTH))
        _say(f"kept {ids[0].hex()}")
        await clock.advance(SHRED_AFTER_S)
        await _twice(lambda: keyring.shred_due(clock.now()))
        _say("shredded")
        await _twice(lambda: keyring.discard_kept(ids[0]))
        _say("discarded")
        await _twice(lambda: keyring.shred_due(clock.now()))
    finally:
        await keyring.__aexit__()


async def _opened(place: Place, wrapper: KeyWrapper | None = None) -> Keyring:
    try:
        return await place.keyring(wrapper, rewrap_batch_max=1).__aenter__()
    except GatewayError:
        return await place.keyring(wrapper, rewrap_batch_max=1).__aenter__()


async def _make(keyring: Keyring, study: str, patient: str) -> bytes:
    made: list[tuple[bytes, bytes]] = []

    async def make() -> None:
        made.append(await keyring.data_key(study, patient, CACHE))

    await _twice(make)
    key_id, key = made[-1]
    _say(f"made {patient} {key_id.hex()} {digest(key)}")
    return key_id


async def _twice(act: Callable[[], Awaitable[object]]) -> None:
    """Act, once more if it failed."""
    try:
        await act()
    except GatewayError:
        await act()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def vault(run: Run) -> None:
    """A patient's keys destroyed under Vault: the stub is a thread of this process, what it knows outlives a kill."""
    clock = FakeClock()
    place = place_of(run.folder, clock)
    with running_vault(run.folder / "vault.json") as (_, url):
        keyring = await _opened(place, vault_at(url, run.folder))
        try:
            await _make(keyring, "1.2", "anne")
            await _make(keyring, "2.2", "ben")
            await _twice(lambda: keyring.close_patient("anne", CACHE))
            _say("closed")
            await clock.advance(SHRED_AFTER_S)
            await _twice(lambda: keyring.shred_due(clock.now()))
            _say("shredded")
        finally:
            await keyring.__aexit__()


SCENARIOS: Scenarios = {scenario.__name__: scenario for scenario in (rotation, shred, vault)}


if __name__ == "__main__":
    serve(SCENARIOS)
