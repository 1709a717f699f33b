"""The API: who may act, what a body must be, what leaves, and that looking changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from gateway.web.api.desk import ACKNOWLEDGED_MAX, Acknowledgement, Acknowledgements, NewHold, ReadVersion
from gateway.web.api.operations import OPERATIONS
from gateway.web.api.service import BODY_BYTES_MAX
from policy.parties import PrincipalKind
from policy.release.circumstances import HoldKind
from tests.api.desks import REPORT, WHO, OneReport, served

CLINICIAN = {WHO: "clinician RZ1"}
OFFICER = {WHO: "officer RZ1"}
SYSTEM = {WHO: "system RZ1"}
ELSEWHERE = {WHO: "clinician RZ2"}
HOLD = {"kind": "timing", "reason": "speaks first", "review_on": "2026-06-09"}
AT_REPORT = f"/api/release/reports/{REPORT}"


@pytest.fixture
def desk() -> OneReport:
    return OneReport()


@pytest_asyncio.fixture
async def server(desk: OneReport) -> AsyncIterator[TestServer]:
    async with served(desk) as server:
        yield server


@pytest_asyncio.fixture
async def client(server: TestServer) -> AsyncIterator[ClientSession]:
    async with ClientSession(str(server.make_url(""))) as client:
        yield client


async def test_a_hold_is_placed_in_the_name_that_the_connection_proves(client: ClientSession, desk: OneReport) -> None:
    async with client.post(f"{AT_REPORT}/holds", json=HOLD, headers=CLINICIAN) as answer:
        assert answer.status == 200
        assert await answer.json() == {"report_id": REPORT, "state": "held", "due_at": None, "changed": True}
        assert answer.headers["Cache-Control"] == "no-store"
    ((act, who, body),) = desk.acts
    assert (act, who) == ("hold", "clinician-of-RZ1")
    assert body == NewHold(HoldKind.TIMING, "speaks first", date(2026, 6, 9))


async def test_who_shows_nothing_learns_nothing(client: ClientSession, desk: OneReport) -> None:
    for path in ("/api/openapi.json", "/api/release/board", AT_REPORT):
        async with client.get(path) as answer:
            assert answer.status == 401
            assert answer.content_type == "application/problem+json"
    async with client.post(f"{AT_REPORT}/holds", json=HOLD) as answer:
        assert answer.status == 401
    assert desk.acts == []


async def test_another_trusts_report_does_not_exist(client: ClientSession, desk: OneReport) -> None:
    async with (
        client.get(AT_REPORT, headers=ELSEWHERE) as hers,
        client.get("/api/release/reports/none", headers=ELSEWHERE) as none,
    ):
        assert (hers.status, none.status) == (404, 404)
        strange, nobodys = await hers.json(), await none.json()
        assert strange == nobodys
    async with client.post(
        f"{AT_REPORT}/early-release", json={"version_id": "v1", "reason": "r"}, headers=ELSEWHERE
    ) as a:
        assert a.status == 404
    assert desk.acts == []
    assert sorted(desk.refusals) == [("explained", "none"), ("explained", REPORT), ("releaseEarly", REPORT)]


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (f"{AT_REPORT}/early-release", {"version_id": "v1", "reason": "r"}, OFFICER),
        (f"{AT_REPORT}/early-release", {"version_id": "v1", "reason": "r"}, SYSTEM),
        (f"{AT_REPORT}/retraction", {"version_id": "v1", "reason": "r"}, SYSTEM),
        (f"{AT_REPORT}/review", {"version_id": "v1", "reason": "r"}, OFFICER),
        (f"{AT_REPORT}/patient", {"version_id": "v1", "reason": "r"}, SYSTEM),
        (f"{AT_REPORT}/deliveries/settlement", {"reason": "r"}, SYSTEM),
        (f"{AT_REPORT}/link", {"study_uid": "1.2.3", "reason": "r"}, SYSTEM),
        (f"{AT_REPORT}/link/end", {"study_uid": "1.2.3", "reason": "r"}, SYSTEM),
        ("/api/release/restart", {"reason": "r"}, CLINICIAN),
        (f"{AT_REPORT}/holds", HOLD, {WHO: "gateway RZ1"}),
        (f"{AT_REPORT}/holds", HOLD, {WHO: "service RZ1"}),
    ],
)
async def test_who_is_of_another_kind_is_refused(
    client: ClientSession, desk: OneReport, path: str, body: dict[str, str], headers: dict[str, str]
) -> None:
    async with client.post(path, json=body, headers=headers) as answer:
        assert answer.status == 403
    assert desk.acts == []
    assert len(desk.refusals) == 1


async def test_opening_a_report_acknowledges_nothing(client: ClientSession, desk: OneReport) -> None:
    for path in (AT_REPORT, f"{AT_REPORT}/acknowledgement"):
        async with client.get(path, headers=CLINICIAN) as answer:
            assert answer.status in (200, 405)
        async with client.head(path, headers=CLINICIAN) as answer:
            assert answer.status in (200, 405)
    assert desk.acts == []
    async with client.post(
        f"{AT_REPORT}/acknowledgement", json={"version_id": "v1", "name": "Dr A"}, headers=CLINICIAN
    ) as answer:
        assert answer.status == 200
    assert desk.acts == [("acknowledge", "clinician-of-RZ1", Acknowledgement("v1", "Dr A"))]


def test_no_get_is_an_act() -> None:
    assert {operation.name for operation in OPERATIONS if operation.method == "GET"} == {
        "board",
        "reports",
        "named",
        "explained",
        "deadLetters",
        "retrospective",
    }
    assert all(operation.body is None for operation in OPERATIONS if operation.method == "GET")
    assert all(operation.body is not None for operation in OPERATIONS if operation.method == "POST")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (HOLD | {"kind": "for ever"}, "kind: none of the words that it may be"),
        (HOLD | {"review_on": "9 June"}, "review_on: a day is expected, as 2026-05-03"),
        (HOLD | {"review_on": 20260609}, "review_on: text is expected"),
        (HOLD | {"reason": "   "}, "reason: holds a character that it may not"),
        (HOLD | {"reason": "line\nfeed"}, "reason: holds a character that it may not"),
        (HOLD | {"reason": "nul\0"}, "reason: holds a character that it may not"),
        (HOLD | {"reason": "x" * 501}, "reason: from 1 to 500 characters"),
        (HOLD | {"nhs_number": "9990000018"}, "the body: has a member that is not known"),
        ({"kind": "timing"}, "reason: must be given"),
        ([HOLD], "the body: an object is expected"),
        ("hold", "the body: an object is expected"),
    ],
)
async def test_a_body_that_is_wrong_is_refused_with_its_place_and_never_repeated(
    client: ClientSession, desk: OneReport, body: object, says: str
) -> None:
    async with client.post(f"{AT_REPORT}/holds", json=body, headers=CLINICIAN) as answer:
        assert answer.status == 400
        problem = await answer.json(content_type="application/problem+json")
    assert problem["detail"] == says
    assert desk.acts == []


async def test_an_instant_without_its_zone_is_refused(client: ClientSession, desk: OneReport) -> None:
    for at in ("2026-06-01T12:00:00", "2026-06-01", "2026-13-01T12:00:00Z", "20260601T120000Z"):
        body = {"version_id": "v1", "name": "Dr A", "at": at}
        async with client.post(f"{AT_REPORT}/acknowledgement", json=body, headers=CLINICIAN) as answer:
            assert answer.status == 400
    body = {"version_id": "v1", "name": "Dr A", "at": "2026-06-01T12:00:00+01:00"}
    async with client.post(f"{AT_REPORT}/acknowledgement", json=body, headers=CLINICIAN) as answer:
        assert answer.status == 200
    assert desk.acts[-1][2] == Acknowledgement("v1", "Dr A", datetime(2026, 6, 1, 11, tzinfo=UTC))


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"name": "\\ud800"}', "application/json", 400),
        (b"", "application/json", 400),
        (b'{"name": "Dr A"}', "text/plain", 415),
        (b"name=Dr+A", "application/x-www-form-urlencoded", 415),
        (b'{"name": "' + b"x" * BODY_BYTES_MAX + b'"}', "application/json", 413),
    ],
)
async def test_what_is_no_json_of_its_own_content_type_is_refused(
    client: ClientSession, desk: OneReport, data: bytes, content_type: str, status: int
) -> None:
    headers = CLINICIAN | {"Content-Type": content_type}
    async with client.post(f"{AT_REPORT}/acknowledgement", data=data, headers=headers) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
    assert desk.acts == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?state=held&limit=1000", 200),
        ("?days=7", 200),
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?limit=ten", 400),
        ("?state=HELD", 400),
        ("?days=7&days=8", 400),
        ("?patient=9990000018", 400),
    ],
)
async def test_a_list_takes_the_parameters_that_it_has(client: ClientSession, query: str, status: int) -> None:
    async with client.get(f"/api/release/reports{query}", headers=CLINICIAN) as answer:
        assert answer.status == status


async def test_a_view_that_takes_no_parameter_refuses_one(client: ClientSession) -> None:
    async with client.get("/api/release/board?patient=9990000018", headers=OFFICER) as answer:
        assert answer.status == 400
        assert "9990000018" not in await answer.text()


async def test_the_ris_itself_proves_what_it_sent(client: ClientSession, desk: OneReport) -> None:
    async with client.post(
        f"{AT_REPORT}/dispatch", json={"version_id": "v1", "reference": "MSG7 AA"}, headers=SYSTEM
    ) as answer:
        assert answer.status == 200
    assert desk.acts[0][:2] == ("prove_dispatch", "system-of-RZ1")


@pytest.mark.parametrize(
    "path", ["early-release", "retraction", "review", "patient", "acknowledgement", "follow-up", "dispatch"]
)
async def test_who_says_something_of_a_text_names_the_version_that_was_read(
    client: ClientSession, desk: OneReport, path: str
) -> None:
    words = {"reason": "asked for", "name": "Dr A", "reference": "MSG7 AA"}
    wanted = {"acknowledgement": ["name"], "follow-up": ["name", "reason"], "dispatch": ["reference"]}
    body = {name: words[name] for name in wanted.get(path, ["reason"])}
    async with client.post(f"{AT_REPORT}/{path}", json=body, headers=CLINICIAN) as answer:
        assert answer.status == 400
        assert (await answer.json(content_type=None))["detail"] == "version_id: must be given"
    assert desk.acts == []
    async with client.post(f"{AT_REPORT}/{path}", json=body | {"version_id": "v1"}, headers=CLINICIAN) as answer:
        assert answer.status == 200
    [(_, who, said)] = desk.acts
    assert who == "clinician-of-RZ1"
    assert getattr(said, "version_id") == "v1"  # noqa: B009  # a body of one of several kinds


async def test_several_are_acknowledged_at_once_each_with_its_version(client: ClientSession, desk: OneReport) -> None:
    path, read = "/api/release/acknowledgements", {"report_id": REPORT, "version_id": "v1"}
    for wrong in ([], [{"report_id": REPORT}], [read] * (ACKNOWLEDGED_MAX + 1)):
        async with client.post(path, json={"reports": wrong, "name": "Dr A"}, headers=CLINICIAN) as answer:
            assert answer.status == 400
    async with client.post(path, json={"reports": [read], "name": "Dr A"}, headers=ELSEWHERE) as answer:
        assert answer.status == 404
    assert desk.acts == []
    async with client.post(path, json={"reports": [read], "name": "Dr A"}, headers=CLINICIAN) as answer:
        assert await answer.json() == {
            "acknowledged": [],
            "left_out": [{"report_id": REPORT, "why": "it is coded as an alert"}],
        }
    assert desk.acts == [
        ("acknowledge_many", "clinician-of-RZ1", Acknowledgements((ReadVersion(REPORT, "v1"),), "Dr A"))
    ]


async def test_a_system_learns_which_version_its_proof_has_to_name(client: ClientSession) -> None:
    async with client.get("/api/release/named", params={"report_number": "F1"}, headers=SYSTEM) as answer:
        assert await answer.json() == {"report_id": REPORT, "version_id": "v1"}
    async with client.get(AT_REPORT, headers=SYSTEM) as answer:
        assert answer.status == 403


def test_gateways_and_services_may_call_nothing() -> None:
    for operation in OPERATIONS:
        assert not operation.who & {PrincipalKind.GATEWAY, PrincipalKind.SERVICE}, operation.name
