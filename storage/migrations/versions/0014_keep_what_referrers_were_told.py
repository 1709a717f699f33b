"""Keep what referrers were told of reports, and what they answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant, Json

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "report_referral",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("verified_at", Instant(), nullable=False),
        sa.Column("known_at", Instant(), nullable=False),
        sa.Column("alerts", Json(), nullable=False),
        sa.Column("flags", Json(), nullable=False),
        sa.Column("is_referrer_known", sa.Boolean(), nullable=False),
        sa.Column("dispatched_at", Instant(), nullable=True),
        sa.Column("dispatch_reference", sa.Text(), nullable=False),
        sa.Column("acknowledged_at", Instant(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=False),
        sa.Column("followed_up_at", Instant(), nullable=True),
        sa.Column("followed_up_by", sa.Text(), nullable=False),
        sa.Column("release_at", Instant(), nullable=True),
        sa.Column("contact_from", Instant(), nullable=True),
        sa.Column("is_standing", sa.Boolean(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("look_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("report_id", "version_id", name=op.f("pk_report_referral")),
    )
    current, looked_at = sa.text("is_current"), sa.text("look_at IS NOT NULL")
    op.create_index(
        "uq_report_referral_current",
        "report_referral",
        ["report_id"],
        unique=True,
        sqlite_where=current,
        postgresql_where=current,
    )
    op.create_index(
        "ix_report_referral_look", "report_referral", ["look_at"], sqlite_where=looked_at, postgresql_where=looked_at
    )
    op.create_index("ix_report_referral_acknowledged", "report_referral", ["acknowledged_at"])
    op.create_table(
        "report_told",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("recipients", Json(), nullable=False),
        sa.Column("told_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "version_id", "step", name=op.f("pk_report_told")),
    )
