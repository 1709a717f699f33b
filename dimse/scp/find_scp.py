"""C-FIND as SCP: an identifier becomes a `Query`, the broker's matches become responses (PS3.4 C.4.1, PS3.7 9.1.2).

Thin on purpose, as QIDO is: what may be seen is decided behind `FindsMatches`; nothing is looked up or filtered here.
Found, none and withheld leave by the same lines of code. A C-CANCEL or a client that is gone stops the question, and
whoever is asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Protocol, TypeVar

import structlog

from dimse.identifier import Answerer, Asked, parse_identifier
from dimse.notices import ending, synthetic_rows
from dimse.scp.profiles import CallerProfile
from dimse.server import Identify
from dimse.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, QUERY_TRANSFER_SYNTAXES, STUDY_ROOT_FIND
from dimse.status import Ending, Refusal, Status, ending_of
from dimse.upper_layer.association import Association, AssociationFailure, Outgoing
from dimse.upper_layer.commands import Command, CommandField, response
from dimse.upper_layer.messages import Message
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.imaging import Match, Matches, Query
from gateway.model.settings import Limits
from policy.parties import Caller, TrustId

log = structlog.get_logger(__name__)

FIND_CLASSES = (STUDY_ROOT_FIND, PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND)

ROWS_A_BATCH = 128
"""Rows that are encoded and sent without a pause: a few milliseconds; then others have their turn, C-CANCEL too."""

T = TypeVar("T")


class FindsMatches(Protocol):
    """The one door for images."""

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """Find what `caller` may know of; raises `GatewayError`."""


class GivenUp(Exception):
    """The asker wants no answer any more."""


class FindService:
    """The C-FIND service of one gateway, for every query model."""

    command = CommandField.C_FIND_RQ
    transfer_syntaxes = QUERY_TRANSFER_SYNTAXES

    def __init__(
        self,
        finder: FindsMatches,
        profile_of: Callable[[Caller], CallerProfile],
        limits: Limits,
        *,
        ae_title: str,
        addressed: Callable[[str], TrustId | None] = lambda _: None,
    ) -> None:
        """`addressed` says which trust alone is asked under a called AE title; None: all of them (C8)."""
        self._finder = finder
        self._profile_of = profile_of
        self._limits = limits
        self._ae_title = ae_title
        self._addressed = addressed

    async def answer(self, association: Association, message: Message, identify: Identify) -> int:
        """Answer one C-FIND-RQ; returns its final status. Raises `AssociationFailure` when nobody listens any more.

        The caller is identified anew: a reload or a revocation counts from the next question on.
        """
        context_id, request_id, refusal = message.context.context_id, "", Refusal.STATUS
        try:
            caller = await identify()
            profile = self._profile_of(caller)
            request_id, refusal = caller.request_id, profile.refusal
            rows, end = await self._found(association, message, caller, profile)
            await _send(association, message, chain(rows, [(_final(message, end), None)]))
            return end.status
        except GivenUp:
            end = Ending(Status.CANCELLED)
        except GatewayError as error:
            end = ending_of(error, refusal)
        except AssociationFailure:
            raise
        except Exception as error:  # outermost frame of a request: a bug is its failure alone
            log.exception("find failed", request=request_id, error=type(error).__name__)
            end = ending_of(error)
        await association.send(context_id, _final(message, end))
        return end.status

    async def _found(
        self, association: Association, message: Message, caller: Caller, profile: CallerProfile
    ) -> tuple[Iterator[Outgoing], Ending]:
        """Ask; the responses of all rows, and how they end. Raises `GatewayError` or `GivenUp`."""
        if association.terms.is_with_gateway:
            # Gateways that ask each other so would ask in circles: no hop count ends it (DEC-01).
            log.warning("find of another gateway refused", caller=caller.principal.subject)
            raise InvalidRequest("a gateway is asked by QIDO-RS: C-FIND has no hop count")
        cancelled = association.cancelled(message.command.message_id)
        asked = self._asked(association, message, profile)
        query = replace(asked.query, only_trust=self._addressed(association.terms.called_ae_title))
        matches = await unless(cancelled, lambda: self._finder.find(caller, query))
        rows = (*matches.rows, *synthetic_rows(matches, asked.query, profile.missing_sources))
        answerer = Answerer(asked, message.context.transfer_syntax, self._ae_title)
        pending = _pending(message.command, answerer, rows, is_lacking=bool(matches.unsupported_keys))
        return pending, ending(matches, profile.missing_sources)

    def _asked(self, association: Association, message: Message, profile: CallerProfile) -> Asked:
        context = message.context
        return parse_identifier(
            message.data_set,
            context.transfer_syntax,
            context.abstract_syntax,
            association.terms.extended.get(context.abstract_syntax, b""),
            limits=self._limits,
            is_lenient=profile.is_lenient,
            fallback_charset=profile.character_set,
        )


async def unless(cancelled: asyncio.Event, work: Callable[[], Coroutine[object, None, T]]) -> T:
    """Do the work, or raise `GivenUp` as soon as the event has come and the work has put itself away."""
    if cancelled.is_set():
        raise GivenUp
    loop = asyncio.get_running_loop()
    patience = asyncio.timeout(None)

    async def watch() -> None:
        await cancelled.wait()
        patience.reschedule(loop.time())

    try:
        async with patience:
            watching = loop.create_task(watch())
            try:
                return await work()
            finally:
                watching.cancel()
    except TimeoutError:
        if patience.expired():
            raise GivenUp from None
        raise


def _pending(request: Command, answerer: Answerer, rows: Sequence[Match], *, is_lacking: bool) -> Iterator[Outgoing]:
    """A response for each row. FF01: a requested key was not supported, by us or by an archive (A12)."""
    whole = response(request, Status.PENDING, has_data=True)
    lacking = response(request, Status.PENDING_WITHOUT_SOME_KEYS, has_data=True)
    for match in rows:
        identifier, is_without_some_keys = answerer.row(match)
        yield lacking if is_lacking or is_without_some_keys else whole, identifier


def _final(message: Message, end: Ending) -> Command:
    last = response(message.command, end.status)
    return replace(last, offending_elements=end.offending, error_comment=end.comment)


async def _send(association: Association, message: Message, outgoing: Iterator[Outgoing]) -> None:
    """Send responses in batches, and raise `GivenUp` at the first one that nobody wants any more."""
    cancelled = association.cancelled(message.command.message_id)
    batch = list(islice(outgoing, ROWS_A_BATCH))
    while batch:
        await association.send_batch(message.context.context_id, batch)
        batch = list(islice(outgoing, ROWS_A_BATCH))
        if batch:
            await asyncio.sleep(0)
            if cancelled.is_set():
                raise GivenUp
