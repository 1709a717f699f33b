"""A second, naive evaluator: policy as straight if-chains from the requirement texts, to hold the rules against (G14).

Written apart from `policy.rules`: imports the vocabulary and none of its methods, shares no function with the engine.
At most 165 lines, a test counts them. Where the two disagree, the texts decide who is wrong.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from policy.access import Access
from policy.facts import Facts
from policy.parties import TrustId
from policy.settings import Settings


@dataclass(frozen=True, slots=True)
class Expected:
    """What a caller and a privacy officer notice of a decision."""

    permitted: bool
    told: frozenset[str]
    alerted: bool


def expected(access: Access, facts: Facts, settings: Settings) -> Expected:
    """Judge one access."""
    row, patient, named = access.action != "query", access.resource.patient, access.patient_named
    own = access.resource.custodian is not None and str(access.resource.custodian) == str(access.recipient)
    grant = has_grant(access, facts)
    told, hidden, alerted = set(), False, False

    # SHR-01, SAF-10: only to an enrolled NHS hospital trust. SAF-13: not to a destination of another trust.
    if str(access.recipient) not in enrolled(facts):
        told.add("recipient-not-enrolled")
    if str(access.recipient) != str(access.caller_trust):
        told.add("destination-of-another-trust")
    # Certificate, and AE title over DIMSE; plain only from loopback.
    wanted = settings.proof_dimse if "dimse" in access.proven_by else settings.proof_https
    if "loopback" not in access.proven_by and any(str(proof) not in access.proven_by for proof in wanted):
        told.add("identity-not-proven")
    if access.kind in ("officer", "service"):
        told.add("kind-receives-no-images")
    # Staged on-boarding: images are taken in from a trust signed off for sending, its own only.
    if access.action == "store" and not (own and signed_off(facts, access.recipient, "pushes")):
        told.add("push-not-signed-off")
    # B4: the closed list.
    if access.purpose not in ("TREAT", "COC", "ETREAT", "ERTREAT", "BTG"):
        told.add("purpose-not-direct-care")
    # DEC-05: the range of the mode.
    if patient is not None and (patient.digits[:3] == "999") != (settings.mode == "demo"):
        hidden = True
        if named:
            told.add("nhs-number-of-other-mode")
    # SAF-01, SHR-34: nothing on registers that cannot be believed.
    if facts.faults:
        hidden = True
    lookup_works = not {str(fault) for fault in facts.faults} & {"patients", "relationships", "grants"}
    # B3: break-glass only through a grant; a question that names no patient waits for its rows.
    if access.purpose == "BTG" and lookup_works and not grant and (row or patient is not None):
        hidden = True
        if named:
            told.add("break-glass-without-grant")
    if not own:
        # No NHS number: stays inside its trust.
        if row and patient is None:
            hidden = True
        # SHR-01, SHR-02: the relationship.
        if patient is not None and lookup_works:
            trust_involved, caller_involved = involvement(access, facts, settings)
            if not caller_involved and not grant:
                hidden = True
                if named:
                    told.add("team-not-involved" if trust_involved else "no-care-relationship")
            if grant and (not caller_involved or access.purpose == "BTG"):
                alerted = True
        # SHR-07, SHR-24, SAF-23.
        if opted_out(facts, access.at):
            if not settings.break_glass_lifts_opt_out or not grant:
                hidden = True
            elif patient is not None:
                alerted = True
        if row and (not shared(access, facts) or labelled(access, facts)):
            hidden = True
    permitted = not hidden and not told
    return Expected(permitted, frozenset(told), permitted and alerted)


def enrolled(facts: Facts) -> set[str]:
    return {str(each.trust) for each in facts.organisations if each.is_enrolled and each.kind == "nhs-hospital-trust"}


def signed_off(facts: Facts, trust: TrustId | None, stage: str) -> bool:
    return any(str(each.trust) == str(trust) and getattr(each, stage) for each in facts.organisations)


def holds(start: datetime, end: datetime | None, at: datetime) -> bool:
    return at >= start and (end is None or at < end)


def has_grant(access: Access, facts: Facts) -> bool:
    for grant in facts.grants:
        if str(grant.trust) == str(access.recipient) and holds(grant.valid_from, grant.valid_until, access.at):
            if access.kind == "system" and grant.subject in ("", access.subject):
                return True
            if access.kind == "clinician" and grant.subject != "" and grant.subject in (access.subject, access.person):
                return True
    return False


def involvement(access: Access, facts: Facts, settings: Settings) -> tuple[bool, bool]:
    trust_involved = caller_involved = False
    for entry in facts.relationships:
        end = entry.valid_until or entry.valid_from + timedelta(days=settings.relationship_max_life_days)
        if str(entry.trust) == str(access.recipient) and holds(entry.valid_from, end, access.at):
            trust_involved = True
            if access.kind != "clinician" or (entry.team != "" and entry.team in access.teams):
                caller_involved = True
            if entry.team == "" and settings.whole_trust_relationship_admits_clinicians:
                caller_involved = True
    return trust_involved, caller_involved


def opted_out(facts: Facts, at: datetime) -> bool:
    acting = [case for case in facts.choices if holds(case.effective_at, case.valid_until, at)]
    acting.sort(key=lambda case: (case.effective_at, case.sequence, case.choice == "opt-out"))
    return bool(acting) and acting[-1].choice == "opt-out"


def shared(access: Access, facts: Facts) -> bool:
    both = (access.recipient, access.resource.custodian)
    if access.action == "retrieve" and not all(signed_off(facts, trust, "retrieves") for trust in both):
        return False
    age = access.resource.age_years
    alone = {"SR", "PR", "KO", "DOC"}
    images = access.resource.modalities - alone
    missing = set(images or access.resource.modalities or {"not known"})
    beside = set() if images or not access.resource.modalities else set(access.resource.beside - alone)
    for clause in facts.agreements:
        if clause.custodian != access.resource.custodian or not holds(clause.valid_from, clause.valid_until, access.at):
            continue
        if clause.recipients and access.recipient not in clause.recipients:
            continue
        if clause.purposes and access.purpose not in clause.purposes:
            continue
        if clause.age_min_years is not None and (age is None or age < clause.age_min_years):
            continue
        if clause.age_max_years is not None and (age is None or age > clause.age_max_years):
            continue
        missing = missing - clause.modalities if clause.modalities else set()
        has_images = bool(beside)
        beside = beside - clause.modalities if clause.modalities else set()
        missing = set() if has_images and not beside else missing
    return not missing and str(access.resource.custodian) in enrolled(facts)


def labelled(access: Access, facts: Facts) -> bool:
    teams = {f"{access.caller_trust}:{team}" for team in access.teams} if access.kind == "clinician" else set()
    for label in facts.labels:
        covers = label.study_uid == access.resource.study_uid
        if label.study_uid == "" or access.resource.study_uid == "":
            covers = label.custodian == access.resource.custodian
        is_open = access.purpose in label.visible_to or teams & label.teams
        if covers and not is_open and holds(label.valid_from, label.valid_until, access.at):
            return True
    return False
