"""A stub for every test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.lookups.fhir_stub import FhirStub, running_stub


@pytest.fixture
async def stub() -> AsyncIterator[FhirStub]:
    """A stub that listens."""
    async with running_stub() as running:
        yield running
