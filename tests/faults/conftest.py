"""Databases on both engines, and a bucket, for the tests of this folder."""

from tests.storage.buckets import s3_server
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

__all__ = [
    "clock",
    "migrated_database",
    "migrated_file",
    "postgres",
    "postgres_url",
    "s3_server",
    "sqlite_url",
    "store",
    "url",
]
