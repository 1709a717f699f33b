"""What the viewer is told: where this gateway's DICOMweb service is, and what it may do in a browser.

It is told of one service and of no list of studies: a question that names nobody is refused here, and OHIF's list
begins with one. Its browser loads nothing from anywhere else, whatever the program or a study says. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from urllib.parse import urlsplit

from gateway.model.imaging import JsonValue
from gateway.web.pages import NOTICE

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_HEADERS = MappingProxyType(
    {
        # No embedder policy: Chromium would show no PDF in such a page, and OHIF decodes without shared buffers.
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
)


def configuration(dicomweb_url: str, region: str) -> str:
    """The script that OHIF reads its configuration from, for the DICOMweb service at this address.

    With it goes what shows the notices of that service (`notices.js`).
    """
    settings: dict[str, JsonValue] = {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": False,
        "showErrorDetails": "production",
        "showLoadingIndicator": True,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": True,
        "investigationalUseDialog": {"option": "never"},
        "disableConfirmationPrompts": True,
        "strictZSpacingForVolumeViewport": True,
        "maxNumberOfWebWorkers": 3,
        # Browsers open six connections to one address: what waits in line behind them is what a person waits for.
        "maxNumRequests": {"interaction": 20, "thumbnail": 5, "prefetch": 10},
        "defaultDataSourceName": "dicomweb",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "dicomweb",
                "configuration": {
                    "friendlyName": region,
                    "name": "dicomweb",
                    "qidoRoot": dicomweb_url,
                    "wadoRoot": dicomweb_url,
                    "wadoUriRoot": dicomweb_url,
                    "qidoSupportsIncludeField": True,
                    "supportsReject": False,
                    "supportsStow": False,
                    "supportsFuzzyMatching": False,
                    "supportsWildcard": True,
                    "imageRendering": "wadors",
                    "thumbnailRendering": "wadors",
                    "enableStudyLazyLoad": True,
                    "omitQuotationForMultipartRequest": True,
                    "dicomUploadEnabled": False,
                    "bulkDataURI": {"enabled": True},
                },
            }
        ],
    }
    notices = resources.files(__package__).joinpath("notices.js").read_text(encoding="utf-8").rstrip()
    return f"window.config = {_literal(settings)};\n{notices}({_literal(NOTICE)}, {_literal(dicomweb_url)});\n"


def headers(page: str, dicomweb_url: str) -> Mapping[str, str]:
    """What goes with every file of the viewer whose page this is."""
    return {**_HEADERS, "Content-Security-Policy": _content_security_policy(page, dicomweb_url)}


def _content_security_policy(page: str, dicomweb_url: str) -> str:
    address = urlsplit(dicomweb_url)
    own = f"'self' {address.scheme}://{address.netloc}"
    scripts = " ".join(f"'sha256-{_digest(script)}'" for script in _INLINE_SCRIPT.findall(page))
    directives = (
        "default-src 'none'",
        # Its decoders are WebAssembly, and its drawing compiles functions as it goes.
        f"script-src 'self' {scripts} 'unsafe-eval' blob:",
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        f"img-src {own} data: blob:",
        "font-src 'self' data:",
        f"connect-src {own} blob: data:",
        f"media-src {own} blob:",
        # Encapsulated documents are shown by the browser's own reader.
        "object-src 'self' blob:",
        "frame-src blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return "; ".join(directives)


def _literal(value: JsonValue) -> str:
    """A value as JavaScript reads it, whatever a region calls itself: JSON in ASCII, without an angle bracket."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
