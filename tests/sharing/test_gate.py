"""The guard: what is told, what is hidden, what is a fault, and what is recorded (SAF-01, 02, 08, 12; DEC-14, 34)."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.model.errors import (
    AuditUnavailable,
    Denied,
    GatewayError,
    NotIdentified,
    OverCapacity,
    RegisterUnavailable,
    ServiceFault,
    StoreUnavailable,
)
from gateway.model.imaging import JsonValue, Level, Matches, Query
from policy.facts import OrganisationKind
from policy.identity import Channel, Evidence
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse
from policy.record import DecisionRecord, replay
from storage.registers.agreements import Clause
from tests.clock import settle
from tests.region import Region
from tests.sharing.rows import ANNE, BEN, CLARA, asking_for, asking_for_study, row, values

UNKNOWN = NhsNumber("9990000077")
DAVID, EVE = NhsNumber("9990000042"), NhsNumber("9990000050")
NOTHING_THERE = asking_for_study("1.2.999")


@pytest.fixture
async def region(region: Region) -> Region:
    """RZ1 asks, RZ2 and RZ3 hold. Anne and Ben are in RZ1's care, Ben opted out; Clara is in nobody's care."""
    region.trust("RZ1")
    region.trust("RZ2").with_study("1.2.3", of=ANNE, modalities="CT").with_study("1.2.4", of=BEN, modalities="CT")
    region.trust("RZ3").with_study("1.2.5", of=CLARA, modalities="CT").with_study("1.2.6", of=ANNE, modalities="MR")
    await region.prepare()
    await region.refer(ANNE, to="RZ1")
    await region.refer(BEN, to="RZ1")
    await region.opt_out(BEN)
    return region


Json = dict[str, JsonValue]


def studies(matches: Matches) -> list[str]:
    """The study UIDs shown."""
    return [match.study_uid for match in matches.rows]


async def refusal(region: Region, query: Query, **caller: object) -> tuple[str, str]:
    """Everything a caller sees of a refusal: its kind and its words, and the advice beside them."""
    with pytest.raises(GatewayError) as refused:
        await region.find(query, by=region.caller("RZ1", **caller))  # type: ignore[arg-type]  # as `caller` takes them
    error = refused.value
    return type(error).__name__, f"{error} {error.advice if isinstance(error, Denied) else ''}"


# --- shown, and hidden like what is not there ---


async def test_a_patient_in_care_is_found(region: Region) -> None:
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.6"]


async def test_an_opted_out_patient_is_not_found(region: Region) -> None:
    assert studies(await region.find(asking_for(BEN))) == []
    assert studies(await region.find(asking_for_study("1.2.4"))) == []


async def test_a_restriction_acts_before_the_opt_out_is_implemented(region: Region) -> None:
    await region.opt_out(ANNE, only_verified=True)
    assert studies(await region.find(asking_for(ANNE))) == []


async def test_an_opt_in_opens_again(region: Region) -> None:
    await region.clock.advance(60)
    await region.opt_in(BEN)
    assert studies(await region.find(asking_for(BEN))) == ["1.2.4"]


async def test_a_study_of_somebody_not_in_care_looks_like_none(region: Region) -> None:
    found = await region.find(asking_for_study("1.2.5"))
    assert found == await region.find(NOTHING_THERE)


async def test_a_labelled_study_looks_like_none(region: Region) -> None:
    await region.label(ANNE, "RZ2", "1.2.3")
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.6"]
    assert await region.find(asking_for_study("1.2.3")) == await region.find(NOTHING_THERE)


async def test_a_label_follows_the_study_to_whoever_holds_a_copy(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.3", of=ANNE, modalities="CT")
    await region.label(ANNE, "RZ2", "1.2.3")
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.6"]


async def test_no_modality_that_an_archive_makes_up_lends_a_study_the_decision_on_another(region: Region) -> None:
    region.trust("RZ2").lying(row("1.2.3", modalities="CT"), row("1.2.9", modalities="CT,1.2.3"))
    await region.label(ANNE, "RZ3", "1.2.9")
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.6"]


async def test_a_number_of_the_other_mode_is_refused_in_words(region: Region) -> None:
    kind, words = await refusal(region, asking_for(NhsNumber("9434765919")))
    assert kind == "Denied"
    assert "9434765919" not in words


# --- told in words, the same for everybody (SAF-02) ---


async def test_a_missing_relationship_is_told_whatever_the_registers_say(region: Region) -> None:
    """Known, unknown, opted out, labelled: who is not in care gets the same words."""
    await region.opt_out(DAVID)
    await region.label(EVE, "RZ2")
    told = {await refusal(region, asking_for(patient)) for patient in (CLARA, UNKNOWN, DAVID, EVE)}
    assert len(told) == 1
    [(kind, words)] = told
    assert kind == "Denied"
    assert "no care relationship" in words


async def test_a_refusal_names_a_desk_to_ring(region: Region) -> None:
    with pytest.raises(Denied) as refused:
        await region.find(asking_for(CLARA))
    assert "0300 RZ1" in refused.value.advice and refused.value.desk_phone == "0300 RZ1"


async def test_no_refusal_says_whether_imaging_exists_or_who_was_asked_for(region: Region) -> None:
    _, words = await refusal(region, asking_for(CLARA))
    assert CLARA.digits not in words
    assert not {"imaging found", "study", "studies", "held"} & set(words.split())


@pytest.mark.parametrize(
    "caller",
    [
        {"purpose": PurposeOfUse.HRESCH},
        {"kind": PrincipalKind.OFFICER},
        {"kind": PrincipalKind.SERVICE},
        {"purpose": PurposeOfUse.BTG},
    ],
    ids=str,
)
async def test_what_hangs_on_the_caller_alone_is_told_for_every_patient(
    region: Region, caller: dict[str, object]
) -> None:
    told = {await refusal(region, asking_for(patient), **caller) for patient in (ANNE, BEN)}
    assert len(told) == 1
    assert [kind for kind, _ in told] == ["Denied"]


@pytest.mark.parametrize(
    ("kind", "is_enrolled"),
    [
        (OrganisationKind.INDEPENDENT_PROVIDER, True),
        (OrganisationKind.GENERAL_PRACTICE, True),
        (OrganisationKind.NHS_HOSPITAL_TRUST, False),
    ],
)
async def test_an_organisation_that_may_not_receive_is_told(
    region: Region, kind: OrganisationKind, is_enrolled: bool
) -> None:
    region.rebuilt().trust("RZ1").of_kind(kind, is_enrolled=is_enrolled)
    for query in (asking_for(ANNE), asking_for(BEN), asking_for_study("1.2.3"), NOTHING_THERE):
        assert (await refusal(region, query))[0] == "Denied"


async def test_an_organisation_that_the_region_does_not_know_is_told(region: Region) -> None:
    with pytest.raises(Denied):
        await region.find(asking_for(ANNE), by="XYZ")


async def test_a_clinician_needs_a_team_of_his_own_in_the_care(region: Region) -> None:
    await region.refer(DAVID, to="RZ1", team="neurology")
    region.trust("RZ2").with_study("1.2.7", of=DAVID)
    neurologist, surgeon = (
        region.caller("RZ1", kind=PrincipalKind.CLINICIAN, teams=[team]) for team in ("neurology", "surgery")
    )
    assert studies(await region.find(asking_for(DAVID), by=neurologist)) == ["1.2.7"]
    with pytest.raises(Denied):
        await region.find(asking_for(DAVID), by=surgeon)


async def test_a_relationship_opens_with_its_first_instant_and_closes_with_its_last(region: Region) -> None:
    region.trust("RZ2").with_study("1.2.7", of=DAVID)
    await region.refer(DAVID, to="RZ1", until=region.clock.now() + timedelta(seconds=10))
    await region.clock.advance(9.999)
    assert studies(await region.find(asking_for(DAVID))) == ["1.2.7"]
    await region.clock.advance(0.001)
    with pytest.raises(Denied):
        await region.find(asking_for(DAVID))


# --- the fault of the service, the same for every patient (SAF-01) ---

TABLES = {
    "patients": "patient_identifier",
    "relationships": "relationship",
    "opt-outs": "optout_choice",
    "agreements": "agreement_clause",
    "labels": "sensitive_label",
    "grants": "access_grant",
}
HIDING_RELATIONSHIPS = {"patients", "relationships", "grants"}


@pytest.mark.parametrize("register", TABLES)
async def test_a_register_that_cannot_be_read_is_the_same_fault_for_every_patient(
    region: Region, register: str
) -> None:
    await region.lose(TABLES[register])
    in_care = [asking_for(ANNE), asking_for(BEN)]
    not_in_care = [asking_for(CLARA), asking_for(UNKNOWN)]
    faults = {await refusal(region, query) for query in in_care}
    assert len(faults) == 1
    assert [kind for kind, _ in faults] == ["RegisterUnavailable"]
    others = {await refusal(region, query) for query in not_in_care}
    assert len(others) == 1
    # A reason that may be told comes before the fault while the relationship store is readable, else the fault.
    assert others == faults if register in HIDING_RELATIONSHIPS else [kind for kind, _ in others] == ["Denied"]


@pytest.mark.parametrize("register", TABLES)
async def test_a_register_that_cannot_be_read_tells_nothing_of_what_exists(region: Region, register: str) -> None:
    """A question for a study: of a patient in care, opted out, not in care, and of nobody."""
    await region.lose(TABLES[register])
    seen = {await refusal(region, asking_for_study(uid)) for uid in ("1.2.3", "1.2.4", "1.2.5", "1.2.999")}
    assert len(seen) == 1
    assert [kind for kind, _ in seen] == ["RegisterUnavailable"]


async def test_without_a_database_every_question_is_a_fault(region: Region) -> None:
    await region.find(asking_for(ANNE))
    region.store.is_down = True
    seen = {await refusal(region, query) for query in (asking_for(ANNE), asking_for(CLARA), NOTHING_THERE)}
    assert [kind for kind, _ in seen] == ["RegisterUnavailable"]


async def test_a_database_that_goes_while_the_trusts_are_asked_is_a_fault(region: Region) -> None:
    region.trust("RZ2").pacs.slow(2)
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    region.store.is_down = True
    await region.clock.advance(2)
    with pytest.raises(RegisterUnavailable):
        await question


async def test_a_register_that_is_lost_while_the_trusts_are_asked_is_a_fault(region: Region) -> None:
    region.trust("RZ2").pacs.slow(2)
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    await region.lose("optout_choice")
    await region.clock.advance(2)
    with pytest.raises(RegisterUnavailable):
        await question


async def test_a_fault_is_counted_by_its_register(region: Region) -> None:
    await region.lose("optout_choice")
    with contextlib.suppress(RegisterUnavailable):
        await region.find(asking_for(ANNE))
    assert region.sights.faults == ["opt-outs"]


# --- strangers ---

STRANGER = Evidence(Channel.HTTPS, "192.0.2.7", certificate_sha256="b" * 64)


async def test_a_stranger_is_turned_away_and_recorded(region: Region) -> None:
    with pytest.raises(NotIdentified):
        await region.gate.identified(STRANGER, "", "request-1")
    [alert] = await region.records("security-alert")
    assert {key: body_of(alert)[key] for key in ("alert", "reason", "address")} == {
        "alert": "node-authentication",
        "reason": "certificate-unknown",
        "address": "192.0.2.7",
    }
    assert region.sights.outcomes == ["NotIdentified"]


async def test_a_stranger_is_recorded_with_what_it_claimed_to_be(region: Region) -> None:
    claiming = replace(
        STRANGER, channel=Channel.DIMSE, ae_title="NORTHMOOR_PACS", stated_identity="username consultant"
    )
    with pytest.raises(NotIdentified):
        await region.gate.identified(claiming, "", "request-1")
    [alert] = await region.records("security-alert")
    assert body_of(alert)["ae_title"] == "NORTHMOOR_PACS"
    assert body_of(alert)["stated_identity"] == "username consultant"


async def test_a_claimed_user_is_recorded_with_the_question_and_believed_by_nobody(region: Region) -> None:
    claiming = replace(region.caller("RZ1"), stated_identity="username consultant")
    await region.find(asking_for(ANNE), by=claiming)
    [attempt] = await region.records("query-attempt")
    assert body_of(attempt)["stated_identity"] == "username consultant"
    access = body_of(attempt)["access"]
    assert isinstance(access, dict) and "consultant" not in str(access)


async def test_many_strangers_do_not_fill_the_audit(region: Region) -> None:
    for _ in range(100):
        with pytest.raises(NotIdentified):
            await region.gate.identified(STRANGER, "", "request-1")
    assert len(await region.records("security-alert")) == 60
    await region.clock.advance(60)
    with pytest.raises(NotIdentified):
        await region.gate.identified(STRANGER, "", "request-1")
    assert body_of((await region.records("security-alert"))[-1])["unrecorded_before"] == 40


async def test_strangers_that_could_not_be_recorded_are_counted_still(region: Region) -> None:
    for _ in range(65):
        with pytest.raises(NotIdentified):
            await region.gate.identified(STRANGER, "", "request-1")
    await region.clock.advance(60)
    region.store.failing_appends = range(1, 1_000)
    with pytest.raises(AuditUnavailable):
        await region.gate.identified(STRANGER, "", "request-1")
    region.store.failing_appends = range(0)
    with pytest.raises(NotIdentified):
        await region.gate.identified(STRANGER, "", "request-1")
    assert body_of((await region.records("security-alert"))[-1])["unrecorded_before"] == 5


# --- registers that change while the trusts are asked (DEC-34, SHR-36) ---


async def test_an_opt_out_implemented_while_the_trusts_are_asked_holds(region: Region) -> None:
    region.trust("RZ2").pacs.slow(2)
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    await region.clock.advance(1)
    await region.opt_out(ANNE)
    await region.clock.advance(1)
    assert studies(await question) == []


async def test_a_label_put_on_while_the_trusts_are_asked_holds(region: Region) -> None:
    region.trust("RZ2").pacs.slow(2)
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    await region.label(ANNE, "RZ2", "1.2.3")
    await region.clock.advance(2)
    assert studies(await question) == ["1.2.6"]


async def test_a_label_that_begins_while_the_trusts_are_asked_holds(region: Region) -> None:
    """Nobody writes a register meanwhile: its day has come."""
    region.trust("RZ2").pacs.slow(3)
    await region.label(ANNE, "RZ2", "1.2.3", since=region.clock.now() + timedelta(seconds=1))
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    await region.clock.advance(3)
    assert studies(await question) == ["1.2.6"]


async def test_a_relationship_that_ends_while_the_trusts_are_asked_hides(region: Region) -> None:
    region.trust("RZ2").pacs.slow(2)
    relationship = await region.refer(DAVID, to="RZ1")
    region.trust("RZ2").with_study("1.2.7", of=DAVID)
    question = region.asking(asking_for(DAVID))
    await region.at_the_peers()
    await region.clock.advance(1)
    await region.end(relationship)
    await region.clock.advance(1)
    assert studies(await question) == []


async def test_a_relationship_that_runs_out_while_the_trusts_are_asked_hides(region: Region) -> None:
    region.trust("RZ2").with_study("1.2.7", of=DAVID).pacs.slow(2)
    await region.refer(DAVID, to="RZ1", until=region.clock.now() + timedelta(seconds=1))
    question = region.asking(asking_for(DAVID))
    await region.at_the_peers()
    await region.clock.advance(2)
    assert studies(await question) == []


async def test_an_agreement_that_ends_while_the_trusts_are_asked_holds(region: Region) -> None:
    region.trust("RZ2").pacs.slow(2)
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    await region.clock.advance(1)
    await region.agree("RZ2")
    await region.clock.advance(1)
    assert studies(await question) == ["1.2.6"]


# --- own images (SAF-12) ---


async def test_a_trust_finds_its_own_images_whatever_the_patient_chose(region: Region) -> None:
    """At the resource of its own archive: opted out, labelled, not in care any more, never shared, without number."""
    await region.label(BEN, "RZ2")
    assert studies(await region.find(asking_for(BEN, at="RZ2"), by="RZ2")) == ["1.2.4"]
    assert studies(await region.find(asking_for_study("1.2.4", at="RZ2"), by="RZ2")) == ["1.2.4"]
    await region.agree("RZ2")
    assert studies(await region.find(asking_for(BEN, at="RZ2"), by="RZ2")) == ["1.2.4"]


async def test_a_trust_finds_its_own_images_of_unlinked_patients(region: Region) -> None:
    region.trust("RZ2").with_row(row("1.2.8", None, patient_id="0001234", issuer="RZ2"))
    [match] = (await region.find(asking_for_study("1.2.8", at="RZ2"), by="RZ2")).rows
    assert values(match.attributes, "00100020") == ["0001234"]
    assert studies(await region.find(asking_for_study("1.2.8"), by="RZ1")) == []


async def test_a_trusts_own_archive_is_not_asked_with_the_others(region: Region) -> None:
    region.trust("RZ1").with_study("1.2.9", of=ANNE)
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.6"]
    assert not region.trust("RZ1").pacs.requests


async def test_another_trusts_archive_asked_alone_obeys_all_rules(region: Region) -> None:
    assert studies(await region.find(asking_for(BEN, at="RZ2"))) == []
    assert studies(await region.find(asking_for(ANNE, at="RZ2"))) == ["1.2.3"]
    assert (await refusal(region, asking_for(CLARA, at="RZ3")))[0] == "Denied"


# --- emergency access (SHR-24, SHR-26, SAF-22) ---


async def test_a_grant_opens_and_alerts_before_anything_is_shown(region: Region) -> None:
    await region.grant(CLARA, to="RZ1")
    found = await region.find(asking_for(CLARA), by=region.caller("RZ1", purpose=PurposeOfUse.BTG))
    assert studies(found) == ["1.2.5"]
    events = [entry["event"] for entry in await region.records("query-attempt", "security-alert", "query-outcome")]
    assert events[0] == "query-attempt"
    assert events[-1] == "query-outcome"
    assert "security-alert" in events[1:-1]


async def test_an_alert_goes_to_the_custodian_and_to_the_trust_that_looked(region: Region) -> None:
    grant = await region.grant(CLARA, to="RZ1")
    await region.find(asking_for(CLARA), by=region.caller("RZ1", purpose=PurposeOfUse.BTG))
    bodies = [entry["body"] for entry in await region.records("security-alert")]
    assert any(
        isinstance(body, dict)
        and body["alert"] == "emergency-override"
        and (body["custodian"], body["recipient"], body["grants"]) == ("RZ3", "RZ1", [grant])
        for body in bodies
    )


async def test_an_override_is_alerted_once_for_each_trust_however_many_studies_it_opens(region: Region) -> None:
    await region.grant(CLARA, to="RZ1")
    for number, modality in enumerate(("CT", "MR", "US")):
        for code in ("RZ2", "RZ3"):
            region.trust(code).with_study(f"1.3.{code[-1]}.{number}", of=CLARA, modalities=modality)
    found = await region.find(asking_for(CLARA), by=region.caller("RZ1", purpose=PurposeOfUse.BTG))
    assert len(found.rows) == 7
    alerts = [body_of(entry)["custodian"] for entry in await region.records("security-alert")]
    assert sorted(map(str, alerts)) == ["RZ2", "RZ3"]


async def test_a_grant_is_over_with_its_end(region: Region) -> None:
    await region.grant(CLARA, to="RZ1", hours=1)
    await region.clock.advance(3_600)
    with pytest.raises(Denied):
        await region.find(asking_for(CLARA), by=region.caller("RZ1", purpose=PurposeOfUse.BTG))


async def test_a_grant_stands_above_no_opt_out(region: Region) -> None:
    await region.grant(BEN, to="RZ1")
    found = await region.find(asking_for(BEN), by=region.caller("RZ1", purpose=PurposeOfUse.BTG))
    assert studies(found) == []
    assert await region.records("security-alert") == []


async def test_a_grant_to_one_trust_opens_nothing_to_another(region: Region) -> None:
    await region.grant(CLARA, to="RZ1")
    with pytest.raises(Denied):
        await region.find(asking_for(CLARA), by=region.caller("RZ2", purpose=PurposeOfUse.BTG))


# --- what is recorded (DEC-14, G13) ---


async def test_every_permit_and_every_denial_leaves_an_attempt_and_an_outcome(region: Region) -> None:
    for query in (asking_for(ANNE), asking_for(BEN), asking_for(CLARA), asking_for_study("1.2.5")):
        with contextlib.suppress(Denied):
            await region.find(query)
    records = await region.records("query-attempt", "query-outcome")
    assert [entry["event"] for entry in records] == ["query-attempt", "query-outcome"] * 4
    results = [body["result"] for entry in records if "result" in (body := body_of(entry))]
    assert results == ["answered", "hidden", "Denied", "answered"]


async def test_attempt_and_outcome_name_each_other(region: Region) -> None:
    await region.find(asking_for(ANNE))
    attempt, outcome = await region.records("query-attempt", "query-outcome")
    decision = body_of(attempt)["decision"]
    assert isinstance(decision, dict)
    assert body_of(outcome)["attempt"] == decision["decision_id"]
    assert attempt["request"] == outcome["request"]


async def test_the_outcome_lists_what_was_shown_and_what_was_not(region: Region) -> None:
    await region.label(ANNE, "RZ2", "1.2.3")
    await region.find(asking_for(ANNE))
    outcome = body_of((await region.records("query-outcome"))[0])
    assert (outcome["returned"], outcome["withheld"]) == (1, 1)
    disclosed = [uid for entry in decisions_of(outcome) for uid in listed(entry["disclosed"])]
    assert disclosed == ["1.2.6"]
    assert {str(source["trust"]): source["rows"] for source in dicts(outcome["sources"])} == {"RZ2": 1, "RZ3": 1}


async def test_every_recorded_decision_replays_to_itself(region: Region) -> None:
    await region.label(ANNE, "RZ3", "1.2.6")
    await region.grant(CLARA, to="RZ1")
    queries = [asking_for(ANNE), asking_for(BEN), asking_for(CLARA), asking_for_study("1.2.3", "1.2.4", "1.2.5")]
    for query in queries:
        with contextlib.suppress(Denied):
            await region.find(query)
    replayed = 0
    attempts: dict[str, Json] = {}
    for entry in await region.records("query-attempt", "query-outcome"):
        body = body_of(entry)
        if entry["event"] == "query-attempt":
            again = recorded(region, body, body["access"], body["facts"], body["decision"])
            assert replay(again) == again.decision
            attempts[again.decision.decision_id] = body
            continue
        attempt = attempts[str(body["attempt"])]
        for verdict in decisions_of(body):
            resource = verdict["resource"]
            assert isinstance(resource, dict) and isinstance(attempt["access"], dict)
            facts = attempt["facts"] if body["facts"] == "attempt" else body["facts"]
            assert isinstance(facts, dict)
            of_patient = facts if "relationships" in facts else facts[str(resource["patient"] or "none")]
            access = {**attempt["access"], "action": "see", "resource": resource, "at": verdict["at"]}
            again = recorded(region, body, access, of_patient, verdict["decision"])
            assert replay(again) == again.decision
            replayed += 1
    assert replayed >= 4


def recorded(region: Region, body: Json, access: object, facts: object, decision: object) -> DecisionRecord:
    """A decision out of the audit, with the settings whose version the record names."""
    assert body["settings"] == region.policy.version
    stored = {"form": 1, "access": access, "facts": facts, "settings": region.policy.to_json(), "decision": decision}
    return DecisionRecord.from_json(stored)


async def test_a_caller_that_leaves_is_recorded(region: Region) -> None:
    region.trust("RZ2").stalled()
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    [outcome] = await region.records("query-outcome")
    assert body_of(outcome)["result"] == "cancelled"


async def test_a_caller_that_leaves_twice_is_recorded_all_the_same(region: Region) -> None:
    region.trust("RZ2").stalled()
    question = region.asking(asking_for(ANNE))
    await region.at_the_peers()
    question.cancel()
    await settle()
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    await region.until_idle()
    [outcome] = await region.records("query-outcome")
    assert body_of(outcome)["result"] == "cancelled"


async def test_a_failing_question_is_recorded_as_what_it_was(region: Region) -> None:
    for code in ("RZ2", "RZ3"):
        region.trust(code).down()
    with pytest.raises(GatewayError):
        await region.find(asking_for(ANNE))
    [outcome] = await region.records("query-outcome")
    assert body_of(outcome)["result"] == "PeerUnavailable"


async def test_an_outcome_that_cannot_be_recorded_takes_the_answer_with_it(region: Region) -> None:
    region.store.failing_appends = range(2, 3)
    with pytest.raises(AuditUnavailable):
        await region.find(asking_for(ANNE))
    assert studies(await region.find(asking_for(ANNE))) == ["1.2.3", "1.2.6"]


async def test_no_patient_is_named_in_a_peers_request_id(region: Region) -> None:
    caller = region.caller("RZ1")
    await region.find(asking_for(ANNE), by=caller)
    [request] = region.trust("RZ2").pacs.requests
    assert request.request_id == caller.request_id
    assert request.hops == 1


def body_of(entry: Json) -> Json:
    """An entry's body."""
    body = entry["body"]
    assert isinstance(body, dict)
    return body


def decisions_of(outcome: Json) -> list[Json]:
    """The decisions on rows in an outcome."""
    return dicts(outcome["decisions"])


def dicts(value: JsonValue) -> list[Json]:
    """A list of objects out of JSON."""
    return [entry for entry in listed(value) if isinstance(entry, dict)]


def listed(value: JsonValue) -> list[JsonValue]:
    """A list out of JSON."""
    assert isinstance(value, list)
    return value


# --- identity conflicts are told without betraying anybody (SAF-08) ---


def told_at(matches: Matches) -> list[str]:
    """The trusts at which something could not be shown because identity details differ."""
    return [source.trust.code for source in matches.sources if source.has_identity_conflict]


async def test_a_study_filed_under_two_patients_is_withheld_at_both_and_told_where_the_caller_may_know(
    region: Region,
) -> None:
    region.trust("RZ3").with_study("1.2.3", of=CLARA, name="CLARK^CLARA")
    by_study = await region.find(asking_for_study("1.2.3"))
    assert studies(by_study) == []
    assert told_at(by_study) == ["RZ2"]


async def test_custodians_of_both_are_told(region: Region) -> None:
    region.trust("RZ3").with_study("1.2.3", of=CLARA, name="CLARK^CLARA")
    await region.find(asking_for_study("1.2.3"))
    items = [(item.custodian.code, item.kind, item.patient) for item in await region.quality()]
    assert items == [("RZ2", "study-uid-of-two-patients", ANNE), ("RZ3", "study-uid-of-two-patients", CLARA)]


async def test_another_birth_date_than_the_one_stated_is_told(region: Region) -> None:
    found = await region.find(asking_for(ANNE, born="19990101"))
    assert studies(found) == []
    assert told_at(found) == ["RZ2", "RZ3"]


async def test_a_notice_never_betrays_who_opted_out(region: Region) -> None:
    """With the opted-out patient's own number, and by the study that is filed under two numbers."""
    assert told_at(await region.find(asking_for(BEN, born="19990101"))) == []
    region.trust("RZ3").with_study("1.2.4", of=CLARA, name="CLARK^CLARA")
    for_bens = await region.find(asking_for_study("1.2.4"))
    assert told_at(for_bens) == []
    assert for_bens == await region.find(NOTHING_THERE)


async def test_a_notice_never_betrays_a_labelled_study(region: Region) -> None:
    await region.label(ANNE, "RZ2", "1.2.3")
    assert told_at(await region.find(asking_for(ANNE, born="19990101"))) == ["RZ3"]


async def test_a_notice_never_betrays_what_is_not_shared(region: Region) -> None:
    await region.agree("RZ2", Clause(modalities=frozenset({"XA"})))
    assert told_at(await region.find(asking_for(ANNE, born="19990101"))) == ["RZ3"]


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), OverCapacity("too much")], ids=["gone", "full"])
async def test_what_custodians_must_put_right_never_fails_an_answer(region: Region, error: ServiceFault) -> None:
    region.store.quality_error = error
    assert told_at(await region.find(asking_for(ANNE, born="19990101"))) == ["RZ2", "RZ3"]


@pytest.mark.parametrize("level", [Level.STUDY, Level.PATIENT])
async def test_a_row_without_a_number_is_told_at_its_trust(region: Region, level: Level) -> None:
    region.trust("RZ2").lying(row("1.2.8", None, patient_id="0001234", issuer="RZ2", modalities="CT"))
    found = await region.find(asking_for(ANNE, level=level))
    assert told_at(found) == ["RZ2"]
    assert all(match.patient == ANNE for match in found.rows)


async def test_a_destination_that_is_refused_is_on_record_and_at_most_so_often(region: Region) -> None:
    caller = region.caller("RZ1")
    for number in range(62):
        await region.gate.destination_refused(caller, f"NOBODY_{number}", is_known=False)
    refused = await region.records("retrieve-refused")
    assert len(refused) == 60
    assert refused[0]["body"] == {
        "caller": "rz1-pacs",
        "trust": "RZ1",
        "destination": "NOBODY_0",
        "is_known": False,
        "unrecorded_before": 0,
    }
