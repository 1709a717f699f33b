"""What a search for DiagnosticReport asks (FHIR R4 3.1.1): one patient by NHS number, and filters of date and status.

A parameter that is not known is ignored and said to be (3.1.1.1.2); one that is known and cannot be read is refused.
Nothing here is put into words that are shown: a number in an error would stand in logs of proxies. Pure.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from gateway.model.errors import InvalidRequest, QueryTooBroad
from policy.parties import InvalidIdentifier, NhsNumber

NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
LONDON = ZoneInfo("Europe/London")
"""Where a day without a zone is meant."""
COUNT_USUAL, COUNT_MAX = 20, 50
PARAMETERS_MAX = 20
VALUE_CHARS_MAX = 200
STATUSES = frozenset(
    "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown".split()
)
_PATIENT = frozenset({"patient:identifier", "subject:identifier", "patient.identifier", "subject.identifier"})
_FORMATS = frozenset({"json", "application/json", "application/fhir+json", "text/json"})
_DATE = re.compile(
    r"(eq|ge|le|gt|lt|sa|eb)?(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2}))?(Z|[+-]\d{2}:\d{2})?)?)?)?"
)
_Within = Callable[[datetime, datetime, datetime], bool]
_COMPARISONS: MappingProxyType[str, _Within] = MappingProxyType(
    {
        "eq": lambda at, low, high: low <= at < high,
        "ge": lambda at, low, high: at >= low,
        "le": lambda at, low, high: at < high,
        "gt": lambda at, low, high: at >= high,
        "sa": lambda at, low, high: at >= high,
        "lt": lambda at, low, high: at < low,
        "eb": lambda at, low, high: at < low,
    }
)
"""Whether an instant stands so to the span that a date means, which ends before `high`."""


@dataclass(frozen=True, slots=True)
class DateFilter:
    """One `date` of a search."""

    comparison: str
    low: datetime
    high: datetime

    def takes(self, at: datetime | None) -> bool:
        """Whether an examination at this instant is meant; one of which nobody knows when may be."""
        return at is None or _COMPARISONS[self.comparison](at, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked."""

    patient: NhsNumber
    dates: tuple[DateFilter, ...] = ()
    statuses: frozenset[str] = frozenset()
    """Empty: any."""
    count: int = COUNT_USUAL
    ignored: tuple[str, ...] = ()
    """Names of parameters that mean nothing here."""


def parse(pairs: Iterable[tuple[str, str]]) -> Search:
    """What these parameters ask; raises `InvalidRequest`, `QueryTooBroad`."""
    patient: NhsNumber | None = None
    dates, statuses, count, ignored = [], frozenset[str](), COUNT_USUAL, []
    for number, (name, value) in enumerate(pairs):
        if number >= PARAMETERS_MAX or len(value) > VALUE_CHARS_MAX:
            raise InvalidRequest("the search has too many or too long parameters")
        if name in _PATIENT:
            found = _number(value)
            if patient not in (None, found):
                raise InvalidRequest("a search names one patient")
            patient = found
        elif name == "date":
            dates.append(date_filter(value))
        elif name == "status":
            statuses = _statuses(value)
        elif name == "_count":
            count = _count(value)
        elif name == "_format":
            if value not in _FORMATS:
                raise InvalidRequest("answers are application/fhir+json alone")
        else:
            ignored.append(name)
    if patient is None:
        raise QueryTooBroad(f"a search names one patient: patient:identifier={NHS_NUMBER_SYSTEM}|[NHS number]")
    return Search(patient, tuple(dates), statuses, count, tuple(ignored))


def date_filter(value: str) -> DateFilter:
    """A date of a search: what it says alone, or with what stands before it; raises `InvalidRequest`."""
    matched = _DATE.fullmatch(value)
    if matched is None:
        raise InvalidRequest("a date is written as in FHIR: ge2026-01-31, or an instant with its zone")
    prefix, year, month, day, hour, minute, second, zone = matched.groups()
    try:
        first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=LONDON)
        if hour is not None:
            wall = datetime.combine(first, time(int(hour), int(minute), int(second or 0)))
            whole = wall.replace(tzinfo=LONDON) if zone is None else datetime.fromisoformat(f"{wall.isoformat()}{zone}")
            low = whole.astimezone(UTC)
            return DateFilter(prefix or "eq", low, low + timedelta(seconds=1 if second else 60))
        last = datetime(
            int(year), int(month or 12), int(day or monthrange(int(year), int(month or 12))[1]), tzinfo=LONDON
        )
        return DateFilter(prefix or "eq", first.astimezone(UTC), (last + timedelta(days=1)).astimezone(UTC))
    except (ValueError, OverflowError):
        raise InvalidRequest("a date that there is not") from None


def _number(value: str) -> NhsNumber:
    system, bar, digits = value.rpartition("|")
    if bar and system not in ("", NHS_NUMBER_SYSTEM):
        raise InvalidRequest(f"a patient is named by NHS number: {NHS_NUMBER_SYSTEM}")
    try:
        return NhsNumber.parse(digits)
    except InvalidIdentifier:
        raise InvalidRequest("that is no NHS number") from None


def _statuses(value: str) -> frozenset[str]:
    named = frozenset(value.split(","))
    if not named <= STATUSES:
        raise InvalidRequest("a status is one of those of DiagnosticReport")
    return named


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise InvalidRequest("_count is a whole number")
    return min(int(value), COUNT_MAX)
