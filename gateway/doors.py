"""The doors of a running node: its listeners, what stands behind each of them, and the questions under way there.

Every door leads to the core of the moment through `gateway.core.Door`; a reload gives listeners new certificates and
leaves their addresses. Starting and stopping them in order is `gateway.app`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from dicomweb import qido
from dicomweb.listener import edge, server_options
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.sections import MachinesListener, PeopleListener
from gateway.config.transport import server_files
from gateway.core import Door
from gateway.health import Health
from gateway.listener import ConnectionLimits, Listener
from gateway.metrics import CONTENT_TYPE, Figures
from gateway.model.seams import Clock
from gateway.node import new_id, release
from gateway.web import pages

CUT_OFF_S = 2.0
"""The end of the drain time, in which what still runs is cancelled and records its outcome."""


class UnderWay:
    """How many questions of machines are being answered at this moment."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold while one is answered."""
        self.count += 1
        self._none.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._none.set()

    async def until_none(self, timeout_s: float) -> None:
        """Return when none is left, or the time is up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), timeout_s)


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the doors."""

    door: Door
    health: Health
    figures: Figures
    clock: Clock


class Doors:
    """The listeners of one node. `open`; `follow` each reload; `stop_machines`, then `stop_people`."""

    def __init__(self, configuration: Configuration, behind: Behind) -> None:
        self._configuration = configuration
        self._behind = behind
        self.under_way = UnderWay()

    async def open(self, stack: AsyncExitStack) -> None:
        """Bind every door, then take connections; `stack` closes them. Raises `ConfigurationError`."""
        listen = self._configuration.listen
        self._machines = await self._http(stack, "machines", listen.machines, self._machines_application())
        self._people = await self._http(stack, "people", listen.people, self._people_application())
        self._machines.start()
        self._people.start()

    @property
    def addresses(self) -> dict[str, str]:
        """Where each door is found, by its name."""
        listen = self._configuration.listen
        return {
            "machines": _url(listen.machines, self._machines.port) + qido.PREFIX,
            "people": _url(listen.people, self._people.port),
        }

    def follow(self, configuration: Configuration) -> None:
        """Show the certificates of a new configuration, and cut off whom its revocation lists name."""
        self._configuration = configuration
        listen = configuration.listen
        for listener, where in ((self._machines, listen.machines), (self._people, listen.people)):
            files = server_files(where)
            if files is not None:
                revoked = tls.revoked_serials(files.crl) if files.crl is not None else frozenset()
                listener.secure_with(tls.server_context(files), revoked)

    async def stop_machines(self) -> None:
        """Take no more questions; those under way go on."""
        await self._machines.stop()

    async def stop_people(self) -> None:
        """Take no more probes of readiness and other requests of people."""
        await self._people.stop()

    async def _http(
        self, stack: AsyncExitStack, name: str, where: MachinesListener | PeopleListener, application: web.Application
    ) -> Listener:
        limits = self._configuration.limits
        runner = web.AppRunner(application, shutdown_timeout=CUT_OFF_S / 2, **server_options(limits))
        await runner.setup()
        server = runner.server
        assert server is not None
        listener = Listener(
            name,
            ConnectionLimits(limits.connections_max, limits.connections_per_address_max, limits.request_head_timeout_s),
            self._behind.figures,
            self._behind.clock,
            new_protocol=server,
            secure=_secure(where),
        )
        listener.open(where.host, where.port)
        stack.callback(listener.close)
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(listener.stop)
        return listener

    def _machines_application(self) -> web.Application:
        configuration, door = self._configuration, self._behind.door
        limits, origins = configuration.limits, frozenset(configuration.dicomweb.cors_origins)
        outermost = edge(limits, new_id=new_id, cors_origins=origins, under_way=self._machine_request)
        application = web.Application(middlewares=[outermost], client_max_size=limits.request_body_bytes_max)
        public_url = self._public_url() + qido.PREFIX
        application.add_routes(
            qido.routes(door, door, limits, public_url=public_url, empty=configuration.sharing.qido_empty)
        )
        return application

    def _public_url(self) -> str:
        listen = self._configuration.listen.machines
        return self._configuration.dicomweb.public_base_url.rstrip("/") or _url(listen, listen.port)

    def _people_application(self) -> web.Application:
        gateway = self._configuration.gateway
        site = pages.Site(
            region=gateway.region,
            node=gateway.node,
            version=release(),
            health=self._behind.health,
            figures=self._behind.figures.exposition,
            figures_type=CONTENT_TYPE,
            metrics_from=lambda: self._configuration.listen.people.metrics_from,
        )
        return pages.people(site, self._people_request)

    @contextlib.contextmanager
    def _machine_request(self, request: web.Request) -> Iterator[None]:
        """Hold the drain while a question is answered."""
        with self.under_way.one(), self._machines.answering(_peer_name(request)):
            yield

    def _people_request(self, request: web.Request) -> AbstractContextManager[None]:
        return self._people.answering(_peer_name(request))


def _secure(where: MachinesListener | PeopleListener) -> ssl.SSLContext | None:
    files = server_files(where)
    return tls.server_context(files) if files is not None else None


def _url(where: MachinesListener | PeopleListener, port: int) -> str:
    scheme = "http" if server_files(where) is None else "https"
    host = f"[{where.host}]" if ":" in where.host else where.host
    return f"{scheme}://{host}:{port}"


def _peer_name(request: web.Request) -> object:
    return request.transport.get_extra_info("peername") if request.transport is not None else None
