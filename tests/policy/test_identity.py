"""Evidence binds to exactly one caller of one trust, or to nobody (threats.md 2; domain.md C3)."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from policy.identity import CallerBinding, Channel, Evidence, NotProven, Unproven, identify, purpose_of
from policy.parties import Principal, PrincipalKind, PurposeOfUse
from tests.policy.examples import EASTVALE, NORTHMOOR

PRINT, OTHER_PRINT = "a1" * 32, "b2" * 32
PACS = CallerBinding("northmoor-pacs", NORTHMOOR, certificate_sha256=PRINT, ae_titles=("NORTHMOOR_PACS",))
SHOWN = Evidence(Channel.HTTPS, "10.1.2.3", certificate_sha256=PRINT)
BY_DIMSE = replace(SHOWN, channel=Channel.DIMSE, ae_title="NORTHMOOR_PACS")
HERE = CallerBinding("local", NORTHMOOR, loopback_only=True, ae_titles=("LOCAL",))
PLAIN = Evidence(Channel.HTTPS, "127.0.0.1")


def test_a_known_certificate_proves_its_caller() -> None:
    clinician = replace(PACS, kind=PrincipalKind.CLINICIAN, teams=frozenset({"neurology"}))
    assert identify(SHOWN, [clinician]) == Principal(
        "northmoor-pacs",
        PrincipalKind.CLINICIAN,
        NORTHMOOR,
        frozenset({"neurology"}),
        frozenset({"https", "certificate"}),
    )


def _reason(outcome: Principal | NotProven) -> Unproven | None:
    return outcome.reason if isinstance(outcome, NotProven) else None


@pytest.mark.parametrize(
    ("evidence", "bindings", "reason"),
    [
        (replace(SHOWN, certificate_sha256=OTHER_PRINT), [PACS], Unproven.CERTIFICATE_UNKNOWN),
        (replace(SHOWN, certificate_sha256=""), [PACS], Unproven.NO_CERTIFICATE),
        (replace(BY_DIMSE, certificate_sha256=""), [PACS], Unproven.NO_CERTIFICATE),
        (replace(BY_DIMSE, ae_title="OTHER"), [PACS], Unproven.AE_TITLE_UNKNOWN),
        (replace(BY_DIMSE, ae_title=""), [PACS], Unproven.AE_TITLE_UNKNOWN),
        (replace(BY_DIMSE, ae_title="northmoor_pacs"), [PACS], Unproven.AE_TITLE_UNKNOWN),
        (replace(BY_DIMSE, ae_title=" NORTHMOOR_PACS "), [PACS], None),
        (BY_DIMSE, [replace(PACS, ae_titles=())], Unproven.AE_TITLE_UNKNOWN),
        (SHOWN, [PACS, replace(PACS, name="twin")], Unproven.AMBIGUOUS),
        (BY_DIMSE, [PACS, replace(PACS, name="ct-1", ae_titles=("CT1",))], None),
        (SHOWN, [], Unproven.CERTIFICATE_UNKNOWN),
        (replace(SHOWN, address="not an address"), [PACS], Unproven.ADDRESS_INVALID),
        (PLAIN, [PACS], Unproven.NO_CERTIFICATE),
        (PLAIN, [HERE], None),
        (PLAIN, [replace(HERE, loopback_only=False)], Unproven.NO_CERTIFICATE),  # no proof configured: nobody
        (PLAIN, [replace(HERE, certificate_sha256=PRINT)], Unproven.NO_CERTIFICATE),  # both were demanded
        (replace(PLAIN, address="::1"), [HERE], None),
        (replace(PLAIN, address="::ffff:127.0.0.1"), [HERE], None),
        (replace(PLAIN, address="10.1.2.3"), [HERE], Unproven.ADDRESS_UNKNOWN),
        (PLAIN, [HERE, replace(HERE, name="other")], Unproven.AMBIGUOUS),
        (replace(SHOWN, address="127.0.0.1"), [HERE], Unproven.CERTIFICATE_UNKNOWN),
    ],
)
def test_evidence_proves_one_caller_or_nobody(
    evidence: Evidence, bindings: list[CallerBinding], reason: Unproven | None
) -> None:
    assert _reason(identify(evidence, bindings)) is reason


def test_an_ae_title_never_decides_between_two_trusts_with_one_certificate() -> None:
    shared = replace(PACS, name="eastvale-pacs", trust=EASTVALE, ae_titles=("EASTVALE_PACS",))
    assert identify(BY_DIMSE, [PACS, shared]) == NotProven(Unproven.CERTIFICATE_OF_SEVERAL_TRUSTS)


def test_an_address_never_decides_between_two_trusts_with_one_certificate() -> None:
    ours = replace(PACS, addresses=(ip_network("10.1.0.0/16"),))
    theirs = replace(ours, name="eastvale-pacs", trust=EASTVALE, addresses=(ip_network("10.2.0.0/16"),))
    assert identify(SHOWN, [ours, theirs]) == NotProven(Unproven.CERTIFICATE_OF_SEVERAL_TRUSTS)


def test_another_trusts_ae_title_with_the_own_certificate_proves_nobody() -> None:
    eastvale = CallerBinding("eastvale", EASTVALE, certificate_sha256=OTHER_PRINT, ae_titles=("EASTVALE_PACS",))
    assert identify(replace(BY_DIMSE, ae_title="EASTVALE_PACS"), [PACS, eastvale]) == NotProven(
        Unproven.AE_TITLE_UNKNOWN
    )


@pytest.mark.parametrize(
    ("address", "is_proven"),
    [
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("fe81::1", False),
    ],
)
def test_a_configured_address_must_be_shown_and_is_named_as_proof(address: str, is_proven: bool) -> None:
    binding = replace(PACS, addresses=(ip_network("10.1.0.0/16"), ip_network("fe80::/64")))
    outcome = identify(replace(SHOWN, address=address), [binding])
    assert isinstance(outcome, Principal) == is_proven
    if isinstance(outcome, Principal):
        assert outcome.proven_by == {"https", "certificate", "address"}


def test_the_user_that_a_connection_claims_proves_nothing() -> None:
    claiming = replace(BY_DIMSE, stated_identity="username consultant")
    assert identify(claiming, [PACS]) == identify(BY_DIMSE, [PACS])
    assert _reason(identify(replace(claiming, certificate_sha256=OTHER_PRINT), [PACS])) is Unproven.CERTIFICATE_UNKNOWN


def test_what_was_checked_is_named_as_proof() -> None:
    outcome, plain = identify(BY_DIMSE, [PACS]), identify(PLAIN, [HERE])
    assert isinstance(outcome, Principal) and outcome.proven_by == {"dimse", "certificate", "ae-title"}
    assert isinstance(plain, Principal) and plain.proven_by == {"https", "loopback"}


@pytest.mark.parametrize(
    ("evidence", "is_proven"),
    [
        (replace(SHOWN, dns_names=("pacs.northmoor.example",)), True),
        (replace(SHOWN, dns_names=("PACS.Northmoor.example",)), True),
        (replace(SHOWN, uris=("pacs.northmoor.example",)), True),
        (replace(SHOWN, common_name="pacs.northmoor.example"), True),
        (replace(SHOWN, common_name="pacs.northmoor.example", dns_names=("else.example",)), False),
        (replace(SHOWN, dns_names=("*.northmoor.example",)), False),
        (SHOWN, False),
    ],
)
def test_a_certificate_name_is_an_alternative_name_or_the_common_name_of_one_without(
    evidence: Evidence, is_proven: bool
) -> None:
    binding = replace(PACS, certificate_sha256="", certificate_name="pacs.northmoor.example")
    assert isinstance(identify(evidence, [binding]), Principal) == is_proven


def test_where_fingerprint_and_name_are_configured_both_must_be_shown() -> None:
    binding = replace(PACS, certificate_name="pacs.northmoor.example")
    named = replace(SHOWN, dns_names=("pacs.northmoor.example",))
    assert isinstance(identify(named, [binding]), Principal)
    assert identify(SHOWN, [binding]) == NotProven(Unproven.CERTIFICATE_UNKNOWN)
    assert identify(replace(named, certificate_sha256=OTHER_PRINT), [binding]) == NotProven(
        Unproven.CERTIFICATE_UNKNOWN
    )


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("", PurposeOfUse.COC),
        (" TREAT ", PurposeOfUse.TREAT),
        ("BTG", Unproven.PURPOSE_NOT_ALLOWED),
        ("HRESCH", PurposeOfUse.HRESCH),  # for the rules to deny, and the audit to keep
        ("treat", Unproven.PURPOSE_UNKNOWN),
        ("CARE", Unproven.PURPOSE_UNKNOWN),
    ],
)
def test_a_stated_purpose_is_one_of_the_callers_or_one_that_policy_denies(
    stated: str, expected: PurposeOfUse | Unproven
) -> None:
    outcome = purpose_of(replace(PACS, purposes=(PurposeOfUse.COC, PurposeOfUse.TREAT)), stated)
    assert (outcome.reason if isinstance(outcome, NotProven) else outcome) is expected
