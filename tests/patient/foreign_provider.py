"""A provider of another hand (`oidc-provider-mock`, on authlib) in a process of its own, and what stands before it.

It knows client secrets and no signed assertion, so a relay gives it a secret in the assertion's place; everything else
passes as it is. It signs with RS256 and does not look at the verifier: what NHS login does is `provider.py`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from gateway.demo.ports import free_port
from tests.patient.provider import Claims
from tests.peers import processes
from tests.peers.processes import takes_connections


@asynccontextmanager
async def running(account: Claims, folder: Path) -> AsyncIterator[str]:
    """The provider with one account; its issuer."""
    port = free_port()
    command = (
        *(sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)),
        *("--user-claims", json.dumps(account)),
    )
    with processes.running(command, folder / "foreign-provider.log", lambda: takes_connections(port)):
        async with aiohttp.ClientSession() as session:

            async def pass_on(request: web.Request) -> web.Response:
                return await _passed_on(session, port, request)

            application = web.Application()
            application.router.add_route("*", "/{rest:.*}", pass_on)
            runner = web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "localhost", 0).start()
            try:
                yield f"http://localhost:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()


async def _passed_on(session: aiohttp.ClientSession, port: int, request: web.Request) -> web.Response:
    form = {name: str(value) for name, value in (await request.post()).items()}
    if form.pop("client_assertion", ""):
        form["client_secret"] = "a secret"
    form.pop("client_assertion_type", None)
    async with session.request(
        request.method,
        f"http://127.0.0.1:{port}{request.path_qs}",
        data=form or None,
        headers={"Host": request.host},
        allow_redirects=False,
    ) as answer:
        kept = {name: answer.headers[name] for name in ("Content-Type", "Location") if name in answer.headers}
        return web.Response(status=answer.status, body=await answer.read(), headers=kept)
