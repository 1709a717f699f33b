"""Options that many commands share, so that they are spelled and explained once."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer


def _operating_system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


Config = Annotated[
    Path,
    typer.Option("--config", envvar="GATEWAY_CONFIG", help="The configuration file.", show_envvar=True),
]
DEFAULT_CONFIG = Path("gateway.toml")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
By = Annotated[
    str,
    typer.Option(
        "--by",
        default_factory=_operating_system_user,
        show_default="the user of the operating system",
        help="Who acts: stands in the audit.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why: stands in the audit. No patient's details here.")]
