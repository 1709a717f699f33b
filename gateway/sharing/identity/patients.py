"""Whose row is this, and are two rows of the same person?

Reads the identifiers and demographics that a row carries, and compares them by the identity rules (domain.md C5, IDN).
An NHS number alone is never enough against contradicting demographics, and name with date of birth is never enough
without one. What the registers know of the identifiers is `translation`'s affair. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum

import orjson

from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    Attributes,
    JsonValue,
    Query,
)
from gateway.sharing.matching import folded_name, wildcard
from policy.parties import InvalidIdentifier, NhsNumber, PatientId, is_nhs_issuer

_QUALIFIERS, _UNIVERSAL_ENTITY_ID = "00100024", "00400032"
"""Issuer of Patient ID Qualifiers Sequence, and what stands in it (C4)."""
_PLACEHOLDER_NAMES = re.compile(r"(UNKNOWN|UNK|ANON(YMOUS)?|NONAME|TEST)?")
_IDENTITY_TAGS = (
    PATIENT_ID,
    ISSUER_OF_PATIENT_ID,
    _QUALIFIERS,
    OTHER_PATIENT_IDS,
    PATIENT_NAME,
    PATIENT_BIRTH_DATE,
    PATIENT_SEX,
)
"""What a row says of its patient. The readers of identity are handed these attributes and cannot see others."""
_NEWBORN_NAMES = re.compile("BABY|INFANT|NEWBORN|TWIN")
_TEST_NAMES = re.compile(r"ZZZ|XX.*TEST")
_PLACEHOLDER_DATES = frozenset({"19000101", "99991231"})


@dataclass(frozen=True, slots=True)
class Demographics:
    """What corroborates an identity; empty fields are missing, placeholders are read as missing (IDN-11)."""

    family: str = ""
    given: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class RowIdentity:
    """The person a row says it is about: NHS number if it carries one, the source's own numbers, demographics."""

    nhs_number: NhsNumber | None
    """The person's number: the surviving one, once the row is translated."""
    local_ids: tuple[PatientId, ...]
    demographics: Demographics
    carried: frozenset[NhsNumber] = frozenset()
    """Every NHS number that stands on the row, superseded ones too."""
    linked_by: PatientId | None = None
    """A number of the answering trust itself that the cross-reference leads to this person by."""
    is_contradicted: bool = False
    """Whether the row's identifiers lead to different people, by the row itself or by the cross-reference."""


class Likeness(Enum):
    """How two sets of demographics under one NHS number compare."""

    SAME = "same"
    DOUBTFUL = "doubtful"
    """Tolerated, and flagged to the custodian: two of three parts of a birth date, a changed surname (IDN-02)."""
    CONFLICT = "conflict"
    """No sharing: quarantine, and tell both trusts (IDN-06)."""


def identity_of(row: Attributes, default_issuer: str) -> RowIdentity:
    """Read a row's identity. `default_issuer`, from the peer's profile, stands in where none is named (C4)."""
    return _identity(_said(row), default_issuer)


class Identities:
    """The identities of one peer's rows: rows that say the same of their patient share one, read once.

    Lives no longer than the answer whose rows it reads.
    """

    def __init__(self, default_issuer: str) -> None:
        self._default_issuer = default_issuer
        self._read: dict[bytes, RowIdentity] = {}

    def of(self, row: Attributes) -> RowIdentity:
        """See `identity_of`."""
        said = _said(row)
        text = orjson.dumps(said)
        identity = self._read.get(text)
        if identity is None:
            identity = self._read[text] = _identity(said, self._default_issuer)
        return identity


def demographics_of(row: Attributes) -> Demographics:
    """Name, birth date and sex of a row, folded for comparison."""
    family, given = _name_parts(_alphabetic(_first(row, PATIENT_NAME)))
    return Demographics(
        family=family,
        given=given,
        birth_date=_birth_date(_text(_first(row, PATIENT_BIRTH_DATE))),
        sex=_sex(_text(_first(row, PATIENT_SEX))),
    )


def compare(one: Demographics, other: Demographics, surnames: frozenset[str] = frozenset()) -> Likeness:
    """Compare demographics that stand under the same NHS number (IDN-01 to IDN-05, IDN-08); symmetric.

    `surnames`, folded, are known to be this person's, one after the other (IDN-03).
    """
    name_agrees, name_conflicts = _names(_renamed(one, surnames), _renamed(other, surnames))
    sex_differs = bool(one.sex and other.sex and one.sex != other.sex)
    if sex_differs and not name_agrees and _is_named(one) and _is_named(other):
        return Likeness.CONFLICT
    if one.birth_date and other.birth_date:
        if one.birth_date == other.birth_date:
            if name_conflicts:
                return Likeness.CONFLICT
            return Likeness.SAME if name_agrees else Likeness.DOUBTFUL
        tolerable = name_agrees and not sex_differs and _two_of_three(one.birth_date, other.birth_date)
        return Likeness.DOUBTFUL if tolerable else Likeness.CONFLICT
    return Likeness.CONFLICT if name_conflicts else Likeness.DOUBTFUL


def folded_surname(surname: str) -> str:
    """A surname as `Demographics` has it, so that the two compare."""
    return _name_parts(f"{surname}^X")[0]


def is_doubtful(one: Demographics, other: Demographics, surnames: frozenset[str] = frozenset()) -> bool:
    """Whether somebody should look: the two are tolerated, and say something different (IDN-02, IDN-03).

    What is only missing on one side is nothing to put right.
    """
    one, other = _renamed(one, surnames), _renamed(other, surnames)
    if compare(one, other) is Likeness.CONFLICT:
        return False
    pairs = ((one.birth_date, other.birth_date), (one.family, other.family), (one.sex, other.sex))
    return any(mine and theirs and mine != theirs for mine, theirs in pairs) or not _given_agree(one.given, other.given)


def confirms_birth_date(query: Query, row: Attributes) -> bool:
    """Whether question and row both state a birth date, and agree on it as far as the rules demand (IDN-01)."""
    asked, found = stated(query), demographics_of(row)
    return bool(asked.birth_date and found.birth_date) and compare(asked, found) is not Likeness.CONFLICT


def contradicts_question(query: Query, row: Attributes, surnames: frozenset[str] = frozenset()) -> bool:
    """Whether the name, birth date or sex stated beside the NHS number contradicts the row (SAF-08).

    Reads of the row what its identity is read of: rows that share an identity contradict alike.
    """
    row = _said(row)
    found = demographics_of(row)
    if compare(stated(query), found, surnames) is Likeness.CONFLICT:
        return True
    name = query.key(PATIENT_NAME)
    if name is None or not _is_wild(name.values[0]) or not _is_named(found):
        return False
    written = _alphabetic(_first(row, PATIENT_NAME))
    known = [f"{surname}^{found.given}" for surname in surnames] if found.family in surnames else []
    return not any(_wild_name_fits(name.values[0], one) for one in (written, *known))


def stated(query: Query) -> Demographics:
    """What a question states of its patient; a name with wild cards and a range of dates state nothing comparable."""
    name, born, sex = (_value_of(query, tag) for tag in (PATIENT_NAME, PATIENT_BIRTH_DATE, PATIENT_SEX))
    family, given = ("", "") if _is_wild(name) else _name_parts(name)
    return Demographics(family, given, _birth_date(born), _sex(sex))


def age_years(birth_date: str, on: date) -> int | None:
    """Whole years on a day, or None when the birth date is missing or no date; 29 February counts from 1 March."""
    try:
        born = date(int(birth_date[:4]), int(birth_date[4:6]), int(birth_date[6:8]))
    except ValueError:
        return None
    years = on.year - born.year - ((on.month, on.day) < (born.month, born.day))
    return years if years >= 0 else None


def _said(row: Attributes) -> Attributes:
    return {tag: row[tag] for tag in _IDENTITY_TAGS if tag in row}


def _identity(said: Attributes, default_issuer: str) -> RowIdentity:
    identifiers = list(_identifiers(said, default_issuer))
    numbers = {number for issuer, value in identifiers if is_nhs_issuer(issuer) and (number := _nhs_number(value))}
    locals_ = tuple(PatientId(issuer, value) for issuer, value in identifiers if not is_nhs_issuer(issuer))
    # Two different NHS numbers on one row identify nobody.
    nhs_number = next(iter(numbers)) if len(numbers) == 1 else None
    return RowIdentity(nhs_number, locals_, demographics_of(said), frozenset(numbers), is_contradicted=len(numbers) > 1)


def _identifiers(row: Attributes, default_issuer: str) -> list[tuple[str, str]]:
    """Issuer and value of every identifier; of a Patient ID with several values, which is none, each counts."""
    issuer = _issuer(_first(row, ISSUER_OF_PATIENT_ID), _first(row, _QUALIFIERS)) or default_issuer
    found = [(issuer, value) for value in _texts(row.get(PATIENT_ID))]
    others = row.get(OTHER_PATIENT_IDS, {}).get("Value")
    for item in others if isinstance(others, list) else []:
        if isinstance(item, dict):
            issuer = _issuer(_item(item, ISSUER_OF_PATIENT_ID), _item(item, _QUALIFIERS))
            found += [(issuer, value) for value in _texts(item.get(PATIENT_ID))]
    return found


def _texts(element: object) -> list[str]:
    values = element.get("Value") if isinstance(element, Mapping) else None
    return [text for value in values if (text := _text(value))] if isinstance(values, list) else []


def _issuer(name: JsonValue, qualifiers: JsonValue) -> str:
    """The issuer's name, or its universal id where only that is given."""
    return _text(name) or (_text(_item(qualifiers, _UNIVERSAL_ENTITY_ID)) if isinstance(qualifiers, dict) else "")


def _nhs_number(text: str) -> NhsNumber | None:
    try:
        return NhsNumber.parse(text)
    except InvalidIdentifier:
        return None


def _is_named(one: Demographics) -> bool:
    return bool(one.family or one.given)


def _renamed(one: Demographics, surnames: frozenset[str]) -> Demographics:
    """With one surname in place of any that the person is known to have had."""
    return replace(one, family=min(surnames)) if one.family in surnames else one


def _names(one: Demographics, other: Demographics) -> tuple[bool, bool]:
    """(they corroborate each other, they contradict each other). Swapped family and given name corroborate."""
    if not _is_named(one) or not _is_named(other):
        return False, False
    family, given = one.family == other.family, _given_agree(one.given, other.given)
    are_whole = bool(one.family and one.given)
    swapped = are_whole and one.family == other.given and one.given == other.family
    # Without a family name, or under another one with the same given name, nothing is contradicted.
    differ = bool(one.family and other.family) and not family and not (one.given and one.given == other.given)
    return (family and given) or swapped, differ and not swapped


def _given_agree(one: str, other: str) -> bool:
    """Missing or shortened given names do not disagree; whole ones must be equal.

    Of twins under one number nobody can say whether one was filed as the other or is called so (IDN-08): a doubt, which
    their custodian is told.
    """
    return not one or not other or one == other or (min(len(one), len(other)) == 1 and one[0] == other[0])


def _two_of_three(one: str, other: str) -> bool:
    parts = [(one[:4], other[:4]), (one[4:6], other[4:6]), (one[6:], other[6:])]
    return sum(a == b for a, b in parts) == 2


def _value_of(query: Query, tag: str) -> str:
    key = query.key(tag)
    return _text(key.values[0]) if key is not None else ""


def _is_wild(name: str) -> bool:
    return "*" in name or "?" in name


def _wild_name_fits(pattern: str, name: str) -> bool:
    """A typed name is a check, not a filter: it fits as a wild card, or when its words stand in the name."""
    if wildcard(folded_name(pattern.partition("=")[0])).fullmatch(folded_name(name)):
        return True
    words, letters = re.split(r"[\s^,=]+", folded_name(pattern.strip("*? "))), _letters(folded_name(name))
    return all(_letters(word) in letters for word in words)


def _name_parts(name: str) -> tuple[str, str]:
    """Family and first given name, letters only. `SMITH JOHN MR` in one component is read as such (IDN-04)."""
    components = folded_name(name).split("^")
    family, given = components[0], components[1] if len(components) > 1 else ""
    if not given and " " in family:
        family, given, *_rest = family.split(" ")
    family, given = _letters(family), _letters(given.split(" ")[0] if given else "")
    # The family's name beside it is often not the one that is registered later (IDN-08).
    if _NEWBORN_NAMES.fullmatch(family) or _NEWBORN_NAMES.fullmatch(given):
        return "", ""
    if _PLACEHOLDER_NAMES.fullmatch(family) or _TEST_NAMES.match(family):
        family = ""
    return family, "" if _PLACEHOLDER_NAMES.fullmatch(given) else given


def _birth_date(text: str) -> str:
    """A day as YYYYMMDD; empty for a placeholder, and for what is no day at all (IDN-11)."""
    digits = text.replace(".", "").replace("-", "")
    if not re.fullmatch("[0-9]{8}", digits) or digits in _PLACEHOLDER_DATES:
        return ""
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return ""
    return digits


def _sex(text: str) -> str:
    return text.upper() if text.upper() in ("M", "F") else ""


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _alphabetic(value: JsonValue) -> str:
    if isinstance(value, dict):
        return _text(value.get("Alphabetic")) or _text(value.get("Ideographic"))
    return ""


def _first(row: Attributes, tag: str) -> JsonValue:
    element = row.get(tag)
    values = element.get("Value") if element is not None else None
    return values[0] if isinstance(values, list) and values else None


def _item(item: dict[str, JsonValue], tag: str) -> JsonValue:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _text(value: JsonValue) -> str:
    return value.strip(" \0") if isinstance(value, str) else ""
