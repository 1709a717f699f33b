"""Fetch images of one archive by WADO-RS (PS3.18 10.4 as user agent), and hand each on while it arrives.

One errand becomes a few requests: a study, its series, or single instances where few of a series are wanted. Nothing is
kept here but the head of a part: pieces go to the intake as they were read, and the archive is read no faster than the
intake can write; while it makes one instance durable the next is read. What the intake refuses is passed over; the rest
goes on. Never retries, believes no header that it need not believe, and says of an answer with a gap that it has one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
from yarl import URL

from dicomweb.gateway_peer import PROBLEM_BYTES_MAX, failure_of, read_sources
from dicomweb.notices import SOURCES_HEADER
from dicomweb.peer.faults import check_status, told_as_peer_errors
from dicomweb.wado.file_meta import FILE_META_BYTES_MAX, FileMeta, read_file_meta
from dicomweb.wado.parts import Event, PartBegins, PartsReader, media_type
from gateway.model.errors import (
    GatewayError,
    InvalidRequest,
    PeerError,
    PeerProtocolError,
    PeerRefused,
    PeerTimeout,
    PeerUnavailable,
    StoreUnavailable,
)
from gateway.model.settings import Limits
from gateway.model.work.precedence import Places, Urgency
from gateway.model.work.transfers import FetchRequest, Intake, Taking
from policy.parties import TrustId

ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""As the archive keeps them: without the asterisk it has to decompress (PS3.18 8.7.3.5.2)."""
READ_BYTES_MAX = 256 * 1024
"""Read ahead of one connection; twice as much stops the archive until it is used up."""
SINGLY_MAX = 16
"""Of a series of which no more instances are wanted, they are asked for one by one."""
PASSED_OVER_MAX = 16
"""A series of which so many more were not wanted than were: the rest is asked for one by one."""
KEEPING_MAX = 4
"""Instances of one answer that are made durable while the next is read."""
REFUSALS_MAX = 16
"""After so many requests that were refused, the others are not made."""

_DICOM = "application/dicom"
_PREFACE_BYTES = 1024
"""Nearly every file's meta information is shorter."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom images are fetched from, and how patient we are."""

    trust: TrustId
    url: str
    """Of its DICOMweb service, without a slash at the end."""
    limits: Limits
    is_gateway: bool


@dataclass(frozen=True, slots=True)
class Resource:
    """One request: a path below the service, and which instances of it are wanted; None: whatever comes."""

    path: str
    wanted: frozenset[str] | None = None
    is_series: bool = False
    """Whether its instances can be asked for one by one below it."""


def resources_of(request: FetchRequest) -> list[Resource]:
    """The requests that make up an errand, in the order of what is wanted. Pure."""
    target = request.target
    if request.refs:
        by_series: dict[tuple[str, str], list[str]] = {}
        for ref in request.refs:
            by_series.setdefault((ref.study_uid, ref.series_uid), []).append(ref.sop_uid)
        return [resource for (study, series), uids in by_series.items() for resource in _of_series(study, series, uids)]
    if not target.series_uids:
        return [Resource(f"/studies/{quote(target.study_uid, safe='')}", frozenset(target.sop_uids) or None)]
    if len(target.series_uids) == 1 and target.sop_uids:
        return _of_series(target.study_uid, target.series_uids[0], target.sop_uids)
    wanted = frozenset(target.sop_uids) or None
    return [Resource(_series_path(target.study_uid, series_uid), wanted) for series_uid in target.series_uids]


class Fetching:
    """One errand to one server."""

    def __init__(
        self,
        server: Server,
        session: aiohttp.ClientSession,
        headers: Mapping[str, str],
        intake: Intake,
        places: Places,
    ) -> None:
        """`places` are those of the archive, for all errands to it."""
        self._places = places
        self._urgency = Urgency()
        self._server = server
        self._session = session
        self._headers = {"Accept": ACCEPT, "Accept-Encoding": "identity", **headers}
        self._intake = intake
        self._left: deque[Resource] = deque()
        self._workers = 0
        self._refusals = 0
        self._refusal: PeerRefused | None = None
        self._gap: PeerError | StoreUnavailable | None = None
        self._not_kept: PeerError | StoreUnavailable | None = None

    async def fetch(self, request: FetchRequest) -> None:
        """See `Fetcher.fetch`."""
        self._urgency = request.urgency
        self._left.extend(resources_of(request))
        try:
            async with asyncio.timeout(self._server.limits.retrieve_total_timeout_s):
                async with asyncio.TaskGroup() as group:
                    self._begin(group)
        except TimeoutError as error:
            raise PeerTimeout(self._server.trust, "the archive did not send everything in time") from error
        # What broke off tells more than what was refused: it may be had later, or from nobody while our disk is full.
        if (failure := self._gap or self._refusal) is not None:
            raise failure

    def _begin(self, group: asyncio.TaskGroup) -> None:
        """Set as many at work as there is work for, and as the archive is to bear."""
        room = self._server.limits.retrieve_associations_max - self._workers
        for _ in range(min(room, len(self._left))):
            self._workers += 1
            group.create_task(self._work(group))

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while self._left:
            resource = self._left.popleft()
            await self._places.acquire(self._urgency)
            try:
                with told_as_peer_errors(self._server.trust):
                    await self._get(resource)
            except PeerRefused as refusal:
                self._refusal = self._refusal or refusal
                self._refusals += 1
                if self._refusals > REFUSALS_MAX:
                    self._left.clear()
            except (PeerError, StoreUnavailable) as failure:
                self._gap = failure
                self._left.clear()
            else:
                self._begin(group)
            finally:
                self._places.release()
        self._workers -= 1

    async def _get(self, resource: Resource) -> None:
        url = URL(self._server.url + resource.path, encoded=True)
        async with self._session.get(url, headers=self._headers, allow_redirects=False) as response:
            boundary = await self._boundary(response)
            async with aclosing(self._events(response, boundary)) as events:
                await self._take_all(resource, events)

    async def _boundary(self, response: aiohttp.ClientResponse) -> str:
        """What stands between an answer's parts, once its head is believed; notes what it says of gaps."""
        trust = self._server.trust
        if self._server.is_gateway and response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise failure_of(await response.content.read(PROBLEM_BYTES_MAX), trust, response.status)
        check_status(trust, response.status)
        if response.status == HTTPStatus.NO_CONTENT:
            raise PeerRefused(trust, "the archive has nothing of it")
        named = media_type(response.headers.get("Content-Type", ""))
        if (
            named is None
            or named.name != "multipart/related"
            or named.parameters.get("type", _DICOM).lower() != _DICOM
            or response.headers.get("Content-Encoding", "identity") != "identity"
        ):
            raise PeerProtocolError(trust, "the answer holds no DICOM instances")
        sources = response.headers.getall(SOURCES_HEADER, ()) if self._server.is_gateway else ()
        if response.status == HTTPStatus.PARTIAL_CONTENT or (sources and read_sources(sources, trust).is_gap):
            self._gap = PeerUnavailable(trust, "the archive says that it cannot send everything")
        return named.parameters.get("boundary", "")

    async def _events(self, response: aiohttp.ClientResponse, boundary: str) -> AsyncGenerator[Event, None]:
        """The answer's parts as they come; ends behind its closing border only."""
        try:
            reader = PartsReader(boundary)
            async for chunk in response.content.iter_any():
                for event in reader.feed(chunk):
                    yield event
        except InvalidRequest as error:
            raise PeerProtocolError(self._server.trust, str(error)) from error
        if not reader.is_closed:
            raise PeerUnavailable(self._server.trust, "the archive ended its answer in the middle")

    async def _take_all(self, resource: Resource, events: AsyncIterator[Event]) -> None:
        async with _keeping() as keeping:
            await self._read_all(resource, events, keeping)
        if self._not_kept is not None:
            raise self._not_kept

    async def _read_all(self, resource: Resource, events: AsyncIterator[Event], keeping: _Keeping) -> None:
        wanted, left = resource.wanted, set(resource.wanted or ())
        passed_over = 0
        async for event in events:
            if self._not_kept is not None or (wanted is not None and not left):
                # The connection is given up with it, so this waits until there is more that is not wanted.
                return
            part = _Part(event, events)
            sop_uid = await self._part(part, wanted, keeping)
            if wanted is None or sop_uid is None:
                continue
            passed_over += sop_uid not in left
            left.discard(sop_uid)
            if resource.is_series and passed_over > len(wanted) - len(left) + PASSED_OVER_MAX:
                self._left.extend(_single(resource.path, sop_uid) for sop_uid in wanted if sop_uid in left)
                return

    async def _part(self, part: _Part, wanted: frozenset[str] | None, keeping: _Keeping) -> str | None:
        """Hand one part's instance on; its SOP Instance UID, None where it is no instance."""
        try:
            meta, piece = await _opened(part)
        except InvalidRequest as error:
            self._gap = (
                PeerProtocolError(self._server.trust, str(error))
                if part.says_dicom
                # As our own gateway says it midway; what stands in it is written for people.
                else PeerUnavailable(self._server.trust, "the archive says that it cannot send everything")
            )
            await part.pass_over()
            return None
        if wanted is not None and meta.sop_uid not in wanted:
            await part.pass_over()
            return meta.sop_uid
        try:
            async with AsyncExitStack() as held:
                take = self._intake.take(meta.sop_class_uid, meta.sop_uid, meta.transfer_syntax)
                taking = await held.enter_async_context(take)
                await _fill(taking, piece, part)
                await keeping.room.acquire()
                keeping.begin(self._keep(taking, held.pop_all(), keeping.room))
                if keeping.is_first():
                    # Somebody waits for it: nothing is read beside it.
                    await keeping.over()
        except (PeerError, StoreUnavailable):
            raise
        except GatewayError:
            # Whoever refused it knows why; the archive cannot be told over HTTP.
            await part.pass_over()
        return meta.sop_uid

    async def _keep(self, taking: Taking, held: AsyncExitStack, room: asyncio.Semaphore) -> None:
        """Bring an instance that was read whole to its end."""
        try:
            async with held:
                await taking.keep()
        except (PeerError, StoreUnavailable) as failure:
            self._not_kept = failure
        except GatewayError:
            return  # whoever refused it knows why
        finally:
            room.release()


@dataclass(frozen=True, slots=True)
class _Keeping:
    """The instances of one answer that are on their way to being durable."""

    tasks: set[asyncio.Task[None]]
    room: asyncio.Semaphore
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def is_first(self) -> bool:
        """Whether the one that was begun last is the first."""
        return next(self._numbers) == 0

    async def over(self) -> None:
        """Return once all are at their end."""
        await asyncio.gather(*self.tasks)

    def begin(self, keep: Coroutine[None, None, None]) -> None:
        """Let one come to its end beside the reading."""
        task = asyncio.create_task(keep)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self.tasks.discard(task)


@asynccontextmanager
async def _keeping() -> AsyncIterator[_Keeping]:
    """What was read whole is kept, however the reading ends; unless nobody wants it any more."""
    keeping = _Keeping(set(), asyncio.Semaphore(KEEPING_MAX))
    try:
        yield keeping
    except asyncio.CancelledError:
        for task in keeping.tasks:
            task.cancel()
        raise
    finally:
        await keeping.over()


class _Part:
    """The part that is being read."""

    def __init__(self, begins: Event, events: AsyncIterator[Event]) -> None:
        kind = begins.media_type if isinstance(begins, PartBegins) else None
        self.says_dicom = kind is None or kind.name == _DICOM
        self._events = events
        self._has_ended = False

    async def piece(self) -> memoryview | None:
        """Its next bytes; None behind the last."""
        if not self._has_ended:
            event = await anext(self._events)
            if isinstance(event, memoryview):
                return event
            self._has_ended = True
        return None

    async def pass_over(self) -> None:
        """Read to its end, for nobody."""
        while await self.piece() is not None:
            pass


async def _opened(part: _Part) -> tuple[FileMeta, memoryview]:
    """What the part's file says of itself, and the first bytes of its data set. Raises `InvalidRequest`."""
    held, worth_reading = b"", 1
    while (piece := await part.piece()) is not None:
        whole = memoryview(held + piece) if held else piece
        if len(whole) >= worth_reading:
            # A copy of the beginning alone: the piece may be long, and goes on as it is.
            for count_max in (_PREFACE_BYTES, FILE_META_BYTES_MAX + 1):
                if (meta := read_file_meta(bytes(whole[:count_max]))) is not None:
                    return meta, whole[meta.data_set_at :]
            worth_reading = 2 * len(whole)
        held = bytes(whole)
    if (meta := read_file_meta(held)) is None:
        raise InvalidRequest("a part ends in its file meta information")
    return meta, memoryview(held)[meta.data_set_at :]


async def _fill(taking: Taking, first: memoryview, part: _Part) -> None:
    piece: memoryview | None = first
    while piece is not None:
        taking.add(piece)
        await taking.drain()
        # What has been read already costs no turn of the loop: others would wait until the network is slower than we.
        await asyncio.sleep(0)
        piece = await part.piece()


def _of_series(study_uid: str, series_uid: str, sop_uids: Sequence[str]) -> list[Resource]:
    path = _series_path(study_uid, series_uid)
    if len(sop_uids) > SINGLY_MAX:
        return [Resource(path, frozenset(sop_uids), is_series=True)]
    return [_single(path, sop_uid) for sop_uid in sop_uids]


def _series_path(study_uid: str, series_uid: str) -> str:
    return f"/studies/{quote(study_uid, safe='')}/series/{quote(series_uid, safe='')}"


def _single(series_path: str, sop_uid: str) -> Resource:
    return Resource(f"{series_path}/instances/{quote(sop_uid, safe='')}", frozenset((sop_uid,)))
