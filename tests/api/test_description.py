"""The OpenAPI description says what the code does: same paths, same shapes, and a foreign tool agrees under fire."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from queue import Queue

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks

from gateway.web.api import desk as bodies
from gateway.web.api.document import description
from gateway.web.api.operations import OPERATIONS, Operation
from gateway.web.api.service import BODY_BYTES_MAX
from gateway.web.api.shapes import json_of, parsed
from policy.release.circumstances import HoldKind
from tests.api.desks import EXPLAINED, LINE, REPORT, WHO, OneReport, served

DESCRIPTION = description("1.2.3")
EXAMPLES_MAX = 15
"""Of each operation, valid ones and invalid ones, by every caller."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The API served from a thread of its own, for a tool that blocks."""
    ready: Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def serve() -> None:
        done = asyncio.Event()
        async with served(OneReport()) as server:
            ready.put((str(server.make_url("")), asyncio.get_running_loop(), done))
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, loop, done = ready.get(timeout=30)
    yield url
    loop.call_soon_threadsafe(done.set)
    thread.join(30)


def test_the_description_is_openapi_by_its_own_schema() -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    schema.validate()
    for operation in OPERATIONS:
        assert schema[operation.path][operation.method].label == f"{operation.method} {operation.path}"
    assert schema.statistic.operations.total == len(OPERATIONS)


def test_every_operation_has_a_name_of_its_own_and_says_for_whom_it_is() -> None:
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)
    assert all(operation.summary.endswith(".") and operation.who for operation in OPERATIONS)


def test_the_conformance_statement_lists_the_same_operations() -> None:
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (GET|POST) `(/api/release[^`]*)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert rows == [
        (each.method, each.path, each.summary, ", ".join(sorted(kind.value for kind in each.who)))
        for each in OPERATIONS
    ]
    assert f"{BODY_BYTES_MAX // 1024} kB" in page


@pytest.mark.parametrize(
    "value",
    [
        EXPLAINED,
        bodies.Reports((LINE,), True),
        bodies.NewHold(HoldKind.LEGAL, "court order", date(2026, 6, 9)),
        bodies.Approval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), 7, "agreed"),
        bodies.Acknowledgement("v1", "Dr A", None),
        bodies.Acknowledgements((bodies.ReadVersion(REPORT, "v1"),), "Dr A", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_fits_its_schema_and_comes_back_the_same(value: object) -> None:
    written = json_of(value)
    schema = {"$ref": f"#/components/schemas/{type(value).__name__}", "components": DESCRIPTION["components"]}
    jsonschema_rs.validate(schema, written)
    assert parsed(type(value), written) == value


CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]
CALLERS = ("clinician RZ1", "officer RZ1", "system RZ1", "clinician RZ2")


KNOWN = {"report_id": REPORT, "hold_id": "h1"}
TRIED = [
    pytest.param(operation, mode, id=f"{operation.name}-{mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body or operation.query or "{" in operation.path
]
"""What takes nothing cannot be asked wrongly."""


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "mode"), TRIED)
def test_a_foreign_tool_that_tries_everything_finds_what_is_described(
    address: str, operation: Operation, mode: GenerationMode
) -> None:
    described = schemathesis.openapi.from_dict(DESCRIPTION)[operation.path][operation.method]
    named = {name: value for name, value in KNOWN.items() if f"{{{name}}}" in operation.path}
    is_wrong = mode is GenerationMode.NEGATIVE
    answers: set[int] = set()

    @settings(
        max_examples=EXAMPLES_MAX,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described.as_strategy(generation_mode=mode, path_parameters=None if is_wrong else named))
    def tried(case: schemathesis.Case) -> None:  # type: ignore[type-arg]  # its parameters are the tool's own
        for caller in CALLERS:
            answered = case.call_and_validate(base_url=address, headers={WHO: caller}, checks=CHECKS)
            answers.add(answered.status_code)

    tried()
    assert (200 in answers) is not is_wrong
