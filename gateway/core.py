"""Build the core from the configuration: directory, peers, gate and broker, as one value that a reload replaces.

Nothing here opens a socket or a file but certificates. `Door` is what the edges hold: it always leads to the core of
this moment, so that a reload needs no edge to know of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import assert_never

import structlog

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile
from dicomweb.connector import Quirk as DicomwebQuirk
from dimse.awaited import Awaiting
from dimse.connector import DimsePeer, DimsePeerProfile, FetchBy, Model
from dimse.connector import Quirk as DimseQuirk
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import DicomwebPeerEntry, DimsePeerEntry, LookupEntry, LookupKind
from gateway.config.transport import AnyPeer, client_files
from gateway.keeping.keeping import Keeping
from gateway.lookups.fhir import FhirServer
from gateway.lookups.pds import PdsLookup
from gateway.lookups.pixm import PixmLookup
from gateway.metrics import Figures
from gateway.model.errors import NotFound, ServiceFault
from gateway.model.imaging import Matches, Query
from gateway.model.seams import Clock, PatientLookup, PeerConnector, Store, SupersessionBook
from gateway.model.settings import Limits
from gateway.model.work.precedence import Places
from gateway.model.work.retrievals import Brought, Delivery, RetrieveWish
from gateway.model.work.transfers import Intake
from gateway.model.work.under_way import UnderWay
from gateway.node import new_id
from gateway.region import directory_of
from gateway.sharing.absence import AbsenceDelays
from gateway.sharing.broker import Broker
from gateway.sharing.conduct.ledger import Ledger
from gateway.sharing.conduct.watch import Watch
from gateway.sharing.directory import Directory
from gateway.sharing.guard.gate import Gate, Reserve
from gateway.sharing.identity.people import People
from gateway.sharing.identity.tracing import Tracing
from gateway.sharing.intake.listening import Listening
from gateway.sharing.intake.reception import Reception
from gateway.sharing.locations.sampling import Sampling
from gateway.sharing.peers import Peers
from gateway.sharing.reading.reports import Kept as KeptReports
from gateway.sharing.reading.reports import ReportReading
from gateway.sharing.retrieval.acquiring import Acquiring
from gateway.sharing.retrieval.delivery import Means as DeliveryMeans
from gateway.sharing.retrieval.reported import Reported, WithReports
from gateway.sharing.retrieval.road import Road
from gateway.sharing.retrieval.witness import Witness
from policy.identity import Evidence
from policy.parties import Caller, TrustId
from policy.trusts import Roll
from storage.observations.notebook import Notebook

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Core:
    """The core of one configuration. `retire` or `close` ends it."""

    directory: Directory
    peers: Peers
    gate: Gate
    broker: Broker
    watch: Watch
    tracing: Tracing
    sampling: Sampling
    road: Road
    reception: Reception
    reading: ReportReading | None = None
    """Who answers for reports as such; None: none are kept."""
    under_way: UnderWay = field(default_factory=UnderWay)
    """What is asked of it at this moment."""

    async def retire(self, clock: Clock, limits: Limits) -> None:
        """Close it, which is asked no more, once what it has begun is over, at the latest when no transfer may last."""
        # Whoever was identified by it may ask it still.
        resting = asyncio.create_task(self._rested(clock, 2 * limits.find_timeout_s))
        bound = asyncio.create_task(clock.sleep(limits.retrieve_total_timeout_s))
        try:
            await asyncio.wait((resting, bound), return_when=asyncio.FIRST_COMPLETED)
            if not resting.done():
                log.warning("cut off", under_way=self.under_way.count)
        finally:
            resting.cancel()
            bound.cancel()
            await self.close()

    async def close(self) -> None:
        """Close all connections; whatever is still under way breaks off."""
        await self.road.close()
        await self.reception.close()
        await self.peers.close()
        await self.tracing.close()

    async def _rested(self, clock: Clock, pause_s: float) -> None:
        """Return once nothing is asked of it, sat over or sent to it any more, and all of that is recorded."""
        await clock.sleep(pause_s)
        await self.under_way.until_none()
        await self.road.rested()
        await self.reception.rested()


@dataclass(frozen=True, slots=True)
class Means:
    """What every core of this process shares, whatever its configuration."""

    store: Store
    book: SupersessionBook
    figures: Figures
    clock: Clock
    delays: AbsenceDelays
    notebook: Notebook
    ledger: Ledger
    keeping: Keeping
    reserve: Reserve | None = None
    """Where outcomes of transfers go while the audit is down."""
    roll: Callable[[], Roll] = Roll
    """What the register says of every trust, as of the moment of calling."""
    register_version: Callable[[], int] = int
    """The version of the registers as it was last seen, a second old at most (DEC-12)."""
    reports: KeptReports | None = None
    """The reports that are kept here for their trusts; None: none are."""
    reports_arriving: Listening | None = None
    """Hears of reports that trusts are about to store as DICOM objects."""
    awaiting: Awaiting = field(default_factory=Awaiting)
    """Who waits for what archives send to the DIMSE door because they were asked."""
    places: dict[tuple[TrustId, int], Places] = field(default_factory=dict)
    """See `places_at`; as many as there are archives, and limits that a reload gave them."""

    def places_at(self, trust: TrustId, count: int) -> Places:
        """The places of a trust's archive for images: it bears so many of the old core and the new one together."""
        return self.places.setdefault((trust, count), Places(count))


def new_delays() -> AbsenceDelays:
    """The memory of how long absence takes; drawn from as no caller can foretell (SAF-06)."""
    return AbsenceDelays(secrets.SystemRandom().choice)


def new_ledger() -> Ledger:
    """The memory of what each caller asked of late; salted, so that it means nothing elsewhere (SAF-39)."""
    return Ledger(secrets.token_bytes(16))


def build_core(configuration: Configuration, means: Means) -> Core:
    """Build the core; raises `ConfigurationError` for certificates that do not load."""
    limits, clock = configuration.limits, means.clock
    directory = directory_of(configuration, means.roll)
    peers = _peers(configuration, means, directory)
    gate = Gate(
        means.store,
        directory,
        configuration.policy_settings,
        clock,
        means.figures,
        new_id=new_id,
        # Whoever may be enrolled while this core lives: the register decides at each question.
        custodians=frozenset(entry.trust for entry in directory.trusts) | peers.trusts,
        reserve=means.reserve,
    )
    tracing = Tracing([_lookup(entry) for entry in configuration.lookup], means.book, configuration.identity, clock)
    trusts = [entry.trust for entry in directory.trusts]
    reported = None if means.reports is None else Reported(means.reports.book, trusts)
    witness = Witness(means.keeping.cache, means.store, clock, limits)
    broker = Broker(
        gate,
        peers,
        directory,
        means.delays,
        limits,
        configuration.sharing,
        clock,
        new_token=secrets.token_urlsafe,
        locations=means.notebook,
        identity=configuration.identity,
        tracing=tracing,
        witness=witness if reported is None else WithReports(witness, reported),
    )
    watch = Watch(broker, means.ledger, configuration.conduct, means.store, clock, means.figures)
    people = People(means.store, directory, configuration.identity, tracing)
    sampling = Sampling(
        gate,
        peers,
        people,
        means.notebook,
        limits,
        left_alone=lambda: directory.left_alone(clock.now()),
        written=None if reported is None else reported.made,
    )
    cache = means.keeping.cache
    delivering = DeliveryMeans(cache, means.keeping.ledger, clock, limits, means.register_version)
    road = Road(
        watch,
        Acquiring(peers, cache, gate.report, reported),
        means.store,
        delivering,
        new_id=new_id,
        behind_gateways=directory.behind_gateways,
        withdraw=means.keeping.withdrawals,
    )
    reception = Reception(gate, directory, means.store, cache, clock, limits, means.reports_arriving)
    reading = None
    if means.reports is not None:
        at_once_max = limits.queries_at_once_max
        reading = ReportReading(
            gate, people, directory, means.reports, configuration.sharing, clock, at_once_max=at_once_max, watch=watch
        )
    return Core(directory, peers, gate, broker, watch, tracing, sampling, road, reception, reading)


class Door:
    """The door as the edges hold it. Closed until the first core is installed and after the last is taken away."""

    def __init__(self) -> None:
        self.core: Core | None = None

    def lead_to(self, core: Core) -> Core | None:
        """Lead to another core, which begins with what the old one knew of the trusts; the old one, if any."""
        old, self.core = self.core, core
        if old is not None:
            core.peers.take_over(old.peers)
        return old

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """See `Broker.find`."""
        core = self._open()
        with core.under_way.one():
            return await core.watch.find(caller, query, snapshot)

    @contextlib.asynccontextmanager
    async def retrieve(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Delivery]:
        """See `Retrievals`."""
        core = self._open()
        with core.under_way.one():
            async with core.road.retrieve(caller, wish) as delivery:
                yield delivery

    async def bring(self, caller: Caller, wish: RetrieveWish) -> Brought:
        """See `Road.bring`."""
        core = self._open()
        with core.under_way.one():
            return await core.road.bring(caller, wish)

    def acting_for(self, subject: str, purpose: str, request_id: str) -> Caller:
        """See `Directory.acting_for`."""
        return self._open().directory.acting_for(subject, purpose, request_id)

    async def destination_refused(self, caller: Caller, ae_title: str, is_known: bool) -> None:
        """See `Gate.destination_refused`."""
        await self._open().gate.destination_refused(caller, ae_title, is_known=is_known)

    def reception(self, caller: Caller) -> Intake:
        """Where this caller's own instances go; raises a `ServiceFault`."""
        return self._open().reception.of(caller)

    def reading(self) -> ReportReading:
        """Who answers for reports as such now; raises a `ServiceFault`, or `NotFound` where none are kept."""
        reading = self._open().reading
        if reading is None:
            raise NotFound("no reports are kept here")
        return reading

    def sampling(self) -> Sampling:
        """Who may ask for the location index at this moment; raises a `ServiceFault`."""
        return self._open().sampling

    async def identified(
        self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0, asking_trust: str = ""
    ) -> Caller:
        """See `Gate.identified`."""
        return await self._open().gate.identified(evidence, purpose, request_id, hops, asking_trust)

    def _open(self) -> Core:
        if self.core is None:
            raise ServiceFault("not accepting questions")
        return self.core


def _peers(configuration: Configuration, means: Means, directory: Directory) -> Peers:
    clock = means.clock
    return Peers(
        [_connector(peer, configuration, means) for peer in configuration.peer],
        configuration.limits,
        clock,
        means.figures,
        on_empty=means.delays.peer_was_empty,
        book=means.notebook,
        left_alone=lambda: directory.left_alone(clock.now()),
        beyond=directory.behind_gateways,
        asking=lambda: directory.asking,
    )


def _connector(peer: AnyPeer, configuration: Configuration, means: Means) -> PeerConnector:
    files = client_files(peer)
    secure = tls.client_context(files) if files is not None else None
    limits = peer.limits.over(configuration.limits)
    places = means.places_at(peer.trust, limits.retrieve_associations_max)
    match peer:
        case DicomwebPeerEntry():
            web = DicomwebPeerProfile(
                trust=peer.trust,
                url=peer.url.rstrip("/"),
                fallback_charset=peer.character_set,
                quirks=frozenset(map(DicomwebQuirk, peer.quirks)),
                is_gateway=peer.gateway,
            )
            return DicomwebPeer(web, limits, secure, places)
        case DimsePeerEntry():
            archive = DimsePeerProfile(
                trust=peer.trust,
                host=peer.host,
                port=peer.port,
                called_ae_title=peer.ae_title,
                calling_ae_title=_calling_ae_title(peer, configuration),
                model=Model(peer.model),
                fallback_charset=peer.character_set,
                quirks=frozenset(map(DimseQuirk, peer.quirks)),
                fetch=FetchBy(peer.fetch),
            )
            return DimsePeer(archive, limits, secure, awaiting=means.awaiting, places=places)
        case _:
            assert_never(peer)


def _lookup(entry: LookupEntry) -> PatientLookup:
    secure = tls.client_context(entry.files) if entry.files is not None else None
    token = entry.token_file.read_text(encoding="utf-8").strip() if entry.token_file is not None else ""
    server = FhirServer(entry.url.rstrip("/"), secure, token)
    match entry.kind:
        case LookupKind.PDS:
            return PdsLookup(server)
        case LookupKind.PIXM:
            return PixmLookup(server, dict(entry.systems))
        case _:
            assert_never(entry.kind)


def _calling_ae_title(peer: DimsePeerEntry, configuration: Configuration) -> str:
    own = configuration.listen.dimse
    title = peer.calling_ae_title or (own.ae_title if own is not None else None)
    # Checked with the configuration, before any core is built.
    assert title is not None
    return title
