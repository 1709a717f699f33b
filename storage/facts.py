"""Read what a decision needs, in one snapshot: every register for one recipient and some patients (SAF-01, DEC-34).

Each register is read by itself. One that cannot be read becomes a fault, the same for every patient, and the others
are read again without it on a fresh snapshot; nothing is ever guessed or remembered from an earlier question. What
restricts follows any merge, everything else only confirmed ones (SAF-33).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.model.faults import faultpoint
from gateway.model.seams import FactsSnapshot
from policy.facts import (
    Agreement,
    CareRelationship,
    Facts,
    Grant,
    ImplementedChoice,
    Register,
    SharingChoice,
    standing_opt_outs,
)
from policy.parties import NhsNumber, PatientId, TrustId
from storage.database import Read
from storage.registers import agreements, labels, optouts, patients, relationships, trusts
from storage.registers.state import ALL, STATE
from storage.tables.columns import STILL_BELIEVED, TableRow
from storage.tables.prepared import Prepared

T = TypeVar("T")
Fact = Callable[[TableRow], T]
"""How a row becomes a fact."""

NOBODY = ""
"""The row id that no patient has."""

_NO_ONE: tuple[NhsNumber | None, patients.Person] = (
    None,
    patients.Person(NOBODY, NOBODY, frozenset({NOBODY}), frozenset({NOBODY})),
)

_STATE = Prepared(STATE)
_AGREEMENTS = Prepared(agreements.IN_FORCE)
_RELATIONSHIPS = Prepared(relationships.IN_FORCE)
_CHOICES = Prepared(optouts.ACTING)
_LABELS = Prepared(labels.LABELS_IN_FORCE)
_GRANTS = Prepared(labels.GRANTS_IN_FORCE)

OF_A_PATIENT = frozenset(Register) - {Register.AGREEMENTS}
"""Registers that cannot be told for anybody while patients cannot."""


@dataclass(frozen=True, slots=True)
class Question:
    """For whom, about whom, and at what instants. `known_at` None: as believed now."""

    recipient: TrustId
    patients: tuple[NhsNumber, ...]
    at: datetime
    known_at: datetime | None
    opt_out_age_max: timedelta | None
    """A replica of the opt-out register not confirmed for longer is a fault; None: the register is kept here."""


class RegisterFault(Exception):
    """One register could not be read; the snapshot is spent."""

    def __init__(self, register: Register) -> None:
        super().__init__(register.value)
        self.register = register


def read_facts(read: Read, question: Question, faults: frozenset[Register]) -> FactsSnapshot:
    """Read everything but the registers in `faults` from one snapshot; raises `RegisterFault` for one more of them."""
    known = STILL_BELIEVED if question.known_at is None else question.known_at
    if Register.PATIENTS in faults:
        faults |= OF_A_PATIENT
    version, stale = _state(read, question)
    no_trusts: tuple[TrustId, ...] = ()
    inherited = _guarded(
        Register.RELATIONSHIPS, faults, lambda: trusts.predecessors(read, question.recipient, known), no_trusts
    )
    reading = _Reading(read, question.recipient, inherited, question.at, known, faults | stale)
    unpinned = Facts(
        register_version=version,
        patient=None,
        organisations=(),
        agreements=reading.agreements(),
        faults=faults | stale,
    )
    if not question.patients:
        reading.of_patient(None, unpinned)  # a fault shows whether or not anybody was asked about
    return FactsSnapshot(
        version, unpinned, {number: reading.of_patient(number, unpinned) for number in question.patients}
    )


def nothing_readable(question: Question, version: int) -> FactsSnapshot:
    """The answer when the registers did not answer in time: every one of them is a fault."""
    unpinned = Facts(register_version=version, patient=None, organisations=(), faults=frozenset(Register))
    return FactsSnapshot(version, unpinned, dict.fromkeys(question.patients, unpinned))


def _state(read: Read, question: Question) -> tuple[int, frozenset[Register]]:
    """The register version, and the registers that are too old to be believed."""
    version, confirmed_at = 0, None
    for row in _STATE.rows(read.connection, {}):
        if row.register == ALL:
            version = row.version
        elif row.register == Register.OPT_OUTS.value:
            confirmed_at = row.confirmed_at
    if question.opt_out_age_max is None or question.known_at is not None:
        return version, frozenset()
    is_fresh = confirmed_at is not None and read.now - confirmed_at <= question.opt_out_age_max
    return version, frozenset() if is_fresh else frozenset({Register.OPT_OUTS})


@dataclass(frozen=True, slots=True)
class _Reading:
    """The statements of one question on one snapshot."""

    read: Read
    recipient: TrustId
    inherited: tuple[TrustId, ...]
    """Retired codes whose access the recipient inherited (C3)."""
    at: datetime
    known: datetime
    faults: frozenset[Register]

    def agreements(self) -> tuple[Agreement, ...]:
        found = {clause.agreement_id: clause for clause in self._agreements_with(self.recipient)}
        for code in self.inherited:
            for clause in self._agreements_with(code):
                recipients = clause.recipients and clause.recipients | {self.recipient}
                found.setdefault(clause.agreement_id, replace(clause, recipients=recipients))
        return tuple(found.values())

    def _agreements_with(self, recipient: TrustId) -> tuple[Agreement, ...]:
        parameters = {"recipient": recipient.code, "at": self.at, "known": self.known}
        return self._rows(Register.AGREEMENTS, _AGREEMENTS, parameters, agreements.agreement)

    def of_patient(self, number: NhsNumber | None, unpinned: Facts) -> Facts:
        """An unknown patient's registers are read like a known one's: a fault, and the time it takes, tell nothing."""
        survivor, person = self._guarded(Register.PATIENTS, lambda: self._person(number), _NO_ONE)
        joined, related = sorted(person.joined), sorted(person.related)
        return replace(
            unpinned,
            patient=survivor,
            relationships=self._relationships(joined),
            choices=self._choices(joined, sorted(person.related - person.joined)),
            labels=self._of(related, Register.LABELS, _LABELS, labels.label),
            grants=self._grants(joined),
        )

    def _relationships(self, joined: Sequence[str]) -> tuple[CareRelationship, ...]:
        kind = (Register.RELATIONSHIPS, _RELATIONSHIPS, relationships.care_relationship)
        found = self._of(joined, *kind)
        for code in self.inherited:
            found += tuple(replace(each, trust=self.recipient) for each in self._of(joined, *kind, code))
        return found

    def _grants(self, joined: Sequence[str]) -> tuple[Grant, ...]:
        kind = (Register.GRANTS, _GRANTS, labels.grant)
        found = self._of(joined, *kind)
        for code in self.inherited:
            found += tuple(replace(each, trust=self.recipient) for each in self._of(joined, *kind, code))
        return found

    def _choices(self, joined: Sequence[str], claimed: Sequence[str]) -> tuple[ImplementedChoice, ...]:
        """The person's own choices, or the opt-outs alone while a row that a merge only claims to be theirs has one.

        Such an opt-out acts while it acts on its own row, whatever the person chose since; an opt-in there lifts
        nothing.
        """
        own = self._of(joined, Register.OPT_OUTS, _CHOICES, optouts.choice)
        claims: tuple[ImplementedChoice, ...] = ()
        for patient_id in claimed:
            theirs = self._of([patient_id], Register.OPT_OUTS, _CHOICES, optouts.choice)
            claims += standing_opt_outs(theirs, self.at)
        return (*(choice for choice in own if choice.choice is SharingChoice.OPT_OUT), *claims) if claims else own

    def _person(self, number: NhsNumber | None) -> tuple[NhsNumber | None, patients.Person]:
        identifier = patients.nhs(number) if number else PatientId("", "")
        patient_id = patients.find(self.read, identifier, self.known) or NOBODY
        person = patients.person(self.read, patient_id, self.known)
        if patient_id == NOBODY or person.survivor_id == patient_id:
            return None if patient_id == NOBODY else number, person
        return patients.nhs_number(self.read, person.survivor_id, self.known) or number, person

    def _of(
        self,
        patient_ids: Sequence[str],
        register: Register,
        statement: Prepared,
        fact: Fact[T],
        trust: TrustId | None = None,
    ) -> tuple[T, ...]:
        common = {"trust": (trust or self.recipient).code, "at": self.at, "known": self.known}
        found: tuple[T, ...] = ()
        for patient_id in patient_ids:
            found += self._rows(register, statement, {"patient": patient_id, **common}, fact)
        return found

    def _rows(
        self,
        register: Register,
        statement: Prepared,
        parameters: dict[str, object],
        fact: Fact[T],
    ) -> tuple[T, ...]:
        def rows() -> tuple[T, ...]:
            return tuple([fact(row) for row in statement.rows(self.read.connection, parameters)])

        return self._guarded(register, rows, ())

    def _guarded(self, register: Register, body: Callable[[], T], instead: T) -> T:
        return _guarded(register, self.faults, body, instead)


def _guarded(register: Register, faults: frozenset[Register], body: Callable[[], T], instead: T) -> T:
    """What `body` reads of a register that is not known to be at fault; raises `RegisterFault` if it is."""
    if register in faults:
        return instead
    try:
        faultpoint(f"facts.{register.value}.read")
        return body()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise  # the database is gone, not a register
        raise RegisterFault(register) from error
    except (SQLAlchemyError, ValueError, TypeError, LookupError, OSError) as error:
        raise RegisterFault(register) from error
