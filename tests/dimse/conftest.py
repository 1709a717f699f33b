"""A region with the real guard, broker and store behind the DIMSE door."""

from tests.sharing.conftest import clock, migrated_file, region, sqlite_url, store

__all__ = ["clock", "migrated_file", "region", "sqlite_url", "store"]
