"""Reports that leave as files: what is wanted no more does not stay where it would be printed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from gateway.channels.drop import DropChannel, Folder
from policy.release.circumstances import Death, HoldKind
from policy.release.reports import Said
from storage.release.deliveries import DeliveryState
from tests.clock import FakeClock
from tests.release.release_rig import DUE_AT, LEAD, MONDAY, Rig, opened, verified

KEY = RSAKey.generate_key(2048)
LATER = DUE_AT + timedelta(minutes=5)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Where the files lie."""
    folder = tmp_path / "letters"
    folder.mkdir()
    return folder


@pytest.fixture
async def rig(tmp_path: Path, letters: Path, sqlite_url: str) -> AsyncIterator[Rig]:
    """One process with that folder for its only channel."""
    clock = FakeClock(MONDAY + timedelta(minutes=2))
    with ThreadPoolExecutor(1) as executor:
        channel = DropChannel(Folder("letters", letters, KEY, checks_proxies=True), executor, clock.now)
        async with opened(tmp_path, sqlite_url, channel, clock=clock) as running:
            yield running


def kinds(letters: Path) -> list[str]:
    """What lies there, without the digests that name it."""
    return sorted("".join(each.suffixes) for each in letters.iterdir())


def take(letters: Path, kind: str) -> None:
    """The recipient takes the one file of a kind, and says so."""
    [file] = [each for each in letters.iterdir() if "".join(each.suffixes) == kind]
    file.with_suffix(".receipt").write_text("taken")
    file.unlink()


async def withdrawn(rig: Rig, report_id: str) -> None:
    await rig.file(verified(LATER, said=Said.WITHDRAWN, verification=None), name="m-2")


async def corrected(rig: Rig, report_id: str) -> None:
    await rig.file(verified(LATER, "A fracture.", said=Said.CORRECTED), name="m-2")


async def held(rig: Rig, report_id: str) -> None:
    on = (LATER + timedelta(days=5)).date()
    await rig.store.write(lambda tx: rig.acts.hold(tx, LEAD, report_id, HoldKind.IDENTITY, "another's", on))


@pytest.mark.parametrize("act", [withdrawn, corrected, held])
async def test_a_file_that_nobody_took_yet_goes_with_the_report(
    rig: Rig, letters: Path, act: Callable[[Rig, str], Awaitable[None]]
) -> None:
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    assert kinds(letters) == [".jwe"]
    await rig.on(LATER)
    await act(rig, report_id)
    await rig.look()
    assert kinds(letters) == [".withdrawal.jwe"]
    take(letters, ".withdrawal.jwe")
    await rig.look(LATER + timedelta(hours=1))
    assert [each.state for each in await rig.given(report_id)] == [DeliveryState.WITHDRAWN]


async def test_a_file_that_nobody_took_yet_goes_when_its_patient_has_died(rig: Rig, letters: Path) -> None:
    await rig.file(verified())
    await rig.look(DUE_AT)
    rig.demographics.sarah(death=Death.FORMAL)
    await rig.look(DUE_AT + timedelta(days=1))
    assert kinds(letters) == [".withdrawal.jwe"]


async def test_a_report_that_is_given_again_after_a_hold_is_a_file_again(rig: Rig, letters: Path) -> None:
    report_id = await rig.file(verified())
    await rig.look(DUE_AT)
    take(letters, ".jwe")
    await rig.look(LATER)
    await held(rig, report_id)
    await rig.work()
    take(letters, ".withdrawal.jwe")
    await rig.look(LATER + timedelta(minutes=20))
    [hold] = (await rig.situation(report_id)).held
    await rig.store.write(lambda tx: rig.acts.end_hold(tx, LEAD, hold.hold_id, "hers after all"))
    await rig.work()
    assert kinds(letters) == [".jwe"]
    take(letters, ".jwe")
    await rig.look(LATER + timedelta(minutes=40))
    assert [each.state for each in await rig.given(report_id)] == [DeliveryState.CONFIRMED]
    await rig.file(verified(LATER + timedelta(minutes=41), said=Said.WITHDRAWN, verification=None), name="m-2")
    await rig.work()
    assert kinds(letters) == [".withdrawal.jwe"]
