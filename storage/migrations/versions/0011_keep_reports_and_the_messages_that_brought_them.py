"""Keep reports, every version of each, and the messages that brought them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant, Json

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_reports()
    _create_versions()
    _create_studies()
    _create_messages()


def _create_reports() -> None:
    op.create_table(
        "report",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("report_number", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=True),
        sa.Column("patient_key", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Text(), nullable=True),
        sa.Column("exam_codes", Json(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("current_version", sa.Text(), nullable=True),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("look_at", Instant(), nullable=True),
        sa.Column("held_for", Json(), nullable=False),
        sa.Column("flags", Json(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=True),
        sa.Column("accession", sa.Text(), nullable=True),
        sa.Column("is_linked", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.patient_id"], name=op.f("fk_report_patient_id_patient")),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_report")),
    )
    op.create_index(op.f("ix_report_patient_id"), "report", ["patient_id"])
    op.create_index("uq_report_number", "report", ["trust", "report_number"], unique=True)
    op.create_index("ix_report_state", "report", ["state", "due_at"])
    for name, columns, condition in (
        ("ix_report_look", ["look_at", "report_id"], "look_at IS NOT NULL"),
        ("ix_report_unlinked", ["changed_at", "report_id"], "NOT is_linked"),
    ):
        where = sa.text(condition)
        op.create_index(name, "report", columns, sqlite_where=where, postgresql_where=where)


def _create_versions() -> None:
    op.create_table(
        "report_version",
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("stated_at", Instant(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("verified_at", Instant(), nullable=True),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column("patient_id", sa.Text(), nullable=True),
        sa.Column("patient_key", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Text(), nullable=True),
        sa.Column("exam_codes", Json(), nullable=False),
        sa.Column("text_digest", sa.Text(), nullable=False),
        sa.Column("has_content", sa.Boolean(), nullable=False),
        sa.Column("promotes", sa.Boolean(), nullable=False),
        sa.Column("is_administrative", sa.Boolean(), nullable=False),
        sa.Column("alerts", Json(), nullable=False),
        sa.Column("precedence", sa.Integer(), nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_report_version_patient_id_patient")
        ),
        sa.ForeignKeyConstraint(["report_id"], ["report.report_id"], name=op.f("fk_report_version_report_id_report")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_report_version")),
    )
    op.create_index("ix_report_version_report", "report_version", ["report_id", "stated_at", "version_id"])
    op.create_index(op.f("ix_report_version_patient_id"), "report_version", ["patient_id"])


def _create_studies() -> None:
    op.create_table(
        "report_study",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("named", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=True),
        sa.Column("linked_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("linked_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["report_id"], ["report.report_id"], name=op.f("fk_report_study_report_id_report")),
        sa.PrimaryKeyConstraint("report_id", "kind", "named", name=op.f("pk_report_study")),
    )
    op.create_index(op.f("ix_report_study_study_uid"), "report_study", ["study_uid"])
    op.create_index("ix_report_study_named", "report_study", ["kind", "named"])


def _create_messages() -> None:
    op.create_table(
        "feed_message",
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("report_ids", Json(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("settled_at", Instant(), nullable=True),
        sa.Column("settled_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_feed_message")),
    )
    op.create_index("uq_feed_message_named", "feed_message", ["trust", "feed", "message_id"], unique=True)
    op.create_index("ix_feed_message_received", "feed_message", ["trust", "feed", "received_at"])
    for name, columns, condition in (
        ("ix_feed_message_dead", ["received_at", "row_id"], "state = 'dead'"),
        ("ix_feed_message_payload", ["received_at"], "sealed IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "feed_message", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "feed_heard",
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("heard_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("trust", "feed", name=op.f("pk_feed_heard")),
    )
