"""The tree of commands; serving, checking and the version themselves."""

from __future__ import annotations

import typer

from gateway import app as service
from gateway.checks import load
from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.clock import SystemClock
from gateway.model.errors import ConfigurationError
from policy.engine import RULE_SET

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The regional image-sharing gateway. Exit codes: 0 done, 1 refused or not found, 2 cannot be used.",
)


@app.command()
def serve(config: Config = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM; SIGHUP reloads trusts, callers, peers, certificates and the log level."""
    service.serve(config, console.say)


@app.command()
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
        for validity in service.validities_in_use(configuration)
        if validity.warning_day(now) is not None
    ]
    if as_json:
        console.show_one({"valid": True, "problems": [], "warnings": warnings}, as_json=True)
        return
    counts = (
        (len(configuration.trust), "trusts"),
        (len(configuration.caller), "callers"),
        (len(configuration.peer), "peers"),
    )
    console.say(
        *(f"warning: {warning}" for warning in warnings),
        f"{config}: valid ({configuration.gateway.mode} mode, {counts})",
    )


@app.command()
def version(as_json: AsJson = False) -> None:
    """Say which version this is, and which rules it decides by."""
    console.show_one({"version": service.release(), "rule_set": RULE_SET}, as_json=as_json)
