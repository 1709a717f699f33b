"""Keep the standing of trusts: enrolled, suspended, retired; stages, planned downtimes, test patients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "trust_standing",
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("successor", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("signed_by", storage.tables.columns.Json(), nullable=False),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("trust", "revision", name=op.f("pk_trust_standing")),
    )
    op.create_table(
        "trust_downtime",
        sa.Column("downtime_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("downtime_id", name=op.f("pk_trust_downtime")),
    )
    with op.batch_alter_table("trust_downtime", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trust_downtime_trust"), ["trust"], unique=False)

    op.create_table(
        "trust_test_patient",
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_trust_test_patient_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("trust", "patient_id", name=op.f("pk_trust_test_patient")),
    )
