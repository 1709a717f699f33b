"""Keep which version names the patient whom a person found to be a report's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("report_settled", sa.Column("patient_version", sa.Text(), nullable=False, server_default=""))
