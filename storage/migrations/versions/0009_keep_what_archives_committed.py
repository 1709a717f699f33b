"""Keep what archives have committed themselves to, and who asked the gateway to answer for what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "commitment",
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("committed_at", storage.tables.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("archive", "sop_uid", "digest", name=op.f("pk_commitment")),
    )
    op.create_index(op.f("ix_commitment_committed_at"), "commitment", ["committed_at"])
    op.create_table(
        "commitment_asked",
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("instances", storage.tables.columns.Json(), nullable=False),
        sa.Column("asked_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("answered_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_commitment_asked")),
    )
    op.create_index(op.f("ix_commitment_asked_study_uid"), "commitment_asked", ["study_uid"])
    op.create_table(
        "commitment_transaction",
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("ae_title", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("instances", storage.tables.columns.Json(), nullable=False),
        sa.Column("received_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("decided_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("failed", storage.tables.columns.Json(), nullable=True),
        sa.Column("told_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_commitment_transaction")),
    )
    op.create_index(
        "uq_commitment_transaction_caller", "commitment_transaction", ["caller", "transaction_uid"], unique=True
    )
    is_open = sa.text("told_at IS NULL")
    op.create_index(
        "ix_commitment_transaction_open",
        "commitment_transaction",
        ["received_at"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    is_sole = sa.text("is_sole_copy")
    is_sole = sa.text("is_sole_copy")
    op.create_index(
        "ix_cache_instance_sole", "cache_instance", ["sop_uid"], sqlite_where=is_sole, postgresql_where=is_sole
    )
