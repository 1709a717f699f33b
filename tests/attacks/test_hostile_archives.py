"""A trust whose archive lies in every way that bytes allow: it is not believed, the others are answered, and no answer
makes the gateway grow (goals G6 and G8).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.demo import cast
from gateway.demo.callers.viewer import Viewer, WebAnswer
from gateway.demo.cast import ANNE, CLARA
from gateway.demo.images import study_instance_uid
from tests.attacks.attacked import HANG_GUARD_S, HOSTILE, AttackedRegion
from tests.attacks.hostile import answer, of_rows
from tests.attacks.lies import LIES, UNTRUE, says

pytestmark = pytest.mark.asyncio(loop_scope="session")

GROWTH_BYTES_MAX = 64 * 1024 * 1024
ANNES = frozenset(study_instance_uid(plan) for plan in (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US))


async def asked(region: AttackedRegion, **keys: str) -> WebAnswer:
    """Anne's studies as the viewer at Northmoor gets them."""
    async with Viewer(region.machines_url, region.authority, region.key_pair("northmoor-viewer")) as viewer:
        async with asyncio.timeout(HANG_GUARD_S):
            return await viewer.studies(PatientID=ANNE.nhs_number, **keys)


def resident_bytes(region: AttackedRegion, what: str = "VmRSS") -> int:
    assert region.gateway is not None
    status = Path(f"/proc/{region.gateway.pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(what))) * 1024


def forget_peak(region: AttackedRegion) -> None:
    """Let the peak of the gateway's memory begin anew (`proc(5)`: 5 resets it)."""
    assert region.gateway is not None
    Path(f"/proc/{region.gateway.pid}/clear_refs").write_text("5", encoding="ascii")


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_not_believed_costs_little_and_the_others_are_answered(
    attacked: AttackedRegion, lie: str
) -> None:
    await attacked.until_all_answer()
    before = resident_bytes(attacked)
    forget_peak(attacked)
    async with attacked.hostile(LIES[lie]):
        found = await asked(attacked)
    grown = resident_bytes(attacked, "VmHWM") - before
    assert found.status == 200
    assert found.studies == ANNES
    assert found.source_state(HOSTILE) not in ("", "answered", "backing-off")
    assert any("RZ9 Faraway" in text and "0300 555 0199" in text for text in found.notices)
    assert grown <= GROWTH_BYTES_MAX


@pytest.mark.parametrize("untruth", UNTRUE)
async def test_rows_of_anybody_else_are_not_taken_for_the_patients(attacked: AttackedRegion, untruth: str) -> None:
    await attacked.until_all_answer()
    async with attacked.hostile(says(of_rows(*UNTRUE[untruth]))):
        found = await asked(attacked)
    assert found.studies == ANNES
    assert all("RZ9" not in str(one) and CLARA.nhs_number not in str(one) for one in found.rows)


async def test_an_archive_gets_no_cookie_back_and_no_name_of_the_asker(attacked: AttackedRegion) -> None:
    heads: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(b"[]", b"Set-Cookie: a=b", b"Connection: close"))

    await attacked.until_all_answer()
    async with attacked.hostile(speak):
        for _ in range(2):
            await asked(attacked)
    questions = [head for head in heads if ANNE.nhs_number.encode() in head]
    assert len(questions) == 2
    assert all(b"cookie" not in head.lower() and b"northmoor" not in head.lower() for head in questions)


async def test_after_all_that_the_gateway_has_no_more_descriptors_open(attacked: AttackedRegion) -> None:
    assert attacked.gateway is not None
    descriptors = Path(f"/proc/{attacked.gateway.pid}/fd")
    await attacked.until_all_answer()
    before = len(os.listdir(descriptors))
    for lie in ("half an answer and a reset", "a chunk of no size", "a redirect to a file", "headers without end"):
        async with attacked.hostile(LIES[lie]):
            await asked(attacked)
    await attacked.until_all_answer()
    assert len(os.listdir(descriptors)) <= before + 8
