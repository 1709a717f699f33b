"""Attribute matching on raw rows: does this row answer that question?

The one matcher for every door and every peer's answer, because archives ignore keys (PS3.4 C.2.2.2; domain.md D3).
A query's keys are compiled once and applied to many rows. An attribute that a row *lacks* is one the peer does not
support: the row stays and the key is reported; an attribute that is present but empty matches universal keys only.
Who the patient is is not decided here: with a patient pinned, name, birth date and sex go to the identity rules of
`gateway.sharing.identity.patients` (SAF-08), never to a silent drop. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from calendar import monthrange
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from gateway.model.imaging import STUDY_DATE, STUDY_TIME, Attributes, JsonValue, Key

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""VRs in which `*` and `?` are wild cards (PS3.4 C.2.2.2.4)."""

NEVER_MATCHED = frozenset({"00080005", "00080052", "00080201"})
"""Specific Character Set, Query/Retrieve Level, Timezone Offset: they say how to read a question (domain.md D3)."""

Test = Callable[[JsonValue], bool]
_Range = tuple[str | None, str | None]

_MOMENT = ((STUDY_DATE,), (STUDY_TIME,))

_LETTERS_WITHOUT_MARKS = str.maketrans(
    {"Ł": "L", "Ø": "O", "Đ": "D", "Ð": "D", "Ħ": "H", "Ŧ": "T", "Æ": "AE", "Œ": "OE", "Þ": "TH", "ẞ": "SS"}
)
"""Letters whose stroke or second half Unicode does not take for a mark, as English-keyboard systems write them."""


class Matcher:
    """Keys compiled for many rows; with `combined_datetime` two ranges of study date and time are one of instants."""

    def __init__(self, keys: Iterable[Key], *, combined_datetime: bool = False) -> None:
        keys = tuple(keys)
        self._instants = _instants(keys) if combined_datetime else None
        self._tests: list[tuple[str, Test]] = []
        self._absent: set[str] = set()
        sequences: dict[str, list[Key]] = {}
        for key in keys:
            test = _any_of([value_test(key.vr, value) for value in key.values])
            if test is _always or key.path[0] in NEVER_MATCHED:
                continue  # no more than a wish to see the attribute
            if self._instants is not None and key.path in _MOMENT:
                continue
            if len(key.path) > 1:
                sequences.setdefault(key.path[0], []).append(Key(key.path[1:], key.vr, key.values))
            else:
                self._tests.append((key.path[0], test))
        self._items = {tag: Matcher(inner) for tag, inner in sequences.items()}

    @property
    def unsupported(self) -> set[str]:
        """Tags of the keys that some row, or some item of its sequences, did not carry."""
        return self._absent | {tag for tag, items in self._items.items() if items.unsupported}

    def matches(self, row: Attributes) -> bool:
        """Whether every key that the row can answer is satisfied."""
        if not self._tests and not self._items and self._instants is None:
            return True
        if self._instants is not None and not self._within(self._instants, row):
            return False
        for tag, test in self._tests:
            if not self._satisfied(tag, test, row):
                return False
        return not self._items or all(self._sequence_matches(tag, items, row) for tag, items in self._items.items())

    def _satisfied(self, tag: str, test: Test, row: Attributes) -> bool:
        element = row.get(tag)
        if element is None:
            self._absent.add(tag)
            return True
        values = element.get("Value")
        if not isinstance(values, list) or not values:
            return test(None)
        return test(values[0]) if len(values) == 1 else any(test(value) for value in values)

    def _within(self, instants: _Range, row: Attributes) -> bool:
        """Whether the study may have begun in the range: a day without a time may have any (PS3.4 C.2.2.2.5)."""
        self._absent.update(tag for (tag,) in _MOMENT if tag not in row)
        if STUDY_DATE not in row:
            return True
        date, time = _first(row, STUDY_DATE), _first(row, STUDY_TIME)
        if not _READABLE["DA"].fullmatch(date):
            return False
        if not _READABLE["TM"].fullmatch(time):
            time = ""
        low, high = instants
        return (low is None or _latest("DA", date)[:8] + _latest("TM", time) >= low) and (
            high is None or _earliest("DA", date)[:8] + _earliest("TM", time) <= high
        )

    def _sequence_matches(self, tag: str, items: Matcher, row: Attributes) -> bool:
        """At least one item satisfies all of the item's keys (PS3.4 C.2.2.2.6)."""
        element = row.get(tag)
        if element is None:
            self._absent.add(tag)
            return True
        values = element.get("Value")
        if not isinstance(values, list):
            return False
        return any(items.matches(item) for item in values if isinstance(item, dict))  # type: ignore[arg-type]  # items are elements by the reader's contract


def are_instants(keys: Sequence[Key]) -> bool:
    """Whether study date and study time are both ranges, so that combined they mean one range of instants."""
    return _instants(keys) is not None


def value_test(vr: str, pattern: str) -> Test:
    """The test of one value against one pattern; the value None stands for an attribute without a value."""
    pattern = _unpadded(pattern)
    if pattern == "" or (vr in WILDCARD_VRS and not pattern.strip("*")):
        return _always
    if vr == "PN":
        return _person_name(pattern)
    if vr in ("DA", "TM", "DT"):
        return _temporal(vr, pattern)
    if vr in ("IS", "DS", "SL", "SS", "UL", "US", "FL", "FD", "SV", "UV"):
        return _numeric(pattern)
    if vr in WILDCARD_VRS and ("*" in pattern or "?" in pattern):
        wild = wildcard(pattern)
        return lambda value: isinstance(value, str) and wild.fullmatch(value.strip(" ")) is not None
    return lambda value: isinstance(value, str) and _unpadded(value) == pattern


@lru_cache(maxsize=1024)
def wildcard(pattern: str) -> re.Pattern[str]:
    """`*` for any run, `?` for exactly one character, all else literal.

    Between two `*` the first place that fits is the best one, so each such run is an atomic group: matching stays
    linear in the value, whatever a caller types.
    """
    head, *rest = (_literal(piece) for piece in re.split(r"\*+", pattern))
    if not rest:
        return re.compile(head, re.DOTALL)
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(f"{head}{middle}.*{rest[-1]}", re.DOTALL)


def folded_name(name: str) -> str:
    """A person's name for comparison: marks stripped, upper case, insignificant carets and spaces gone (IDN-03)."""
    stripped = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    plain = stripped.upper().translate(_LETTERS_WITHOUT_MARKS)
    components = [" ".join(component.split()) for component in plain.split("^")]
    return "^".join(components).rstrip("^")


def _literal(piece: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in piece)


def _always(_value: JsonValue) -> bool:
    return True


def _any_of(tests: Sequence[Test]) -> Test:
    if _always in tests:
        return _always
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _unpadded(text: str) -> str:
    return text.strip(" \0")


def _person_name(pattern: str) -> Test:
    """Case- and accent-insensitive, against each component group, or against the whole if the pattern has `=`."""
    folded = "=".join(folded_name(group) for group in pattern.split("=")).rstrip("=")
    wild = wildcard(folded)
    is_whole = "=" in folded

    def test(value: JsonValue) -> bool:
        if not isinstance(value, dict):
            return False
        groups = [folded_name(group) for group in _groups(value)]
        if is_whole:
            return wild.fullmatch("=".join(groups).rstrip("=")) is not None
        return any(wild.fullmatch(group) or wild.fullmatch(_with_all_carets(group)) for group in groups if group)

    return test


def _with_all_carets(group: str) -> str:
    """A name with its empty components written out: `SMITH^*` means SMITH too, who has no given name."""
    return group + "^" * (4 - group.count("^"))


def _groups(name: dict[str, JsonValue]) -> list[str]:
    values = [name.get(group) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return [value if isinstance(value, str) else "" for value in values]


def _temporal(vr: str, pattern: str) -> Test:
    """Single value or inclusive range; an end given less precisely covers all of its unit (PS3.4 C.2.2.2.5)."""
    low, high = _bounds(vr, pattern)
    if low is not None and high is not None and low > high:
        return lambda _value: False

    def test(value: JsonValue) -> bool:
        text = _unpadded(value) if isinstance(value, str) else ""
        if not _READABLE[vr].fullmatch(text):
            return False
        start, end = _earliest(vr, text), _latest(vr, text)
        return (low is None or end >= low) and (high is None or start <= high)

    return test


def _bounds(vr: str, pattern: str) -> tuple[str | None, str | None]:
    parts = re.fullmatch(_DT_RANGE if vr == "DT" else r"([^-]*)-([^-]*)", pattern)
    # A lone DT may end in an offset such as -0500, which is no range (PS3.5 6.2).
    if vr == "DT" and re.fullmatch(r"\d{4,14}(?:\.\d{1,6})?-(0\d|1[0-2])\d\d", pattern):
        parts = None
    if parts is None:
        return _earliest(vr, pattern), _latest(vr, pattern)
    first, last = parts.group(1).strip(), parts.group(2).strip()
    return (_earliest(vr, first) if first else None), (_latest(vr, last) if last else None)


_DT = r"\d{4,14}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_DT_RANGE = re.compile(rf"(?=.)((?:{_DT})?)-((?:{_DT})?)")
_READABLE = {
    "DA": re.compile(r"[0-9]{4}(?:[.-]?[0-9]{2}(?:[.-]?[0-9]{2})?)?"),
    "TM": re.compile(r"[0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:\.[0-9]{1,6})?)?)?"),
    "DT": re.compile(r"[0-9]{4}(?:[0-9]{2}){0,5}(?:\.[0-9]{1,6})?(?:[+-][0-9]{4})?"),
}
"""Values that say when; what an archive writes besides (`UNKNOWN`) lies in no range, not even an open one."""
_EARLIEST = {"DA": "00010101", "TM": "000000", "DT": "00010101000000"}
_LATEST = {"DA": "99991231", "TM": "235959", "DT": "99991231235959"}


def _earliest(vr: str, text: str) -> str:
    whole, fraction, offset_minutes = _components(vr, text)
    return _shifted(whole + _EARLIEST[vr][len(whole) :], offset_minutes) + fraction.ljust(6, "0")


def _latest(vr: str, text: str) -> str:
    whole, fraction, offset_minutes = _components(vr, text)
    if vr == "DT" and len(whole) in (4, 6):
        whole = _last_day(whole[:4] + (whole[4:] or "12"))
    return _shifted(whole + _LATEST[vr][len(whole) :], offset_minutes) + fraction.ljust(6, "9")


def _last_day(month: str) -> str:
    """The last day of a month; the thirty-first would be no instant that an offset could shift."""
    try:
        return f"{month}{monthrange(int(month[:4]), int(month[4:]))[1]:02}"
    except ValueError:
        return month


def _components(vr: str, text: str) -> tuple[str, str, int]:
    """Digits before and after the point, and the offset from UTC in minutes (0 if none is given).

    The old forms `1997.08.01` and `10:30:00` are read too (PS3.5 6.2, notes on DA and TM), and ISO's `1997-08-01`.
    """
    if vr == "DA":
        return re.sub(r"[.-]", "", text), "", 0
    offset = re.search(r"([+-])(\d\d)(\d\d)$", text) if vr == "DT" else None
    minutes = (
        (int(offset.group(2)) * 60 + int(offset.group(3))) * (-1 if offset.group(1) == "-" else 1) if offset else 0
    )
    whole, _, fraction = (text[: offset.start()] if offset else text).replace(":", "").partition(".")
    return whole, fraction, minutes


def _shifted(stamp: str, offset_minutes: int) -> str:
    if not offset_minutes:
        return stamp
    try:
        instant = datetime.strptime(stamp, "%Y%m%d%H%M%S") - timedelta(minutes=offset_minutes)  # noqa: DTZ007  # UTC by construction
    except (ValueError, OverflowError):
        return stamp
    return f"{instant.year:04}{instant:%m%d%H%M%S}"


def _instants(keys: Sequence[Key]) -> _Range | None:
    """The first and last instant that two ranges mean; None unless both are ranges. Open ends stay open by the date."""
    ranges = {key.path: key.values[0] for key in keys if key.path in _MOMENT and len(key.values) == 1}
    if len(ranges) < len(_MOMENT) or not all("-" in text for text in ranges.values()):
        return None
    (first_day, last_day), (first_time, last_time) = (
        _bounds(vr, _unpadded(ranges[path])) for vr, path in zip(("DA", "TM"), _MOMENT, strict=True)
    )
    return (
        first_day and first_day[:8] + (first_time or _earliest("TM", "")),
        last_day and last_day[:8] + (last_time or _latest("TM", "")),
    )


def _first(row: Attributes, tag: str) -> str:
    values = row[tag].get("Value") if tag in row else None
    value = values[0] if isinstance(values, list) and values else None
    return _unpadded(value) if isinstance(value, str) else ""


def _numeric(pattern: str) -> Test:
    wanted = _number(pattern)
    if wanted is None:
        return lambda value: isinstance(value, str) and _unpadded(value) == pattern
    return lambda value: _number(value) == wanted


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")


def _number(value: JsonValue) -> Decimal | None:
    """The exact number, for 64-bit integers differ where floating point cannot tell; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        text = str(value).strip(" \0")
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    except (ValueError, InvalidOperation):  # longer than Python writes out, or beyond the greatest exponent
        return None
