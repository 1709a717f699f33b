"""Keep a ledger of retrievals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retrieval",
        sa.Column("retrieval_id", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("frozen_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("ended_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("halted", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("retrieval_id", name=op.f("pk_retrieval")),
    )
    op.create_index(op.f("ix_retrieval_frozen_at"), "retrieval", ["frozen_at"])
    under_way = sa.text("ended_at IS NULL")
    op.create_index("ix_retrieval_under_way", "retrieval", ["node"], sqlite_where=under_way, postgresql_where=under_way)
    op.create_table(
        "retrieval_instance",
        sa.Column("retrieval_id", sa.Text(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("noted_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("data_bytes", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["retrieval_id"], ["retrieval.retrieval_id"], name=op.f("fk_retrieval_instance_retrieval_id_retrieval")
        ),
        sa.PrimaryKeyConstraint("retrieval_id", "sop_uid", name=op.f("pk_retrieval_instance")),
    )
    op.create_index("ix_retrieval_instance_patient", "retrieval_instance", ["patient_row", "retrieval_id"])
