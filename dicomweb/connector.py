"""A trust's DICOMweb archive, or another gateway that fronts it, asked by QIDO-RS (PS3.18 10.6 as user agent) and, by
`dicomweb.peer.fetching`, for images by WADO-RS.

Asks for all that identity, policy and merging need, reads the answer with limits, and believes it only as a whole:
`dicomweb.dicomjson` checks every row, `dicomweb.gateway_peer` what a gateway says beside them. Follows no redirect,
reads no proxy setting from the environment, keeps no cookies, never retries. The address of a question holds a
patient's number, so no address is ever logged or put into an error, and no library exception that might quote one is
shown.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import NoReturn
from urllib.parse import quote

import aiohttp
from yarl import URL

from dicomweb.dicomjson import Reading, read_rows_in_turns
from dicomweb.gateway_peer import PROBLEM_BYTES_MAX, asking_headers, failure_of, read_sources, speaks_of_more
from dicomweb.listener import CORRELATION_CHARS_MAX, CORRELATION_HEADER, HOPS_HEADER
from dicomweb.notices import SOURCES_HEADER
from dicomweb.peer.faults import check_status, told_as_peer_errors
from dicomweb.peer.fetching import READ_BYTES_MAX, Fetching, Server
from gateway.model.asking import DistinctRows, asked_attributes, single_value, with_known_parents
from gateway.model.attributes import keyword_of
from gateway.model.errors import PeerProtocolError, PeerRefused, PeerUnavailable
from gateway.model.imaging import PATIENT_ID, SERIES_UID, STUDY_UID, Attributes, Key, Level, Query
from gateway.model.seams import PeerAnswer, PeerRequest, ToldByGateway
from gateway.model.settings import Limits
from gateway.model.work.precedence import Places
from gateway.model.work.transfers import FetchRequest, Intake
from policy.parties import TrustId

PAGE_ROWS_MAX = 500
"""Rows asked for at once: parsing as many (half a megabyte) takes less than 5 ms of the loop."""

_CHUNK_BYTES = 64 * 1024
_JSON_TYPES = frozenset({"application/dicom+json", "application/json"})
_SAYS_MORE = re.compile(r"additional results", re.IGNORECASE)
_NEXT_WARNING = re.compile(r",\s*(?=[0-9]{3} )")
_IGNORED_A_PARAMETER = re.compile(r"not supported|unsupported|fuzzymatching", re.IGNORECASE)
_WILDCARD = re.compile(r"[*?]")


class Quirk(StrEnum):
    """Habits of archives that a peer's profile names (`quirks`)."""

    NO_WILDCARDS = "no-wildcards"
    """Takes `*` literally: keys with wild cards are not sent; every row is matched here anyway."""
    WILDCARD_PATIENT_ID = "wildcard-patient-id"
    """Pads or prefixes Patient IDs: they are asked between `*`."""
    NO_PAGING = "no-paging"
    """Refuses or ignores `limit` and `offset`: asked once, without them."""
    BACKSLASH_LISTS = "backslash-lists"
    """Reads UID lists only with backslashes between."""
    PLAIN_NAMES = "plain-names"
    """Writes person names as plain strings."""
    NUL_PADDING = "nul-padding"
    """Leaves the NUL that pads UIDs in files."""


@dataclass(frozen=True, slots=True)
class DicomwebPeerProfile:
    """What the configuration says of one DICOMweb archive."""

    trust: TrustId
    url: str
    """Address of its DICOMweb service, without a slash at the end."""
    fallback_charset: str = ""
    quirks: frozenset[Quirk] = frozenset()
    is_gateway: bool = False
    """Whether another gateway answers there for the trust (DEC-01)."""


class DicomwebPeer:
    """One trust's archive over DICOMweb. A `PeerConnector` and a `Fetcher`."""

    def __init__(
        self, profile: DicomwebPeerProfile, limits: Limits, tls: ssl.SSLContext | None, places: Places | None = None
    ) -> None:
        """`places`: what another connector to the same archive takes too, for fetches of both together."""
        self._profile = profile
        self._limits = limits
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._image_session: aiohttp.ClientSession | None = None
        self._places = places or Places(limits.retrieve_associations_max)
        self._is_closed = False
        self._reading = Reading(
            trust=profile.trust,
            depth_max=limits.json_depth_max,
            fallback_charset=profile.fallback_charset,
            forgives_plain_names=Quirk.PLAIN_NAMES in profile.quirks,
            forgives_nul_padding=Quirk.NUL_PADDING in profile.quirks,
        )

    @property
    def trust(self) -> TrustId:
        """Whose archive this is."""
        return self._profile.trust

    async def find(self, request: PeerRequest) -> PeerAnswer:
        """Ask, page after page while the archive says there is more; raises `PeerError`.

        The deadline is the caller's. An archive that repeats itself instead of paging counts as truncated.
        """
        if request.query.level is Level.PATIENT:
            raise PeerRefused(self.trust, "DICOMweb has no search at patient level")
        can_page = Quirk.NO_PAGING not in self._profile.quirks
        rows = DistinctRows(self.trust, request.query.level)
        bytes_left = self._limits.peer_answer_bytes_max
        has_more, has_gap, has_news, told = True, False, True, None
        while has_more and has_news and len(rows) <= request.matches_max:
            page_rows = min(PAGE_ROWS_MAX, request.matches_max + 1 - len(rows))
            page = await self._page(request, len(rows), page_rows, bytes_left)
            bytes_left -= page.size
            known = len(rows)
            rows.add(page.rows)
            # A page that is just full may have a next one; a longer one shows that the limit was not read at all.
            has_more = page.says_more or (can_page and len(page.rows) == page_rows)
            has_gap, told = has_gap or page.has_gap, page.told
            has_news = can_page and len(rows) > known
        found = with_known_parents(rows.rows, request.query)
        is_cut = len(found) > request.matches_max
        return PeerAnswer(found[: request.matches_max], is_truncated=is_cut or has_gap or has_more, told=told)

    async def fetch(self, request: FetchRequest, intake: Intake) -> None:
        """Fetch images by WADO-RS; see `Fetcher.fetch`."""
        server = Server(self.trust, self._profile.url, self._limits, self._profile.is_gateway)
        session, told = self._opened_for_images(), self._told_beside(request)
        await Fetching(server, session, told, intake, self._places).fetch(request)

    async def close(self) -> None:
        """Give up pooled connections; idempotent."""
        self._is_closed = True
        sessions = (self._session, self._image_session)
        self._session = self._image_session = None
        for session in sessions:
            if session is not None:
                await session.close()

    def _told_beside(self, request: PeerRequest | FetchRequest) -> dict[str, str]:
        """What travels with every request: its id, the gateways that it passed, and to a gateway for whom it is."""
        told = {CORRELATION_HEADER: correlation_of(request.request_id), HOPS_HEADER: str(request.hops)}
        return told | asking_headers(request, self.trust) if self._profile.is_gateway else told

    async def _page(self, request: PeerRequest, offset: int, page_rows: int, bytes_max: int) -> _Page:
        url = question_url(self._profile, request.query, offset=offset, limit=page_rows)
        headers = {
            "Accept": "application/dicom+json",
            "Accept-Encoding": "identity",
            **self._told_beside(request),
        }
        with told_as_peer_errors(self.trust):
            async with self._opened().get(url, headers=headers, allow_redirects=False) as response:
                return await self._read(response, bytes_max)

    async def _read(self, response: aiohttp.ClientResponse, bytes_max: int) -> _Page:
        if self._profile.is_gateway and response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            problem = await response.content.read(PROBLEM_BYTES_MAX)
            raise failure_of(problem, self.trust, response.status)
        check_status(self.trust, response.status)
        warnings = _warnings(response)
        others = [text for text in warnings if not _SAYS_MORE.search(text)]
        # A 299 that is nothing else is taken for a gap (a gateway's missing trust), but that a parameter was ignored.
        gaps = [text for text in others if not _IGNORED_A_PARAMETER.search(text)]
        has_gap, told = bool(gaps), None
        if self._profile.is_gateway:
            said = read_sources(response.headers.getall(SOURCES_HEADER, ()), self.trust)
            has_gap, told = said.is_gap or any(map(speaks_of_more, gaps)), said.told
        if response.status == HTTPStatus.NO_CONTENT:
            return _Page((), says_more=False, has_gap=has_gap, size=0, told=told)
        if (
            response.content_type not in _JSON_TYPES
            or response.headers.get("Content-Encoding", "identity") != "identity"
        ):
            self._disbelieve("the answer is not DICOM JSON")
        if response.content_length is not None and response.content_length > bytes_max:
            self._disbelieve(f"the answer is longer than {self._limits.peer_answer_bytes_max} bytes")
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > bytes_max:
                self._disbelieve(f"the answer is longer than {self._limits.peer_answer_bytes_max} bytes")
        rows = await read_rows_in_turns(bytes(body), self._reading, response.charset or "")
        says_more = response.status == 206 or len(others) < len(warnings)
        return _Page(tuple(rows), says_more, has_gap, len(body), told)

    def _disbelieve(self, reason: str) -> NoReturn:
        raise PeerProtocolError(self.trust, reason)

    def _opened(self) -> aiohttp.ClientSession:
        """The session of questions, opened at the first because it belongs to the running loop."""
        if self._session is None:
            limits = self._limits
            patience = aiohttp.ClientTimeout(
                total=None, sock_connect=limits.connect_timeout_s, sock_read=limits.find_timeout_s
            )
            self._session = self._new_session(limits.peer_requests_at_once_max, patience)
        return self._session

    def _opened_for_images(self) -> aiohttp.ClientSession:
        """The session of images: neither waits for the other's connections, and images come with more patience."""
        if self._image_session is None:
            limits = self._limits
            patience = aiohttp.ClientTimeout(
                total=None, sock_connect=limits.retrieve_connect_timeout_s, sock_read=limits.retrieve_idle_timeout_s
            )
            self._image_session = self._new_session(limits.retrieve_associations_max, patience)
        return self._image_session

    def _new_session(self, connections_max: int, patience: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        if self._is_closed:
            raise PeerUnavailable(self.trust, "the connector is closed")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max,
                keepalive_timeout=self._limits.keepalive_timeout_s / 2,
                ssl=self._tls if self._tls is not None else True,
            ),
            timeout=patience,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "image-sharing-gateway"},
            read_bufsize=READ_BYTES_MAX,
        )


def _warnings(response: aiohttp.ClientResponse) -> list[str]:
    """The 299 warnings of an answer, however many stand in one header line."""
    texts = [text for line in response.headers.getall("Warning", ()) for text in _NEXT_WARNING.split(line)]
    return [text for text in texts if text.lstrip().startswith("299")]


@dataclass(frozen=True, slots=True)
class _Page:
    rows: Sequence[Attributes]
    says_more: bool
    has_gap: bool
    size: int
    told: ToldByGateway | None = None


def correlation_of(request_id: str) -> str:
    """A request's id as the next gateway will take it: where a caller's own stands before ours, ours alone may fit."""
    return request_id if len(request_id) <= CORRELATION_CHARS_MAX else request_id.rpartition("/")[2]


def question_url(profile: DicomwebPeerProfile, query: Query, *, offset: int, limit: int) -> URL:
    """The address that asks `query` of an archive. Holds the patient's number: not to be logged."""
    path, in_path = _path(query)
    pairs = [
        (".".join(map(keyword_of, key.path)), _value(key, profile.quirks))
        for key in query.keys
        if key.path not in in_path and not _is_left_out(key, profile.quirks)
    ]
    pairs.append(("includefield", "all" if query.include_all else ",".join(sorted(asked_attributes(query)))))
    if Quirk.NO_PAGING not in profile.quirks:
        pairs.append(("limit", str(limit)))
        if offset:
            pairs.append(("offset", str(offset)))
    query_string = "&".join(f"{name}={quote(value, safe='*,')}" for name, value in pairs)
    return URL(f"{profile.url}{path}?{query_string}", encoded=True)


def _path(query: Query) -> tuple[str, set[tuple[str, ...]]]:
    """The narrowest resource that the query's single UIDs name, and the keys that thereby stand in the path."""
    study, series = single_value(query, STUDY_UID), single_value(query, SERIES_UID)
    match query.level:
        case Level.SERIES if study:
            return f"/studies/{study}/series", {(STUDY_UID,)}
        case Level.SERIES:
            return "/series", set()
        case Level.IMAGE if study and series:
            return f"/studies/{study}/series/{series}/instances", {(STUDY_UID,), (SERIES_UID,)}
        case Level.IMAGE if study:
            return f"/studies/{study}/instances", {(STUDY_UID,)}
        case Level.IMAGE:
            return "/instances", set()
        case _:
            return "/studies", set()


def _is_left_out(key: Key, quirks: frozenset[Quirk]) -> bool:
    """Whether the archive is not asked this, and its rows are only held to it here.

    Only UIDs may be lists (PS3.18 8.3.4.1). Orthanc takes `CT\\MR` for one modality and finds nothing, which would
    read as "no priors".
    """
    if key.vr != "UI" and len(key.values) > 1:
        return True
    return Quirk.NO_WILDCARDS in quirks and any(map(_WILDCARD.search, key.values))


def _value(key: Key, quirks: frozenset[Quirk]) -> str:
    values = key.values
    if key.path == (PATIENT_ID,) and Quirk.WILDCARD_PATIENT_ID in quirks:
        values = tuple(f"*{value.strip('*')}*" for value in values)
    return ("\\" if Quirk.BACKSLASH_LISTS in quirks else ",").join(values)
