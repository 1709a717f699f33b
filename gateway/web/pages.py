"""The people's door for now: a landing page, health and readiness for probes, figures for Prometheus.

Figures move with what the registers hold (a denial by opt-out is counted), so only operators' networks may read them;
to all others the page does not exist. Nothing here needs a session, and nothing says anything of a patient.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.model.imaging import JsonValue

NOTICE = "Not all imaging is shared here. An empty or short list does not mean none exists."  # SAF-03, word for word
HEADERS = {
    "Server": "image-sharing-gateway",
    "Strict-Transport-Security": "max-age=31536000",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MAY_DIFFER = ("Cache-Control", "Content-Security-Policy", "Referrer-Policy")


class SaysHealth(Protocol):
    """Whether questions are answered, and why not."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Empty while they are."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages show. `metrics_from` is asked anew for each request: a reload may change it."""

    region: str
    node: str
    version: str
    health: SaysHealth
    figures: Callable[[], bytes]
    figures_type: str
    status: Callable[[], Mapping[str, JsonValue]]
    """What `gateway status` shows of a running node."""
    metrics_from: Callable[[], Sequence[IPv4Network | IPv6Network]]


def people(
    site: Site,
    under_way: Callable[[web.Request], AbstractContextManager[None]],
    more: Sequence[web.AbstractRouteDef] = (),
) -> web.Application:
    """The people's listener as an application; `under_way` is held while a request is answered.

    `more` are routes of others, whose answers may bring policies of their own; no body is read for them.
    """

    @web.middleware
    async def holding(request: web.Request, handler: Handler) -> web.StreamResponse:
        with under_way(request):
            return await handler(request)

    async def landing(request: web.Request) -> web.Response:
        return web.Response(text=_landing(site, has_reports=bool(more)), content_type="text/html")

    async def live(request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(request: web.Request) -> web.Response:
        reasons = site.health.reasons
        answer = {"ready": not reasons, "reasons": list(reasons)}
        return web.json_response(answer, status=503 if reasons else 200)

    async def metrics(request: web.Request) -> web.Response:
        if not _is_from(request.remote, site.metrics_from()):
            raise web.HTTPNotFound
        return web.Response(body=site.figures(), headers={"Content-Type": site.figures_type})

    async def status(request: web.Request) -> web.Response:
        if not _is_from(request.remote, site.metrics_from()):
            raise web.HTTPNotFound
        return web.json_response(site.status())

    async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
        own = {name: response.headers[name] for name in _MAY_DIFFER if name in response.headers}
        response.headers.update({**HEADERS, **own})

    application = web.Application(middlewares=[holding], client_max_size=1)
    application.add_routes(
        [
            web.get("/", landing),
            web.get("/live", live),
            web.get("/ready", ready),
            web.get("/metrics", metrics),
            web.get("/status", status),
            *more,
        ]
    )
    application.on_response_prepare.append(set_headers)
    return application


def _landing(site: Site, *, has_reports: bool) -> str:
    reports = '\n<p><a href="/sign-in">Patients: your imaging reports</a></p>' if has_reports else ""
    state = "Questions are answered." if not site.health.reasons else "Questions are not answered at this moment."
    region, node, version = map(html.escape, (site.region, site.node, site.version))
    return f"""<!doctype html>
<html lang="en-GB">
<head><meta charset="utf-8"><title>{region}: image sharing</title></head>
<body>
<main>
<h1>{region}: image sharing</h1>
<p>Images are shared between trusts for the care of the patients that they have in common. {NOTICE}</p>
<p>{state}</p>{reports}
<p><small>Node {node}, version {version}.</small></p>
</main>
</body>
</html>
"""


def _is_from(remote: str | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    if remote is None:
        return False
    address = ip_address(remote.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in networks)
