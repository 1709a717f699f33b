"""The tree of commands says of each what the command says of itself, and one run loads one branch."""

import subprocess
import sys

import pytest
from typer.main import get_command

from gateway.cli.commands import COMMANDS, EVERYTHING, GROUPS, tree, wanted
from tests.gateway.commands import Commands
from tests.gateway.commands import gateway as gateway  # the fixture

LOADED = "import sys; from gateway.cli import run; run({arguments}); print(*sys.modules, file=sys.stderr)"


def helps(loaded: frozenset[str]) -> dict[str, str]:
    """By name, the first paragraph: what the list shows."""
    root = get_command(tree(loaded))
    commands = getattr(root, "commands")  # noqa: B009  # Typer names no type for a group
    return {name: " ".join((command.help or "").split("\n\n")[0].split()) for name, command in commands.items()}


def modules_of(*arguments: str) -> set[str]:
    """Which modules a run of `gateway` loads."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=list(arguments))], capture_output=True, text=True, check=True
    )
    return set(ran.stderr.split())


def test_help_says_of_every_command_what_the_command_says_of_itself() -> None:
    assert helps(EVERYTHING) == helps(frozenset())
    assert list(helps(frozenset())) == [*COMMANDS, *GROUPS]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["jobs", "list"], {"jobs"}),
        (["--help"], set()),
        (["--", "patient", "show"], {"patient"}),
        ([], set()),
        (["nonsense"], {"nonsense"}),
    ],
)
def test_the_first_word_says_what_is_loaded(arguments: list[str], name: set[str]) -> None:
    assert wanted(arguments) == name


def test_help_and_version_load_no_database_and_no_configuration() -> None:
    heavy = {"sqlalchemy", "gateway.config", "cryptography", "aiohttp", "pydicom", "pynetdicom", "structlog"}
    assert modules_of("--help") & heavy == set()
    assert modules_of("version") & heavy == set()


def test_a_command_on_registers_loads_neither_http_nor_dicom_nor_migrations(gateway: Commands) -> None:
    gateway.do("jobs", "list")  # brings the database to its schema
    loaded = modules_of("jobs", "list")
    assert "storage.work.jobs" in loaded
    assert loaded & {"aiohttp", "pydicom", "pynetdicom", "numpy", "alembic", "gateway.app"} == set()


def test_a_mistyped_command_is_answered_with_the_nearest(gateway: Commands) -> None:
    status, _ = gateway.status("jobz")
    assert status == 2
    assert "jobs" in gateway.errors


def test_a_word_behind_help_asks_only_for_the_list(gateway: Commands) -> None:
    assert "Durable work" in gateway.do("--help", "jobs")


def test_no_command_leaves_a_core_or_can_be_looked_into() -> None:
    asked = (
        "import ctypes, resource, subprocess\n"
        "from gateway.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)[1:] * 2)\n"
        "run(['version'])\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "0 0"
