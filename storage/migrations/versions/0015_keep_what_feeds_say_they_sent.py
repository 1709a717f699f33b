"""Keep how many reports each sender says it sent on a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feed_count",
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("told_at", Instant(), nullable=False),
        sa.Column("told_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trust", "feed", "day", name=op.f("pk_feed_count")),
    )
