"""A patient's report as one HTML page: WCAG 2.2 AA, no script, nothing fetched, its style within.

Whatever stands in a report stays text: jinja2 escapes every value. A server that serves the page sends
`CONTENT_SECURITY_POLICY` with it, which lets this very style sheet through and nothing else (threat G2).
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from gateway.channels.rendering.disclaimer import DISCLAIMER, DISCLAIMER_VERSION
from gateway.channels.rendering.sheet import IN_DOCUMENT, Sheet

_FOLDER = resources.files("gateway.channels.rendering")


def html_page(sheet: Sheet, *, large_print: bool = False) -> str:
    """The whole page; the disclaimer is the element `id="disclaimer"`, and there is one."""
    return _template().render(
        sheet=sheet,
        large_print=large_print,
        disclaimer=DISCLAIMER,
        disclaimer_version=DISCLAIMER_VERSION,
        in_document=IN_DOCUMENT,
        style=_style(),
    )


def content_security_policy() -> str:
    """The header to serve a page with."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _style() -> str:
    return (_FOLDER / "report.css").read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string((_FOLDER / "report.html").read_text(encoding="utf-8"))
