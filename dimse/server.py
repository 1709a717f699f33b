"""The DIMSE door: whom it lets in, for how long, and which service answers what (PS3.7 D.3, PS3.8 7.1).

Identity is the certificate with the AE title and the address that belong to it; a title alone proves nothing, and a
user's name or token is kept as evidence without being believed (DEC-03). Limits hold in all, for each caller and for
each address, so that one cannot starve another. What may be asked and answered is the services' business.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Protocol
from weakref import WeakKeyDictionary

import structlog

from dimse.flow.asked import Asked
from dimse.flow.storing import let_go
from dimse.sop_classes import QUERY_TRANSFER_SYNTAXES, VERIFICATION
from dimse.status import Status
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association
from dimse.upper_layer.commands import CommandField, response
from dimse.upper_layer.messages import Message, SinkFor
from dimse.upper_layer.negotiation import Offer, negotiate
from gateway.model.errors import GatewayError, InvalidRequest, NotIdentified
from gateway.model.evidence import evidence_of_tls
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from policy.identity import Channel, Evidence
from policy.parties import Caller, TrustId

log = structlog.get_logger(__name__)

USERNAME_CHARS_MAX = 64
_NO_REPORTS: Mapping[str, Service] = MappingProxyType({})
LOGGED_PER_MINUTE_MAX = 60
"""Refused associations logged a minute; the rest is only counted, lest strangers fill the disk."""


class Refused(StrEnum):
    """Why an association was not taken: for figures and logs."""

    CALLED_TITLE = "called-ae-title"
    CALLING_TITLE = "caller-not-identified"
    TOO_MANY = "too-many-associations"
    TOO_MANY_OF_ADDRESS = "too-many-associations-from-one-address"
    TOO_MANY_OF_CALLER = "too-many-associations-of-one-caller"
    NOT_NOW = "not-at-this-moment"
    NOT_NEGOTIATED = "not-negotiated"


class Identifies(Protocol):
    """Who is asking."""

    async def identified(self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0) -> Caller:
        """The one caller that the evidence proves; raises `NotIdentified`, once that is recorded."""


Identify = Callable[[], Awaitable[Caller]]
"""Whom an association's evidence proves at this moment; raises `GatewayError`, once that is recorded."""


class Service(Protocol):
    """What answers the requests of one or more SOP classes."""

    @property
    def command(self) -> CommandField:
        """The one request that it answers."""

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """Those it takes, the preferred one first."""

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Send every response to a request; returns the last one's status. Raises `AssociationFailure`."""


class CountsAssociations(Protocol):
    """Who keeps the figures."""

    def association_opened(self) -> None:
        """An association was taken."""

    def association_closed(self) -> None:
        """It ended."""

    def association_refused(self, reason: str) -> None:
        """One was not taken."""

    def request_answered(self, command: str, status: int, duration_s: float) -> None:
        """A request had its last response."""


class Echo:
    """C-ECHO: 0000, always (PS3.4 A.4)."""

    command = CommandField.C_ECHO_RQ
    transfer_syntaxes = QUERY_TRANSFER_SYNTAXES

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Say that we are here."""
        await association.send(message.context.context_id, response(message.command, Status.SUCCESS))
        return Status.SUCCESS


@dataclass(frozen=True, slots=True)
class _Guest:
    """Whose an association is."""

    evidence: Evidence
    caller: str
    """The name of the `[[caller]]`."""
    trust: TrustId | None
    """Whom the called AE title addresses, where it is not the gateway's own."""


class DimseDoor:
    """Takes associations and has them served; an `Acceptor`. `stop`, then `close`, end it."""

    def __init__(
        self,
        directory: Identifies,
        services: Mapping[str, Service],
        limits: Limits,
        figures: CountsAssociations,
        clock: Clock,
        *,
        ae_title: str,
        extended: Mapping[str, bytes],
        new_id: Callable[[], str],
        calling_titles: Callable[[], Collection[str]] = frozenset,
        aliases: Callable[[], Mapping[str, TrustId]] = dict,
        sink_for: SinkFor | None = None,
        scp_roles: Collection[str] = (),
        takes_inflows: bool = False,
        reports: Mapping[str, Service] = _NO_REPORTS,
        asked: Asked | None = None,
    ) -> None:
        """`scp_roles`: classes of which callers may be SCP themselves, so that images come back to them (C-GET).
        `takes_inflows`: whether C-STORE is answered from its command on, and its data set comes as `Inflow`.
        `reports`: what answers the event reports of SOP classes; `asked`: what waits for responses of callers.
        """
        self._directory = directory
        self._services = {VERIFICATION: Echo(), **services}
        self._reports = reports
        self._asked = asked or Asked()
        self._limits = limits
        self._figures = figures
        self._clock = clock
        self._offer = Offer(
            frozenset({ae_title}),
            {uid: service.transfer_syntaxes for uid, service in self._services.items()},
            extended=extended,
            scp_roles=frozenset(scp_roles),
            pdu_bytes_max=limits.pdu_bytes_max,
        )
        self._new_id = new_id
        self._calling_titles = calling_titles
        self._aliases = aliases
        self._sink_for = sink_for
        self._takes_inflows = takes_inflows
        self._admitted: WeakKeyDictionary[Association, _Guest] = WeakKeyDictionary()
        self._guests: dict[Association, _Guest] = {}
        self._senders: WeakKeyDictionary[Association, Caller] = WeakKeyDictionary()
        self._at_work: set[Association] = set()
        self._by_caller: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._is_stopping = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._log_minute = self._logged = 0

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        """Take an association or reject it; a caller that is not identified is recorded first."""
        evidence = _evidence(association, request)
        # Before anything is looked up: whoever floods the door is turned away at once.
        if (full := self._full(evidence.address)) is not None:
            return self._reject(*full, evidence)
        answer = negotiate(request, replace(self._offer, ae_titles=self._titles()))
        # Without a calling title it is nobody, which is recorded like any other.
        if isinstance(answer, pdu.AssociateReject) and request.calling_ae_title:
            is_title = answer == pdu.CALLED_AE_TITLE_NOT_RECOGNISED
            return self._reject(Refused.CALLED_TITLE if is_title else Refused.NOT_NEGOTIATED, answer, evidence)
        try:
            caller = await self._identified(evidence)
        except GatewayError as error:
            return self._reject(*_unidentified(error), evidence)
        name = caller.principal.subject
        if (full := self._full(evidence.address, name)) is not None:
            return self._reject(*full, evidence)
        association.sink_for = self._sink_for
        association.takes_inflows = self._takes_inflows
        # It is served, and counted, without a turn of the loop in between.
        self._admitted[association] = _Guest(evidence, name, self._aliases().get(request.called_ae_title))
        return answer

    async def serve(self, association: Association) -> None:
        """Answer request after request, one at a time, until the association ends or the door stops."""
        guest = self._admitted.pop(association)
        self._enter(association, guest)
        try:
            while not self._is_stopping:
                message = await association.receive()
                if self._asked.heard(association, message):
                    continue
                self._at_work.add(association)
                await self._answer(association, message, guest.evidence)
                self._at_work.discard(association)
            await association.release()
        finally:
            self._leave(association, guest)

    async def rejudge(self) -> None:
        """Abort the associations of those who are no longer whom they were, after a reload, or who called a title that
        no longer means whom it meant.
        """
        self._senders.clear()
        for association, guest in list(self._guests.items()):
            if self._aliases().get(guest.evidence.called_ae_title) != guest.trust:
                log.warning("association ended", caller=guest.caller, reason="the called AE title is no longer known")
                association.abort("the called AE title is no longer known")
                continue
            try:
                caller = await self._identified(guest.evidence)
                is_known = caller.principal.subject == guest.caller
            except (NotIdentified, InvalidRequest):
                is_known = False
            except GatewayError:
                # Nothing can be recorded at this moment: each question is judged again, and would be refused.
                is_known = True
            if not is_known:
                log.warning("association ended", caller=guest.caller, reason="the caller is no longer known")
                association.abort("the caller is no longer known")

    async def stop(self) -> None:
        """Take no more associations; release those with nothing under way, and return when the others are through.

        Never returns before the last one has ended: the caller bounds it, and then calls `close`.
        """
        self._is_stopping = True
        async with asyncio.TaskGroup() as releases:
            for association in set(self._guests) - self._at_work:
                releases.create_task(association.release())
        await self._is_empty.wait()

    def close(self) -> None:
        """Abort what is still open."""
        self._is_stopping = True
        for association in list(self._guests):
            association.abort("the gateway stops")

    async def _answer(self, association: Association, message: Message, evidence: Evidence) -> None:
        command, began = message.command, self._clock.monotonic()
        if not command.is_request:
            association.abort("a response came to nothing that was asked")
            return
        uid, is_report = message.context.abstract_syntax, command.field is CommandField.N_EVENT_REPORT_RQ
        service = self._reports.get(uid, self._services[uid]) if is_report else self._services[uid]
        # Reports come from a class's SCP; many who are that open the association without saying so (PS3.7 D.3.3.4).
        if command.sop_class_uid != uid or not (message.context.is_scu or is_report):
            status = await _refuse(association, message, Status.SOP_CLASS_NOT_SUPPORTED)
        elif command.field is not service.command:
            status = await _refuse(association, message, Status.UNRECOGNISED_OPERATION)
        else:
            is_instance = command.field is CommandField.C_STORE_RQ
            identify = partial(self._sender, association) if is_instance else self._identified
            status = await service.answer(association, message, partial(identify, evidence))
        association.answered(command.message_id)
        self._figures.request_answered(command.field.name, status, self._clock.monotonic() - began)

    async def _identified(self, evidence: Evidence) -> Caller:
        """Each time under an id of its own: that of a question, or of a refusal."""
        return await self._directory.identified(evidence, "", self._new_id())

    async def _sender(self, association: Association, evidence: Evidence) -> Caller:
        """Who sends instances is the same for all of them, until a reload: they come by the hundred a second."""
        caller = self._senders.get(association)
        if caller is None:
            caller = self._senders[association] = await self._identified(evidence)
        return caller

    def _titles(self) -> frozenset[str]:
        """Every called AE title that is taken at this moment."""
        return self._offer.ae_titles | self._aliases().keys()

    def _full(self, address: str, caller: str | None = None) -> tuple[Refused, pdu.AssociateReject] | None:
        limits = self._limits
        if self._is_stopping:
            return Refused.NOT_NOW, pdu.TEMPORARY_CONGESTION
        if len(self._guests) >= limits.dimse_associations_max:
            return Refused.TOO_MANY, pdu.LOCAL_LIMIT_EXCEEDED
        if self._by_address[address] >= limits.dimse_associations_per_address_max:
            return Refused.TOO_MANY_OF_ADDRESS, pdu.LOCAL_LIMIT_EXCEEDED
        if caller is not None and self._by_caller[caller] >= limits.dimse_associations_per_caller_max:
            return Refused.TOO_MANY_OF_CALLER, pdu.LOCAL_LIMIT_EXCEEDED
        return None

    def _enter(self, association: Association, guest: _Guest) -> None:
        self._guests[association] = guest
        self._by_caller[guest.caller] += 1
        self._by_address[guest.evidence.address] += 1
        self._is_empty.clear()
        self._figures.association_opened()

    def _leave(self, association: Association, guest: _Guest) -> None:
        del self._guests[association]
        self._at_work.discard(association)
        for counted, key in ((self._by_caller, guest.caller), (self._by_address, guest.evidence.address)):
            counted[key] -= 1
            if not counted[key]:
                del counted[key]
        if not self._guests:
            self._is_empty.set()
        self._figures.association_closed()

    def _reject(self, why: Refused, reject: pdu.AssociateReject, evidence: Evidence) -> pdu.AssociateReject:
        self._figures.association_refused(why.value)
        minute = int(self._clock.monotonic() // 60)
        if minute != self._log_minute:
            self._log_minute, self._logged = minute, 0
        self._logged += 1
        if self._logged <= LOGGED_PER_MINUTE_MAX:
            log.warning(
                "association rejected", reason=why.value, address=evidence.address, **self._near_miss(why, evidence)
            )
        return reject

    def _near_miss(self, why: Refused, evidence: Evidence) -> dict[str, str]:
        """Titles are compared exactly, and written by hand: a difference in case alone is worth a word."""
        match why:
            case Refused.CALLED_TITLE:
                shown, known = evidence.called_ae_title, self._titles()
            case Refused.CALLING_TITLE:
                shown, known = evidence.ae_title, frozenset(self._calling_titles())
            case _:
                return {}
        near = {title for title in known if title != shown and title.casefold() == shown.casefold()}
        return {"shown": shown, "differs_in_case_from": min(near)} if near else {}


def stated_identity(identity: pdu.UserIdentity | None) -> str:
    """The user that a request claims, as it is recorded: a name, or the digest of what may be a secret (DEC-03)."""
    if identity is None or not identity.primary:
        return ""
    match identity.kind:
        case 1 | 2:
            text = identity.primary.decode("utf-8", errors="replace")[:USERNAME_CHARS_MAX]
            return "username " + "".join(each if each.isprintable() else "?" for each in text)
        case kind:
            name = {3: "kerberos", 4: "saml", 5: "jwt"}.get(kind, f"kind {kind}")
            return f"{name} sha256:{hashlib.sha256(identity.primary).hexdigest()}"


def _evidence(association: Association, request: pdu.AssociateRequest) -> Evidence:
    address, connection = association.peer_address, association.ssl_object
    shown = Evidence(Channel.DIMSE, address)
    if connection is not None:
        shown = evidence_of_tls(connection, address, Channel.DIMSE)
    return replace(
        shown,
        ae_title=request.calling_ae_title,
        called_ae_title=request.called_ae_title,
        stated_identity=stated_identity(request.user.identity),
    )


def _unidentified(error: GatewayError) -> tuple[Refused, pdu.AssociateReject]:
    match error:
        case NotIdentified():
            return Refused.CALLING_TITLE, pdu.CALLING_AE_TITLE_NOT_RECOGNISED
        case InvalidRequest():
            return Refused.CALLING_TITLE, pdu.NO_REASON_GIVEN
        case _:
            # Nobody can be told from a stranger, or the stranger not be recorded: later.
            return Refused.NOT_NOW, pdu.TEMPORARY_CONGESTION


async def _refuse(association: Association, message: Message, status: Status) -> int:
    await let_go(association, message)
    await association.send(message.context.context_id, response(message.command, status))
    return status
