"""The region as its operators see it: archives looked over, a trust down by plan, and how everything is."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from gateway.demo.answer import Answer
from gateway.demo.cast import ANNE, EASTVALE
from gateway.demo.region import Region
from tests.stories.conftest import Door

pytestmark = pytest.mark.asyncio(loop_scope="session")

WHY = "PACS upgrade"


async def asked_until(door: Door, is_told: bool) -> Answer:
    """Ask until the gateway has followed the register, which it does within a second."""
    async with asyncio.timeout(30):
        while True:
            answer = await door.studies(PatientID=ANNE.nhs_number)
            if (WHY in repr(answer)) is is_told:
                return answer


async def test_every_archive_of_the_region_can_be_asked(region: Region) -> None:
    reports = json.loads(await region.must("doctor", "--json"))
    assert {report["trust"]: report["summary"] for report in reports}.keys() == {"RZ1", "RZ2", "RZ3"}
    checks = {(finding["layer"], finding["verdict"]) for report in reports for finding in report["findings"]}
    assert ("tls", "good") in checks and not any(verdict == "failed" for _, verdict in checks)


async def test_the_region_says_how_it_is(region: Region) -> None:
    said = json.loads(await region.must("status", "--json"))
    archives = {trust["trust"]: trust for trust in said["trusts"] if trust["archive"] != "none here"}
    assert said["gateway"]["ready"] and archives.keys() == {"RZ1", "RZ2", "RZ3"}
    assert all(trust["certificate_days"] > 0 for trust in archives.values())


async def test_a_trust_that_is_down_by_plan_is_named_until_when_and_why(door: Door, region: Region) -> None:
    before = await asked_until(door, is_told=False)
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    planned = json.loads(
        await region.must(
            *("trust", "downtime", EASTVALE.ods_code, "--until", until, "--reason", WHY, "--by", "story", "--json")
        )
    )
    try:
        answer = await asked_until(door, is_told=True)
        assert EASTVALE.ods_code in repr(answer) and "down until" in repr(answer)
        assert len(answer.studies) < len(before.studies)
    finally:
        await region.must("trust", "up", planned["downtime"], "--by", "story")
    assert (await asked_until(door, is_told=False)).studies == before.studies
