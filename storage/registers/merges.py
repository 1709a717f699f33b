"""Joining two rows of one person, and parting them again (SAF-33).

NHS numbers are joined only by PDS supersession, confirmed at once, or by two named people. The rows stay: `patients`
follows the merges from one to the other, and undoing a merge leaves each with what was its own all along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import bindparam, insert, select, update

from gateway.model.errors import InvalidRequest
from policy.parties import NhsNumber
from storage.database import Read, Tx
from storage.registers import patients
from storage.registers.patients import REGISTER, patient_merge, person
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import Instant, TableRow


class MergeBasis(StrEnum):
    """On what ground two rows are held to be one person (SAF-33)."""

    PDS_SUPERSESSION = "pds-supersession"
    TWO_PEOPLE = "two-people"


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge as it stands."""

    merge_id: str
    patient_id: str
    survivor_id: str
    basis: MergeBasis
    is_confirmed: bool
    by: str
    recorded_at: datetime


_ALL_MERGES = select(patient_merge).where(patient_merge.c.superseded_at.is_(None)).order_by(patient_merge.c.merge_id)
_CLOSE_MERGE = (
    update(patient_merge)
    .where(patient_merge.c.merge_id == bindparam("of_merge"), patient_merge.c.superseded_at.is_(None))
    .values(superseded_at=bindparam("at", type_=Instant))
)


def merge(tx: Tx, patient_id: str, survivor_id: str, basis: MergeBasis, author: Author) -> str:
    """Join two rows; a PDS supersession is confirmed at once, else `confirm_merge` by a second person is awaited.

    Raises `InvalidRequest` for a row merged already, or a merge that would come back to itself.
    """
    bump_register_version(tx)
    if survivor_id in person(tx, patient_id).related:
        raise InvalidRequest("the two rows are joined already, or are one")
    if any(row.patient_id == patient_id for row in _current_merges(tx)):
        raise InvalidRequest("the patient is merged already: undo that merge first")
    merge_id = tx.new_id()
    _add_merge(tx, merge_id, 1, (patient_id, survivor_id), basis, basis is MergeBasis.PDS_SUPERSESSION, author.subject)
    record_change(tx, author, REGISTER, "merge", merge_id, {"basis": basis.value})
    return merge_id


def supersede(tx: Tx, former: NhsNumber, survivor: NhsNumber, author: Author) -> bool:
    """Join two NHS numbers because PDS says that one superseded the other; whether anything was joined.

    Nothing is, where they are joined already, where one of them is joined to somebody else, or where staff has parted
    these two before: then PDS and the register disagree, and a person has to look.
    """
    leaving, staying = (patients.find(tx, patients.nhs(number)) for number in (former, survivor))
    if (
        leaving is not None
        and staying is not None
        and (staying in person(tx, leaving).joined or _were_parted(tx, leaving, staying))
    ):
        return False
    bump_register_version(tx)
    leaving, staying = (
        patients.ensure(tx, patients.nhs(number), author, source=author.subject) for number in (former, survivor)
    )
    if staying in person(tx, leaving).joined:
        return False
    for row in _current_merges(tx):
        if (row.patient_id, row.survivor_id) == (leaving, staying):
            undo_merge(tx, row.merge_id, author)  # one person's claim so far: PDS says it better
    try:
        merge(tx, leaving, staying, MergeBasis.PDS_SUPERSESSION, author)
    except InvalidRequest:
        return False
    return True


def _were_parted(read: Read, patient_id: str, survivor_id: str) -> bool:
    """Whether staff undid a PDS supersession of these two."""
    statement = select(patient_merge.c.merge_id).where(
        patient_merge.c.patient_id == patient_id,
        patient_merge.c.survivor_id == survivor_id,
        patient_merge.c.basis == MergeBasis.PDS_SUPERSESSION.value,
        patient_merge.c.superseded_at.is_not(None),
    )
    return read.connection.execute(statement).first() is not None


def confirm_merge(tx: Tx, merge_id: str, author: Author) -> None:
    """The second person's word; raises `InvalidRequest` if it is the first person again."""
    bump_register_version(tx)
    row = _current_merge(tx, merge_id)
    if row.is_confirmed:
        raise InvalidRequest("the merge is confirmed already")
    if row.by == author.subject:
        raise InvalidRequest("a merge is confirmed by a second person")
    tx.connection.execute(_CLOSE_MERGE, {"of_merge": merge_id, "at": max(tx.now, row.recorded_at)})
    _add_merge(
        tx, merge_id, row.revision + 1, (row.patient_id, row.survivor_id), MergeBasis(row.basis), True, author.subject
    )
    record_change(tx, author, REGISTER, "confirm-merge", merge_id)


def undo_merge(tx: Tx, merge_id: str, author: Author) -> None:
    """Part two rows again; each keeps what was its own all along."""
    bump_register_version(tx)
    row = _current_merge(tx, merge_id)
    tx.connection.execute(_CLOSE_MERGE, {"of_merge": merge_id, "at": max(tx.now, row.recorded_at)})
    record_change(tx, author, REGISTER, "undo-merge", merge_id)


def merges(read: Read) -> list[Merge]:
    """Every merge that stands."""
    return [
        Merge(
            row.merge_id,
            row.patient_id,
            row.survivor_id,
            MergeBasis(row.basis),
            row.is_confirmed,
            row.by,
            row.recorded_at,
        )
        for row in _current_merges(read)
    ]


def _current_merges(read: Read) -> Iterable[TableRow]:
    return read.connection.execute(_ALL_MERGES).all()


def _current_merge(read: Read, merge_id: str) -> TableRow:
    found = next((row for row in _current_merges(read) if row.merge_id == merge_id), None)
    if found is None:
        raise InvalidRequest("no such merge")
    return found


def _add_merge(
    tx: Tx, merge_id: str, revision: int, pair: tuple[str, str], basis: MergeBasis, is_confirmed: bool, by: str
) -> None:
    values = {
        "merge_id": merge_id,
        "revision": revision,
        "patient_id": pair[0],
        "survivor_id": pair[1],
        "basis": basis.value,
        "is_confirmed": is_confirmed,
        "by": by,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(patient_merge), values)
