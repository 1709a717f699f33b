"""Figures as Prometheus reads them."""

from datetime import timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.keeping.watching import show
from gateway.metrics import Figures
from gateway.model.seams import Observer
from gateway.model.work.jobs import Lane
from gateway.model.work.transfers import CacheClass
from gateway.tls import Validity
from policy.facts import Register
from policy.parties import TrustId
from storage.work.standing import LaneStanding
from tests.gateway.certificates import NOW


def samples(figures: Figures) -> dict[str, float]:
    """Every sample that is not zero, by name and labels."""
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(figures.exposition().decode())
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def test_what_the_core_tells_is_counted_by_trust_rule_and_register() -> None:
    figures = Figures()
    observer: Observer = figures
    observer.question_answered("answered", 0.2)
    observer.peer_answered(TrustId("RZ2"), "answered", 0.1)
    observer.peer_answered(TrustId("RZ3"), "timed-out", 5.0)
    observer.decided(TrustId("RZ2"), "opt-out", "forbid")
    observer.decided(None, "enrolled-trust", "forbid")
    figures.caller_answered(TrustId("RZ1"), "Denied", 0.3)
    observer.audit_appended(0.001)
    observer.register_fault("opt-outs")
    shown = samples(figures)
    assert shown["gateway_question_seconds_count|answered"] == 1
    assert shown["gateway_peer_seconds_sum|timed-out|RZ3"] == 5.0
    assert (shown["gateway_peer_up|RZ2"], shown["gateway_peer_up|RZ3"]) == (1, 0)
    assert shown["gateway_rule_findings_total|forbid|opt-out|RZ2"] == 1
    assert shown["gateway_rule_findings_total|forbid|enrolled-trust|"] == 1
    assert shown["gateway_caller_seconds_count|Denied|RZ1"] == 1
    assert shown["gateway_audit_append_seconds_count"] == 1
    assert shown["gateway_register_faults_total|opt-outs"] == 1


def test_readiness_and_unreadable_registers_show() -> None:
    figures = Figures()
    figures.probed({Register.OPT_OUTS}, is_ready=False)
    shown = samples(figures)
    assert shown["gateway_ready"] == 0
    assert shown["gateway_register_readable|opt-outs"] == 0
    assert shown["gateway_register_readable|patients"] == 1


def test_of_a_chain_the_first_certificate_to_end_shows_and_old_files_vanish() -> None:
    figures = Figures()
    name, file = "listen.machines.certificate", Path("gateway.pem")
    lives = [Validity(name, file, NOW, NOW + timedelta(days=days)) for days in (5, 300)]
    figures.certificates([*lives, Validity("peer 1 (RZ2).ca", Path("ca.pem"), NOW, NOW + timedelta(days=9))], NOW)
    assert samples(figures)["gateway_certificate_days_left|gateway.pem|listen.machines.certificate"] == 5
    figures.certificates(lives, NOW)
    assert "gateway_certificate_days_left|ca.pem|peer 1 (RZ2).ca" not in samples(figures)


def test_what_waits_and_what_is_kept_shows_by_lane_and_class() -> None:
    figures = Figures()
    lanes = {lane: LaneStanding() for lane in Lane} | {Lane.MEETING: LaneStanding(3, 1, NOW - timedelta(seconds=90))}
    show(lanes, {CacheClass.PUSH: 4_096}, figures.images, NOW)
    text = figures.exposition().decode()
    assert 'gateway_jobs{lane="meeting",state="ready"} 3.0' in text
    assert 'gateway_jobs{lane="emergency",state="running"} 0.0' in text
    assert 'gateway_jobs_oldest_due_seconds{lane="meeting"} 90.0' in text
    assert 'gateway_cache_bytes{class="push"} 4096.0' in text
    assert 'gateway_cache_bytes{class="interactive"} 0.0' in text


def test_two_gateways_in_one_process_share_no_figure() -> None:
    one, other = Figures(), Figures()
    one.connection_opened("machines")
    assert samples(one)["gateway_connections|machines"] == 1
    assert "gateway_connections|machines" not in samples(other)
