"""NHS numbers, ODS codes and purposes, against the table of domain.md C1 and an independent implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nhs_number.validate import calculate_checksum, is_valid

from policy.parties import InvalidIdentifier, NhsNumber, PurposeOfUse, TrustId

SYNTHETIC = (
    "9990000018",
    "9990000026",
    "9990000034",
    "9990000042",
    "9990000050",
    "9990000069",
    "9990000077",
    "9990000085",
    "9990000093",
    "9990000107",
    "9990000115",
    "9990000123",
)
WITHOUT_CHECK_DIGIT = ("999000000", "999000014", "999000028", "999000031")


def _is_valid(text: str) -> bool:
    try:
        NhsNumber.parse(text)
    except InvalidIdentifier:
        return False
    return True


@pytest.mark.parametrize("text", ["943 476 5919", "401 023 2137", "911 123 1130", "123 456 7881", *SYNTHETIC])
def test_a_number_with_its_check_digit_is_accepted(text: str) -> None:
    assert NhsNumber.parse(text).digits == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "987 654 4321",  # should end in 2
        "123 456 7890",  # remainder 1: no check digit exists
        "0402568876",  # published as an example, and wrong
        *(digit * 10 for digit in "0123456789"),  # all pass the check digit
        "943476591",
        "94347659190",
        "0943476591",
        "943O765919",
        "943\u00a0476\u00a05919",  # no-break space
        "\u2009943 476 5919",  # thin space
        "９４３４７６５９１９",  # full width
        "٩٤٣٤٧٦٥٩١٩",
        "943 4765919",
        "943476 5919",
        "9434 76 5919",
        "943  476  5919",
        "943.476.5919",
        "9434765919\n",
        "943\t476\t5919",
        "-943 476 591",
        "+9434765919",
        "",
        " ",
    ],
)
def test_what_is_no_nhs_number_is_refused(text: str) -> None:
    assert not _is_valid(text)


@pytest.mark.parametrize("text", ["9434765919", "943 476 5919", "943-476-5919", " 9434765919 "])
def test_the_usual_ways_of_writing_mean_one_number(text: str) -> None:
    assert NhsNumber.parse(text) == NhsNumber("9434765919")


def test_a_refusal_never_repeats_the_number() -> None:
    with pytest.raises(InvalidIdentifier) as refusal:
        NhsNumber.parse("9434765918")
    assert not any(character.isdigit() for character in str(refusal.value))


@pytest.mark.parametrize("nine", WITHOUT_CHECK_DIGIT)
def test_some_beginnings_have_no_check_digit(nine: str) -> None:
    assert not any(_is_valid(nine + digit) for digit in "0123456789")


def test_the_display_form_has_three_groups_and_reads_back() -> None:
    number = NhsNumber("9990000018")
    assert number.spaced == "999 000 0018" and NhsNumber.parse(number.spaced) == number


def test_only_the_999_range_is_synthetic() -> None:
    assert all(NhsNumber.parse(text).is_synthetic for text in SYNTHETIC)
    assert not NhsNumber.parse("9434765919").is_synthetic


@given(st.text("0123456789", min_size=9, max_size=9))
def test_the_check_digit_agrees_with_another_implementation(nine: str) -> None:
    digit = calculate_checksum(nine)
    accepted = [last for last in range(10) if _is_valid(f"{nine}{last}")]
    all_same = len(set(f"{nine}{digit}")) == 1
    assert accepted == ([] if digit == 10 or all_same else [digit])


@given(st.integers(4_000_000_000, 9_999_999_999))
def test_validity_agrees_with_another_implementation(value: int) -> None:
    text = str(value)
    assert _is_valid(text) == (is_valid(text) and len(set(text)) > 1)


@given(st.sampled_from([*SYNTHETIC, "9434765919", "4010232137"]), st.integers(0, 9), st.integers(1, 9))
def test_every_single_wrong_digit_is_noticed(number: str, place: int, error: int) -> None:
    wrong = str((int(number[place]) + error) % 10)
    assert not _is_valid(number[:place] + wrong + number[place + 1 :])


@given(st.text(max_size=14))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    if _is_valid(text):
        assert text.isascii() and NhsNumber.parse(text).digits.isdigit()


@pytest.mark.parametrize(("text", "code"), [("RJ1", "RJ1"), (" rj1 ", "RJ1"), ("7A4BV", "7A4BV")])
def test_an_ods_code_is_trimmed_and_upper_case(text: str, code: str) -> None:
    assert str(TrustId.parse(text)) == code


@pytest.mark.parametrize("text", ["", "RJ", "R J1", "RJ1!", "RJ1\n2", "ＲＪ１", "ſJ1", "ABCDEFGHIJK"])
def test_what_has_not_the_form_of_an_ods_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidIdentifier):
        TrustId.parse(text)


def test_direct_care_is_a_closed_list() -> None:
    assert {purpose.value for purpose in PurposeOfUse if purpose.is_direct_care} == {
        "TREAT",
        "COC",
        "ETREAT",
        "ERTREAT",
        "BTG",
    }
