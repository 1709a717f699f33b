"""What the documents for operators tell them to write and to type works as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest
from typer.main import get_command

from gateway.cli.commands import EVERYTHING, tree
from gateway.config.checks import load
from gateway.config.configuration import Configuration
from gateway.config.release.terms import terms_of
from tests.gateway.certificates import Authority
from tests.gateway.test_config_gateways import written

DOCS = Path(__file__).parents[2] / "docs"
ENROLLED = 'enrolled = true\ndesk_phone = "01632 960001"'
"""Behind the last trust of the small configuration."""
NAMES = ("channels", "patient-page", "report-release")
_BLOCK = re.compile(r"^( *)```(toml|sh)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"`(gateway(?: [^`]+)?)`")


def blocks(name: str, language: str) -> list[str]:
    """The blocks of a document in this language."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    return [textwrap.dedent(content) for _, kind, content in _BLOCK.findall(text) if kind == language]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an operator stands: the certificates that an authority gave are there."""
    authority = Authority(tmp_path / "var" / "certificates")
    authority.issue("gateway")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def followed(place: Path, *names: str) -> Configuration:
    """The configuration after somebody did all that these documents say."""
    for command in (each for name in names for each in blocks(name, "sh")):
        subprocess.run(["sh", "-e", "-c", command], cwd=place, check=True, capture_output=True)
    return load(written(place, "\n".join([ENROLLED, *(each for name in names for each in blocks(name, "toml"))])))


def test_channels_are_set_up_as_their_document_says(place: Path) -> None:
    configuration = followed(place, "channels")
    assert {entry.name: entry.kind.value for entry in configuration.channel} == {
        "app": "fhir",
        "portal": "hl7",
        "letters": "folder",
    }
    assert configuration.channel[0].client_key is not None


def test_the_patients_page_is_set_up_as_its_document_says(place: Path) -> None:
    page = followed(place, "patient-page").patient_page
    assert page is not None and page.client_key.stat().st_mode & 0o777 == 0o600


def test_a_trust_goes_live_as_the_document_of_release_says(place: Path) -> None:
    configuration = followed(place, "patient-page", "report-release")
    assert [terms_of(configuration, trust.ods).go_live_at is not None for trust in configuration.trust] == [False, True]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_a_document_names_is_one(name: str) -> None:
    for line in _COMMAND.findall((DOCS / f"{name}.md").read_text(encoding="utf-8")):
        words, command = shlex.split(line)[1:], get_command(tree(EVERYTHING))
        # Typer names no type for a group.
        while words and (known := getattr(command, "commands", None)) is not None:
            assert words[0] in known, line
            command = known[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
