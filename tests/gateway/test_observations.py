"""What a served gateway observes of its peers outlives it (C1)."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.gateway.node import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A gateway whose one peer's archive refuses connections."""
    node = Node(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    node.write(
        f'[[peer]]\ntrust = "RZ2"\nurl = "http://127.0.0.1:{port}/dicom-web"',
        "plain_http_on_loopback = true",
    )
    return node


async def standing(node: Node) -> dict[str, object]:
    """What is written down of the peer."""
    shown = (await node.run("location", "show", "--trust", "RZ2", "--json")).json
    assert isinstance(shown, dict)
    return shown


async def test_a_restart_goes_on_counting_the_failures_of_a_peer(node: Node) -> None:
    for times in (1, 2):
        async with node.serving() as serving:
            serving.signal(signal.SIGTERM)
            assert await serving.ended() == 0
        shown = await standing(node)
        assert (shown["peer_state"], shown["peer_failures"]) == ("unreachable", times)
