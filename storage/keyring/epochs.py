"""The walk from one master key to the next: rotation, and the second half of a shred (DEC-20).

Begin an epoch at the wrapper; in one transaction make it the current one and delete what is to be shredded; re-wrap all
that is left in bounded batches; destroy the old epochs at the wrapper, then their rows. Killed anywhere it is taken up
where it stopped, because every step is decided by what the tables say. Deleting alone would not do: whoever holds an
old copy of the key store and the present master key would open it. Transactions only; `keyring.py` drives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, Table, delete, func, insert, or_, select, tuple_, update

from gateway.model.faults import faultpoint
from storage.database import Read, Tx
from storage.keyring.keeping import kept_context
from storage.keyring.rows import EpochRow, Masters, epoch_of, hold_current, patient_context, raise_generation
from storage.keyring.tables import destroyed_key, key_closure, key_epoch, key_store, patient_key, study_key
from storage.keyring.wrapping import Random, WrapperEpoch, context, open_key, seal_key


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """A master key that was just made and wrapped, before it is anywhere."""

    epoch_id: str
    wrapper_epoch: WrapperEpoch
    wrapped_master: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """Why a walk should begin."""

    has_ended: bool
    """Closures whose time to undo is over."""
    has_shreds: bool
    """Such that there are keys to destroy."""
    has_discards: bool
    """Keys given up by a custodian's keeping."""
    is_unfinished: bool
    """Epochs that were left behind by a walk."""


def master_context(epoch_id: str) -> bytes:
    """What a master key is bound to."""
    return context("master-key", epoch_id)


def due(read: Read, closed_before: datetime) -> Due:
    """What waits for a walk; closures count if they are at least as old as `closed_before`."""

    def exists(query: Select[*tuple[object, ...]]) -> bool:
        return read.connection.execute(query.limit(1)).first() is not None

    ended = select(key_closure.c.patient_row).where(_has_ended(closed_before))
    has_ended = exists(ended)
    return Due(
        has_ended=has_ended,
        has_shreds=has_ended and exists(_doomed(closed_before)),
        has_discards=bool(read.connection.execute(select(key_store.c.is_walk_due)).scalar_one()),
        is_unfinished=exists(select(key_epoch.c.epoch_id).where(~key_epoch.c.is_current)),
    )


def end_closures(tx: Tx, closed_before: datetime) -> int:
    """Delete the keys of the closures whose time is over; how many patients' keys that were.

    What a custodian keeps stays, under the custodian's wrap alone.
    """
    ids = list(tx.connection.execute(_doomed(closed_before)).scalars())
    theirs = study_key.c.patient_key_id.in_(_doomed(closed_before))
    gone = theirs & study_key.c.custodian.is_(None)
    tx.connection.execute(insert(destroyed_key).from_select(["key_id"], select(study_key.c.key_id).where(gone)))
    tx.connection.execute(delete(study_key).where(gone))
    tx.connection.execute(update(study_key).where(theirs).values(patient_key_id=None, wrapped=None))
    tx.connection.execute(delete(patient_key).where(patient_key.c.patient_key_id.in_(_doomed(closed_before))))
    tx.connection.execute(update(key_closure).where(_has_ended(closed_before)).values(shredded_at=tx.now))
    return len(ids)


def first(tx: Tx, new: NewEpoch) -> bool:
    """Give a new store its first epoch; False if it has one."""
    faultpoint("keyring.first.before")
    if tx.connection.execute(select(key_epoch.c.epoch_id).limit(1)).first() is not None:
        return False
    _insert(tx, new)
    return True


def switch(tx: Tx, new: NewEpoch, closed_before: datetime) -> int:
    """Make `new` the current epoch and delete the keys of all closures that are due; how many patients' keys."""
    faultpoint("keyring.switch.before")
    hold_current(tx)
    tx.connection.execute(update(key_epoch).values(is_current=False))
    _insert(tx, new)
    shredded = end_closures(tx, closed_before)
    tx.connection.execute(update(key_store).values(is_walk_due=False))
    return shredded


def rewrap(tx: Tx, masters: Masters, batch_max: int, random: Random) -> bool:
    """Wrap up to `batch_max` keys of old epochs under the current one; whether there were any."""
    faultpoint("keyring.rewrap.before")
    current = hold_current(tx)
    patients = select(patient_key, key_epoch).join_from(patient_key, key_epoch).where(~key_epoch.c.is_current)
    found = tx.connection.execute(patients.limit(batch_max)).all()
    for row in found:
        opened = open_key(epoch_of(row).master(masters), row.wrapped, patient_context(row, row.epoch_id))
        sealed = seal_key(current.master(masters), opened, patient_context(row, current.epoch_id), random)
        moved = update(patient_key).where(patient_key.c.patient_key_id == row.patient_key_id)
        tx.connection.execute(moved.values(epoch_id=current.epoch_id, wrapped=sealed))
    is_more = bool(found) or _rewrap_kept(tx, current, masters, batch_max, random)
    faultpoint("keyring.rewrap.after")
    return is_more


def by_use(read: Read) -> tuple[list[EpochRow], list[EpochRow]]:
    """The epochs that wrap nothing any more and never will, and those that are live."""
    patients = select(patient_key.c.epoch_id).where(patient_key.c.epoch_id == key_epoch.c.epoch_id).exists()
    custodians = select(study_key.c.kept_epoch_id).where(study_key.c.kept_epoch_id == key_epoch.c.epoch_id).exists()
    is_live = or_(key_epoch.c.is_current, patients, custodians)
    spent, live = (
        [epoch_of(row) for row in read.connection.execute(select(key_epoch).where(each))]
        for each in (~is_live, is_live)
    )
    return spent, live


def drop(tx: Tx, spent: Sequence[str]) -> None:
    """Delete the rows of epochs whose keys the wrapper has destroyed, and tell every process."""
    faultpoint("keyring.drop.before")
    hold_current(tx)
    tx.connection.execute(delete(key_epoch).where(key_epoch.c.epoch_id.in_(spent), ~key_epoch.c.is_current))
    raise_generation(tx)


@dataclass(frozen=True, slots=True)
class Census:
    """How many keys there are, and what waits."""

    epoch_began_at: datetime
    """Of the current master key."""
    epochs_live: int
    """More than one: a walk is under way, or was interrupted."""
    patient_keys: int
    study_keys: int
    kept_keys: int
    """In custodians' keeping."""
    closed: int
    """Closures that can still be undone."""
    closed_since: datetime | None
    """The oldest of them: alarm if it is much older than the time to undo."""
    is_walk_due: bool


def census(read: Read) -> Census:
    """Count."""

    def count(table: Table, *conditions: ColumnElement[bool]) -> int:
        return int(read.connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())

    waiting = key_closure.c.shredded_at.is_(None)
    current = read.connection.execute(select(key_epoch.c.began_at).where(key_epoch.c.is_current))
    return Census(
        epoch_began_at=current.scalar_one(),
        epochs_live=count(key_epoch),
        patient_keys=count(patient_key),
        study_keys=count(study_key),
        kept_keys=count(study_key, study_key.c.custodian.is_not(None)),
        closed=count(key_closure, waiting),
        closed_since=read.connection.execute(select(func.min(key_closure.c.closed_at)).where(waiting)).scalar_one(),
        is_walk_due=bool(read.connection.execute(select(key_store.c.is_walk_due)).scalar_one()),
    )


def _insert(tx: Tx, new: NewEpoch) -> None:
    values = {
        "epoch_id": new.epoch_id,
        "wrapper_epoch": new.wrapper_epoch,
        "wrapped_master": new.wrapped_master,
        "is_current": True,
        "began_at": tx.now,
    }
    tx.connection.execute(insert(key_epoch), values)


def _has_ended(closed_before: datetime) -> ColumnElement[bool]:
    return key_closure.c.shredded_at.is_(None) & (key_closure.c.closed_at <= closed_before)


def _doomed(closed_before: datetime) -> Select[bytes]:
    owners = select(key_closure.c.patient_row, key_closure.c.domain).where(_has_ended(closed_before))
    of_them = tuple_(patient_key.c.patient_row, patient_key.c.domain).in_(owners)
    return select(patient_key.c.patient_key_id).where(of_them)


def _rewrap_kept(tx: Tx, current: EpochRow, masters: Masters, batch_max: int, random: Random) -> bool:
    kept = (
        select(study_key, key_epoch)
        .join_from(study_key, key_epoch, study_key.c.kept_epoch_id == key_epoch.c.epoch_id)
        .where(~key_epoch.c.is_current)
    )
    found = tx.connection.execute(kept.limit(batch_max)).all()
    for row in found:
        names = (row.key_id, row.study_uid, row.custodian)
        opened = open_key(epoch_of(row).master(masters), row.kept_wrapped, kept_context(*names, row.kept_epoch_id))
        sealed = seal_key(current.master(masters), opened, kept_context(*names, current.epoch_id), random)
        moved = update(study_key).where(study_key.c.key_id == row.key_id)
        tx.connection.execute(moved.values(kept_epoch_id=current.epoch_id, kept_wrapped=sealed))
    return bool(found)
