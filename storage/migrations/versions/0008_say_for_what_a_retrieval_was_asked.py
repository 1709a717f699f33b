"""Say for what a retrieval was asked, and find who received a study."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("retrieval", sa.Column("purpose", sa.Text(), server_default="", nullable=False))
    delivered = sa.text("state IN ('sent', 'warning')")
    op.create_index(
        "ix_retrieval_instance_study",
        "retrieval_instance",
        ["study_uid"],
        sqlite_where=delivered,
        postgresql_where=delivered,
    )
