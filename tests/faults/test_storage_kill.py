"""SIGKILL, or a failing disk, between any two durable steps of storage: nothing acknowledged lost, nothing half done.

Each scenario is run once to learn which fault points it passes, and then again and again, with a fault at one of them.
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model.audit import AuditRecord
from gateway.model.errors import InvalidRequest
from storage import audit_log, migrate
from storage.backup import read_manifest
from storage.checkpoints import check_rollback
from storage.database import Read
from storage.engines import DatabaseSettings
from storage.keys import load_verifying_key
from storage.registers.state import version
from storage.reserve import Reserved
from storage.store import SqlStore
from tests.faults.storage_scenarios import SCENARIOS, Run, Zygote

Act = tuple[str, str]

TRACES: dict[Act, str] = {
    ("patients", "create"): "patient",
    ("relationships", "add"): "relationship WHERE revision = 1",
    ("relationships", "end"): "relationship WHERE revision > 1",
    ("agreements", "import"): "agreement_version",
    ("labels", "add"): "sensitive_label",
    ("grants", "add"): "access_grant",
    ("grants", "end"): "access_grant WHERE superseded_at IS NOT NULL",
    ("opt-outs", "receive"): "optout_case",
    ("opt-outs", "verify"): "optout_event WHERE event = 'verify'",
    ("opt-outs", "implement"): "optout_choice WHERE is_provisional = 0",
    ("quality", "open"): "quality_item",
    ("trusts", "suspend"): "trust_standing WHERE standing = 'suspended'",
    ("trusts", "downtime"): "trust_downtime",
}
"""Where each act leaves a row: as many rows as the audit tells of acts, no more and no fewer."""

STEPS: dict[str, Act] = {
    "patient": ("patients", "create"),
    "relationship": ("relationships", "add"),
    "end": ("relationships", "end"),
    "agreement 1": ("agreements", "import"),
    "label": ("labels", "add"),
    "grant": ("grants", "add"),
    "grant ended": ("grants", "end"),
    "quality": ("quality", "open"),
    "receive": ("opt-outs", "receive"),
    "verify": ("opt-outs", "verify"),
    "implement": ("opt-outs", "implement"),
    "suspend": ("trusts", "suspend"),
    "downtime": ("trusts", "downtime"),
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["kill", "raise"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_no_fault_between_two_steps_loses_or_halves_anything(
    zygote: Zygote, migrated_file: Path, memory: Path, scenario: str, fault: str
) -> None:
    for point, passage in zygote.passages(scenario, fresh(memory / "run", migrated_file)):
        run = Run(fresh(memory / "run", migrated_file))
        status, acknowledged = zygote.run(scenario, run.folder, GATEWAY_FAULTS=f"{point}={fault}@{passage}")
        where = f"{point}={fault}@{passage}"
        assert status == (-signal.SIGKILL if fault == "kill" else 0), where
        await check(run, acknowledged, where)
        if fault == "kill":
            await recover(run)
            assert_nothing_doubled(await texts_of(run), where)
        if passage == 1:  # and the same work can be done on what is left
            shutil.rmtree(run.folder / "backup", ignore_errors=True)
            status, again = zygote.run(scenario, run.folder)
            assert status == 0, where
            await check(run, again, where)


def fresh(folder: Path, migrated_file: Path) -> Path:
    """A folder with an empty database."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(migrated_file, folder / "gateway.db")
    return folder


async def check(run: Run, acknowledged: list[str], where: str) -> None:
    """What must hold of a folder after any fault."""
    assert migrate.current(DatabaseSettings(f"sqlite:///{run.folder / 'empty.db'}")) in (None, migrate.newest()), where
    key = load_verifying_key(run.folder / "key.pem") if (run.folder / "key.pem").exists() else None
    async with run.store() as store:
        verified = await audit_log.verify(store.database, run.anchors.read(key).anchors() if key else ())
        assert verified.is_whole, f"{where}: {verified.breaks}"
        if key is not None:
            assert run.anchors.read(key).problems == (), where
            assert await check_rollback(store.database, run.anchors, key) is None, where
        acts = await acts_of(store)
        rows = {act: await store.read(lambda read, act=act: _count(read, TRACES[act])) for act in TRACES}  # type: ignore[misc]  # the loop's own act
        assert rows == {act: acts[act] for act in TRACES}, where
        quality = acts[("quality", "open")]
        assert await store.read(version) == sum(acts.values()) - quality, where
    assert {STEPS[step] for step in acknowledged if step in STEPS} <= set(acts), where
    texts = set(await texts_of(run)) | {f"append {record.entry.body['text']}" for record in waiting(run)}
    assert {step for step in acknowledged if step.startswith("append ")} <= texts, where
    if key is not None and (run.folder / "backup").exists():
        try:
            read_manifest(run.folder / "backup", key)
        except InvalidRequest:
            assert "backup" not in acknowledged, where


async def recover(run: Run) -> None:
    """What a gateway does once its database is there again."""
    held = run.reserve()
    try:
        async with run.store() as store:
            await held.drain(store.database)
    finally:
        held.close()


def assert_nothing_doubled(texts: list[str], where: str) -> None:
    """A killed process tried everything once, so everything stands in the chain at most once."""
    assert [text for text, count in Counter(texts).items() if count > 1] == [], where


async def texts_of(run: Run) -> list[str]:
    """The steps that appended an entry of their own, by what stands in the chain."""
    async with run.store() as store:
        bodies = [audit_log.contents(record)["body"] for record in await store.read(_records)]
    return [f"append {body['text']}" for body in bodies if isinstance(body, dict) and "text" in body]


async def acts_of(store: SqlStore) -> Counter[Act]:
    """The register writes that the audit tells of."""
    bodies = [audit_log.contents(record)["body"] for record in await store.read(_records)]
    return Counter(
        (str(body["register"]), str(body["act"])) for body in bodies if isinstance(body, dict) and "act" in body
    )


def waiting(run: Run) -> list[Reserved]:
    """What the reserve holds."""
    held = run.reserve()
    try:
        return held.records()
    finally:
        held.close()


def _records(read: Read) -> list[AuditRecord]:
    return audit_log.page(read, "north", 0)


def _count(read: Read, rows: str) -> int:
    found: int = read.connection.exec_driver_sql(f"SELECT count(*) FROM {rows}").scalar_one()
    return found
