"""docs/operating.md says what is: every figure, log event and command in it exists, and none is missing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.commands import EVERYTHING, tree
from gateway.metrics import Figures

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
LOGGING = ("gateway", "dicomweb", "dimse", "storage")
METHODS = "debug|info|warning|error|exception|critical"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def counted() -> Iterator[str]:
    for family in text_string_to_metric_families(Figures().exposition().decode()):
        if not family.name.endswith("_created"):
            yield f"{family.name.removesuffix('_total')}_total" if family.type == "counter" else family.name


def logged() -> Iterator[str]:
    """Every event that our own log calls name."""
    for package in LOGGING:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "demo" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and re.fullmatch(f"log.({METHODS})", ast.unparse(node.func)):
                    yield from _texts(node.args[0])


def _texts(event: ast.expr) -> Iterator[str]:
    match event:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body)
            yield from _texts(other)
        case _:
            raise AssertionError(f"line {event.lineno}: an event is a literal")


def commands(branch: typer.Typer, prefix: str = "gateway") -> Iterator[str]:
    for command in branch.registered_commands:
        yield f"{prefix} {command.name or getattr(command.callback, '__name__', '')}"
    for group in branch.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix} {group.name}")


def test_every_figure_is_explained_and_no_other() -> None:
    explained = re.findall(r"^\| `(gateway_[a-z_]+)`", section("Health, readiness, figures"), re.MULTILINE)
    assert sorted(explained) == sorted(set(counted()))


def test_every_log_event_is_explained_and_no_other() -> None:
    rows = [line.split("|")[1] for line in section("Log").splitlines() if line.startswith("| `")]
    explained = {event for row in rows for event in re.findall(r"`([^`]+)`", row)}
    assert sorted(explained) == sorted(set(logged()))


def test_every_command_is_named() -> None:
    # `gateway patient add, show` names two commands; an option after a command names nothing.
    named = set()
    for text in re.findall(r"`gateway ([a-z][^`]*)`", PAGE):
        words = re.split(r"[ ,]+", re.sub(r" (--|[A-Z]).*", "", text))
        named |= {f"gateway {words[0]}", *(f"gateway {words[0]} {word}" for word in words[1:])}
    named |= {name.replace("optout", "optin") for name in named}
    assert sorted(set(commands(tree(EVERYTHING))) - named - {"gateway demo"}) == []


def test_exit_codes_are_those_of_the_code() -> None:
    from gateway.cli import REFUSED, UNUSABLE
    from gateway.cli.session import INTERRUPTED

    for code, words in (
        (REFUSED, "it ran and the answer is no"),
        (UNUSABLE, "cannot be used"),
        (INTERRUPTED, "Ctrl-C"),
    ):
        assert re.search(rf"\b{code}\b[^;]*{re.escape(words)}", section("Start, check, stop").replace("\n", " "))
