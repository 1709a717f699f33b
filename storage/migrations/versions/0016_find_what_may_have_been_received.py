"""Find at once the retrievals of which nobody knows whether all was delivered, to tell their recipients too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_in_doubt = sa.text("ended_at IS NULL OR halted = 'service'")
    op.create_index(
        "ix_retrieval_in_doubt",
        "retrieval",
        ["frozen_at"],
        sqlite_where=is_in_doubt,
        postgresql_where=is_in_doubt,
    )
