"""What stands beside the rows: who is missing, whom to ring, what the agreement covers; nothing of what is hidden."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.notices import CHECKED_OPENING, FUZZY_NOT_SUPPORTED, SENTENCE, SINGLE_WARNINGS_MAX, headers, sources_field
from gateway.model.imaging import Matches, NotAskedReason, Source, SourceState
from gateway.model.wording import ascii_text, why_not_asked
from policy.parties import TrustId
from tests.clock import NOON
from tests.dicomweb.small_region import source, study

SERVICE = "https://gateway.example/dicom-web"


def named(matches: Matches, **options: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers(matches, service=SERVICE, **options):  # type: ignore[arg-type]  # passed through
        found.setdefault(name, []).append(value)
    return found


def warnings(matches: Matches, **options: object) -> list[str]:
    prefix = f"299 {SERVICE}: "
    found = named(matches, **options).get("Warning", [])
    assert all(warning.startswith(prefix) for warning in found)
    return [warning.removeprefix(prefix) for warning in found]


def test_every_answer_says_that_not_all_imaging_is_shared() -> None:
    for matches in (Matches((), ()), Matches((study(1),), (source(),))):
        assert named(matches)["Gateway-Notice"] == [SENTENCE]
    assert SENTENCE == "Not all imaging is shared here. An empty or short list does not mean none exists."


def test_a_whole_answer_warns_of_nothing() -> None:
    assert warnings(Matches((study(1),), (source(),))) == []


def test_a_cut_page_says_how_many_remain_in_the_words_of_the_standard() -> None:
    assert warnings(Matches((), (), remaining=3)) == ["There are 3 additional results that can be requested"]


def test_an_answer_cut_at_the_limit_says_so() -> None:
    [text] = warnings(Matches((), (), truncated_at=1000))
    assert "1000" in text


@pytest.mark.parametrize("state", [state for state in SourceState if state.is_missing])
def test_each_missing_trust_is_named_with_its_state_and_its_desk(state: SourceState) -> None:
    [text] = warnings(Matches((), (source(), source(state, code="RYJ", name="Otherham", phone="020 7946 0001"))))
    assert "RYJ Otherham" in text and "020 7946 0001" in text and "may be missing" in text


@pytest.mark.parametrize("state", [state for state in SourceState if not state.is_missing])
def test_a_trust_that_is_not_missing_is_not_called_missing(state: SourceState) -> None:
    assert not any("missing" in text for text in warnings(Matches((), (source(state),))))


@pytest.mark.parametrize("reason", NotAskedReason)
def test_why_a_trust_was_not_asked_is_told_in_words_and_as_a_field(reason: NotAskedReason) -> None:
    unasked = replace(source(SourceState.NOT_ASKED, phone="020 7946 0001"), not_asked_because=reason)
    matches = Matches((), (unasked,))
    [text] = warnings(matches)
    assert f"was not asked, {why_not_asked(reason)}: ring 020 7946 0001" in text
    [field] = named(matches)["Gateway-Sources"]
    assert field.endswith(f';state=not-asked;phone="020 7946 0001";reason={reason.value}')


def test_a_trust_without_a_phone_is_still_somebody_to_ring() -> None:
    [text] = warnings(Matches((), (source(SourceState.TIMED_OUT, phone=""),)))
    assert text.endswith("ring its PACS desk")


def test_many_missing_trusts_share_lines_and_none_is_left_out() -> None:
    count = 95
    missing = tuple(source(SourceState.TIMED_OUT, code=f"R{n:02}") for n in range(count))
    texts = warnings(Matches((), missing))
    assert len(texts) <= SINGLE_WARNINGS_MAX
    assert all(any(f"R{n:02} " in text for text in texts) for n in range(count))
    alone = warnings(Matches((), missing[:SINGLE_WARNINGS_MAX]))
    assert len(alone) == SINGLE_WARNINGS_MAX


def test_coverage_is_told_as_the_agreements_and_not_as_a_fault() -> None:
    shared = source(shared=("CR", "CT"), code="RZ1", name="Northmoor")
    nothing = source(SourceState.NOT_SHARED, code="RZ2", name="Southmoor")
    first, second = warnings(Matches((), (shared, nothing)))
    assert "RZ1 Northmoor shares only CR CT with you" in first
    assert "RZ2 Southmoor shares no imaging with you" in second
    assert "missing" not in first + second


def test_an_identity_conflict_is_told_with_the_trust_and_its_phone_and_no_content() -> None:
    [text] = warnings(Matches((), (source(conflict=True),)))
    assert text == (
        "An item at RJ1 St Elsewhere could not be shared because identity details differ: ring 020 7946 0000"
    )


def test_what_the_gateway_holds_for_an_archive_is_told_in_words_and_as_a_field() -> None:
    matches = Matches((), (replace(source(), is_held_here=True), source(code="RYJ")))
    assert warnings(matches) == ["Some imaging is held by this gateway for the archive of RJ1 St Elsewhere"]
    assert named(matches)["Gateway-Sources"] == ["RJ1;state=answered;held, RYJ;state=answered"]


def test_what_is_given_in_a_silent_archives_stead_is_told_with_its_last_check() -> None:
    matches = Matches((), (replace(source(SourceState.UNREACHABLE), checked_at=NOON),))
    [_, text] = warnings(matches)
    assert text == f"{CHECKED_OPENING}RJ1 St Elsewhere 2026-11-21T12:00:00Z"
    [line] = named(matches)["Gateway-Sources"]
    assert line.endswith(';checked="2026-11-21T12:00:00Z"')


def test_ignored_parameters_are_named_by_keyword_once_and_only_if_they_can_be_read() -> None:
    [text] = warnings(Matches((), (), unsupported_keys=("00080060",)), unsupported=("Nonsense", "<script>", "Modality"))
    assert text.endswith("ignored: (unreadable), Modality, Nonsense")


def test_a_flood_of_ignored_parameters_is_told_in_short() -> None:
    [text] = warnings(Matches((), ()), unsupported=[f"name{n}" for n in range(200)])
    assert text.endswith(" and 190 more") and len(text) < 300


def test_fuzzy_matching_is_declined_in_the_words_of_the_standard() -> None:
    assert warnings(Matches((), ()), is_fuzzy=True) == [FUZZY_NOT_SUPPORTED]
    assert FUZZY_NOT_SUPPORTED == (
        "The fuzzymatching parameter is not supported. Only literal matching has been performed."
    )


def test_the_snapshot_token_is_handed_on_while_pages_remain() -> None:
    assert named(Matches((), (), 1, snapshot="abc"))["Gateway-Snapshot"] == ["abc"]
    assert "Gateway-Snapshot" not in named(Matches((), ()))


def test_machines_read_every_trusts_part_in_one_field() -> None:
    sources = (
        source(),
        source(SourceState.TIMED_OUT, code="RYJ", phone="", shared=("CT", "MR")),
        source(SourceState.NOT_SHARED, code="8HK12", phone='1 "2" \\3', conflict=True),
    )
    assert sources_field(sources) == (
        "RJ1;state=answered, "
        'RYJ;state=timed-out;only="CT MR", '
        '"8HK12";state=not-shared;phone="1 \\"2\\" \\\\3";conflict'
    )


def test_a_field_of_many_trusts_goes_on_in_further_lines() -> None:
    many = tuple(source(code=f"R{number:02}", shared=("CT", "MR", "US")) for number in range(95))
    lines = named(Matches((), many))["Gateway-Sources"]
    assert len(lines) == 5 and max(map(len, lines)) < 4_000
    assert ", ".join(lines) == sources_field(many)


def test_with_and_without_rows_the_headers_are_the_same() -> None:
    sources = (source(), source(SourceState.TIMED_OUT, code="RYJ"))
    assert headers(Matches((study(1),), sources), service=SERVICE) == headers(Matches((), sources), service=SERVICE)


def test_accents_are_stripped_and_what_is_left_is_ascii() -> None:
    assert ascii_text("Ysbyty Gwynedd – Llŷn\r\nX: 1") == "Ysbyty Gwynedd ? Llyn?X: 1"


_ANY_SOURCE = st.builds(
    Source,
    trust=st.from_regex(r"[A-Z0-9]{3,10}", fullmatch=True).map(TrustId),
    name=st.text(max_size=300),
    state=st.sampled_from(SourceState),
    desk_phone=st.text(max_size=60),
    shared_modalities=st.none() | st.lists(st.text(max_size=8), max_size=4).map(tuple),
    has_identity_conflict=st.booleans(),
)


@given(st.lists(_ANY_SOURCE, max_size=100), st.lists(st.text(max_size=20), max_size=20))
def test_whatever_is_configured_or_asked_headers_are_clean_lines_and_few(
    sources: list[Source], unsupported: list[str]
) -> None:
    found = headers(Matches((), tuple(sources)), service=SERVICE, unsupported=unsupported, is_fuzzy=True)
    assert all(re.fullmatch(r"[\x20-\x7e]+", value) for _, value in found)
    assert len(found) < 100
