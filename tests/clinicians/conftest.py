"""A ward of RZ1, over a fresh store and a real sealed cache."""

from __future__ import annotations

import pytest

from storage.store import SqlStore
from tests.clinicians.ward import Ward
from tests.retrieval.conftest import travels
from tests.retrieval.travels import Travels
from tests.sharing.conftest import store
from tests.sharing.rows import ANNE

__all__ = ["store", "travels", "ward"]


@pytest.fixture
async def ward(store: SqlStore, travels: Travels) -> Ward:
    """Anne is in RZ1's care; RZ2 has one image of her."""
    ward = Ward(store, travels)
    travels.hold("RZ2", "1.2.3.1.1")
    await ward.region.refer(ANNE, to="RZ1")
    ward.lead()
    return ward
