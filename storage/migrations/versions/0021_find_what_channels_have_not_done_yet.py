"""Find at once what channels were asked and have not done yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_retried = sa.text("state IN ('putting', 'waiting', 'withdrawing') AND attempts > 0")
    op.create_index(
        "ix_report_delivery_retried",
        "report_delivery",
        ["report_id"],
        sqlite_where=is_retried,
        postgresql_where=is_retried,
    )
