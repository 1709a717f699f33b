"""Keep which versions of reports came while the clock was in doubt, and how far time was counted without it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "doubted_receipt",
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("heard_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.version_id"], name=op.f("fk_doubted_receipt_version_id_report_version")
        ),
        sa.ForeignKeyConstraint(["report_id"], ["report.report_id"], name=op.f("fk_doubted_receipt_report_id_report")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_doubted_receipt")),
    )
    op.create_index(op.f("ix_doubted_receipt_report_id"), "doubted_receipt", ["report_id"])
    op.create_table(
        "counted_time",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counted_time")),
    )
