"""The rules of this house that no linter knows, as functions from source text to findings.

Pure: test_tidy.py applies them to the tree, and shows of each that it can fail. Findings are for people.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import PurePath

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FOLDER_MODULES_MAX = 12

VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)(_|$)")

# Joined from pieces, so that this file does not find itself.
REGISTRY_HOSTS = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "deb." + "debian.org")
REGISTRY_ADDRESS = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS))
MACHINE_PATH = re.compile(r"(?<![\w.*-])/(wo" + r"rk|ro" + r"ot|home/\w+|Users/\w+|tmp/br" + r"ief)/")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")

# What an operator's log must never hold. Counts and yes-or-no about patients go under other words ("patients").
PATIENT_WORDS = frozenset(
    {
        "accession_number",
        "birth_date",
        "dataset",
        "date_of_birth",
        "description",
        "dob",
        "family_name",
        "given_name",
        "justification",
        "local_id",
        "local_number",
        "mrn",
        "nhs_number",
        "password",
        "patient",
        "patient_id",
        "patient_name",
        "postcode",
        "study_description",
        "surname",
        "token",
    }
)
LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


def too_long(source: str) -> list[str]:
    """Say that a module has more lines than a reader can hold."""
    lines = source.count("\n")
    return [f"{lines} lines, {MODULE_LINES_MAX} at most: which second noun has moved in?"] * (lines > MODULE_LINES_MAX)


def without_reason(tree: ast.Module) -> list[str]:
    """Say that a module has code, and no docstring that tells why it exists."""
    return ["no module docstring"] * bool(tree.body and not ast.get_docstring(tree))


def long_functions(tree: ast.Module) -> list[str]:
    """Name the functions that do not fit a screen."""
    return [
        f"line {node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} at most"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def vague_name(path: PurePath) -> list[str]:
    """Say that a module or folder is named after nothing: a function lives with the noun that it is about."""
    return [f"{part!r} names nothing" for part in path.with_suffix("").parts if VAGUE_NAMES.search(part)]


def forbidden_text(text: str) -> list[str]:
    """Name the lines with a package registry's address, a path of one machine, or a mark of unfinished work."""
    findings = []
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in (("registry address", REGISTRY_ADDRESS), ("path of one machine", MACHINE_PATH)):
            if pattern.search(line):
                findings.append(f"line {number}: {what}")
        if UNFINISHED.search(line):
            findings.append(f"line {number}: unfinished work")
    return findings


def foreign_packages(tree: ast.Module) -> set[str]:
    """Name the top-level packages imported at run time that are not the standard library's."""
    return {module.partition(".")[0] for module in _imports(tree)} - sys.stdlib_module_names


def patient_data_in_logs(tree: ast.Module) -> list[str]:
    """Name the log calls that have a patient's data, a secret or free text among their fields or values."""
    return [
        f"line {call.lineno}: logs {word}"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _is_log_call(call)
        for word in sorted(set(_words(call)) & PATIENT_WORDS)
    ]


def calls_of(tree: ast.Module, function: str) -> list[ast.Call]:
    """Find the calls of `function`, plain or as an attribute, in the order of the tree."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == function)
            or (isinstance(node.func, ast.Attribute) and node.func.attr == function)
        )
    ]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Name what is imported when the module runs; what only a type checker reads need not be installed."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _is_log_call(call: ast.Call) -> bool:
    """Take `log.info(...)`, `self._log.info(...)` and `logger.bind(...).info(...)` for log calls."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LOG_METHODS:
        return False
    owner = ast.unparse(call.func.value).partition("(")[0]
    return any(part.strip("_").lower() in {"log", "logger", "logging", "structlog"} for part in owner.split("."))


def _words(call: ast.Call) -> Iterator[str]:
    """Yield the field names of a log call and every variable or attribute whose value it would write out."""
    for keyword in call.keywords:
        if keyword.arg not in (None, "extra"):
            yield str(keyword.arg)
        if isinstance(keyword.value, ast.Dict):
            yield from (str(key.value) for key in keyword.value.keys if isinstance(key, ast.Constant))
    for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
        yield from _written_out(argument)


def _written_out(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Call(func=ast.Name(id="len" | "bool" | "type")) | ast.Compare() | ast.Constant():
            return  # a count, a yes or no: not the thing itself
        case ast.Attribute(attr=word) | ast.Name(id=word):
            yield word
        case _:
            for child in ast.iter_child_nodes(value):
                if isinstance(child, ast.expr):
                    yield from _written_out(child)
                elif isinstance(child, ast.keyword):
                    yield from _written_out(child.value)
