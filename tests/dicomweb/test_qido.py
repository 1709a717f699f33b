"""The search service over HTTP: what callers ask and get, whatever is behind the one door."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model.errors import (
    AuditUnavailable,
    Denied,
    GatewayError,
    OverCapacity,
    PeerProtocolError,
    PeerTimeout,
    QueryTooBroad,
    RegisterUnavailable,
)
from gateway.model.imaging import STUDY_UID, Level, SourceState
from gateway.model.settings import QidoEmpty
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import PurposeOfUse, TrustId
from tests.dicomweb.small_region import ANNE, Answer, Reception, Shelf, ask, element, instance, series, source, study

STUDY_PATH = "/studies/1.2.826.0.1.1"
SERIES_PATH = f"{STUDY_PATH}/series/1.2.826.0.1.1.1"
RESOURCES = {
    "/studies": Level.STUDY,
    f"{STUDY_PATH}/series": Level.SERIES,
    f"{SERIES_PATH}/instances": Level.IMAGE,
    f"{STUDY_PATH}/instances": Level.IMAGE,
    "/series": Level.SERIES,
    "/instances": Level.IMAGE,
}
EVERYTHING = [study(1), study(2), series(1), series(2), instance(1), instance(2)]


def uids(answer: Answer, tag: str = STUDY_UID) -> list[object]:
    return [row[tag]["Value"][0] for row in answer.rows]  # type: ignore[index]  # a list by the answer's contract


@pytest.mark.parametrize(("path", "level"), RESOURCES.items())
@pytest.mark.parametrize("prefix", ["", "/trust/RJ1"])
async def test_every_resource_answers_at_its_level_for_the_region_and_for_one_trust(
    path: str, level: Level, prefix: str
) -> None:
    shelf = Shelf(EVERYTHING)
    answer = await ask(shelf, prefix + path)
    assert answer.status == 200 and len(answer.rows) == 2
    assert shelf.asked.level is level
    assert shelf.asked.only_trust == (TrustId("RJ1") if prefix else None)
    named = {key.path[0]: key.values for key in shelf.asked.keys}
    assert (STUDY_UID in named) == path.startswith("/studies/")


@pytest.mark.parametrize("code", ["!", "R", "RJ1%3B", "..", "R" * 11])
async def test_below_what_is_no_ods_code_there_is_nothing(code: str) -> None:
    shelf = Shelf(EVERYTHING)
    assert (await ask(shelf, f"/trust/{code}/studies")).status == 404
    assert shelf.questions == []


async def test_only_matching_studies_are_answered() -> None:
    shelf = Shelf(EVERYTHING)
    assert uids(await ask(shelf, "/studies?AccessionNumber=ACC00002")) == ["1.2.826.0.1.2"]
    assert uids(await ask(shelf, f"/studies?PatientID={ANNE.digits}&StudyDate=20250103-")) == ["1.2.826.0.1.2"]
    assert uids(await ask(shelf, "/studies?PatientName=*anne*")) == ["1.2.826.0.1.1", "1.2.826.0.1.2"]


async def test_pages_follow_one_another_and_say_what_remains() -> None:
    shelf = Shelf([study(number) for number in range(5)], snapshot="page-token")
    first = await ask(shelf, "/studies?limit=2")
    assert len(first.rows) == 2 and first.headers["Gateway-Snapshot"] == "page-token"
    assert first.headers["Warning"].endswith(": There are 3 additional results that can be requested")
    last = await ask(shelf, "/studies?limit=2&offset=4", headers={"Gateway-Snapshot": "page-token"})
    assert len(last.rows) == 1 and "Warning" not in last.headers and shelf.questions[-1][2] == "page-token"
    beyond = await ask(shelf, "/studies?offset=99")
    assert (beyond.status, beyond.body) == (200, b"[]")


@pytest.mark.parametrize("token", ["a b", "x" * 129, "<x>", "é"])
async def test_a_snapshot_token_that_cannot_be_ours_is_refused(token: str) -> None:
    assert (await ask(Shelf(), "/studies", headers={"Gateway-Snapshot": token})).status == 400


async def test_no_matches_are_an_empty_array_or_no_content_as_the_region_chose() -> None:
    answer = await ask(Shelf(), "/studies")
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"[]", "application/dicom+json")
    none = await ask(Shelf(), "/studies", empty=QidoEmpty.NO_CONTENT)
    assert (none.status, none.body) == (204, b"") and "Gateway-Notice" in none.headers
    assert (await ask(Shelf(EVERYTHING), "/studies", empty=QidoEmpty.NO_CONTENT)).status == 200


@pytest.mark.parametrize(
    ("header", "status", "content_type"),
    [
        ("application/dicom+json", 200, "application/dicom+json"),
        ("application/json", 200, "application/json"),
        ("*/*", 200, "application/dicom+json"),
        ('multipart/related; type="application/dicom+xml"', 406, "application/problem+json"),
        ("image/png", 406, "application/problem+json"),
    ],
)
async def test_the_answer_has_an_accepted_media_type_or_is_refused(header: str, status: int, content_type: str) -> None:
    answer = await ask(Shelf(EVERYTHING), "/studies", headers={"Accept": header})
    assert (answer.status, answer.headers["Content-Type"]) == (status, content_type)


async def test_the_accept_parameter_overrides_the_header_and_is_no_matching_key() -> None:
    answer = await ask(Shelf(EVERYTHING), "/studies?accept=application/json", headers={"Accept": "image/png"})
    assert answer.headers["Content-Type"] == "application/json" and "Warning" not in answer.headers
    assert (await ask(Shelf(), "/studies?accept=image/png")).status == 406


async def test_what_could_not_be_done_is_said_beside_the_rows() -> None:
    shelf = Shelf(EVERYTHING, sources=[source(SourceState.TIMED_OUT)])
    answer = await ask(shelf, "/studies?fuzzymatching=true&Nonsense=1&StudyDescription=x")
    warnings = answer.headers.getall("Warning")
    assert len(answer.rows) == 2 and len(warnings) == 3
    assert "RJ1 St Elsewhere did not answer in time: ring 020 7946 0000" in warnings[0]
    # The archive's rows lack a description: it could not be matched, and that is said instead of no rows.
    assert warnings[1].endswith("ignored: Nonsense, StudyDescription")
    assert warnings[2].endswith("Only literal matching has been performed.")
    assert answer.headers["Gateway-Sources"] == 'RJ1;state=timed-out;phone="020 7946 0000"'


async def test_found_none_and_withheld_differ_in_nothing_but_the_rows() -> None:
    answers = [
        await ask(Shelf(rows, sources=[source(), source(SourceState.TIMED_OUT, code="RYJ")]), "/studies?PatientID=1")
        for rows in ([], [study(1)], [study(1, t00100020=element("LO", "1"))])
    ]
    shapes = {
        (answer.status, tuple((n, v) for n, v in answer.headers.items() if n not in ("Content-Length", "Date")))
        for answer in answers
    }
    assert len(shapes) == 1 and [len(answer.rows) for answer in answers] == [0, 0, 1]


async def test_the_purpose_stated_and_the_gateways_passed_reach_the_caller() -> None:
    shelf = Shelf()
    await ask(shelf, "/studies", headers={"Gateway-Purpose": "ETREAT", "Gateway-Hops": "1"})
    assert shelf.caller.purpose is PurposeOfUse.ETREAT and shelf.caller.hops == 1


@pytest.mark.parametrize("hops", ["-1", "one", "1.0", "999", ""])
async def test_hops_that_are_no_small_number_are_refused(hops: str) -> None:
    assert (await ask(Shelf(), "/studies", headers={"Gateway-Hops": hops})).status == 400


async def test_a_caller_is_identified_before_a_question_is_read() -> None:
    answer = await ask(Shelf(), "/studies?StudyDate=x", reception=Reception(knows_nobody=True))
    assert answer.status == 401


TOLD = Reason("relationship", Effect.FORBID, "no-relationship", "no care relationship is known", Telling.CALLER)


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (QueryTooBroad("name one patient"), 400, "name one patient"),
        (
            Denied(Decision("d", Effect.FORBID, (TOLD,), "r"), "ring 020"),
            403,
            "no care relationship is known: ring 020",
        ),
        (RegisterUnavailable("opt-outs"), 503, "sharing not checked"),
        (AuditUnavailable("disk"), 503, "not recorded"),
        (OverCapacity("too many questions are under way"), 503, "too many questions are under way"),
        (PeerTimeout(TrustId("RJ1"), "no answer within 5 s"), 504, "RJ1: no answer within 5 s"),
        (PeerProtocolError(TrustId("RJ1"), "not JSON"), 502, "RJ1: not JSON"),
    ],
)
async def test_a_refusal_or_fault_is_told_as_a_problem(error: GatewayError, status: int, detail: str) -> None:
    answer = await ask(Shelf(error=error), "/studies")
    assert (answer.status, answer.problem["detail"]) == (status, detail)
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    "path",
    [
        "/studies?PatientID=1%00",
        "/studies?StudyInstanceUID=abc",
        "/studies?PatientID=1&PatientID=2",
        "/studies?limit=-1",
        "/studies/1.2.x/series",
        "/studies/1.2/series/y/instances",
        f"/studies/{'1' * 65}/series",
        "/studies?StudyDate=%C3%28",
    ],
)
async def test_a_question_that_cannot_be_meant_is_refused(path: str) -> None:
    shelf = Shelf()
    assert (await ask(shelf, path)).status == 400
    assert shelf.questions == []


async def test_too_long_a_question_is_refused_as_too_long() -> None:
    assert (await ask(Shelf(), "/studies?" + "&".join(f"x{n}=1" for n in range(1_000)))).status == 413


@given(
    path=st.text(alphabet="abc019./%-_~:@!$'()*,;=\\{}", max_size=30),
    query=st.text(alphabet="PatientID=1&%0FfC3*?\\,.+;/[]", max_size=60),
    header=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
async def test_no_request_makes_the_gateway_fail(path: str, query: str, header: str) -> None:
    headers = {"Accept": header, "Gateway-Snapshot": header, "Gateway-Hops": header, "Gateway-Correlation": header}
    for target in (f"/studies?{query}", f"/studies/{path}/series?{query}", f"/trust/{path}/instances?{query}"):
        answer = await ask(Shelf(EVERYTHING), target, headers=headers)
        assert answer.status in (200, 400, 404, 406, 413)
