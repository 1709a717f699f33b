"""The tree of commands; serving, checking and the version themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import audit, backups, batch, console, explain, impact, locations
from gateway.cli.operating import cache, doctor, jobs, keys, retrieve, status
from gateway.cli.registers import agreements, grants, labels, optouts, patients, quality, relationships, trusts
from gateway.cli.session import DEFAULT_CONFIG, AsJson, Config
from gateway.model.errors import ConfigurationError
from gateway.node import SystemClock, release
from policy.engine import RULE_SET

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The regional image-sharing gateway. Exit codes: 0 done, 1 refused or not found, 2 cannot be used.",
)
for name, commands in (
    ("patient", patients.app),
    ("relationship", relationships.app),
    ("optout", optouts.opt_outs),
    ("optin", optouts.opt_ins),
    ("agreement", agreements.app),
    ("label", labels.app),
    ("grant", grants.app),
    ("quality", quality.app),
    ("trust", trusts.app),
    ("policy", impact.app),
    ("audit", audit.app),
    ("location", locations.app),
    ("jobs", jobs.app),
    ("cache", cache.app),
    ("retrieve", retrieve.app),
    ("keys", keys.app),
):
    app.add_typer(commands, name=name)
for command in (doctor.doctor, status.status, explain.explain, batch.batch, backups.backup, backups.restore):
    app.command()(command)


@app.command()
def serve(config: Config = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM; SIGHUP reloads trusts, callers, peers, certificates and the log level."""
    from gateway.app import serve as run  # noqa: PLC0415  # HTTP and DICOM: seconds that no other command needs

    run(config, console.say)


@app.command()
def check(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Name everything that is wrong with the configuration, each with its path. Starts nothing."""
    from gateway.app import validities_in_use  # noqa: PLC0415  # as above
    from gateway.config.checks import load  # noqa: PLC0415  # as above

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
    console.show_one({"version": release(), "rule_set": RULE_SET}, as_json=as_json)


@app.command()
def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Walk the story unattended, print a table, exit 0 or 1.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where the region's files go, and stay. Default: temporary.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a demo region: the gateway and three trusts' simulated archives on loopback, until Ctrl-C."""
    from gateway.cli.demo import demo as run  # noqa: PLC0415  # as above

    run(check, folder, as_json)
