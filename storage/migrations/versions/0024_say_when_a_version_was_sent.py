"""Say when a version was sent beside since when it is so: of what is there already nobody knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Instant

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("report_version", sa.Column("sent_at", Instant(), nullable=True))
