"""Notices to staff as files: whole or not there, the same one once, and none beyond what somebody fetches."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.model.errors import StoreFull, StoreUnavailable
from gateway.model.reporting.notices import Notice, Told
from gateway.release.referrers import dropping
from gateway.release.referrers.dropping import NoticeDrop
from policy.release.chasing import Matter, Recipient
from tests.clock import FakeClock
from tests.release.incoming import NORTH, message
from tests.release.release_rig import MONDAY, verified
from tests.release.test_module import node

NOTICE = Notice(
    key="a" * 40,
    trust=NORTH,
    report_id="r1",
    version_id="v1",
    report_number="R-1",
    matter=Matter.ALERT,
    to=(Told(Recipient.REFERRER, "C1234567 Dr B Referrer"), Told(Recipient.DEPUTIES, "first@north.example")),
    due_at=datetime(2026, 6, 1, 8, 15, tzinfo=UTC),
)


def drop(folder: Path) -> NoticeDrop:
    return NoticeDrop(folder, asyncio.to_thread)


async def test_a_notice_is_a_file_in_its_trusts_folder(tmp_path: Path) -> None:
    await drop(tmp_path).tell(NOTICE)
    [file] = (tmp_path / "RZ1").iterdir()
    assert file.name == f"{NOTICE.key}.json"
    said = json.loads(file.read_bytes())
    assert (said["report_number"], said["version"]) == ("R-1", "v1")
    assert said["matter"] == "alert"
    assert said["to"][1] == {"role": "deputies", "address": "first@north.example"}


async def test_the_same_notice_twice_is_one_file(tmp_path: Path) -> None:
    await drop(tmp_path).tell(NOTICE)
    [file] = (tmp_path / "RZ1").iterdir()
    written = file.stat().st_ino
    await drop(tmp_path).tell(NOTICE)
    assert [each.stat().st_ino for each in (tmp_path / "RZ1").iterdir()] == [written]


async def test_beyond_what_somebody_fetches_none_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "WAITING_MAX", 2)
    for name in ("b", "c"):
        await drop(tmp_path).tell(replace(NOTICE, key=name * 40))
    with pytest.raises(StoreFull):
        await drop(tmp_path).tell(NOTICE)
    assert len(list((tmp_path / "RZ1").iterdir())) == 2


async def test_a_folder_that_cannot_be_written_is_a_fault_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "RZ1").write_text("no folder")
    with pytest.raises(StoreUnavailable):
        await drop(tmp_path).tell(NOTICE)


async def test_a_node_lays_down_a_notice_of_what_comes_in_without_a_word_of_it(tmp_path: Path) -> None:
    async with node(tmp_path, FakeClock(MONDAY + timedelta(minutes=2))) as north:
        await north.module.intake.take(message(verified(alert_codes=("critical",))))
        assert await north.module.chasing.chase() == 1
        files = [each.read_text() for each in (north.configuration.notices_folder / "RZ1").iterdir()]
        assert sorted(json.loads(each)["matter"] for each in files) == ["alert", "report"]
        for word in ("Shea", "9990000018", "fracture", "critical"):
            assert word not in "".join(files)
