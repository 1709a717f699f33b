"""`gateway serve` and `gateway check`: run the gateway, and judge what it would run with."""

from __future__ import annotations

import typer

from gateway.app import serve as run
from gateway.app import validities_in_use
from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.config.checks import load
from gateway.model.errors import ConfigurationError
from gateway.node import SystemClock
from gateway.web.viewer.installation import NotServed, examine


def serve(config: Config = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM; SIGHUP reloads trusts, callers, peers, certificates and the log level."""
    run(config, console.say)


def check(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Name everything that is wrong with the configuration, each with its path. Starts nothing."""
    try:
        configuration = load(config)
    except ConfigurationError as error:
        if as_json:
            console.show_one({"valid": False, "problems": list(error.problems)}, as_json=True)
        else:
            console.say(*error.problems, f"{len(error.problems)} problem(s) in {config}")
        raise typer.Exit(1) from None
    now = SystemClock().now()
    warnings = [
        f"{validity.name}: {validity.path} ends in {validity.days_left(now):.0f} days"
        for validity in validities_in_use(configuration)
        if validity.warning_day(now) is not None
    ]
    viewer = examine(configuration.viewer.folder)
    if isinstance(viewer, NotServed) and viewer.is_alarming:
        warnings.append(f"viewer.folder: it is not served: {viewer.reason}")
    if as_json:
        console.show_one({"valid": True, "problems": [], "warnings": warnings}, as_json=True)
        return
    trusts, callers, peers = len(configuration.trust), len(configuration.caller), len(configuration.peer)
    counts = f"{trusts} trusts, {callers} callers, {peers} peers"
    console.say(
        *(f"warning: {warning}" for warning in warnings),
        f"{config}: valid ({configuration.gateway.mode} mode, {counts})",
    )
