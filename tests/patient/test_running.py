"""The page of a gateway as its operator runs it: a process with its own store, keys, audit and log."""

from __future__ import annotations

import signal
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gateway.demo.ports import free_port
from gateway.node import SystemClock
from tests.forked import Forks
from tests.gateway.node import Node
from tests.patient.provider import ANNE, CLIENT_ID, NhsLogin, running
from tests.patient.rig import Browser, new_client_key


async def test_a_patient_signs_in_at_a_running_gateway(tmp_path: Path, forks: Forks) -> None:
    node = Node(tmp_path, forks.start)
    key, port = new_client_key(tmp_path), free_port()
    url = f"https://localhost:{port}"
    async with running(NhsLogin(SystemClock(), key)) as provider:
        provider.accounts["low"] = {**ANNE, "identity_proofing_level": "P5"}
        page = f'[patient_page]\npublic_base_url = "{url}"\nissuer = "{provider.url}"\nclient_id = "{CLIENT_ID}"\n'
        people = {"[listen.people]\nport = 0": f'[listen.people]\nhost = "localhost"\nport = {port}'}
        node.write(page, 'client_key = "client.key"', replace=people)
        tls = ssl.create_default_context(cafile=node.authority.certificate)
        async with node.serving() as serving, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            browser = Browser(url, session)
            provider.signed_in = "low"
            refused = await browser.sign_in()
            assert refused.status == 403 and "prove who you are" in refused.text
            provider.signed_in = "anne"
            listed = await browser.sign_in()
            assert listed.status == 200 and "There are no reports to show." in listed.text
            assert (await browser.get("/reports/none")).status == 404
            chosen = await browser.post("/choices", {"form": listed.form_token, "not-now": "yes"})
            assert "Your choice is saved." in chosen.text
            for status, path in ((200, "/live"), (200, "/"), (404, "/reports/none"), (200, "/patient.css")):
                assert (await browser.get(path)).status == status
            node.write(page, 'client_key = "client.key"\nsession_minutes = 30', replace=people)
            serving.signal(signal.SIGHUP)
            left_out = await serving.logged("changes that need a new start were left out")
            assert left_out["sections"] == ["patient_page"]
            said = str(serving.log)
        audit = (await node.run("audit", "show", "--event", "report-refused", "--json")).output
    assert "9990000018" not in said and "Ashworth" not in said
    assert audit.count("report-refused") == 3 and "not-proven" in audit and "no-such-report" in audit, audit


@pytest.mark.peer
async def test_a_browser_is_known_to_every_process_behind_the_balancer(
    tmp_path: Path, forks: Forks, postgres_url: str
) -> None:
    nodes = [Node(tmp_path / name, forks.start) for name in ("one", "other")]
    key, ports = new_client_key(tmp_path), [free_port(), free_port()]
    first, second = (f"https://localhost:{port}" for port in ports)
    keys = tmp_path / "keys"
    keys.mkdir()
    url = postgres_url.replace("postgresql:", "postgresql+psycopg:")
    shared = f'[storage]\nurl = "{url}"\nlocation_key = "{keys}/location.key"\n'
    shared += f'[keys]\nurl = "sqlite:///{keys}/keys.db"\nfile = "{keys}/master.json"\n'
    async with running(NhsLogin(SystemClock(), key)) as provider, AsyncExitStack() as stack:
        page = f'[patient_page]\npublic_base_url = "{first}"\nissuer = "{provider.url}"\nclient_id = "{CLIENT_ID}"\n'
        for node, port in zip(nodes, ports, strict=True):
            people = {"[listen.people]\nport = 0": f'[listen.people]\nhost = "localhost"\nport = {port}'}
            audit = f'[audit]\nanchor_path = "{keys}/anchor.jsonl"\nsigning_key = "{keys}/signing.pem"'
            own = {'node = "node-1"': f'node = "node-{port}"', "[audit]": audit}
            node.write(shared, page, f'client_key = "{tmp_path}/client.key"', replace=people | own)
            await stack.enter_async_context(node.serving())
        tls = ssl.create_default_context(cafile=nodes[0].authority.certificate)
        tls.load_verify_locations(nodes[1].authority.certificate)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)))
        browser = Browser(first, session)
        back = await browser.return_address()
        landed = await browser.get(back.replace(first, second), follow=False)
        assert (landed.status, landed.headers["Location"]) == (303, "/reports")
        listed = [await browser.get(f"{each}/reports", follow=False) for each in (first, second)]
        assert [each.status for each in listed] == [200, 200]
        token = listed[1].form_token
        saved = await browser.post("/choices", {"form": token, "large-print": "yes"}, follow=False)
        assert (saved.status, saved.headers["Location"]) == (303, "/choices?saved")
        assert "You are signed out" in (await browser.post("/sign-out", {"form": token})).text
        ended = await browser.get(f"{second}/reports", follow=False)
        assert (ended.status, ended.headers["Location"]) == (303, "/sign-in")
