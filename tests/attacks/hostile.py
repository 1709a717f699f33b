"""Archives that speak raw bytes: what no honest HTTP server would send, sent to the connector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson

from gateway.model.imaging import Attributes

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"

Speaks = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole, well-formed answer."""
    lines = [
        b"HTTP/1.1 " + status,
        b"Content-Type: application/dicom+json",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def of_rows(*rows: Attributes) -> bytes:
    """A whole answer with these rows."""
    return answer(orjson.dumps(rows))


def saying(*answers: bytes) -> Speaks:
    """One answer after the other, the last one for ever, each on a connection that then closes."""
    left = list(answers)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return speak


@asynccontextmanager
async def archive(speak: Speaks) -> AsyncIterator[str]:
    """The address of an archive on this machine that speaks so; whatever it says, it hangs up in the end."""
    speaking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        speaking.add(task)
        try:
            await speak(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway has had enough
        finally:
            speaking.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
    finally:
        server.close()
        for task in speaking:
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)
