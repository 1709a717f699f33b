"""Who would gain or lose: every kind of study that a clause can tell apart, and nothing twice."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.sharing.impact import Change, Comparison, Kind, World, changes, kinds_of, totals, with_agreements
from policy.access import Access, Action, Resource
from policy.engine import decide
from policy.facts import (
    Agreement,
    CareRelationship,
    Facts,
    ImplementedChoice,
    Organisation,
    OrganisationKind,
    RelationshipKind,
    SharingChoice,
)
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Settings

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NORTHMOOR, EASTVALE, SOUTHBRIDGE = TrustId("RZ1"), TrustId("RZ2"), TrustId("RZ3")
ANNE = NhsNumber.parse("9990000018")
SETTINGS = Settings(mode=Mode.DEMO)
IN_CARE = CareRelationship("rel-1", NORTHMOOR, RelationshipKind.REFERRAL, "", "ref-1", LONG_AGO, None)
KNOWN = Facts(
    register_version=1,
    patient=ANNE,
    organisations=tuple(
        Organisation(trust, OrganisationKind.NHS_HOSPITAL_TRUST, True) for trust in (NORTHMOOR, EASTVALE, SOUTHBRIDGE)
    ),
    relationships=(IN_CARE,),
)


def clause(
    custodian: TrustId = EASTVALE,
    recipients: tuple[TrustId, ...] = (),
    modalities: tuple[str, ...] = (),
    purposes: tuple[PurposeOfUse, ...] = (),
    ages: tuple[int | None, int | None] = (None, None),
) -> Agreement:
    return Agreement(
        agreement_id="a",
        version=1,
        custodian=custodian,
        recipients=frozenset(recipients),
        modalities=frozenset(modalities),
        purposes=frozenset(purposes),
        age_min_years=ages[0],
        age_max_years=ages[1],
        valid_from=LONG_AGO,
        valid_until=None,
    )


def compare(before: Facts, after: Facts, recipient: TrustId = NORTHMOOR) -> list[Change]:
    kinds = kinds_of(before.agreements, after.agreements)
    comparison = Comparison([EASTVALE, SOUTHBRIDGE], kinds, SETTINGS, SETTINGS, AT)
    return list(changes([World(ANNE, recipient, before, after)], comparison))


def said(found: list[Change]) -> set[tuple[str, str, int | None, bool]]:
    return {(change.custodian.code, change.kind.modality, change.kind.age_years, change.is_gain) for change in found}


def test_a_first_clause_gives_exactly_what_it_names() -> None:
    found = compare(KNOWN, replace(KNOWN, agreements=(clause(modalities=("CT",)),)))
    assert said(found) == {("RZ2", "CT", None, True)}


def test_an_open_clause_gives_what_nobody_named_too() -> None:
    found = compare(KNOWN, replace(KNOWN, agreements=(clause(),)))
    assert said(found) == {("RZ2", "OT", None, True)}


def test_a_narrower_clause_takes_the_rest_away() -> None:
    before = replace(KNOWN, agreements=(clause(),))
    found = compare(before, replace(KNOWN, agreements=(clause(modalities=("CT",)),)))
    assert said(found) == {("RZ2", "OT", None, False)}


def test_ages_are_told_apart_on_each_side_of_a_limit() -> None:
    before = replace(KNOWN, agreements=(clause(),))
    found = compare(before, replace(KNOWN, agreements=(clause(ages=(16, 64)),)))
    assert said(found) == {("RZ2", "OT", None, False), ("RZ2", "OT", 0, False), ("RZ2", "OT", 65, False)}


def test_purposes_are_told_apart_where_a_clause_names_them() -> None:
    found = compare(KNOWN, replace(KNOWN, agreements=(clause(purposes=(PurposeOfUse.ETREAT,)),)))
    assert {change.kind.purpose for change in found} == {PurposeOfUse.ETREAT}


def test_other_custodians_and_other_recipients_are_left_alone() -> None:
    theirs = clause(SOUTHBRIDGE)
    before = replace(KNOWN, agreements=(theirs,))
    after = with_agreements(
        before, EASTVALE, [clause(recipients=(SOUTHBRIDGE,)), clause(modalities=("CT",))], NORTHMOOR
    )
    assert after.agreements == (theirs, clause(modalities=("CT",)))


def test_who_is_in_nobodys_care_or_opted_out_gains_nothing() -> None:
    stranger = replace(KNOWN, relationships=())
    opted_out = replace(KNOWN, choices=(ImplementedChoice("c", SharingChoice.OPT_OUT, False, LONG_AGO, 1, None),))
    for known in (stranger, opted_out):
        assert compare(known, replace(known, agreements=(clause(),))) == []


def test_figures_count_patients() -> None:
    change = compare(KNOWN, replace(KNOWN, agreements=(clause(),)))[0]
    counted = totals([change, replace(change, patient=NhsNumber.parse("9990000026"))])
    assert counted == {(NORTHMOOR, EASTVALE, Kind("OT", None, PurposeOfUse.TREAT), True): 2}


MODALITIES = st.sampled_from(["CT", "MR", "CR", "OT", "SR"])
AGES = st.one_of(st.none(), st.integers(0, 100))
CLAUSES = st.builds(
    clause,
    custodian=st.sampled_from([EASTVALE, SOUTHBRIDGE]),
    recipients=st.sampled_from([(), (NORTHMOOR,), (SOUTHBRIDGE,)]),
    modalities=st.lists(MODALITIES, max_size=3).map(tuple),
    purposes=st.sampled_from([(), (PurposeOfUse.TREAT,), (PurposeOfUse.ETREAT, PurposeOfUse.COC)]),
    ages=st.tuples(AGES, AGES),
)


@given(
    before=st.lists(CLAUSES, max_size=3),
    after=st.lists(CLAUSES, max_size=3),
    modality=st.sampled_from(["CT", "MR", "CR", "OT", "US", "SR"]),
    age=AGES,
    purpose=st.sampled_from([PurposeOfUse.TREAT, PurposeOfUse.ETREAT, PurposeOfUse.COC]),
    custodian=st.sampled_from([EASTVALE, SOUTHBRIDGE]),
)
def test_no_study_changes_hands_that_the_comparison_does_not_know_of(
    before: list[Agreement],
    after: list[Agreement],
    modality: str,
    age: int | None,
    purpose: PurposeOfUse,
    custodian: TrustId,
) -> None:
    """Whatever a real study is: if its fate differs, some kind in the comparison differs the same way."""
    facts_before, facts_after = (replace(KNOWN, agreements=tuple(clauses)) for clauses in (before, after))
    study = Access(
        subject="pacs",
        kind=PrincipalKind.SYSTEM,
        caller_trust=NORTHMOOR,
        proven_by=frozenset({"https", "certificate"}),
        recipient=NORTHMOOR,
        person="",
        teams=frozenset(),
        purpose=purpose,
        action=Action.SEE,
        resource=Resource(ANNE, custodian, "1.2.3", frozenset({modality}), age),
        at=AT,
        patient_named=True,
    )
    fates = [decide(study, facts, SETTINGS, "").is_permitted for facts in (facts_before, facts_after)]
    found = {(change.custodian, change.is_gain) for change in compare(facts_before, facts_after)}
    if fates[0] is not fates[1]:
        assert (custodian, fates[1]) in found
