"""What a question is about: the patient, study or accession number that it pins.

A question across trusts that pins none of them is refused visibly (SAF-11, IDN-07): never by name and date alone, never
answered with zero rows. Across trusts a patient is named by the NHS number. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gateway.model.attributes import ACCESSION_ISSUER
from gateway.model.errors import InvalidRequest, QueryTooBroad
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    STUDY_TIME,
    STUDY_UID,
    Attributes,
    Key,
    Level,
    Query,
)
from gateway.sharing.matching import are_instants
from policy.parties import InvalidIdentifier, NhsNumber, is_nhs_issuer

IDENTITY_TAGS = frozenset({PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_NAME, PATIENT_BIRTH_DATE, PATIENT_SEX})
"""Keys that say who the patient is: judged by the identity rules, never by the matcher's silent drop (SAF-08)."""


_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the question pins. At least one of the three is set."""

    patient: NhsNumber | None
    study_uids: tuple[str, ...]
    accession_number: str
    accession_issuers: frozenset[str] = frozenset()
    """In capitals: who may have issued the accession number; empty: anybody (domain.md C4)."""


def pinned_scope(query: Query) -> Scope:
    """The query's scope; raises `QueryTooBroad`, or `InvalidRequest` for a patient that cannot be named so."""
    if len({key.path for key in query.keys}) < len(query.keys):
        raise InvalidRequest("a matching key is given twice")
    patient = _patient(query)
    study_uids = _study_uids(query)
    accession_number = _accession_number(query)
    if patient is None and not study_uids and not accession_number:
        raise QueryTooBroad(
            "a question across trusts names one patient by NHS number, or a study UID, or a whole accession number"
        )
    if query.level is Level.PATIENT and patient is None:
        raise QueryTooBroad("a question at patient level names one patient by NHS number")
    return Scope(patient, study_uids, accession_number, _accession_issuers(query))


def for_peers(query: Query, scope: Scope) -> Query:
    """The question as peers are asked it: whole answers, and the patient by number alone.

    A peer that filtered by name, birth date or sex would drop silently what must be told as an identity conflict.
    """
    keys = matched_keys(query, scope)
    if scope.patient is not None:
        keys = (Key((PATIENT_ID,), "LO", (scope.patient.digits,)), *keys)
    if query.combined_datetime and are_instants(keys):
        # No archive is relied on to combine them: by date alone it sends all, and every row is held to both here.
        keys = tuple(key for key in keys if key.path != (STUDY_TIME,))
    return replace(query, keys=keys, limit=None, offset=0, combined_datetime=False)


def matched_keys(query: Query, scope: Scope) -> tuple[Key, ...]:
    """The keys that our own matcher holds every row to."""
    pins_by_accession = scope.patient is None and not scope.study_uids
    return tuple(
        replace(key, values=(scope.accession_number,)) if key.path == (ACCESSION_NUMBER,) and pins_by_accession else key
        for key in query.keys
        if key.path[0] not in _withheld_tags(scope) and key.path[0] != ACCESSION_ISSUER
    )


def carries_pin(scope: Scope, row: Attributes) -> bool:
    """Whether a row says itself that it is what the question pins.

    The matcher lets a row pass that lacks a key. Where that key is the one pin, the row may be anybody's.
    """
    return scope.patient is not None or bool(scope.study_uids) or ACCESSION_NUMBER in row


def _withheld_tags(scope: Scope) -> frozenset[str]:
    return IDENTITY_TAGS if scope.patient is not None else frozenset({PATIENT_ID, ISSUER_OF_PATIENT_ID})


def _patient(query: Query) -> NhsNumber | None:
    key = query.key(PATIENT_ID)
    if key is None or not key.values[0].strip("* "):
        return None
    if len(key.values) != 1:
        raise QueryTooBroad("a question names one patient at a time")
    _check_issuer(query)
    text = key.values[0].strip()
    whole = re.fullmatch(r"\*?([^*?]+)\*?", text)
    if whole is None:
        raise QueryTooBroad("a patient id across trusts is one whole NHS number, without wild cards inside it")
    try:
        return NhsNumber.parse(whole.group(1))
    except InvalidIdentifier as error:
        if text != whole.group(1):
            raise QueryTooBroad("a patient id with wild cards is accepted only round one whole NHS number") from error
        raise InvalidRequest(f"across trusts a patient is named by NHS number: {error}") from error


def _study_uids(query: Query) -> tuple[str, ...]:
    """Whole UIDs pin; what an archive might take for a wild card does not (PS3.4 C.2.2.2.1 has none in UI)."""
    key = query.key(STUDY_UID)
    uids = key.values if key is not None else ()
    if any("*" in uid or "?" in uid for uid in uids):
        raise QueryTooBroad("a study UID is accepted only whole, without wild cards")
    if not all(_UID.fullmatch(uid) for uid in uids):
        raise InvalidRequest("a study UID is 1 to 64 digits and full stops")
    return uids


def _check_issuer(query: Query) -> None:
    issuer = query.key(ISSUER_OF_PATIENT_ID)
    named = issuer.values if issuer is not None else ()
    if not all(value.strip() == "*" or is_nhs_issuer(value) for value in named):
        raise InvalidRequest("across trusts a patient is named by NHS number: the issuer must be NHS or absent")


def _accession_issuers(query: Query) -> frozenset[str]:
    named = {value.strip().upper() for key in query.keys if key.path[0] == ACCESSION_ISSUER for value in key.values}
    return frozenset(name for name in named if name.strip("*"))


def _accession_number(query: Query) -> str:
    """A whole accession number pins; one with wild cards, or a list, does not (B1). OHIF's `*x*` counts as x."""
    key = query.key(ACCESSION_NUMBER)
    if key is None or len(key.values) != 1:
        return ""
    whole = re.fullmatch(r"\*?([^*?]{4,16})\*?", key.values[0].strip())
    return whole.group(1) if whole else ""
