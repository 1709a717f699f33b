"""WADO-RS rendered and thumbnail: an instance or one of its frames as anybody's browser shows it (PS3.18 10.4.1.1.2).

Says in what form, and how large; making pictures of what strangers encoded is behind `Renderer`, in processes that may
be killed. What is no image may be offered as a text or a document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

from aiohttp import hdrs, web

from dicomweb.conditional import entity_tag
from dicomweb.wado.images import INSTANCE_PATH, SERIES_PATH, STUDY_PATH, Archive, Asked, answered, resource_paths
from dicomweb.wado.negotiation import rendered_types
from gateway.model.errors import InvalidRequest, NotAcceptable
from gateway.model.imaging import Level
from gateway.model.work.retrievals import Item

VIEWPORT_PIXELS_MAX = 8_192
"""Of one side."""
THUMBNAIL_PIXELS = 128

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_WHOLE = re.compile(r"[0-9]{1,9}")


class WindowFunction(StrEnum):
    """How a window maps values (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    LINEAR = "linear"
    LINEAR_EXACT = "linear-exact"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True)
class Window:
    """A window that the caller asks for, in the values behind the modality LUT."""

    centre: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR


@dataclass(frozen=True, slots=True)
class Viewport:
    """The size that the picture has to fit into, keeping its shape."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class RenderWish:
    """How a picture is wanted."""

    media_types: tuple[str, ...]
    """What the caller takes, best first."""
    frame: int | None = None
    """From 1; None: one that stands for the instance."""
    viewport: Viewport | None = None
    window: Window | None = None
    quality: int | None = None
    """From 1 to 100, for what is packed with loss."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture, a text or a document."""

    media_type: str
    body: bytes


class Renderer(Protocol):
    """Who makes pictures."""

    def offered(self, sop_class_uid: str) -> Sequence[str]:
        """The media types that instances of a class can be rendered in, best first; empty: they have no picture."""

    async def rendered(self, item: Item, wish: RenderWish) -> Rendered:
        """Render one instance. Raises `NotFound` for a frame that it has not, `NotAcceptable` where its pixels cannot
        be read, `ServiceFault`.
        """

    async def unpacked(self, item: Item, number: int) -> bytes:
        """One frame, from 1, as native pixels in little endian. Raises as `rendered` does."""


def routes(archive: Archive, renderer: Renderer) -> list[web.RouteDef]:
    """Rendered instances and frames, and thumbnails of everything; HEAD comes with GET."""
    frame_path = INSTANCE_PATH + "/frames/{frames}"
    resources = (
        (Level.IMAGE, f"{INSTANCE_PATH}/rendered", False),
        (Level.IMAGE, f"{frame_path}/rendered", False),
        (Level.STUDY, f"{STUDY_PATH}/thumbnail", True),
        (Level.SERIES, f"{SERIES_PATH}/thumbnail", True),
        (Level.IMAGE, f"{INSTANCE_PATH}/thumbnail", True),
        (Level.IMAGE, f"{frame_path}/thumbnail", True),
    )
    return [
        web.get(path, partial(_rendered, archive, renderer, level, is_thumbnail))
        for level, under, is_thumbnail in resources
        for path in resource_paths(under)
    ]


async def _rendered(
    archive: Archive, renderer: Renderer, level: Level, is_thumbnail: bool, request: web.Request
) -> web.StreamResponse:
    async def answer(each: Asked) -> web.StreamResponse:
        async for item in each.delivery:
            offered = renderer.offered(item.ref.sop_class_uid)
            if is_thumbnail:
                offered = [name for name in offered if name.startswith("image/")]
                if not offered and level is not Level.IMAGE:
                    # A report among images: the next one stands for the study.
                    continue
            media_types = rendered_types(each.accept, request.query.get("accept"), offered)
            if not media_types:
                made = f"only {', '.join(offered)}" if offered else "no picture"
                raise NotAcceptable(f"{made} can be made of this instance")
            return await _picture(each, renderer, item, _wish(request, tuple(media_types), is_thumbnail=is_thumbnail))
        return each.nothing()

    return await answered(archive, request, level, answer)


async def _picture(each: Asked, renderer: Renderer, item: Item, wish: RenderWish) -> web.StreamResponse:
    how = hashlib.blake2s(repr(wish).encode("utf-8"), digest_size=8).hexdigest()
    tag = entity_tag(f"{item.etag}-{how}")
    if (unchanged := each.unchanged(tag)) is not None:
        return unchanged
    rendered = await renderer.rendered(item, wish)
    each.delivery.sent(item)
    # One picture was asked for: of a whole study no other instance is fetched for it.
    each.delivery.spare()
    response = web.Response(body=rendered.body)
    response.headers[hdrs.CONTENT_TYPE] = rendered.media_type
    # A browser that opens it runs nothing and fetches nothing, whatever a document says.
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return each.dress(response, tag=tag)


def _wish(request: web.Request, media_types: tuple[str, ...], *, is_thumbnail: bool) -> RenderWish:
    query = request.query
    viewport = _viewport(query.get("viewport", ""))
    if is_thumbnail and viewport is None:
        viewport = Viewport(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    return RenderWish(
        media_types,
        _frame(request.match_info.get("frames")),
        viewport,
        _window(query.get("window", "")),
        _quality(query.get("quality", "")),
    )


def _frame(text: str | None) -> int | None:
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or int(text) == 0:
        raise InvalidRequest("one frame is rendered at a time, counted from 1")
    return int(text)


def _viewport(text: str) -> Viewport | None:
    if not text:
        return None
    # What may follow are parts of the source, which are not cut out here (PS3.18 8.3.5.1.3).
    sides = text.split(",")
    if len(sides) < 2 or not all(_WHOLE.fullmatch(side.strip()) for side in sides[:2]):
        raise InvalidRequest("viewport must begin with two whole numbers: columns and rows")
    columns, rows = (int(side) for side in sides[:2])
    if not (0 < columns <= VIEWPORT_PIXELS_MAX and 0 < rows <= VIEWPORT_PIXELS_MAX):
        raise InvalidRequest(f"a viewport has 1 to {VIEWPORT_PIXELS_MAX} columns and rows")
    if len(sides) > 2:
        raise InvalidRequest("only the size of a viewport is supported, not a part of the image")
    return Viewport(columns, rows)


def _window(text: str) -> Window | None:
    if not text:
        return None
    centre, width, function = [*(part.strip() for part in text.split(",")), "", ""][:3]
    if not (_NUMBER.fullmatch(centre) and _NUMBER.fullmatch(width)) or text.count(",") > 2 or float(width) <= 0:
        raise InvalidRequest("window must be a centre, a width above 0 and a function")
    try:
        return Window(float(centre), float(width), WindowFunction(function.lower() or "linear"))
    except ValueError as error:
        raise InvalidRequest("the function of a window is linear, linear-exact or sigmoid") from error


def _quality(text: str) -> int | None:
    if not text:
        return None
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= 100:
        raise InvalidRequest("quality must be a whole number from 1 to 100")
    return int(text)
