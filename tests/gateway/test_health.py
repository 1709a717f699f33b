"""Whether the gateway answers questions, and when it says so: by a test's clock and a store that fails on demand."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.health import ALARM_INTERVAL_S, PROBE_INTERVAL_S, Health, WatchedStore
from gateway.metrics import Figures
from gateway.model.audit import GENESIS, AuditEntry, AuditEvent, AuditRecord
from gateway.model.errors import AuditUnavailable
from gateway.model.seams import CrossReference, FactsSnapshot, QualityItem
from gateway.model.settings import Limits
from policy.facts import Facts, Register
from policy.parties import NhsNumber, PatientId, TrustId

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


class HandClock:
    """Time moves when the test says so."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s

    async def sleep(self, delay_s: float) -> None:
        self.passed_s += delay_s


async def nothing_to_follow(version: int) -> None:
    """No roll of trusts hangs on the registers here."""


class FailingStore:
    """A store whose registers and audit fail on demand."""

    def __init__(self) -> None:
        self.faults: frozenset[Register] = frozenset()
        self.is_audit_down = False
        self.recorded: list[AuditEntry] = []

    async def probe(self) -> frozenset[Register]:
        return self.faults

    async def facts(
        self, recipient: TrustId, patients: Sequence[NhsNumber], *, at: datetime, known_at: datetime | None = None
    ) -> FactsSnapshot:
        return FactsSnapshot(0, Facts(0, None, ()), {})

    async def cross_references(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        return {}

    async def patient_row(self, identifier: PatientId) -> str:
        return "row"

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        return frozenset()

    async def register_version(self) -> int:
        return 0

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        if self.is_audit_down:
            raise AuditUnavailable("not recorded")
        self.recorded.append(entry)
        return AuditRecord.following("node-1", len(self.recorded), GENESIS, entry.encoded())

    async def report_quality(self, items: Sequence[QualityItem], at: datetime) -> None:
        return None


class Setting:
    """A health with its surroundings."""

    def __init__(self) -> None:
        self.clock, self.store, self.figures = HandClock(), FailingStore(), Figures()
        self.health = Health(self.store, self.figures, self.clock, lambda: "id")


@pytest.fixture
def setting() -> Setting:
    return Setting()


@pytest.fixture
def log() -> Iterator[LogCapture]:
    capture = LogCapture()
    structlog.configure(processors=[capture], logger_factory=structlog.ReturnLoggerFactory())
    yield capture
    structlog.reset_defaults()


def alarms(log: LogCapture) -> list[object]:
    return [entry["reasons"] for entry in log.entries if entry.get("alarm")]


def test_a_probe_finds_a_fault_well_within_a_minute() -> None:
    assert 2 * (PROBE_INTERVAL_S + Limits().register_read_timeout_s) < 60


async def test_it_is_not_ready_before_it_is_open_nor_while_it_drains(setting: Setting, log: LogCapture) -> None:
    await setting.health.probe()
    states = [setting.health.is_ready]
    setting.health.open()
    states.append(setting.health.is_ready)
    setting.health.drain()
    assert states == [False, True]
    assert setting.health.reasons == ("not accepting questions",)
    assert alarms(log) == [], "starting and stopping are no alarms"


async def test_an_unreadable_register_is_an_alarm_at_once_and_again_while_it_lasts(
    setting: Setting, log: LogCapture
) -> None:
    setting.health.open()
    setting.store.faults = frozenset({Register.OPT_OUTS, Register.LABELS})
    await setting.health.probe()
    assert setting.health.reasons == ("register unreadable: labels", "register unreadable: opt-outs")
    setting.clock.passed_s += ALARM_INTERVAL_S - 1
    await setting.health.probe()
    assert len(alarms(log)) == 1
    setting.clock.passed_s += 1
    await setting.health.probe()
    assert len(alarms(log)) == 2
    setting.store.faults = frozenset()
    await setting.health.probe()
    assert setting.health.is_ready
    assert log.entries[-1]["event"] == "ready again"


async def test_a_record_that_could_not_be_written_turns_it_red_until_one_can(setting: Setting, log: LogCapture) -> None:
    setting.health.open()
    watched = WatchedStore(setting.store, setting.health, nothing_to_follow)
    entry = AuditEntry(AuditEvent.QUERY_ATTEMPT, START, "r", {})
    setting.store.is_audit_down = True
    with pytest.raises(AuditUnavailable):
        await watched.append_audit(entry)
    assert setting.health.reasons == ("audit cannot be written",)
    await setting.health.probe()
    states = [setting.health.is_ready]
    setting.store.is_audit_down = False
    await setting.health.probe()
    states.append(setting.health.is_ready)
    assert states == [False, True], "the probe tried, failed, and tried again: nobody had to ask a question for that"
    assert [entry.body for entry in setting.store.recorded] == [{"alert": "recording-resumed"}]


async def test_a_question_that_could_be_recorded_turns_it_green_again(setting: Setting) -> None:
    setting.health.open()
    setting.health.audit_failed()
    await WatchedStore(setting.store, setting.health, nothing_to_follow).append_audit(
        AuditEntry(AuditEvent.QUERY_ATTEMPT, START, "r", {})
    )
    assert setting.health.is_ready


async def test_the_figures_follow(setting: Setting) -> None:
    setting.health.open()
    setting.store.faults = frozenset({Register.OPT_OUTS})
    await setting.health.probe()
    shown = setting.figures.exposition().decode()
    assert "gateway_ready 0.0" in shown
    assert 'gateway_register_readable{register="opt-outs"} 0.0' in shown
    assert 'gateway_register_faults_total{register="opt-outs"} 1.0' in shown
