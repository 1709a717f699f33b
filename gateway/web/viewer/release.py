"""The one release of OHIF that this gateway serves, and what of it is left out.

OHIF is somebody else's program, and it runs with the rights of whoever opens it: exactly these bytes are served or
none. Its package carries a finished build that wants to stand at the root of its origin. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

PACKAGE: Final = "@ohif/app"
VERSION: Final = "3.13.2"
PACKAGE_SHA512: Final = (
    "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3dee"
    "a3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10"
)
"""Of the package as it is published."""
BUILD_SHA256: Final = "3ee4b3b564a604e02272edf9445efa74d648958e13727d9189f2eebea60d2944"
"""Of the build as it is unpacked, file by file (`digest_of`)."""

BUILD_FOLDER: Final = "package/dist/"
"""Where the build stands in the package."""
PAGE: Final = "index.html"
CONFIGURATION: Final = "app-config.js"
"""Made by the gateway, in place of the file that leads to a demonstration server."""
PAGE_PATHS: Final = ("/viewer", "/viewer/dicomweb", "/basic", "/segmentation", "/tmtv", "/microscopy", "/usAnnotation")
"""Where the page is opened: OHIF reads from its own address which mode it is in, and which studies are meant."""

FILES_MAX: Final = 1_000
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
BUILD_BYTES_MAX: Final = 256 * 1024 * 1024

_LEFT_OUT: Final = re.compile(
    r"ort/.*"  # A runtime for models of segmentation, two thirds of the whole; what it would load is not fetched.
    r"|.*\.map"
    r"|customizations/.*"
    r"|app-config\.js|_headers|_redirects|serve\.json"
    r"|sw\.js|google\.js|silent-refresh\.html"  # A service worker, and sign-in, that load scripts of others.
)
_NAME: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)*[A-Za-z0-9][A-Za-z0-9._-]*")
_HASHED_NAME: Final = re.compile(r"(?:.*\.)?[0-9a-f]{16}\.[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class BuildFile:
    """One file of the build, by its path below the root."""

    name: str
    sha256: str
    data_bytes: int

    @property
    def is_immutable(self) -> bool:
        """Whether its name changes with what is in it."""
        return _HASHED_NAME.fullmatch(self.name) is not None


def is_served(name: str) -> bool:
    """Whether a file of the build is kept; a name that could lead out of its folder is not."""
    return _NAME.fullmatch(name) is not None and _LEFT_OUT.fullmatch(name) is None
