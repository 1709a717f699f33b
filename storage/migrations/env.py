"""What alembic runs: migrate on the connection, and inside the transaction, that `storage.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from storage.tables.schema import metadata

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("migrations run through storage.migrate, which brings the connection")
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=False, compare_type=True
)
context.run_migrations()
