"""The HTTP door of the simulated PACS: listening, TLS, the request journal, and how answers are written.

Slow, dead, redirecting and failing are decided here for every resource; what a QIDO or WADO answer contains is decided
by `qido` and `images.wado`. Base path `/dicom-web` (PS3.18 8.2).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Final

from aiohttp import web

from gateway.demo.pacs.behaviour import Dead, Lie, Switches
from gateway.demo.pacs.index import Index
from gateway.demo.pacs.journal import Door, Journal
from gateway.demo.pacs.lies import garbled

BASE_PATH: Final = "/dicom-web"
_STOP_TIMEOUT_S: Final = 0.5
_DRIP_S: Final = 0.25

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Pieces = Iterable[bytes] | AsyncIterator[bytes]


class BrokenOff(Exception):
    """The answer ends here, in the middle."""


class WebDoor:
    """Listens, and can close and open again on the same port."""

    def __init__(
        self, index: Index, switches: Switches, journal: Journal, host: str, tls: ssl.SSLContext | None
    ) -> None:
        self.index = index
        self.switches = switches
        self.journal = journal
        self._host = host
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        """Where the DICOMweb services stand, from our own configuration, never from a request's Host header."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}{BASE_PATH}"

    async def open(self, port: int, routes: Iterable[web.RouteDef]) -> None:
        """Listen on this port, 0 for any."""
        app = web.Application(middlewares=[self._behave])
        app.add_routes([web.route(route.method, BASE_PATH + route.path, route.handler) for route in routes])
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=_STOP_TIMEOUT_S, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, port, ssl_context=self._tls).start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Refuse connections and end those that are open."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _behave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.journal.record(_door(request), _details(request))
        behaviour = self.switches.behaviour
        if behaviour.dead is not Dead.NO:
            await asyncio.Event().wait()
        await asyncio.sleep(behaviour.slow_s)
        match behaviour.body_lie:
            case Lie.SERVER_ERROR:
                return web.Response(status=500, text="an error page that says nothing")
            case Lie.REDIRECT if request.path.startswith(BASE_PATH):
                # A client that follows it is caught by the journal: `/elsewhere` stands there as `other-http`.
                elsewhere = f"{self.base_url.removesuffix(BASE_PATH)}/elsewhere"
                return web.Response(status=307, headers={"Location": elsewhere})
            case _:
                return await handler(request)

    async def send(
        self, request: web.Request, content_type: str, pieces: Pieces, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Answer 200 with the pieces as one body, spoiled as the behaviour has it.

        Pieces that end by `BrokenOff` break the answer off.
        """
        lie = self.switches.behaviour.body_lie
        response = web.StreamResponse(headers=headers)
        response.headers["Content-Type"] = "text/html" if lie is Lie.WRONG_CONTENT_TYPE else content_type
        await response.prepare(request)
        is_cut = lie is Lie.TRUNCATED
        try:
            async for piece in _spoiled(pieces, lie):
                if request.transport is None or request.transport.is_closing():
                    break
                await response.write(piece)
                # Writing to a connection that is lost neither fails nor waits: without this nobody would hear that.
                await asyncio.sleep(0)
        except BrokenOff:
            is_cut = True
        if is_cut and request.transport is not None:
            request.transport.abort()
        else:
            await response.write_eof()
        return response


async def _spoiled(pieces: Pieces, lie: Lie | None) -> AsyncIterator[bytes]:
    async for piece in pieces if isinstance(pieces, AsyncIterator) else _one_by_one(pieces):
        match lie:
            case Lie.GARBLED:
                yield garbled(piece)
            case Lie.TRUNCATED:
                yield piece[: len(piece) // 2]
                return
            case Lie.DRIPPING:
                for byte in piece:
                    yield bytes((byte,))
                    await asyncio.sleep(_DRIP_S)
            case _:
                yield piece


async def _one_by_one(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _door(request: web.Request) -> Door:
    if not request.path.startswith(f"{BASE_PATH}/"):
        return Door.OTHER_HTTP
    if request.method == "POST":
        return Door.STOW
    return Door.QIDO if request.path.rsplit("/", 1)[-1] in ("studies", "series", "instances") else Door.WADO


def _details(request: web.Request) -> Mapping[str, object]:
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    subject = dict(item for part in (certificate or {}).get("subject", ()) for item in part)
    return {
        "method": request.method,
        "path": request.path,
        "query": [list(pair) for pair in request.query.items()],
        "headers": [list(pair) for pair in request.headers.items()],
        "client_certificate": subject or None,
    }
