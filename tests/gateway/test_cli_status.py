"""`gateway status`: how the region is, from the running gateway and, without one, from the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.forked import Forks
from tests.gateway.commands import Commands, gateway
from tests.gateway.node import Node

__all__ = ["gateway"]


def test_without_a_gateway_the_database_says_what_it_knows(gateway: Commands) -> None:
    gateway.do("trust", "suspend", "RZ2", "--reason", "breach")
    gateway.do("trust", "downtime", "RZ1", "--until", "2999-01-01", "--reason", "PACS upgrade")
    status, output = gateway.status("status")
    assert status == 1 and "no gateway answers here" in output
    assert "suspended" in output and "PACS upgrade" in output


def test_the_database_alone_may_be_asked(gateway: Commands) -> None:
    said = gateway.json("status", "--offline")
    assert said["gateway"] is None and [row["trust"] for row in said["trusts"]] == ["RZ1", "RZ2"]
    assert said["trusts"][0]["archive"] == "none here"


@pytest.mark.slow
async def test_a_running_gateway_says_how_it_is_and_follows_the_register_within_a_second(
    tmp_path: Path, forks: Forks
) -> None:
    node = Node(tmp_path, forks.start)
    peer = '[[peer]]\ntrust = "RZ2"\nurl = "http://127.0.0.1:9/dicom-web"\nplain_http_on_loopback = true\n'
    node.write(peer)
    async with node.serving() as serving:
        port = serving.people.rpartition(":")[2]
        node.write(peer, replace={"[listen.people]\nport = 0": f"[listen.people]\nport = {port}"})
        ended = await node.run("status")
        assert ended.status == 0, ended.errors
        assert "node-1: answers questions" in ended.output and "cannot be reached" in ended.output
        status, _ = await serving.get(f"{serving.people}/status")
        assert status == 200
        suspended = await node.run("trust", "suspend", "RZ1", "--reason", "breach")
        assert suspended.status == 0, suspended.errors
        async with asyncio.timeout(30):
            await serving.logged("standing of trusts changed")
        status, body = await serving.get(f"{serving.machines}/studies?PatientID=9990000018", node.pacs)
        assert status == 403 and "not an enrolled NHS hospital trust" in body
