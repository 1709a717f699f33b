"""Show that a newcomer's two commands and `pip install .` give what they promise (DEC-42)."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests import house_rules

ROOT = Path(__file__).parent.parent
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=100, check=False
    )


def _names(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _project_name(requirement: str) -> str:
    return re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0]


def test_there_is_a_lock_for_setting_up_for_running_and_for_developing() -> None:
    assert [lock.name for lock in LOCKS] == ["requirements-dev.lock", "requirements-setup.lock", "requirements.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_everything_locked_has_one_version_and_a_hash_and_no_address(lock: Path) -> None:
    logical_lines = re.sub(
        r"\\\n", " ", re.sub(r"^ *#.*\n?", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    ).splitlines()
    bad = [
        line for line in logical_lines if not re.match(r"[a-z0-9-]+==\S+( ; [^#]+?)?( +--hash=sha256:\w{64})+$", line)
    ]
    assert logical_lines and bad == []
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ ", lock.read_text(encoding="utf-8"))


def test_the_locks_hold_every_declared_dependency() -> None:
    runtime = {_project_name(line) for line in PROJECT["project"]["dependencies"]}
    development = {_project_name(line) for line in PROJECT["dependency-groups"]["dev"]}
    assert runtime <= _names("requirements.lock")
    assert runtime | development <= _names("requirements-dev.lock")


def test_what_the_gateway_imports_it_declares() -> None:
    declared = {_project_name(line) for line in PROJECT["project"]["dependencies"]}
    providers = packages_distributions()
    undeclared = {
        f"{module.relative_to(ROOT)} imports {name}"
        for package in PACKAGES
        for module in (ROOT / package).rglob("*.py")
        for name in house_rules.foreign_packages(ast.parse(module.read_text(encoding="utf-8")))
        if name not in PACKAGES and not declared & {_normal(provider) for provider in providers.get(name, [])}
    }
    # Not declared, or only in an extra: then it must not be imported where an ordinary install needs it.
    assert undeclared == set()


def test_running_and_developing_use_the_same_versions() -> None:
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_every_top_level_package_is_shipped_and_under_the_import_contracts() -> None:
    contracts = (
        (ROOT / ".importlinter")
        .read_text(encoding="utf-8")
        .partition("root_packages =\n")[2]
        .partition("\ninclude")[0]
        .split()
    )
    assert PACKAGES == set(PROJECT["tool"]["uv"]["build-backend"]["module-name"]) == set(contracts)


def test_make_help_tells_of_every_target() -> None:
    targets = set(
        re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0].split()
    )
    listed = re.findall(r"^  make (\S+) +\S", _run("make", "--no-print-directory", "help").stdout, re.MULTILINE)
    assert targets == set(listed)
    assert {"setup", "demo", "test", "bench", "bench-quick", "soak"} <= targets


def test_a_python_that_is_too_old_is_named_with_the_remedy(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / ".ci").mkdir()
    for name in (".ci/setup", "pyproject.toml", "requirements-setup.lock", "requirements.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    outcome = _run("bash", ".ci/setup", "runtime", cwd=tmp_path, PYTHON=str(old))
    assert outcome.returncode != 0
    assert "needs Python 3.11 or later, and found Python 3.9.2" in outcome.stderr
    assert not (tmp_path / ".venv").exists()


def test_setting_up_again_changes_nothing() -> None:
    stamp = ROOT / ".venv/.setup"
    if not stamp.exists():
        pytest.skip("this checkout was not set up by make")
    _run(".ci/setup", "runtime")  # a lock may have changed since
    before = stamp.stat().st_mtime_ns
    outcome = _run(".ci/setup", "runtime")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before


@pytest.mark.parametrize(("ci", "passes"), [("true", False), ("", True)])
@pytest.mark.parametrize("where", ["body", "mark", "module"])
def test_a_skipped_test_fails_in_ci_and_only_there(tmp_path: Path, where: str, ci: str, passes: bool) -> None:
    (tmp_path / "test_it.py").write_text(
        {
            "body": "import pytest\ndef test_it(): pytest.skip('no Orthanc')",
            "mark": "import pytest\n@pytest.mark.skipif(True, reason='no Orthanc')\ndef test_it(): pass",
            "module": "import pytest\npytest.skip('no Orthanc', allow_module_level=True)",
        }[where]
        + "\n"
    )
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    command = (sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", "--rootdir", tmp_path)
    outcome = _run(*command, cwd=tmp_path, CI=ci, PYTHONPATH=str(ROOT), PYTEST_ADDOPTS="")
    assert (outcome.returncode == 0) is passes
    assert ("nothing may be skipped in CI" in outcome.stdout) is not passes


@pytest.mark.slow
def test_an_ordinary_install_gives_the_command(tmp_path: Path) -> None:
    uv = ROOT / ".venv/bin/uv"
    if not uv.exists():
        pytest.skip("this checkout was not set up by make")
    python = tmp_path / "venv/bin/python"
    for command in (
        (uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"),
        (uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", ROOT / "requirements.lock"),
        (uv, "pip", "install", "--quiet", "--python", python, "--no-deps", ROOT),
    ):
        outcome = _run(*command, UV_PYTHON_DOWNLOADS="never")
        assert outcome.returncode == 0, outcome.stderr
    # From a folder with nothing in it: only what was installed can answer.
    outcome = _run(tmp_path / "venv/bin/gateway", "--help", cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert "serve" in outcome.stdout and "demo" in outcome.stdout
    assert not list(tmp_path.glob("venv/lib/*/site-packages/tests"))
