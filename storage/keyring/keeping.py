"""Data keys in a custodian's keeping, so that a sole copy outlives its patient's key (SAF-21).

Under an opt-out an instance with no other confirmed holder is not shredded but returned to its custodian. Its data key
is wrapped a second time, under the master key and bound to the custodian; the patient's own wrap stays until it is
shredded, so that a mistaken case can be undone. Such a key opens for the custodian alone. What is given up after the
return is destroyed by the next walk, like a patient's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from gateway.model.errors import Damaged, KeyClosed
from gateway.model.faults import faultpoint
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.keyring.rows import Masters, StudyKey, epoch_of, hold_current, open_study_key
from storage.keyring.tables import destroyed_key, key_epoch, key_store, study_key
from storage.keyring.wrapping import Random, context, open_key, seal_key


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A data key in a custodian's keeping (SAF-21)."""

    key_id: bytes
    study_uid: str
    custodian: TrustId
    is_patients: bool
    """Whether the patient's own key is still there as well."""


def keep_for(tx: Tx, key_id: bytes, custodian: TrustId, masters: Masters, random: Random) -> None:
    """Wrap a data key for its custodian as well, so that it outlives the patient's; raises as `open_study_key`."""
    current = hold_current(tx)
    kept = tx.connection.execute(
        select(study_key.c.study_uid, study_key.c.custodian).where(study_key.c.key_id == key_id)
    ).one_or_none()
    if kept is not None and kept.custodian == str(custodian):
        return
    opened = open_study_key(tx, key_id, masters, even_closed=True)
    assert kept is not None, "it was found by the same snapshot"
    bound_to = kept_context(key_id, kept.study_uid, str(custodian), current.epoch_id)
    faultpoint("keyring.keep.before")
    tx.connection.execute(
        update(study_key)
        .where(study_key.c.key_id == key_id)
        .values(
            custodian=str(custodian),
            kept_epoch_id=current.epoch_id,
            kept_wrapped=seal_key(current.master(masters), opened.key, bound_to, random),
        )
    )


def open_kept(read: Read, key_id: bytes, custodian: TrustId, masters: Masters) -> StudyKey:
    """The data key that is kept for this custodian; raises `KeyClosed`, `MasterWanted`, `WrapRefused`."""
    row = read.connection.execute(
        select(study_key, key_epoch)
        .join_from(study_key, key_epoch, study_key.c.kept_epoch_id == key_epoch.c.epoch_id)
        .where(study_key.c.key_id == key_id, study_key.c.custodian == str(custodian))
    ).one_or_none()
    if row is None:
        raise KeyClosed("no key of this object is kept for the trust")
    bound_to = kept_context(key_id, row.study_uid, row.custodian, row.kept_epoch_id)
    return StudyKey(key_id, open_key(epoch_of(row).master(masters), row.kept_wrapped, bound_to))


def open_even_closed(read: Read, key_id: bytes, masters: Masters) -> StudyKey:
    """The data key of this id, whoever it is kept for; raises as `open_kept`, and `Damaged` for one never made here."""
    known = select(study_key.c.patient_key_id, study_key.c.custodian).where(study_key.c.key_id == key_id)
    row = read.connection.execute(known).one_or_none()
    if row is None:
        was = select(destroyed_key.c.key_id).where(destroyed_key.c.key_id == key_id)
        if read.connection.execute(was).first() is not None:
            raise KeyClosed("the key of this object was destroyed")
        raise Damaged("the key store never had the key of this object")
    if row.patient_key_id is not None:
        return open_study_key(read, key_id, masters, even_closed=True)
    return open_kept(read, key_id, TrustId(row.custodian), masters)


def discard_kept(tx: Tx, key_id: bytes) -> None:
    """Give up what is kept for a custodian; the next walk destroys it."""
    hold_current(tx)
    faultpoint("keyring.discard.before")
    mine = study_key.c.key_id == key_id
    gone = mine & study_key.c.patient_key_id.is_(None)
    tx.connection.execute(insert(destroyed_key).from_select(["key_id"], select(study_key.c.key_id).where(gone)))
    tx.connection.execute(delete(study_key).where(gone))
    tx.connection.execute(update(study_key).where(mine).values(custodian=None, kept_epoch_id=None, kept_wrapped=None))
    tx.connection.execute(update(key_store).values(is_walk_due=True))


def kept(read: Read, limit: int) -> Sequence[KeptKey]:
    """What is in custodians' keeping."""
    columns = (study_key.c.key_id, study_key.c.study_uid, study_key.c.custodian, study_key.c.patient_key_id)
    found = select(*columns).where(study_key.c.custodian.is_not(None)).order_by(study_key.c.key_id).limit(limit)
    return [
        KeptKey(row.key_id, row.study_uid, TrustId(row.custodian), row.patient_key_id is not None)
        for row in read.connection.execute(found)
    ]


def kept_context(key_id: bytes, study_uid: str, custodian: str, epoch_id: str) -> bytes:
    """What a kept key is bound to."""
    return context("kept-key", key_id, study_uid, custodian, epoch_id)
