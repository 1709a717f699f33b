"""The viewer at the root of the machines' door: each file of it by its own path, for callers of DICOMweb alone.

There is one route for each file that was examined, and none that takes a name: what is not a file of the release cannot
be asked for. Browsers keep what never changes; the page and its configuration they ask after each time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from aiohttp import hdrs, web

from dicomweb.accept import accepts_gzip
from dicomweb.conditional import entity_tag, has_it
from dicomweb.credentials import Callers
from dicomweb.listener import OUTGOING
from gateway.web.viewer import instructions, release
from gateway.web.viewer.installation import Installation
from gateway.web.viewer.release import BuildFile

PATH = release.PAGE_PATHS[0]
PIECE_BYTES = 128 * 1024

_GZIP_LEVEL = 1
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webapp": "application/manifest+json",
    ".woff2": "font/woff2",
    ".xml": "text/xml; charset=utf-8",
}
_COMPACT = frozenset((".ico", ".png", ".woff2"))
"""What would hardly be smaller."""
_KEPT = "private, max-age=31536000, immutable"
_ASKED_AFTER = "private, no-cache"


@dataclass(frozen=True, slots=True)
class Viewer:
    """What is served, and to whom."""

    installation: Installation
    callers: Callers
    dicomweb_url: str
    region: str


def routes(viewer: Viewer) -> list[web.RouteDef]:
    """The page, its configuration, and every file; HEAD comes with GET."""
    by_name = {file.name: file for file in viewer.installation.files}
    page = by_name.pop(release.PAGE)
    page_text = viewer.installation.path_of(page).read_text(encoding="utf-8")
    headers = instructions.headers(page_text, viewer.dicomweb_url)
    script = instructions.configuration(viewer.dicomweb_url, viewer.region).encode("utf-8")
    send = partial(_send_file, viewer, headers)
    return [
        *(web.get(path, partial(send, page)) for path in ("/", *release.PAGE_PATHS)),
        web.get(f"/{release.CONFIGURATION}", partial(_send_script, viewer, headers, script)),
        *(web.get(f"/{name}", partial(send, file)) for name, file in by_name.items()),
    ]


async def _send_script(
    viewer: Viewer, headers: Mapping[str, str], script: bytes, request: web.Request
) -> web.StreamResponse:
    await viewer.callers.caller_of(request)
    response = web.Response(body=script, headers=headers)
    response.headers[hdrs.CONTENT_TYPE] = _MEDIA_TYPES[".js"]
    response.headers[hdrs.CACHE_CONTROL] = _ASKED_AFTER
    return response


async def _send_file(
    viewer: Viewer, headers: Mapping[str, str], file: BuildFile, request: web.Request
) -> web.StreamResponse:
    """Raises `NotIdentified`, and `NotFound` as any path that is none."""
    await viewer.callers.caller_of(request)
    suffix = PurePosixPath(file.name).suffix
    tag = entity_tag(file.sha256[:32], is_weak=True)
    is_unchanged = has_it(request.headers.get(hdrs.IF_NONE_MATCH), tag)
    response = web.StreamResponse(status=304 if is_unchanged else 200, headers=headers)
    response.headers[hdrs.ETAG] = tag
    response.headers[hdrs.CACHE_CONTROL] = _KEPT if file.is_immutable else _ASKED_AFTER
    if is_unchanged:
        return response
    response.headers[hdrs.CONTENT_TYPE] = _MEDIA_TYPES.get(suffix, "application/octet-stream")
    is_packed = suffix not in _COMPACT and accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING))
    if is_packed:
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    outgoing = request[OUTGOING]
    await outgoing.begin(response)
    if request.method != hdrs.METH_HEAD:
        path = viewer.installation.path_of(file)
        for piece in _packed(path) if is_packed else _read(path):
            await outgoing.chunk(piece)
    await outgoing.end()
    return response


def _packed(path: Path) -> Iterator[bytes]:
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in _read(path):
        # A chunk without bytes would be the last one.
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.flush()


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
