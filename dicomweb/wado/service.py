"""Every resource of the images service, from what stands behind them (PS3.18 10.4)."""

from __future__ import annotations

from aiohttp import web

from dicomweb.wado import frames, metadata, rendered, retrieve
from dicomweb.wado.images import Archive
from dicomweb.wado.rendered import Renderer


def routes(archive: Archive, renderer: Renderer | None = None) -> list[web.RouteDef]:
    """All of them; without a renderer there are no rendered ones."""
    pictures = rendered.routes(archive, renderer) if renderer is not None else []
    plain = [*retrieve.routes(archive), *metadata.routes(archive), *frames.routes(archive, renderer)]
    return [*plain, *pictures]
