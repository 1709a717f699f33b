"""What stops a report, as feeds send it: with the time of the text that it stops, and still it stops it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from gateway.feeds.fhir.reading import read_message
from gateway.feeds.profile import Feed, Place, Profile
from gateway.model.reporting.incoming import IncomingReport
from gateway.release.naming import version_of
from policy.release.lifecycle import fold
from policy.release.reports import Standing
from tests.feeds.messages import FEED, HEADER, feed, line, message, only, result
from tests.feeds.test_fhir import report

FIRST = "20260601090000+0100"
BY_LINE = feed(Profile(verification_from=Place.parse("OBX-14")))


def stands(told: Iterable[IncomingReport]) -> Standing:
    """The same in whatever order they come."""
    (found,) = {
        fold([version_of(each, each.subject.key, b"") for each in some], timedelta(days=30)).standing
        for some in permutations(told)
    }
    return found


def sent(
    day: int, status: str, line_status: str, at: str = FIRST, *, by: str = "", of: Feed = FEED, hour: int = 10
) -> IncomingReport:
    header = HEADER.replace("20260601091600", f"202606{day:02}{hour:02}0000+0100")
    text = line("Normal." if status != "C" else "A fracture.", line_status)
    return only(message(result(status=status, at=at), text + (f"|||{by}" if by else ""), header=header), of)


def test_a_withdrawal_with_the_first_verification_time_stops_the_correction() -> None:
    told = [sent(1, "F", "F"), sent(6, "C", "C", "20260606090000+0100"), sent(7, "F", "W")]
    assert stands(told[:2]) is Standing.VERIFIED
    assert stands(told) is Standing.WITHDRAWN


@pytest.mark.parametrize(
    ("status", "line_status", "standing"),
    [
        ("M", "P", Standing.BEING_CORRECTED),
        ("P", "P", Standing.BEING_CORRECTED),
        ("F", "W", Standing.WITHDRAWN),
        ("X", "X", Standing.CANCELLED),
    ],
)
@pytest.mark.parametrize(("of", "by"), [(FEED, ""), (BY_LINE, "20260601093000+0100")])
def test_what_keeps_the_time_of_the_text_that_it_stops_stops_it(
    status: str, line_status: str, standing: Standing, of: Feed, by: str
) -> None:
    told = [sent(1, "F", "F", by=by, of=of), sent(2, status, line_status, by=by, of=of)]
    assert stands(told) is standing


@pytest.mark.parametrize(
    ("status", "standing"),
    [("preliminary", Standing.BEING_CORRECTED), ("entered-in-error", Standing.WITHDRAWN)],
)
def test_a_server_that_keeps_the_time_of_issue_stops_its_report(status: str, standing: Standing) -> None:
    told = [resource(1, "final", 1), resource(3, "corrected", 3), resource(4, status, 1)]
    assert stands(told[:2]) is Standing.VERIFIED
    assert stands(told) is standing


def resource(day: int, status: str, issued: int) -> IncomingReport:
    meta = {"versionId": str(day), "lastUpdated": f"2026-06-{day:02}T11:00:00Z"}
    raw = json.dumps(report(status=status, meta=meta, issued=f"2026-06-{issued:02}T09:15:00+01:00", conclusion=status))
    received, _ = read_message(raw.encode(), FEED, datetime.fromisoformat("2026-06-01T12:00:00Z"))
    (found,) = received.reports
    return found


@pytest.mark.parametrize("at", ["20260601143000+0100", "20260601"])
@pytest.mark.parametrize(
    ("status", "line_status", "standing"),
    [("P", "P", Standing.BEING_CORRECTED), ("F", "W", Standing.WITHDRAWN)],
)
def test_what_stops_a_text_on_the_day_of_its_verification_stops_it_where_no_time_is_known(
    status: str, line_status: str, standing: Standing, at: str
) -> None:
    verified, again = sent(1, "F", "F", "20260601"), sent(1, "F", "F", "20260601", hour=18)
    assert verified.verification is not None
    assert verified.verification.at == datetime.fromisoformat("2026-06-01T23:59:59+01:00")
    stopped = sent(1, status, line_status, at, hour=15)
    assert stands([verified, stopped]) is standing
    assert stands([verified, stopped, again]) is standing
    assert stands([sent(1, "P", "P", "20260601", hour=9), verified]) is Standing.VERIFIED


def test_of_a_date_alone_what_vouches_is_told_first_where_the_message_says_no_time_either() -> None:
    header = HEADER.replace("20260601091600", "")
    verified = only(message(result(at="20260601"), line("Normal."), header=header))
    stopped = only(message(result(status="M", at="20260601"), line("Normal.", "P"), header=header))
    assert stands([verified, stopped]) is Standing.BEING_CORRECTED


def corrected(day: int, text: str, at: str = FIRST) -> IncomingReport:
    header = HEADER.replace("20260601091600", f"202606{day:02}100000+0100")
    return only(message(result(status="C", at=at), line(text, "C"), header=header))


def corrected_resource(day: int, text: str, issued: int) -> IncomingReport:
    meta = {"versionId": str(day), "lastUpdated": f"2026-06-{day:02}T11:00:00Z"}
    stated = f"2026-06-{issued:02}T09:15:00+01:00"
    raw = json.dumps(report(status="corrected", meta=meta, issued=stated, conclusion=text))
    received, _ = read_message(raw.encode(), FEED, datetime.fromisoformat("2026-06-01T12:00:00Z"))
    (found,) = received.reports
    return found


def text_that_stands(told: Iterable[IncomingReport]) -> str:
    """The same in whatever order they come."""
    found = set()
    for some in permutations(told):
        versions = {version_of(each, each.subject.key, b""): each.content.text for each in some}
        content = fold(list(versions), timedelta(days=30)).content_of
        found |= {text for version, text in versions.items() if version.version_id == content}
    (text,) = found
    return text


@pytest.mark.parametrize("first_correction_at", [FIRST, "20260603090000+0100"])
def test_of_two_corrections_that_keep_the_first_verification_time_the_later_stands(first_correction_at: str) -> None:
    told = [sent(1, "F", "F"), corrected(3, "Left.", first_correction_at), corrected(5, "Right.")]
    assert text_that_stands(told[:2]) == "Left."
    assert text_that_stands(told) == "Right."
    assert text_that_stands([*told, corrected(6, "Left.", first_correction_at)]) == "Right.", "sent once more"


@pytest.mark.parametrize("issued", [1, 3])
def test_of_two_corrections_that_keep_the_time_of_issue_the_later_stands(issued: int) -> None:
    told = [resource(1, "final", 1), corrected_resource(3, "Left.", issued), corrected_resource(5, "Right.", 1)]
    assert text_that_stands(told).endswith("Right.")
