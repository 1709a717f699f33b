"""Every error has its status, no comment says more than it may, and every status of others means something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.status import GENERAL_STATUS, QR_FIND_SERVICE_CLASS_STATUS

import policy.rules
from dimse.status import ABSENT, FORMS, SHORT_REASONS, Ending, Refusal, Status, ending_of, peer_failure
from gateway.model import errors
from gateway.model.imaging import Source, SourceState
from policy.access import Decision, Effect, Reason, Telling
from policy.parties import TrustId

ELSEWHERE = TrustId("RJ1")


def family(error: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def denied(*tellings: Telling, code: str = "no-care-relationship", phone: str = "020 7946 0001") -> errors.Denied:
    reasons = tuple(
        Reason("a-rule", Effect.FORBID, code, "no care relationship is recorded", each) for each in tellings
    )
    return errors.Denied(Decision("d1", Effect.FORBID, reasons, "rules"), "ring somebody", phone)


def an(error: type[errors.GatewayError]) -> errors.GatewayError:
    if issubclass(error, errors.PeerError):
        return error(ELSEWHERE, "what went wrong")
    if issubclass(error, errors.Denied):
        return denied(Telling.CALLER)
    if issubclass(error, errors.ConfigurationError):
        return error(["what went wrong"])
    return error("what went wrong")


@pytest.mark.parametrize("error", sorted(set(family(errors.GatewayError)), key=repr))
def test_every_error_ends_a_question_in_a_form_of_its_own(error: type[errors.GatewayError]) -> None:
    assert error in FORMS
    ending = ending_of(an(error))
    assert ending.status == FORMS[error].status
    assert len(ending.comment) <= 64 and ending.comment.isascii()


# The errors table of the architecture, column C-FIND.
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest, 0xA900),
        (errors.QueryTooBroad, 0xA900),
        (errors.RequestTooLarge, 0xA900),
        (errors.Denied, 0x0124),
        (errors.RegisterUnavailable, 0xA700),
        (errors.NotFound, 0x0000),
        (errors.PeerUnavailable, 0xC000),
        (errors.PeerTimeout, 0xC000),
        (errors.PeerRefused, 0xC000),
        (errors.PeerProtocolError, 0xC000),
        (errors.OverCapacity, 0xA700),
        (errors.AuditUnavailable, 0xA700),
        (errors.StoreUnavailable, 0xA700),
        (errors.ServiceFault, 0xA700),
    ],
)
def test_statuses_are_those_of_the_table(error: type[errors.GatewayError], status: int) -> None:
    assert ending_of(an(error)).status == status


def test_a_bug_shows_nothing_of_itself() -> None:
    assert ending_of(KeyError("SMITH^JOHN")) == Ending(0xC001)


def test_a_malformed_identifier_is_refused_with_its_element_and_what_is_wrong() -> None:
    error = errors.InvalidRequest("a series is asked for without its study", offending=("0020000D",))
    assert ending_of(error) == Ending(0xA900, "a series is asked for without its study", ("0020000D",))


def test_too_broad_a_question_is_told_what_to_name() -> None:
    assert ending_of(errors.QueryTooBroad("a question across trusts " * 9)) == Ending(
        0xA900, "name one NHS number, study UID or whole accession number", ("00100020",)
    )


def test_what_is_the_same_for_everybody_is_told_as_a_fault() -> None:
    assert ending_of(errors.RegisterUnavailable("opt-outs")) == Ending(0xA700, "sharing not checked")
    assert ending_of(errors.AuditUnavailable("disk full")) == Ending(0xA700, "not recorded")


def test_a_told_denial_gives_its_reason_and_whom_to_ring() -> None:
    assert ending_of(denied(Telling.CALLER)) == Ending(0x0124, "no care relationship recorded; ring 020 7946 0001")
    assert ending_of(denied(Telling.CALLER, phone="")) == Ending(0x0124, "no care relationship recorded")


def test_of_several_reasons_the_widest_is_told() -> None:
    narrow = Reason("a-rule", Effect.FORBID, "no-care-relationship", "no care relationship", Telling.CALLER)
    wide = Reason("a-rule", Effect.FORBID, "recipient-not-enrolled", "not an enrolled trust", Telling.CALLER)
    error = errors.Denied(Decision("d1", Effect.FORBID, (narrow, wide), "rules"), "both", "020 7946 0001")
    assert ending_of(error).comment == "your organisation is not enrolled; ring 020 7946 0001"


def test_a_silent_caller_is_told_of_no_denial() -> None:
    assert ending_of(denied(Telling.CALLER), Refusal.SILENT) == ABSENT == Ending(0x0000)


@pytest.mark.parametrize("refusal", Refusal)
def test_a_denial_that_may_not_be_told_looks_like_absence(refusal: Refusal) -> None:
    assert ending_of(denied(Telling.NOBODY), refusal) == ending_of(denied(), refusal) == ABSENT


def test_every_reason_that_may_be_told_has_words_short_enough_for_a_phone_number() -> None:
    tree = ast.parse(Path(policy.rules.__file__).read_text(encoding="utf-8"))
    told = {
        call.args[1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "_told"
        if isinstance(call.args[1], ast.Constant)
    }
    # Those whose telling depends on the question are spelled out where they are made.
    told |= {"break-glass-without-grant", "nhs-number-of-other-mode", "no-care-relationship", "team-not-involved"}
    assert told == set(SHORT_REASONS) and all(
        len(words) <= 64 - len("; ring 020 7946 0000 ext 123") for words in SHORT_REASONS.values()
    )


def missing(code: str, phone: str) -> Source:
    return Source(TrustId(code), "Somewhere", SourceState.TIMED_OUT, phone)


def test_a_question_that_nobody_answered_names_whom_to_ring() -> None:
    desks = (missing("RJ1", "020 7946 0001"), missing("RYJ", "020 7946 0002"), missing("RZ9", "020 7946 0003"))
    assert ending_of(errors.PeerTimeout(ELSEWHERE, "no trust", desks)) == Ending(
        0xC000, "no answer: RJ1 020 7946 0001, RYJ 020 7946 0002 +1"
    )


# --- the statuses of others ---


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xA700, errors.PeerUnavailable),
        (0xA710, errors.PeerUnavailable),
        (0xA900, errors.PeerRefused),
        (0xC000, errors.PeerRefused),
        (0xC310, errors.PeerRefused),
        (0xCFFF, errors.PeerRefused),
        (0x0110, errors.PeerRefused),
        (0x0122, errors.PeerRefused),
        (0x0124, errors.PeerRefused),
        (0x0213, errors.PeerUnavailable),
        (0xFF02, errors.PeerProtocolError),
        (0xD000, errors.PeerProtocolError),
        (0x0001, errors.PeerProtocolError),
        (0xFFFF, errors.PeerProtocolError),
    ],
)
def test_an_archives_failure_status_is_an_error_of_its_trust(status: int, error: type[errors.PeerError]) -> None:
    failure = peer_failure(ELSEWHERE, status)
    assert type(failure) is error and failure.trust == ELSEWHERE
    assert f"{status:04X}" in str(failure)


def test_every_failure_that_the_standard_names_is_the_archives_own_word() -> None:
    table = {**GENERAL_STATUS, **QR_FIND_SERVICE_CLASS_STATUS}
    failures = [status for status, (kind, *_) in table.items() if kind == "Failure"]
    assert len(failures) > 20
    assert not [status for status in failures if isinstance(peer_failure(ELSEWHERE, status), errors.PeerProtocolError)]


def test_our_statuses_are_the_standards() -> None:
    table = {**GENERAL_STATUS, **QR_FIND_SERVICE_CLASS_STATUS}
    assert [status for status in Status if status not in table and status is not Status.INTERNAL] == []
    assert 0xC000 <= Status.INTERNAL <= 0xCFFF
