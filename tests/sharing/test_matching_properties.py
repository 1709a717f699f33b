"""What holds of the matcher for every pattern and value: against naive oracles, and under patterns made to hurt."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.model.imaging import Attributes, JsonValue, Key
from gateway.model.settings import Limits
from gateway.sharing.matching import WILDCARD_VRS, Matcher, folded_name, value_test, wildcard

VRS_OF_TEXT = sorted(WILDCARD_VRS - {"PN"} | {"UI", "AS", "AT"})
FEW_LETTERS = st.text(alphabet="ab\n", max_size=12)
PATTERNS = st.text(alphabet="ab\n*?", max_size=8)
TEXT = st.text(alphabet=st.characters(exclude_characters="*?", exclude_categories=["Cs"]), max_size=20)
NAME_PARTS = st.text(alphabet=st.characters(exclude_characters="*?^=", exclude_categories=["Cs", "Cc"]), max_size=10)


def fits(pattern: str, value: str) -> bool:
    """The oracle: every way to cut the value is tried, by a table over both."""
    ends = {0}
    for character in pattern:
        if character == "*":
            ends = {end for start in ends for end in range(start, len(value) + 1)}
        else:
            ends = {start + 1 for start in ends if start < len(value) and character in ("?", value[start])}
    return len(value) in ends


@given(PATTERNS, FEW_LETTERS)
@example("*ab*b", "ab")
@example("*a?*a", "aaa")
@example("*?", "")
def test_wild_cards_agree_with_the_oracle(pattern: str, value: str) -> None:
    assert (wildcard(pattern).fullmatch(value) is not None) == fits(pattern, value)


@given(st.sampled_from(sorted(WILDCARD_VRS)), st.one_of(st.none(), TEXT))
def test_an_asterisk_matches_everything(vr: str, value: str | None) -> None:
    assert value_test(vr, "*")(value)


@given(st.sampled_from(VRS_OF_TEXT), TEXT)
def test_a_text_matches_itself(vr: str, value: str) -> None:
    assume(value.strip(" \0"))
    assert value_test(vr, value)(value)


@given(st.lists(NAME_PARTS, max_size=5), st.lists(NAME_PARTS, max_size=5))
def test_a_name_matches_itself(alphabetic: list[str], ideographic: list[str]) -> None:
    groups = ["^".join(alphabetic), "^".join(ideographic)]
    assume(folded_name(groups[0]) or folded_name(groups[1]))
    value: JsonValue = {"Alphabetic": groups[0], "Ideographic": groups[1]}
    assume("=" not in folded_name(groups[0]) + folded_name(groups[1]))
    assert value_test("PN", "=".join(groups).rstrip("="))(value)
    for group in groups:
        if folded_name(group):
            assert value_test("PN", group)(value)
            assert value_test("PN", group.lower())(value)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_folding_a_folded_name_changes_nothing(name: str) -> None:
    assert folded_name(folded_name(name)) == folded_name(name)


DAYS = st.dates(date(1000, 1, 1), date(9998, 12, 31))


@given(DAYS, DAYS, DAYS)
def test_a_date_lies_between_the_ends_of_its_range(first: date, last: date, day: date) -> None:
    written = [f"{each:%Y%m%d}" for each in (first, last, day)]
    assert value_test("DA", f"{written[0]}-{written[1]}")(written[2]) == (first <= day <= last)
    assert value_test("DA", f"{written[0]}-")(written[2]) == (first <= day)
    assert value_test("DA", f"-{written[1]}")(written[2]) == (day <= last)
    assert value_test("DA", written[0])(written[2]) == (first == day)


PRECISIONS = ("%H", "%H%M", "%H%M%S")


@given(st.times(), st.sampled_from(PRECISIONS), st.times(), st.sampled_from(PRECISIONS))
def test_times_agree_with_the_clock(start: object, start_form: str, value: object, value_form: str) -> None:
    """A time says an interval as long as its last unit; it lies in `a-` when some of it is not before `a`."""
    begins, found = format(start, start_form), format(value, value_form)
    shared = min(len(begins), len(found))
    assert value_test("TM", f"{begins}-")(found) == (found[:shared] >= begins[:shared])
    assert value_test("TM", f"-{begins}")(found) == (found[:shared] <= begins[:shared])


OFFSETS = st.integers(-11 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.builds(
    lambda day, second, offset: datetime(day.year, day.month, day.day, tzinfo=offset) + timedelta(seconds=second),
    DAYS,
    st.integers(0, 86_399),
    OFFSETS,
)


@given(INSTANTS, INSTANTS, INSTANTS)
def test_date_times_are_compared_as_instants(first: datetime, last: datetime, at: datetime) -> None:
    written = [each.strftime("%Y%m%d%H%M%S%z") for each in (first, last, at)]
    assert value_test("DT", f"{written[0]}-{written[1]}")(written[2]) == (first <= at <= last)
    assert value_test("DT", f"{written[0]}-")(written[2]) == (first <= at)
    assert value_test("DT", f"-{written[1]}")(written[2]) == (at <= last)


VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@given(st.sampled_from(["LO", "PN", "DA", "TM", "DT", "IS", "UI", "SQ", "??"]), st.text(max_size=12), VALUES)
@example("DT", "99991231-1200", "0001+1200")
@example("DT", "2026+9999", "2026-9999")
def test_nothing_that_is_asked_or_answered_raises(vr: str, pattern: str, value: JsonValue) -> None:
    matcher = Matcher([Key(("00081030",), vr, (pattern or "*",))])
    matcher.matches({"00081030": {"vr": vr, "Value": [value]}})
    matcher.matches({"00081030": {"vr": vr, "Value": value}})


_INSTANTS = st.integers(0, 3 * 24 * 60 * 60).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(_INSTANTS, _INSTANTS, _INSTANTS, st.booleans(), st.booleans())
def test_a_combined_range_holds_the_instants_between_its_ends(
    first: datetime, last: datetime, instant: datetime, has_first: bool, has_last: bool
) -> None:
    assume(has_first or has_last)
    days = f"{f'{first:%Y%m%d}' if has_first else ''}-{f'{last:%Y%m%d}' if has_last else ''}"
    times = f"{f'{first:%H%M%S}' if has_first else ''}-{f'{last:%H%M%S}' if has_last else ''}"
    keys = [Key(("00080020",), "DA", (days,)), Key(("00080030",), "TM", (times,))]
    row: Attributes = {
        "00080020": {"vr": "DA", "Value": [f"{instant:%Y%m%d}"]},
        "00080030": {"vr": "TM", "Value": [f"{instant:%H%M%S}"]},
    }
    expected = (not has_first or first <= instant) and (not has_last or instant <= last)
    assert Matcher(keys, combined_datetime=True).matches(row) == expected


LONGEST = Limits().key_value_chars_max
HURTFUL = [
    ("*a" * (LONGEST // 2), True),
    ("*a" * (LONGEST // 2 - 1) + "*b", False),
    ("*" * LONGEST, True),
    ("?" * LONGEST, False),
    ("*?" * (LONGEST // 2), True),
    ("?*" * (LONGEST // 2), True),
    ("*" + "a" * (LONGEST - 3) + "b*", False),
    ("*" + "a" * (LONGEST - 2) + "b", False),
    ("*" + "a?" * (LONGEST // 2 - 2) + "b*", False),
    ("*a?" * (LONGEST // 3 - 1) + "*b", False),
    ("a" * LONGEST, False),
    ("a" * (LONGEST - 1) + "*", True),
]


@pytest.mark.parametrize(("pattern", "expected"), HURTFUL, ids=lambda each: f"{str(each)[:4]}...{str(each)[-2:]}")
def test_no_pattern_takes_long_however_long_the_value(pattern: str, expected: bool) -> None:
    """Backtracking over these would take longer than the universe has; the hang guard is the judge."""
    value = "a" * 10_240
    assert value_test("LO", pattern)(value) == expected
    assert value_test("PN", pattern)({"Alphabetic": value}) == expected
