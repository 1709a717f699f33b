"""The rules: each one question about one access, answered from the facts. `docs/policy.md` says them in plain words.

A rule returns a permit, a forbid, or None when it has nothing to say. It knows no other rule and never relies on their
order: `policy.engine` runs them all, any forbid wins, and no permit denies. The name of a rule is the function's name
with hyphens. What a reason may tell follows SAF-02: only what depends on caller and question alone. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import assert_never

from policy.access import Access, Action, Effect, Obligation, Reason, Telling
from policy.agreements import admits_age, clauses_for, is_enrolled_trust, retrieves, share
from policy.facts import CareRelationship, Facts, Grant, Register, SensitiveLabel, SharingChoice, in_force
from policy.parties import PrincipalKind, PurposeOfUse
from policy.settings import Mode, PacsUserAssurance, Proof, Settings

Rule = Callable[[Access, Facts, Settings], Reason | None]

_SHOWING_ABSENCE = frozenset({Register.PATIENTS, Register.RELATIONSHIPS, Register.GRANTS})
"""What must be readable before anybody can say that a relationship or a grant is missing."""


def rule_name(rule: Rule) -> str:
    """The name under which a rule stands in reasons, in the audit and in docs/policy.md."""
    return rule.__name__.replace("_", "-")


def require_enrolled_trust(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """Images go only to an enrolled NHS hospital trust (SHR-01, SAF-10)."""
    if is_enrolled_trust(facts, access.recipient):
        return None
    return _told(
        "require-enrolled-trust", "recipient-not-enrolled", "your organisation is not an enrolled NHS hospital trust"
    )


def require_own_destination(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """A caller has images sent to its own trust only: known destinations of other trusts are refused (SAF-13)."""
    if access.recipient.code == access.caller_trust.code:
        return None
    return _told("require-own-destination", "destination-of-another-trust", "the destination belongs to another trust")


def require_proven_identity(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """The evidence must hold what the door demands; an AE title alone proves nothing (threats.md 2, C3)."""
    proven = access.proven_by
    demanded = settings.proof_dimse if Proof.DIMSE in proven else settings.proof_https
    if demanded <= proven or Proof.LOOPBACK in proven:
        return None
    return _told("require-proven-identity", "identity-not-proven", "your identity is not proven as is demanded here")


def require_receiving_kind(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """Systems and clinicians receive images; officers administer, and the gateway's own jobs have no door yet."""
    match access.kind:
        case PrincipalKind.SYSTEM | PrincipalKind.CLINICIAN | PrincipalKind.GATEWAY:
            return None
        case PrincipalKind.OFFICER | PrincipalKind.SERVICE:
            return _told("require-receiving-kind", "kind-receives-no-images", "this account does not receive images")
        case _:
            assert_never(access.kind)


def require_signed_off_push(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """Images are taken in from a trust that was signed off for sending them, its own and nobody else's."""
    if access.action is not Action.STORE:
        return None
    entry = facts.organisation(access.recipient)
    if entry is not None and entry.pushes and access.is_own_images:
        return None
    return _told(
        "require-signed-off-push", "push-not-signed-off", "your organisation is not signed off for sending images"
    )


def require_direct_care(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """The stated purpose stands in the closed list of direct care, whatever its parent codes (SHR-10, B4)."""
    if access.purpose.is_direct_care:
        return None
    return _told("require-direct-care", "purpose-not-direct-care", "the stated purpose of use is not direct care")


def require_grant_for_break_glass(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """Break-glass is a grant with a reason and an end, never a word in a request (SHR-23, B3)."""
    if access.purpose is not PurposeOfUse.BTG or not _SHOWING_ABSENCE.isdisjoint(facts.faults):
        return None
    if _is_open_question(access) or grant_in_scope(access, facts) is not None:
        return None
    return Reason(
        "require-grant-for-break-glass",
        Effect.FORBID,
        "break-glass-without-grant",
        "no emergency access to this patient has been granted to you",
        _telling_if_named(access),
    )


def require_readable_registers(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """A register that cannot be believed forbids, for every patient alike (SHR-34, SAF-01)."""
    if not facts.faults:
        return None
    return _hidden(
        "require-readable-registers",
        "register-unavailable",
        "a register could not be read or is too old",
        ",".join(sorted(facts.faults)),
    )


def require_pinned_row(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """Imaging without an NHS number stays inside its trust: nobody could say whose it is (SHR-33, IDN-07)."""
    if access.action is Action.QUERY or access.resource.patient is not None or access.is_own_images:
        return None
    return _hidden("require-pinned-row", "row-without-nhs-number", "the row names no patient by NHS number")


def require_number_of_mode(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """The 999 range is never issued: refused in production; every other number is refused in demo mode (DEC-05)."""
    patient = access.resource.patient
    if patient is None or patient.is_synthetic == (settings.mode is Mode.DEMO):
        return None
    return Reason(
        "require-number-of-mode",
        Effect.FORBID,
        "nhs-number-of-other-mode",
        "NHS numbers of this range are not accepted here",
        _telling_if_named(access),
    )


def require_care_relationship(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """The recipient delivers part of the patient's care now, and so does a clinician's own team (SHR-01, SHR-02).

    A grant in scope stands in for it. Asked of a named patient, a missing relationship is told; found on a row, it
    would tell that the row exists (SAF-02).
    """
    if access.resource.patient is None or access.is_own_images or not _SHOWING_ABSENCE.isdisjoint(facts.faults):
        return None
    usable, is_involved = None, False
    for entry in facts.relationships:
        if _is_current(entry, access, settings):
            is_involved = True
            if _admits_caller(entry, access, settings):
                usable = entry
                break
    grant = grant_in_scope(access, facts)
    if grant is not None and (usable is None or access.purpose is PurposeOfUse.BTG or _lifts(facts, access, settings)):
        return _permit("require-care-relationship", "granted", "emergency access was granted", grant.grant_id, _ALERT)
    if usable is not None:
        return _permit(
            "require-care-relationship", "care-relationship", "the trust takes part in the care", usable.relationship_id
        )
    code, text = _TEAM_NOT_INVOLVED if is_involved else _NO_RELATIONSHIP
    return Reason("require-care-relationship", Effect.FORBID, code, text, _telling_if_named(access))


def respect_opt_out(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """A patient who opted out is not found, from the restriction on receipt onwards (SHR-07, SHR-31, SAF-12, SAF-23).

    Whether break-glass may stand above it is the region's decision; it starts as no (SHR-24).
    """
    choice = facts.acting_choice(access.at)
    if choice is None or choice.choice is SharingChoice.OPT_IN or access.is_own_images:
        return None
    if settings.break_glass_lifts_opt_out and grant_in_scope(access, facts) is not None:
        return None
    code = "restricted-until-decided" if choice.is_provisional else "opted-out"
    return _hidden("respect-opt-out", code, "the patient restricts sharing", choice.case_id)


def require_agreement(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """The custodian shares this with this recipient: an enrolled trust, and a clause in force (SAF-07; product E7).

    A refusal that is the same for every patient is shown as coverage; one by age would tell that the row exists.
    """
    if access.action is Action.QUERY or access.is_own_images or Register.AGREEMENTS in facts.faults:
        return None
    custodian, modalities, beside = access.resource.custodian, access.resource.modalities, access.resource.beside
    if custodian is None:
        return _hidden("require-agreement", "custodian-unknown", "the row names no custodian")
    if not is_enrolled_trust(facts, custodian):
        return _not_covered("custodian-not-enrolled", "the holder is not an enrolled NHS hospital trust")
    if access.action is Action.RETRIEVE and not (retrieves(facts, custodian) and retrieves(facts, access.recipient)):
        return _not_covered("retrieving-not-signed-off", "the holder or your organisation shows what it has, no images")
    clauses = clauses_for(facts, access.recipient, access.purpose, custodian, access.at)
    if share([clause for clause in clauses if admits_age(clause, access.resource.age_years)], modalities, beside):
        return None
    if share(clauses, modalities, beside):
        return _hidden("require-agreement", "age-not-shared", "the holder does not share imaging at this age")
    return _not_covered("not-shared", "the holder does not share this with your organisation")


def respect_sensitive_label(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """Labelled imaging is seen only for the label's purposes or by its teams (SAF-40), whoever holds the copy."""
    if access.action is Action.QUERY or access.is_own_images:
        return None
    for label in facts.labels:
        if (
            _covers(label, access)
            and access.purpose not in label.visible_to
            and not _is_listed(label, access, settings)
            and in_force(label.valid_from, label.valid_until, access.at)
        ):
            return _hidden("respect-sensitive-label", "sensitive", "a sensitive label hides it", label.label_id)
    return None


def permit_own_images(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """A trust uses its own images without regard to the sharing rules (SAF-12)."""
    return _OWN_IMAGES if access.is_own_images else None


def permit_open_question(access: Access, facts: Facts, settings: Settings) -> Reason | None:
    """A question by study or accession number names no patient yet: it may be asked, and each row decides (SAF-02)."""
    return _OPEN_QUESTION if _is_open_question(access) else None


def grant_in_scope(access: Access, facts: Facts) -> Grant | None:
    """The grant under which this caller stands now: its own, or for a system its trust's (SAF-53)."""
    for grant in facts.grants:
        if grant.trust != access.recipient or not in_force(grant.valid_from, grant.valid_until, access.at):
            continue
        match access.kind:
            case PrincipalKind.SYSTEM | PrincipalKind.GATEWAY:
                if grant.subject in ("", access.subject):
                    return grant
            case PrincipalKind.CLINICIAN:
                if grant.subject and grant.subject in (access.subject, access.person):
                    return grant
            case PrincipalKind.OFFICER | PrincipalKind.SERVICE:
                return None
            case _:
                assert_never(access.kind)
    return None


def _is_open_question(access: Access) -> bool:
    return access.action is Action.QUERY and access.resource.patient is None


def _is_current(entry: CareRelationship, access: Access, settings: Settings) -> bool:
    if entry.trust.code != access.recipient.code or not in_force(entry.valid_from, entry.valid_until, access.at):
        return False
    if entry.valid_until is not None:
        return True
    return access.at - entry.valid_from < timedelta(days=settings.relationship_max_life_days)


def _admits_caller(entry: CareRelationship, access: Access, settings: Settings) -> bool:
    if access.kind is not PrincipalKind.CLINICIAN:
        return True
    if not entry.team:
        return settings.whole_trust_relationship_admits_clinicians
    return entry.team in access.teams


def _lifts(facts: Facts, access: Access, settings: Settings) -> bool:
    """Whether a grant is what stands between this access and an opt-out."""
    if not settings.break_glass_lifts_opt_out:
        return False
    choice = facts.acting_choice(access.at)
    return choice is not None and choice.choice is SharingChoice.OPT_OUT


def _covers(label: SensitiveLabel, access: Access) -> bool:
    """A study's label goes with the study to whoever holds a copy; a row of unknown study is taken for labelled."""
    resource = access.resource
    if label.study_uid and resource.study_uid:
        return label.study_uid == resource.study_uid
    return label.custodian == resource.custodian


def _is_listed(label: SensitiveLabel, access: Access, settings: Settings) -> bool:
    if access.kind is not PrincipalKind.CLINICIAN:
        match settings.pacs_user_assurance:
            case PacsUserAssurance.SYSTEM_ONLY:
                return False
            case _:
                assert_never(settings.pacs_user_assurance)
    return any(f"{access.caller_trust.code}:{team}" in label.teams for team in access.teams)


def _telling_if_named(access: Access) -> Telling:
    return Telling.CALLER if access.patient_named else Telling.NOBODY


def _told(rule: str, code: str, text: str) -> Reason:
    return Reason(rule, Effect.FORBID, code, text, Telling.CALLER)


def _hidden(rule: str, code: str, text: str, evidence: str = "") -> Reason:
    return Reason(rule, Effect.FORBID, code, text, Telling.NOBODY, evidence)


def _not_covered(code: str, text: str) -> Reason:
    return Reason("require-agreement", Effect.FORBID, code, text, Telling.COVERAGE)


def _permit(rule: str, code: str, text: str, evidence: str, obligations: frozenset[Obligation] = frozenset()) -> Reason:
    return Reason(rule, Effect.PERMIT, code, text, Telling.NOBODY, evidence, obligations)


_ALERT = frozenset({Obligation.ALERT_PRIVACY_OFFICERS, Obligation.RECORD_DETAIL})
_NO_RELATIONSHIP = ("no-care-relationship", "no care relationship of your trust with this patient is recorded")
_TEAM_NOT_INVOLVED = ("team-not-involved", "no care relationship of your team with this patient is recorded")
_OWN_IMAGES = _permit("permit-own-images", "own-images", "the trust's own images", "")
_OPEN_QUESTION = _permit("permit-open-question", "each-row-decides", "each answered row is decided by itself", "")

RULES: tuple[Rule, ...] = (
    require_enrolled_trust,
    require_own_destination,
    require_proven_identity,
    require_receiving_kind,
    require_signed_off_push,
    require_direct_care,
    require_grant_for_break_glass,
    require_readable_registers,
    require_pinned_row,
    require_number_of_mode,
    require_care_relationship,
    respect_opt_out,
    require_agreement,
    respect_sensitive_label,
    permit_own_images,
    permit_open_question,
)
