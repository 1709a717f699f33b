"""An answer of images on its way out: begun before its end is known, written as fast as its reader takes it.

Its end is told from a cut: by its length, or by the last chunk (RFC 9112 7.1), which is written for a whole body alone.
Knows nothing of DICOM, nor of what the headers mean that every answer bears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from gateway.model.errors import Damaged

TURN_BYTES = 256 * 1024
"""After so many, others have their turn: a reader that is as fast as we are never makes us wait."""
_JOINED_BYTES_MAX = 64 * 1024
"""A smaller piece is copied behind its head: one system call, and one packet, instead of two."""
_WAITING_BYTES_MAX = 64 * 1024
"""As much may wait for the reader before it is waited for."""


class ReaderGone(ConnectionError):
    """The reader hung up, or took nothing for too long."""


class Outgoing:
    """The answer to one request. `begin` once, `write`, then `end`; or `cut` for what cannot be made whole."""

    def __init__(
        self, request: web.Request, dress: Callable[[web.StreamResponse], None], *, stall_timeout_s: float
    ) -> None:
        self._request = request
        self._dress = dress
        self._stall_timeout_s = stall_timeout_s
        self._is_chunked = False
        self._is_chunk_open = False
        self._owed_bytes = 0
        self._turn_bytes = 0
        self._head = b""
        """Of a chunk whose first piece is still to come."""
        self.response: web.StreamResponse | None = None
        """What was begun; None: nothing was."""
        self.is_whole = False

    @property
    def is_inside(self) -> bool:
        """Whether more was promised than is written."""
        return self._owed_bytes > 0

    async def begin(self, response: web.StreamResponse, body_bytes: int | None = None) -> web.StreamResponse:
        """Send status and headers with the first bytes of the body; None: nobody knows yet how long it will be."""
        self._dress(response)
        if body_bytes is not None:
            response.content_length = self._owed_bytes = body_bytes
        elif self._request.version >= HttpVersion11:
            response.enable_chunked_encoding()
            self._is_chunked = True
        else:
            response.force_close()
        self.response = response
        await response.prepare(self._request)
        if self._is_chunked:
            # aiohttp would copy every piece once more, to join it with the chunk's head: a tenth of all the time.
            _writer_of(self._request).chunked = False
        return response

    async def chunk(self, head: bytes, more_bytes: int = 0) -> None:
        """Write `head`, and promise as many more bytes by `write`: they go as they are, in one chunk with it."""
        if self._owed_bytes:
            raise Damaged("an instance is shorter than it was")
        self._owed_bytes = len(head) + more_bytes
        if self._is_chunked:
            ending = b"\r\n" if self._is_chunk_open else b""
            self._is_chunk_open = True
            self._owed_bytes += len(framing := b"%s%x\r\n" % (ending, self._owed_bytes))
            head = framing + head
        if not more_bytes:
            await self.write(head)
            return
        self._owed_bytes -= len(head)
        self._head = head

    async def write(self, piece: bytes) -> None:
        """Return once the reader has taken enough of what was written. Raises `ReaderGone`, and `Damaged` for more
        than was promised.
        """
        if self._request.method == hdrs.METH_HEAD:
            return
        assert self.response is not None
        self._owed_bytes -= len(piece)
        if self._owed_bytes < 0:
            raise Damaged("an instance is longer than it was")
        head, self._head = self._head, b""
        try:
            if head and len(piece) > _JOINED_BYTES_MAX:
                await self._put(head)
                head = b""
            await self._put(head + piece if head else piece)
        except (TimeoutError, ConnectionError) as error:
            raise ReaderGone("the reader takes no more") from error
        self._turn_bytes += len(piece)
        if self._turn_bytes >= TURN_BYTES:
            self._turn_bytes = 0
            await asyncio.sleep(0)

    async def _put(self, piece: bytes) -> None:
        """Write at once, and wait only for a reader that is behind: a timeout for each piece costs as much as it."""
        writer = _writer_of(self._request)
        await writer.write(piece, drain=False)
        transport = writer.transport
        if transport is not None and transport.get_write_buffer_size() > _WAITING_BYTES_MAX:
            async with asyncio.timeout(self._stall_timeout_s):
                await writer.drain()

    async def end(self) -> None:
        """The body is whole. Raises `ReaderGone`, and `Damaged` for less than was promised."""
        assert self.response is not None
        has_body = self._request.method != hdrs.METH_HEAD
        if self._owed_bytes and has_body:
            raise Damaged("an instance is shorter than it was")
        try:
            if self._is_chunked and has_body:
                await self.response.write(b"\r\n0\r\n\r\n" if self._is_chunk_open else b"0\r\n\r\n")
            await self.response.write_eof()
        except ConnectionError as error:
            raise ReaderGone("the reader takes no more") from error
        self.is_whole = True

    def cut(self) -> None:
        """Hang up behind what was written, without an end: nobody can take it for whole."""
        assert self.response is not None
        self.response.force_close()
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.close()
            # What was written may still be taken, but not for ever.
            asyncio.get_running_loop().call_later(self._stall_timeout_s, transport.abort)


def _writer_of(request: web.Request) -> StreamWriter:
    writer: AbstractStreamWriter = request.writer
    assert isinstance(writer, StreamWriter)
    return writer
