"""SIGKILL between any two durable steps of a report's arrival: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.model.audit import AuditEvent
from gateway.model.reporting.seams import MessageState
from policy.release.circumstances import ReleaseState
from storage import audit_log
from storage.database import Read
from storage.release import links
from storage.release.tables import feed_message, report, report_version
from storage.tables.chain import audit_record
from tests.faults import report_scenarios
from tests.faults.report_scenarios import MESSAGES, opened
from tests.faults.storage_scenarios import Run, Zygote
from tests.faults.test_storage_kill import fresh


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["kill", "raise"])
async def test_a_report_is_taken_whole_and_once_whatever_falls(migrated_file: Path, memory: Path, fault: str) -> None:
    begun = fresh(memory / "begun", migrated_file)
    async with opened(Run(begun)):
        pass  # the making of a key store has its own test
    with Zygote(report_scenarios.__name__) as zygote:
        for point, passage in zygote.passages("reports", copied(begun, memory / "run")):
            if point.startswith("keyring.prepare"):
                continue
            run = Run(copied(begun, memory / "run"))
            where = f"{point}={fault}@{passage}"
            status, acknowledged = zygote.run("reports", run.folder, GATEWAY_FAULTS=where)
            assert status == (-signal.SIGKILL if fault == "kill" else 0), where
            await check(run, acknowledged, where)
            assert zygote.run("reports", run.folder)[0] == 0, where
            assert await check(run, [], where) == (4, 5, 4), f"{where}: the senders sent again, and all is there once"


def copied(begun: Path, to: Path) -> Path:
    """A folder with an empty store and its keys."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(begun, to)
    return to


async def check(run: Run, acknowledged: list[str], where: str) -> tuple[int, int, int]:
    """What must hold of a folder after any fault; its reports, versions and messages."""
    async with opened(run) as (store, _, _, contents):
        assert (await audit_log.verify(store.database, ())).is_whole, where
        rows, versions, told, events = await store.read(_all)
        by_name = dict(rows)
        for step in acknowledged:
            if step.startswith("take"):
                assert by_name[MESSAGES[step.split()[1]].message_id] == MessageState.FILED, where
        if "bury" in acknowledged:
            assert by_name["broken"] in (MessageState.DEAD, MessageState.REPLAYED), where
        if "replay" in acknowledged:
            assert by_name["broken"] == MessageState.REPLAYED, where
        assert {state for _, state in told} <= {ReleaseState.EMBARGOED.value}, f"{where}: a report without its plan"
        assert events[AuditEvent.REPORT_FILED.value] == len(versions), where
        assert events[AuditEvent.REPORT_REFUSED.value] == ("broken" in by_name), where
        for version_id in versions:
            assert not (await contents.open(version_id)).content.is_empty, where
        linked = await store.read(lambda read: len(links.unlinked(read, ("", ""), 10)))
        assert events[AuditEvent.RELEASE_CHANGE.value] == len(told) - linked, f"{where}: one record for each link"
        return len(told), len(versions), len(rows)


def _all(read: Read) -> tuple[list[tuple[str, str]], list[str], list[tuple[str, str]], Counter[str]]:
    shown = read.connection
    return (
        [(row[0], row[1]) for row in shown.execute(select(feed_message.c.message_id, feed_message.c.state))],
        list(shown.execute(select(report_version.c.version_id)).scalars()),
        [(row[0], row[1]) for row in shown.execute(select(report.c.report_id, report.c.state))],
        Counter(shown.execute(select(audit_record.c.event)).scalars()),
    )
