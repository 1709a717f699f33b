"""Databases on both engines for the tests of this folder."""

from tests.storage.databases import (
    clock,
    migrated_database,
    migrated_file,
    postgres,
    postgres_url,
    sqlite_url,
    store,
    url,
)

__all__ = ["clock", "migrated_database", "migrated_file", "postgres", "postgres_url", "sqlite_url", "store", "url"]
