"""Reports that arrive as DICOM: structured reports and encapsulated PDFs become versions of a report (domain.md A4).

A structured report is verified only where it is complete, verified and not preliminary, all three (PS3.3 C.17.2); its
clock starts with the latest of its verifying observers. What does not say that it was verified vouches for nothing,
and takes nothing back either but what it amends, by its predecessors: another feed says so or nobody does; an addendum
that is being written leaves its report as it is. An unverified structured report belongs to a report only by an order
number or a predecessor, for a modality sends its measurements under the accession number too. Whose report it is, is
told from outside, where identities are known. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone

import orjson

from gateway.instances.description import describe
from gateway.instances.documents import read_report, wrapped_document
from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    SOP_CLASS_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_UID,
    Attributes,
    JsonValue,
)
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, Practitioner, ReportSource, Subject
from policy.parties import TrustId
from policy.release.reports import Said, Verification, ZoneKnown
from policy.release.terms import LONDON

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
STRUCTURED_REPORTS = frozenset({BASIC_TEXT_SR, ENHANCED_SR, COMPREHENSIVE_SR})
REPORT_CLASSES = STRUCTURED_REPORTS | {ENCAPSULATED_PDF}
"""What is read as a report when a trust stores it."""
PDF_BYTES_MAX = 32 * 1024 * 1024

COMPLETION, VERIFICATION, PRELIMINARY = "0040A491", "0040A493", "0040A496"
VERIFYING_OBSERVERS, VERIFIED_AT = "0040A073", "0040A030"
OBSERVER_NAME, OBSERVER_ORGANISATION, OBSERVER_CODE = "0040A075", "0040A027", "0040A088"
PREDECESSORS, REQUESTS, EVIDENCE = "0040A360", "0040A370", "0040A375"
PLACER_NUMBER, FILLER_NUMBER = "00402016", "00402017"
MIME_TYPE, DOCUMENT_LENGTH, DOCUMENT_TITLE = "00420012", "00420015", "00420010"
TITLE, CONTENT_DATE, CONTENT_TIME = "0040A043", "00080023", "00080033"

_OFFSET, _MEANING, _CODE = "00080201", "00080104", "00080100"
_REQUESTED_CODE, _REQUESTED_NAME, _PROCEDURE_CODE, _STUDY_NAME = "00321064", "00321060", "00081032", "00081030"
_REFERRER, _REQUESTING, _SERIES, _SOPS, _SOP = "00080090", "00321032", "00081115", "00081199", "00081155"
_ADDENDUM_CODES = frozenset({"55107-7"})
"""LOINC's document title of an addendum."""
_DT = re.compile(r"(\d{8})(?:(\d{2})(\d{2})?(\d{2})?(?:\.\d{1,6})?)?([+-]\d{4})?")
_OFFSET_FORM = re.compile(r"([+-])(\d{2})(\d{2})")
_DOCUMENT = 0x00420011
Dataset = Mapping[str, JsonValue]
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How an instance came, and whose it is: what its own bytes do not decide."""

    trust: TrustId
    feed: str
    received_at: datetime
    subject: Subject


@dataclass(frozen=True, slots=True)
class Stated:
    """An instant as a data set states it."""

    at: datetime
    zone: ZoneKnown


def read(body: bytes, transfer_syntax: str, arrival: Arrival) -> IncomingReport:
    """The version of a report that an encoded instance is.

    Raises `NotFound` for an instance that is no report, `InvalidRequest` for one that cannot be read whole.
    """
    described = describe(body, transfer_syntax, is_whole=True)
    if described is None:
        raise InvalidRequest("the report cannot be read")
    dataset: Dataset = orjson.loads(described.json)
    sop_class = _text(dataset, SOP_CLASS_UID)
    if sop_class == ENCAPSULATED_PDF:
        return _pdf_report(dataset, _pdf(body, transfer_syntax, dataset), arrival)
    if sop_class in STRUCTURED_REPORTS:
        return _structured_report(dataset, orjson.loads(described.json), arrival)
    raise NotFound("the instance is no report")


def stated(text: str, offset: str = "") -> Stated | None:
    """The instant of a DT value; `offset` is the data set's own (0008,0201). None: it cannot be read, or is no day.

    Without either it is London's, the later of two readings; a day alone is over at its end (domain.md A3).
    """
    matched = _DT.fullmatch(text.strip(" \0"))
    if matched is None:
        return None
    day, hour, minute, second, own = matched.groups()
    try:
        date = datetime.strptime(day, "%Y%m%d").date()  # noqa: DTZ007  # a day, not an instant
        at = time(23, 59, 59) if hour is None else time(int(hour), int(minute or 0), min(int(second or 0), 59))
        zone = _zone(own or offset)
    except ValueError:
        return None
    wall = datetime.combine(date, at)
    if zone is not None:
        instant = wall.replace(tzinfo=zone).astimezone(UTC)
    else:
        instant = max(wall.replace(tzinfo=LONDON, fold=fold).astimezone(UTC) for fold in (0, 1))
    known = ZoneKnown.ASSUMED if zone is None else ZoneKnown.STATED
    return Stated(instant, ZoneKnown.DATE_ONLY if hour is None else known)


def _structured_report(dataset: Dataset, attributes: Attributes, arrival: Arrival) -> IncomingReport:
    if _is_addressed(dataset):
        raise InvalidRequest("a text of the report is too long to be read")
    verification, interpreter = _verification(dataset)
    is_whole = _text(dataset, COMPLETION) == "COMPLETE" and _text(dataset, PRELIMINARY) != "PRELIMINARY"
    if not is_whole or verification is None:
        said = Said.PRELIMINARY
    elif not _items(dataset, PREDECESSORS):
        said = Said.VERIFIED
    else:
        said = Said.APPENDED if _is_addendum(dataset) else Said.CORRECTED
    content = Content(text=read_report(attributes).body())
    return _report(dataset, arrival, ReportSource.DICOM_SR, said, verification, interpreter, content)


def _pdf_report(dataset: Dataset, pdf: bytes, arrival: Arrival) -> IncomingReport:
    verification, interpreter = _verification(dataset)
    said = Said.PRELIMINARY if verification is None else Said.VERIFIED
    return _report(dataset, arrival, ReportSource.DICOM_PDF, said, verification, interpreter, Content(pdf=pdf))


def _report(
    dataset: Dataset,
    arrival: Arrival,
    source: ReportSource,
    said: Said,
    verification: Verification | None,
    interpreter: Practitioner,
    content: Content,
) -> IncomingReport:
    requests = _items(dataset, REQUESTS)
    accessions = _distinct((*_of_each(requests, ACCESSION_NUMBER), _text(dataset, ACCESSION_NUMBER)))
    fillers, placers = _distinct(_of_each(requests, FILLER_NUMBER)), _distinct(_of_each(requests, PLACER_NUMBER))
    predecessors = tuple(_predecessors(dataset))
    is_draft = source is ReportSource.DICOM_SR and said is Said.PRELIMINARY
    if is_draft and not fillers:
        accessions = placers = ()
    studies = (_text(item, STUDY_UID) for item in _items(dataset, EVIDENCE))
    number = next(iter((*fillers, *accessions, *placers, *predecessors, _text(dataset, SOP_UID))))
    return IncomingReport(
        trust=arrival.trust,
        feed=arrival.feed,
        source=source,
        message_id=_text(dataset, SOP_UID),
        report_number=number,
        said=said,
        stated_at=_stated_at(dataset, arrival, said, verification),
        # Of what is not verified nobody says when it was.
        verification=verification if said is not Said.PRELIMINARY else None,
        subject=arrival.subject,
        content=content,
        received_at=arrival.received_at,
        accessions=accessions,
        order_numbers=fillers,
        placer_numbers=placers,
        predecessors=predecessors if source is ReportSource.DICOM_SR else (),
        study_uids=_distinct((_text(dataset, STUDY_UID), *studies)),
        exam=_exam(dataset, requests),
        referrer=Practitioner(name=_text(dataset, _REFERRER) or next(iter(_of_each(requests, _REQUESTING)), "")),
        interpreter=interpreter,
    )


def _verification(dataset: Dataset) -> tuple[Verification | None, Practitioner]:
    """When and by whom it was verified, the latest of several; of one that nobody can date, when is not known."""
    if _text(dataset, VERIFICATION) != "VERIFIED":
        return None, Practitioner()
    observers = _items(dataset, VERIFYING_OBSERVERS)
    said = [(stated(_text(each, VERIFIED_AT), _text(dataset, _OFFSET)), each) for each in observers]
    known = [(when, each) for when, each in said if when is not None]
    if not known or len(known) < len(said):
        who = observers[0] if observers else {}
        return Verification(None, _text(who, OBSERVER_NAME)), _practitioner(who)
    latest, who = max(known, key=lambda pair: pair[0].at)
    return Verification(latest.at, _text(who, OBSERVER_NAME), latest.zone), _practitioner(who)


def _stated_at(dataset: Dataset, arrival: Arrival, said: Said, verification: Verification | None) -> datetime:
    """When it became so. What nobody vouches for and follows nothing stands before whatever another feed says.

    So it stands at the beginning of its study; of several the newer one a little later.
    """
    made = _moment(dataset, CONTENT_DATE, CONTENT_TIME) or _moment(dataset, "00080012", "00080013")
    if said is Said.PRELIMINARY and (_is_addendum(dataset) or not any(_predecessors(dataset))):
        began = _moment(dataset, STUDY_DATE, STUDY_TIME)
        if began is None or began >= arrival.received_at:
            began = _LONG_AGO
        after = min(made or arrival.received_at, arrival.received_at) - began
        return began + max(after, timedelta()) / 1_000_000
    if verification is not None and verification.at is not None:
        return verification.at
    return made or arrival.received_at


def _pdf(body: bytes, transfer_syntax: str, dataset: Dataset) -> bytes:
    if _text(dataset, MIME_TYPE).lower() != "application/pdf":
        raise InvalidRequest("the wrapped document is no pdf")
    # Spans of a deflated data set would be those of the inflated one: nobody sends documents so.
    found = wrapped_document(body, transfer_syntax, is_whole=True)
    if found is None or found.data_bytes > PDF_BYTES_MAX:
        raise InvalidRequest(f"the wrapped document is longer than {PDF_BYTES_MAX:,} bytes")
    real = _number(dataset, DOCUMENT_LENGTH)
    length = real if real is not None and 0 < real <= found.data_bytes else found.data_bytes
    pdf = bytes(body[found.first : found.first + length])
    if not pdf.startswith(b"%PDF-"):
        raise InvalidRequest("the wrapped document is no pdf")
    return pdf


def _exam(dataset: Dataset, requests: Sequence[Dataset]) -> Exam:
    coded = [item for each in requests for item in _items(each, _REQUESTED_CODE)] + _items(dataset, _PROCEDURE_CODE)
    names = (*_of_each(requests, _REQUESTED_NAME), *_of_each(coded, _MEANING), _text(dataset, _STUDY_NAME))
    return Exam(
        codes=_distinct(_of_each(coded, _CODE)),
        name=next((name for name in names if name), ""),
        body_region=_text(dataset, "00180015"),
        at=_moment(dataset, STUDY_DATE, STUDY_TIME),
    )


def _is_addendum(dataset: Dataset) -> bool:
    """By its title, or by that of the one part that it has."""
    parts = _items(dataset, "0040A730")
    titled = [dataset, *parts] if len(parts) == 1 else [dataset]
    titles = [title for each in titled for title in _items(each, TITLE)]
    return any(_text(each, _CODE) in _ADDENDUM_CODES or _is_so_called(_text(each, _MEANING)) for each in titles)


def _is_so_called(meaning: str) -> bool:
    return meaning.lower().startswith("addendum")


def _predecessors(dataset: Dataset) -> Iterator[str]:
    for study in _items(dataset, PREDECESSORS):
        for series in _items(study, _SERIES):
            yield from _of_each(_items(series, _SOPS), _SOP)


def _is_addressed(dataset: Dataset) -> bool:
    """Whether some text of the content was too long to be described, and stands there as an address alone."""
    items = [item for item in _values(dataset, "0040A730") if isinstance(item, dict)]
    return any("BulkDataURI" in element for element in dataset.values() if isinstance(element, dict)) or any(
        _is_addressed(item) for item in items
    )


def _practitioner(observer: Dataset) -> Practitioner:
    codes = _of_each(_items(observer, OBSERVER_CODE), _CODE)
    return Practitioner(
        next(iter(codes), ""), _text(observer, OBSERVER_NAME), team=_text(observer, OBSERVER_ORGANISATION)
    )


def _zone(offset: str) -> timezone | None:
    matched = _OFFSET_FORM.fullmatch(offset.strip(" \0"))
    if matched is None:
        return None
    sign, hours, minutes = matched.groups()
    return timezone((-1 if sign == "-" else 1) * timedelta(hours=int(hours), minutes=int(minutes)))


def _moment(dataset: Dataset, day: str, at: str) -> datetime | None:
    found = stated(_text(dataset, day) + _text(dataset, at).split(".")[0], _text(dataset, _OFFSET))
    return found.at if found is not None else None


def _of_each(items: Iterable[Dataset], tag: str) -> list[str]:
    return [text for item in items if (text := _text(item, tag))]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def _items(dataset: Dataset, tag: str) -> list[Dataset]:
    return [value for value in _values(dataset, tag) if isinstance(value, dict)]


def _values(dataset: Dataset, tag: str) -> list[JsonValue]:
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else []


def _number(dataset: Dataset, tag: str) -> int | None:
    value = next(iter(_values(dataset, tag)), None)
    return value if isinstance(value, int) else None


def _text(dataset: Dataset, tag: str) -> str:
    """The first value as words."""
    value = next(iter(_values(dataset, tag)), None)
    if isinstance(value, dict):
        value = value.get("Alphabetic") or value.get("Ideographic")
    return "" if value is None else str(value)
