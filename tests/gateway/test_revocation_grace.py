"""A revocation list that has ended counts for its grace as it last was, and then lets nobody in (SAF-39, G10)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from gateway import tls
from tests.forked import Forks
from tests.gateway.certificates import NOW, Authority, Files
from tests.gateway.node import Node, Serving

HOUR = timedelta(hours=1)
GRACE = 24 * HOUR


@pytest.fixture
def node(tmp_path: Path, forks: Forks) -> Node:
    return Node(tmp_path, forks.start)


def with_list(node: Node, *revoked: Files, ended_ago: timedelta) -> None:
    """Configure a revocation list that ended so long ago."""
    crl = node.authority.revoke(*revoked, next_update=NOW - ended_ago)
    node.write(replace={"[listen.people]": f'crl = "{crl}"\n[listen.people]'})


async def is_let_in(serving: Serving, caller: Files) -> bool:
    """Whether an answer of any kind comes."""
    try:
        await serving.get(f"{serving.machines}/studies?PatientID=9990000018", caller)
    except (aiohttp.ClientError, OSError):
        return False
    return True


def test_a_list_is_in_its_grace_from_shortly_before_its_end_until_the_grace_is_over(tmp_path: Path) -> None:
    crl = Authority(tmp_path).revoke(next_update=NOW)
    begins, ends = NOW - tls.GRACE_BEGINS_BEFORE, NOW + GRACE
    second = timedelta(seconds=1)
    asked = {at: tls.is_in_grace(crl, at, GRACE) for at in (begins - second, begins, NOW, ends - second, ends)}
    assert list(asked.values()) == [False, True, True, True, False]


@pytest.mark.slow
async def test_in_its_grace_a_list_refuses_those_on_it_and_nobody_else(node: Node) -> None:
    bad = node.authority.issue("bad.example")
    with_list(node, bad, ended_ago=HOUR)
    async with node.serving() as serving:
        assert await is_let_in(serving, node.pacs)
        assert not await is_let_in(serving, bad)
        await serving.logged("certificate is not valid", setting="listen.machines.crl")


@pytest.mark.slow
async def test_after_its_grace_nobody_is_let_in(node: Node) -> None:
    with_list(node, ended_ago=GRACE + HOUR)
    async with node.serving() as serving:
        assert not await is_let_in(serving, node.pacs)
