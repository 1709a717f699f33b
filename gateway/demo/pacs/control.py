"""The control port of the simulated PACS, on loopback only: switches at run time, and what was asked.

`GET`, `POST` and `DELETE /_simulator/behaviour` show, change and reset the behaviour, `GET` and `DELETE
/_simulator/requests` show and forget the journal, `PUT /_simulator/destinations` names the C-MOVE destinations. It
has a port of its own so that a dead PACS can be revived.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.demo.pacs.behaviour import Behaviour, InvalidBehaviour, Switches
from gateway.demo.pacs.dimse import Destination, DimseDoor
from gateway.demo.pacs.journal import Journal

CONTROL_HOST: Final = "127.0.0.1"
_BODY_BYTES_MAX: Final = 64 * 1024


class InvalidDestinations(ValueError):
    """Move destinations that are not `{"AE_TITLE": "host:port"}`."""


def parse_destinations(value: object) -> dict[str, Destination]:
    """Move destinations from `{"AE_TITLE": "host:port"}`; raises `InvalidDestinations`."""
    destinations = {}
    for title, address in (value if isinstance(value, dict) else {"": ""}).items():
        host, _, port = str(address).rpartition(":")
        if not (0 < len(str(title)) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
            raise InvalidDestinations('destinations must be given as {"AE_TITLE": "host:port"}')
        destinations[str(title)] = (host, int(port))
    return destinations


class ControlPort:
    """Serves the control resources; `apply` is called with each new behaviour and makes it so."""

    def __init__(
        self,
        switches: Switches,
        journal: Journal,
        dimse: DimseDoor,
        apply: Callable[[Behaviour], Awaitable[None]],
    ) -> None:
        self._switches = switches
        self._journal = journal
        self._dimse = dimse
        self._apply = apply
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def open(self, port: int) -> None:
        """Listen on this loopback port, 0 for any."""
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/_simulator/behaviour", self._show_behaviour),
                web.post("/_simulator/behaviour", self._change_behaviour),
                web.delete("/_simulator/behaviour", self._reset_behaviour),
                web.get("/_simulator/requests", self._show_requests),
                web.delete("/_simulator/requests", self._clear_requests),
                web.put("/_simulator/destinations", self._set_destinations),
            ]
        )
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, CONTROL_HOST, port).start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _show_behaviour(self, _: web.Request) -> web.Response:
        return web.json_response(self._switches.behaviour.as_json())

    async def _change_behaviour(self, request: web.Request) -> web.Response:
        try:
            changes = await request.json()
            if not isinstance(changes, dict):
                raise InvalidBehaviour("a behaviour is a JSON object")
            await self._apply(self._switches.behaviour.changed(changes))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response(self._switches.behaviour.as_json())

    async def _reset_behaviour(self, _: web.Request) -> web.Response:
        await self._apply(Behaviour())
        return web.json_response(self._switches.behaviour.as_json())

    async def _show_requests(self, _: web.Request) -> web.Response:
        return web.json_response(self._journal.as_json())

    async def _clear_requests(self, _: web.Request) -> web.Response:
        self._journal.clear()
        return web.Response(status=204)

    async def _set_destinations(self, request: web.Request) -> web.Response:
        try:
            self._dimse.set_destinations(parse_destinations(await request.json()))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.Response(status=204)
