"""A patient at a browser: signs in at the stand-in for NHS login, sees the list of reports and opens one.

Follows links and forms as a browser would, keeps the page's cookies, and knows nothing of the gateway.
"""

from __future__ import annotations

import html
import re
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import aiohttp

from gateway.demo.cast import Patient

ANSWER_TIMEOUT_S: Final = 30.0
_LINK: Final = re.compile(r'href="(/reports/[A-Za-z0-9_-]+)"')
_TAG: Final = re.compile(r"<(style|script)\b.*?</\1>|<[^>]+>", re.DOTALL)


class Browser:
    """One patient's. `async with`; use `sign_in` first."""

    def __init__(self, people_url: str, authority: Path) -> None:
        self._url = people_url
        secure = ssl.create_default_context(cafile=authority)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=secure), timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        )

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def sign_in(self, patient: Patient) -> None:
        """Go by way of NHS login; raises `aiohttp.ClientError` where that leads nowhere."""
        provider = await self._goes_to(f"{self._url}/sign-in/start")
        back = await self._goes_to(f"{provider}&{urlencode({'as': patient.nhs_number})}")
        await self._goes_to(back)

    async def reports(self) -> list[str]:
        """The addresses of the reports that the list names."""
        return list(dict.fromkeys(_LINK.findall(await self.page("/reports"))))

    async def texts(self) -> list[str]:
        """What every report in the list says, as read on the screen."""
        return [shown(await self.page(address)) for address in await self.reports()]

    async def page(self, path: str) -> str:
        """A page's source; raises `aiohttp.ClientError`."""
        async with self._session.get(self._url + path, allow_redirects=False, raise_for_status=True) as answer:
            return await answer.text()

    async def _goes_to(self, url: str) -> str:
        """Where an address sends the browser."""
        async with self._session.get(url, allow_redirects=False, raise_for_status=True) as answer:
            if "Location" not in answer.headers:
                raise aiohttp.ClientPayloadError("a page where the sign-in should have gone on")
            return str(answer.headers["Location"])


def shown(source: str) -> str:
    """The words of a page, evened out."""
    return " ".join(html.unescape(_TAG.sub(" ", source)).split())
