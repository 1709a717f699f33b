"""Keep which documents a version of a report says it follows: a draft takes back no report but the one it amends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.tables.columns import Json

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("report_version", sa.Column("follows", Json(), nullable=False, server_default="[]"))
