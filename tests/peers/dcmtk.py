"""DCMTK's command-line tools as foreign requestors, and its `storescp` as a foreign acceptor, plain and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.ports import free_port
from tests.gateway.certificates import Files
from tests.peers.processes import takes_connections

_HANG_S = 30.0
# pynetdicom brings scripts of the same names into the environment's own folder.
_PATH = "/usr/bin:/usr/local/bin"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a tool ended."""

    status: int
    printed: str


def program(name: str) -> str:
    """Where a tool is; skips the test where it is not installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def with_tls(authority: Path, shown: Files | None) -> tuple[str, ...]:
    """Options for TLS, with this certificate or anonymously."""
    trusted = ("+cf", str(authority))
    if shown is None:
        return ("+tla", *trusted)
    return ("+tls", str(shown.private_key), str(shown.certificate), *trusted)


async def run(name: str, port: int, *options: str, calling: str, called: str, files: tuple[Path, ...] = ()) -> Finished:
    """Run a tool against an acceptor on this machine, to its end."""
    process = await asyncio.create_subprocess_exec(
        *(program(name), "-v", "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port), *map(str, files)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_HANG_S):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, printed.decode("utf-8", errors="replace"))


@contextlib.asynccontextmanager
async def storescp(folder: Path, *options: str) -> AsyncIterator[int]:
    """`storescp` while the context is open, filing what comes in `folder`; gives its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(program("storescp"), "-v", "-od", str(folder), *options, str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_HANG_S):
            while True:
                if takes_connections(port):
                    break
                await asyncio.sleep(0.05)
        yield port
    finally:
        process.kill()
        await process.wait()
