"""Each rule by itself, at its edges: what it permits, what it forbids, and what the caller is told (domain.md B7)."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from policy.access import Access, Action, Obligation, Resource, Telling
from policy.facts import Organisation, OrganisationKind, Register, RelationshipKind
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Proof
from tests.policy.examples import (
    ANNE,
    ANYTHING_WITH_ANYBODY,
    BY_CLINICIAN,
    CLAIM,
    DAY,
    DEMO,
    EASTVALE,
    FIND_ANNE,
    FIND_STUDY,
    HEAD_CT,
    HOUR,
    INSTANT,
    KNOWN,
    NO_RELATIONSHIP,
    NOON,
    NORTHMOOR,
    OPT_IN,
    OPT_OUT,
    REFERRAL,
    SAFEGUARDING,
    SEE_HEAD_CT,
    SOUTHBRIDGE,
    UNKNOWN_PATIENT,
    codes,
    judged,
    told,
)
from tests.policy.worlds import worlds

OWN_CT = replace(SEE_HEAD_CT, resource=replace(HEAD_CT, custodian=NORTHMOOR))
UNNAMED = replace(SEE_HEAD_CT, patient_named=False)
OPTED_OUT = replace(KNOWN, choices=(OPT_OUT,))
GRANTED = replace(NO_RELATIONSHIP, grants=(CLAIM,))


def test_a_trust_that_takes_part_in_the_care_sees_what_the_holder_shares() -> None:
    decision = judged()
    assert decision.is_permitted and codes(decision) == ["care-relationship"]
    assert decision.reasons[0].evidence == "r-1" and decision.obligations == frozenset()


def test_a_row_is_asked_for_by_the_same_caller_at_the_same_instant() -> None:
    for world in worlds(400, 200):
        row = replace(world.access, action=Action.SEE, resource=HEAD_CT)
        assert world.access.of(HEAD_CT, Action.SEE) == row


# having images, and having them kept


def test_images_are_had_as_rows_are_seen_among_trusts_signed_off_for_it() -> None:
    for world in worlds(401, 400):
        signed_off = tuple(replace(entry, retrieves=True) for entry in world.facts.organisations)
        facts = replace(world.facts, organisations=signed_off)
        seen = judged(replace(world.access, action=Action.SEE), facts)
        had = judged(replace(world.access, action=Action.RETRIEVE), facts)
        assert (seen.effect, seen.told) == (had.effect, had.told)


@pytest.mark.parametrize("trust", [NORTHMOOR, HEAD_CT.custodian])
def test_images_are_had_only_where_both_trusts_were_signed_off_for_it(trust: TrustId) -> None:
    retrieve = replace(SEE_HEAD_CT, action=Action.RETRIEVE)
    organisations = tuple(replace(entry, retrieves=entry.trust != trust) for entry in KNOWN.organisations)
    facts = replace(KNOWN, organisations=organisations)
    assert judged(retrieve).is_permitted and judged(SEE_HEAD_CT, facts).is_permitted
    assert codes(judged(retrieve, facts))[0] == "retrieving-not-signed-off" and not told(judged(retrieve, facts))


def test_images_are_taken_in_from_a_trust_that_was_signed_off_for_it() -> None:
    store = replace(OWN_CT, action=Action.STORE)
    organisations = tuple(replace(entry, pushes=entry.trust != NORTHMOOR) for entry in KNOWN.organisations)
    assert judged(store).is_permitted
    assert told(judged(store, replace(KNOWN, organisations=organisations))) == ["push-not-signed-off"]
    assert "push-not-signed-off" in told(judged(replace(SEE_HEAD_CT, action=Action.STORE)))


# require-enrolled-trust


@pytest.mark.parametrize("kind", list(OrganisationKind))
@pytest.mark.parametrize("is_enrolled", [True, False])
@pytest.mark.parametrize("relationship", list(RelationshipKind))
@pytest.mark.parametrize("hours", [-25, -24, 0, 23, 24])
def test_images_go_only_to_an_enrolled_trust_in_the_time_of_its_relationship(
    kind: OrganisationKind, is_enrolled: bool, relationship: RelationshipKind, hours: int
) -> None:
    facts = replace(
        KNOWN,
        organisations=(Organisation(NORTHMOOR, kind, is_enrolled), KNOWN.organisations[1]),
        relationships=(replace(REFERRAL, kind=relationship),),
    )
    decision = judged(replace(SEE_HEAD_CT, at=NOON + hours * HOUR), facts)
    is_trust = kind is OrganisationKind.NHS_HOSPITAL_TRUST and is_enrolled
    is_in_time = -24 <= hours < 24
    assert decision.is_permitted == (is_trust and is_in_time)
    assert told(decision) == ["no-care-relationship"] * (not is_in_time) + ["recipient-not-enrolled"] * (not is_trust)


def test_an_unknown_ods_code_receives_nothing_and_is_told() -> None:
    stranger = TrustId("ZZ9")
    assert told(judged(replace(OWN_CT, caller_trust=stranger, recipient=stranger))) == [
        "no-care-relationship",
        "recipient-not-enrolled",
    ]


# require-own-destination


def test_a_caller_cannot_send_images_to_another_trust() -> None:
    facts = replace(KNOWN, relationships=(replace(REFERRAL, trust=SOUTHBRIDGE),))
    assert told(judged(replace(SEE_HEAD_CT, recipient=SOUTHBRIDGE), facts)) == ["destination-of-another-trust"]


# require-proven-identity


@pytest.mark.parametrize(
    ("proven_by", "is_proven"),
    [
        ({"https", "certificate"}, True),
        ({"https"}, False),
        ({"https", "address"}, False),
        (set(), False),
        ({"dimse", "certificate", "ae-title"}, True),
        ({"dimse", "certificate"}, False),
        ({"dimse", "ae-title"}, False),
        ({"dimse", "ae-title", "address"}, False),
        ({"https", "loopback"}, True),
    ],
)
def test_an_ae_title_or_an_address_alone_proves_nothing(proven_by: set[str], is_proven: bool) -> None:
    decision = judged(replace(SEE_HEAD_CT, proven_by=frozenset(proven_by)))
    assert told(decision) == ([] if is_proven else ["identity-not-proven"])
    assert decision.is_permitted == is_proven


def test_a_region_may_demand_the_address_as_well() -> None:
    settings = replace(DEMO, proof_https=frozenset({Proof.CERTIFICATE, Proof.ADDRESS}))
    assert told(judged(settings=settings)) == ["identity-not-proven"]
    assert judged(replace(SEE_HEAD_CT, proven_by=frozenset({"certificate", "address"})), settings=settings).is_permitted


# require-receiving-kind


@pytest.mark.parametrize(
    ("kind", "receives"),
    [
        (PrincipalKind.SYSTEM, True),
        (PrincipalKind.CLINICIAN, True),
        (PrincipalKind.GATEWAY, True),
        (PrincipalKind.OFFICER, False),
        (PrincipalKind.SERVICE, False),
    ],
)
def test_officers_and_jobs_receive_no_images(kind: PrincipalKind, receives: bool) -> None:
    decision = judged(replace(BY_CLINICIAN, kind=kind))
    assert decision.is_permitted == receives
    assert told(decision) == ([] if receives else ["kind-receives-no-images"])


def test_an_officer_receives_not_even_the_own_trusts_images() -> None:
    assert told(judged(replace(OWN_CT, kind=PrincipalKind.OFFICER))) == ["kind-receives-no-images"]


# require-direct-care


@pytest.mark.parametrize("purpose", list(PurposeOfUse))
def test_only_the_listed_purposes_are_direct_care_whatever_their_parents(purpose: PurposeOfUse) -> None:
    is_direct = purpose.value in {"TREAT", "COC", "ETREAT", "ERTREAT", "BTG"}
    decision = judged(replace(SEE_HEAD_CT, purpose=purpose), replace(KNOWN, grants=(CLAIM,)))
    assert decision.is_permitted == is_direct
    assert told(decision) == ([] if is_direct else ["purpose-not-direct-care"])


# require-grant-for-break-glass


def test_break_glass_needs_a_grant_even_where_a_relationship_stands() -> None:
    assert told(judged(replace(SEE_HEAD_CT, purpose=PurposeOfUse.BTG))) == ["break-glass-without-grant"]
    assert told(judged(replace(OWN_CT, purpose=PurposeOfUse.BTG))) == ["break-glass-without-grant"]


def test_break_glass_on_a_row_that_nobody_named_tells_nothing() -> None:
    assert judged(replace(UNNAMED, purpose=PurposeOfUse.BTG)).is_hidden


def test_break_glass_may_ask_by_study_and_each_row_then_needs_the_grant() -> None:
    assert judged(replace(FIND_STUDY, purpose=PurposeOfUse.BTG), UNKNOWN_PATIENT).is_permitted


# require-readable-registers


@pytest.mark.parametrize("register", list(Register))
@pytest.mark.parametrize("access", [SEE_HEAD_CT, FIND_ANNE, FIND_STUDY, OWN_CT])
def test_a_register_at_fault_forbids_everybody_and_tells_nothing(register: Register, access: Access) -> None:
    decision = judged(access, replace(KNOWN, faults=frozenset({register})))
    assert decision.is_hidden and "register-unavailable" in codes(decision)


@pytest.mark.parametrize("register", [Register.PATIENTS, Register.RELATIONSHIPS, Register.GRANTS])
def test_a_relationship_is_not_called_missing_when_it_could_not_be_read(register: Register) -> None:
    facts = replace(NO_RELATIONSHIP, faults=frozenset({register}))
    assert judged(FIND_ANNE, facts).is_hidden
    assert judged(replace(FIND_ANNE, purpose=PurposeOfUse.BTG), facts).is_hidden


@pytest.mark.parametrize("register", [Register.OPT_OUTS, Register.AGREEMENTS, Register.LABELS])
def test_a_missing_relationship_is_told_while_other_registers_are_at_fault(register: Register) -> None:
    assert told(judged(FIND_ANNE, replace(NO_RELATIONSHIP, faults=frozenset({register})))) == ["no-care-relationship"]


# require-pinned-row


def test_a_row_without_nhs_number_stays_inside_its_trust() -> None:
    row = replace(HEAD_CT, patient=None)
    assert codes(judged(replace(UNNAMED, resource=row), UNKNOWN_PATIENT)) == ["row-without-nhs-number"]
    own = replace(UNNAMED, resource=replace(row, custodian=NORTHMOOR))
    assert codes(judged(own, UNKNOWN_PATIENT)) == ["own-images"]


# require-number-of-mode


@pytest.mark.parametrize(
    ("digits", "mode", "is_accepted"),
    [
        ("9990000018", Mode.DEMO, True),
        ("9990000018", Mode.PRODUCTION, False),
        ("9434765919", Mode.DEMO, False),
        ("9434765919", Mode.PRODUCTION, True),
    ],
)
def test_each_mode_refuses_the_numbers_of_the_other(digits: str, mode: Mode, is_accepted: bool) -> None:
    patient = NhsNumber.parse(digits)
    facts, settings = replace(KNOWN, patient=patient), replace(DEMO, mode=mode)
    named = judged(replace(FIND_ANNE, resource=Resource(patient)), facts, settings)
    assert told(named) == ([] if is_accepted else ["nhs-number-of-other-mode"])
    row = judged(replace(UNNAMED, resource=replace(HEAD_CT, patient=patient)), facts, settings)
    assert row.is_permitted == is_accepted and row.told == ()


# require-care-relationship


@pytest.mark.parametrize(
    ("moment", "is_in_force"),
    [
        (NOON - DAY - INSTANT, False),
        (NOON - DAY, True),
        (NOON + DAY - INSTANT, True),
        (NOON + DAY, False),
    ],
)
def test_a_relationship_acts_from_its_start_until_just_before_its_end(moment: datetime, is_in_force: bool) -> None:
    assert judged(replace(SEE_HEAD_CT, at=moment)).is_permitted == is_in_force


@pytest.mark.parametrize(("age", "is_in_force"), [(365 * DAY - INSTANT, True), (365 * DAY, False)])
def test_an_open_ended_relationship_ends_after_a_year(age: timedelta, is_in_force: bool) -> None:
    facts = replace(KNOWN, relationships=(replace(REFERRAL, valid_from=NOON - age, valid_until=None),))
    assert judged(facts=facts).is_permitted == is_in_force


def test_a_relationship_with_a_later_end_may_last_longer_than_a_year() -> None:
    facts = replace(KNOWN, relationships=(replace(REFERRAL, valid_from=NOON - 500 * DAY),))
    assert judged(facts=facts).is_permitted


def test_a_relationship_of_another_trust_counts_for_nothing() -> None:
    facts = replace(KNOWN, relationships=(replace(REFERRAL, trust=SOUTHBRIDGE),))
    assert told(judged(facts=facts)) == ["no-care-relationship"]


def test_a_missing_relationship_is_told_to_who_named_the_patient_and_to_nobody_else() -> None:
    assert told(judged(FIND_ANNE, NO_RELATIONSHIP)) == ["no-care-relationship"]
    assert told(judged(SEE_HEAD_CT, NO_RELATIONSHIP)) == ["no-care-relationship"]
    assert judged(UNNAMED, NO_RELATIONSHIP).is_hidden


def test_an_unknown_patient_is_told_like_one_without_relationship() -> None:
    assert judged(FIND_ANNE, UNKNOWN_PATIENT) == judged(FIND_ANNE, NO_RELATIONSHIP)


@pytest.mark.parametrize(
    ("team", "expected"),
    [("neurology", []), ("oncology", ["team-not-involved"]), ("", ["team-not-involved"])],
)
def test_a_clinician_needs_the_relationship_of_the_own_team(team: str, expected: list[str]) -> None:
    facts = replace(KNOWN, relationships=(replace(REFERRAL, team=team),))
    assert told(judged(BY_CLINICIAN, facts)) == expected
    assert judged(SEE_HEAD_CT, facts).is_permitted  # a system stands for its whole trust


def test_a_region_may_let_evidence_without_team_stand_for_every_clinician() -> None:
    settings = replace(DEMO, whole_trust_relationship_admits_clinicians=True)
    facts = replace(KNOWN, relationships=(replace(REFERRAL, team=""),))
    assert judged(BY_CLINICIAN, facts, settings).is_permitted
    assert told(
        judged(BY_CLINICIAN, replace(KNOWN, relationships=(replace(REFERRAL, team="oncology"),)), settings)
    ) == ["team-not-involved"]


def test_a_grant_stands_in_for_a_relationship_and_both_privacy_officers_are_alerted() -> None:
    decision = judged(facts=GRANTED)
    assert codes(decision) == ["granted"] and decision.reasons[0].evidence == "g-1"
    assert Obligation.ALERT_PRIVACY_OFFICERS in decision.obligations


def test_a_grant_that_is_not_needed_alerts_nobody_unless_break_glass_is_stated() -> None:
    facts = replace(KNOWN, grants=(CLAIM,))
    assert judged(facts=facts).obligations == frozenset()
    broken = judged(replace(SEE_HEAD_CT, purpose=PurposeOfUse.BTG), facts)
    assert broken.is_permitted and Obligation.ALERT_PRIVACY_OFFICERS in broken.obligations


@pytest.mark.parametrize(
    ("subject", "access", "is_in_scope"),
    [
        ("", SEE_HEAD_CT, True),
        ("northmoor-pacs", SEE_HEAD_CT, True),
        ("dr-hollis", SEE_HEAD_CT, False),
        ("dr-hollis", BY_CLINICIAN, True),
        ("dr-vaughan", BY_CLINICIAN, False),
        ("", BY_CLINICIAN, False),
    ],
)
def test_a_grant_serves_the_person_it_names_or_the_systems_of_its_trust(
    subject: str, access: Access, is_in_scope: bool
) -> None:
    facts = replace(NO_RELATIONSHIP, grants=(replace(CLAIM, subject=subject),))
    assert judged(access, facts).is_permitted == is_in_scope


@pytest.mark.parametrize(
    ("moment", "is_in_force"),
    [(NOON - HOUR - INSTANT, False), (NOON - HOUR, True), (NOON + HOUR - INSTANT, True), (NOON + HOUR, False)],
)
def test_a_grant_is_short_and_half_open(moment: datetime, is_in_force: bool) -> None:
    assert judged(replace(SEE_HEAD_CT, at=moment), GRANTED).is_permitted == is_in_force


def test_a_grant_of_another_trust_counts_for_nothing() -> None:
    facts = replace(NO_RELATIONSHIP, grants=(replace(CLAIM, trust=SOUTHBRIDGE),))
    assert told(judged(facts=facts)) == ["no-care-relationship"]


# respect-opt-out


@pytest.mark.parametrize("access", [FIND_ANNE, SEE_HEAD_CT, UNNAMED])
def test_an_opted_out_patient_is_hidden_and_the_caller_is_told_nothing(access: Access) -> None:
    decision = judged(access, OPTED_OUT)
    assert decision.is_hidden and "opted-out" in codes(decision)


@pytest.mark.parametrize("purpose", ["TREAT", "COC", "ETREAT", "ERTREAT", "BTG"])
def test_no_purpose_stands_above_an_opt_out(purpose: str) -> None:
    facts = replace(OPTED_OUT, grants=(CLAIM,))
    assert judged(replace(SEE_HEAD_CT, purpose=PurposeOfUse(purpose)), facts).is_hidden


def test_an_opt_out_acts_from_its_implementation() -> None:
    assert judged(replace(SEE_HEAD_CT, at=NOON - DAY), OPTED_OUT).is_hidden
    assert judged(replace(SEE_HEAD_CT, at=NOON - DAY), replace(KNOWN, choices=(OPT_IN,))).is_permitted
    later = replace(OPT_OUT, effective_at=NOON + INSTANT)
    assert judged(facts=replace(KNOWN, choices=(later,))).is_permitted


@pytest.mark.parametrize("turned", [False, True])
def test_the_latest_implemented_choice_wins_in_whatever_order_it_is_stored(turned: bool) -> None:
    choices = (OPT_IN, OPT_OUT) if turned else (OPT_OUT, OPT_IN)
    assert judged(facts=replace(KNOWN, choices=choices)).is_permitted
    again = replace(OPT_OUT, case_id="c-3", effective_at=OPT_IN.effective_at, sequence=3)
    assert judged(facts=replace(KNOWN, choices=(again, *choices))).is_hidden


def test_of_two_choices_that_cannot_be_ordered_the_opt_out_acts() -> None:
    both = (OPT_IN, replace(OPT_OUT, effective_at=OPT_IN.effective_at, sequence=OPT_IN.sequence))
    assert judged(facts=replace(KNOWN, choices=both)).is_hidden
    assert judged(facts=replace(KNOWN, choices=both[::-1])).is_hidden


def test_a_provisional_restriction_acts_until_its_end() -> None:
    restriction = replace(OPT_OUT, is_provisional=True, valid_until=NOON)
    facts = replace(KNOWN, choices=(restriction,))
    assert "restricted-until-decided" in codes(judged(replace(SEE_HEAD_CT, at=NOON - INSTANT), facts))
    assert judged(facts=facts).is_permitted


def test_a_region_may_let_a_grant_stand_above_an_opt_out_and_it_is_alerted() -> None:
    settings = replace(DEMO, break_glass_lifts_opt_out=True)
    assert judged(facts=OPTED_OUT, settings=settings).is_hidden
    lifted = judged(facts=replace(OPTED_OUT, grants=(CLAIM,)), settings=settings)
    assert lifted.is_permitted and Obligation.ALERT_PRIVACY_OFFICERS in lifted.obligations


def test_a_trusts_own_images_are_not_subject_to_the_opt_out() -> None:
    facts = replace(OPTED_OUT, relationships=(), labels=(replace(SAFEGUARDING, study_uid="", custodian=NORTHMOOR),))
    assert codes(judged(OWN_CT, facts)) == ["own-images"]


# require-agreement


def test_without_an_agreement_nothing_is_shared_and_it_shows_as_coverage() -> None:
    decision = judged(facts=replace(KNOWN, agreements=()))
    assert decision.is_hidden and codes(decision)[0] == "not-shared"
    assert decision.reasons[0].telling is Telling.COVERAGE


CT = frozenset({"CT"})


@pytest.mark.parametrize(
    ("clause", "resource", "code"),
    [
        ({"recipients": frozenset({NORTHMOOR})}, {}, ""),
        ({"recipients": frozenset({SOUTHBRIDGE})}, {}, "not-shared"),
        ({"purposes": frozenset({PurposeOfUse.TREAT})}, {}, ""),
        ({"purposes": frozenset({PurposeOfUse.ETREAT})}, {}, "not-shared"),
        ({"custodian": SOUTHBRIDGE}, {}, "not-shared"),
        ({"valid_until": NOON}, {}, "not-shared"),
        ({"valid_from": NOON + INSTANT}, {}, "not-shared"),
        ({"modalities": frozenset({"CT"})}, {}, ""),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset({"MR"})}, "not-shared"),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset({"CT", "PT"})}, "not-shared"),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset()}, "not-shared"),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset({"CT", "SR"})}, ""),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset({"SR"})}, "not-shared"),
        ({"modalities": frozenset({"CT", "SR"})}, {"modalities": frozenset({"SR"})}, ""),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset({"SR"}), "beside": frozenset({"CT", "PR"})}, ""),
        (
            {"modalities": frozenset({"CT"})},
            {"modalities": frozenset({"SR"}), "beside": frozenset({"MR"})},
            "not-shared",
        ),
        (
            {"modalities": frozenset({"CT"})},
            {"modalities": frozenset({"DOC"}), "beside": frozenset({"CT", "MR"})},
            "not-shared",
        ),
        ({"modalities": frozenset({"SR"})}, {"modalities": frozenset({"SR"}), "beside": frozenset({"MR"})}, ""),
        (
            {"modalities": frozenset({"CT"})},
            {"modalities": frozenset({"MR"}), "beside": frozenset({"CT"})},
            "not-shared",
        ),
        ({"modalities": frozenset({"CT"})}, {"modalities": frozenset(), "beside": frozenset({"CT"})}, "not-shared"),
        ({}, {"modalities": frozenset()}, ""),
        ({"age_min_years": 68}, {}, ""),
        ({"age_min_years": 69}, {}, "age-not-shared"),
        ({"age_max_years": 68}, {}, ""),
        ({"age_max_years": 67}, {}, "age-not-shared"),
        ({"age_min_years": 0}, {"age_years": None}, "age-not-shared"),
        ({"age_min_years": 69, "modalities": frozenset({"MR"})}, {}, "not-shared"),
    ],
)
def test_an_agreement_admits_recipients_purposes_modalities_and_ages(
    clause: dict[str, object], resource: dict[str, object], code: str
) -> None:
    facts = replace(KNOWN, agreements=(replace(ANYTHING_WITH_ANYBODY, **clause),))  # type: ignore[arg-type]  # by table
    decision = judged(replace(SEE_HEAD_CT, resource=replace(HEAD_CT, **resource)), facts)  # type: ignore[arg-type]  # by table
    assert decision.is_permitted == (not code)
    if code:
        assert decision.is_hidden and decision.reasons[0].code == code
        assert decision.reasons[0].telling is (Telling.NOBODY if code == "age-not-shared" else Telling.COVERAGE)


def test_clauses_of_one_holder_add_up() -> None:
    ct, mr = (replace(ANYTHING_WITH_ANYBODY, modalities=frozenset({name})) for name in ("CT", "MR"))
    both = replace(SEE_HEAD_CT, resource=replace(HEAD_CT, modalities=frozenset({"CT", "MR"})))
    assert judged(both, replace(KNOWN, agreements=(ct, mr))).is_permitted
    assert not judged(both, replace(KNOWN, agreements=(ct,))).is_permitted


def test_a_holder_that_is_not_enrolled_shares_nothing() -> None:
    holder = Organisation(EASTVALE, OrganisationKind.NHS_HOSPITAL_TRUST, False)
    decision = judged(facts=replace(KNOWN, organisations=(KNOWN.organisations[0], holder)))
    assert codes(decision)[0] == "custodian-not-enrolled" and decision.reasons[0].telling is Telling.COVERAGE


def test_a_row_without_custodian_is_never_shown() -> None:
    assert codes(judged(replace(SEE_HEAD_CT, resource=replace(HEAD_CT, custodian=None))))[0] == "custodian-unknown"


def test_an_agreement_is_asked_of_rows_and_not_of_questions() -> None:
    assert judged(FIND_ANNE, replace(KNOWN, agreements=())).is_permitted


# respect-sensitive-label


@pytest.mark.parametrize(("purpose", "is_visible"), [("TREAT", False), ("ETREAT", True), ("ERTREAT", True)])
def test_labelled_imaging_is_seen_for_the_labels_purposes_alone(purpose: str, is_visible: bool) -> None:
    decision = judged(replace(SEE_HEAD_CT, purpose=PurposeOfUse(purpose)), replace(KNOWN, labels=(SAFEGUARDING,)))
    assert decision.is_permitted == is_visible and decision.is_hidden == (not is_visible)


def test_break_glass_opens_no_label_that_does_not_name_it() -> None:
    facts = replace(KNOWN, labels=(SAFEGUARDING,), grants=(CLAIM,))
    assert judged(replace(SEE_HEAD_CT, purpose=PurposeOfUse.BTG), facts).is_hidden


@pytest.mark.parametrize(
    ("team", "kind", "is_visible"),
    [
        ("paediatrics", PrincipalKind.CLINICIAN, True),
        ("neurology", PrincipalKind.CLINICIAN, False),
        ("paediatrics", PrincipalKind.SYSTEM, False),
    ],
)
def test_labelled_imaging_is_seen_by_the_listed_teams_when_a_person_is_proven(
    team: str, kind: PrincipalKind, is_visible: bool
) -> None:
    access = replace(BY_CLINICIAN, kind=kind, teams=frozenset({team, "neurology"}))
    assert judged(access, replace(KNOWN, labels=(SAFEGUARDING,))).is_permitted == is_visible


def test_a_team_of_the_same_name_at_another_trust_is_not_listed() -> None:
    label = replace(SAFEGUARDING, teams=frozenset({"RZ3:paediatrics", "paediatrics"}))
    access = replace(BY_CLINICIAN, teams=frozenset({"paediatrics", "neurology"}))
    assert judged(access, replace(KNOWN, labels=(label,))).is_hidden


@pytest.mark.parametrize(
    ("label_study", "holder", "study", "is_hidden"),
    [
        ("2.25.7", EASTVALE, "2.25.7", True),
        ("2.25.7", SOUTHBRIDGE, "2.25.7", True),  # the copy that another trust holds
        ("2.25.7", EASTVALE, "2.25.8", False),
        ("2.25.7", EASTVALE, "", True),  # it may be the labelled one
        ("", EASTVALE, "2.25.8", True),
        ("", SOUTHBRIDGE, "2.25.8", False),
    ],
)
def test_a_label_covers_its_study_everywhere_or_all_of_the_patient_at_its_trust(
    label_study: str, holder: TrustId, study: str, is_hidden: bool
) -> None:
    agreements = (ANYTHING_WITH_ANYBODY, replace(ANYTHING_WITH_ANYBODY, custodian=SOUTHBRIDGE))
    facts = replace(KNOWN, agreements=agreements, labels=(replace(SAFEGUARDING, study_uid=label_study),))
    access = replace(SEE_HEAD_CT, resource=replace(HEAD_CT, custodian=holder, study_uid=study))
    assert judged(access, facts).is_hidden == is_hidden


def test_a_label_acts_in_its_time() -> None:
    facts = replace(KNOWN, labels=(replace(SAFEGUARDING, valid_until=NOON),))
    assert judged(facts=facts).is_permitted
    assert judged(replace(SEE_HEAD_CT, at=NOON - INSTANT), facts).is_hidden


def test_a_label_does_not_hide_that_a_named_patient_may_be_asked_about() -> None:
    assert judged(FIND_ANNE, replace(KNOWN, labels=(SAFEGUARDING,))).is_permitted


# permit-own-images, permit-open-question


def test_a_question_that_names_only_a_study_may_be_asked_and_each_row_decides() -> None:
    assert codes(judged(FIND_STUDY, UNKNOWN_PATIENT)) == ["each-row-decides"]


def test_a_question_to_the_own_trust_needs_no_relationship() -> None:
    access = replace(FIND_ANNE, resource=Resource(ANNE, NORTHMOOR))
    assert codes(judged(access, replace(NO_RELATIONSHIP, choices=(OPT_OUT,)))) == ["own-images"]


def test_own_images_still_need_identity_enrolment_and_purpose() -> None:
    access = replace(OWN_CT, proven_by=frozenset(), purpose=PurposeOfUse.HRESCH)
    decision = judged(access, replace(KNOWN, organisations=()))
    assert set(told(decision)) == {"identity-not-proven", "purpose-not-direct-care", "recipient-not-enrolled"}
