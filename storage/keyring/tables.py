"""The key store's tables, in a database of their own (`keys.db`) that no ordinary backup holds.

A master key for each epoch; a patient key for each patient and domain; a study key for each study, patient and domain;
and closures, which outlive the keys that they closed. UIDs and internal row ids stand in the clear, every key is
wrapped (docs/keys.md). Small enough to be made without revisions: `FORMAT` says which layout it is.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from storage.tables.columns import Instant

FORMAT = 1

metadata = MetaData()
"""The key store's own tables, never part of the main database."""

key_store = Table(
    "key_store",
    metadata,
    Column("store_id", Text, primary_key=True),
    Column("format", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("is_walk_due", Boolean, nullable=False),
)
"""One row. `generation` rises with whatever makes a key that somebody holds in memory useless."""

key_epoch = Table(
    "key_epoch",
    metadata,
    Column("epoch_id", Text, primary_key=True),
    Column("wrapper_epoch", Text, nullable=False),
    Column("wrapped_master", LargeBinary, nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("began_at", Instant, nullable=False),
)

patient_key = Table(
    "patient_key",
    metadata,
    Column("patient_key_id", LargeBinary, primary_key=True),
    Column("patient_row", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("epoch_id", Text, ForeignKey("key_epoch.epoch_id"), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),
    Index("uq_patient_key", "patient_row", "domain", unique=True),
)

study_key = Table(
    "study_key",
    metadata,
    Column("key_id", LargeBinary, primary_key=True),
    Column("study_uid", Text, nullable=False),
    Column("patient_row", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("patient_key_id", LargeBinary, ForeignKey("patient_key.patient_key_id"), index=True),
    Column("wrapped", LargeBinary),
    Column("custodian", Text),
    Column("kept_epoch_id", Text, ForeignKey("key_epoch.epoch_id"), index=True),
    Column("kept_wrapped", LargeBinary),
)
"""Wrapped under the patient's key, or under the master key for the custodian, or for a time both."""
_IS_PATIENTS = study_key.c.patient_key_id.is_not(None)
Index(
    "uq_study_key",
    study_key.c.study_uid,
    study_key.c.patient_row,
    study_key.c.domain,
    unique=True,
    sqlite_where=_IS_PATIENTS,
    postgresql_where=_IS_PATIENTS,
)

destroyed_key = Table(
    "destroyed_key",
    metadata,
    Column("key_id", LargeBinary, primary_key=True),
)
"""The random ids of study keys that were. What they sealed is gone; of an id that is nowhere here nobody can say so."""

key_closure = Table(
    "key_closure",
    metadata,
    Column("patient_row", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("closed_at", Instant, nullable=False),
    Column("shredded_at", Instant),
)
"""A patient's domain whose keys open nothing, and for which none is made. It outlives the keys."""
