"""What stands behind the DIMSE door: the services, and how each caller is answered, as of this moment's configuration.

Every service leads to the core through `gateway.core.Door`; what is asked counts as under way until it is answered.
Opens no socket: `gateway.doors` listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dimse.awaited import Awaiting
from dimse.flow.asked import Asked
from dimse.identifier import EXTENDED as FIND_EXTENDED
from dimse.scp.availability_scp import availability_services, buffers
from dimse.scp.commitment_scp import CommitmentService, Commits, ReportService, commitment_sink
from dimse.scp.find_scp import FIND_CLASSES, FindService
from dimse.scp.get_scp import getting
from dimse.scp.move_scp import Moving, moving, onward
from dimse.scp.profiles import CallerProfile, MoveDestination
from dimse.scp.retrieve_scp import CarrierFor, RetrieveService
from dimse.scp.store_scp import StoreService
from dimse.scp.wishes import EXTENDED as RETRIEVE_EXTENDED
from dimse.scp.wishes import GET_CLASSES, MOVE_CLASSES
from dimse.scu.send import Receiver, Transcoder
from dimse.server import DimseDoor, Service
from dimse.sop_classes import STORAGE, STORAGE_COMMITMENT
from dimse.status import MissingSources
from dimse.upper_layer.association import AssociationLimits
from dimse.upper_layer.commands import Command, CommandField
from dimse.upper_layer.messages import MessageLimits, Sink, SinkFor
from dimse.upper_layer.negotiation import Context
from dimse.upper_layer.wire import WireLimits
from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import CallerEntry, DestinationEntry
from gateway.core import Door
from gateway.metrics import Figures
from gateway.model.imaging import Matches, Query
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Delivery, Destination, RetrieveWish
from gateway.node import new_id, new_uid
from gateway.sharing.locations.notices import Notices
from policy.parties import Caller, TrustId

CountsOne = Callable[[], AbstractContextManager[None]]
"""Counts something as under way while its context is open."""


@dataclass(frozen=True, slots=True)
class BehindAssociations:
    """What stands behind the services."""

    door: Door
    figures: Figures
    clock: Clock
    notices: Notices
    awaiting: Awaiting
    commits: Commits
    """Who answers for what was sent here."""
    transcoder: Transcoder | None
    """Makes images fit for receivers that do not take them as they are; None: those fail."""


class Associations:
    """The DIMSE door and its services. `follow` each reload; `close` once the door is closed."""

    def __init__(self, configuration: Configuration, behind: BehindAssociations, counts_one: CountsOne) -> None:
        listen = configuration.listen.dimse
        assert listen is not None
        self._configuration = configuration
        self._own_title = listen.ae_title
        self._transcoder = behind.transcoder
        self._read(configuration)
        counted = _Counted(behind.door, counts_one)
        limits, taken = configuration.limits, STORAGE | set(configuration.dimse.private_sop_classes)
        self._move = self._retrieving(
            CommandField.C_MOVE_RQ, counted, moving(limits, lambda: self._known_titles, behind.transcoder)
        )
        get = self._retrieving(CommandField.C_GET_RQ, counted, getting(limits, behind.transcoder))
        find = FindService(counted, self._profile_of, limits, ae_title=self._own_title, addressed=self._addressed)
        store = StoreService(behind.awaiting, behind.door.reception)
        asked = Asked()
        commitment = CommitmentService(behind.commits, asked, limits, asyncio.to_thread)
        services: dict[str, Service] = {
            STORAGE_COMMITMENT: commitment,
            **dict.fromkeys(FIND_CLASSES, find),
            **dict.fromkeys(MOVE_CLASSES, self._move),
            **dict.fromkeys(GET_CLASSES, get),
            **dict.fromkeys(taken, store),
            **availability_services(
                behind.notices, bytes_max=limits.notice_bytes_max, new_uid=new_uid, elsewhere=asyncio.to_thread
            ),
        }
        self.door = DimseDoor(
            behind.door,
            services,
            limits,
            behind.figures,
            behind.clock,
            ae_title=self._own_title,
            extended={**FIND_EXTENDED, **RETRIEVE_EXTENDED},
            new_id=new_id,
            calling_titles=lambda: {title for caller in self._configuration.caller for title in caller.ae_titles},
            aliases=lambda: self._aliases,
            sink_for=_sinks(limits),
            scp_roles=taken | {STORAGE_COMMITMENT},
            takes_inflows=True,
            reports={STORAGE_COMMITMENT: ReportService(behind.commits, limits, asyncio.to_thread)},
            asked=asked,
        )

    def follow(self, configuration: Configuration) -> None:
        """Answer callers as a new configuration says; raises `ConfigurationError` for certificates that do not load."""
        self._read(configuration)

    def onward(self, caller: Caller, ae_title: str) -> Moving | None:
        """The way to where this caller may have images sent, without its asking at this moment; None: it may not."""
        to = self._profile_of(caller).destinations.get(ae_title)
        return onward(to, self._configuration.limits, self._transcoder) if to is not None else None

    def close(self) -> None:
        """Stop what still goes on for callers who are gone."""
        self._move.close()

    def _read(self, configuration: Configuration) -> None:
        self._profiles = caller_profiles(configuration)
        self._known_titles = frozenset(entry.ae_title for entry in configuration.destination)
        # The gateway's own title addresses no trust, whatever the file says.
        self._aliases: dict[str, TrustId] = {
            trust.ae_alias: trust.ods
            for trust in configuration.trust
            if trust.ae_alias is not None and trust.ae_alias != self._own_title
        }
        self._configuration = configuration

    def _retrieving(self, command: CommandField, counted: _Counted, carrier_for: CarrierFor) -> RetrieveService:
        limits = self._configuration.limits
        return RetrieveService(
            command,
            counted,
            carrier_for,
            self._profile_of,
            limits,
            addressed=self._addressed,
            record_refusal=counted.destination_refused,
        )

    def _profile_of(self, caller: Caller) -> CallerProfile:
        # A reload may have removed the caller since it was identified: then it is told of what is missing the loud way.
        return self._profiles.get(caller.principal.subject, CallerProfile(MissingSources.FAILURE))

    def _addressed(self, called_ae_title: str) -> TrustId | None:
        return self._aliases.get(called_ae_title)


class _Counted:
    """The core as associations ask it: what is asked counts as under way."""

    def __init__(self, door: Door, counts_one: CountsOne) -> None:
        self._door = door
        self._counts_one = counts_one

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """See `Broker.find`."""
        with self._counts_one():
            return await self._door.find(caller, query, snapshot)

    async def destination_refused(self, caller: Caller, ae_title: str, is_known: bool) -> None:
        """See `Gate.destination_refused`."""
        await self._door.destination_refused(caller, ae_title, is_known)

    @contextlib.asynccontextmanager
    async def retrieve(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Delivery]:
        """See `Retrievals`."""
        with self._counts_one():
            async with self._door.retrieve(caller, wish) as delivery:
                yield delivery


def _sinks(limits: Limits) -> SinkFor:
    """What keeps data sets that may be longer than an identifier."""
    notices = buffers(limits.notice_bytes_max)

    def sink_for(context: Context, command: Command) -> Sink | None:
        return commitment_sink(context, command, limits.commitment_bytes_max) or notices(context, command)

    return sink_for


def caller_profiles(configuration: Configuration) -> dict[str, CallerProfile]:
    """How those who may call by DIMSE are answered, by their names; raises `ConfigurationError` for certificates."""
    listen = configuration.listen.dimse
    own_title = listen.ae_title if listen is not None else ""
    limits = configuration.limits
    destinations = {entry.name: _destination(entry, own_title, limits) for entry in configuration.destination}
    return {
        caller.name: _profile(caller, caller.missing_sources, destinations)
        for caller in configuration.caller
        if caller.missing_sources is not None
    }


def association_limits(limits: Limits) -> AssociationLimits:
    """What holds for each association that callers open."""
    return AssociationLimits(
        wire=WireLimits(associate_bytes_max=limits.associate_bytes_max, artim_timeout_s=limits.artim_timeout_s),
        messages=MessageLimits(
            command_bytes_max=limits.command_bytes_max,
            fragments_max=limits.fragments_max,
            data_bytes_max=limits.identifier_bytes_max,
        ),
        idle_timeout_s=limits.association_idle_timeout_s,
        life_max_s=limits.association_life_max_s,
        send_timeout_s=limits.dimse_send_timeout_s,
        message_bytes_per_s_min=limits.association_bytes_per_s_min,
    )


def _profile(
    caller: CallerEntry, missing_sources: MissingSources, destinations: Mapping[str, MoveDestination]
) -> CallerProfile:
    named = [destinations[name] for name in caller.destinations]
    return CallerProfile(
        missing_sources,
        caller.refusal,
        caller.lenient,
        caller.character_set,
        destinations={each.receiver.ae_title: each for each in named},
        on_disconnect=caller.on_disconnect,
        may_be_urgent=caller.high_priority,
    )


def _destination(entry: DestinationEntry, own_title: str, limits: Limits) -> MoveDestination:
    secure: ssl.SSLContext | None = tls.client_context(entry.files) if entry.files is not None else None
    receiver = Receiver(entry.ae_title, entry.host, entry.port, own_title, secure)
    associations_max = entry.associations_max or limits.store_associations_max
    return MoveDestination(Destination(entry.ae_title, entry.trust), receiver, associations_max)
