"""`gateway serve` as its operator sees it: starting, stopping, reloading, refusing; and whether it says how it is."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.forked import Forks
from tests.gateway.certificates import NOW
from tests.gateway.node import Node

ANNE = "9990000018"


@pytest.fixture
def node(tmp_path: Path, forks: Forks) -> Node:
    return Node(tmp_path, forks.start)


def question(serving_url: str) -> str:
    return f"{serving_url}/studies?PatientID={ANNE}"


async def test_it_says_when_it_is_ready_and_where(node: Node) -> None:
    async with node.serving() as serving:
        assert urlsplit(serving.machines).path == "/dicom-web"
        assert await serving.get(f"{serving.people}/live") == (200, '{"live": true}')
        status, body = await serving.get(f"{serving.people}/ready")
        assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})
        status, page = await serving.get(f"{serving.people}/")
        assert status == 200
        assert "Not all imaging is shared here. An empty or short list does not mean none exists." in page


async def test_a_caller_with_a_certificate_gets_a_judged_answer_and_a_stranger_no_connection(node: Node) -> None:
    async with node.serving() as serving:
        status, body = await serving.get(question(serving.machines), node.pacs)
        assert status == 403, body
        assert "no care relationship" in json.loads(body)["detail"]
        with pytest.raises(aiohttp.ClientError):
            await serving.get(question(serving.machines))
        unknown = node.authority.issue("unknown.example")
        assert (await serving.get(question(serving.machines), unknown))[0] == 401
        with pytest.raises(aiohttp.ClientError):
            await serving.get(question(serving.machines).replace("https", "http"))


async def test_neither_log_nor_figures_hold_the_patient_or_the_question(node: Node) -> None:
    async with node.serving() as serving:
        await serving.get(question(serving.machines), node.pacs)
        await serving.logged("request answered", status=403)
        _, figures = await serving.get(f"{serving.people}/metrics")
    whole = json.dumps(serving.log) + figures
    assert ANNE not in whole
    assert "PatientID" not in whole
    assert 'gateway_question_seconds_count{outcome="Denied"} 1.0' in figures
    assert 'gateway_caller_seconds_count{outcome="Denied",trust="RZ1"} 1.0' in figures


async def test_figures_are_for_operators_networks_only(node: Node) -> None:
    node.write(replace={"[audit]": 'metrics_from = ["192.0.2.0/24"]\n[audit]'})
    async with node.serving() as serving:
        assert (await serving.get(f"{serving.people}/metrics"))[0] == 404


async def test_sigterm_drains_and_the_audit_has_start_and_stop(node: Node) -> None:
    async with node.serving() as serving:
        serving.signal(signal.SIGTERM)
        assert await serving.ended() == 0
        await serving.logged("stopped")
    shown = await node.run("audit", "export", "--node", "node-1")
    events = [json.loads(line)["said"]["event"] for line in shown.output.splitlines()]
    assert (events[0], events[-1]) == ("service-start", "service-stop")
    assert (await node.run("audit", "verify")).status == 0


async def test_a_question_under_way_is_answered_although_sigterm_came(node: Node) -> None:
    stalled = socket.create_server(("127.0.0.1", 0))
    node.write(
        f'[[peer]]\ntrust = "RZ2"\nurl = "http://127.0.0.1:{stalled.getsockname()[1]}/dicom-web"',
        "plain_http_on_loopback = true",
        "[peer.limits]",
        "find_timeout_s = 2.0",
        replace={"drain_timeout_s = 10.0": "drain_timeout_s = 10.0\nfind_timeout_s = 2.0"},
    )
    await share(node)
    with stalled:
        async with node.serving() as serving:
            await serving.logged("peer probe failed")
            asking = asyncio.create_task(serving.get(question(serving.machines), node.pacs))
            # The probe and the question both wait at the archive that never answers.
            connections = await taken(stalled, 2)
            serving.signal(signal.SIGTERM)
            await serving.logged("draining")
            late = await serving.logged("peer failed")
            assert late["trust"] == "RZ2"
            status, body = await asking
            assert status == 504, body
            assert await serving.ended() == 0
        for connection in connections:
            connection.close()


async def test_a_second_gateway_of_the_same_node_is_refused_and_a_command_is_not(node: Node) -> None:
    async with node.serving():
        second = await node.run("serve")
        assert second.status == 2
        assert "another gateway serves as node-1" in second.errors
        assert (await node.run("patient", "add", "--patient", ANNE)).status == 0


async def test_an_opt_out_by_the_command_line_counts_in_the_very_next_answer(node: Node) -> None:
    await in_care(node)
    async with node.serving() as serving:
        before, _ = await serving.get(question(serving.machines), node.pacs)
        await node.run("optout", "receive", "--patient", ANNE, "--channel", "paper")
        await node.run("optout", "verify", "1")
        after, body = await serving.get(question(serving.machines), node.pacs)
    assert (before, after, body) == (200, 200, "[]"), "nobody shares yet: absence before and after"
    exported = (await node.run("audit", "export", "--node", "node-1")).output.splitlines()
    outcomes = [said for said in (json.loads(line)["said"] for line in exported) if said["event"] == "query-outcome"]
    assert [said["body"]["result"] for said in outcomes] == ["answered", "hidden"]


async def test_a_reload_takes_new_callers_trusts_and_log_level(node: Node) -> None:
    other = node.authority.issue("ris.northmoor.example")
    async with node.serving() as serving:
        assert (await serving.get(question(serving.machines), other))[0] == 401
        node.write(
            '[[caller]]\nname = "ris"\ntrust = "RZ1"\ncertificate_name = "ris.northmoor.example"',
            replace={'log_form = "json"': 'log_form = "json"\nlog_level = "debug"'},
        )
        serving.signal(signal.SIGHUP)
        await serving.logged("reloaded", callers=2)
        assert (await serving.get(question(serving.machines), other))[0] == 403


async def test_a_reload_with_a_mistake_changes_nothing_and_says_so(node: Node) -> None:
    async with node.serving() as serving:
        node.write("[[caller]]\nname = 7")
        serving.signal(signal.SIGHUP)
        refused = await serving.logged("reload refused")
        assert refused["alarm"] is True
        assert any("caller 2" in str(problem) for problem in list(map(str, refused["problems"])))  # type: ignore[call-overload]  # a list in this event
        assert (await serving.get(question(serving.machines), node.pacs))[0] == 403
        _, figures = await serving.get(f"{serving.people}/metrics")
        assert 'gateway_reloads_total{result="refused"} 1.0' in figures


async def test_what_needs_a_new_start_is_left_out_of_a_reload_by_name(node: Node) -> None:
    async with node.serving() as serving:
        node.write(replace={"drain_timeout_s = 10.0": "drain_timeout_s = 5.0"})
        serving.signal(signal.SIGHUP)
        left_out = await serving.logged("changes that need a new start were left out")
        assert left_out["sections"] == ["limits"]


async def test_a_certificate_revoked_by_a_reload_is_cut_off_and_others_are_not(node: Node) -> None:
    other = node.authority.issue("other.example")
    node.write('[[caller]]\nname = "other"\ntrust = "RZ1"\ncertificate_name = "other.example"')
    async with node.serving() as serving:
        open_session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=serving.client(node.pacs)))
        kept_session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=serving.client(other)))
        async with open_session, kept_session:
            for session in (open_session, kept_session):
                async with session.get(question(serving.machines)) as answer:
                    assert answer.status == 403
                    await answer.read()
            crl = node.authority.revoke(node.pacs)
            node.write(
                '[[caller]]\nname = "other"\ntrust = "RZ1"\ncertificate_name = "other.example"',
                replace={"[listen.people]": f'crl = "{crl}"\n[listen.people]'},
            )
            serving.signal(signal.SIGHUP)
            await serving.logged("reloaded")
            await serving.logged("connection closed", reason="certificate revoked")
            with pytest.raises(aiohttp.ClientError):
                await open_session.get(question(serving.machines))
            async with kept_session.get(question(serving.machines)) as answer:
                assert answer.status == 403


async def test_a_renewed_certificate_is_shown_to_new_connections(node: Node) -> None:
    async with node.serving() as serving:
        before = await shown_certificate(serving.people, serving.client())
        renewed = node.authority.issue("gateway.example", "localhost", "127.0.0.1")
        serving.signal(signal.SIGHUP)
        await serving.logged("reloaded")
        after = await shown_certificate(serving.people, serving.client())
    assert before != after
    assert after == ssl.PEM_cert_to_DER_cert(
        renewed.certificate.read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n"
    )


async def test_an_unreadable_register_turns_readiness_red_and_alarms_until_it_is_back(node: Node) -> None:
    await in_care(node)
    async with node.serving() as serving:
        with lost_table(node, "optout_choice"):
            assert (await serving.get(question(serving.machines), node.pacs))[0] == 503
            alarm = await serving.logged("not ready", alarm=True)
            assert alarm["reasons"] == ["register unreadable: opt-outs"]
            status, body = await serving.get(f"{serving.people}/ready")
            assert (status, json.loads(body)["reasons"]) == (503, ["register unreadable: opt-outs"])
            assert (await serving.get(f"{serving.people}/live"))[0] == 200
            _, figures = await serving.get(f"{serving.people}/metrics")
            assert 'gateway_register_readable{register="opt-outs"} 0.0' in figures
        await serving.logged("ready again")
        assert (await serving.get(f"{serving.people}/ready"))[0] == 200
        assert (await serving.get(question(serving.machines), node.pacs))[0] == 200


async def test_an_audit_that_cannot_be_written_answers_nobody_and_recovers_by_itself(node: Node) -> None:
    async with node.serving() as serving:
        with lost_table(node, "audit_head"):
            status, body = await serving.get(question(serving.machines), node.pacs)
            assert (status, json.loads(body)["detail"]) == (503, "not recorded")
            assert (await serving.get(f"{serving.people}/ready"))[0] == 503
        await serving.logged("ready again")
        assert (await serving.get(question(serving.machines), node.pacs))[0] == 403


async def test_a_certificate_near_its_end_is_warned_of(node: Node) -> None:
    node.authority.issue("gateway.example", "localhost", "127.0.0.1", not_after=NOW + timedelta(days=10))
    checked = await node.run("check")
    assert checked.status == 0
    assert "ends in 10 days" in checked.output or "ends in 9 days" in checked.output
    assert "valid (demo mode, 2 trusts, 1 callers, 0 peers)" in checked.output
    async with node.serving() as serving:
        warned = await serving.logged("certificate ends soon")
        assert warned["setting"] == "listen.machines.certificate"
        _, figures = await serving.get(f"{serving.people}/metrics")
        assert 'gateway_certificate_days_left{file="gateway.example.pem"' in figures


async def test_plain_http_is_possible_on_loopback_by_explicit_word_only(node: Node) -> None:
    node.write(replace={f'client_ca = "{node.authority.certificate}"': "plain_http_on_loopback = true"})
    async with node.serving() as serving:
        assert serving.machines.startswith("http://127.0.0.1:")
        assert (await serving.get(question(serving.machines)))[0] == 401, "nobody is bound to loopback here"
    node.write(
        replace={
            f'client_ca = "{node.authority.certificate}"': "plain_http_on_loopback = true",
            "[listen.machines]\n": '[listen.machines]\nhost = "0.0.0.0"\n',
        }
    )
    refused = await node.run("serve")
    assert refused.status == 2
    assert "plain HTTP is for loopback only" in refused.errors


async def test_a_database_rolled_back_is_refused_until_somebody_accepts_it(node: Node) -> None:
    assert (await node.run("patient", "add", "--patient", ANNE)).status == 0
    async with node.serving():
        pass
    yesterday = node.database.read_bytes()
    async with node.serving():
        pass
    node.database.write_bytes(yesterday)
    for name in ("gateway.db-wal", "gateway.db-shm"):
        node.database.with_name(name).unlink(missing_ok=True)
    refused = await node.run("serve")
    assert refused.status == 1
    assert "accept-restore" in refused.errors
    assert (await node.run("audit", "verify")).status == 1
    assert (await node.run("audit", "accept-restore", "--reason", "disk lost")).status == 0
    async with node.serving() as serving:
        assert (await serving.get(f"{serving.people}/ready"))[0] == 200
    assert (await node.run("audit", "verify")).status == 0


async def test_a_lost_signing_key_is_not_quietly_replaced(node: Node) -> None:
    async with node.serving():
        pass
    (node.folder / "var" / "keys" / "audit-signing.pem").unlink()
    refused = await node.run("serve")
    assert refused.status == 2
    assert "audit.signing_key" in refused.errors
    assert "bring the key back" in refused.errors


async def test_a_port_in_use_and_a_folder_that_is_none_are_named(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node.write(replace={"[listen.machines]\nport = 0": f"[listen.machines]\nport = {taken.getsockname()[1]}"})
        refused = await node.run("serve")
    assert refused.status == 2
    assert "listen.machines: 127.0.0.1 port" in refused.errors
    (node.folder / "file").write_text("")
    node.write(replace={'mode = "demo"': 'mode = "demo"\ndata_folder = "file"'})
    refused = await node.run("serve")
    assert refused.status == 1
    assert "not done: " in refused.errors
    assert "Traceback" not in refused.errors


async def test_ctrl_c_stops_a_long_import_between_two_batches(node: Node) -> None:
    sheet = node.folder / "relationships.csv"
    with sheet.open("w") as file:
        file.write("nhs_number,trust,kind,evidence\n")
        file.writelines(f"{number},RZ1,referral,r1\n" for number in some_numbers(20_000))
    arguments = (sys.executable, "-m", "gateway.cli", "relationship", "import", str(sheet), "--config", str(node.path))
    # Each commit lingers, so that the signal meets the import under way however fast or busy the machine is.
    environment = {**os.environ, "GATEWAY_FAULTS": "store.commit.after=sleep:250"}
    importing = await asyncio.create_subprocess_exec(
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        # A test run in the background ignores Ctrl-C, and its children would with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    await asyncio.to_thread(until_written, node)
    importing.send_signal(signal.SIGINT)
    _, errors = await importing.communicate()
    assert importing.returncode == 130, errors
    assert b"what was reported as done is done" in errors
    with closing(sqlite3.connect(node.database)) as connection:
        relationships = connection.execute("SELECT count(*) FROM relationship").fetchone()[0]
    assert relationships % 500 == 0, "whole batches, and nothing half done"
    assert (await node.run("audit", "verify")).status == 0


def some_numbers(count: int) -> Iterator[str]:
    """Synthetic NHS numbers, as many as asked for."""
    found = 0
    for stem in range(999_000_000, 999_999_999):
        total = sum(int(digit) * weight for digit, weight in zip(str(stem), range(10, 1, -1), strict=True))
        check = (11 - total % 11) % 11
        if check < 10:
            found += 1
            yield f"{stem}{check}"
        if found == count:
            return


def until_written(node: Node) -> None:
    """Wait for the first batch of an import."""
    while True:
        try:
            with closing(sqlite3.connect(f"file:{node.database}?mode=ro", uri=True, timeout=10)) as connection:
                if connection.execute("SELECT count(*) FROM relationship").fetchone()[0]:
                    return
        except sqlite3.OperationalError:
            continue  # neither file nor table yet


async def in_care(node: Node) -> None:
    """Anne is in Northmoor's care."""
    arguments = ("--patient", ANNE, "--trust", "RZ1", "--kind", "referral", "--evidence", "r1")
    done = await node.run("relationship", "add", *arguments)
    assert done.status == 0, done.errors


async def share(node: Node) -> None:
    """Anne is in Northmoor's care, and Eastvale shares with it."""
    await in_care(node)
    agreement = node.folder / "agreement.toml"
    agreement.write_text('custodian = "RZ2"\n[[clause]]\n')
    done = await node.run("agreement", "import", str(agreement))
    assert done.status == 0, done.errors


async def taken(listening: socket.socket, count: int) -> list[socket.socket]:
    """Wait until so many connections came in, and never answer them."""
    listening.setblocking(False)
    return [(await asyncio.get_running_loop().sock_accept(listening))[0] for _ in range(count)]


async def shown_certificate(url: str, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context, server_hostname="localhost")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(shown, bytes)
    return shown


@contextmanager
def lost_table(node: Node, table: str) -> Iterator[None]:
    """A table goes missing behind the gateway's back, and comes back."""

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(node.database, timeout=10)) as connection:
            connection.execute(statement)
            connection.commit()

    execute(f"ALTER TABLE {table} RENAME TO {table}_lost")
    try:
        yield
    finally:
        execute(f"ALTER TABLE {table}_lost RENAME TO {table}")
