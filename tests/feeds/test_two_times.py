"""Which text stands where the time of a result and that of its sending tell two orders, or none to be believed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from gateway.feeds.fhir.reading import read_message
from gateway.model.reporting.incoming import IncomingReport
from gateway.release.naming import version_of
from policy.release.lifecycle import fold
from policy.release.reports import Lifecycle, Problem, Standing
from tests.feeds.messages import FEED, HEADER, line, message, only, result
from tests.feeds.test_fhir import report

TOLERANCE = timedelta(minutes=5)


def told(
    text: str, status: str, at: str, sent: str, *, line_status: str = "", received: datetime | None = None
) -> IncomingReport:
    """A report by HL7: OBR-22 and MSH-7 as they stand there, received a minute after the later unless told."""
    header = HEADER.replace("20260601091600", sent)
    found = only(message(result(status=status, at=at), line(text, line_status or status), header=header))
    times = [found.stated_at, found.sent_at or found.stated_at]
    return replace(found, received_at=received or max(times) + timedelta(minutes=1))


def folded(reports: Iterable[IncomingReport]) -> tuple[Lifecycle, str]:
    """What stands and its text, the same in whatever order they come."""
    found = {}
    for some in permutations(reports):
        versions = {version_of(each, each.subject.key, b""): each.content.text for each in some}
        life = fold(list(versions), TOLERANCE)
        texts = {version.version_id: text for version, text in versions.items()}
        found[repr(life)] = life, texts.get(life.content_of, "")
    (only_one,) = found.values()
    return only_one


DRAFTS = {
    "no seconds in the result": (("202606010915", "20260601091510"), ("202606010915", "20260601091545")),
    "no seconds at all": (("202606010915", "202606010915"), ("202606010915", "202606010915")),
    "a queue sends late": (("20260601091000", "20260601092000"), ("20260601091500", "20260601092005")),
    "both leave together": (("20260601091450", "20260601091502"), ("20260601091500", "20260601091503")),
}


@pytest.mark.parametrize(("draft", "final"), DRAFTS.values(), ids=DRAFTS)
@pytest.mark.parametrize("status", ["P", "R", "A"])
def test_no_draft_takes_back_what_it_became(draft: tuple[str, str], final: tuple[str, str], status: str) -> None:
    life, text = folded([told("Tumour?", status, *draft), told("Tumour.", "F", *final)])
    assert (life.standing, text) == (Standing.VERIFIED, "Tumour.")


@pytest.mark.parametrize(("first", "then"), DRAFTS.values(), ids=DRAFTS)
@pytest.mark.parametrize(("status", "line_status"), [("M", "C"), ("X", "X"), ("C", "W")])
def test_whatever_stops_a_text_in_its_minute_stops_it(
    first: tuple[str, str], then: tuple[str, str], status: str, line_status: str
) -> None:
    life, _ = folded([told("Tumour.", "F", *first), told("", status, *then, line_status=line_status)])
    assert life.current is None


def test_no_resource_takes_back_the_text_that_it_became() -> None:
    found = [resource("preliminary", "08:14:50", "08:15:02"), resource("final", "08:15:00", "08:15:03")]
    assert folded(found)[0].standing is Standing.VERIFIED
    again = resource("preliminary", "08:15:00", "09:00:00")
    assert folded([*found, again])[0].standing is Standing.BEING_CORRECTED


def resource(status: str, issued: str, changed: str) -> IncomingReport:
    meta = {"versionId": f"{status}-{changed[:2]}", "lastUpdated": f"2026-06-01T{changed}Z"}
    raw = json.dumps(report(status=status, meta=meta, issued=f"2026-06-01T{issued}Z", conclusion="Tumour."))
    received, _ = read_message(raw.encode(), FEED, datetime.fromisoformat("2026-06-01T12:00:00Z"))
    (found,) = received.reports
    return found


@pytest.mark.parametrize("status", ["C", "M"])
def test_what_a_queue_sent_late_does_not_come_after_a_text_that_was_verified_and_sent_later(status: str) -> None:
    first = told("One.", "F", "20260601091500", "20260601091600")
    queued = told("Two.", status, "20260602100000", "20260602110000", line_status="C")
    life, text = folded([first, queued, told("Three.", "F", "20260602103000", "20260602110005")])
    assert (life.standing, text) == (Standing.VERIFIED, "Three.")


@pytest.mark.parametrize("corrected", ["20260601091510", "20260601091550"])
def test_of_a_text_and_a_correction_in_one_minute_what_was_sent_later_stands(corrected: str) -> None:
    found = [told("One.", "F", "202606010915", "20260601091530"), told("Two.", "C", "202606010915", corrected)]
    assert folded(found)[1] == ("One." if corrected < "20260601091530" else "Two.")


@pytest.mark.parametrize(("status", "line_status"), [("P", "P"), ("M", "C"), ("X", "X"), ("F", "W")])
def test_a_stop_that_is_sent_once_more_stops_nothing_that_was_verified_since(status: str, line_status: str) -> None:
    first = told("One.", "F", "20260601091500", "20260601091600")
    stop = told("Two.", status, "20260602100000", "20260602100001", line_status=line_status)
    later = told("Three.", "F", "20260603100000", "20260603100001")
    again = told("Two.", status, "20260602100000", "20260604120000", line_status=line_status)
    assert folded([first, stop, later, again])[1] == "Three."


@pytest.mark.parametrize(("status", "line_status"), [("M", "C"), ("X", "X"), ("F", "W")])
def test_a_second_stop_with_the_time_of_the_first_text_stops_the_correction(status: str, line_status: str) -> None:
    at = "20260601091500"
    texts = [told("One.", "F", at, "20260601091600"), told("Two.", "C", at, "20260603100000")]
    stops = [told("", status, at, f"202606{day}100000", line_status=line_status) for day in ("02", "04")]
    assert folded([*texts, stops[0]])[1] == "Two."
    assert folded([*texts, *stops])[0].current is None


FUTURE = "20270601091500"
ON_TIME = datetime.fromisoformat("2026-06-01T09:16:00+01:00")


@pytest.mark.parametrize(
    ("status", "line_status", "standing", "text"),
    [
        ("C", "W", Standing.WITHDRAWN, ""),
        ("X", "X", Standing.CANCELLED, ""),
        ("P", "P", Standing.BEING_CORRECTED, ""),
        ("C", "C", Standing.VERIFIED, "Cancer."),
        ("F", "F", Standing.VERIFIED, "Cancer."),
    ],
)
@pytest.mark.parametrize("sent", ["20260601091530", FUTURE])
def test_a_text_of_the_future_yields_to_what_comes_after_it(
    status: str, line_status: str, standing: Standing, text: str, sent: str
) -> None:
    ahead = told("No cancer.", "F", FUTURE, sent, received=ON_TIME)
    assert folded([ahead])[0].problems == {Problem.VERIFICATION_TIME_INVALID}
    then = told("Cancer.", status, "20260602091500", "20260602091500", line_status=line_status)
    life, found = folded([ahead, then])
    assert (life.standing, found) == (standing, text)


@pytest.mark.parametrize("status", ["P", "M"])
def test_a_draft_of_the_future_does_not_outlive_the_text_that_follows(status: str) -> None:
    first = told("One.", "F", "20260531091500", "20260531091600")
    ahead = told("Two?", status, FUTURE, "20260601091530", line_status="C", received=ON_TIME)
    then = told("Two.", "C", "20260602091500", "20260602091500")
    life, _ = folded([first, ahead])
    assert life.stopped_at is not None and life.stopped_at <= ON_TIME
    assert folded([first, ahead, then])[1] == "Two."


def autumn(wall: str, utc: str, text: str, status: str, line_status: str = "") -> IncomingReport:
    """A message without zones on the day on which London's clocks go back."""
    at = f"20261025{wall}00"
    received = datetime.fromisoformat(f"2026-10-25T{utc}:05Z")
    return told(text, status, at, at, line_status=line_status, received=received)


def test_a_text_of_the_first_of_two_hours_is_not_of_the_future_and_is_given_the_later_clock() -> None:
    life, _ = folded([autumn("0150", "00:50", "One.", "F")])
    assert life.problems == frozenset()
    assert life.clock_started_at == datetime.fromisoformat("2026-10-25T01:50:00Z")


def test_what_stops_a_text_in_the_second_of_two_hours_stops_it() -> None:
    first = autumn("0150", "00:50", "One.", "F")
    for status, line_status in (("C", "W"), ("X", "X")):
        assert folded([first, autumn("0105", "01:05", "", status, line_status)])[0].current is None


def test_two_texts_of_the_two_hours_are_for_a_person_to_judge() -> None:
    life, _ = folded([autumn("0150", "00:50", "One.", "F"), autumn("0105", "01:05", "Two.", "C")])
    assert life.problems == {Problem.VERIFICATION_TIME_INVALID}


def test_no_draft_of_the_first_of_two_hours_takes_back_the_text_that_it_became() -> None:
    found = [autumn("0105", "00:05", "One?", "P"), autumn("0150", "00:50", "One.", "F")]
    assert folded(found)[0].standing is Standing.VERIFIED
