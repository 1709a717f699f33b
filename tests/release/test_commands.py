"""`gateway release` and `gateway reports`: what they say of reports, what they change, and what of it is audited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from gateway.config.reading import read
from gateway.config.release.terms import calendar_of, terms_of
from gateway.keeping.keys import open_keyring
from gateway.model.reporting.incoming import Content, IncomingReport
from gateway.model.reporting.seams import FeedMessage
from gateway.node import SystemClock, new_id, open_store
from gateway.release.intake import Intake
from gateway.release.naming import report_id_of
from gateway.release.planner import Planner, Rules
from gateway.release.referrers.referring import Referring
from policy.release.reports import Said, Verification
from tests.feeds.messages import line, result
from tests.feeds.messages import message as oru
from tests.gateway.commands import CONFIGURATION, Commands
from tests.gateway.commands import gateway as gateway  # the fixture
from tests.release.incoming import NORTH, TEXT, incoming, message

LIVE = '[release]\ngo_live_at = 2025-01-01T00:00:00Z\nchannels = ["portal"]\n'
NOW = datetime.now(UTC).replace(microsecond=0)
YESTERDAY = NOW - timedelta(days=1)
REPORT = "RZ1:R-1"
REPORT_ID = report_id_of(NORTH, "R-1")
File = Callable[..., None]


@pytest.fixture
def brought(gateway: Commands) -> File:
    """A feed that brings messages into the store of the commands."""
    gateway.path.write_text(CONFIGURATION.replace("[[trust]]", f"{LIVE}[[trust]]", 1))
    gateway.do("release", "list")  # brings the database to its schema

    async def take(messages: tuple[FeedMessage, ...]) -> None:
        configuration = read(gateway.path).configuration
        assert configuration is not None
        clock = SystemClock()
        plain = Rules(partial(terms_of, configuration), calendar_of(configuration), clock.now)
        referring = Referring(lambda: plain)
        rules = replace(plain, referred=referring.referred, noted=referring.noted)
        async with (
            open_store(configuration, clock, node="feeds") as store,
            open_keyring(configuration, clock, node="feeds") as keys,
        ):
            planner = Planner(lambda: rules)
            intake = Intake(store, keys, planner.filed, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread)
            for each in messages:
                await intake.take(each)

    def bring(*messages: FeedMessage) -> None:
        asyncio.run(take(messages))

    return bring


def standing(gateway: Commands, report: str = REPORT) -> tuple[str, str]:
    """The option that names the text which was verified last."""
    return "--version", str(gateway.json("release", "explain", report)["report"]["version_id"])


def verified(at: datetime = YESTERDAY, **otherwise: object) -> IncomingReport:
    return incoming(stated_at=at, received_at=at, verification=Verification(at, "Dr A Roentgen"), **otherwise)


def test_a_list_that_is_cut_says_so(gateway: Commands, brought: File) -> None:
    unordered = partial(verified, accessions=(), placer_numbers=(), study_uids=())
    brought(*(message(unordered(report_number=f"R-{n}"), name=f"m-{n}") for n in range(3)))
    for asked in (("release", "list"), ("release", "due", "--days", "60"), ("reports", "unmatched")):
        assert len(gateway.json(*asked, "--limit", "2")) == 2
        assert "these are the first 2: there are more" in gateway.errors, asked
        assert len(gateway.json(*asked, "--limit", "3")) == 3
        assert "there are more" not in gateway.errors, asked


def test_a_report_under_embargo_is_explained_with_its_rules(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    told = gateway.json("release", "explain", REPORT)
    assert told["report"]["report_id"] == REPORT_ID
    assert told["report"]["state"] == "embargoed"
    due = datetime.fromisoformat(told["will_be_released_at"])
    assert due >= YESTERDAY + timedelta(days=28)
    assert told["reasons"]
    assert all(each["rule"] and each["words"] for each in told["reasons"])
    printed = gateway.do("release", "explain", REPORT_ID)
    assert "embargoed" in printed
    assert told["reasons"][0]["words"] in printed


def test_what_is_due_within_days_is_listed_and_nothing_else(gateway: Commands, brought: File) -> None:
    brought(
        message(verified(NOW - timedelta(days=25)), name="m1"),
        message(verified(report_number="R-2"), name="m2"),
    )
    assert [each["report_number"] for each in gateway.json("release", "due", "--days", "7")] == ["R-1"]
    assert [each["report_number"] for each in gateway.json("release", "due", "--days", "40")] == ["R-1", "R-2"]
    assert gateway.json("release", "due", "--days", "40", "--trust", "RZ2") == []
    assert "R-2" not in gateway.do("release", "due")


def test_a_hold_keeps_it_until_it_is_ended_and_both_stand_in_the_audit(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    week = (NOW + timedelta(days=7)).date().isoformat()
    held = gateway.do(
        *("release", "hold", REPORT, "--kind", "legal", "--review-on", week, "--reason", "court order"),
        *("--by", "Dr C Carter"),
    )
    assert held.startswith(f"{REPORT_ID}: held")
    (hold,) = gateway.json("release", "explain", REPORT)["holds"]
    assert (hold["kind"], hold["by"], hold["reason"], hold["review_on"]) == (
        "legal",
        "Dr C Carter",
        "court order",
        week,
    )
    assert [each["report_id"] for each in gateway.json("release", "list", "--state", "held")] == [REPORT_ID]
    assert gateway.json("release", "board")["held"] == 1
    gateway.do("release", "end-hold", hold["hold_id"], "--reason", "lifted", "--by", "Dr C Carter")
    assert gateway.json("release", "list", "--state", "held") == []
    acts = [said["body"] for said in gateway.audit() if said["event"] == "release-change"]
    assert [(body["act"], body["by"], body["reason"]) for body in acts if body["act"] != "plan"] == [
        ("hold", "Dr C Carter (clinician)", "court order"),
        ("end-hold", "Dr C Carter (clinician)", "lifted"),
    ]


def test_serious_harm_is_for_the_responsible_clinician(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    week = (NOW + timedelta(days=7)).date().isoformat()
    command = ("release", "hold", REPORT, "--kind", "serious-harm", "--review-on", week, "--reason", "r", "--by", "A")
    assert "is not for" in gateway.refused(*command)
    assert "is not for" in gateway.refused(*command, "--as", "staff")
    gateway.do(*command, "--as", "responsible-clinician")


def test_anybody_on_the_staff_stops_a_report_of_the_wrong_patient(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    week = (NOW + timedelta(days=7)).date().isoformat()
    gateway.do(
        *("release", "hold", REPORT, "--kind", "wrong-patient", "--review-on", week, "--reason", "r"),
        *("--by", "J Doe", "--as", "staff"),
    )
    assert gateway.json("release", "explain", REPORT)["report"]["state"] == "held"


def test_an_early_release_is_due_at_once_and_names_the_version_that_stands(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    early = ("release", "early", REPORT, "--reason", "asked for it", "--by", "Dr C Carter")
    assert "clinician" in gateway.refused(*early, *standing(gateway), "--as", "staff")
    assert gateway.status(*early)[0] != 0, "nobody lets a text go without saying which"
    assert "does not stand" in gateway.refused(*early, "--version", "another")
    gateway.do(*early, *standing(gateway))
    told = gateway.json("release", "explain", REPORT)
    assert told["report"]["state"] == "due"
    (body,) = [said["body"] for said in gateway.audit() if said["body"].get("act") == "release-early"]
    assert body["version"] == told["versions"][0]["version_id"]


def test_what_was_never_released_is_not_retracted(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    assert "never released" in gateway.refused(
        "release", "retract", REPORT, *standing(gateway), "--reason", "r", "--by", "A"
    )


def test_a_stopped_trust_shows_on_the_board_until_it_is_restarted(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    stop = ("release", "stop", "--trust", "RZ1", "--review-at", tomorrow, "--reason", "RIS upgrade", "--by", "R Lead")
    assert gateway.do(*stop) == "RZ1: stopped\n"
    assert "already" in gateway.do(*stop)
    assert gateway.json("release", "board", "--trust", "RZ1")["is_stopped"] is True
    assert gateway.json("release", "board", "--trust", "RZ2")["is_stopped"] is False
    assert gateway.do("release", "restart", "--trust", "RZ1", "--reason", "done", "--by", "R Lead") == "RZ1: goes on\n"
    assert gateway.json("release", "board")["is_stopped"] is False


def test_reports_from_before_go_live_go_only_as_many_as_the_preview_said(gateway: Commands, brought: File) -> None:
    old = datetime(2024, 11, 1, 10, tzinfo=UTC)
    brought(message(verified(old), name="m1"), message(verified(old, report_number="R-2"), name="m2"))
    assert {each["state"] for each in gateway.json("release", "list")} == {"not-for-release"}
    span = ("--from", "2024-01-01", "--until", "2025-01-01", "--reason", "agreed", "--by", "R Lead")
    approve = ("release", "approve-retrospective", "--trust", "RZ1", *span)
    assert "2 reports would go" in gateway.do(*approve)
    assert "2 reports would go, not 3" in gateway.refused(*approve, "--reports", "3")
    assert gateway.do(*approve, "--reports", "2") == "RZ1: 2 reports may go\n"


def test_the_board_counts_what_waits_and_says_so_in_both_forms(gateway: Commands, brought: File) -> None:
    brought(
        message(verified(), name="m1"),
        message(verified(report_number="R-2", said=Said.PRELIMINARY), name="m2"),
        message(problem="no report number", name="m3"),
    )
    board = gateway.json("release", "board")
    assert (board["waiting"], board["held"], board["due"], board["dead_letters"]) == (1, 0, 0, 1)
    assert board["medians"] == {"due_to_released_s": None, "verified_to_acknowledged_s": None}
    assert "under embargo" in gateway.do("release", "board")
    (letter,) = gateway.json("reports", "dead-letters")
    assert letter["problem"] == "no report number"


def test_what_a_report_says_is_shown_once_it_is_recorded_who_reads_it(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    assert "why it is read" in gateway.refused("reports", "show", REPORT, "--by", "A", "--reason", " ")
    shown = gateway.do("reports", "show", REPORT, "--by", "R Lead", "--reason", "complaint 7")
    version = standing(gateway)[1]
    assert shown == f"version {version}: stands\n\n{TEXT}\n"
    (body,) = [said["body"] for said in gateway.audit() if said["event"] == "report-read"]
    assert (body["by"], body["reason"], body["report"]) == ("R Lead", "complaint 7", REPORT_ID)
    for printed in (gateway.do("release", "explain", REPORT), gateway.do("release", "list"), str(gateway.audit())):
        assert "lungs" not in printed
        assert "O'Shea" not in printed
        assert "9990000018" not in printed


def test_a_report_without_a_study_is_linked_by_a_person(gateway: Commands, brought: File) -> None:
    brought(message(verified(accessions=())))
    assert [each["report_id"] for each in gateway.json("reports", "unmatched")] == [REPORT_ID]
    link = (REPORT, "--study", "1.2.3", "--reason", "seen in the RIS", "--by", "R Lead")
    assert gateway.do("reports", "link", *link) == f"{REPORT_ID}: linked\n"
    assert gateway.json("reports", "unmatched") == []
    assert gateway.json("release", "explain", REPORT)["study_uids"] == ["1.2.3"]
    assert gateway.do("reports", "unlink", *link) == f"{REPORT_ID}: unlinked\n"
    assert gateway.do("reports", "unlink", *link) == f"{REPORT_ID}: is not linked to it\n"
    assert [each["report_id"] for each in gateway.json("reports", "unmatched")] == [REPORT_ID]
    acts = [said["body"]["act"] for said in gateway.audit() if said["body"].get("study") == "1.2.3"]
    assert acts == ["link", "unlink"]


def test_a_script_in_a_report_is_printed_as_it_stands_and_moves_no_cursor(gateway: Commands, brought: File) -> None:
    brought(message(verified(content=Content("<script>alert(1)</script>\x1b[2J"))))
    shown = gateway.do("reports", "show", REPORT, "--by", "A", "--reason", "r")
    assert shown.endswith("\n\n<script>alert(1)</script>\\x1b[2J\n")


@pytest.mark.parametrize("name", ["RZ1:R-9", "nothing", "RZ2:R-1"])
def test_a_report_that_is_not_there_is_said_so(gateway: Commands, brought: File, name: str) -> None:
    brought(message(verified()))
    assert "no such report" in gateway.refused("release", "explain", name)


RIS = '[[report_feed]]\nname = "north-ris"\ntrust = "RZ1"\nloopback_only = true\n[report_feed.profile]\n'
AT = f"{YESTERDAY:%Y%m%d%H%M%S}+0000"


def dead(raw: bytes, name: str = "m9") -> FeedMessage:
    """A message that could not be read when it came."""
    return message(problem="the character set is not known", name=name, raw=raw, received_at=NOW)


def test_a_dead_letter_is_read_by_a_person_and_filed_anew_by_what_its_feed_says_now(
    gateway: Commands, brought: File
) -> None:
    gateway.path.write_text(gateway.path.read_text() + RIS)
    brought(dead(oru(result(at=AT), line("No fracture."))))
    (letter,) = gateway.json("reports", "dead-letters", "--trust", "RZ1")
    named = (letter["message"], "--by", "R Lead", "--reason", "call 12")
    assert "reason" in gateway.refused("reports", "letter", letter["message"], "--by", "A", "--reason", " ")
    assert "No fracture." in gateway.do("reports", "letter", *named)
    assert gateway.do("reports", "replay", *named).startswith(f"{letter['message']}: replayed")
    assert gateway.json("reports", "dead-letters") == []
    assert gateway.json("release", "explain", "RZ1:A1")["report"]["state"] == "embargoed"
    events = [(said["event"], said["body"]["act"]) for said in gateway.audit() if said["body"].get("by") == "R Lead"]
    assert ("audit-read", "show-message") in events
    assert "letter" in gateway.refused("reports", "replay", *named)


def test_a_dead_letter_is_dismissed_by_name_and_reason(gateway: Commands, brought: File) -> None:
    brought(dead(b"nonsense"))
    (letter,) = gateway.json("reports", "dead-letters")
    gateway.do("reports", "dismiss", letter["message"], "--by", "R Lead", "--reason", "a test of the RIS")
    assert gateway.json("reports", "dead-letters") == []


def test_a_letter_of_a_feed_that_nobody_configured_stays_where_it_is(gateway: Commands, brought: File) -> None:
    brought(dead(oru(result(at=AT), line("No fracture."))))
    (letter,) = gateway.json("reports", "dead-letters")
    told = gateway.refused("reports", "replay", letter["message"], "--by", "A", "--reason", "r")
    assert "no feed of this name" in told
    assert len(gateway.json("reports", "dead-letters")) == 1


def test_an_acknowledgement_is_entered_in_the_readers_name(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    enter = ("reports", "acknowledge", REPORT, "--name", "Dr B Referrer", "--by", "R Lead", *standing(gateway))
    assert gateway.do(*enter) == f"{REPORT_ID}: noted\n"
    assert "already" in gateway.do(*enter)
    assert gateway.json("release", "explain", REPORT)["is_acknowledged"] is True
    (body,) = [said["body"] for said in gateway.audit() if said["body"].get("act") == "acknowledge"]
    assert (body["by"], body["name"]) == ("R Lead", "Dr B Referrer")
    ahead = (NOW + timedelta(days=1)).isoformat()
    assert "between the verification" in gateway.refused(*enter, "--at", ahead)


def test_several_are_acknowledged_at_once_without_those_coded_as_alerts(gateway: Commands, brought: File) -> None:
    brought(
        message(verified(), name="m1"),
        message(verified(report_number="R-2"), name="m2"),
        message(verified(report_number="R-3", alert_codes=("cancer",)), name="m3"),
    )
    named = [each for report in (REPORT, "RZ1:R-2", "RZ1:R-3") for each in (report, *standing(gateway, report))]
    enter = ("reports", "acknowledge", "--name", "Dr B", "--by", "R Lead")
    assert "of each report" in gateway.refused(*enter, *named, "RZ1:R-4")
    told = gateway.do(*enter, *named)
    assert told.count("acknowledged") == 2
    assert f"{report_id_of(NORTH, 'R-3')}: left out: it is coded as an alert" in told
    assert gateway.json("release", "explain", "RZ1:R-3")["is_acknowledged"] is False


def test_dispatch_and_follow_up_are_noted_with_their_proof(gateway: Commands, brought: File) -> None:
    brought(message(verified(alert_codes=("cancer",))))
    named = standing(gateway)
    gateway.do("reports", "dispatch", REPORT, *named, "--reference", "MSG7 AA", "--by", "R Lead")
    assert gateway.json("release", "explain", REPORT)["is_dispatch_proven"] is True
    seen = ("reports", "follow-up", REPORT, *named, "--name", "Dr B", "--reason", "seen in clinic", "--by", "R Lead")
    assert gateway.do(*seen) == f"{REPORT_ID}: noted\n"
    acts = [said["body"]["act"] for said in gateway.audit() if said["event"] == "release-change"]
    assert {"prove-dispatch", "follow-up"} <= set(acts)


def test_nothing_of_an_unverified_report_is_acknowledged(gateway: Commands, brought: File) -> None:
    brought(message(incoming(said=Said.PRELIMINARY, verification=None)))
    enter = ("reports", "acknowledge", REPORT, "--version", "any", "--name", "B", "--by", "A")
    assert "nothing to acknowledge" in gateway.refused(*enter)


def test_a_correction_that_came_after_reading_is_not_taken_for_read(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    read = standing(gateway)
    later = YESTERDAY + timedelta(hours=1)
    brought(message(verified(later, said=Said.CORRECTED, content=Content("A fracture.")), name="m2"))
    by = ("--reason", "as read", "--by", "Dr C Carter")
    for act in (
        ("release", "early", REPORT, *by),
        ("release", "review", REPORT, *by),
        ("reports", "acknowledge", REPORT, "--name", "Dr C", "--by", "R Lead"),
        ("reports", "follow-up", REPORT, "--name", "Dr C", *by),
        ("reports", "dispatch", REPORT, "--reference", "MSG7 AA", "--by", "R Lead"),
    ):
        assert standing(gateway)[1] in gateway.refused(*act, *read)
    assert [line["version_id"] for line in gateway.json("release", "list")] == [standing(gateway)[1]]
    assert standing(gateway)[1] in gateway.do("release", "list")
    shown = gateway.do("reports", "show", REPORT, *read, *by)
    assert shown.startswith(f"version {read[1]}: does not stand: {standing(gateway)[1]} does\n")
    gateway.do("release", "early", REPORT, *by, *standing(gateway))
