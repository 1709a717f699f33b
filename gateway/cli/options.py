"""The options that many commands share, each with its words for `--help`. Loads nothing that a command may not need."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("gateway.toml")


def _operating_system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


Config = Annotated[Path, typer.Option("--config", envvar="GATEWAY_CONFIG", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
By = Annotated[
    str,
    typer.Option(
        "--by",
        default_factory=_operating_system_user,
        show_default="user of the operating system",
        help="Who acts: stands in the audit.",
    ),
]
Why = Annotated[str, typer.Option("--reason", help="Why: stands in the audit. No patient's details here.")]
PatientNumber = Annotated[str, typer.Option("--patient", help="NHS number. Others on this machine can see it here.")]
PatientFile = Annotated[
    str, typer.Option("--patient-file", help="File that holds the NHS number; - reads it from standard input.")
]
TrustCode = Annotated[str, typer.Option("--trust", help="ODS code.")]
