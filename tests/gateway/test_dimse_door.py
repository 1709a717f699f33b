"""The DIMSE door of `gateway serve` as its operator sees it: ready, reloaded, drained, and who gets no association."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.demo.callers.answer import Outcome
from gateway.demo.callers.workstation import NoAssociation, Workstation
from gateway.demo.certificates import KeyPair
from tests.forked import Forks
from tests.gateway.certificates import Files
from tests.gateway.node import Node, Serving

ANNE = "9990000018"
OTHER_CALLER = (
    '[[caller]]\nname = "ris"\ntrust = "RZ1"\ncertificate_name = "ris.northmoor.example"\n'
    'ae_titles = ["RIS"]\nmissing_sources = "comment"\n'
)


def door_lines(node: Node, *more: str) -> dict[str, str]:
    """What makes a node's configuration one with a DIMSE door, and its PACS a caller there."""
    lines = (
        *("[listen.dimse]", "port = 0", 'ae_title = "GATEWAY"', f'certificate = "{node.own.certificate}"'),
        *(f'private_key = "{node.own.private_key}"', f'client_ca = "{node.authority.certificate}"', *more, "[audit]"),
    )
    pacs = 'certificate_name = "pacs.northmoor.example"'
    return {"[audit]": "\n".join(lines), pacs: f'{pacs}\nae_titles = ["PACS"]\nmissing_sources = "failure"'}


@pytest.fixture
def node(tmp_path: Path, forks: Forks) -> Node:
    node = Node(tmp_path, forks.start)
    node.write(replace=door_lines(node))
    return node


@asynccontextmanager
async def workstation(
    serving: Serving, files: Files | None, ae_title: str = "PACS", called: str = "GATEWAY"
) -> AsyncIterator[Workstation]:
    """A workstation that shows this certificate and title."""
    port = int(serving.dimse.partition("/")[0].rpartition(":")[2])
    pair = KeyPair(files.certificate, files.private_key) if files is not None else None
    async with Workstation(port, called, ae_title, serving.authority.certificate, pair) as station:
        yield station


async def test_it_says_where_associations_are_taken_and_takes_them(node: Node) -> None:
    async with node.serving() as serving, workstation(serving, node.pacs) as pacs:
        assert serving.dimse.startswith("127.0.0.1:")
        assert serving.dimse.endswith("/GATEWAY")
        assert await pacs.echo() == 0
        answer = await pacs.studies(PatientID=ANNE)
        assert (answer.outcome, answer.told) == (Outcome.DENIED, "no care relationship recorded; ring 01632 960001")
        _, figures = await serving.get(f"{serving.people}/metrics")
    assert "gateway_associations 1.0" in figures
    assert 'gateway_dimse_seconds_count{command="C_FIND_RQ",status="0124"} 1.0' in figures


async def test_without_its_section_there_is_no_dimse_door(node: Node) -> None:
    node.write()
    async with node.serving() as serving:
        assert serving.dimse == ""


async def test_title_certificate_and_door_must_all_be_right(node: Node) -> None:
    other = node.authority.issue("ris.northmoor.example")
    async with node.serving() as serving:
        for files, title, called in (
            (node.pacs, "RIS", "GATEWAY"),
            (node.pacs, "pacs", "GATEWAY"),
            (node.pacs, "PACS", "gateway"),
            (other, "PACS", "GATEWAY"),
            (None, "PACS", "GATEWAY"),
        ):
            async with workstation(serving, files, title, called) as stranger:
                with pytest.raises(NoAssociation):
                    await stranger.echo()
        near = await serving.logged("association rejected", reason="called-ae-title")
        assert near["differs_in_case_from"] == "GATEWAY"
        _, figures = await serving.get(f"{serving.people}/metrics")
    assert 'gateway_associations_refused_total{reason="caller-not-identified"} 3.0' in figures
    assert 'gateway_connections_refused_total{listener="dimse",reason="tls"} 1.0' in figures


async def test_neither_log_nor_figures_hold_the_patient_that_was_asked_for(node: Node) -> None:
    async with node.serving() as serving, workstation(serving, node.pacs) as pacs:
        await pacs.studies(PatientID=ANNE, PatientName="WHITFIELD*")
        await pacs.studies(PatientID=f"{ANNE}?")
        _, figures = await serving.get(f"{serving.people}/metrics")
        whole = json.dumps(serving.log) + figures
    for word in (ANNE, "WHITFIELD"):
        assert word not in whole


async def test_a_reload_brings_callers_in_and_ends_the_associations_of_those_it_removes(node: Node) -> None:
    ris = node.authority.issue("ris.northmoor.example")
    async with node.serving() as serving, workstation(serving, ris, "RIS") as other:
        with pytest.raises(NoAssociation):
            await other.echo()
        node.write(OTHER_CALLER, replace=door_lines(node))
        serving.signal(signal.SIGHUP)
        await serving.logged("reloaded", callers=2)
        assert await other.echo() == 0
        async with workstation(serving, node.pacs) as kept:
            assert await kept.echo() == 0
            node.write(replace=door_lines(node))
            serving.signal(signal.SIGHUP)
            ended = await serving.logged("association ended")
            assert ended["caller"] == "ris"
            with pytest.raises(NoAssociation):
                await other.echo()
            assert await kept.echo() == 0


async def test_a_reload_gives_a_trust_a_title_of_its_own_and_takes_it_away(node: Node) -> None:
    alias = {'ods = "RZ1"': 'ods = "RZ1"\nae_alias = "RZ1_ONLY"'}
    async with node.serving() as serving, workstation(serving, node.pacs) as usual:
        assert await usual.echo() == 0
        async with workstation(serving, node.pacs, called="RZ1_ONLY") as addressed:
            with pytest.raises(NoAssociation):
                await addressed.echo()
            node.write(replace={**door_lines(node), **alias})
            serving.signal(signal.SIGHUP)
            await serving.logged("reloaded")
            assert await addressed.echo() == 0
            node.write(replace=door_lines(node))
            serving.signal(signal.SIGHUP)
            ended = await serving.logged("association ended")
            assert ended["reason"] == "the called AE title is no longer known"
            with pytest.raises(NoAssociation):
                await addressed.echo()
        assert await usual.echo() == 0


async def test_a_certificate_revoked_by_a_reload_ends_its_association(node: Node) -> None:
    ris = node.authority.issue("ris.northmoor.example")
    node.write(OTHER_CALLER, replace=door_lines(node))
    async with (
        node.serving() as serving,
        workstation(serving, node.pacs) as cut,
        workstation(serving, ris, "RIS") as kept,
    ):
        assert (await cut.echo(), await kept.echo()) == (0, 0)
        crl = node.authority.revoke(node.pacs)
        node.write(OTHER_CALLER, replace=door_lines(node, f'crl = "{crl}"'))
        serving.signal(signal.SIGHUP)
        await serving.logged("connection closed", listener="dimse", reason="certificate revoked")
        with pytest.raises(NoAssociation):
            await cut.echo()
        assert await kept.echo() == 0


async def test_what_the_door_is_needs_a_new_start(node: Node) -> None:
    async with node.serving() as serving:
        node.write(replace={**door_lines(node), "[audit]": door_lines(node)["[audit]"].replace("GATEWAY", "OTHER")})
        serving.signal(signal.SIGHUP)
        left_out = await serving.logged("changes that need a new start were left out")
        assert left_out["sections"] == ["listen.dimse"]
        async with workstation(serving, node.pacs) as pacs:
            assert await pacs.echo() == 0


async def test_sigterm_releases_associations_on_which_nothing_is_asked(node: Node) -> None:
    async with node.serving() as serving, workstation(serving, node.pacs) as pacs:
        assert await pacs.echo() == 0
        serving.signal(signal.SIGTERM)
        assert await serving.ended() == 0
        await serving.logged("stopped")
        assert not [line for line in serving.log if line.get("event") == "cut off"]


async def test_a_find_under_way_is_answered_although_sigterm_came(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        stalled.setblocking(False)
        limits = "drain_timeout_s = 10.0"
        node.write(
            '[[peer]]\ntrust = "RZ2"\nconnector = "dimse"\nae_title = "EASTVALE_PACS"\nplain_on_loopback = true',
            f'address = "127.0.0.1:{stalled.getsockname()[1]}"',
            replace={**door_lines(node), limits: f"{limits}\nfind_timeout_s = 2.0"},
        )
        await share_and_care(node)
        async with node.serving() as serving, workstation(serving, node.pacs) as pacs:
            asking = asyncio.create_task(pacs.studies(PatientID=ANNE))
            # The probe and the question both wait at an archive that never answers.
            async with asyncio.timeout(60):
                taken = [(await asyncio.get_running_loop().sock_accept(stalled))[0] for _ in range(2)]
            serving.signal(signal.SIGTERM)
            await serving.logged("draining", under_way=1)
            answer = await asking
            assert answer.outcome is Outcome.UNREACHED
            assert "RZ2 01632 960002" in answer.told
            assert await serving.ended() == 0
        for connection in taken:
            connection.close()


async def share_and_care(node: Node) -> None:
    """Eastvale shares with everybody, and Anne is in Northmoor's care."""
    clauses = node.folder / "clauses.toml"
    clauses.write_text('custodian = "RZ2"\n[[clause]]\n', encoding="utf-8")
    relation = ("--patient", ANNE, "--trust", "RZ1", "--kind", "referral", "--evidence", "r1")
    for arguments in (("agreement", "import", str(clauses)), ("relationship", "add", *relation)):
        ended = await node.run(*arguments)
        assert ended.status == 0, ended.errors
