"""Patients, trusts and acts that many storage tests begin with."""

from __future__ import annotations

from datetime import UTC, timedelta

from gateway.model.audit import AuditEntry, AuditEvent
from policy.facts import RelationshipKind, SharingChoice
from policy.optout import Case, CaseEvent, CaseTerms, Role
from policy.parties import NhsNumber, PurposeOfUse, TrustId
from storage.database import Tx
from storage.registers import labels, optouts, patients, relationships
from storage.registers.state import Author
from storage.store import SqlStore
from tests.clock import NOON

ANNE = NhsNumber.parse("9990000018")
BEN = NhsNumber.parse("9990000026")
CARA = NhsNumber.parse("9990000034")
NORTH, SOUTH, EAST = TrustId("RJ1"), TrustId("RYJ"), TrustId("RT3")
CLERK = Author("clerk", "request-1", "asked by telephone")
OFFICER = Author("officer", "request-2", "case review")
CALENDAR = optouts.Calendar(CaseTerms(), (), UTC)
DAY = timedelta(days=1)


async def patient(store: SqlStore, number: NhsNumber = ANNE) -> str:
    """The row of a patient."""
    return await store.write(lambda tx: patients.ensure(tx, patients.nhs(number), CLERK, source="test"))


async def relationship(store: SqlStore, patient_id: str, trust: TrustId = NORTH) -> str:
    """A referral since yesterday, open-ended."""
    claim = relationships.NewRelationship(
        patient_id, trust, RelationshipKind.REFERRAL, "referral letter", "test", NOON - DAY
    )
    return await store.write(lambda tx: relationships.add(tx, claim, CLERK))


async def label(store: SqlStore, patient_id: str, custodian: TrustId = SOUTH) -> str:
    """A label on one study, visible in an emergency."""
    new = labels.NewLabel(
        patient_id, custodian, "safeguarding", "1.2.3", frozenset({PurposeOfUse.ETREAT}), frozenset(), NOON - DAY
    )
    return await store.write(lambda tx: labels.add_label(tx, new, CLERK))


async def grant(store: SqlStore, patient_id: str, trust: TrustId = NORTH) -> str:
    """Eight hours from noon."""
    new = labels.NewGrant(patient_id, trust, "dr-jones", "unconscious on arrival", NOON, NOON + timedelta(hours=8))
    return await store.write(lambda tx: labels.add_grant(tx, new, CLERK))


async def case(store: SqlStore, patient_id: str, choice: SharingChoice = SharingChoice.OPT_OUT) -> Case:
    """A request that came in on paper at the store's present instant."""
    receipt = optouts.Receipt(patient_id, choice, "paper", "patient", store.clock.now())
    return await store.write(lambda tx: optouts.open_case(tx, receipt, CALENDAR, Role.OFFICER, CLERK))


async def move(store: SqlStore, case_id: str, *events: CaseEvent) -> Case:
    """Let events happen to a case, one after the other, at the store's present instant."""
    at = store.clock.now()

    def body(tx: Tx) -> Case:
        return [optouts.move_case(tx, case_id, event, Role.OFFICER, at, OFFICER) for event in events][-1]

    return await store.write(body)


def entry(text: str = "", request_id: str = "request-1") -> AuditEntry:
    """An entry like that of a question."""
    return AuditEntry(AuditEvent.QUERY_ATTEMPT, NOON, request_id, {"text": text})
