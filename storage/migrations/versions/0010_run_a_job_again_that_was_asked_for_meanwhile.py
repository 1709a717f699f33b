"""Run a job again that was asked for while it ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("is_wanted_again", sa.Boolean(), server_default=sa.false(), nullable=False))
