"""The stored form of a decision and of all that it stood on, and its replay (DEC-14).

JSON values only, instants in UTC, sets sorted, so that equal values are stored as equal bytes. Writing is spelled out,
for it happens on every row; reading follows the types of the fields. A record says which form it has: one that this
module does not know is refused, never guessed at. Pure.
"""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import TypeVar, Union, cast, get_args, get_origin, get_type_hints

from policy.access import Access, Decision, Reason, Resource
from policy.engine import decide
from policy.facts import Agreement, CareRelationship, Facts, Grant, ImplementedChoice, Organisation, SensitiveLabel
from policy.parties import NhsNumber, TrustId
from policy.settings import JsonValue, Settings

FORM = 1
"""The number of this stored form; raised when a field comes to be written differently."""

_Value = TypeVar("_Value")


class UnreadableRecord(ValueError):
    """What was stored is not of the form that this module writes. The message names the field, never its value."""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision with everything it stood on."""

    access: Access
    facts: Facts
    settings: Settings
    decision: Decision

    def to_json(self) -> dict[str, JsonValue]:
        """The whole in its stored form."""
        return {
            "form": FORM,
            "access": access_to_json(self.access),
            "facts": facts_to_json(self.facts),
            "settings": self.settings.to_json(),
            "decision": decision_to_json(self.decision),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> DecisionRecord:
        """Read the stored form; raises `UnreadableRecord`."""
        if stored.get("form") != FORM:
            raise UnreadableRecord(f"form: this release reads form {FORM}")
        settings = stored.get("settings")
        if not isinstance(settings, Mapping):
            raise UnreadableRecord("settings: is missing")
        try:
            read_settings = Settings.from_json(settings)
        except ValueError as error:
            raise UnreadableRecord(f"settings: {error}") from error
        return cls(
            access_from_json(stored.get("access")),
            facts_from_json(stored.get("facts")),
            read_settings,
            decision_from_json(stored.get("decision")),
        )


def replay(record: DecisionRecord) -> Decision:
    """Decide again from the stored facts and settings, under the rules of this release.

    Equal to `record.decision`, unless the rules have changed since: then the two differ in `rule_set` too.
    """
    return decide(record.access, record.facts, record.settings, record.decision.decision_id)


def access_to_json(access: Access) -> dict[str, JsonValue]:
    """The stored form of a question."""
    return {
        "subject": access.subject,
        "kind": access.kind.value,
        "caller_trust": access.caller_trust.code,
        "proven_by": _texts(access.proven_by),
        "recipient": access.recipient.code,
        "person": access.person,
        "teams": _texts(access.teams),
        "purpose": access.purpose.value,
        "action": access.action.value,
        "resource": resource_to_json(access.resource),
        "at": _instant(access.at),
        "patient_named": access.patient_named,
    }


def resource_to_json(resource: Resource) -> dict[str, JsonValue]:
    """The stored form of what a question is about; what differs from row to row of one answer."""
    return {
        "patient": resource.patient.digits if resource.patient else None,
        "custodian": resource.custodian.code if resource.custodian else None,
        "study_uid": resource.study_uid,
        "modalities": _texts(resource.modalities),
        "age_years": resource.age_years,
        "beside": _texts(resource.beside),
    }


def facts_to_json(facts: Facts) -> dict[str, JsonValue]:
    """The stored form of what was known."""
    return {
        "register_version": facts.register_version,
        "patient": facts.patient.digits if facts.patient else None,
        "organisations": [_organisation(entry) for entry in facts.organisations],
        "relationships": [_relationship(entry) for entry in facts.relationships],
        "choices": [_choice(entry) for entry in facts.choices],
        "agreements": [_agreement(entry) for entry in facts.agreements],
        "labels": [_label(entry) for entry in facts.labels],
        "grants": [_grant(entry) for entry in facts.grants],
        "faults": _texts(facts.faults),
    }


def decision_to_json(decision: Decision) -> dict[str, JsonValue]:
    """The stored form of an answer with all its reasons."""
    return {
        "decision_id": decision.decision_id,
        "effect": decision.effect.value,
        "reasons": [_reason(reason) for reason in decision.reasons],
        "rule_set": decision.rule_set,
        "obligations": _texts(decision.obligations),
    }


def access_from_json(stored: object) -> Access:
    """Read a stored question; raises `UnreadableRecord`."""
    return _read(Access, stored, "access")


def facts_from_json(stored: object) -> Facts:
    """Read stored facts; raises `UnreadableRecord`."""
    return _read(Facts, stored, "facts")


def decision_from_json(stored: object) -> Decision:
    """Read a stored answer; raises `UnreadableRecord`."""
    return _read(Decision, stored, "decision")


def _reason(reason: Reason) -> JsonValue:
    return {
        "rule": reason.rule,
        "effect": reason.effect.value,
        "code": reason.code,
        "text": reason.text,
        "telling": reason.telling.value,
        "evidence": reason.evidence,
        "obligations": _texts(reason.obligations),
    }


def _organisation(entry: Organisation) -> JsonValue:
    return {
        "trust": entry.trust.code,
        "kind": entry.kind.value,
        "is_enrolled": entry.is_enrolled,
        "retrieves": entry.retrieves,
        "pushes": entry.pushes,
    }


def _relationship(entry: CareRelationship) -> JsonValue:
    return {
        "relationship_id": entry.relationship_id,
        "trust": entry.trust.code,
        "kind": entry.kind.value,
        "team": entry.team,
        "evidence": entry.evidence,
        "valid_from": _instant(entry.valid_from),
        "valid_until": _instant_or_none(entry.valid_until),
    }


def _choice(entry: ImplementedChoice) -> JsonValue:
    return {
        "case_id": entry.case_id,
        "choice": entry.choice.value,
        "is_provisional": entry.is_provisional,
        "effective_at": _instant(entry.effective_at),
        "sequence": entry.sequence,
        "valid_until": _instant_or_none(entry.valid_until),
    }


def _agreement(entry: Agreement) -> JsonValue:
    return {
        "agreement_id": entry.agreement_id,
        "version": entry.version,
        "custodian": entry.custodian.code,
        "recipients": _texts([trust.code for trust in entry.recipients]),
        "modalities": _texts(entry.modalities),
        "purposes": _texts(entry.purposes),
        "age_min_years": entry.age_min_years,
        "age_max_years": entry.age_max_years,
        "valid_from": _instant(entry.valid_from),
        "valid_until": _instant_or_none(entry.valid_until),
    }


def _label(entry: SensitiveLabel) -> JsonValue:
    return {
        "label_id": entry.label_id,
        "custodian": entry.custodian.code,
        "kind": entry.kind,
        "study_uid": entry.study_uid,
        "visible_to": _texts(entry.visible_to),
        "teams": _texts(entry.teams),
        "valid_from": _instant(entry.valid_from),
        "valid_until": _instant_or_none(entry.valid_until),
    }


def _grant(entry: Grant) -> JsonValue:
    return {
        "grant_id": entry.grant_id,
        "trust": entry.trust.code,
        "subject": entry.subject,
        "reason": entry.reason,
        "valid_from": _instant(entry.valid_from),
        "valid_until": _instant(entry.valid_until),
    }


def _texts(values: Collection[str]) -> list[JsonValue]:
    return [str(value) for value in sorted(values)]


def _instant(at: datetime) -> str:
    if at.tzinfo is None:
        raise ValueError("an instant without time zone cannot be recorded")
    return at.astimezone(UTC).isoformat()


def _instant_or_none(at: datetime | None) -> str | None:
    return None if at is None else _instant(at)


def _read(kind: type[_Value], stored: object, place: str) -> _Value:
    """Read one value as the type of its field says; every field must be there but later ones, and no other."""
    hints = _field_types(kind)  # type: ignore[arg-type]  # a class is hashable
    if not isinstance(stored, Mapping) or not _must_stand(kind) <= set(stored) <= set(hints):  # type: ignore[arg-type]  # a class is hashable
        raise UnreadableRecord(f"{place}: has not the fields of this form")
    return kind(**{name: _value(hints[name], value, f"{place}.{name}") for name, value in stored.items()})


@cache
def _field_types(kind: type[object]) -> Mapping[str, object]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass


@cache
def _must_stand(kind: type[object]) -> frozenset[str]:
    """The fields that records have had from the first."""
    return frozenset(each.name for each in fields(kind) if "since" not in each.metadata)  # type: ignore[arg-type]  # a dataclass


def _value(hint: object, stored: object, place: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if stored is None else _value(inner, stored, place)
    if origin in (tuple, frozenset):
        if not isinstance(stored, list):
            raise UnreadableRecord(f"{place}: is not a list")
        return cast("type[tuple[object, ...]]", origin)(_value(arguments[0], item, place) for item in stored)
    if hint in (str, int, bool):
        if type(stored) is not hint:
            raise UnreadableRecord(f"{place}: is of another type")
        return stored
    return _named_value(cast("type[object]", hint), stored, place)


def _named_value(kind: type[object], stored: object, place: str) -> object:
    if is_dataclass(kind) and kind not in (TrustId, NhsNumber):
        return _read(kind, stored, place)
    if not isinstance(stored, str):
        raise UnreadableRecord(f"{place}: is not a text")
    try:
        if issubclass(kind, TrustId | NhsNumber):
            return kind.parse(stored)
        if issubclass(kind, datetime):
            return _aware(datetime.fromisoformat(stored))
        if issubclass(kind, StrEnum):
            return kind(stored)
    except ValueError as error:
        raise UnreadableRecord(f"{place}: cannot be read") from error
    raise TypeError(f"{place}: no stored form for {kind.__name__}")


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("an instant without time zone")
    return at
