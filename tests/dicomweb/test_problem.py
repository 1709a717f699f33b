"""Every error has its form, and no form says more than it may."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from dicomweb.problem import FORMS, Problem, http_problem, problem_of
from gateway.model import errors
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import TrustId

ST_ELSEWHERE = TrustId("RJ1")


def family(error: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def denied(telling: Telling, advice: str = "") -> errors.Denied:
    reason = Reason("a-rule", Effect.FORBID, "code", "no care relationship is known", telling)
    return errors.Denied(Decision("d1", Effect.FORBID, (reason,), "rules"), advice)


def body(problem: Problem) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(problem.body)
    return found


def an(error: type[errors.GatewayError]) -> errors.GatewayError:
    if issubclass(error, errors.PeerError):
        return error(ST_ELSEWHERE, "what went wrong")
    if issubclass(error, errors.Denied):
        return denied(Telling.CALLER)
    if issubclass(error, errors.ConfigurationError):
        return error(["what went wrong"])
    return error("what went wrong")


@pytest.mark.parametrize("error", sorted(set(family(errors.GatewayError)), key=repr))
def test_every_error_is_a_problem_of_its_own_form(error: type[errors.GatewayError]) -> None:
    assert error in FORMS
    problem = problem_of(an(error), "request-1")
    told = body(problem)
    assert told["status"] == problem.status == FORMS[error].status
    assert told["requestId"] == "request-1" and told["title"] and str(told["type"]).startswith("urn:")


# The errors table of the architecture, column HTTP.
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest, 400),
        (errors.QueryTooBroad, 400),
        (errors.NotAcceptable, 406),
        (errors.RequestTooLarge, 413),
        (errors.NotIdentified, 401),
        (errors.Denied, 403),
        (errors.NotFound, 404),
        (errors.RegisterUnavailable, 503),
        (errors.AuditUnavailable, 503),
        (errors.StoreUnavailable, 503),
        (errors.OverCapacity, 503),
        (errors.PeerUnavailable, 504),
        (errors.PeerTimeout, 504),
        (errors.PeerRefused, 502),
        (errors.PeerProtocolError, 502),
    ],
)
def test_statuses_are_those_of_the_table(error: type[errors.GatewayError], status: int) -> None:
    assert problem_of(an(error), "r").status == status


def test_an_unreadable_register_says_that_sharing_was_not_checked() -> None:
    problem = problem_of(errors.RegisterUnavailable("opt-outs"), "r")
    assert body(problem)["detail"] == "sharing not checked" and ("Retry-After", "30") in problem.headers


def test_a_full_audit_says_that_nothing_is_recorded() -> None:
    problem = problem_of(errors.AuditUnavailable("no space left on /var/audit"), "r")
    assert body(problem)["detail"] == "not recorded" and ("Retry-After", "30") in problem.headers


def test_a_told_denial_tells_its_reason_and_what_may_help() -> None:
    problem = problem_of(denied(Telling.CALLER, "ring 020 7946 0000"), "r")
    assert problem.status == 403
    assert body(problem)["detail"] == "no care relationship is known: ring 020 7946 0000"


@pytest.mark.parametrize("telling", [Telling.NOBODY, Telling.COVERAGE])
def test_a_denial_that_may_not_be_told_looks_like_nothing_there(telling: Telling) -> None:
    hidden = problem_of(denied(telling, "ring 020 7946 0000"), "r")
    absent = problem_of(errors.NotFound(""), "r")
    assert (hidden.status, hidden.body, hidden.headers) == (absent.status, absent.body, absent.headers)


def test_a_bug_shows_nothing_of_itself() -> None:
    problem = problem_of(ValueError("PatientID 9990000018 in /srv/gateway/broker.py"), "r")
    assert problem.status == 500
    assert body(problem).keys() == {"type", "title", "status", "requestId"}


@pytest.mark.parametrize(
    "error", [errors.GatewayError, errors.ServiceFault, errors.StoreUnavailable, errors.NotIdentified]
)
def test_faults_of_ours_and_failed_identification_show_no_words_of_their_own(error: type[errors.GatewayError]) -> None:
    assert "detail" not in body(problem_of(error("certificate unknown at 10.0.0.1"), "r"))


def test_a_failed_trust_is_named() -> None:
    assert body(problem_of(errors.PeerTimeout(ST_ELSEWHERE, "no answer within 5 s"), "r"))["detail"] == (
        "RJ1: no answer within 5 s"
    )


def test_a_subclass_nobody_thought_of_takes_the_form_of_its_parent() -> None:
    class QueryTooOdd(errors.QueryTooBroad):
        pass

    assert problem_of(QueryTooOdd("x"), "r").status == 400


def test_a_plain_refusal_of_http_has_the_same_form() -> None:
    told = body(http_problem(405, "", "r"))
    assert told == {
        "type": "urn:image-sharing-gateway:problem:method-not-allowed",
        "title": "Method Not Allowed",
        "status": 405,
        "requestId": "r",
    }
