"""`gateway batch`: many commands, one to a line, by one start of the program; the first that fails ends it.

For scripts that fill registers: starting the program costs more than most of what commands do. Every line is a command
as typed, with or without `gateway` before it, and does its own work whole: what is reported as done is done.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway import cli
from gateway.cli import console
from gateway.cli.options import DEFAULT_CONFIG, Config
from gateway.model.errors import InvalidRequest

LINES_MAX = 10_000
"""Commands in one file."""
NOT_IN_A_BATCH = frozenset({"serve", "demo", "batch"})
"""They run until they are stopped, or read what this one reads."""


def batch(
    file: Annotated[str, typer.Argument(help="File of commands, one to a line; - reads standard input.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Run a file of commands, one to a line, until one fails; `#` begins a comment. Exits with that one's code."""
    commands = _commands(file)
    # Every line's own --config still wins, as on the command line.
    os.environ["GATEWAY_CONFIG"] = str(config)
    for number, words in commands:
        code = cli.run(words)
        if code != 0:
            console.complain(f"line {number} ended with {code}: the lines before it are done, none behind it was begun")
            raise typer.Exit(code)


def _commands(file: str) -> list[tuple[int, list[str]]]:
    """The lines that hold commands, each as its words; all of them read before the first is run."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read") from error
    commands = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InvalidRequest(f"line {number}: {str(error).lower()}") from error
        words = words[1:] if words[:1] == ["gateway"] else words
        if words and words[0] in NOT_IN_A_BATCH:
            raise InvalidRequest(f"line {number}: {words[0]} cannot stand in a batch")
        if words:
            commands.append((number, words))
    if len(commands) > LINES_MAX:
        raise InvalidRequest(f"a batch holds at most {LINES_MAX:,} commands, this one {len(commands):,}")
    return commands
