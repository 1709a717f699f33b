"""A trust's archive, asked by C-FIND as service class user (PS3.4 C, PS3.7 9.1.2).

Asks for all that identity, policy and merging need, over pooled associations, in the information model and transfer
syntax that the archive accepts. One that does not answer relational queries is walked level by level, within a number
of queries. Believes rows only as `dimse.scu.exchange` does; asks a second time only where the pool's association had
died unseen. No name, number or identifier of a patient is ever logged or put into an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from dimse.awaited import Awaiting
from dimse.elements import Reading, RowDecoder, encode_dataset
from dimse.scu import exchange
from dimse.scu.exchange import Answer, Asking, Budget
from dimse.scu.fetch import FetchBy as FetchBy
from dimse.scu.fetch import Fetching, FetchProfile
from dimse.scu.pool import Lease, Pool, PoolLimits
from dimse.scu.questions import Model as Model
from dimse.scu.questions import Question, first_text, fits, identifier, under
from dimse.scu.questions import Quirk as Quirk
from dimse.scu.search import Bounds, Search
from dimse.sop_classes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
)
from dimse.upper_layer.association import (
    Association,
    AssociationEnded,
    AssociationFailure,
    AssociationLimits,
    AssociationRejected,
)
from dimse.upper_layer.messages import MessageLimits
from dimse.upper_layer.negotiation import Context, Terms, propose
from dimse.upper_layer.pdu import AssociateRequest, ExtendedNegotiation
from dimse.upper_layer.requestor import associate, receive_buffer
from dimse.upper_layer.wire import Ended, WireLimits
from gateway.instances.charsets import choose
from gateway.model.attributes import SPECIFIC_CHARACTER_SET
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import (
    SERIES_UID,
    SOP_CLASS_UID,
    STUDY_UID,
    Attributes,
    Element,
    Key,
    Level,
    Query,
)
from gateway.model.seams import PeerAnswer, PeerRequest
from gateway.model.settings import Limits
from gateway.model.work.precedence import Places
from gateway.model.work.transfers import FetchRequest, Intake
from policy.parties import TrustId

_FALLBACK_CHARSET = "ISO_IR 100"
"""What British archives mean by bytes beyond ASCII under no declared character set (product 4.2)."""
_SOP_CLASSES: Mapping[Model, str] = {Model.STUDY_ROOT: STUDY_ROOT_FIND, Model.PATIENT_ROOT: PATIENT_ROOT_FIND}
_RELATIONAL = b"\x01"
_TRANSIENT = 2
"""Result of a rejection that may be different later (PS3.8 9.3.4)."""


@dataclass(frozen=True, slots=True)
class DimsePeerProfile:
    """What the configuration says of one archive behind C-FIND."""

    trust: TrustId
    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    model: Model = Model.STUDY_ROOT
    """Asked where the archive accepts both."""
    fallback_charset: str = ""
    """Term for text that declares no character set; empty: ISO_IR 100."""
    quirks: frozenset[Quirk] = frozenset()
    fetch: FetchBy = FetchBy.AUTO
    """How images are fetched."""


_Decoders = dict[str, RowDecoder]
"""By transfer syntax."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How one association is asked."""

    context: Context
    model: Model
    is_relational: bool


class DimsePeer:
    """One trust's archive over DIMSE. A `PeerConnector`.

    C-FIND carries neither a request id nor the gateways it has passed: another gateway is asked by QIDO-RS (DEC-01).
    """

    def __init__(
        self,
        profile: DimsePeerProfile,
        limits: Limits,
        tls: ssl.SSLContext | None,
        *,
        awaiting: Awaiting | None = None,
        places: Places | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._profile = profile
        self._limits = limits
        self._tls = tls
        self._reading = Reading(fallback_charset=profile.fallback_charset or _FALLBACK_CHARSET)
        self._request = _association_request(profile, limits)
        self._association_limits = _association_limits(limits)
        self._buffer: memoryview | None = None
        self._is_relational = None if _negotiates(profile) else False
        self._is_closed = False
        self._pool = Pool(
            self._associated,
            PoolLimits(
                associations_max=limits.peer_requests_at_once_max,
                idle_s=limits.peer_association_idle_s,
                life_max_s=limits.peer_association_life_max_s,
                queries_max=1 if Quirk.ONE_QUERY_PER_ASSOCIATION in profile.quirks else 0,
            ),
            now=now,
        )
        self._fetching = Fetching(_fetch_profile(profile), limits, self._associated_for_images, awaiting, places)

    @property
    def trust(self) -> TrustId:
        """Whose archive this is."""
        return self._profile.trust

    async def find(self, request: PeerRequest) -> PeerAnswer:
        """Ask; raises `PeerError`. The deadline is the caller's: when it passes, the archive's query is cancelled."""
        level = request.query.level
        if level is Level.PATIENT:
            raise PeerRefused(self.trust, "an archive is asked for studies, series or instances")
        if level is not Level.STUDY and self._is_relational is None:
            await self._get_to_know()
        search = Search(
            request,
            _Asker(self),
            self._profile.quirks,
            bounds=Bounds(
                self._limits.peer_answer_bytes_max, self._limits.peer_queries_max, self._limits.find_timeout_s / 2
            ),
        )
        return await search.answer(is_relational=bool(self._is_relational))

    async def echo(self) -> None:
        """Ask the archive for a sign of life (C-ECHO); raises `PeerError`."""
        with self._translating():
            async with asyncio.timeout(self._limits.find_timeout_s), self._pool.lease() as lease:
                context = _context(lease.association.terms, VERIFICATION)
                if context is None:
                    lease.is_clean = True
                    raise PeerRefused(self.trust, "the archive takes no C-ECHO")
                await exchange.echo(lease, self.trust, context)

    async def fetch(self, request: FetchRequest, intake: Intake) -> None:
        """See `Fetcher`: by C-GET or C-MOVE."""
        classes = request.sop_classes or frozenset(ref.sop_class_uid for ref in request.refs)
        if self._profile.fetch is not FetchBy.MOVE and (not classes or "" in classes):
            classes = await self._classes_of(request)
        with self._translating():
            await self._fetching.fetch(request, intake, classes)

    async def close(self) -> None:
        """Give up the associations; idempotent."""
        self._is_closed = True
        await self._fetching.close()
        await self._pool.close()

    async def _get_to_know(self) -> None:
        """Learn whether the archive answers relational queries, if nothing was asked of it before."""
        with self._translating():
            async with asyncio.timeout(self._limits.find_timeout_s), self._pool.lease() as lease:
                lease.is_clean = True

    async def _ask(
        self, question: Question, parent: Attributes | None, rows_max: int, budget: Budget, decoders: _Decoders
    ) -> Answer:
        """Ask one query; once more on a fresh association if the pool's turns out to have died unseen."""
        with self._translating():
            async with asyncio.timeout(self._limits.find_timeout_s):
                for is_fresh in (False, True):
                    answer = Answer(self.trust, question.level, budget)
                    async with self._pool.lease(is_fresh=is_fresh) as lease:
                        asking = self._asking(lease, question, parent, rows_max, decoders)
                        try:
                            await exchange.find(lease, asking, answer)
                        except (AssociationEnded, PeerProtocolError):
                            if is_fresh or answer.responses or not lease.is_reused:
                                raise
                            continue
                    return answer
        raise AssertionError("a fresh association answers or raises")

    def _asking(
        self, lease: Lease, question: Question, parent: Attributes | None, rows_max: int, decoders: _Decoders
    ) -> Asking:
        for dialect in self._dialects(lease.association.terms):
            whole = question if parent is None else under(question, parent, dialect.model)
            if dialect.is_relational or fits(whole, dialect.model):
                syntax = dialect.context.transfer_syntax
                return Asking(
                    self.trust,
                    dialect.context,
                    question.level,
                    self._encoded(whole, syntax),
                    decoders.setdefault(syntax, RowDecoder(syntax, self._reading)),
                    rows_max,
                    None if Quirk.IGNORES_CANCEL in self._profile.quirks else self._limits.cancel_timeout_s,
                )
        lease.is_clean = True
        raise PeerRefused(self.trust, "the archive accepts no information model that fits the question")

    def _encoded(self, question: Question, transfer_syntax: str) -> bytes:
        """The identifier. Names the character set only if it needs one: some archives mind any that they do not use."""
        elements: dict[str, Element] = identifier(question)
        texts = [text for text in question.texts() if not text.isascii()]
        charset = choose((self._reading.fallback_charset,), texts) if texts else ()
        if charset:
            elements[SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": [*charset]}
        return encode_dataset(elements, transfer_syntax, charset)

    def _dialects(self, terms: Terms) -> Iterator[_Dialect]:
        """How this association can be asked, the profile's model first."""
        for model in sorted(Model, key=lambda model: model is not self._profile.model):
            context = _context(terms, _SOP_CLASSES[model])
            if context is not None:
                is_relational = terms.extended.get(context.abstract_syntax, b"")[:1] == _RELATIONAL
                yield _Dialect(context, model, is_relational and _negotiates(self._profile))

    async def _associated(self) -> Association:
        if self._buffer is None:
            self._buffer = receive_buffer()
        association = await associate(
            self._profile.host,
            self._profile.port,
            self._request,
            self._association_limits,
            tls=self._tls,
            connect_timeout_s=self._limits.connect_timeout_s,
            buffer=self._buffer,
        )
        self._is_relational = any(dialect.is_relational for dialect in self._dialects(association.terms))
        return association

    async def _classes_of(self, request: FetchRequest) -> frozenset[str]:
        """The SOP classes that are wanted, as the archive says; none: it does not.

        By C-GET nothing comes of a class that was not proposed, and there is no room to propose all of them well.
        """
        target = request.target
        keys = [Key((STUDY_UID,), "UI", (target.study_uid,))]
        if target.series_uids:
            keys.append(Key((SERIES_UID,), "UI", target.series_uids))
        try:
            query = Query(Level.IMAGE, tuple(keys))
            asked = PeerRequest(query, request.request_id, request.hops, self._limits.peer_matches_max)
            rows = (await self.find(asked)).rows
        except PeerError:
            return frozenset()  # whether it can be fetched from is still to be seen
        return frozenset(uid for row in rows if (uid := first_text(row, SOP_CLASS_UID)))

    async def _associated_for_images(self, request: AssociateRequest) -> Association:
        if self._buffer is None:
            self._buffer = receive_buffer()
        return await associate(
            self._profile.host,
            self._profile.port,
            request,
            self._association_limits,
            tls=self._tls,
            connect_timeout_s=self._limits.retrieve_connect_timeout_s,
            buffer=self._buffer,
            takes_inflows=True,
        )

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Say what an association's failure is for those who asked."""
        try:
            yield
        except TimeoutError as error:
            raise PeerTimeout(self.trust, "the archive did not answer in time") from error
        except AssociationFailure as error:
            raise self._failure(error) from error

    def _failure(self, error: AssociationFailure) -> PeerError:
        match error:
            case _ if self._is_closed:
                return PeerUnavailable(self.trust, "the connector is closed")
            case AssociationRejected() if error.reject.result != _TRANSIENT:
                return PeerRefused(self.trust, f"the archive refused the association: {error}")
            case AssociationEnded() if error.why is Ended.ABORTED_HERE:
                return PeerProtocolError(self.trust, f"the archive broke the protocol: {error}")
            case _:
                return PeerUnavailable(self.trust, f"no association: {error}")


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks the queries of one question: what their answers share is remembered over all of them."""

    peer: DimsePeer
    decoders: _Decoders = field(default_factory=dict)

    async def __call__(self, question: Question, parent: Attributes | None, rows_max: int, budget: Budget) -> Answer:
        return await self.peer._ask(question, parent, rows_max, budget, self.decoders)


def _context(terms: Terms, abstract_syntax: str) -> Context | None:
    return next((each for each in terms.contexts.values() if each.abstract_syntax == abstract_syntax), None)


def _negotiates(profile: DimsePeerProfile) -> bool:
    return Quirk.NO_RELATIONAL_NEGOTIATION not in profile.quirks


def _association_request(profile: DimsePeerProfile, limits: Limits) -> AssociateRequest:
    """Both information models, for an archive may have either alone; and C-ECHO."""
    syntaxes: tuple[str, ...] = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    if Quirk.IMPLICIT_VR_ONLY in profile.quirks:
        syntaxes = (IMPLICIT_VR_LITTLE_ENDIAN,)
    models = (STUDY_ROOT_FIND, PATIENT_ROOT_FIND)
    return propose(
        profile.calling_ae_title,
        profile.called_ae_title,
        [(sop_class, syntaxes) for sop_class in (*models, VERIFICATION)],
        pdu_bytes_max=limits.pdu_bytes_max,
        extended=[ExtendedNegotiation(uid, _RELATIONAL) for uid in models] if _negotiates(profile) else (),
    )


def _fetch_profile(profile: DimsePeerProfile) -> FetchProfile:
    return FetchProfile(
        profile.trust,
        profile.called_ae_title,
        profile.calling_ae_title,
        by=profile.fetch,
        is_implicit_only=Quirk.IMPLICIT_VR_ONLY in profile.quirks,
        takes_uid_lists=Quirk.NO_UID_LISTS not in profile.quirks,
        is_one_request_an_association=Quirk.ONE_QUERY_PER_ASSOCIATION in profile.quirks,
        heeds_cancel=Quirk.IGNORES_CANCEL not in profile.quirks,
    )


def _association_limits(limits: Limits) -> AssociationLimits:
    return AssociationLimits(
        wire=WireLimits(associate_bytes_max=limits.associate_bytes_max, artim_timeout_s=limits.artim_timeout_s),
        messages=MessageLimits(
            command_bytes_max=limits.command_bytes_max,
            fragments_max=limits.fragments_max,
            data_bytes_max=limits.identifier_bytes_max,
        ),
        send_timeout_s=limits.dimse_send_timeout_s,
    )
