"""Transactions on the key store: a data key is found, made or opened; a patient is closed and opened again.

master key of an epoch -> patient key (one a patient and domain) -> study key (one a study, patient and domain), each
wrapped under the one above. Everything here runs inside a transaction and asks no wrapper: master keys are handed in,
and `MasterWanted` says which one is missing. Whatever makes or moves a key holds the row of the current epoch, so that
closing, rotating and making keys stand in line on PostgreSQL as they do on SQLite.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select, update

from gateway.model.errors import KeyClosed, StoreUnavailable
from gateway.model.faults import faultpoint
from gateway.model.work.transfers import KeyDomain
from storage.database import Read, Tx
from storage.keyring.tables import key_closure, key_epoch, key_store, patient_key, study_key
from storage.keyring.wrapping import KEY_BYTES, Random, WrapperEpoch, context, open_key, seal_key
from storage.tables.columns import TableRow

KEY_ID_BYTES = 16
_TRIES_MAX = 3

Masters = Mapping[str, bytes]
"""Master keys in memory, by epoch."""


class MasterWanted(Exception):
    """A transaction needs a master key that is not in memory: load it, and run the transaction again."""

    def __init__(self, epoch: EpochRow) -> None:
        super().__init__("a master key is not in memory")
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A master key as it lies there."""

    epoch_id: str
    wrapper_epoch: WrapperEpoch
    wrapped_master: bytes
    is_current: bool
    began_at: datetime

    def master(self, masters: Masters) -> bytes:
        """The master key; raises `MasterWanted`."""
        found = masters.get(self.epoch_id)
        if found is None:
            raise MasterWanted(self)
        return found


@dataclass(frozen=True, slots=True)
class StudyKey:
    """A data key, open."""

    key_id: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys: one patient's, in one domain."""

    patient_row: str
    domain: KeyDomain

    @property
    def columns(self) -> dict[str, str]:
        """As columns of every table."""
        return {"patient_row": self.patient_row, "domain": self.domain.value}

    @property
    def bound(self) -> dict[str, str]:
        """As parameters of every statement."""
        return {"of_patient": self.patient_row, "of_domain": self.domain.value}


_FOUND = (
    select(
        study_key.c.key_id,
        study_key.c.study_uid,
        study_key.c.wrapped.label("wrapped_study"),
        patient_key,
        key_epoch.c.wrapper_epoch,
        key_epoch.c.wrapped_master,
        key_epoch.c.is_current,
        key_epoch.c.began_at,
        key_closure.c.closed_at,
    )
    .join_from(study_key, patient_key, study_key.c.patient_key_id == patient_key.c.patient_key_id)
    .join(key_epoch, key_epoch.c.epoch_id == patient_key.c.epoch_id)
    .outerjoin(
        key_closure,
        (key_closure.c.patient_row == patient_key.c.patient_row) & (key_closure.c.domain == patient_key.c.domain),
    )
)
_BY_ID = _FOUND.where(study_key.c.key_id == bindparam("of_key"))
_BY_STUDY = _FOUND.where(
    study_key.c.study_uid == bindparam("of_study"),
    study_key.c.patient_row == bindparam("of_patient"),
    study_key.c.domain == bindparam("of_domain"),
)
_CLOSED = select(key_closure.c.closed_at).where(
    key_closure.c.patient_row == bindparam("of_patient"), key_closure.c.domain == bindparam("of_domain")
)
_PATIENT = (
    select(patient_key, key_epoch)
    .join_from(patient_key, key_epoch, patient_key.c.epoch_id == key_epoch.c.epoch_id)
    .where(patient_key.c.patient_row == bindparam("of_patient"), patient_key.c.domain == bindparam("of_domain"))
)
_REOPEN = (
    delete(key_closure)
    .where(key_closure.c.patient_row == bindparam("of_patient"), key_closure.c.domain == bindparam("of_domain"))
    .returning(key_closure.c.shredded_at)
)
_ADD_PATIENT, _ADD_STUDY, _ADD_CLOSURE = insert(patient_key), insert(study_key), insert(key_closure)
_HOLD = select(key_epoch).where(key_epoch.c.is_current).with_for_update()
_RAISE = update(key_store).values(generation=key_store.c.generation + 1)
_GENERATION = select(key_store.c.generation)
_EPOCHS = select(key_epoch).order_by(key_epoch.c.began_at, key_epoch.c.epoch_id)


def generation(read: Read) -> int:
    """A number that rises with every change that makes keys in memory useless."""
    return int(read.connection.execute(_GENERATION).scalar_one())


def epochs(read: Read) -> list[EpochRow]:
    """The live epochs, the oldest first."""
    return [epoch_of(row) for row in read.connection.execute(_EPOCHS)]


def open_study_key(read: Read, key_id: bytes, masters: Masters, *, even_closed: bool = False) -> StudyKey:
    """The data key of this id; raises `KeyClosed`, `MasterWanted`, `WrapRefused`."""
    row = read.connection.execute(_BY_ID, {"of_key": key_id}).one_or_none()
    if row is None or (row.closed_at is not None and not even_closed):
        raise KeyClosed("no key opens this object")
    return _opened(row, masters)


def find_study_key(read: Read, study_uid: str, owner: Owner, masters: Masters) -> StudyKey | None:
    """The data key of a study, if there is one; raises `KeyClosed`, `MasterWanted`, `WrapRefused`."""
    row = read.connection.execute(_BY_STUDY, owner.bound | {"of_study": study_uid}).one_or_none()
    if row is None:
        if read.connection.execute(_CLOSED, owner.bound).first() is not None:
            raise KeyClosed("the patient's keys are closed")
        return None
    if row.closed_at is not None:
        raise KeyClosed("the patient's keys are closed")
    return _opened(row, masters)


def make_study_key(tx: Tx, study_uid: str, owner: Owner, masters: Masters, random: Random) -> StudyKey:
    """The data key of a study, made if there is none, and the patient's with it; raises as `find_study_key`."""
    current = hold_current(tx)
    found = find_study_key(tx, study_uid, owner, masters)
    if found is not None:
        return found
    row = tx.connection.execute(_PATIENT, owner.bound).one_or_none()
    if row is None:
        _make_patient_key(tx, owner, current, masters, random)
        row = tx.connection.execute(_PATIENT, owner.bound).one_or_none()
    assert row is not None, "it was made, or had been, and the epoch is held"
    patients = open_key(epoch_of(row).master(masters), row.wrapped, patient_context(row, row.epoch_id))
    made = StudyKey(random(KEY_ID_BYTES), random(KEY_BYTES))
    values = {
        "key_id": made.key_id,
        "study_uid": study_uid,
        "patient_key_id": row.patient_key_id,
        "wrapped": seal_key(patients, made.key, _study_context(made.key_id, study_uid, row.patient_key_id), random),
    }
    faultpoint("keyring.make.before")
    tx.connection.execute(_ADD_STUDY, values | owner.columns)
    return made


def close(tx: Tx, owner: Owner) -> None:
    """From the commit on none of the owner's keys opens anything, and none is made."""
    hold_current(tx)
    faultpoint("keyring.close.before")
    if tx.connection.execute(_CLOSED, owner.bound).first() is None:
        tx.connection.execute(_ADD_CLOSURE, owner.columns | {"closed_at": tx.now})
    raise_generation(tx)


def close_all(tx: Tx, patient_rows: Collection[str], domain: KeyDomain) -> None:
    """Close a domain of several patients at once."""
    hold_current(tx)
    faultpoint("keyring.close_all.before")
    new = [Owner(patient_row, domain) for patient_row in sorted(set(patient_rows) - closed(tx, domain).keys())]
    if new:
        tx.connection.execute(_ADD_CLOSURE, [owner.columns | {"closed_at": tx.now} for owner in new])
    raise_generation(tx)


def closed(read: Read, domain: KeyDomain) -> dict[str, bool]:
    """The patients whose keys of a domain open nothing, and for whom none is made; whether those of before are gone."""
    found = select(key_closure.c.patient_row, key_closure.c.shredded_at).where(key_closure.c.domain == domain.value)
    return {row.patient_row: row.shredded_at is not None for row in read.connection.execute(found)}


def reopen(tx: Tx, owner: Owner) -> bool:
    """Keys may be made for the owner again; whether those of before are still there."""
    hold_current(tx)
    faultpoint("keyring.reopen.before")
    row = tx.connection.execute(_REOPEN, owner.bound).one_or_none()
    raise_generation(tx)
    return row is None or row.shredded_at is None


def hold_current(tx: Tx) -> EpochRow:
    """The current epoch, held until the transaction ends: whoever makes keys keeps whoever moves them waiting."""
    for _ in range(_TRIES_MAX):
        row = tx.connection.execute(_HOLD).one_or_none()
        if row is not None:  # none: the one that we waited for has just been followed by another
            return epoch_of(row)
    raise StoreUnavailable("the key store has no current epoch")


def raise_generation(tx: Tx) -> None:
    """Tell every process to forget the keys that it holds."""
    tx.connection.execute(_RAISE)


def _make_patient_key(tx: Tx, owner: Owner, current: EpochRow, masters: Masters, random: Random) -> None:
    key_id = random(KEY_ID_BYTES)
    bound_to = context("patient-key", key_id, owner.domain.value, owner.patient_row, current.epoch_id)
    values = {
        "patient_key_id": key_id,
        "epoch_id": current.epoch_id,
        "wrapped": seal_key(current.master(masters), random(KEY_BYTES), bound_to, random),
    }
    tx.connection.execute(_ADD_PATIENT, values | owner.columns)


def _opened(row: TableRow, masters: Masters) -> StudyKey:
    patients = open_key(epoch_of(row).master(masters), row.wrapped, patient_context(row, row.epoch_id))
    bound_to = _study_context(row.key_id, row.study_uid, row.patient_key_id)
    return StudyKey(row.key_id, open_key(patients, row.wrapped_study, bound_to))


def patient_context(row: TableRow, epoch_id: str) -> bytes:
    """What a patient key is bound to in an epoch."""
    return context("patient-key", row.patient_key_id, row.domain, row.patient_row, epoch_id)


def _study_context(key_id: bytes, study_uid: str, patient_key_id: bytes) -> bytes:
    return context("study-key", key_id, study_uid, patient_key_id)


def epoch_of(row: TableRow) -> EpochRow:
    """The epoch whose columns a row holds."""
    return EpochRow(
        row.epoch_id, WrapperEpoch(row.wrapper_epoch), row.wrapped_master, bool(row.is_current), row.began_at
    )
