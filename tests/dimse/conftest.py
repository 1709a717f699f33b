"""A region with the real guard, broker and store behind the DIMSE door."""

from tests.sharing.conftest import region, store

__all__ = ["region", "store"]
