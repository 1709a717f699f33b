"""The patient's page for every test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.patient.memory_reading import CHEST
from tests.patient.rig import Rig, rigged

HTML = """<!DOCTYPE html>
<html lang="en-GB"><head><title>Your report</title><style>p { color: black; }</style></head>
<body><header><p>Northmoor</p></header><main><h1>Your report</h1><p>Clear lungs.</p></main></body></html>
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A page where Anne has one report, and Bert another."""
    async with rigged(tmp_path) as running:
        running.reading.give("9990000018", CHEST, HTML)
        yield running
