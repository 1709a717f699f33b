"""Which images a path names, who asks for them, and how an answer says what is not in it (PS3.18 10.4, SAF-02, SAF-03).

What every service for images has in common. Whether something may be had is decided behind `Retrievals`; nothing that
may be had, for whatever reason, leaves by `absent` and by no other line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from aiohttp import hdrs, web

from dicomweb.bodies.outgoing import Outgoing
from dicomweb.conditional import entity_tag, has_it
from dicomweb.credentials import Callers
from dicomweb.listener import OUTGOING, REQUEST_ID
from dicomweb.notices import headers
from dicomweb.parameters import uid_from_path
from dicomweb.problem import http_problem
from dicomweb.qido import PREFIX
from dicomweb.wado.negotiation import Syntaxes
from gateway.model.errors import NotFound, PeerUnavailable, ServiceFault, StoreUnavailable
from gateway.model.imaging import Level, Matches
from gateway.model.settings import Limits
from gateway.model.work.retrievals import NOT_KEPT, Delivery, Halt, Item, Retrievals, RetrieveWish
from gateway.sharing.directory import parse_trust

STUDY_PATH = "/studies/{study}"
SERIES_PATH = STUDY_PATH + "/series/{series}"
INSTANCE_PATH = SERIES_PATH + "/instances/{instance}"
PATHS = ((Level.STUDY, STUDY_PATH), (Level.SERIES, SERIES_PATH), (Level.IMAGE, INSTANCE_PATH))


class Transcoder(Protocol):
    """Who changes the transfer syntax of an instance, without loss."""

    async def transcoded(self, item: Item, accepted: Collection[str]) -> Item | None:
        """The same instance in one of the accepted syntaxes; None where nobody can make it so."""


class KeepsAsItIs:
    """Changes nothing: what is not taken as it is kept cannot be had."""

    async def transcoded(self, item: Item, accepted: Collection[str]) -> Item | None:
        """See `Transcoder`."""
        return None


@dataclass(frozen=True, slots=True)
class Archive:
    """What stands behind every service for images."""

    retrievals: Retrievals
    callers: Callers
    limits: Limits
    public_url: str
    """The address of `/dicom-web` as callers know it, without a slash at its end."""
    new_boundary: Callable[[], str]
    transcoder: Transcoder


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for images, its path read, and its delivery under way."""

    request: web.Request
    archive: Archive
    level: Level
    delivery: Delivery

    @property
    def accept(self) -> str:
        """The Accept headers as one; empty where there is none."""
        return accept_of(self.request)

    @property
    def outgoing(self) -> Outgoing:
        """By which its answer is begun."""
        return self.request[OUTGOING]

    @property
    def request_id(self) -> str:
        """Under which it is audited."""
        return self.request[REQUEST_ID]

    @property
    def address(self) -> str:
        """Of the service as it was asked: one trust's alone, or the region's."""
        trust = self.request.match_info.get("trust")
        return f"{self.archive.public_url}/trust/{parse_trust(trust)}" if trust is not None else self.archive.public_url

    @property
    def tag(self) -> str:
        """The ETag of what is listed: of every form that it may take; empty while nobody knows it."""
        etag = self.delivery.etag
        return entity_tag(etag, is_weak=True) if etag else ""

    def dress(self, response: web.StreamResponse, *, tag: str = "") -> web.StreamResponse:
        """Say beside an answer what it says of completeness, and which version it is."""
        self._say_sources(response)
        if missing := len(self.delivery.failures):
            text = f"{missing} of {len(self.delivery.refs)} instances could not be had"
            response.headers.add("Warning", f"299 {self.archive.public_url}: {text}")
        if tag:
            response.headers[hdrs.ETAG] = tag
        return response

    @property
    def status(self) -> int:
        """206 where something is known to be missing of a study or series, before its answer begins (B10)."""
        is_part = self.delivery.failures or any(source.state.is_missing for source in self.delivery.sources)
        return 206 if is_part and self.level is not Level.IMAGE else 200

    def unchanged(self, tag: str) -> web.StreamResponse | None:
        """304 for a caller that has this version; nothing is handed out."""
        if not tag or not has_it(self.request.headers.get(hdrs.IF_NONE_MATCH), tag):
            return None
        self.delivery.spare()
        return self.dress(web.Response(status=304), tag=tag)

    def nothing(self) -> web.StreamResponse:
        """What is answered where not one instance could be had. Raises `PeerUnavailable`, `ServiceFault`.

        A retrieval that policy stopped was never there (SAF-02).
        """
        match self.delivery.halted:
            case Halt.SERVICE:
                raise ServiceFault("the retrieval was stopped")
            case Halt.POLICY | Halt.CANCELLED:
                return self.absent()
            case None:
                if not self.delivery.failures:
                    return self.absent()
        failures = self.delivery.failures
        if all(failure.words == NOT_KEPT for failure in failures):
            raise StoreUnavailable(NOT_KEPT)
        trusts = [failure.trust for failure in failures if failure.trust is not None]
        if not trusts:
            raise ServiceFault("what was found could not be had")
        raise PeerUnavailable(trusts[0], "what was found there could not be had")

    def absent(self) -> web.StreamResponse:
        """The one answer of absence, whatever its reason: it says what may be missing, never that nothing exists."""
        response = http_problem(404, "nothing available through sharing", self.request_id).response()
        return self._say_sources(response)

    def _say_sources(self, response: web.StreamResponse) -> web.StreamResponse:
        """The headers that depend on the trusts' state alone."""
        for name, value in headers(Matches((), tuple(self.delivery.sources)), service=self.archive.public_url):
            response.headers.add(name, value)
        return response


Answers = Callable[[Asked], Awaitable[web.StreamResponse]]
"""Hands out what was asked."""


def accept_of(request: web.Request) -> str:
    """A request's Accept headers as one; empty where there is none."""
    return ",".join(request.headers.getall(hdrs.ACCEPT, ()))


async def answered(archive: Archive, request: web.Request, level: Level, answer: Answers) -> web.StreamResponse:
    """Identify the caller, read the path, begin the retrieval and let `answer` hand it out.

    What is not handed out when that ends has failed. Raises what `Retrievals` and `answer` raise, `NotIdentified`,
    `InvalidRequest`, `NotFound` for a path that is none.
    """
    caller = await archive.callers.caller_of(request)
    async with archive.retrievals.retrieve(caller, _wish(request, level)) as delivery:
        each = Asked(request, archive, level, delivery)
        if not delivery.refs:
            return each.absent()
        try:
            return await answer(each)
        except NotFound:
            # A key that closed meanwhile, whichever way it shows, is absence like any other.
            if each.outgoing.response is not None:
                raise
            return each.absent()
        except (asyncio.CancelledError, ConnectionError):
            # The caller went away: what nobody reads is not fetched (unless others ride on it).
            delivery.cancel()
            raise


async def as_taken(each: Asked, item: Item, syntaxes: Syntaxes) -> Item | None:
    """The instance as it is kept wherever the caller takes it so, else changed; None, and failed, where nobody can."""
    if syntaxes.take(item.transfer_syntax):
        return item
    made = await each.archive.transcoder.transcoded(item, syntaxes.makeable)
    if made is None:
        each.delivery.failed(item, "cannot be given in a transfer syntax that the caller takes")
    return made


def resource_paths(path: str) -> tuple[str, str]:
    """A path across the region, and at one trust alone."""
    return PREFIX + path, f"{PREFIX}/trust/{{trust}}{path}"


def _wish(request: web.Request, level: Level) -> RetrieveWish:
    trust = request.match_info.get("trust")
    uids = {name: (uid_from_path(request.match_info[name]),) for name in _NAMES[level]}
    return RetrieveWish(
        level,
        study_uids=uids["study"],
        series_uids=uids.get("series", ()),
        sop_uids=uids.get("instance", ()),
        only_trust=parse_trust(trust) if trust is not None else None,
    )


_NAMES = {
    Level.STUDY: ("study",),
    Level.SERIES: ("study", "series"),
    Level.IMAGE: ("study", "series", "instance"),
}
