"""The page of a gateway as its operator runs it: a process with its own store, keys, audit and log."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import aiohttp

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
