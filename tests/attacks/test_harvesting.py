"""Whoever asks for everybody leaves a trace, and cannot fill the audit with traces (SAF-11; wildcard harvesting)."""

from __future__ import annotations

import orjson
import pytest

from gateway.model.errors import NotIdentified, QueryTooBroad
from gateway.model.imaging import PATIENT_NAME, JsonValue, Key, Level, Query
from policy.identity import Channel, Evidence
from storage import audit_log
from tests.attacks.house import House, housed
from tests.clock import FakeClock

EVERYBODY = Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("A*",)),))
NOTES_PER_MINUTE_MAX = 60


async def refusals(house: House) -> list[dict[str, JsonValue]]:
    """What the audit says of questions that were too broad."""
    records = await house.store.read(lambda read: audit_log.page(read, "north", 0))
    entries = [orjson.loads(record.encoded) for record in records]
    return [entry["body"] for entry in entries if entry["event"] == "query-refused"]


async def test_a_question_for_everybody_is_recorded_with_its_caller(house: House) -> None:
    with pytest.raises(QueryTooBroad):
        await house.find(EVERYBODY)
    [refusal] = await refusals(house)
    assert (refusal["caller"], refusal["trust"]) == ("rz1-pacs", "RZ1")
    assert refusal["question"] == {
        "level": "STUDY",
        "keys": [["00100010", "A*"]],
        "limit": None,
        "offset": 0,
        "trust": "",
    }
    assert all(not archive.asked for archive in house.archives.values())


async def test_a_flood_of_them_is_counted_and_not_written_down(sqlite_url: str, clock: FakeClock) -> None:
    async with housed(sqlite_url, clock) as house:
        for _ in range(NOTES_PER_MINUTE_MAX + 20):
            with pytest.raises(QueryTooBroad):
                await house.find(EVERYBODY)
        assert len(await refusals(house)) == NOTES_PER_MINUTE_MAX
        await clock.advance(60)
        with pytest.raises(QueryTooBroad):
            await house.find(EVERYBODY)
        assert (await refusals(house))[-1]["unrecorded_before"] == 20


async def test_careless_viewers_do_not_use_up_what_is_kept_for_strangers(house: House) -> None:
    """Some viewers open their list without a patient all day; who shows no certificate is recorded all the same."""
    for _ in range(NOTES_PER_MINUTE_MAX + 1):
        with pytest.raises(QueryTooBroad):
            await house.find(EVERYBODY)
    with pytest.raises(NotIdentified):
        await house.gate.identified(Evidence(Channel.HTTPS, "192.0.2.7"), "", "request-of-a-stranger")
    records = await house.store.read(lambda read: audit_log.of_request(read, "request-of-a-stranger"))
    assert [orjson.loads(record.encoded)["body"]["alert"] for record in records] == ["node-authentication"]
