"""SIGKILL between any two steps of an audited query: never an answer without its record, and right again at once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from gateway.demo import cast
from gateway.demo.callers.viewer import Viewer, WebAnswer
from gateway.demo.cast import ANNE
from gateway.demo.configuration import VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from gateway.model.audit import AuditRecord, ChainHead, follow
from tests.forked import Forks

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

STEPS_MAX = 80
EXPECTED = frozenset(study_instance_uid(plan) for plan in (cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    async with Region(tmp_path_factory.mktemp("killed"), start=forks.start) as running:
        yield running


async def ask(region: Region) -> WebAnswer | None:
    """One question; None when the connection broke before an answer came."""
    async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
        try:
            return await viewer.studies(PatientID=ANNE.nhs_number)
        except aiohttp.ClientError:
            return None


def chain_is_whole(region: Region) -> bool:
    """Whether every record of the gateway's chain follows the one before it."""
    with closing(sqlite3.connect(region.database)) as connection:
        rows = connection.execute(
            "SELECT node, sequence, previous, encoded, hash FROM audit_record WHERE node = 'demo-1' ORDER BY sequence"
        ).fetchall()
    assert rows
    followed = follow(ChainHead.empty("demo-1"), (AuditRecord(*row) for row in rows))
    return isinstance(followed, ChainHead)


def passed(log: Path) -> list[str]:
    """The fault points passed so far; reading alone has nothing to lose."""
    return [point for point in log.read_text(encoding="utf-8").splitlines() if not point.endswith(".read")]


def begin(begins: Path) -> None:
    """Let the gateway count its fault points from here on."""
    begins.touch()


def forget(begins: Path) -> None:
    """Have the next gateway start without counting."""
    begins.unlink()


async def points_of_one_query(region: Region, log: Path, begins: Path) -> list[str]:
    """The fault points that a query passes, in order, once the start is over."""
    await region.stop_gateway()
    await region.start_gateway({"GATEWAY_FAULTS_LOG": str(log), "GATEWAY_FAULTS_FROM": str(begins)})
    begin(begins)
    assert await ask(region) is not None
    points = passed(log)
    await region.stop_gateway()
    return [f"{point}=kill@{points[: number + 1].count(point)}" for number, point in enumerate(points)]


async def test_a_kill_at_any_step_discloses_nothing_unrecorded_and_leaves_nothing_behind(
    region: Region, tmp_path: Path
) -> None:
    begins = tmp_path / "begins"
    plans = await points_of_one_query(region, tmp_path / "points.log", begins)
    assert any("question.attempt" in plan for plan in plans)
    assert any("question.outcome" in plan for plan in plans)
    assert len(plans) <= STEPS_MAX
    killed = 0
    for plan in plans:
        forget(begins)
        await region.start_gateway({"GATEWAY_FAULTS": plan, "GATEWAY_FAULTS_FROM": str(begins)})
        begin(begins)
        answer = await ask(region)
        assert region.gateway is not None
        if answer is None:
            assert await region.gateway.wait() == -9, plan
            killed += 1
        region.gateway = None if answer is None else region.gateway
        await region.stop_gateway()
        assert await asyncio.to_thread(chain_is_whole, region), plan
        if answer is not None:
            assert answer.studies == EXPECTED
    # A point that belongs to a probe or a checkpoint may lie after the answer; the query's own must have killed.
    assert killed >= sum("question." in plan for plan in plans)
    verified = await region.command("audit", "verify")
    assert verified.status == 0, verified.output + verified.errors
    await region.start_gateway()
    whole = await ask(region)
    assert whole is not None
    assert whole.studies == EXPECTED


async def test_every_answer_has_its_attempt_and_its_outcome_on_disk(region: Region) -> None:
    answer = await ask(region)
    assert answer is not None
    request = answer.headers["Gateway-Correlation"]
    shown = json.loads(await region.must("audit", "show", "--request", request, "--json"))
    said = {record["said"]["event"]: record["said"]["body"] for record in shown}
    assert said["query-outcome"]["attempt"] == said["query-attempt"]["decision"]["decision_id"]
    disclosed = {uid for entry in said["query-outcome"]["decisions"] for uid in entry["disclosed"]}
    assert disclosed == answer.studies
