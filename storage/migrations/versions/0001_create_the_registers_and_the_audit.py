"""Create the registers and the audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "agreement_clause",
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("agreement_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("custodian", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("modalities", sa.Text(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("age_min_years", sa.Integer(), nullable=True),
        sa.Column("age_max_years", sa.Integer(), nullable=True),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_agreement_clause")),
    )
    with op.batch_alter_table("agreement_clause", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_agreement_clause_custodian"), ["custodian"], unique=False)

    op.create_table(
        "agreement_recipient",
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("recipient", "row_id", name=op.f("pk_agreement_recipient")),
    )
    op.create_table(
        "agreement_version",
        sa.Column("custodian", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("imported_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("custodian", "version", name=op.f("pk_agreement_version")),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("line", storage.tables.columns.Json(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_audit_checkpoint")),
    )
    op.create_table(
        "audit_head",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_record",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("encoded", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("node", "sequence", name=op.f("pk_audit_record")),
    )
    with op.batch_alter_table("audit_record", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_record_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_record_request_id"), ["request_id"], unique=False)

    op.create_table(
        "audit_reserve",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("filling", sa.Text(), nullable=False),
        sa.Column("drained_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_audit_reserve")),
    )
    op.create_table(
        "commit_mark",
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("at", storage.tables.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_commit_mark")),
    )
    op.create_table(
        "patient",
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("created_at", storage.tables.columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", name=op.f("pk_patient")),
    )
    op.create_table(
        "quality_item",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("custodian", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("claimed_nhs_number", sa.Text(), nullable=True),
        sa.Column("detail", storage.tables.columns.Json(), nullable=False),
        sa.Column("times_seen", sa.Integer(), nullable=False),
        sa.Column("opened_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("last_seen_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("resolved_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_quality_item")),
    )
    with op.batch_alter_table("quality_item", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_quality_item_custodian"), ["custodian"], unique=False)
        batch_op.create_index(
            "uq_quality_item_open",
            ["fingerprint"],
            unique=True,
            sqlite_where=sa.text("resolved_at IS NULL"),
            postgresql_where=sa.text("resolved_at IS NULL"),
        )

    op.create_table(
        "register_state",
        sa.Column("register", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("register", name=op.f("pk_register_state")),
    )
    op.create_table(
        "access_grant",
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=False),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_access_grant_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("grant_id", "revision", name=op.f("pk_access_grant")),
    )
    with op.batch_alter_table("access_grant", schema=None) as batch_op:
        batch_op.create_index("ix_access_grant_patient_id_trust", ["patient_id", "trust"], unique=False)

    op.create_table(
        "optout_case",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("applicant", sa.Text(), nullable=False),
        sa.Column("received_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("acknowledge_by", storage.tables.columns.Instant(), nullable=False),
        sa.Column("implement_by", storage.tables.columns.Instant(), nullable=False),
        sa.Column("restricts_provisionally", sa.Boolean(), nullable=False),
        sa.Column("acknowledged_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("verified_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("considered_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("implemented_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("confirmed_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("ended_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("closed_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.patient_id"], name=op.f("fk_optout_case_patient_id_patient")),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_optout_case")),
        sa.UniqueConstraint("sequence", name=op.f("uq_optout_case_sequence")),
    )
    with op.batch_alter_table("optout_case", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_optout_case_patient_id"), ["patient_id"], unique=False)

    op.create_table(
        "patient_identifier",
        sa.Column("identifier_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_patient_identifier_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("identifier_id", name=op.f("pk_patient_identifier")),
    )
    with op.batch_alter_table("patient_identifier", schema=None) as batch_op:
        batch_op.create_index("ix_patient_identifier_issuer_value", ["issuer", "value"], unique=False)
        batch_op.create_index(batch_op.f("ix_patient_identifier_patient_id"), ["patient_id"], unique=False)
        batch_op.create_index(
            "uq_patient_identifier_current",
            ["issuer", "value"],
            unique=True,
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )

    op.create_table(
        "patient_merge",
        sa.Column("merge_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("survivor_id", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("is_confirmed", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_patient_merge_patient_id_patient")
        ),
        sa.ForeignKeyConstraint(
            ["survivor_id"], ["patient.patient_id"], name=op.f("fk_patient_merge_survivor_id_patient")
        ),
        sa.PrimaryKeyConstraint("merge_id", "revision", name=op.f("pk_patient_merge")),
    )
    with op.batch_alter_table("patient_merge", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_patient_merge_patient_id"), ["patient_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_patient_merge_survivor_id"), ["survivor_id"], unique=False)
        batch_op.create_index(
            "uq_patient_merge_current",
            ["patient_id"],
            unique=True,
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )

    op.create_table(
        "relationship",
        sa.Column("relationship_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_relationship_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("relationship_id", "revision", name=op.f("pk_relationship")),
    )
    with op.batch_alter_table("relationship", schema=None) as batch_op:
        batch_op.create_index("ix_relationship_patient_id_trust", ["patient_id", "trust"], unique=False)

    op.create_table(
        "sensitive_label",
        sa.Column("label_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("custodian", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("visible_to", storage.tables.columns.Json(), nullable=False),
        sa.Column("teams", storage.tables.columns.Json(), nullable=False),
        sa.Column("valid_from", storage.tables.columns.Instant(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_sensitive_label_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("label_id", "revision", name=op.f("pk_sensitive_label")),
    )
    with op.batch_alter_table("sensitive_label", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sensitive_label_patient_id"), ["patient_id"], unique=False)

    op.create_table(
        "optout_choice",
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("is_provisional", sa.Boolean(), nullable=False),
        sa.Column("effective_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("superseded_at", storage.tables.columns.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["optout_case.case_id"], name=op.f("fk_optout_choice_case_id_optout_case")
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.patient_id"], name=op.f("fk_optout_choice_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_optout_choice")),
    )
    with op.batch_alter_table("optout_choice", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_optout_choice_case_id"), ["case_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_optout_choice_patient_id"), ["patient_id"], unique=False)

    op.create_table(
        "optout_event",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("recorded_at", storage.tables.columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["optout_case.case_id"], name=op.f("fk_optout_event_case_id_optout_case")),
        sa.PrimaryKeyConstraint("case_id", "number", name=op.f("pk_optout_event")),
    )
