"""Who a row is about, and whether two rows are about one person: the identity rules IDN-01 to IDN-11, row by row."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    Attributes,
    Element,
    JsonValue,
    Key,
    Level,
    Query,
)
from gateway.sharing.identity.patients import (
    Demographics,
    Likeness,
    age_years,
    compare,
    contradicts_question,
    demographics_of,
    identity_of,
)
from gateway.sharing.identity.shown import shown_identity
from policy.parties import NhsNumber, PatientId

ANNE, BEN = NhsNumber("9990000018"), NhsNumber("9990000026")
SAME, DOUBTFUL, CONFLICT = Likeness.SAME, Likeness.DOUBTFUL, Likeness.CONFLICT


def person(name: str = "", birth_date: str = "", sex: str = "") -> Demographics:
    """Demographics as they are read from a row."""
    return demographics_of(row(name=name, birth_date=birth_date, sex=sex))


def row(
    *,
    patient_id: str = "",
    issuer: str = "",
    others: tuple[tuple[str, str], ...] = (),
    name: str = "",
    birth_date: str = "",
    sex: str = "",
) -> Attributes:
    """A row's patient attributes, those that are empty left out."""
    items: list[JsonValue] = [{PATIENT_ID: lo(value), ISSUER_OF_PATIENT_ID: lo(of)} for value, of in others]
    attributes: dict[str, Element] = {
        PATIENT_ID: {"vr": "LO", "Value": [patient_id]},
        ISSUER_OF_PATIENT_ID: {"vr": "LO", "Value": [issuer]},
        OTHER_PATIENT_IDS: {"vr": "SQ", "Value": items},
        PATIENT_NAME: {"vr": "PN", "Value": [{"Alphabetic": name}]},
        PATIENT_BIRTH_DATE: {"vr": "DA", "Value": [birth_date]},
        PATIENT_SEX: {"vr": "CS", "Value": [sex]},
    }
    written = {
        PATIENT_ID: patient_id,
        ISSUER_OF_PATIENT_ID: issuer,
        OTHER_PATIENT_IDS: others,
        PATIENT_NAME: name,
        PATIENT_BIRTH_DATE: birth_date,
        PATIENT_SEX: sex,
    }
    return {tag: element for tag, element in attributes.items() if written[tag]}


def lo(text: str) -> JsonValue:
    """A long string as an attribute, empty if there is no text."""
    return {"vr": "LO", "Value": [text]} if text else {"vr": "LO"}


# --- the NHS number and the source's own numbers (C4, D1, D2) ---


@pytest.mark.parametrize("issuer", ["NHS", "nhs", "2.16.840.1.113883.2.1.4.1"])
def test_a_number_is_the_nhs_number_when_its_issuer_says_so(issuer: str) -> None:
    assert identity_of(row(patient_id="9990000018", issuer=issuer), "RZ2").nhs_number == ANNE


def test_a_number_without_issuer_is_what_the_archive_means_by_it() -> None:
    assert identity_of(row(patient_id="9990000018"), "NHS").nhs_number == ANNE
    by_the_trusts_own_numbers = identity_of(row(patient_id="9990000018"), "RZ2")
    assert by_the_trusts_own_numbers.nhs_number is None
    assert by_the_trusts_own_numbers.local_ids == (PatientId("RZ2", "9990000018"),)


def test_a_named_issuer_outranks_the_default() -> None:
    assert identity_of(row(patient_id="9990000018", issuer="RZ3"), "NHS").nhs_number is None


def test_an_nhs_number_among_the_other_numbers_counts() -> None:
    found = identity_of(row(patient_id="0001234", others=(("999 000 0018", "NHS"),)), "RZ2")
    assert found.nhs_number == ANNE
    assert found.local_ids == (PatientId("RZ2", "0001234"),)


def test_another_number_without_issuer_is_never_taken_for_an_nhs_number() -> None:
    assert identity_of(row(others=(("9990000018", ""),)), "NHS").nhs_number is None


def test_an_issuer_that_stands_only_in_the_qualifiers_is_read() -> None:
    qualified: Element = {"vr": "SQ", "Value": [{"00400032": {"vr": "UT", "Value": ["2.16.840.1.113883.2.1.4.1"]}}]}
    assert identity_of({**row(patient_id="9990000018"), "00100024": qualified}, "RZ2").nhs_number == ANNE
    item: JsonValue = {PATIENT_ID: lo("9990000018"), "00100024": dict(qualified)}
    assert identity_of({OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [item]}}, "RZ2").nhs_number == ANNE


def test_two_nhs_numbers_on_one_row_identify_nobody() -> None:
    assert identity_of(row(patient_id="9990000018", others=(("9990000026", "NHS"),)), "NHS").nhs_number is None


def test_one_nhs_number_given_twice_is_one() -> None:
    twice = row(patient_id="9990000018", others=(("999 000 0018", "NHS"), ("999-000-0018", "NHS")))
    assert identity_of(twice, "NHS").nhs_number == ANNE


@pytest.mark.parametrize("wrong", ["9990000019", "999000001", "99900000180", "999000OO18", "", "UNKNOWN"])
def test_a_number_that_is_no_nhs_number_identifies_nobody(wrong: str) -> None:
    assert identity_of(row(patient_id=wrong, issuer="NHS"), "NHS").nhs_number is None


def test_leading_zeros_tell_local_numbers_apart() -> None:
    assert (
        identity_of(row(patient_id="0001234"), "RZ2").local_ids != identity_of(row(patient_id="1234"), "RZ2").local_ids
    )


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {PATIENT_ID: {"vr": "LO"}},
        {PATIENT_ID: {"vr": "LO", "Value": [None]}},
        {PATIENT_ID: {"vr": "LO", "Value": [7]}},
        {PATIENT_NAME: {"vr": "PN", "Value": ["SMITH"]}, OTHER_PATIENT_IDS: {"vr": "SQ", "Value": [None, "x", {}]}},
        {PATIENT_BIRTH_DATE: {"vr": "DA", "Value": [19580314]}, PATIENT_SEX: {"vr": "CS", "Value": [None]}},
    ],
)
def test_a_row_that_says_nothing_useful_identifies_nobody(broken: Attributes) -> None:
    found = identity_of(broken, "NHS")
    assert found.nhs_number is None
    assert found.demographics == Demographics()


# --- demographics as read (IDN-03, IDN-04, IDN-11) ---


@pytest.mark.parametrize(
    ("written", "family", "given"),
    [
        ("SMITH^JOHN", "SMITH", "JOHN"),
        ("Smith^John^Paul^Mr", "SMITH", "JOHN"),
        ("SMITH^JOHN PAUL", "SMITH", "JOHN"),
        ("O'NEILL^SEÁN", "ONEILL", "SEAN"),
        ("SMITH-JONES^ANNE", "SMITHJONES", "ANNE"),
        ("SMITH JONES^ANNE", "SMITHJONES", "ANNE"),
        ("Müller^Jürgen", "MULLER", "JURGEN"),
        ("Wałęsa^Łukasz", "WALESA", "LUKASZ"),
        ("SMITH^", "SMITH", ""),
        ("SMITH", "SMITH", ""),
        ("SMITH JOHN MR", "SMITH", "JOHN"),  # older data
        ("^ANNE", "", "ANNE"),
        ("UNKNOWN^", "", ""),
        ("UNKNOWN^MALE 1", "", "MALE"),
        ("ANON", "", ""),
        ("ANONYMOUS^PATIENT", "", "PATIENT"),
        ("SMITH^BABY", "", ""),
        ("SMITH^BABY GIRL", "", ""),
        ("SMITH^INFANT OF ANNE", "", ""),
        ("SMITH^TWIN 1", "", ""),
        ("BABY^SMITH", "", ""),
        ("BABY SMITH", "", ""),
        ("ZZZTEST^ANNE", "", "ANNE"),
        ("XXTESTPATIENT^ANNE", "", "ANNE"),
        ("XXDAVISTEST^ANNE", "", "ANNE"),
        ("TEST^ANNE", "", "ANNE"),
        ("TESTER^ANNE", "TESTER", "ANNE"),
        ("UNKLES^ANNE", "UNKLES", "ANNE"),
        ("^^^", "", ""),
    ],
)
def test_a_name_is_read_as_family_and_first_given_name(written: str, family: str, given: str) -> None:
    assert (person(written).family, person(written).given) == (family, given)


def test_a_name_without_latin_letters_is_read_by_its_own() -> None:
    japanese: JsonValue = {"Ideographic": "山田^太郎"}
    found = demographics_of({PATIENT_NAME: {"vr": "PN", "Value": [japanese]}})
    assert (found.family, found.given) == ("山田", "太郎")


@pytest.mark.parametrize("written", ["", "00000000", "19000101", "99991231"])
def test_a_placeholder_for_a_birth_date_is_a_missing_one(written: str) -> None:
    assert person(birth_date=written).birth_date == ""


@pytest.mark.parametrize("written", ["UNKNOWN", "1958", "195803", "19580000", "19580230", "1958031", "195803141"])
def test_what_is_no_date_is_a_missing_birth_date(written: str) -> None:
    assert person(birth_date=written).birth_date == ""


@pytest.mark.parametrize("written", ["19580314", "1958.03.14", "1958-03-14", " 19580314"])
def test_birth_dates_are_read_in_each_form_that_archives_write(written: str) -> None:
    assert person(birth_date=written).birth_date == "19580314"


@pytest.mark.parametrize(("written", "read"), [("M", "M"), ("f", "F"), ("O", ""), ("", ""), ("U", ""), ("MALE", "")])
def test_only_male_and_female_can_differ(written: str, read: str) -> None:
    assert person(sex=written).sex == read


# --- comparing under one NHS number (IDN-01 to IDN-05, IDN-08) ---

BORN = "19580314"

COMPARISONS = [
    # the birth date agrees
    ("everything", person("SMITH^ANNE", BORN, "F"), person("SMITH^ANNE", BORN, "F"), SAME),
    ("accents and case", person("Müller^Zoë", BORN), person("MULLER^ZOE", BORN), SAME),
    ("a middle name", person("SMITH^ANNE^MARY", BORN), person("SMITH^ANNE", BORN), SAME),
    ("an initial", person("SMITH^A", BORN), person("SMITH^ANNE", BORN), SAME),
    ("no given name", person("SMITH", BORN), person("SMITH^ANNE", BORN), SAME),
    ("family and given name swapped", person("ANNE^SMITH", BORN), person("SMITH^ANNE", BORN), SAME),
    ("married", person("JONES^ANNE", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("another given name", person("SMITH^MARY", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("another name", person("JONES^MARY", BORN), person("SMITH^ANNE", BORN), CONFLICT),
    ("no name at one", person("", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("sex alone differs", person("SMITH^ANNE", BORN, "F"), person("SMITH^ANNE", BORN, "M"), SAME),
    ("sex and given name", person("SMITH^ANNE", BORN, "F"), person("SMITH^MARK", BORN, "M"), CONFLICT),
    ("sex and family name", person("JONES^ALEX", BORN, "F"), person("SMITH^ALEX", BORN, "M"), CONFLICT),
    ("sex differs, one has no name", person("", BORN, "F"), person("SMITH^MARK", BORN, "M"), DOUBTFUL),
    ("sex missing at one", person("SMITH^ANNE", BORN, ""), person("SMITH^ANNE", BORN, "F"), SAME),
    # two of the three parts of the birth date agree
    ("another day", person("SMITH^ANNE", "19580315"), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("another month", person("SMITH^ANNE", "19580414"), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("another year", person("SMITH^ANNE", "19850314"), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("another day and sex", person("SMITH^ANNE", "19580315", "M"), person("SMITH^ANNE", BORN, "F"), CONFLICT),
    ("another day and married", person("JONES^ANNE", "19580315"), person("SMITH^ANNE", BORN), CONFLICT),
    ("another day, no name at one", person("", "19580315"), person("SMITH^ANNE", BORN), CONFLICT),
    ("another day and month", person("SMITH^ANNE", "19580415"), person("SMITH^ANNE", BORN), CONFLICT),
    ("day and month swapped", person("SMITH^ANNE", "19580703"), person("SMITH^ANNE", "19580307"), CONFLICT),
    ("another date altogether", person("SMITH^ANNE", "19700102"), person("SMITH^ANNE", BORN), CONFLICT),
    # no birth date at one
    ("nothing at one", person(), person("SMITH^ANNE", BORN, "F"), DOUBTFUL),
    ("nothing at both", person(), person(), DOUBTFUL),
    ("no birth date, same name", person("SMITH^ANNE"), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("no birth date, another name", person("JONES^MARY"), person("SMITH^ANNE", BORN), CONFLICT),
    ("a placeholder for a birth date", person("SMITH^ANNE", "19000101"), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("a placeholder for a name", person("UNKNOWN^", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    # newborns and twins (IDN-08): nothing but the number tells them apart
    ("a newborn, then named", person("SMITH^BABY", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("a newborn, the words turned", person("BABY SMITH", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("a newborn in mother's name", person("JONES^BABY", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("a newborn of another day", person("SMITH^BABY", "19580315"), person("SMITH^ANNE", BORN), CONFLICT),
    ("twins of one sex", person("SMITH^ANNE", BORN, "F"), person("SMITH^BETH", BORN, "F"), DOUBTFUL),
    ("twins of two sexes", person("SMITH^ANNE", BORN, "F"), person("SMITH^MARK", BORN, "M"), CONFLICT),
    ("twins on either side of midnight", person("SMITH^ANNE", BORN), person("SMITH^BETH", "19580315"), CONFLICT),
    # half a name
    ("no family name at one", person("^ANNE", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("no family name, another given", person("^MARY", BORN), person("SMITH^ANNE", BORN), DOUBTFUL),
    ("only given against only family", person("^ANNE", BORN), person("ANNE", BORN), DOUBTFUL),
]


@pytest.mark.parametrize(
    ("one", "other", "expected"), [case[1:] for case in COMPARISONS], ids=[c[0] for c in COMPARISONS]
)
def test_two_sets_of_demographics_are_compared(one: Demographics, other: Demographics, expected: Likeness) -> None:
    assert compare(one, other) is expected
    assert compare(other, one) is expected


NAMES = st.sampled_from(["", "ANNE", "SMITH", "MARY", "JONES", "A", "S"])
DATES = st.sampled_from(["", BORN, "19580315", "19580415", "19700102"])
PEOPLE = st.builds(Demographics, NAMES, NAMES, DATES, st.sampled_from(["", "M", "F"]))


@given(PEOPLE, PEOPLE)
def test_comparing_is_symmetric(one: Demographics, other: Demographics) -> None:
    assert compare(one, other) is compare(other, one)


@given(PEOPLE)
def test_nobody_conflicts_with_himself(one: Demographics) -> None:
    assert compare(one, one) is not CONFLICT


@given(PEOPLE, PEOPLE)
def test_what_is_missing_never_makes_a_conflict(one: Demographics, other: Demographics) -> None:
    if compare(one, other) is not CONFLICT:
        for less in (
            Demographics("", "", one.birth_date, one.sex),
            Demographics(one.family, one.given, one.birth_date, ""),
        ):
            if one.birth_date == other.birth_date:
                assert compare(less, other) is not CONFLICT


# --- the name and birth date stated beside the number (SAF-08) ---

ROW = row(patient_id="9990000018", issuer="NHS", name="SMITH^ANNE^MARY", birth_date=BORN, sex="F")


def asking(name: str = "", birth_date: str = "", sex: str = "") -> Query:
    """A question by NHS number with these beside it."""
    stated = ((PATIENT_NAME, "PN", name), (PATIENT_BIRTH_DATE, "DA", birth_date), (PATIENT_SEX, "CS", sex))
    keys = tuple(Key((tag,), vr, (value,)) for tag, vr, value in stated if value)
    return Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("9990000018",)), *keys))


STATED = [
    ("nothing", asking(), False),
    ("the name", asking("SMITH^ANNE"), False),
    ("the family name", asking("smith"), False),
    ("all", asking("SMITH^ANNE", BORN, "F"), False),
    ("the name turned", asking("ANNE SMITH"), False),
    ("an initial", asking("SMITH^A"), False),
    ("a maiden name", asking("JONES^ANNE"), False),
    ("another name", asking("JONES^MARK"), True),
    ("another family name alone", asking("JONES"), True),
    ("no name at all", asking("*"), False),
    ("a placeholder", asking("UNKNOWN^"), False),
    # what viewers make of a name that is typed
    ("OHIF, the beginning", asking("*smi*"), False),
    ("OHIF, whole", asking("*smith^anne*"), False),
    ("OHIF, with a space", asking("*smith anne*"), False),
    ("OHIF, given name first", asking("*anne smith*"), False),
    ("OHIF, with a comma", asking("*smith, anne*"), False),
    ("OHIF, without accents", asking("*smíth*"), False),
    ("OHIF, another", asking("*jones*"), True),
    ("OHIF, half another", asking("*smith mark*"), True),
    ("OHIF, a letter", asking("*s*"), False),
    ("a PACS, the beginning", asking("SMI*"), False),
    ("a PACS, another beginning", asking("JON*"), True),
    ("a question mark", asking("SM?TH*"), False),
    ("a question mark, another", asking("SM?TT*"), True),
    ("nothing but wild cards", asking("*?*"), False),
    # the birth date
    ("the birth date", asking(birth_date=BORN), False),
    ("the birth date as dotted", asking(birth_date="1958.03.14"), False),
    ("another birth date", asking(birth_date="19700102"), True),
    ("another day, no name", asking(birth_date="19580315"), True),
    ("another day, the name", asking("SMITH^ANNE", "19580315"), False),
    ("another day, the name, the sex", asking("SMITH^ANNE", "19580315", "F"), False),
    ("another day, the name, the sex in small letters", asking("SMITH^ANNE", "19580315", "f"), False),
    ("another day, the name, another sex", asking("SMITH^ANNE", "19580315", "M"), True),
    ("another day, a wild name", asking("*smith*", "19580315"), True),
    ("another day and month", asking("SMITH^ANNE", "19580415"), True),
    ("a placeholder for it", asking(birth_date="19000101"), False),
    ("a range is a filter of studies, not a date", asking(birth_date="19500101-19691231"), False),
    # sex
    ("another sex alone", asking(sex="M"), False),
    ("another sex and maiden name", asking("JONES^ANNE", sex="M"), True),
    ("another sex and the name", asking("SMITH^ANNE", sex="M"), False),
]


@pytest.mark.parametrize(("query", "expected"), [case[1:] for case in STATED], ids=[case[0] for case in STATED])
def test_what_is_stated_beside_the_number_is_a_check(query: Query, expected: bool) -> None:
    assert contradicts_question(query, ROW) is expected


@pytest.mark.parametrize("query", [asking("JONES^MARK"), asking("*jones*"), asking(birth_date="19700102")])
def test_a_row_without_demographics_contradicts_nothing(query: Query) -> None:
    assert not contradicts_question(query, row(patient_id="9990000018"))
    assert not contradicts_question(query, row(patient_id="9990000018", name="UNKNOWN^", birth_date="19000101"))


# --- the age on a day ---


@pytest.mark.parametrize(
    ("born", "on", "years"),
    [
        ("20080229", date(2026, 2, 28), 17),
        ("20080229", date(2026, 3, 1), 18),
        ("20080229", date(2028, 2, 28), 19),
        ("20080229", date(2028, 2, 29), 20),
        ("20081121", date(2026, 11, 20), 17),
        ("20081121", date(2026, 11, 21), 18),
        ("20261121", date(2026, 11, 21), 0),
        ("20261122", date(2026, 11, 21), None),
        ("", date(2026, 11, 21), None),
        ("20081301", date(2026, 11, 21), None),
        ("UNKNOWN", date(2026, 11, 21), None),
    ],
)
def test_an_age_is_counted_in_whole_years(born: str, on: date, years: int | None) -> None:
    assert age_years(born, on) == years


# --- what a caller is shown (SAF-34, C4) ---


def test_the_nhs_number_is_shown_with_its_issuer_and_the_sources_number_is_kept() -> None:
    source = row(patient_id="0001234", others=(("9990000018", "NHS"),))
    shown = shown_identity(identity_of(source, "RZ2"))
    assert shown[PATIENT_ID] == {"vr": "LO", "Value": ["9990000018"]}
    assert shown[ISSUER_OF_PATIENT_ID] == {"vr": "LO", "Value": ["NHS"]}
    assert shown[OTHER_PATIENT_IDS] == {
        "vr": "SQ",
        "Value": [{PATIENT_ID: lo("0001234"), ISSUER_OF_PATIENT_ID: lo("RZ2")}],
    }


def test_a_number_written_with_spaces_is_shown_without() -> None:
    source = row(patient_id="999 000 0018", issuer="NHS")
    assert shown_identity(identity_of(source, "RZ2"))[PATIENT_ID] == {"vr": "LO", "Value": ["9990000018"]}


def test_a_row_that_identifies_nobody_is_shown_as_it_is() -> None:
    source = row(patient_id="0001234")
    assert shown_identity(identity_of(source, "RZ2")) == {}
