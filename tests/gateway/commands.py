"""Run `gateway` commands inside the test's process, on a real SQLite store, and see what an operator sees."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.cli import main

CONFIGURATION = """
[gateway]
node = "node-1"
mode = "demo"
[opt_out]
bank_holidays = [2026-12-25]
[[trust]]
ods = "RZ1"
name = "Northmoor"
enrolled = true
desk_phone = "01632 960001"
[[trust]]
ods = "RZ2"
name = "Eastvale"
enrolled = true
desk_phone = "01632 960002"
[[caller]]
name = "northmoor-pacs"
trust = "RZ1"
certificate_name = "pacs.northmoor.example"
[[caller]]
name = "dr-hollis"
trust = "RZ1"
kind = "clinician"
certificate_name = "hollis.northmoor.example"
teams = ["ent"]
"""
ANNE, BEN, CLARA = "9990000018", "9990000026", "9990000034"


class Commands:
    """The `gateway` command with one configuration."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.path = folder / "gateway.toml"
        self.path.write_text(CONFIGURATION)
        self._capture = capture
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("GATEWAY_CONFIG", str(self.path))
        self.errors = ""

    def status(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """Run a command whatever comes of it: its exit code and what it printed; `errors` keeps the complaints."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = self._capture.readouterr()
        self.errors = printed.err
        return int(ended.value.code or 0), printed.out

    def do(self, *arguments: str, typed: str = "") -> str:
        """Run a command that succeeds; what it printed."""
        status, output = self.status(*arguments, typed=typed)
        assert status == 0, self.errors
        return output

    def json(self, *arguments: str) -> Any:
        """Run a command that succeeds with `--json`; what it printed, parsed."""
        return json.loads(self.do(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """Run a command that is refused; why."""
        status, _ = self.status(*arguments)
        assert status == 1
        return self.errors

    def audit(self, node: str = "node-1-cli") -> list[dict[str, Any]]:
        """What the audit says, in order."""
        lines = self.do("audit", "export", "--node", node).splitlines()
        return [json.loads(line)["said"] for line in lines]

    def changes(self) -> list[dict[str, Any]]:
        """The bodies of all register changes."""
        return [said["body"] for said in self.audit() if said["event"] == "register-change"]

    def file(self, name: str, text: str) -> str:
        """Write a file; its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)


@pytest.fixture
def gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Commands(tmp_path, capsys, monkeypatch)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
