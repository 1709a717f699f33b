"""The table of PS3.4 C.2.2.2 (domain.md D3), row by row, and what archives make of it."""

import pytest

from gateway.model.imaging import Attributes, Element, JsonValue, Key
from gateway.sharing.matching import Matcher, folded_name

TAG = "00081030"


def element(vr: str, *values: JsonValue) -> Element:
    """An attribute with these values, or a present but empty one."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def name(alphabetic: str, ideographic: str = "", phonetic: str = "") -> JsonValue:
    """A person's name in the DICOM JSON model."""
    groups: dict[str, JsonValue] = {"Alphabetic": alphabetic, "Ideographic": ideographic, "Phonetic": phonetic}
    return {group: text for group, text in groups.items() if text}


def answers(vr: str, pattern: str, *values: JsonValue) -> bool:
    """Whether a row with these values of one attribute answers a key of this pattern."""
    return Matcher([Key((TAG,), vr, (pattern,))]).matches({TAG: element(vr, *values)})


SINGLE_VALUES = [
    ("LO", "HEAD CT", "HEAD CT", True),
    ("LO", "HEAD CT", "Head CT", False),  # case matters, but in names
    ("LO", "HEAD", "HEAD CT", False),
    ("LO", "HEAD ", "HEAD", True),  # padding is not significant
    ("LO", "HEAD", " HEAD ", True),
    ("LO", "", "HEAD", True),
    ("LO", " ", "HEAD", True),  # nothing but padding is nothing
    ("SH", "0001234", "1234", False),
    ("CS", "CT", "CT", True),
    ("CS", "CT", "MR", False),
    ("AE", "PACS", "PACS", True),
    ("AS", "068Y", "068Y", True),
    ("AS", "*Y", "068Y", False),  # no wild cards in this VR
    ("UI", "1.2.3", "1.2.3", True),
    ("UI", "1.2.3", "1.2.3\0", True),  # the padding of UIDs in files
    ("UI", "1.2.3", "1.2.34", False),
    ("UI", "1.2.*", "1.2.3", False),
    ("UI", "*", "1.2.3", False),
    ("LO", "[A-Z]+", "HEAD", False),  # a key is text, never a regular expression
    ("LO", "[A-Z]+", "[A-Z]+", True),
    ("LO", "a.c", "abc", False),
]

WILD_CARDS = [
    ("LO", "*", "", True),
    ("LO", "*", "HEAD", True),
    ("LO", "**", "HEAD", True),
    ("LO", "* ", "HEAD", True),
    ("LO", "HE*", "HEAD", True),
    ("LO", "*AD", "HEAD", True),
    ("LO", "*EA*", "HEAD", True),
    ("LO", "H*D", "HEAD", True),
    ("LO", "H*D", "HD", True),
    ("LO", "H?D", "HD", False),
    ("LO", "H??D", "HEAD", True),
    ("LO", "?", "", False),
    ("LO", "*?*", "", False),
    ("LO", "he*", "HEAD", False),
    ("LO", "*AB*B", "AB", False),  # what one piece has taken the next cannot have
    ("LO", "*AB*B", "ABB", True),
    ("LO", "A*A", "A", False),
    ("LO", "*.*", "HEAD", False),
    ("LO", "A*B", "A\nB", True),
    ("SH", "*123*", "A123", True),
    ("LT", "*frac*", "no fracture", True),
    ("UC", "a?c", "abc", True),
    ("UR", "http*", "http://a", True),
    ("UT", "*x", "x", True),
    ("ST", "x*", "x", True),
    ("AE", "PA?S", "PACS", True),
    ("CS", "C?", "CT", True),
]

DATES = [
    ("DA", "20261001", "20261001", True),
    ("DA", "20261001", "20261002", False),
    ("DA", "20261001", "2026.10.01", True),  # the form of ACR-NEMA (PS3.5 6.2)
    ("DA", "2026.10.01-2026.10.31", "20261015", True),
    ("DA", "20261001-", "20261001", True),
    ("DA", "20261001-", "20260930", False),
    ("DA", "20261001-", "99991231", True),
    ("DA", "-20261001", "20261001", True),
    ("DA", "-20261001", "20261002", False),
    ("DA", "20261001-20261031", "20261001", True),
    ("DA", "20261001-20261031", "20261031", True),
    ("DA", "20261001-20261031", "20261101", False),
    ("DA", "20261001-20261031", "20260930", False),
    ("DA", "20261031-20261001", "20261015", False),  # the wrong way round
    ("DA", "20261201-20260101", "2026", False),
    ("DA", "20261001-20261031", "", False),
    ("DA", "20261001-", "UNKNOWN", False),
    ("DA", "-20261001", "UNKNOWN", False),
    ("DA", "20261001", "2026-10-01", True),
    ("TM", "1000-", "noon", False),
    ("DA", "19700102-20261121", "20261121", True),  # OHIF's open start
]

TIMES = [
    ("TM", "2300-0100", "233000", False),  # a range does not pass midnight
    ("TM", "2300-0100", "003000", False),
    ("TM", "2300-0100", "120000", False),
    ("TM", "2300-0100", "", False),
    ("TM", "1000-1200", "100000", True),
    ("TM", "1000-1200", "120059.999999", True),  # an end covers all of its minute
    ("TM", "1000-1200", "120100", False),
    ("TM", "1000-1200", "095959.999999", False),
    ("TM", "1000-1200", "11:30:00", True),
    ("TM", "10-12", "125959", True),
    ("TM", "103000", "103000", True),
    ("TM", "103000", "103000.000000", True),
    ("TM", "103000", "103001", False),
    ("TM", "103000.5", "103000.500000", True),
    ("TM", "103000.5", "103000.600000", False),
    ("TM", "1030", "103000", True),
    ("TM", "1030-", "103000", True),
    ("TM", "-1030", "103059", True),
    ("TM", "-1030", "103100", False),
    ("TM", "235960", "235960", True),  # a leap second
]

DATE_TIMES = [
    ("DT", "20261001", "20261001120000", True),
    ("DT", "2026", "20261231235959", True),
    ("DT", "20261001120000", "20261001120001", False),
    ("DT", "20261001-20261002", "20261002235959.999999", True),
    ("DT", "20261001-20261002", "20261003", False),
    ("DT", "20261001-", "20261001", True),
    ("DT", "-20261001", "20261001", True),
    ("DT", "1998-1999", "199906", True),
    # A minus that is an offset from UTC, not a range.
    ("DT", "20261001120000-0500", "20261001170000", True),
    ("DT", "20261001120000-0500", "20261001120000", False),
    ("DT", "20261001120000+0100", "20261001110000", True),
    ("DT", "20261001120000", "20261001130000+0100", True),
    ("DT", "20261001120000-0500-20261001130000-0500", "20261001173000", True),
    ("DT", "20261001120000-0500-20261001130000-0500", "20261001183001", False),
    ("DT", "20261001120000-0500-", "20261001165959", False),
    ("DT", "20261001120000-0500-", "20261001170000", True),
    ("DT", "-20261001120000-0500", "20261001170000", True),
    ("DT", "-20261001120000-0500", "20261001170001", False),
    # A month ends on its own last day, also west of Greenwich.
    ("DT", "20260301020000", "202602-0500", True),
    ("DT", "20260301050000", "202602-0500", False),
    ("DT", "00010101000000+1400", "00010101000000+1400", True),  # no instant that Python knows
    ("DT", "20261301000000+0100", "20261301", True),  # no day at all: compared as it is written
    ("DT", "09990101000000", "09990101010000+0100", True),
]

NAMES = [
    ("SMITH^JOHN", name("SMITH^JOHN"), True),
    ("smith^john", name("SMITH^JOHN"), True),
    ("SMITH", name("SMITH^JOHN"), False),
    ("SMITH^JOHN", name("SMITH^JOHN^^^"), True),  # empty components at the end mean nothing
    ("SMITH^JOHN^^^", name("SMITH^JOHN"), True),
    ("SMITH^", name("SMITH"), True),
    ("SMI*", name("SMITH^JOHN"), True),
    ("SMITH^*", name("SMITH^JOHN"), True),
    ("SMITH^*", name("SMITH"), True),
    ("SMITH^*", name("SMITHSON^JOHN"), False),
    ("?MITH*", name("SMITH^JOHN"), True),
    ("?MITH", name("SMITH^JOHN"), False),
    ("*john", name("SMITH^JOHN"), True),
    ("*", name("SMITH^JOHN"), True),
    ("*", None, True),
    ("*=*", None, False),  # not universal
    ("*=*", name("YAMADA^TAROU", "山田^太郎"), True),
    ("*=*", name("SMITH^JOHN"), False),
    ("山田*", name("YAMADA^TAROU", "山田^太郎"), True),
    ("やまだ*", name("YAMADA^TAROU", "山田^太郎", "やまだ^たろう"), True),
    ("YAMADA*=山田*", name("YAMADA^TAROU", "山田^太郎"), True),
    ("YAMADA*=田中*", name("YAMADA^TAROU", "山田^太郎"), False),
    ("SMITH^JOHN=", name("SMITH^JOHN"), True),
    ("SMITH^JOHN==", name("SMITH^JOHN"), True),
    ("Müller^*", name("MULLER^ANNA"), True),
    ("MULLER^ANNA", name("Müller^Anna"), True),
    ("Müller^Anna", name("Mu\u0308ller^Anna"), True),  # the same letter in two pieces
    ("WALESA^LECH", name("Wałęsa^Lech"), True),
    ("Ødegård^*", name("ODEGARD^NILS"), True),
    ("groß^*", name("GROSS^EVA"), True),
    ("SMITH  JONES^A", name("SMITH JONES^A"), True),
    ("SMITH", {}, False),
    ("SMITH", "SMITH", False),  # not a name of this model: nothing to match
]

NUMBERS = [
    ("IS", "1", 1, True),
    ("IS", "1", "1", True),
    ("IS", "01", 1, True),
    ("IS", "+1", 1, True),
    ("IS", " 1 ", "1 ", True),
    ("IS", "1", 2, False),
    ("IS", "1", None, False),
    ("IS", "1", True, False),
    ("IS", "1_0", 10, False),
    ("IS", "x", 1, False),
    ("IS", "1", "x", False),
    ("DS", "1.50", 1.5, True),
    ("DS", "1.5e0", "1.50", True),
    ("DS", "1,5", "1.5", False),
    ("DS", "1e400", "1e400", True),
    ("US", "3", 3, True),
    ("FD", "0.1", 0.1, True),
    ("SV", "9007199254740993", 9007199254740992, False),  # differ by one where floating point cannot tell
    ("UV", "9007199254740993", 9007199254740993, True),
]


@pytest.mark.parametrize(("vr", "pattern", "value", "expected"), SINGLE_VALUES)
def test_a_single_value_is_matched_whole(vr: str, pattern: str, value: JsonValue, expected: bool) -> None:
    assert answers(vr, pattern, value) is expected


@pytest.mark.parametrize(("vr", "pattern", "value", "expected"), WILD_CARDS)
def test_wild_cards_stand_for_characters(vr: str, pattern: str, value: JsonValue, expected: bool) -> None:
    assert answers(vr, pattern, value) is expected


@pytest.mark.parametrize(("vr", "pattern", "value", "expected"), DATES + TIMES + DATE_TIMES)
def test_ranges_hold_both_ends(vr: str, pattern: str, value: JsonValue, expected: bool) -> None:
    assert answers(vr, pattern, value) is expected


@pytest.mark.parametrize(("pattern", "value", "expected"), NAMES)
def test_names_are_matched_without_case_and_accents(pattern: str, value: JsonValue, expected: bool) -> None:
    assert answers("PN", pattern, value) is expected


@pytest.mark.parametrize(("vr", "pattern", "value", "expected"), NUMBERS)
def test_numbers_are_compared_as_numbers(vr: str, pattern: str, value: JsonValue, expected: bool) -> None:
    assert answers(vr, pattern, value) is expected


@pytest.mark.parametrize("vr", ["LO", "CS", "PN", "SH"])
def test_an_empty_attribute_answers_universal_keys_only(vr: str) -> None:
    assert answers(vr, "*")
    assert answers(vr, "**")
    assert answers(vr, "")
    assert not answers(vr, "A")
    assert not answers(vr, "?")


@pytest.mark.parametrize(("vr", "pattern"), [("DA", "20261001-"), ("TM", "-12"), ("IS", "1"), ("UI", "1.2")])
def test_an_empty_attribute_lies_in_no_range(vr: str, pattern: str) -> None:
    assert not answers(vr, pattern)


def test_an_attribute_that_is_absent_is_not_supported_and_the_row_stays() -> None:
    matcher = Matcher([Key((TAG,), "LO", ("HEAD",))])
    assert matcher.matches({})
    assert matcher.unsupported == {TAG}


def test_an_attribute_that_is_present_is_supported() -> None:
    matcher = Matcher([Key((TAG,), "LO", ("HEAD",))])
    assert not matcher.matches({TAG: element("LO")})
    assert matcher.unsupported == set()


def test_any_of_several_values_of_an_attribute_will_do() -> None:
    assert answers("CS", "SR", "CT", "SR")
    assert not answers("CS", "MR", "CT", "SR")
    assert answers("LO", "B", None, "B")


def test_a_list_of_uids_matches_any_of_them() -> None:
    matcher = Matcher([Key((TAG,), "UI", ("1.2", "1.3"))])
    assert matcher.matches({TAG: element("UI", "1.3")})
    assert not matcher.matches({TAG: element("UI", "1.4")})


def test_several_modalities_are_alternatives() -> None:
    matcher = Matcher([Key((TAG,), "CS", ("CT", "MR"))])
    assert matcher.matches({TAG: element("CS", "SR", "MR")})
    assert not matcher.matches({TAG: element("CS", "SR")})


def test_every_key_must_be_satisfied() -> None:
    matcher = Matcher([Key(("00080060",), "CS", ("CT",)), Key((TAG,), "LO", ("HEAD*",))])
    assert matcher.matches({"00080060": element("CS", "CT"), TAG: element("LO", "HEAD")})
    assert not matcher.matches({"00080060": element("CS", "MR"), TAG: element("LO", "HEAD")})
    assert not matcher.matches({"00080060": element("CS", "CT"), TAG: element("LO", "NECK")})


def test_date_and_time_are_matched_apart() -> None:
    matcher = Matcher([Key(("00080020",), "DA", ("20261001-20261002",)), Key(("00080030",), "TM", ("1000-1200",))])
    on_the_second_day_before_ten = {"00080020": element("DA", "20261002"), "00080030": element("TM", "0900")}
    assert not matcher.matches(on_the_second_day_before_ten)
    assert matcher.matches({"00080020": element("DA", "20261002"), "00080030": element("TM", "1100")})


DATE, TIME = "00080020", "00080030"


@pytest.mark.parametrize(
    ("days", "times", "date", "time", "matches"),
    [
        ("20261001-20261002", "1000-1200", "20261002", "0900", True),
        ("20261001-20261002", "1000-1200", "20261001", "1300", True),
        ("20261001-20261002", "1000-1200", "20261001", "095959.999999", False),
        ("20261001-20261002", "1000-1200", "20261001", "1000", True),
        ("20261001-20261002", "1000-1200", "20261002", "120059", True),
        ("20261001-20261002", "1000-1200", "20261002", "1201", False),
        ("20261001-20261003", "1000-1200", "20261002", "2359", True),
        ("20261001-", "1000-1200", "20261231", "2359", True),
        ("20261001-", "1000-1200", "20261001", "0900", False),
        ("-20261002", "1000-1200", "19990101", "0000", True),
        ("-20261002", "1000-1200", "20261002", "1300", False),
        ("20261001-20261002", "-1200", "20261001", "0000", True),
        ("20261001-20261002", "-1200", "20261002", "1300", False),
        ("20261001-20261002", "1000-", "20261002", "2359", True),
        ("20261001-20261002", "2200-0200", "20261002", "0100", True),
        # A day without a time may have been any time of it.
        ("20261001-20261002", "1000-1200", "20261001", "", True),
        ("20261001-20261002", "1000-1200", "20260930", "", False),
        ("20261001-20261002", "1000-1200", "20261003", "UNKNOWN", False),
        ("20261001-20261002", "1000-1200", "", "1100", False),
        ("20261001-20261002", "1000-1200", "UNKNOWN", "1100", False),
        # Only two ranges are one.
        ("20261001", "1000-1200", "20261001", "1300", False),
        ("20261001-20261002", "10", "20261001", "1100", False),
    ],
)
def test_two_ranges_of_date_and_time_are_one_of_instants_where_that_was_agreed(
    days: str, times: str, date: str, time: str, matches: bool
) -> None:
    keys = [Key((DATE,), "DA", (days,)), Key((TIME,), "TM", (times,))]
    row = {DATE: element("DA", *filter(None, [date])), TIME: element("TM", *filter(None, [time]))}
    assert Matcher(keys, combined_datetime=True).matches(row) == matches


def test_a_row_that_lacks_the_date_or_the_time_of_a_combined_range_stays_and_is_told() -> None:
    keys = [Key((DATE,), "DA", ("20261001-20261002",)), Key((TIME,), "TM", ("1000-1200",))]
    matcher = Matcher([*keys, Key((TAG,), "LO", ("HEAD",))], combined_datetime=True)
    assert matcher.matches({DATE: element("DA", "20261001"), TAG: element("LO", "HEAD")})
    assert matcher.unsupported == {TIME}
    assert matcher.matches({TAG: element("LO", "HEAD")}) and matcher.unsupported == {DATE, TIME}
    assert not matcher.matches({DATE: element("DA", "20261003"), TAG: element("LO", "HEAD")})
    assert not matcher.matches({DATE: element("DA", "20261001"), TAG: element("LO", "NECK")})


@pytest.mark.parametrize("tag", ["00080005", "00080052", "00080201"])
def test_what_says_how_to_read_a_question_is_never_matched(tag: str) -> None:
    matcher = Matcher([Key((tag,), "CS", ("ISO_IR 100",))])
    assert matcher.matches({tag: element("CS", "ISO_IR 192")})
    assert matcher.unsupported == set()


REQUEST, STEP, PROCEDURE = "00400275", "00400009", "00401001"


def requested(*items: JsonValue) -> Attributes:
    """A row with a Request Attributes Sequence."""
    return {REQUEST: element("SQ", *items)}


def test_one_item_of_a_sequence_satisfies_all_keys_of_it() -> None:
    matcher = Matcher([Key((REQUEST, STEP), "SH", ("S1",)), Key((REQUEST, PROCEDURE), "SH", ("P1",))])
    both: JsonValue = {STEP: {"vr": "SH", "Value": ["S1"]}, PROCEDURE: {"vr": "SH", "Value": ["P1"]}}
    first: JsonValue = {STEP: {"vr": "SH", "Value": ["S1"]}, PROCEDURE: {"vr": "SH", "Value": ["P9"]}}
    second: JsonValue = {STEP: {"vr": "SH", "Value": ["S9"]}, PROCEDURE: {"vr": "SH", "Value": ["P1"]}}
    assert matcher.matches(requested(first, both))
    assert not matcher.matches(requested(first, second))


def test_a_sequence_without_items_answers_universal_keys_only() -> None:
    assert not Matcher([Key((REQUEST, STEP), "SH", ("S1",))]).matches(requested())
    assert Matcher([Key((REQUEST, STEP), "SH", ("*",))]).matches(requested())


def test_a_sequence_that_is_absent_is_not_supported() -> None:
    matcher = Matcher([Key((REQUEST, STEP), "SH", ("S1",))])
    assert matcher.matches({})
    assert matcher.unsupported == {REQUEST}


def test_an_attribute_absent_from_the_items_is_not_supported_either() -> None:
    matcher = Matcher([Key((REQUEST, STEP), "SH", ("S1",))])
    assert matcher.matches(requested({PROCEDURE: {"vr": "SH", "Value": ["P1"]}}))
    assert matcher.unsupported == {REQUEST}


def test_sequences_nest() -> None:
    matcher = Matcher([Key((REQUEST, "0040100A", "00080100"), "SH", ("HEAD",))])
    item: JsonValue = {"0040100A": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["HEAD"]}}]}}
    other: JsonValue = {"0040100A": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["NECK"]}}]}}
    assert matcher.matches(requested(item))
    assert not matcher.matches(requested(other))


def repr_short(value: JsonValue) -> str:
    """A name for a parametrised case, however long the value."""
    return type(value).__name__


@pytest.mark.parametrize("value", [None, 1, 10**5000, [], {}, True, 1.5, "", "\0", "x" * 10_000], ids=repr_short)
@pytest.mark.parametrize("vr", ["LO", "PN", "DA", "TM", "DT", "IS", "UI", "SQ", "UN"])
def test_no_value_of_any_shape_raises(vr: str, value: JsonValue) -> None:
    for pattern in ("A", "A*", "20261001-", "-1", "1"):
        answers(vr, pattern, value)


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("O'Neill^Seán", "O'NEILL^SEAN"),
        ("SMITH ^ JOHN ^^", "SMITH^JOHN"),
        ("Łukasz", "LUKASZ"),
        ("ǰ", "J"),
        ("^^^", ""),
    ],
)
def test_a_name_is_folded_for_comparison(written: str, folded: str) -> None:
    assert folded_name(written) == folded
