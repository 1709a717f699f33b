"""Look-ups over trusts and callers: what is known, what is not, and what evidence comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model.errors import InvalidRequest, NotFound, NotIdentified
from gateway.sharing.directory import Directory, TrustEntry, parse_trust
from policy.facts import Organisation, OrganisationKind
from policy.identity import CallerBinding, Channel, Evidence
from policy.parties import PrincipalKind, PurposeOfUse, TrustId
from tests.sharing.rows import RZ1, RZ2, RZ3

TRUST = OrganisationKind.NHS_HOSPITAL_TRUST
FINGERPRINT = "a" * 64
VIEWER = CallerBinding(
    "rz1-viewer", RZ1, certificate_sha256=FINGERPRINT, purposes=(PurposeOfUse.TREAT, PurposeOfUse.ETREAT)
)
DIRECTORY = Directory(
    [
        TrustEntry(RZ2, "Eastvale", TRUST, True, "020 7946 0002"),
        TrustEntry(RZ1, "Northmoor", TRUST, True, "020 7946 0001"),
        TrustEntry(RZ3, "The Surgery", OrganisationKind.GENERAL_PRACTICE, True, ""),
    ],
    [VIEWER],
)
SHOWN = Evidence(Channel.HTTPS, "192.0.2.1", certificate_sha256=FINGERPRINT)


def test_trusts_are_listed_by_code() -> None:
    assert [entry.trust for entry in DIRECTORY.trusts] == [RZ1, RZ2, RZ3]


def test_only_enrolled_hospital_trusts_may_hold_what_is_shared() -> None:
    assert DIRECTORY.enrolled == {RZ1, RZ2}


def test_a_trust_that_the_region_does_not_know_is_not_found() -> None:
    with pytest.raises(NotFound):
        DIRECTORY.trust(TrustId("XYZ"))


def test_policy_learns_of_known_codes_only() -> None:
    assert DIRECTORY.organisations([TrustId("XYZ"), RZ2, RZ1, RZ2]) == (
        Organisation(RZ1, TRUST, True),
        Organisation(RZ2, TRUST, True),
    )


def test_a_desk_is_a_name_with_a_number_to_ring() -> None:
    assert DIRECTORY.desk(RZ2) == "RZ2 Eastvale 020 7946 0002"
    assert DIRECTORY.desk(RZ3) == "RZ3 The Surgery"
    assert DIRECTORY.desk(TrustId("XYZ")) == "XYZ"
    assert [DIRECTORY.phone(trust) for trust in (RZ2, RZ3, TrustId("XYZ"))] == ["020 7946 0002", "", ""]


@pytest.mark.parametrize(("text", "trust"), [("RZ1", RZ1), (" rz1 ", RZ1)])
def test_an_ods_code_is_read_in_any_case(text: str, trust: TrustId) -> None:
    assert parse_trust(text) == trust


@pytest.mark.parametrize("text", ["", "R", "RZ1/../RZ2", "R" * 11, "ＲＺ１", "RZ-1"])
def test_what_can_be_no_ods_code_is_a_path_that_does_not_exist(text: str) -> None:
    with pytest.raises(NotFound):
        parse_trust(text)


def test_evidence_becomes_a_caller_with_its_first_purpose() -> None:
    caller = DIRECTORY.identify(SHOWN, "", "request-1", hops=1)
    assert (caller.principal.subject, caller.principal.trust, caller.principal.kind) == (
        "rz1-viewer",
        RZ1,
        PrincipalKind.SYSTEM,
    )
    assert (caller.purpose, caller.request_id, caller.hops) == (PurposeOfUse.TREAT, "request-1", 1)
    assert caller.principal.proven_by == {"https", "certificate"}


def test_a_claimed_user_goes_with_the_caller_for_the_record() -> None:
    caller = DIRECTORY.identify(replace(SHOWN, stated_identity="username consultant"), "", "request-1")
    assert caller == replace(DIRECTORY.identify(SHOWN, "", "request-1"), stated_identity="username consultant")


def test_a_purpose_that_the_caller_may_state_is_taken() -> None:
    assert DIRECTORY.identify(SHOWN, "ETREAT", "request-1").purpose is PurposeOfUse.ETREAT


def test_a_purpose_that_is_not_direct_care_is_kept_for_policy_to_refuse() -> None:
    assert DIRECTORY.identify(SHOWN, "HRESCH", "request-1").purpose is PurposeOfUse.HRESCH


@pytest.mark.parametrize("purpose", ["BTG", "COC", "treat", "NOTHING"])
def test_a_purpose_that_the_caller_may_not_state_is_refused(purpose: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DIRECTORY.identify(SHOWN, purpose, "request-1")
    assert purpose not in str(refused.value)


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(Channel.HTTPS, "192.0.2.1"),
        Evidence(Channel.HTTPS, "192.0.2.1", certificate_sha256="b" * 64),
        Evidence(Channel.DIMSE, "192.0.2.1", certificate_sha256=FINGERPRINT, ae_title="RZ1"),
        Evidence(Channel.HTTPS, "nowhere", certificate_sha256=FINGERPRINT),
    ],
)
def test_evidence_that_proves_nobody_is_refused(evidence: Evidence) -> None:
    with pytest.raises(NotIdentified):
        DIRECTORY.identify(evidence, "", "request-1")


# --- another gateway, for a trust of its own (DEC-01) ---

GATEWAY = CallerBinding(
    "west", RZ1, PrincipalKind.GATEWAY, certificate_sha256=FINGERPRINT, asks_for=frozenset({RZ2, TrustId("RZ4")})
)
WITH_GATEWAY = Directory(DIRECTORY.trusts, [GATEWAY, replace(VIEWER, certificate_sha256="c" * 64)])


@pytest.mark.parametrize(("hops", "passed"), [(0, 1), (1, 1), (2, 2)])
def test_a_gateway_asks_for_the_trust_that_it_states_and_has_always_passed_one_gateway(hops: int, passed: int) -> None:
    caller = WITH_GATEWAY.identify(SHOWN, "", "request-1", hops, "RZ2")
    assert (caller.principal.subject, caller.principal.trust, caller.hops) == ("west", RZ2, passed)


@pytest.mark.parametrize("stated", ["RZ1", "RZ3", "rz2", "RZ2 RZ4", "RZ2,RZ4", "*"])
def test_a_gateway_that_speaks_for_another_trust_proves_nobody(stated: str) -> None:
    with pytest.raises(NotIdentified, match="asking-trust-not-spoken-for"):
        WITH_GATEWAY.identify(SHOWN, "", "request-1", 0, stated)


@pytest.mark.parametrize("stated", ["", "  "])
def test_a_gateway_that_states_no_trust_is_told_to(stated: str) -> None:
    with pytest.raises(InvalidRequest, match="for which of its trusts"):
        WITH_GATEWAY.identify(SHOWN, "", "request-1", 0, stated)


@pytest.mark.parametrize("stated", ["RZ1", "RZ2"])
def test_nobody_but_a_gateway_states_a_trust(stated: str) -> None:
    with pytest.raises(NotIdentified):
        DIRECTORY.identify(SHOWN, "", "request-1", 0, stated)


def test_this_gateway_asks_for_the_enrolled_trusts_of_its_callers_and_for_none_of_another_gateways() -> None:
    assert WITH_GATEWAY.asking == (RZ1,)
    assert Directory(DIRECTORY.trusts, [GATEWAY]).asking == ()
    assert Directory(DIRECTORY.trusts, [replace(VIEWER, trust=RZ3)]).asking == ()
