"""Whose a report is: the row of its NHS number, else of its hospital's own number, else nobody's yet (SAF-33).

Two people are never made one here, and no number is given to a row that did not have it: such links come from the
trusts' own registers. A name or a date of birth that does not fit the row stays in the version, for the trace on the
day of release (SAF-66).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.model.reporting.incoming import Subject
from policy.parties import NhsNumber, PatientId
from policy.release import whose
from policy.release.reports import Version
from storage.database import Read, Tx
from storage.registers import patients
from storage.registers.state import Author
from storage.release import holds

SOURCE = "reports"
"""Stands as the source of a number that a report made known."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a report is, as the registers know it."""

    patient_id: str | None
    """None: nobody's, or of two people at once; a person has to look."""
    patient: str
    """What is said of the patient, as `policy.release.whose` compares it."""


def owner_of(read: Read, subject: Subject) -> Owner | None:
    """Whose it is; None where a row is still to be made."""
    if subject.nhs_number is not None:
        row = patients.find(read, patients.nhs(subject.nhs_number))
        return None if row is None else Owner(row, subject.key)
    rows = {row for each in subject.local if (row := patients.find(read, each)) is not None}
    if len(rows) == 1:
        return _known(read, rows.pop(), subject)
    return None if subject.local and not rows else Owner(None, subject.key)


def owner_made(tx: Tx, subject: Subject, author: Author) -> Owner:
    """Whose it is; the row is made where there is none."""
    found = owner_of(tx, subject)
    if found is not None:
        return found
    identifier: PatientId = subject.local[0] if subject.nhs_number is None else patients.nhs(subject.nhs_number)
    status = "" if subject.nhs_number is None else subject.nhs_number_status
    row = patients.ensure(tx, identifier, author, source=SOURCE, status=status)
    return Owner(row, subject.key)


def as_known(read: Read, report_id: str, told: Sequence[Version]) -> tuple[Version, ...]:
    """Versions with the patients that people and registers know them to be of.

    Numbers of one confirmed merge are one number.
    """
    told = holds.as_settled(read, report_id, told)
    numbers = whose.nhs_numbers(each.patient for each in told)
    if len(numbers) < 2:
        return tuple(told)
    called: dict[str, str] = {}
    for key in sorted(numbers):
        row = patients.find(read, patients.nhs(NhsNumber(key.removeprefix(whose.NHS))))
        called[key] = key if row is None else patients.person(read, row).survivor_id
    firsts = {person: key for key, person in reversed(called.items())}
    names = {key: firsts[person] for key, person in called.items()}
    return tuple(replace(each, patient=whose.renamed(each.patient, names)) for each in told)


def _known(read: Read, row: str, subject: Subject) -> Owner:
    """A local number that its register has linked to an NHS number is the same identity as that number."""
    number = patients.nhs_number(read, row)
    return Owner(row, subject.key if number is None else whose.joined([subject.key, f"{whose.NHS}{number.digits}"]))
