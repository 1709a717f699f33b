"""`gateway viewer`: unpack the viewer where the gateway serves it from, and say whether what lies there is served.

Fetches nothing: the package is a file, however it came here. A gateway that runs takes it at its next start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.cli.session import configuration_of
from gateway.web.viewer import installation
from gateway.web.viewer.installation import Installation
from gateway.web.viewer.release import PACKAGE, VERSION

app = typer.Typer(no_args_is_help=True, help="The viewer of images in a browser.")

Package = Annotated[Path, typer.Argument(help=f"The package {PACKAGE} {VERSION} as it was published: a .tgz file.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Default: as the configuration says.")]


@app.command()
def install(package: Package, folder: Folder = None, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Unpack it in place of what is there; refused if it is not to the last bit the release that is known."""
    place = folder or configuration_of(config, _NEEDED).viewer.folder
    installation.install(package, place)
    _show(place, as_json=as_json)


@app.command()
def status(folder: Folder = None, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say whether it is served; exit 1 if not."""
    _show(folder or configuration_of(config, _NEEDED).viewer.folder, as_json=as_json)


def _show(folder: Path, *, as_json: bool) -> None:
    found = installation.examine(folder)
    is_served = isinstance(found, Installation)
    row: dict[str, object] = {"folder": str(folder), "release": f"{PACKAGE} {VERSION}", "served": is_served}
    row |= {"files": len(found.files)} if isinstance(found, Installation) else {"reason": found.reason}
    console.show_one(row, as_json=as_json)
    if not is_served:
        raise typer.Exit(1)


_NEEDED = frozenset({"viewer"})
