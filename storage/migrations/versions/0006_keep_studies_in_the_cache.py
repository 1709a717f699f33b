"""Keep studies in the cache."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cache_pack",
        sa.Column("pack_id", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pack_id", name=op.f("pk_cache_pack")),
    )
    op.create_table(
        "cache_dead",
        sa.Column("object_id", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("extents", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_cache_dead")),
    )
    op.create_table(
        "cache_study",
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("patient", sa.LargeBinary(), nullable=False),
        sa.Column("cache_class", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=True),
        sa.Column("used_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("pinned_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("validated_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("closed_at", storage.tables.columns.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("place", "domain", "study_uid", name=op.f("pk_cache_study")),
    )
    op.create_index(op.f("ix_cache_study_patient"), "cache_study", ["patient"])
    op.create_table(
        "cache_instance",
        sa.Column("object_id", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("custodian", sa.Text(), nullable=False),
        sa.Column("patient", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("plain_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sealed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("held_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("content_digest", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("received_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("has_pixels", sa.Boolean(), nullable=False),
        sa.Column("is_sole_copy", sa.Boolean(), nullable=False),
        sa.Column("pack_id", sa.LargeBinary(), nullable=False),
        sa.Column("extents", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_cache_instance")),
    )
    op.create_index("ix_cache_instance_study", "cache_instance", ["place", "domain", "study_uid"])
    op.create_index(op.f("ix_cache_instance_pack_id"), "cache_instance", ["pack_id"])
