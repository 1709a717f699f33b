"""C-MOVE and C-GET as SCP, as far as they are one: a wish, its responses while it is carried out, and its end.

Which images there are, who may have them and when that ends is decided behind `Retrievals`; how they travel is a
`Carrier`'s. Here is what the caller hears of it: a first pending response with the whole set remaining, further ones in
short intervals however slow an archive is, counters that add up in each, and a final one that never says success while
an image is missing (PS3.4 C.4.2, C.4.3; PS3.7 9.1.3, 9.1.4). C-CANCEL and a caller who is gone stop the work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import structlog

from dimse.elements import encode_dataset
from dimse.scp.endings import (
    SUBOPERATIONS_MAX,
    TOO_MANY,
    Final,
    Outcome,
    RetrieveStatus,
    broken_off,
    final,
)
from dimse.scp.profiles import CallerProfile
from dimse.scp.wishes import IdentifierTerms, wish_of
from dimse.scu.store import NotSent, Sent
from dimse.server import Identify
from dimse.sop_classes import QUERY_TRANSFER_SYNTAXES
from dimse.status import Ending, Refusal
from dimse.upper_layer.association import Association, AssociationEnded, AssociationFailure
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.wire import Ended
from gateway.model.errors import GatewayError, InvalidRequest, ServiceFault
from gateway.model.imaging import Element
from gateway.model.settings import Limits
from gateway.model.work.jobs import Lane
from gateway.model.work.retrievals import Counts, Delivery, Destination, Item, Retrievals, RetrieveWish
from policy.parties import Caller, TrustId

log = structlog.get_logger(__name__)

_FAILED_SOP_INSTANCE_UIDS = "00080058"
_NONE = Counts(0, 0, 0, 0)
_HIGH, _LOW = 0x0001, 0x0002
"""Priorities beside medium, which is 0 (PS3.7 E.1)."""


class NotBegun(Exception):
    """The request is answered at once, and nobody is asked."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.comment)
        self.ending = ending


class DestinationRefused(NotBegun):
    """Images were to be sent where this caller may not send any; which is put on record."""

    def __init__(self, ending: Ending, ae_title: str, *, is_known: bool) -> None:
        super().__init__(ending)
        self.ae_title = ae_title
        self.is_known = is_known


RecordsRefusal = Callable[[Caller, str, bool], Awaitable[None]]
"""Records to which AE title a caller may not send, and whether that is known here; raises `AuditUnavailable`."""


class Carrier(Protocol):
    """How the images of one retrieval get to where they are wanted."""

    @property
    def destination(self) -> Destination | None:
        """To whom, where that is not the caller."""

    @property
    def may_outlive_caller(self) -> bool:
        """Whether it goes on when the association of the request is over."""

    @property
    def may_be_cut(self) -> bool:
        """Whether cancelling `carry` at this moment leaves the association of the request in order."""

    async def carry(self, delivery: Delivery) -> None:
        """Hand out everything that the delivery gives, and tell it what became of each. Cancelling stops it at once."""


@dataclass(frozen=True, slots=True)
class Request:
    """A retrieve request, of whom and over what."""

    association: Association
    message: Message
    caller: Caller
    profile: CallerProfile


CarrierFor = Callable[[Request], Carrier]
"""How a request is carried out; raises `NotBegun` or `GatewayError`."""


class _Run:
    """One retrieval under way, as its observer sees it."""

    def __init__(self) -> None:
        self.delivery: Delivery | None = None
        self.outcome = Outcome(_NONE, None, ())
        self.failed_uids: Sequence[str] = ()
        self.is_cancelled = False

    @property
    def counts(self) -> Counts | None:
        """How far it is; None: the set is not known yet."""
        return self.delivery.counts if self.delivery is not None else None

    def cancel(self) -> None:
        """Hand out no further image."""
        self.is_cancelled = True
        if self.delivery is not None:
            self.delivery.cancel()

    def note(self, delivery: Delivery, fault: ServiceFault | None = None) -> None:
        """Keep how far it has come."""
        self.outcome = Outcome(delivery.counts, delivery.halted, delivery.sources, fault, self.is_cancelled)
        self.failed_uids = [failure.ref.sop_uid for failure in delivery.failures]


class RetrieveService:
    """The C-MOVE or the C-GET service of one gateway, for every model."""

    transfer_syntaxes = QUERY_TRANSFER_SYNTAXES

    def __init__(
        self,
        command: CommandField,
        retrievals: Retrievals,
        carrier_for: CarrierFor,
        profile_of: Callable[[Caller], CallerProfile],
        limits: Limits,
        *,
        addressed: Callable[[str], TrustId | None] = lambda _: None,
        record_refusal: RecordsRefusal | None = None,
    ) -> None:
        """`addressed` says which trust alone is asked under a called AE title; None: all of them (C8)."""
        self._command = command
        self._retrievals = retrievals
        self._carrier_for = carrier_for
        self._profile_of = profile_of
        self._limits = limits
        self._addressed = addressed
        self._record_refusal = record_refusal
        self._finishing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def command(self) -> CommandField:
        """See `Service`."""
        return self._command

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Answer one request; returns its final status. Raises `AssociationFailure` when nobody listens any more.

        The caller is identified anew: a reload or a revocation counts from the next request on.
        """
        run, refusal, request_id = _Run(), Refusal.STATUS, ""
        try:
            caller = await identify()
            request_id, profile = caller.request_id, self._profile_of(caller)
            refusal = profile.refusal
            request = Request(association, message, caller, profile)
            await self._carried(request, run)
            end = final(run.outcome, profile.missing_sources)
        except AssociationFailure:
            raise
        except NotBegun as refused:
            end = Final(refused.ending, _NONE)
        except GatewayError as error:
            end = broken_off(error, run.outcome.counts, refusal)
        except Exception as error:  # outermost frame of a request: a bug is its failure alone
            log.exception("retrieve failed", request=request_id, error=type(error).__name__)
            end = broken_off(error, run.outcome.counts)
        await _send_final(association, message, end, run.failed_uids)
        return end.ending.status

    def close(self) -> None:
        """Stop what still goes on for callers who are gone, and let nothing outlive its caller any more."""
        self._is_closed = True
        for task in tuple(self._finishing):
            task.cancel()

    async def _carried(self, request: Request, run: _Run) -> None:
        """Have it carried out while the caller hears of it; raises what kept it from being begun."""
        try:
            carrier = self._carrier_for(request)
        except DestinationRefused as refused:
            if self._record_refusal is not None:
                await self._record_refusal(request.caller, refused.ae_title, refused.is_known)
            raise
        wish = self._wish(request, carrier)
        work = asyncio.get_running_loop().create_task(self._work(request, run, carrier, wish))
        # Where the caller is gone nobody asks for its outcome any more.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await self._observe(request, run, work, carrier)
        finally:
            if not work.done():
                await self._left(work, run, carrier, request.association.end)
        if not work.cancelled():
            work.result()

    async def _work(self, request: Request, run: _Run, carrier: Carrier, wish: RetrieveWish) -> None:
        fault: ServiceFault | None = None
        try:
            async with self._retrievals.retrieve(request.caller, wish) as delivery:
                if len(delivery.refs) > SUBOPERATIONS_MAX:
                    raise NotBegun(Ending(RetrieveStatus.TOO_MANY_MATCHES, TOO_MANY))
                run.delivery = delivery
                try:
                    if delivery.refs and not run.is_cancelled:
                        with contextlib.suppress(AssociationFailure):  # what a lost caller means is the observer's
                            await _send_pending(request, delivery.counts)
                        await carrier.carry(delivery)
                finally:
                    run.note(delivery)
        except ServiceFault as error:
            if run.delivery is None:
                raise
            fault = error
        finally:
            # What C-CANCEL stopped has images remaining. Of all else none remain once it is left: they have failed.
            if run.delivery is not None and not run.is_cancelled:
                run.note(run.delivery, fault)

    async def _observe(self, request: Request, run: _Run, work: asyncio.Task[None], carrier: Carrier) -> None:
        """Send pending responses until the work is done; a C-CANCEL ends it within `cancel_timeout_s`."""
        cancelled = request.association.cancelled(request.message.command.message_id)
        hearing = asyncio.get_running_loop().create_task(cancelled.wait())
        try:
            while not work.done():
                interval_s = self._limits.retrieve_pending_interval_s
                await asyncio.wait({work, hearing}, timeout=interval_s, return_when=asyncio.FIRST_COMPLETED)
                if cancelled.is_set() and not work.done():
                    await self._cancel(run, work, carrier)
                elif not work.done():
                    await _send_pending(request, run.counts)
        finally:
            hearing.cancel()

    async def _cancel(self, run: _Run, work: asyncio.Task[None], carrier: Carrier) -> None:
        """C-CANCEL has come: let the image under way arrive if it does so soon, and stop."""
        run.cancel()
        while not work.done():
            await asyncio.wait({work}, timeout=self._limits.cancel_timeout_s)
            if not work.done() and carrier.may_be_cut:
                await _stopped(work)
        if run.delivery is None:
            raise NotBegun(Ending(RetrieveStatus.CANCELLED))

    async def _left(self, work: asyncio.Task[None], run: _Run, carrier: Carrier, end: AssociationEnded | None) -> None:
        """The caller is gone: stop, or let the destination have the rest; never of one whom we sent away."""
        is_gone_by_itself = end is not None and end.why in (
            Ended.ABORTED_BY_PEER,
            Ended.CONNECTION_LOST,
            Ended.RELEASED,
        )
        if carrier.may_outlive_caller and is_gone_by_itself and run.delivery is not None and not self._is_closed:
            self._finishing.add(work)
            work.add_done_callback(self._finished)
            log.info("retrieval goes on without its caller", retrieval=run.delivery.retrieval_id)
            return
        run.cancel()
        await _stopped(work)

    def _finished(self, work: asyncio.Task[None]) -> None:
        self._finishing.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.warning("retrieval without its caller failed", error=type(error).__name__)

    def _wish(self, request: Request, carrier: Carrier) -> RetrieveWish:
        association, context = request.association, request.message.context
        if association.terms.is_with_gateway:
            # Gateways that ask each other so would ask in circles: no hop count ends it (DEC-01).
            log.warning("retrieve of another gateway refused", caller=request.caller.principal.subject)
            raise InvalidRequest("a gateway is asked by WADO-RS: DIMSE has no hop count")
        terms = IdentifierTerms(
            context.transfer_syntax,
            context.abstract_syntax,
            association.terms.extended.get(context.abstract_syntax, b""),
            is_lenient=request.profile.is_lenient,
        )
        return replace(
            wish_of(request.message.data_set, terms, self._limits),
            destination=carrier.destination,
            only_trust=self._addressed(association.terms.called_ae_title),
            lane=_lane(request.message.command, request.profile),
        )


def told(delivery: Delivery, item: Item, outcome: Sent | NotSent) -> None:
    """Tell a delivery what its receiver said of an image."""
    match outcome:
        case Sent():
            delivery.sent(item, outcome.warning)
        case NotSent():
            delivery.failed(item, outcome.words)
        case _:
            assert_never(outcome)


def _lane(command: Command, profile: CallerProfile) -> Lane:
    """What a priority means: high only of those who may, for everybody else it would be free."""
    if command.priority == _HIGH and profile.may_be_urgent:
        return Lane.EMERGENCY
    return Lane.BACKGROUND if command.priority == _LOW else Lane.INTERACTIVE


async def _stopped(work: asyncio.Task[None]) -> None:
    """Cancel, and return once it has put itself away."""
    work.cancel()
    await asyncio.wait({work})


async def _send_pending(request: Request, counts: Counts | None) -> None:
    """Tell how far it is; before the set is known a response without numbers says only that we are here."""
    last = response(request.message.command, RetrieveStatus.PENDING)
    if counts is not None:
        last = _counted(last, counts, shows_remaining=True)
    await request.association.send(request.message.context.context_id, last)


async def _send_final(association: Association, message: Message, end: Final, failed_uids: Sequence[str]) -> None:
    has_data = bool(failed_uids and end.counts.failed)
    last = replace(
        _counted(response(message.command, end.ending.status, has_data=has_data), end.counts, end.shows_remaining),
        offending_elements=end.ending.offending,
        error_comment=end.ending.comment,
    )
    data = None
    if has_data:
        listed: Mapping[str, Element] = {_FAILED_SOP_INSTANCE_UIDS: {"vr": "UI", "Value": [*failed_uids]}}
        data = encode_dataset(listed, message.context.transfer_syntax, ())
    await association.send(message.context.context_id, last, data)


def _counted(command: Command, counts: Counts, shows_remaining: bool) -> Command:
    return replace(
        command,
        remaining=counts.remaining if shows_remaining else None,
        completed=counts.completed,
        failed=counts.failed,
        warning=counts.warning,
    )
