"""Sixty-four characters: whole phone numbers, whole items, and never more than fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.imaging import NotAskedReason, Source, SourceState
from gateway.model.wording import Listing, desk, fitted, listed, why_not_asked, with_phone, words_of
from policy.parties import TrustId

ITEMS = st.lists(st.text("abc 0123456789", min_size=1, max_size=30).filter(lambda text: text.strip()), max_size=8)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("short", "short"),
        ("a" * 64, "a" * 64),
        ("a" * 65, "a" * 64),
        ("word " * 13, "word word word word word word word word word word word word word"),
        ("key, " * 14, "key, key, key, key, key, key, key, key, key, key, key, key, key"),
        ("Łódź\\Śródmieście\r\n é", "?odz/Srodmiescie? e"),
        ("", ""),
    ],
)
def test_text_is_cut_between_words_and_fit_for_the_default_repertoire(text: str, seen: str) -> None:
    assert fitted(text) == seen


def test_text_gives_way_to_the_number_to_ring() -> None:
    assert with_phone("no care relationship of your trust with this patient is recorded", "020 7946 0001") == (
        "no care relationship of your trust with this; ring 020 7946 0001"
    )


def test_a_number_that_would_be_cut_is_left_out() -> None:
    assert with_phone("not permitted", "0" * 70) == "not permitted"
    assert with_phone("not permitted", " ") == "not permitted"


def test_a_list_that_does_not_fit_says_how_many_are_left_out() -> None:
    desks = [f"RJ{number} 020 7946 000{number}" for number in range(1, 6)]
    assert listed([Listing("missing", desks[:2])]) == "missing: RJ1 020 7946 0001, RJ2 020 7946 0002"
    assert listed([Listing("missing", desks)]) == "missing: RJ1 020 7946 0001, RJ2 020 7946 0002 +3"
    assert listed([Listing("missing", desks[:1]), Listing("not shared", ["RYJ"])]) == (
        "missing: RJ1 020 7946 0001; not shared: RYJ"
    )


def test_where_not_even_one_fits_their_number_is_told() -> None:
    assert listed([Listing("missing", ["RJ1 " + "0" * 60, "RJ2"])]) == "missing: 2 in all"


def test_nothing_to_say_is_no_comment() -> None:
    assert listed([]) == listed([Listing("missing", [])]) == ""


@given(st.lists(st.tuples(st.sampled_from(["missing", "not shared"]), ITEMS), max_size=3))
def test_a_list_holds_whole_items_and_counts_every_other(listings: list[tuple[str, list[str]]]) -> None:
    text = listed([Listing(opening, items) for opening, items in listings])
    assert len(text) <= 64
    items = [fitted(item) for _, each in listings for item in each]
    shown = text.rpartition(" +")[0] if " +" in text else text
    for item in shown.replace("missing: ", "").replace("not shared: ", "").replace("; ", ", ").split(", "):
        assert not item or item in items


@given(st.text(max_size=100), st.text("0123456789 ()+", max_size=40))
def test_a_comment_is_ascii_of_bounded_length_with_the_whole_number_or_none(text: str, phone: str) -> None:
    comment = with_phone(text, phone)
    assert len(comment) <= 64 and comment.isascii() and comment.isprintable() and "\\" not in comment
    number = " ".join(phone.split())
    assert not number or len(number) > 57 or comment.endswith(number)


def test_a_trust_without_a_known_phone_is_named_by_its_code() -> None:
    source = Source(TrustId("RJ1"), "Somewhere", SourceState.UNREACHABLE, "020 7946 0001")
    assert desk(source) == "RJ1 020 7946 0001"
    assert desk(Source(TrustId("RJ1"), "Somewhere", SourceState.UNREACHABLE, "")) == "RJ1"


def test_what_a_trust_announced_follows_what_it_did() -> None:
    source = Source(TrustId("RZ2"), "Eastvale", SourceState.NOT_ASKED, "01632 960002")
    assert words_of(source) == "was not asked"
    announced = replace(source, note="down until 22 Nov 06:00, PACS upgrade")
    assert words_of(announced) == "was not asked, down until 22 Nov 06:00, PACS upgrade"


def test_why_a_trust_was_not_asked_follows_what_it_did_unless_it_announced_it_itself() -> None:
    source = Source(TrustId("RZ2"), "Eastvale", SourceState.NOT_ASKED, "01632 960002")
    unlinked = replace(source, not_asked_because=NotAskedReason.NO_ARCHIVE)
    assert words_of(unlinked) == "was not asked, no archive connected here"
    assert words_of(replace(unlinked, note="down until 22 Nov 06:00")) == "was not asked, down until 22 Nov 06:00"


def test_every_reason_has_words_of_its_own() -> None:
    assert len({why_not_asked(reason) for reason in NotAskedReason}) == len(NotAskedReason)


def test_that_no_number_is_linked_is_not_said_for_it_may_not_be_so() -> None:
    """Of a patient who is withheld this reason is given whatever links there are (SAF-06)."""
    assert why_not_asked(NotAskedReason.NO_LINKED_NUMBER) == "found by linked numbers only"
