"""Count what happens, for Prometheus: by trust, rule, state and register; never by patient, person or study.

`Figures` is the core's `Observer`. It owns its registry, so that two gateways in one process, or two tests, never share
a figure. The names, and what to do when one rises, are in docs/operating.md; a test compares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest

from gateway.model.imaging import JsonValue
from gateway.model.reporting.views import Board
from gateway.model.work.commitments import SoleCopies
from gateway.model.work.jobs import Lane
from gateway.model.work.transfers import CacheClass
from gateway.tls import Validity
from policy.facts import Register
from policy.parties import TrustId

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FINE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class _Part:
    """A trust's latest part in an answer, or in a probe."""

    state: str
    duration_s: float
    at_s: float


class LocationFigures:
    """What the location index learns by itself: of what trusts tell, and of sampling."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._notices = Counter(
            "gateway_location_notices",
            "Availability notices, by what became of them",
            ["trust", "result"],
            registry=registry,
        )
        self._lapsed = Counter(
            "gateway_location_notices_lapsed", "Availability notices whose study was never shown", registry=registry
        )
        self._waiting = Gauge(
            "gateway_location_notices_waiting",
            "Availability notices of which it is not known yet whose they are",
            ["trust"],
            registry=registry,
        )
        self._samples = Counter("gateway_location_samples", "Rounds of sampling", ["result"], registry=registry)
        self._sampled_at = Gauge(
            "gateway_location_sampled_timestamp_seconds", "When locations were last sampled", registry=registry
        )
        self._latest: tuple[datetime, int] | None = None

    def notice_heard(self, trust: TrustId, result: str) -> None:
        """What became of an availability notice."""
        self._notices.labels(trust.code, result).inc()

    def notices_lapsed(self, count: int) -> None:
        """Availability notices were given up."""
        self._lapsed.inc(count)

    def notices_waiting(self, by_trust: Mapping[TrustId, int]) -> None:
        """How many availability notices wait; those of trusts that are not named wait no more."""
        self._waiting.clear()
        for trust, count in by_trust.items():
            self._waiting.labels(trust.code).set(count)

    def sampled(self, patients: int, at: datetime) -> None:
        """A round of sampling ended."""
        self._samples.labels("done").inc()
        self._sampled_at.set(at.timestamp())
        self._latest = (at, patients)

    def sampling_failed(self) -> None:
        """A round of sampling could not be gone."""
        self._samples.labels("failed").inc()

    def summary(self, now: datetime) -> dict[str, JsonValue]:
        """The latest round of sampling; empty if there was none."""
        if self._latest is None:
            return {}
        at, patients = self._latest
        return {"seconds_ago": round((now - at).total_seconds(), 1), "patients": patients}


class ImageFigures:
    """Images on their way, and whether they can be kept and given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.fetched = Histogram(
            "gateway_peer_images_seconds",
            "A trust's sending of what one retrieval asked of it, by state",
            ["trust", "state"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._ready = Gauge("gateway_images_ready", "1 while images can be kept and given", registry=registry)
        self._held = Gauge("gateway_cache_bytes", "Room that the study cache takes", ["class"], registry=registry)
        self._jobs = Gauge("gateway_jobs", "Durable jobs that are open", ["lane", "state"], registry=registry)
        self._due = Gauge(
            "gateway_jobs_oldest_due_seconds", "How long the longest due job has waited", ["lane"], registry=registry
        )
        self._sole = Gauge(
            "gateway_sole_copies", "Instances that nobody else is known to have", ["trust"], registry=registry
        )
        self._sole_bytes = Gauge("gateway_sole_copy_bytes", "Room that they take", ["trust"], registry=registry)
        self._sole_age = Gauge(
            "gateway_sole_copy_oldest_seconds", "Age of the oldest of them", ["trust"], registry=registry
        )
        self._fault = ""

    def probed(self, fault: str) -> None:
        """Keys and study cache were looked at: why they cannot be used, or nothing."""
        self._fault = fault
        self._ready.set(not fault)

    def held(self, cache_class: CacheClass, held_bytes: int) -> None:
        """The room that a class takes here."""
        self._held.labels(cache_class.value).set(held_bytes)

    def sole_copies(self, found: Sequence[SoleCopies], now: datetime) -> None:
        """All that this node keeps of them; a trust without any has none any more."""
        for gauge in (self._sole, self._sole_bytes, self._sole_age):
            gauge.clear()
        for each in found:
            trust = each.custodian.code
            self._sole.labels(trust).inc(each.instances)
            self._sole_bytes.labels(trust).inc(each.held_bytes)
        for each in reversed(found):  # the oldest come first, and are to stand
            self._sole_age.labels(each.custodian.code).set(max(0.0, (now - each.oldest_at).total_seconds()))

    def lane(self, lane: Lane, ready: int, running: int, oldest_due_s: float) -> None:
        """What is open in a lane of all nodes, and how long the longest due job has waited."""
        self._jobs.labels(lane.word, "ready").set(ready)
        self._jobs.labels(lane.word, "running").set(running)
        self._due.labels(lane.word).set(oldest_due_s)

    def summary(self) -> dict[str, JsonValue]:
        """As people ask after it."""
        return {"ready": not self._fault, "reason": self._fault}


class FeedFigures:
    """What feeds of reports send, and which of them say nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = Histogram(
            "gateway_feed_seconds", "Messages until kept", ["feed", "outcome"], buckets=_SECONDS, registry=registry
        )
        self._silent = Gauge("gateway_feed_silent", "1 while a feed is silent too long", ["feed"], registry=registry)

    def message_taken(self, feed: str, outcome: str, duration_s: float) -> None:
        """A message was answered."""
        self._messages.labels(feed, outcome).observe(duration_s)

    def silent(self, feeds: Mapping[str, bool]) -> None:
        """Whether each feed says nothing for too long; those no longer configured vanish."""
        self._silent.clear()
        for feed, is_silent in feeds.items():
            self._silent.labels(feed).set(is_silent)


class ReleaseFigures:
    """Reports on their way to their patients, trust by trust."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reports = Gauge(
            "gateway_release_reports", "Reports by where they stand", ["trust", "standing"], registry=registry
        )
        self._stopped = Gauge(
            "gateway_release_stopped", "1 while a trust's release stands still", ["trust"], registry=registry
        )
        self._delay = Gauge(
            "gateway_release_delay_seconds", "Median of due to released, of a month", ["trust"], registry=registry
        )
        self._acknowledged = Gauge(
            "gateway_release_acknowledged_seconds",
            "Median of verified to acknowledged, of a month",
            ["trust"],
            registry=registry,
        )

    def show(self, boards: Sequence[Board]) -> None:
        """How release stands now; a trust without a board has none any more."""
        for gauge in (self._reports, self._stopped, self._delay, self._acknowledged):
            gauge.clear()
        for board in boards:
            for standing in _RELEASE_STANDINGS:
                self._reports.labels(board.trust, standing.replace("_", "-")).set(getattr(board, standing))
            self._stopped.labels(board.trust).set(board.is_stopped)
            if board.medians.due_to_released_s is not None:
                self._delay.labels(board.trust).set(board.medians.due_to_released_s)
            if board.medians.verified_to_acknowledged_s is not None:
                self._acknowledged.labels(board.trust).set(board.medians.verified_to_acknowledged_s)


_RELEASE_STANDINGS = (
    *("waiting", "due", "held", "overdue_review", "held_by_rule", "unacknowledged", "undeliverable", "retried"),
    *("unmatched", "identity_changed", "dead_letters", "released_today"),
)


class Figures:
    """Every counter and gauge of one gateway, in its own registry. `monotonic` says how long ago something was."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._latest: dict[str, _Part] = {}
        self._validities: tuple[Validity, ...] = ()
        self.registry = CollectorRegistry()
        registry = self.registry
        self.locations = LocationFigures(registry)
        self.images = ImageFigures(registry)
        self.release = ReleaseFigures(registry)
        self.feeds = FeedFigures(registry)
        self._questions = Histogram(
            "gateway_question_seconds", "Questions, by outcome", ["outcome"], buckets=_SECONDS, registry=registry
        )
        self._callers = Histogram(
            "gateway_caller_seconds",
            "A trust's own questions, by how they ended",
            ["trust", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._peers = Histogram(
            "gateway_peer_seconds", "A trust's part, by state", ["trust", "state"], buckets=_SECONDS, registry=registry
        )
        self._peer_state = Gauge(
            "gateway_peer_up", "1 if the trust's latest part was an answer, else 0", ["trust"], registry=registry
        )
        self._rules = Counter(
            "gateway_rule_findings",
            "What rules found in decisions, by the trust whose imaging it was about",
            ["trust", "rule", "effect"],
            registry=registry,
        )
        self._findings: dict[tuple[str, str, str], Counter] = {}
        self._audit = Histogram(
            "gateway_audit_append_seconds", "Time until a record is durable", buckets=_FINE_SECONDS, registry=registry
        )
        self._faults = Counter(
            "gateway_register_faults", "Times a register could not be believed", ["register"], registry=registry
        )
        self._register_ok = Gauge(
            "gateway_register_readable", "1 if the latest probe could read it", ["register"], registry=registry
        )
        self._ready = Gauge("gateway_ready", "1 while the gateway answers questions", registry=registry)
        self._certificates = Gauge(
            "gateway_certificate_days_left", "Days until a certificate ends", ["setting", "file"], registry=registry
        )
        self._connections = Gauge("gateway_connections", "Connections open", ["listener"], registry=registry)
        self._refused = Counter(
            "gateway_connections_refused", "Connections closed at once", ["listener", "reason"], registry=registry
        )
        self._associations = Gauge("gateway_associations", "Associations open at the DIMSE door", registry=registry)
        self._rejected = Counter(
            "gateway_associations_refused", "Associations not taken", ["reason"], registry=registry
        )
        self._requests = Histogram(
            "gateway_dimse_seconds",
            "Requests on associations, by final status",
            ["command", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._budgets = Counter(
            "gateway_budgets_passed",
            "Times a caller asked more than its budget",
            ["caller", "excess"],
            registry=registry,
        )
        self._reloads = Counter("gateway_reloads", "Reloads of the configuration", ["result"], registry=registry)

    def question_answered(self, outcome: str, duration_s: float) -> None:
        """A caller's question ended."""
        self._questions.labels(outcome).observe(duration_s)

    def caller_answered(self, trust: TrustId, outcome: str, duration_s: float) -> None:
        """A question of a trust's caller was answered, whatever was withheld, or refused with an error's name."""
        self._callers.labels(trust.code, outcome).observe(duration_s)

    def peer_answered(self, trust: TrustId, state: str, duration_s: float) -> None:
        """A peer's part ended in a `SourceState`."""
        self._peers.labels(trust.code, state).observe(duration_s)
        self._peer_state.labels(trust.code).set(state in ("answered", "truncated"))
        self._latest[trust.code] = _Part(state, duration_s, self._monotonic())

    def peer_sent(self, trust: TrustId, state: str, duration_s: float) -> None:
        """A peer was asked for images."""
        self.images.fetched.labels(trust.code, state).observe(duration_s)

    def decided(self, custodian: TrustId | None, rule: str, effect: str) -> None:
        """A rule found something in a decision about this trust's imaging; None: about a question as a whole."""
        # Rules speak of every row: their counters are looked up once, not a thousand times an answer.
        key = (custodian.code if custodian is not None else "", rule, effect)
        found = self._findings.get(key)
        if found is None:
            found = self._findings[key] = self._rules.labels(*key)
        found.inc()

    def audit_appended(self, duration_s: float) -> None:
        """An audit record became durable."""
        self._audit.observe(duration_s)

    def register_fault(self, register: str) -> None:
        """A register could not be believed."""
        self._faults.labels(register).inc()

    def probed(self, faults: Iterable[Register], is_ready: bool) -> None:
        """The health probe ended: which registers it could not read, and whether questions are answered."""
        unreadable = frozenset(faults)
        for register in Register:
            self._register_ok.labels(register.value).set(register not in unreadable)
        self._ready.set(is_ready)

    def certificates(self, all_of_them: Iterable[Validity], now: datetime) -> None:
        """Show how long every certificate in use still lives; those no longer in use vanish."""
        self._certificates.clear()
        self._validities = tuple(sorted(all_of_them, key=lambda validity: validity.valid_until))
        for validity in reversed(self._validities):
            # The first to end of a chain is set last, and stays.
            self._certificates.labels(validity.name, validity.path.name).set(validity.days_left(now))

    def connection_opened(self, listener: str) -> None:
        """A listener took a connection."""
        self._connections.labels(listener).inc()

    def connection_closed(self, listener: str) -> None:
        """A connection's descriptor was given back."""
        self._connections.labels(listener).dec()

    def connection_refused(self, listener: str, reason: str) -> None:
        """A connection was closed before its first request."""
        self._refused.labels(listener, reason).inc()

    def association_opened(self) -> None:
        """The DIMSE door took an association."""
        self._associations.inc()

    def association_closed(self) -> None:
        """It ended."""
        self._associations.dec()

    def association_refused(self, reason: str) -> None:
        """One was not taken."""
        self._rejected.labels(reason).inc()

    def request_answered(self, command: str, status: int, duration_s: float) -> None:
        """A request on an association had its last response."""
        self._requests.labels(command, f"{status:04X}").observe(duration_s)

    def budget_passed(self, caller: str, excess: str) -> None:
        """A caller passed a budget."""
        self._budgets.labels(caller, excess).inc()

    def reloaded(self, result: str) -> None:
        """A reload was `taken` or `refused`."""
        self._reloads.labels(result).inc()

    def summary(self, now: datetime) -> dict[str, JsonValue]:
        """The few figures that people ask for: connections, each trust's latest part, certificates by their end."""
        since = self._monotonic()
        parts: dict[str, JsonValue] = {
            trust: {
                "state": part.state,
                "seconds": round(part.duration_s, 3),
                "seconds_ago": round(since - part.at_s, 1),
            }
            for trust, part in sorted(self._latest.items())
        }
        samples = [sample for metric in self._connections.collect() for sample in metric.samples]
        certificates: list[JsonValue] = [
            {"setting": each.name, "file": each.path.name, "days_left": round(each.days_left(now), 1)}
            for each in self._validities
        ]
        return {
            "connections": {sample.labels["listener"]: int(sample.value) for sample in samples},
            "associations": int(self.registry.get_sample_value("gateway_associations") or 0),
            "trusts": parts,
            "certificates": certificates,
            "images": self.images.summary(),
            "sampled": self.locations.summary(now),
        }

    def exposition(self) -> bytes:
        """Write all figures in Prometheus's text format."""
        return generate_latest(self.registry)
