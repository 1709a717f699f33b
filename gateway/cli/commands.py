"""The tree of commands: their names, what `gateway --help` says of each, and where each is found when it is wanted.

One run of the program loads one branch. Starting all of them costs seconds, of which a command on a register needs a
fraction, and `--help` nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module

import typer

from gateway import program_version
from gateway.cli import console
from gateway.cli.options import AsJson
from policy.engine import RULE_SET

COMMANDS = {
    "doctor": (
        "operating.doctor:doctor",
        "Examine archives: connection, TLS, association or HTTP, searches at each level, habits. 1 if one cannot be"
        " asked.",
    ),
    "status": (
        "operating.status:status",
        "Show readiness, doors, every trust, what is planned, certificates near their end, and the audit.",
    ),
    "explain": ("explain:explain", "Say why a caller may or may not see a patient's imaging, with every reason."),
    "batch": (
        "batch:batch",
        "Run a file of commands, one to a line, until one fails; `#` begins a comment. Exits with that one's code.",
    ),
    "backup": ("operating.backups:backup", "Write a signed backup into a new folder; the gateway may go on serving."),
    "restore": (
        "operating.backups:restore",
        "Check a backup and bring it into an empty database; the gateway must be stopped.",
    ),
    "serve": (
        "operating.serving:serve",
        "Run the gateway until SIGTERM; SIGHUP reloads trusts, callers, peers, certificates and the log level.",
    ),
    "check": (
        "operating.serving:check",
        "Name everything that is wrong with the configuration, each with its path. Starts nothing.",
    ),
    "version": ("commands:version", "Say which version this is, and which rules it decides by."),
    "demo": (
        "demo:demo",
        "Run a demo region: the gateway and three trusts' simulated archives on loopback, until Ctrl-C.",
    ),
}
"""By name: the function below `gateway.cli`, and its help."""
GROUPS = {
    "patient": ("registers.patients:app", "Patients and their identifiers."),
    "relationship": ("registers.relationships:app", "Care relationships."),
    "optout": ("registers.optouts:opt_outs", "Requests to opt-out of regional sharing."),
    "optin": ("registers.optouts:opt_ins", "Requests to opt-in of regional sharing."),
    "agreement": ("registers.agreements:app", "Sharing agreements of custodian trusts."),
    "label": ("registers.labels:app", "Labels on sensitive imaging."),
    "grant": ("registers.grants:app", "Emergency grants."),
    "quality": ("registers.quality:app", "Data that custodians must put right."),
    "trust": ("registers.trusts:app", "Trusts of the region: joining, suspension, retirement, downtimes."),
    "policy": ("impact:app", "What the rules would say."),
    "audit": ("audit:app", "The audit: verify, read, export."),
    "location": ("locations:app", "Where imaging was seen. Never proof that there is none."),
    "jobs": ("operating.jobs:app", "Durable work: queued, running, done, failed, cancelled."),
    "release": ("release.release:app", "Release of reports to patients: what is due, and what is decided."),
    "reports": (
        "release.reports:app",
        "Reports as feeds brought them, and messages that nobody could read.",
    ),
    "feeds": ("release.feeds:app", "Senders of reports: when each was heard, and what it says it sent."),
    "cache": ("operating.cache:app", "The sealed cache of studies of this node."),
    "retrieve": ("operating.retrieve:app", "Retrievals: how far they are, what failed."),
    "keys": ("operating.keys:app", "The keys of images at rest."),
    "viewer": ("operating.viewer:app", "The viewer of images in a browser."),
}
"""By name: the commands on one noun, and their help."""
EVERYTHING = frozenset(COMMANDS) | frozenset(GROUPS)


def tree(loaded: Collection[str]) -> typer.Typer:
    """All commands by name and help, and those in `loaded` such that they can be run."""
    root = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="The regional image-sharing gateway. Exit codes: 0 done, 1 refused or not found, 2 cannot be used.",
    )
    for name, (place, words) in COMMANDS.items():
        command = _found(place) if name in loaded else None
        root.command(name, help=None if command else words)(command if callable(command) else _not_loaded)
    for name, (place, words) in GROUPS.items():
        group = _found(place) if name in loaded else None
        root.add_typer(group if isinstance(group, typer.Typer) else typer.Typer(help=words), name=name)
    return root


def wanted(arguments: list[str]) -> frozenset[str]:
    """What has to be loaded for these arguments: the first that is no option names it, if anything does."""
    return frozenset([word for word in arguments if not word.startswith("-")][:1])


def version(as_json: AsJson = False) -> None:
    """Say which version this is, and which rules it decides by."""
    console.show_one({"version": program_version(), "rule_set": RULE_SET}, as_json=as_json)


def _found(place: str) -> object:
    module, _, name = place.partition(":")
    found: object = getattr(import_module(f"gateway.cli.{module}"), name)
    return found


def _not_loaded() -> None:
    """Stands for a command of which only the name and the help are wanted."""
