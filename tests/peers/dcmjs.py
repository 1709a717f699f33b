"""dcmjs-dimse as a foreign requestor: a toolkit in JavaScript that shares no code with any other peer of the tests.

Installed into `node/` by the lock beside it, once for each version of that lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node"
_INSTALL_TIMEOUT_S = 100
_HANG_S = 30.0

Request = Mapping[str, object]
"""`{"kind": "echo"}` and others: see `node/client.js`."""
ECHO: Request = {"kind": "echo"}


def find(level: str, **keys: str) -> Request:
    """A C-FIND of the Study Root model, or of the Patient Root model at PATIENT level."""
    return {"kind": "find", "level": level, "keys": keys}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came to one request."""

    statuses: list[int]
    rows: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What came on one association, and how it ended; blank: by a release."""

    answers: list[Answer]
    ended: str
    received: list[str]
    """SOP Instance UIDs of what came by C-GET."""


def installed() -> Path:
    """The client; skips the test where there is no Node.js or no npm."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    stamp = FOLDER / "node_modules" / ".installed"
    with (FOLDER / "package.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # of several test processes one installs
        if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
            done = subprocess.run(
                [npm, "ci"], cwd=FOLDER, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
            )
            assert done.returncode == 0, done.stderr
            stamp.write_text(wanted, encoding="ascii")
    return FOLDER / "client.js"


async def converse(
    port: int,
    *requests: Request,
    calling: str,
    called: str,
    tls: Mapping[str, str] | None = None,
) -> Conversation:
    """One association with these requests. `tls`: authority, and if it has one, certificate and key."""
    wanted = {"port": port, "calling": calling, "called": called, "requests": requests, "tls": tls}
    process = await asyncio.create_subprocess_exec(
        *("node", str(installed()), json.dumps(wanted)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(_HANG_S):
        printed, errors = await process.communicate()
    assert printed, errors.decode()
    said = json.loads(printed.splitlines()[0])
    return Conversation(
        [Answer(each["statuses"], each["rows"]) for each in said["answers"]], said["ended"], said["received"]
    )
