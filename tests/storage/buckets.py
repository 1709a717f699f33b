"""Fixture of every folder: an S3 server for the whole session. A pytest plug-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.s3 import S3, s3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Moto's, with no bucket yet."""
    with s3(tmp_path_factory.mktemp("s3") / "server.log") as server:
        yield server
