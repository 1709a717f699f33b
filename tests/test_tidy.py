"""Hold the tree to what the import contracts and linters cannot see (DEC-41).

Sizes, names, reasons, addresses, patient data in log calls, undocumented settings, unmapped errors, fault points. Every
rule is first shown a text that breaks it: a check that cannot fail is worse than none.
"""

import ast
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import pytest

from tests import house_rules
from tests.settings_tree import documented, setting_paths

ROOT = Path(__file__).parent.parent


def _files() -> list[Path]:
    """List what is in the repository or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = (ROOT / name for name in listing.stdout.decode().split("\0") if name)
    return sorted(path for path in paths if path.is_file())


FILES = _files()
MODULES = [path.relative_to(ROOT) for path in FILES if path.suffix == ".py"]
SOURCES = [path for path in MODULES if path.parts[0] != "tests"]


def _findings(paths: list[Path], check: Callable[[ast.Module], list[str]]) -> list[str]:
    return [
        f"{path}: {finding}"
        for path in paths
        for finding in check(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    ]


def test_the_tree_is_seen() -> None:
    assert {PurePath("policy/parties.py"), PurePath("tests/test_tidy.py")} <= set(MODULES)


def test_every_module_says_why_it_exists() -> None:
    assert house_rules.without_reason(ast.parse("x = 1")) and not house_rules.without_reason(ast.parse(""))
    assert _findings(MODULES, house_rules.without_reason) == []


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    assert house_rules.too_long("x\n" * 401) and not house_rules.too_long("x\n" * 400)
    assert [
        f"{path}: {long}"
        for path in SOURCES
        for long in house_rules.too_long((ROOT / path).read_text(encoding="utf-8"))
    ] == []


def test_no_function_is_longer_than_seventy_lines() -> None:
    def function_of(lines: int) -> ast.Module:
        return ast.parse("async def f():\n" + "    x = 1\n" * (lines - 1))

    assert house_rules.long_functions(function_of(71)) and not house_rules.long_functions(function_of(70))
    # A revision is a list of tables in the order of their making: nothing to split.
    assert _findings([path for path in MODULES if path.parent.name != "versions"], house_rules.long_functions) == []


def test_no_folder_has_more_than_a_dozen_modules() -> None:
    folders = Counter(path.parent for path in SOURCES if path.name != "__init__.py" and path.parent.name != "versions")
    assert {folder: count for folder, count in folders.items() if count > house_rules.FOLDER_MODULES_MAX} == {}


def test_every_module_is_named_after_something() -> None:
    assert house_rules.vague_name(PurePath("gateway/peer_utils.py")) and house_rules.vague_name(PurePath("common/a.py"))
    assert not house_rules.vague_name(PurePath("gateway/utilisation.py"))
    assert [finding for path in MODULES for finding in house_rules.vague_name(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "see https://" + "files.python" + "hosted.org/packages/x",
        "open('/wo" + "rk/main/x')",
        "cd /home" + "/anna/gateway",
        "# TO" + "DO later",
    ],
)
def test_a_line_that_belongs_to_one_machine_or_one_day_is_found(text: str) -> None:
    assert house_rules.forbidden_text(f"good\n{text}\n")[0].startswith("line 2")


def test_no_file_names_a_registry_a_machine_or_unfinished_work() -> None:
    findings = []
    for path in FILES:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or a sealed file
        findings += [f"{path.relative_to(ROOT)}: {finding}" for finding in house_rules.forbidden_text(text)]
    assert findings == []


def test_policy_stands_on_the_standard_library_alone() -> None:
    assert house_rules.foreign_packages(ast.parse("import pydicom.uid\nimport re")) == {"pydicom"}
    paths = [path for path in SOURCES if path.parts[0] == "policy"]
    assert _findings(paths, lambda tree: sorted(house_rules.foreign_packages(tree) - {"policy"})) == []


@pytest.mark.parametrize(
    "call",
    [
        "log.info('found', extra={'nhs_number': number})",
        "self._log.warning('found', patient_name=name)",
        "log.info('found', extra={'key': query.patient_id})",
        "structlog.get_logger().error(f'no study for {patient.surname}')",
        "logger.debug('got %s', str(row.birth_date))",
    ],
)
def test_a_log_call_with_patient_data_is_found(call: str) -> None:
    assert house_rules.patient_data_in_logs(ast.parse(call))


@pytest.mark.parametrize(
    "call",
    [
        "log.info('found', extra={'matches': len(dataset), 'pinned': patient_id is not None})",
        "record.write('x', nhs_number=number)",
    ],
)
def test_a_count_or_a_call_that_does_not_log_is_let_be(call: str) -> None:
    assert house_rules.patient_data_in_logs(ast.parse(call)) == []


def test_no_log_call_has_patient_data() -> None:
    assert _findings(SOURCES, house_rules.patient_data_in_logs) == []


def test_a_setting_counts_as_described_in_its_own_section_only() -> None:
    @dataclass
    class Section:
        size_bytes_max: int

    @dataclass
    class Settings:
        cache: Section
        spool: Section | None

    toml = "[cache]\n# size_bytes_max = 5 # bytes\n\n# [[spool]]\nname = 'x'\n"
    assert set(setting_paths(Settings)) - documented(toml) == {"spool.size_bytes_max"}


def test_every_setting_is_in_the_commented_configuration() -> None:
    from gateway.config.configuration import Configuration

    described = documented((ROOT / "gateway.toml").read_text(encoding="utf-8"))
    assert sorted(set(setting_paths(Configuration)) - described) == []


def test_every_error_has_its_answer_in_http() -> None:
    from dicomweb.problem import FORMS
    from gateway.model.errors import GatewayError

    def family(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
        for child in error.__subclasses__():
            yield child
            yield from family(child)

    assert sorted(error.__name__ for error in family(GatewayError) if error not in FORMS) == []


def test_every_fault_point_has_a_name_of_its_own() -> None:
    points = [
        (call.args[0], path)
        for path in SOURCES
        for call in house_rules.calls_of(ast.parse((ROOT / path).read_text(encoding="utf-8")), "faultpoint")
    ]
    # A literal, or a family of them by one enum's values: a plain variable cannot be searched for.
    unnamed = [str(path) for name, path in points if not isinstance(name, ast.JoinedStr | ast.Constant)]
    names = Counter(ast.unparse(name) for name, _ in points)
    assert names and unnamed == []
    assert [name for name, count in names.items() if count > 1] == []
