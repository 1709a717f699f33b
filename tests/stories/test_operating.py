"""The region as its operators see it: archives looked over, a trust down by plan, and how everything is."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from gateway.demo import cast
from gateway.demo.callers.answer import Answer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import ANNE, EASTVALE
from gateway.demo.configuration import AE_TITLES, CLINICIAN, GATEWAY_AE_TITLE, PACS_CALLER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import Door

pytestmark = pytest.mark.asyncio(loop_scope="session")

WHY = "PACS upgrade"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


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


async def test_what_a_trust_tells_of_a_new_study_is_known_of_its_patient_soon(region: Region) -> None:
    uid, title = study_instance_uid(cast.ANNE_HEART_US), AE_TITLES[PACS_CALLER]
    pair = region.key_pair(PACS_CALLER)
    async with Workstation(region.dimse_port, GATEWAY_AE_TITLE, title, region.authority, pair) as southbridge:
        assert await southbridge.tell_of(uid, ULTRASOUND) == 0
    async with asyncio.timeout(60):
        while True:
            shown = json.loads(
                await region.must("location", "show", "--patient", ANNE.nhs_number, "--by", "story", "--json")
            )
            if {"RZ3": "notification"}.items() <= {each["trust"]: each["seen_by"] for each in shown}.items():
                break
    heard = json.loads(await region.must("location", "show", "--trust", "RZ3", "--by", "story", "--json"))
    assert heard["feed_heard"] is not None


async def test_whoever_may_ask_and_is_no_system_tells_of_nothing(region: Region) -> None:
    pair, title = region.key_pair(CLINICIAN), AE_TITLES[CLINICIAN]
    async with Workstation(region.dimse_port, GATEWAY_AE_TITLE, title, region.authority, pair) as clinician:
        assert await clinician.tell_of(study_instance_uid(cast.ANNE_HEART_US), ULTRASOUND) == 0x0124
