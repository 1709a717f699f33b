"""Keep what is decided of reports, what channels were given of them, and what patients chose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant, Json

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_decisions()
    _create_deliveries()
    _create_standing()
    _create_patients()


def _create_decisions() -> None:
    op.create_table(
        "report_hold",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_at", Instant(), nullable=False),
        sa.Column("review_on", sa.Text(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("ended_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_report_hold")),
    )
    where = sa.text("ended_at IS NULL")
    op.create_index("ix_report_hold_in_force", "report_hold", ["report_id"], sqlite_where=where, postgresql_where=where)
    for name in ("report_early", "report_review", "report_retraction", "report_settled"):
        op.create_table(
            name,
            sa.Column("report_id", sa.Text(), nullable=False),
            sa.Column("version_id", sa.Text(), nullable=False),
            sa.Column("by", sa.Text(), nullable=False),
            sa.Column("reason", sa.Text(), nullable=False),
            sa.Column("at", Instant(), nullable=False),
            sa.PrimaryKeyConstraint("report_id", "version_id", name=op.f(f"pk_{name}")),
        )


def _create_deliveries() -> None:
    op.create_table(
        "report_delivery",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("document_key", sa.Text(), nullable=False),
        sa.Column("versions", Json(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", Instant(), nullable=True),
        sa.Column("tried_at", Instant(), nullable=True),
        sa.Column("released_at", Instant(), nullable=True),
        sa.Column("withdrawn_at", Instant(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "channel", "document_key", name=op.f("pk_report_delivery")),
    )
    where = sa.text("state IN ('refused', 'stuck', 'unknown')")
    op.create_index(
        "ix_report_delivery_stuck", "report_delivery", ["changed_at"], sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "report_release",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("released_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "version_id", name=op.f("pk_report_release")),
    )
    op.create_index(op.f("ix_report_release_released_at"), "report_release", ["released_at"])
    op.create_table(
        "report_notice",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("document_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("begun_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "version_id", name=op.f("pk_report_notice")),
    )
    where = sa.text("state IN ('notifying', 'unknown', 'failed')")
    op.create_index("ix_report_notice_open", "report_notice", ["begun_at"], sqlite_where=where, postgresql_where=where)


def _create_standing() -> None:
    op.create_table(
        "release_stop",
        sa.Column("stop_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_at", Instant(), nullable=False),
        sa.Column("review_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("ended_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("stop_id", name=op.f("pk_release_stop")),
    )
    where = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_release_stop_in_force", "release_stop", ["trust"], unique=True, sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "release_approval",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("verified_from", Instant(), nullable=False),
        sa.Column("verified_until", Instant(), nullable=False),
        sa.Column("reports", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_release_approval")),
    )
    op.create_index(op.f("ix_release_approval_trust"), "release_approval", ["trust"])
    op.create_table(
        "report_trace",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("agreement", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Text(), nullable=True),
        sa.Column("number_status", sa.Text(), nullable=False),
        sa.Column("death", sa.Text(), nullable=False),
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_report_trace")),
    )
    op.create_table(
        "release_mark",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_release_mark")),
    )


def _create_patients() -> None:
    op.create_table(
        "patient_account",
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Text(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("first_seen_at", Instant(), nullable=False),
        sa.Column("last_seen_at", Instant(), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("patient_row", name=op.f("pk_patient_account")),
    )
    op.create_table(
        "patient_choice",
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("is_not_now", sa.Boolean(), nullable=False),
        sa.Column("wants_letter", sa.Boolean(), nullable=False),
        sa.Column("wants_large_print", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("patient_row", name=op.f("pk_patient_choice")),
    )
    op.create_table(
        "patient_document",
        sa.Column("document_key", sa.Text(), nullable=False),
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("is_shown", sa.Boolean(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("put_at", Instant(), nullable=False),
        sa.Column("withdrawn_at", Instant(), nullable=True),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("document_key", name=op.f("pk_patient_document")),
    )
    op.create_index(op.f("ix_patient_document_patient_row"), "patient_document", ["patient_row"])
