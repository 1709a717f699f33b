"""The patient's page as it is served: behind the people's door with TLS, a provider, reports in memory, a clock.

A `Browser` here is an HTTP client that keeps cookies; Chromium is in `test_in_chromium.py`.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from joserfc.jwk import RSAKey
from yarl import URL

from gateway.config.release.page import PatientPageSection
from gateway.config.sections import GatewaySection
from gateway.demo.ports import free_port
from gateway.edges import patient_page
from gateway.edges.patient_page import PatientReports
from gateway.model.reporting.reading import PatientReading
from gateway.model.seams import Clock
from gateway.web import pages
from gateway.web.patient.pages import Behind
from gateway.web.patient.refusals import AuditBook
from policy.settings import Mode
from tests.clock import FakeClock
from tests.gateway.certificates import Authority
from tests.patient.memory_reading import MemoryAudit, MemoryReading, MemorySessions
from tests.patient.provider import CLIENT_ID, NhsLogin, running

BEARER_AUDIENCE = "https://reports.region.example"


class _Healthy:
    reasons: tuple[str, ...] = ()


@dataclass
class Rig:
    """Everything that a test may look at."""

    clock: FakeClock
    provider: NhsLogin
    reading: MemoryReading
    audit: MemoryAudit
    url: str
    authority: Authority
    behind: Behind

    @property
    def sessions(self) -> MemorySessions:
        """What the page keeps of who signed in."""
        book = self.behind.sessions._book
        assert isinstance(book, MemorySessions)
        return book

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """A browser without cookies."""
        tls = ssl.create_default_context(cafile=self.authority.certificate)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            yield Browser(self.url, session)

    @asynccontextmanager
    async def signed_in(self, account: str = "anne") -> AsyncIterator[Browser]:
        """A browser whose patient signed in."""
        self.provider.signed_in = account
        async with self.browser() as browser:
            answer = await browser.sign_in()
            assert answer.status == 200, answer.text
            yield browser


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str
    url: URL
    cookies: tuple[str, ...]

    @property
    def form_token(self) -> str:
        """That of the page's form."""
        found = re.search(r'name="form" value="([^"]+)"', self.text)
        assert found is not None, self.text
        return found[1]


@dataclass(frozen=True)
class Browser:
    """An HTTP client with cookies."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, *, follow: bool = True, **headers: str) -> Answer:
        """GET; `path` may be a whole address, `headers` go by their names with "_" for "-"."""
        address = URL(path if path.startswith("http") else self.url + path, encoded=True)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(address, allow_redirects=follow, headers=named) as response:
            return await _answer(response)

    async def post(self, path: str, form: dict[str, str], *, follow: bool = True, **headers: str) -> Answer:
        """POST a form; `headers` by their names with "_" for "-"."""
        address, named = self.url + path, {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(address, data=form, allow_redirects=follow, headers=named) as response:
            return await _answer(response)

    async def sign_in(self) -> Answer:
        """Go the whole way; ends at the list."""
        return await self.get("/sign-in/start")

    async def return_address(self) -> str:
        """Go as far as the provider, and give the address that it sends the browser back to."""
        to_provider = await self.get("/sign-in/start", follow=False)
        back = await self.get(to_provider.headers["Location"], follow=False)
        return back.headers["Location"]


@asynccontextmanager
async def served(
    folder: Path,
    clock: Clock,
    issuer: str,
    reading: PatientReading,
    audit: AuditBook,
    mode: Mode = Mode.DEMO,
    **settings: object,
) -> AsyncIterator[tuple[str, Authority, Behind]]:
    """The page behind the people's door; its address, the authority of its certificate, and what stands behind it."""
    authority = Authority(folder)
    files = authority.issue("localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.private_key)
    (folder / "client.key").chmod(0o600)
    more: list[web.AbstractRouteDef] = []
    runner: web.AppRunner | None = None
    port = free_port()
    section = PatientPageSection.model_validate(
        {
            "public_base_url": f"https://localhost:{port}",
            "issuer": issuer,
            "client_id": CLIENT_ID,
            "client_key": folder / "client.key",
            "bearer_audience": BEARER_AUDIENCE,
            **settings,
        }
    )
    gateway = GatewaySection(mode=mode, region="Demo region")
    behind = patient_page.opened(section, gateway, PatientReports(reading, audit, MemorySessions(clock)), clock)
    more.extend(patient_page.routes(behind))
    site = pages.Site("Demo region", "n1", "1", _Healthy(), lambda: b"", "text/plain", dict, lambda: ())
    runner = web.AppRunner(pages.people(site, _nothing, more), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "localhost", port, ssl_context=tls).start()
        yield section.public_base_url, authority, behind
    finally:
        await behind.provider.close()
        await runner.cleanup()


@asynccontextmanager
async def rigged(folder: Path, mode: Mode = Mode.DEMO, **settings: object) -> AsyncIterator[Rig]:
    """The whole of it, with a provider by our own hand."""
    clock, reading, audit = FakeClock(), MemoryReading(), MemoryAudit()
    client_key = new_client_key(folder)
    async with (
        running(NhsLogin(clock, client_key)) as provider,
        served(folder, clock, provider.url, reading, audit, mode, **settings) as (url, authority, behind),
    ):
        yield Rig(clock, provider, reading, audit, url, authority, behind)


def new_client_key(folder: Path) -> RSAKey:
    """The key by which the gateway proves who it is, written where the settings say."""
    key = RSAKey.generate_key(2048)
    path = folder / "client.key"
    path.write_bytes(key.as_pem(private=True))
    path.chmod(0o600)
    return key


@contextlib.contextmanager
def _nothing(request: web.Request) -> Iterator[None]:
    yield


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    body = await response.read()
    cookies = tuple(response.headers.getall("Set-Cookie", ()))
    return Answer(response.status, dict(response.headers), body.decode("utf-8", "replace"), response.url, cookies)
