"""Keep what trusts tell of new studies, until it is known whose they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "location_notice",
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("told_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("next_try_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("trust", "study_uid", name=op.f("pk_location_notice")),
    )
