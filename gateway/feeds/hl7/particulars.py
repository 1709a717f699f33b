"""Who a message names: its patient (PID) and professionals (XCN, NDL), whatever else they mean.

NHS numbers are told by their authority, every other number is the trust's own where its authority says so; numbers of
others are left out, for a feed vouches for its own trust alone. Two different NHS numbers name nobody. Pure.
"""

from __future__ import annotations

import contextlib
import re

from gateway.feeds.hl7.reading import Fault, Field, Message, Segment, Unreadable
from gateway.feeds.hl7.times import day_of
from gateway.feeds.profile import Feed
from gateway.model.reporting.incoming import Practitioner, Subject
from policy.parties import NHS_NUMBER_OID, InvalidIdentifier, NhsNumber, PatientId

_NHS_AUTHORITIES = frozenset({"NHS", "NHS NUMBER", "NHSNUMBER", "NHSNBR", NHS_NUMBER_OID})
_NHS_TYPES = frozenset({"NH", "NHS"})
_LOCAL_TYPES = frozenset({"", "PI", "MR", "PT", "XX"})
"""Table 0203, of numbers without an authority."""
_STATUS = re.compile(r"0[1-8]")
NAME_CHARS_MAX = 200
IDENTIFIER_CHARS_MAX = 64


def subject(message: Message, feed: Feed) -> Subject:
    """Whose report a message holds; raises `Unreadable` where it names nobody, or more than one."""
    patients = list(message.all("PID"))
    if len(patients) != 1:
        raise Unreadable(Fault.SEGMENTS, "the message names no patient, or more than one")
    patient = patients[0]
    numbers: set[NhsNumber] = set()
    local: set[PatientId] = set()
    for identifier in patient.field(3).repetitions:
        _sort(identifier, feed, numbers, local)
    if len(numbers) > 1:
        raise Unreadable(Fault.VALUE, "the message names its patient by two NHS numbers")
    if not numbers and not local:
        raise Unreadable(Fault.FIELD_MISSING, "the message names its patient by no number that counts here")
    name = patient.field(5)
    status = patient.field(32).value
    return Subject(
        nhs_number=next(iter(numbers), None),
        nhs_number_status=status if _STATUS.fullmatch(status) else "",
        local=tuple(sorted(local)),
        family_name=name.component(1)[:NAME_CHARS_MAX],
        given_name=name.component(2)[:NAME_CHARS_MAX],
        birth_date=day_of(patient.field(7).value),
    )


def practitioner(field: Field, team: str = "") -> Practitioner:
    """A professional as XCN (`id^family^given`), or as NDL (`id&family&given^from^until`), the first that is named."""
    if field.is_empty:
        return Practitioner(team=team)
    if field.marks.subcomponent in field.raw_component(1):
        identifier, family, given, prefix = (field.component(1, part) for part in (1, 2, 3, 6))
    else:
        identifier, family, given, prefix = (field.component(number) for number in (1, 2, 3, 6))
        if family.isdecimal():
            # NDL whose name has one part: what follows are times.
            family = given = prefix = ""
    name = " ".join(filter(None, (prefix, given, family)))
    return Practitioner(identifier[:IDENTIFIER_CHARS_MAX], (name or identifier)[:NAME_CHARS_MAX], team)


def ordering_team(order: Segment | None) -> str:
    """Who ordered, as an organisation: ORC-21, else ORC-17."""
    if order is None:
        return ""
    entering = order.field(17)
    return (order.field(21).value or entering.component(2) or entering.value)[:NAME_CHARS_MAX]


def _sort(identifier: Field, feed: Feed, numbers: set[NhsNumber], local: set[PatientId]) -> None:
    value = identifier.value
    authority = {identifier.component(4, part).upper() for part in (1, 2)} - {""}
    kind = identifier.component(5).upper()
    if not value:
        return
    if kind in _NHS_TYPES or authority & _NHS_AUTHORITIES:
        # One that is none is as if there were none: the report is filed, its alerts go out, and its release waits.
        with contextlib.suppress(InvalidIdentifier):
            numbers.add(NhsNumber.parse(value))
        return
    own = {each.upper() for each in feed.profile.patient_authorities}
    own |= {feed.patient_issuer.upper(), feed.trust.code}
    is_own = bool(authority & own) or (not authority and kind in _LOCAL_TYPES)
    if is_own and len(value) <= IDENTIFIER_CHARS_MAX:
        local.add(PatientId(feed.patient_issuer, value))
