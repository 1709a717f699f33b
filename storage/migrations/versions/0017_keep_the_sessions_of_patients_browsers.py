"""Keep the sessions of patients' browsers, for every process to find."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "patient_session",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_patient_session")),
    )
    op.create_index(op.f("ix_patient_session_seen_at"), "patient_session", ["seen_at"])
