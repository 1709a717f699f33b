"""Chromium as a workstation's browser, driven from outside by playwright: what a page drew, said and asked for.

It shows the certificate of one caller and knows nothing of ours; `node/browser.js` says what is looked at.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.certificates import KeyPair
from tests.peers import dcmjs

PAGE_TIMEOUT_S = 60.0
"""A hang guard, for a machine that does other things as well."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a page: its answer's status, or how it failed."""

    method: str
    url: str
    status: int = 0
    type: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What became of a page."""

    drawn: Sequence[int]
    """Different colours on each canvas."""
    text: str
    requests: Sequence[Request]
    violations: Sequence[str]
    """What its security policy kept it from."""
    errors: Sequence[str]
    """Of its scripts."""
    waited: str
    """What it waited for in vain; blank: everything was there."""

    @property
    def failed(self) -> list[Request]:
        """Requests that failed, but for those that the page itself took back."""
        return [each for each in self.requests if each.status >= 400 or each.failed not in ("", "net::ERR_ABORTED")]

    def asked(self, part: str) -> list[Request]:
        """Requests with this in their address."""
        return [each for each in self.requests if part in each.url]


async def opened(url: str, pair: KeyPair, *, canvases: int = 0, text: Sequence[str] = (), picture: Path) -> Page:
    """Open a page, and wait until so many canvases show an image and the page says each of these texts."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    wanted = {
        "url": url,
        "chromium": chromium,
        "certificate": str(pair.certificate),
        "key": str(pair.private_key),
        "canvases": canvases,
        "text": list(text),
        "picture": str(picture),
        "timeout_ms": PAGE_TIMEOUT_S * 1000,
    }
    script = dcmjs.installed().with_name("browser.js")
    process = await asyncio.create_subprocess_exec(
        *("node", str(script), json.dumps(wanted)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(3 * PAGE_TIMEOUT_S):
            printed, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert printed, errors.decode()
    said = json.loads(printed)
    requests = [Request(**each) for each in said.pop("requests")]
    return Page(requests=requests, **said)
