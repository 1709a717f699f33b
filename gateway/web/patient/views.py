"""What a patient's browser is sent: pages from templates, and the documents themselves, each with its headers.

Every value is escaped by jinja2; no page has a script, fetches anything from elsewhere, or is kept by a cache. A
document comes as it was rendered; its HTML gets our links before its header, and its own style sheet is let through by
its digest. Knows no session and no provider. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib import resources
from typing import Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.model.reporting.reading import Choices, DocumentForm, LetterOffer, Listed, Shown
from policy.release.terms import LONDON

_OWN_POLICY: Final = (
    "default-src 'none'; style-src 'self'{styles}; form-action {forms}; base-uri 'none'; frame-ancestors 'none'"
)
_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_TYPES: Final = {
    DocumentForm.HTML: "text/html; charset=utf-8",
    DocumentForm.TEXT: "text/plain; charset=utf-8",
    DocumentForm.PDF: "application/pdf",
}
_CACHES: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With "no-referrer" a browser names no origin with a form of ours either: it would look like another site's.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Vary": "Cookie, Authorization",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True, slots=True)
class Words:
    """What differs from region to region."""

    region: str
    provider_name: str
    help_words: str
    """Whom to turn to when the page does not work; empty: nobody is named."""
    idle_minutes: int
    """After which a session ends; said on every page of one."""


class Views:
    """Makes answers."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def sign_in(self) -> web.Response:
        """Before anybody is signed in."""
        return self._page("sign_in.html", 200)

    def signed_out(self) -> web.Response:
        """After somebody signed out."""
        return self._page("signed_out.html", 200)

    def not_proven(self) -> web.Response:
        """Below P9: says nothing of whether there is a report."""
        return self._page("not_proven.html", 403)

    def refused(self) -> web.Response:
        """A sign-in that cannot be taken, whatever was wrong with it."""
        return self._page("refused.html", 403)

    def not_found(self) -> web.Response:
        """There is none, or it may not be seen."""
        return self._page("not_found.html", 404)

    def unavailable(self) -> web.Response:
        """Nothing can be told now."""
        response = self._page("unavailable.html", 503)
        response.headers["Retry-After"] = "30"
        return response

    def failed(self) -> web.Response:
        """A fault of ours; no word of which."""
        return self._page("unavailable.html", 500)

    def reports(
        self, listed: Sequence[Listed], *, is_proxy: bool, form_token: str, large_print: bool = False
    ) -> web.Response:
        """The list; `form_token` is empty where there is no session to end."""
        more = {"listed": listed, "is_proxy": is_proxy, "form_token": form_token}
        return self._page("reports.html", 200, large_print=large_print, **more)

    def choices(self, choices: Choices, letter: LetterOffer, form_token: str, *, is_saved: bool) -> web.Response:
        """The form of choices."""
        is_letter_offered = letter is LetterOffer.OFFERED
        return self._page(
            "choices.html",
            200,
            choices=choices,
            is_letter_offered=is_letter_offered,
            form_token=form_token,
            is_saved=is_saved,
            large_print=choices.large_print,
        )

    def document(self, shown: Shown, form: DocumentForm, *, large_print: bool = False) -> web.Response:
        """One document, or the neutral text where it was taken back."""
        if shown.listed.taken_back_words:
            return self._page("taken_back.html", 200, large_print=large_print, listed=shown.listed)
        if form is DocumentForm.HTML:
            return self._framed(shown)
        headers = {
            **_CACHES,
            "Content-Type": _TYPES[form],
            "Content-Disposition": f'inline; filename="report.{form.value}"',
            "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
        }
        if form is DocumentForm.PDF:
            # Chromium's own reader does not run in a sandbox; a PDF has no origin to reach for.
            headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return web.Response(body=shown.body, headers=headers)

    def style_sheet(self) -> web.Response:
        """The style sheet of our pages."""
        return web.Response(
            body=_style_sheet(), headers={"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=3600"}
        )

    def _framed(self, shown: Shown) -> web.Response:
        html = shown.body.decode("utf-8")
        links = _environment().get_template("document_links.html").render(listed=shown.listed)
        before, header, after = html.partition("<header>")
        styles = "".join(f" 'sha256-{_digest(style)}'" for style in _STYLE.findall(before))
        return web.Response(
            text=before + links + header + after if header else html,
            headers={
                **_CACHES,
                "Content-Type": _TYPES[DocumentForm.HTML],
                "Content-Security-Policy": _OWN_POLICY.format(styles=styles, forms="'none'"),
            },
        )

    def _page(self, template: str, status: int, *, large_print: bool = False, **values: object) -> web.Response:
        page = _environment().get_template(template)
        text = page.render(words=self._words, large_print=large_print, **values)
        policy = _OWN_POLICY.format(styles="", forms="'self'")
        return web.Response(
            text=text,
            status=status,
            headers={**_CACHES, "Content-Type": _TYPES[DocumentForm.HTML], "Content-Security-Policy": policy},
        )


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("gateway.web.patient"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = _day
    return environment


@cache
def _style_sheet() -> bytes:
    return resources.files("gateway.web.patient").joinpath("templates", "patient.css").read_bytes()


def _day(when: date) -> str:
    """`1 June 2026`; of an instant, the day in London."""
    day = when.astimezone(LONDON) if isinstance(when, datetime) else when
    return f"{day.day} {day:%B} {day.year}"


def _digest(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
