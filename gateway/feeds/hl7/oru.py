"""An ORU^R01 as versions of reports (HL7 v2.5 chapter 7; domain.md A4).

A message holds one result an order (OBR). Results of the same text, and verified ones without a text of their own, are
one report of several accession numbers: its verification is the latest of them, its status the least final (REL-37).
Different texts are different reports. Knows of its feed what its profile says, of patients what the message says. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from gateway.feeds.hl7 import observations, particulars, statuses
from gateway.feeds.hl7.observations import Found
from gateway.feeds.hl7.reading import Fault, Message, Segment, Unreadable
from gateway.feeds.hl7.statuses import NoStatement, Statement
from gateway.feeds.hl7.times import Stamp, stamp
from gateway.feeds.profile import Feed, Place
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, Practitioner, ReportSource, Subject
from policy.release.reports import Said, Verification, ZoneKnown
from policy.release.terms import LONDON

T = TypeVar("T", str, bytes)

ORDERS_MAX = 200
NUMBER_CHARS_MAX = 64
_FINAL = frozenset({Said.VERIFIED, Said.CORRECTED, Said.APPENDED})


@dataclass(frozen=True, slots=True)
class Received:
    """A message and what stands around it."""

    message: Message
    message_id: str
    feed: Feed
    received_at: datetime
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Result:
    """One OBR with all that belongs to it."""

    order: Segment | None
    request: Segment
    segments: tuple[Segment, ...]
    """Request and order among them."""
    says: Statement
    found: Found
    digest: str
    """Of its content: each result is compared with every other, and texts are long."""

    @property
    def filler(self) -> str:
        return _number(self.request, 3) or _number(self.order, 3)

    def values(self, place: Place) -> Iterator[str]:
        """What stands at a place, empty values left out."""
        for segment in self.segments:
            if segment.name == place.segment:
                for repetition in segment.field(place.field).repetitions:
                    if value := repetition.component(place.component):
                        yield value


def reports(received: Received) -> tuple[IncomingReport, ...]:
    """The reports of a message; none where it changes none. Raises `Unreadable`."""
    results = list(_results(received.message, received.feed))
    if not results:
        return ()
    subject = particulars.subject(received.message, received.feed)
    groups = _grouped(results)
    return tuple(_report(group, subject, received, is_only=len(groups) == 1) for group in groups)


def _results(message: Message, feed: Feed) -> Iterator[_Result]:
    """Every result that says something; raises `Unreadable` where its sender knows no such order or patient."""
    parts = list(_parts(message))
    if not parts:
        raise Unreadable(Fault.SEGMENTS, "the message holds no result (OBR)")
    if len(parts) > ORDERS_MAX:
        raise Unreadable(Fault.SEGMENTS, f"the message holds more than {ORDERS_MAX} results")
    for segments in parts:
        request = next(each for each in segments if each.name == "OBR")
        order = next((each for each in segments if each.name == "ORC"), None)
        lines = [each.field(11).value.upper() for each in segments if each.name == "OBX"]
        says = statuses.statement(request.field(25).value.upper(), lines)
        if says is NoStatement.REJECTED:
            raise Unreadable(Fault.UNKNOWN_KEY, "a result has no order or no patient on record (OBR-25 Y or Z)")
        if isinstance(says, Statement):
            links = feed.profile.image_link_codes
            found = observations.found(segments, links, appended_only=says.said is Said.APPENDED)
            yield _Result(order, request, segments, says, found, found.content.digest)


def _parts(message: Message) -> Iterator[tuple[Segment, ...]]:
    """The segments of each result: from its ORC or OBR to the next."""
    part: list[Segment] = []
    has_request = False
    for segment in message.segments:
        begins = segment.name == "ORC" or (segment.name == "OBR" and (has_request or not part))
        if begins:
            if has_request:
                yield tuple(part)
            part, has_request = [], False
        if begins or part:
            part.append(segment)
            has_request = has_request or segment.name == "OBR"
        if segment.name == "OBX" and not has_request:
            raise Unreadable(Fault.SEGMENTS, "a line of a result (OBX) stands before its result (OBR)")
    if has_request:
        yield tuple(part)


def _grouped(results: list[_Result]) -> list[list[_Result]]:
    """Results that are one report: of one order number, of one text, or verified without a text beside one that has it.

    Whatever else an order says without a text is of its own report: it stops or promotes none of the order beside it.
    """
    groups: list[list[_Result]] = []
    leading: list[_Result] = []
    for result in results:
        group = next((each for each in (*groups, leading) if any(_is_one(result, other) for other in each)), None)
        if group is not None:
            group.append(result)
        elif _shares_a_text(result):
            beside = next((each for each in reversed(groups) if _has_a_text_to_share(each)), leading)
            beside.append(result)
        elif result.found.content.is_empty:
            groups.append([result])
        else:
            groups.append([*leading, result])
            leading = []
    return [*groups, leading] if leading else groups


def _shares_a_text(result: _Result) -> bool:
    """Whether it says that it is verified and no more: of a text that another order of the message brings."""
    return result.found.content.is_empty and result.says == Statement(Said.VERIFIED)


def _has_a_text_to_share(group: list[_Result]) -> bool:
    has_text = any(not each.found.content.is_empty for each in group)
    return has_text and group[-1].says.said is not Said.CANCELLED


def _is_one(result: _Result, other: _Result) -> bool:
    if result.filler and result.filler == other.filler:
        return True
    return bool(result.digest) and result.digest == other.digest


def _report(group: list[_Result], subject: Subject, received: Received, *, is_only: bool) -> IncomingReport:
    feed = received.feed
    said = statuses.least_final({each.says.said for each in group})
    is_verified = said in _FINAL or (said is Said.TAKEN_BACK and _loses_a_part(group))
    content = _content(group)
    interpreter = _first(particulars.practitioner(each.request.field(32)) for each in group)
    accessions = _numbers(each.values(feed.profile.accession_from) for each in group)
    return IncomingReport(
        trust=feed.trust,
        feed=feed.name,
        source=ReportSource.HL7_V2,
        message_id=received.message_id,
        report_number=_report_number(group, accessions),
        said=said,
        stated_at=_stated_at(group, received, said),
        sent_at=_sent_at(received),
        verification=_verification(group, feed.profile.verification_from, interpreter.name) if is_verified else None,
        subject=subject,
        content=content,
        received_at=received.received_at,
        promotes=said is Said.VERIFIED and content.is_empty and any(each.says.promotes for each in group),
        is_administrative=said is Said.APPENDED and _is_administrative(group, feed),
        alert_codes=_alerts(group, feed, content.text),
        accessions=accessions,
        order_numbers=tuple(sorted({each.filler for each in group} - {""})),
        placer_numbers=_numbers([_number(each.request, 2) or _number(each.order, 2)] for each in group),
        study_uids=_unique(uid for each in group for uid in each.found.study_uids),
        exam=_exam(group),
        referrer=_first(
            particulars.practitioner(each.request.field(16), particulars.ordering_team(each.order)) for each in group
        ),
        interpreter=interpreter,
        # Of a message with many reports each would keep the whole of it; it is kept with the message.
        raw=received.raw if is_only else b"",
    )


def _content(group: list[_Result]) -> Content:
    texts = {" ".join(each.found.content.text.split()): each.found.content.text for each in reversed(group)}
    texts.pop("", None)
    documents = _unique(each.found.content.pdf for each in group)
    if len(documents) > 1:
        raise Unreadable(Fault.FORM, "a report has more than one document")
    elsewhere = _unique(part for each in group for part in each.found.content.elsewhere)
    return Content("\n\n".join(reversed(texts.values())), next(iter(documents), b""), elsewhere)


def _report_number(group: list[_Result], accessions: tuple[str, ...]) -> str:
    """The same in whatever order its results stand."""
    fillers = sorted({each.filler for each in group} - {""})
    placers = sorted({_number(each.request, 2) or _number(each.order, 2) for each in group} - {""})
    for numbers in (fillers, sorted(accessions), placers):
        if numbers:
            return numbers[0]
    raise Unreadable(Fault.FIELD_MISSING, "a result has no order number and no accession number")


def _stated_at(group: list[_Result], received: Received, said: Said) -> datetime:
    """When the result says that it became so, else when it was sent."""
    times = [stamp(each.request.field(22).value) for each in group]
    sent = _sent(received)
    if said not in _FINAL:
        times += [stamp(value) for each in group for value in each.values(received.feed.profile.verification_from)]
    if not any(times):
        times.append(sent)
    stated = [_within_the_day(each, sent, said) for each in times if each is not None]
    if not stated:
        # Versions are ordered by what they say: the time of arrival would make another version of each repetition.
        raise Unreadable(Fault.FIELD_MISSING, "neither the result nor the message says when (OBR-22, MSH-7)")
    return max(stated)


def _sent(received: Received) -> Stamp | None:
    return stamp(received.message.header.field(7).value)


def _sent_at(received: Received) -> datetime | None:
    """When the message was sent at the earliest."""
    sent = _sent(received)
    if sent is None:
        return None
    if sent.zone is not ZoneKnown.DATE_ONLY:
        return sent.earliest
    return sent.at.astimezone(LONDON).replace(hour=0, minute=0, second=0).astimezone(UTC)


def _within_the_day(stated: Stamp, sent: Stamp | None, said: Said) -> datetime:
    """When on its day a date alone is meant: when it was sent on that day. Of two instants the first, but of a stop.

    Where nobody can say, what vouches for a text is told at the beginning of the day, and what stops one at its end.
    """
    begins = stated.at.astimezone(LONDON).replace(hour=0, minute=0, second=0)
    if stated.zone is not ZoneKnown.DATE_ONLY:
        return stated.at if said in {Said.CANCELLED, Said.WITHDRAWN} else stated.earliest
    if sent is not None and sent.zone is not ZoneKnown.DATE_ONLY and begins <= sent.at:
        return min(stated.at, sent.at)
    return begins.astimezone(UTC) if said in _FINAL else stated.at


def _loses_a_part(group: list[_Result]) -> bool:
    """Whether a verified result deletes lines (OBX-11 `D`): the rest stays vouched for, and a person looks at it."""
    whole = [each.request.field(25).value.upper() for each in group if each.says.said is Said.TAKEN_BACK]
    return any(statuses.RESULT.get(each) in _FINAL for each in whole)


def _verification(group: list[_Result], place: Place, by: str) -> Verification:
    """The latest of all; unknown where one of them is (REL-37, domain.md A3)."""
    latest: Stamp | None = None
    for result in group:
        values = list(result.values(place))
        stamps = [stamp(value) for value in values]
        if not stamps:
            return Verification(None, by)
        for each in stamps:
            if each is None:
                return Verification(None, by)
            latest = each if latest is None or each.at >= latest.at else latest
    return Verification(latest.at, by, latest.zone) if latest is not None else Verification(None, by)


def _alerts(group: list[_Result], feed: Feed, text: str) -> tuple[str, ...]:
    codes = {feed.alert(code) for result in group for place in feed.profile.alert_from for code in result.values(place)}
    return tuple(sorted((codes | feed.alerts_in(text)) - {""}))


def _is_administrative(group: list[_Result], feed: Feed) -> bool:
    place = feed.profile.administrative_from
    if place is None:
        return False
    found = [set(each.values(place)) for each in group]
    return all(codes and codes <= feed.profile.administrative_codes for codes in found)


def _exam(group: list[_Result]) -> Exam:
    requests = [each.request for each in group]
    at = stamp(requests[0].field(7).value)
    names = _unique(request.field(4).component(2) or request.field(4).component(5) for request in requests)
    return Exam(
        codes=_unique(request.field(4).component(number) for request in requests for number in (1, 4)),
        name=", ".join(names)[: particulars.NAME_CHARS_MAX],
        modality=requests[0].field(24).value[:16],
        at=at.at if at is not None else None,
    )


def _number(segment: Segment | None, field: int) -> str:
    value = segment.field(field).value if segment is not None else ""
    if len(value) > NUMBER_CHARS_MAX:
        raise Unreadable(Fault.FORM, f"an order number is longer than {NUMBER_CHARS_MAX} characters")
    return value


def _numbers(found: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return _unique(number[:NUMBER_CHARS_MAX] for numbers in found for number in numbers)


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def _first(named: Iterable[Practitioner]) -> Practitioner:
    found = list(named)
    return next((each for each in found if each.name or each.identifier), found[0])
