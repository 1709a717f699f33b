"""Keep durable jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.tables.columns

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_READY = sa.text("state = 'ready'")
_RUNNING = sa.text("state = 'running'")
_OPEN = sa.text("state IN ('ready', 'running')")


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column("patient_row", sa.Text(), nullable=False),
        sa.Column("detail", storage.tables.columns.Json(), nullable=False),
        sa.Column("run_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_max", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("lease_until", storage.tables.columns.Instant(), nullable=True),
        sa.Column("created_at", storage.tables.columns.Instant(), nullable=False),
        sa.Column("started_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("ended_at", storage.tables.columns.Instant(), nullable=True),
        sa.Column("is_cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("instances_done", sa.BigInteger(), nullable=False),
        sa.Column("instances_total", sa.BigInteger(), nullable=True),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job")),
    )
    for name, columns, where, is_unique in (
        ("ix_job_ready", ["lane", "run_at", "job_id"], _READY, False),
        ("ix_job_running", ["lease_until"], _RUNNING, False),
        ("uq_job_dedupe", ["dedupe_key"], _OPEN, True),
        ("ix_job_patient", ["patient_row"], _OPEN, False),
    ):
        op.create_index(name, "job", columns, unique=is_unique, sqlite_where=where, postgresql_where=where)
