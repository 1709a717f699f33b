"""QIDO-RS: the search resources of PS3.18 10.6, across the region and at one trust.

Thin on purpose: evidence becomes a caller, the query string a `Query`, the broker's matches bytes. What may be seen is
decided behind `FindsMatches`; nothing is looked up, filtered or counted here. Found, none and withheld leave by the
same lines of code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from aiohttp import web

from dicomweb.accept import json_type
from dicomweb.answer import encode, wanted
from dicomweb.credentials import Callers, Identifies
from dicomweb.notices import SNAPSHOT_HEADER, headers
from dicomweb.parameters import parse_question, uid_from_path
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import SERIES_UID, STUDY_UID, Key, Level, Matches, Query
from gateway.model.settings import Limits, QidoEmpty
from gateway.sharing.directory import parse_trust
from policy.parties import Caller

PREFIX = "/dicom-web"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


class FindsMatches(Protocol):
    """The one door for images."""

    async def find(self, caller: Caller, query: Query, snapshot: str = "") -> Matches:
        """Find what `caller` may know of; raises `GatewayError`."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A search resource: its path below the prefix, what it finds, and the UIDs that its path names."""

    path: str
    level: Level
    path_tags: tuple[str, ...] = ()


RESOURCES = (
    Resource("/studies", Level.STUDY),
    Resource("/studies/{study}/series", Level.SERIES, (STUDY_UID,)),
    Resource("/studies/{study}/series/{series}/instances", Level.IMAGE, (STUDY_UID, SERIES_UID)),
    Resource("/studies/{study}/instances", Level.IMAGE, (STUDY_UID,)),
    Resource("/series", Level.SERIES),
    Resource("/instances", Level.IMAGE),
)
"""PS3.18 Table 10.6.1-1, each of them also below `/trust/{ODS}`."""

_PATH_NAMES = ((STUDY_UID, "study"), (SERIES_UID, "series"))


def routes(
    finder: FindsMatches,
    directory: Identifies,
    limits: Limits,
    *,
    public_url: str,
    empty: QidoEmpty = QidoEmpty.OK,
) -> list[web.RouteDef]:
    """Every search resource; HEAD comes with GET. `public_url` is the address of `/dicom-web` as callers know it."""
    service = _Qido(finder, directory, limits, public_url=public_url, empty=empty)
    return [
        web.get(prefix + resource.path, partial(service.search, resource))
        for resource in RESOURCES
        for prefix in (PREFIX, f"{PREFIX}/trust/{{trust}}")
    ]


class _Qido:
    """The search service of one gateway."""

    def __init__(
        self,
        finder: FindsMatches,
        directory: Identifies,
        limits: Limits,
        *,
        public_url: str,
        empty: QidoEmpty = QidoEmpty.OK,
    ) -> None:
        self._finder = finder
        self._limits = limits
        self._public_url = public_url.rstrip("/")
        self._empty = empty
        self._callers = Callers(directory)

    async def search(self, resource: Resource, request: web.Request) -> web.Response:
        caller = await self._callers.caller_of(request)
        trust = request.match_info.get("trust")
        question = parse_question(
            request.rel_url.raw_query_string,
            resource.level,
            self._limits,
            path_keys=_path_keys(resource, request),
            only_trust=parse_trust(trust) if trust is not None else None,
        )
        content_type = json_type(",".join(request.headers.getall("Accept", ())), question.accept)
        query = question.query
        matches = await self._finder.find(caller, query, _snapshot(request))
        body = encode(matches.rows, wanted(query, frozenset(resource.path_tags)), self._public_url)
        is_without_content = not matches.rows and self._empty is QidoEmpty.NO_CONTENT
        response = web.Response(status=204) if is_without_content else web.Response(body=body)
        if not is_without_content:
            response.content_type = content_type
        named = headers(matches, service=self._public_url, unsupported=question.unsupported, is_fuzzy=query.fuzzy)
        for name, value in named:
            response.headers.add(name, value)
        return response


def _path_keys(resource: Resource, request: web.Request) -> list[Key]:
    names = dict(_PATH_NAMES)
    return [Key((tag,), "UI", (uid_from_path(request.match_info[names[tag]]),)) for tag in resource.path_tags]


def _snapshot(request: web.Request) -> str:
    token = request.headers.get(SNAPSHOT_HEADER, "")
    if token and not _TOKEN.fullmatch(token):
        raise InvalidRequest(f"{SNAPSHOT_HEADER} is not a token of ours")
    return token
