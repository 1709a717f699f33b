"""Find the accession numbers whose study nobody has seen by an index, in the order in which they are looked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_unseen = sa.text("kind = 'accession' AND study_uid IS NULL")
    op.create_index(
        "ix_report_study_unseen",
        "report_study",
        ["kind", "report_id", "named"],
        sqlite_where=is_unseen,
        postgresql_where=is_unseen,
    )
