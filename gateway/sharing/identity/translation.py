"""One person's numbers, translated: a hospital's into the NHS number, superseded ones forward, and both for the peers.

Whoever asks by a number of the own hospital asks for the person whom the cross-reference names (D3, D4); a trust whose
archive files under its own numbers is asked by those; and what its rows carry is read back. Only a cross-reference
that somebody recorded ever translates, never likeness (IDN-07). Pure: `people` reads the registers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.model.imaging import ISSUER_OF_PATIENT_ID, PATIENT_ID, Key, Query
from gateway.model.seams import CrossReference
from gateway.sharing.directory import PatientIdAsked, TrustEntry
from gateway.sharing.identity.patients import RowIdentity
from gateway.sharing.scope import Scope
from policy.parties import NHS_NUMBER_ISSUER, InvalidIdentifier, NhsNumber, PatientId

NUMBERS_ASKED_MAX = 8
"""Identifiers of one person that one trust is asked by, each in a question of its own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question's Patient ID names: an NHS number, a number of the caller's hospital, or perhaps either."""

    local: PatientId
    number: NhsNumber | None
    """What it would be as an NHS number, where no issuer says which of the two is meant."""
    others: tuple[PatientId, ...] = ()
    """What it would be at the other hospitals of the trust, where no issuer says which of them is meant."""


@dataclass(frozen=True, slots=True)
class OwnNumbers:
    """A trust's own numbers: its hospital's, and those of the organisations whose successor it is (C3)."""

    numberings: tuple[str, ...]
    """Who issues them, the trust itself first; its callers and archives mean any of these by a bare number."""
    issuers: frozenset[str]
    """Every name of these issuers."""
    words: frozenset[str]
    """The codes whose word about the numbers is the trust's own (SAF-34)."""

    def is_own_word(self, source: str) -> bool:
        """Whether a link with this source came from the trust's own feed."""
        return source in self.words


def own_numbers_of(entry: TrustEntry, predecessors: Iterable[TrustEntry] = ()) -> OwnNumbers:
    """A trust's own numbers, out of its entry and those of the organisations that it succeeded."""
    entries = (entry, *predecessors)
    return OwnNumbers(
        tuple(dict.fromkeys(each.issuer_of_own_numbers for each in entries)),
        frozenset().union(*(each.own_issuers for each in entries)),
        frozenset(each.trust.code for each in entries),
    )


def nhs(number: NhsNumber) -> PatientId:
    """The NHS number as an identifier with its issuer."""
    return PatientId(NHS_NUMBER_ISSUER, number.digits)


def asked_local(query: Query, hospital: OwnNumbers) -> Asked | None:
    """The number of the caller's own hospital that a question names, or may name; None if it names none.

    What else a Patient ID may be, and every refusal, is `scope.pinned_scope`'s affair.
    """
    key, issuer = query.key(PATIENT_ID), query.key(ISSUER_OF_PATIENT_ID)
    if key is None or len(key.values) != 1 or (issuer is not None and len(issuer.values) != 1):
        return None
    # Viewers write `*x*` for x; `x*` would be a search, and is refused as one.
    whole = re.fullmatch(r"(\*?)([^*?]+)\1", key.values[0].strip())
    if whole is None:
        return None
    value, named = whole.group(2).strip(), issuer.values[0].strip(" *") if issuer is not None else ""
    if named:
        own = next((one for one in hospital.issuers if one.upper() == named.upper()), None)
        return Asked(PatientId(own, value), None) if own is not None else None
    number = _number(value)
    # A bare number with ten digits whose check digit agrees is the NHS number, unless it is one of the trust's own too.
    local, *others = (PatientId(issuer, value) for issuer in hospital.numberings)
    return Asked(local, number, tuple(others)) if value else None


def by_number(query: Query, number: NhsNumber) -> Query:
    """The same question, asked by the NHS number."""
    others = tuple(key for key in query.keys if key.path not in ((PATIENT_ID,), (ISSUER_OF_PATIENT_ID,)))
    return replace(query, keys=(Key((PATIENT_ID,), "LO", (number.digits,)), *others))


def questions(query: Query, scope: Scope, person: CrossReference | None, entry: TrustEntry) -> tuple[Query, ...]:
    """The questions to one trust, `query` once for each number by which its archive may know the patient.

    None, where it files under its own numbers alone and none of them is known. At most `NUMBERS_ASKED_MAX`.
    """
    if scope.patient is None:
        return (query,)
    return tuple(_asking(query, value) for value in _numbers(scope.patient, person, entry)[:NUMBERS_ASKED_MAX])


def is_asked_in_part(scope: Scope, person: CrossReference | None, entry: TrustEntry) -> bool:
    """Whether the patient has more numbers at a trust than it is asked by."""
    return scope.patient is not None and len(_numbers(scope.patient, person, entry)) > NUMBERS_ASKED_MAX


def identifiers_to_look_up(identity: RowIdentity, entry: TrustEntry) -> frozenset[PatientId]:
    """What of a row may lead to a person: its NHS numbers, and the numbers of the answering trust itself.

    A number of a third trust proves nothing in this one's mouth.
    """
    issuers = entry.own_issuers
    return frozenset(nhs(number) for number in identity.carried) | {
        local for local in identity.local_ids if local.issuer in issuers
    }


def translated(identity: RowIdentity, entry: TrustEntry, known: Mapping[PatientId, CrossReference]) -> RowIdentity:
    """The row's identity as the cross-reference has it; the same object where it has nothing to add.

    Identifiers that lead to two people name nobody: one of the two is wrong, and nobody here can say which (IDN-06).
    """
    by_row = {(_survivor(number, known)) for number in identity.carried}
    leading = {
        local: person.number
        for local in sorted(identifiers_to_look_up(identity, entry))
        if local.issuer != NHS_NUMBER_ISSUER and (person := known.get(local)) is not None and person.number is not None
    }
    people = by_row | set(leading.values())
    if len(people) != 1:
        is_contradicted = len(people) > 1
        if identity.nhs_number is None and identity.is_contradicted is is_contradicted:
            return identity
        return replace(identity, nhs_number=None, linked_by=None, is_contradicted=is_contradicted)
    (number,) = people
    linked_by = next(iter(leading), None)
    if number == identity.nhs_number and linked_by is None:
        return identity
    return replace(identity, nhs_number=number, linked_by=linked_by, is_contradicted=False)


def _survivor(number: NhsNumber, known: Mapping[PatientId, CrossReference]) -> NhsNumber:
    person = known.get(nhs(number))
    return person.number if person is not None and person.number is not None else number


def _numbers(patient: NhsNumber, person: CrossReference | None, entry: TrustEntry) -> list[str]:
    """The numbers by which a trust's archive may know the patient, the likeliest first."""
    numbers: list[str] = []
    if entry.patient_id_asked is not PatientIdAsked.LOCAL:
        former = person.former if person is not None else frozenset()
        numbers += [patient.digits, *sorted(number.digits for number in former - {patient})]
    if entry.patient_id_asked is not PatientIdAsked.NHS_NUMBER and person is not None:
        issuers = entry.own_issuers
        numbers += sorted(each.patient_id.value for each in person.local if each.patient_id.issuer in issuers)
    return list(dict.fromkeys(numbers))


def _asking(query: Query, value: str) -> Query:
    keys = tuple(replace(key, values=(value,)) if key.path == (PATIENT_ID,) else key for key in query.keys)
    return replace(query, keys=keys)


def _number(text: str) -> NhsNumber | None:
    try:
        return NhsNumber.parse(text)
    except InvalidIdentifier:
        return None
