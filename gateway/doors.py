"""The doors of a running node: its listeners, what stands behind each of them, and the questions under way there.

Every door leads to the core of the moment through `gateway.core.Door`; a reload gives listeners new certificates and
leaves their addresses, and ends the associations of who is no longer known. Starting and stopping them in order is
`gateway.app`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import orjson
import structlog
from aiohttp import web

from dicomweb import qido
from dicomweb.bodies.multipart import BOUNDARY_CHARS
from dicomweb.credentials import Callers
from dicomweb.listener import edge, server_options
from dicomweb.problem import problem_of
from dicomweb.stow import service as stow
from dicomweb.wado import service as wado
from dicomweb.wado.images import Archive
from dimse.awaited import Awaiting
from dimse.scp.commitment_scp import Commits
from dimse.scp.move_scp import Moving
from dimse.upper_layer.association import accepting
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.release.feeds import Hl7Listener
from gateway.config.sections import AnyListener, DimseListener, MachinesListener, PeopleListener
from gateway.config.transport import server_files
from gateway.core import Door
from gateway.edges import patient_page, viewer
from gateway.edges.associations import Associations, BehindAssociations, association_limits
from gateway.edges.feeds import Feeds
from gateway.edges.patient_page import PatientReports
from gateway.edges.pictures import Pictures
from gateway.health import Health
from gateway.listener import ConnectionLimits, Listener
from gateway.metrics import CONTENT_TYPE, Figures
from gateway.model.errors import GatewayError
from gateway.model.imaging import JsonValue
from gateway.model.reporting.seams import ReportIntake
from gateway.model.seams import Clock
from gateway.model.work.under_way import UnderWay
from gateway.node import new_id, release
from gateway.pixels.pool import Pool
from gateway.sharing.locations.notices import Notices
from gateway.web import pages
from gateway.web.api import service as api
from gateway.web.api.desk import Desk
from gateway.web.fhir import service as fhir
from gateway.web.viewer.installation import Installation, NotServed, examine
from policy.parties import Caller

log = structlog.get_logger(__name__)

CUT_OFF_S = 2.0
"""The end of the drain time, in which what still runs is cancelled and records its outcome."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the doors."""

    door: Door
    health: Health
    figures: Figures
    clock: Clock
    notices: Notices
    commits: Commits
    """Who answers for what was sent here."""
    awaiting: Awaiting = field(default_factory=Awaiting)
    """Who waits for what archives send to our door because they were asked."""
    reports: PatientReports | None = None
    """What the patient's page shows; None: there is no page."""
    intake: ReportIntake | None = None
    """Who takes in the reports that feeds send; None: nobody does."""
    desk: Desk | None = None
    """Where staff decide about reports; None: there is none."""


class Doors:
    """The listeners of one node. `open`; `follow` each reload; `drain`, then `stop_people`."""

    def __init__(self, configuration: Configuration, behind: Behind) -> None:
        self._configuration = configuration
        self._behind = behind
        self._associations: Associations | None = None
        self._dimse: Listener | None = None
        self._hl7: Listener | None = None
        self._feeds: Feeds | None = None
        self.under_way = UnderWay()

    async def open(self, stack: AsyncExitStack) -> None:
        """Bind every door, then take connections; `stack` closes them. Raises `ConfigurationError`."""
        listen = self._configuration.listen
        behind = self._behind
        if behind.intake is not None:
            counts = self.under_way.one
            figures = behind.figures.feeds
            self._feeds = Feeds(self._configuration, behind.intake, behind.clock, figures, counts, new_id=new_id)
        self._viewer = _examined(self._configuration.viewer.folder)
        self._pictures = Pictures(await stack.enter_async_context(Pool(self._configuration.pixels)))
        self._machines = await self._http(stack, "machines", listen.machines, self._machines_application())
        self._people = await self._http(stack, "people", listen.people, self._people_application(stack))
        if listen.dimse is not None:
            self._associations = self._behind_associations()
            self._dimse = self._dimse_listener(stack, listen.dimse, self._associations)
        if listen.hl7 is not None and self._feeds is not None:
            self._hl7 = self._hl7_listener(stack, listen.hl7, self._feeds)
        for listener in (self._machines, self._people, self._dimse, self._hl7):
            if listener is not None:
                listener.start()

    @property
    def addresses(self) -> dict[str, str]:
        """Where each door is found, by its name."""
        listen = self._configuration.listen
        found = {
            "machines": _url(listen.machines, self._machines.port) + qido.PREFIX,
            "people": _url(listen.people, self._people.port),
        }
        if listen.dimse is not None and self._dimse is not None:
            found["dimse"] = f"{_host(listen.dimse)}:{self._dimse.port}/{listen.dimse.ae_title}"
        if listen.hl7 is not None and self._hl7 is not None:
            found["hl7"] = f"{_host(listen.hl7)}:{self._hl7.port}"
        if isinstance(self._viewer, Installation):
            found["viewer"] = self._public_url() + viewer.PATH
        return found

    async def follow(self, configuration: Configuration) -> None:
        """Take a new configuration that the core follows already: certificates, and who may keep an association."""
        self._configuration = configuration
        self.renew_certificates()
        if self._associations is not None:
            self._associations.follow(configuration)
            await self._associations.door.rejudge()
        if self._feeds is not None:
            await self._feeds.follow(configuration)

    def onward(self, caller: Caller, ae_title: str) -> Moving | None:
        """See `Associations.onward`; None too where this gateway takes part in no association."""
        return self._associations.onward(caller, ae_title) if self._associations is not None else None

    def renew_certificates(self) -> None:
        """Show the certificates as the files have them now, for new connections; cut off whoever is revoked."""
        listen = self._configuration.listen
        for listener, where in (
            (self._machines, listen.machines),
            (self._people, listen.people),
            (self._dimse, listen.dimse),
            (self._hl7, listen.hl7),
        ):
            if listener is not None and where is not None and server_files(where) is not None:
                listener.secure_with(*self._secured(where))

    async def drain(self, timeout_s: float) -> None:
        """Take no more questions; return when those under way are answered, or the time is up."""
        await self._machines.stop()
        for listener in (self._dimse, self._hl7):
            if listener is not None:
                await listener.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self._associations is not None:
                    await self._associations.door.stop()
                if self._feeds is not None:
                    await self._feeds.mllp.stop()
                await self.under_way.until_none()

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
        secure, revoked = self._secured(where)
        listener = Listener(
            name,
            ConnectionLimits(limits.connections_max, limits.connections_per_address_max, limits.request_head_timeout_s),
            self._behind.figures,
            self._behind.clock,
            new_protocol=server,
            secure=secure,
            revoked=revoked,
        )
        listener.open(where.host, where.port)
        stack.callback(listener.close)
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(listener.stop)
        return listener

    def _behind_associations(self) -> Associations:
        behind = self._behind
        services = BehindAssociations(
            behind.door,
            behind.figures,
            behind.clock,
            behind.notices,
            behind.awaiting,
            behind.commits,
            transcoder=self._pictures,
        )
        return Associations(self._configuration, services, self.under_way.one)

    def _dimse_listener(self, stack: AsyncExitStack, where: DimseListener, associations: Associations) -> Listener:
        limits = self._configuration.limits
        secure, revoked = self._secured(where)
        listener = Listener(
            "dimse",
            ConnectionLimits(
                limits.dimse_connections_max, limits.dimse_connections_per_address_max, limits.artim_timeout_s
            ),
            self._behind.figures,
            self._behind.clock,
            new_protocol=accepting(associations.door, association_limits(limits)),
            secure=secure,
            revoked=revoked,
            keeps_own_time=True,
        )
        listener.open(where.host, where.port)
        stack.callback(listener.close)
        stack.push_async_callback(_end_associations, associations)
        stack.push_async_callback(listener.stop)
        return listener

    def _hl7_listener(self, stack: AsyncExitStack, where: Hl7Listener, feeds: Feeds) -> Listener:
        secure, revoked = self._secured(where)
        limits = ConnectionLimits(
            where.connections_max, where.connections_per_address_max, self._configuration.limits.artim_timeout_s
        )
        listener = Listener(
            "hl7",
            limits,
            self._behind.figures,
            self._behind.clock,
            new_protocol=feeds.mllp.connection,
            secure=secure,
            revoked=revoked,
            keeps_own_time=True,
        )
        listener.open(where.host, where.port)
        stack.callback(listener.close)
        stack.callback(feeds.mllp.close)
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
        callers = Callers(door)
        archive = Archive(door, callers, limits, public_url, new_boundary=_boundary, transcoder=self._pictures)
        application.add_routes(wado.routes(archive, self._pictures))
        application.add_routes(stow.routes(stow.Desk(door, callers, limits, public_url)))
        behind = fhir.Behind(door.reading, callers.caller_of, _told, self._public_url(), release(), self._behind.clock)
        application.add_routes(fhir.routes(behind))
        if self._behind.desk is not None:
            application.add_routes(api.routes(self._behind.desk, callers.caller_of, release()))
        if self._feeds is not None:
            application.add_routes(self._feeds.fhir.routes())
        if isinstance(self._viewer, Installation):
            region = configuration.gateway.region
            application.add_routes(viewer.routes(viewer.Viewer(self._viewer, callers, public_url, region)))
        return application

    def _public_url(self) -> str:
        listen = self._configuration.listen.machines
        return self._configuration.dicomweb.public_base_url.rstrip("/") or _url(listen, listen.port)

    def _people_application(self, stack: AsyncExitStack) -> web.Application:
        gateway = self._configuration.gateway
        site = pages.Site(
            region=gateway.region,
            node=gateway.node,
            version=release(),
            health=self._behind.health,
            figures=self._behind.figures.exposition,
            figures_type=CONTENT_TYPE,
            status=self._status,
            metrics_from=lambda: self._configuration.listen.people.metrics_from,
        )
        return pages.people(site, self._people_request, self._patient_routes(stack))

    def _patient_routes(self, stack: AsyncExitStack) -> list[web.RouteDef]:
        """The patient's page, where the configuration has one."""
        section, reports = self._configuration.patient_page, self._behind.reports
        if section is None or reports is None:
            return []
        page = patient_page.opened(section, self._configuration.gateway, reports, self._behind.clock)
        stack.push_async_callback(page.provider.close)
        return patient_page.routes(page)

    def _secured(self, where: AnyListener) -> tuple[ssl.SSLContext | None, frozenset[int]]:
        """A door's context, and who is revoked; a revocation list that has ended counts for its grace (SAF-39)."""
        files = server_files(where)
        if files is None or files.crl is None:
            return (tls.server_context(files) if files is not None else None), frozenset()
        grace = timedelta(hours=self._configuration.limits.crl_stale_grace_hours)
        is_in_grace = tls.is_in_grace(files.crl, self._behind.clock.now(), grace)
        return tls.server_context(files, checks_crl=not is_in_grace), tls.revoked_serials(files.crl)

    def _status(self) -> dict[str, JsonValue]:
        """This node as people ask after it: nothing of a patient, and nothing that moves with what registers hold."""
        behind = self._behind
        reasons: list[JsonValue] = [*behind.health.reasons]
        return {
            "node": self._configuration.gateway.node,
            "version": release(),
            "ready": not reasons,
            "reasons": reasons,
            "doors": {**self.addresses},
            "viewer": "served" if isinstance(self._viewer, Installation) else f"not served: {self._viewer.reason}",
            "under_way": self.under_way.count,
            **behind.figures.summary(behind.clock.now()),
        }

    @contextlib.contextmanager
    def _machine_request(self, request: web.Request) -> Iterator[None]:
        """Hold the drain while a question is answered."""
        with self.under_way.one(), self._machines.answering(_peer_name(request)):
            yield

    def _people_request(self, request: web.Request) -> AbstractContextManager[None]:
        return self._people.answering(_peer_name(request))


def _told(error: GatewayError) -> fhir.Told:
    """An error as the machines' door tells it everywhere."""
    problem = problem_of(error, "")
    said = orjson.loads(problem.body)
    return fhir.Told(problem.status, said.get("detail") or said["title"], dict(problem.headers))


def _boundary() -> str:
    return secrets.token_hex(BOUNDARY_CHARS // 2)


def _examined(folder: Path) -> Installation | NotServed:
    """The viewer, if the one that is known lies in its folder; it is said if not."""
    found = examine(folder)
    if isinstance(found, NotServed):
        if found.is_alarming:
            log.error("viewer not served", alarm=True, reason=found.reason)
        else:
            log.info("viewer not served", reason=found.reason)
    return found


async def _end_associations(associations: Associations) -> None:
    """Cut off what the drain did not see end; what is cancelled by that records its outcome."""
    associations.close()
    associations.door.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(associations.door.stop(), CUT_OFF_S)


def _url(where: MachinesListener | PeopleListener, port: int) -> str:
    scheme = "http" if server_files(where) is None else "https"
    return f"{scheme}://{_host(where)}:{port}"


def _host(where: AnyListener) -> str:
    return f"[{where.host}]" if ":" in where.host else where.host


def _peer_name(request: web.Request) -> object:
    return request.transport.get_extra_info("peername") if request.transport is not None else None
