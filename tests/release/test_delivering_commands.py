"""`gateway release undeliverable, told, prolong-hold`: what waits for a person, and how a person ends it."""

from __future__ import annotations

from datetime import timedelta

from tests.gateway.commands import Commands
from tests.gateway.commands import gateway as gateway  # the fixture
from tests.release.incoming import message
from tests.release.test_commands import NOW, REPORT, File, verified
from tests.release.test_commands import brought as brought  # the fixture


def day(days: int) -> str:
    """So many days from now, as it is typed."""
    return (NOW + timedelta(days=days)).date().isoformat()


def test_nothing_waits_for_a_person_where_nothing_was_given(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    assert gateway.json("release", "undeliverable") == []
    assert "nothing waits for a person" in gateway.do("release", "undeliverable")


def test_a_patient_who_was_never_to_be_told_cannot_have_been(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    refused = gateway.refused("release", "told", REPORT, "--version", "any", "--reason", "rang", "--by", "Dr C Carter")
    assert "never to be told" in refused


def test_a_hold_is_prolonged_by_name_and_with_a_reason(gateway: Commands, brought: File) -> None:
    brought(message(verified()))
    act = ("--reason", "court order", "--by", "Dr C Carter")
    gateway.do("release", "hold", REPORT, "--kind", "legal", "--review-on", day(7), *act)
    (hold,) = gateway.json("release", "explain", REPORT)["holds"]
    gateway.do("release", "prolong-hold", hold["hold_id"], "--review-on", day(20), *act)
    (kept,) = gateway.json("release", "explain", REPORT)["holds"]
    assert (kept["hold_id"], kept["review_on"]) == (hold["hold_id"], day(20))
    gateway.refused("release", "prolong-hold", hold["hold_id"], "--review-on", day(60), *act)
    acts = [said["body"]["act"] for said in gateway.audit() if said["event"] == "release-change"]
    assert [act for act in acts if act != "plan"] == ["hold", "prolong-hold"]
