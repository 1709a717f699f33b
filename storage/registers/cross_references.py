"""Read all identifiers of a person from one snapshot: the numbers that questions and rows are translated by.

Follows confirmed merges alone: a number that only somebody claims to be the same person's stays a person of its own
(SAF-33). Reads the register of patients as it is believed now; decides nothing and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.model.seams import CrossReference, LinkedNumber
from policy.parties import NHS_NUMBER_ISSUER, NhsNumber, PatientId
from storage.database import Read
from storage.registers import patients
from storage.registers.patients import Identifier


def read_cross_references(read: Read, identifiers: Iterable[PatientId]) -> Mapping[PatientId, CrossReference]:
    """The people whom these identifiers lead to; what leads to nobody is left out."""
    people: dict[str, CrossReference] = {}
    found: dict[PatientId, CrossReference] = {}
    for identifier in dict.fromkeys(identifiers):
        row = patients.find(read, identifier)
        if row is None:
            continue
        if row not in people:
            person = patients.person(read, row)
            reference = _cross_reference(read, person)
            people.update(dict.fromkeys(person.joined, reference))
        found[identifier] = people[row]
    return found


def _cross_reference(read: Read, person: patients.Person) -> CrossReference:
    members = {member: patients.identifiers(read, member) for member in sorted(person.joined)}
    entries = [entry for known in members.values() for entry in known]
    numbers = [entry for entry in entries if _is_nhs(entry)]
    # A row that survives may have no number of its own: then the newest of the others speaks for the person.
    of_survivor = [entry for entry in members[person.survivor_id] if _is_nhs(entry)]
    standing = max(of_survivor or numbers, key=lambda entry: entry.valid_from, default=None)
    return CrossReference(
        number=None if standing is None else NhsNumber(standing.identifier.value),
        status="" if standing is None else standing.status,
        former=frozenset(NhsNumber(entry.identifier.value) for entry in numbers if entry is not standing),
        local=tuple(LinkedNumber(entry.identifier, entry.source) for entry in entries if not _is_nhs(entry)),
    )


def _is_nhs(entry: Identifier) -> bool:
    return entry.identifier.issuer == NHS_NUMBER_ISSUER
