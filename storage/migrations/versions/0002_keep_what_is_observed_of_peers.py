"""Keep what is observed of peers: where imaging was seen, whose feed was heard, and how each peer fared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "patient_location",
        sa.Column("pseudonym", sa.LargeBinary(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("present_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("present_by", sa.Text(), nullable=True),
        sa.Column("absent_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("absent_by", sa.Text(), nullable=True),
        sa.Column("checked_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("pseudonym", "trust", name=op.f("pk_patient_location")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "location_feed",
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("heard_at", storage.tables.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("trust", name=op.f("pk_location_feed")),
    )
    op.create_table(
        "peer_standing",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("paused_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("last_state", sa.Text(), nullable=False),
        sa.Column("empty_state", sa.Text(), nullable=False),
        sa.Column("changed_at", storage.tables.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("node", "trust", name=op.f("pk_peer_standing")),
    )
