"""Images from one archive: by C-GET where it offers that, else by C-MOVE to ourselves (PS3.4 C.4.2, C.4.3).

Whichever it is is settled on each association: all that may be used is proposed. A fetch that takes several requests
spreads them over a few associations, within what the archive bears for all fetches together. Knows no cache: what comes
goes into the `Intake` of whoever asked. Never retries.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from enum import StrEnum

from dimse.awaited import Awaiting, Errand
from dimse.scu.contexts import storage_contexts
from dimse.scu.parts import Part, parts
from dimse.scu.pool import CLOSE_TIMEOUT_S
from dimse.scu.retrieve import Asked, Retrieval, failure
from dimse.sop_classes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dimse.upper_layer.association import Association, AssociationFailure
from dimse.upper_layer.negotiation import Context, Terms, propose
from dimse.upper_layer.pdu import CONTEXTS_MAX, AssociateRequest, Roles
from gateway.model.errors import PeerError, PeerRefused, PeerTimeout
from gateway.model.settings import Limits
from gateway.model.work.precedence import Places, Urgency
from gateway.model.work.transfers import FetchRequest, Intake
from policy.parties import TrustId


class FetchBy(StrEnum):
    """How images are fetched (`fetch`)."""

    AUTO = "auto"
    """By C-GET where the archive offers it for every class that is wanted, else by C-MOVE."""
    GET = "get"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class FetchProfile:
    """What the configuration says of fetching from one archive."""

    trust: TrustId
    called_ae_title: str
    calling_ae_title: str
    """Ours, and so the Move Destination."""
    by: FetchBy = FetchBy.AUTO
    is_implicit_only: bool = False
    takes_uid_lists: bool = True
    is_one_request_an_association: bool = False
    heeds_cancel: bool = True


Associate = Callable[[AssociateRequest], Awaitable[Association]]
"""Opens an association that takes data sets as inflows; raises `AssociationFailure`."""


class Fetching:
    """All fetches from one archive."""

    def __init__(
        self,
        profile: FetchProfile,
        limits: Limits,
        associate: Associate,
        awaiting: Awaiting | None = None,
        places: Places | None = None,
    ) -> None:
        """`places`: what another connector to the same archive takes too, for fetches of both together."""
        self._profile = profile
        self._limits = limits
        self._associate = associate
        self._awaiting = awaiting
        self._places = places or Places(limits.retrieve_associations_max)
        self._open: set[Association] = set()
        self._behind: set[asyncio.Task[None]] = set()
        """Requests brought to their end, and releases: at most one for each place."""

    async def fetch(self, request: FetchRequest, intake: Intake, sop_classes: frozenset[str]) -> None:
        """See `Fetcher`. `sop_classes`: every class that is wanted; none: they are not known.

        Raises `AssociationFailure` too.
        """
        uids_max = self._limits.retrieve_uids_max if self._profile.takes_uid_lists else 1
        errand = _Errand(intake, sop_classes, request.urgency, deque(parts(request, uids_max)))
        associations_max = max(1, self._limits.retrieve_associations_max // 2)
        try:
            async with asyncio.timeout(self._limits.retrieve_total_timeout_s), asyncio.TaskGroup() as workers:
                for number in range(min(len(errand.left), associations_max)):
                    workers.create_task(self._work(errand, is_first=not number))
        except TimeoutError as error:
            raise PeerTimeout(self._profile.trust, "the archive did not send everything in time") from error
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        if errand.failure is not None:
            raise errand.failure

    async def close(self) -> None:
        """Abort what is under way; idempotent."""
        for association in tuple(self._open):
            association.abort("the connector is closed")
        if self._behind:
            await asyncio.wait(self._behind, timeout=CLOSE_TIMEOUT_S)

    async def _work(self, errand: _Errand, *, is_first: bool) -> None:
        """Ask for what is left, until nothing is.

        Only the first may wait for a place, or fail for want of an association: others only speed things up.
        """
        while errand.left and (is_first or self._places.has_room(errand.urgency)):
            try:
                association = await self._associated(errand)
            except AssociationFailure:
                if is_first:
                    raise
                return
            under_way: list[Retrieval] = []
            try:
                while errand.left:
                    failed = await self._ask(association, errand, errand.left.popleft(), under_way)
                    errand.failure = errand.failure or failed
                    if self._profile.is_one_request_an_association:
                        break
            finally:
                self._start(self._ended(association, under_way))

    async def _ask(
        self, association: Association, errand: _Errand, part: Part, under_way: list[Retrieval]
    ) -> PeerError | None:
        """Ask for one part; what the archive could not send in one way it is asked for in the other, where it has both.

        DCMTK's archive sends by C-GET only what fits the first context of a class, and many a one does not know us as a
        destination. Returns why not all came; raises `PeerError` where it cannot be asked or not be believed, and
        `AssociationFailure`.
        """
        failed: PeerError | None = None
        for way in self._ways(association.terms, errand):
            with self._awaited(way, association, errand, part) as (asked, elsewhere):
                retrieval = Retrieval(association, asked, None if way.is_move else errand.intake)
                under_way.append(retrieval)
                final = await retrieval.run(self._limits.retrieve_idle_timeout_s, elsewhere)
                under_way.clear()
                if elsewhere is not None:
                    await self._quiet(elsewhere)
                came = retrieval if elsewhere is None else elsewhere
            found = failure(self._profile.trust, final, came.refused)
            if found is None or (left := part.without(came.kept)) is None:
                return None
            failed, part = failed or found, left
        return failed

    async def _associated(self, errand: _Errand) -> Association:
        await self._places.acquire(errand.urgency)
        try:
            association = await self._associate(self._request(errand.sop_classes))
        except BaseException:
            self._places.release()
            raise
        self._open.add(association)
        return association

    def _request(self, sop_classes: frozenset[str]) -> AssociateRequest:
        by = self._profile.by
        syntaxes: tuple[str, ...] = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
        if self._profile.is_implicit_only:
            syntaxes = (IMPLICIT_VR_LITTLE_ENDIAN,)
        contexts: list[tuple[str, tuple[str, ...]]] = []
        roles: list[Roles] = []
        if by is not FetchBy.MOVE:
            contexts.append((STUDY_ROOT_GET, syntaxes))
        if by is not FetchBy.GET and self._awaiting is not None:
            contexts.append((STUDY_ROOT_MOVE, syntaxes))
        if by is not FetchBy.MOVE:
            storage = storage_contexts(sop_classes, CONTEXTS_MAX - len(contexts))
            contexts += storage
            roles = [Roles(uid, scu=False, scp=True) for uid in dict.fromkeys(uid for uid, _ in storage)]
        if not contexts:
            raise PeerRefused(self._profile.trust, "C-MOVE needs a DIMSE listener of ours")
        return propose(
            self._profile.calling_ae_title,
            self._profile.called_ae_title,
            contexts,
            pdu_bytes_max=self._limits.pdu_bytes_max,
            roles=roles,
        )

    def _ways(self, terms: Terms, errand: _Errand) -> list[_Way]:
        """How this association is asked, the better way first; raises `PeerRefused` for none."""
        accepted = {each.abstract_syntax: each for each in terms.contexts.values()}
        get, move = accepted.get(STUDY_ROOT_GET), accepted.get(STUDY_ROOT_MOVE)
        receivable = {each.abstract_syntax for each in terms.contexts.values() if each.is_scp}
        # Of classes that are not known the archive is the better judge: by C-MOVE it is the one who proposes.
        is_all = bool(errand.sop_classes) and errand.sop_classes <= receivable
        ways = [] if move is None else [_Way(move, is_move=True)]
        if get is not None and receivable:
            ways.insert(0 if is_all else len(ways), _Way(get, is_move=False))
        if not ways:
            raise PeerRefused(self._profile.trust, "the archive takes neither C-GET with its images nor C-MOVE")
        return ways

    @contextlib.contextmanager
    def _awaited(
        self, way: _Way, association: Association, errand: _Errand, part: Part
    ) -> Iterator[tuple[Asked, Errand | None]]:
        """The request, and by C-MOVE what waits for its images."""
        trust, context = self._profile.trust, way.context
        identifier = part.identifier(context.transfer_syntax)
        if not way.is_move or self._awaiting is None:
            yield Asked(trust, context, association.next_message_id(), identifier), None
            return
        ours = self._profile.calling_ae_title
        with self._awaiting.expecting(trust, ours, part.sop_uids, errand.intake) as elsewhere:
            yield Asked(trust, context, elsewhere.originator.message_id, identifier, ours), elsewhere

    async def _quiet(self, elsewhere: Errand) -> None:
        try:
            async with asyncio.timeout(self._limits.retrieve_idle_timeout_s):
                await elsewhere.quiet()
        except TimeoutError:
            return  # what did not come to its end is not kept, and its own association tells why

    async def _ended(self, association: Association, under_way: list[Retrieval]) -> None:
        """End an association, and what is under way on it, within the time that an archive has for that."""
        try:
            for retrieval in under_way if association.is_open else ():
                await retrieval.given_up(self._limits.cancel_timeout_s if self._profile.heeds_cancel else None)
            if association.is_open:
                await association.release()
        except AssociationFailure:
            pass  # it has ended, which is what was wanted
        finally:
            association.abort("given up")
            self._open.discard(association)
            self._places.release()
        await association.wire.hung_up.wait()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)


@dataclass(slots=True)
class _Errand:
    """One fetch under way."""

    intake: Intake
    sop_classes: frozenset[str]
    urgency: Urgency
    left: deque[Part]
    """What is still to be asked."""
    failure: PeerError | None = None
    """The first request that the archive did not fulfil."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How one association is asked."""

    context: Context
    is_move: bool
