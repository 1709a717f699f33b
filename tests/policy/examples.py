"""One allowed question and the facts that allow it; each test changes what it is about.

Northmoor (RZ1) asks, Eastvale (RZ2) holds, Southbridge (RZ3) is a third. All numbers are synthetic.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from policy.access import Access, Action, Decision, Resource
from policy.engine import decide
from policy.facts import (
    Agreement,
    CareRelationship,
    Facts,
    Grant,
    ImplementedChoice,
    Organisation,
    OrganisationKind,
    RelationshipKind,
    SensitiveLabel,
    SharingChoice,
)
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Settings

NORTHMOOR, EASTVALE, SOUTHBRIDGE = TrustId("RZ1"), TrustId("RZ2"), TrustId("RZ3")
ANNE = NhsNumber("9990000018")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
INSTANT = timedelta(microseconds=1)
DEMO = Settings(mode=Mode.DEMO)
STUDY = "2.25.7"
HEAD_CT = Resource(ANNE, EASTVALE, STUDY, frozenset({"CT"}), 68)

SEE_HEAD_CT = Access(
    subject="northmoor-pacs",
    kind=PrincipalKind.SYSTEM,
    caller_trust=NORTHMOOR,
    proven_by=frozenset({"https", "certificate"}),
    recipient=NORTHMOOR,
    person="",
    teams=frozenset(),
    purpose=PurposeOfUse.TREAT,
    action=Action.SEE,
    resource=HEAD_CT,
    at=NOON,
    patient_named=True,
)
FIND_ANNE = replace(SEE_HEAD_CT, action=Action.QUERY, resource=Resource(ANNE))
FIND_STUDY = replace(SEE_HEAD_CT, action=Action.QUERY, resource=Resource(None, study_uid=STUDY), patient_named=False)
BY_CLINICIAN = replace(
    SEE_HEAD_CT, kind=PrincipalKind.CLINICIAN, subject="dr-hollis", person="dr-hollis", teams=frozenset({"neurology"})
)

REFERRAL = CareRelationship("r-1", NORTHMOOR, RelationshipKind.REFERRAL, "neurology", "REF", NOON - DAY, NOON + DAY)
ANYTHING_WITH_ANYBODY = Agreement(
    "a-1", 1, EASTVALE, frozenset(), frozenset(), frozenset(), None, None, NOON - 90 * DAY, None
)
OPT_OUT = ImplementedChoice("c-1", SharingChoice.OPT_OUT, False, NOON - DAY, 1, None)
OPT_IN = ImplementedChoice("c-2", SharingChoice.OPT_IN, False, NOON - HOUR, 2, None)
SAFEGUARDING = SensitiveLabel(
    "l-1",
    EASTVALE,
    "safeguarding",
    STUDY,
    frozenset({PurposeOfUse.ETREAT, PurposeOfUse.ERTREAT}),
    frozenset({"RZ1:paediatrics"}),
    NOON - DAY,
    None,
)
CLAIM = Grant("g-1", NORTHMOOR, "", "unconscious, no notes", NOON - HOUR, NOON + HOUR)

KNOWN = Facts(
    register_version=7,
    patient=ANNE,
    organisations=tuple(
        Organisation(trust, OrganisationKind.NHS_HOSPITAL_TRUST, True) for trust in (NORTHMOOR, EASTVALE, SOUTHBRIDGE)
    ),
    relationships=(REFERRAL,),
    agreements=(ANYTHING_WITH_ANYBODY,),
)
NO_RELATIONSHIP = replace(KNOWN, relationships=())
UNKNOWN_PATIENT = replace(KNOWN, patient=None, relationships=())


def judged(access: Access = SEE_HEAD_CT, facts: Facts = KNOWN, settings: Settings = DEMO) -> Decision:
    """Decide with all rules."""
    return decide(access, facts, settings, "d-1")


def codes(decision: Decision) -> list[str]:
    """The codes of all reasons, forbids first."""
    return [reason.code for reason in decision.reasons]


def told(decision: Decision) -> list[str]:
    """The codes of the reasons that the caller is told."""
    return [reason.code for reason in decision.told]
