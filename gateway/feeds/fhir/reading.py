"""A FHIR R4 DiagnosticReport as a version of a report (domain.md A4).

`issued` is the time of this version and needs a zone; `resultsInterpreter` verified it, the requester of what it is
based on is the referrer. What is presented is taken as it is: plain text, HTML and RTF as text, one PDF. Each form is
the whole report. Where none came, a conclusion is the report only if nothing says that there is more of it. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime

from gateway.feeds import documents
from gateway.feeds.documents import NotADocument
from gateway.feeds.fhir.resources import (
    NOTHING,
    NotAReport,
    Received,
    Resource,
    child,
    codes,
    id_of,
    identifiers,
    items,
    long_text,
    read,
    text,
)
from gateway.feeds.hl7.escapes import tidy
from gateway.feeds.profile import Feed
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, Practitioner, ReportSource, Subject
from gateway.model.reporting.seams import FeedMessage
from policy.parties import InvalidIdentifier, NhsNumber, PatientId
from policy.release.reports import Said, Verification

KIND = "DiagnosticReport"
NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
UID_SYSTEM = "urn:dicom:uid"
NUMBER_CHARS_MAX = 64
STATUS: dict[str, Said] = {
    **dict.fromkeys(("registered", "partial", "preliminary", "unknown"), Said.PRELIMINARY),
    "final": Said.VERIFIED,
    "amended": Said.CORRECTED,
    "corrected": Said.CORRECTED,
    "appended": Said.APPENDED,
    "cancelled": Said.CANCELLED,
    "entered-in-error": Said.WITHDRAWN,
}
"""DiagnosticReport.status, the whole of its closed list."""

_FINAL = frozenset({Said.VERIFIED, Said.CORRECTED, Said.APPENDED})
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")
_UID = re.compile(r"(?=.{1,64}$)(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_STATUS_URL = "NHSNumberVerificationStatus"
_STATUS_CODE = re.compile(r"0[1-8]")
_STATUS_WORDS = {"number-present-and-verified": "01", "number-present-but-not-traced": "02"}
_RTF_TYPES = frozenset({"text/rtf", "application/rtf"})


def read_message(raw: bytes, feed: Feed, received_at: datetime) -> tuple[FeedMessage, NotAReport | None]:
    """Read a request's body; a message without reports and what was wrong where it cannot be read. Raises nothing."""
    digest = hashlib.sha256(raw).hexdigest()
    try:
        received = read(raw)
        name = _name(received, digest)
        reports = tuple(
            _report(each, received, feed, received_at, name, raw if len(received.reports) == 1 else b"")
            for each in received.reports
        )
    except (NotAReport, NotADocument) as error:
        wrong = error if isinstance(error, NotAReport) else NotAReport("invalid", str(error))
        return FeedMessage(feed.trust, feed.name, digest, KIND, received_at, problem=str(wrong), raw=raw), wrong
    return FeedMessage(feed.trust, feed.name, name, KIND, received_at, reports, raw=raw), None


def instant(value: str) -> datetime | None:
    """An instant of R4, whose zone is stated; None where it is none."""
    if not _INSTANT.fullmatch(value):
        return None
    try:
        found = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found


def _name(received: Received, digest: str) -> str:
    """How the message is called: a resource by its id and version where it says both, else by its bytes."""
    if len(received.resources) == 1:
        report = received.resources[0]
        version = text(child(report, "meta"), "versionId")
        if id_of(report) and re.fullmatch(r"[A-Za-z0-9.-]{1,64}", version):
            return f"{KIND}/{id_of(report)}/{version}"
    return digest


def _report(
    report: Resource, received: Received, feed: Feed, received_at: datetime, name: str, raw: bytes
) -> IncomingReport:
    said = STATUS.get(text(report, "status"))
    if said is None:
        raise NotAReport("code-invalid", "the report's status is none of R4")
    issued = instant(text(report, "issued"))
    sent_at = _sent_at(report, received)
    stated_at = issued or sent_at
    if stated_at is None:
        # Versions are ordered by what they say: the time of arrival would make another version of each repetition.
        raise NotAReport("required", "neither the report nor the bundle says when (issued, lastUpdated, timestamp)")
    requests = [received.resolve(each, report) for each in items(report, "basedOn")]
    studies = [received.resolve(each, report) for each in items(report, "imagingStudy")]
    interpreter = _named(next(iter(items(report, "resultsInterpreter")), NOTHING), received, report)
    content = _content(report, received)
    accessions = _numbers(report, *requests, *studies, kinds=("ACSN", "FILL"))
    return IncomingReport(
        trust=feed.trust,
        feed=feed.name,
        source=ReportSource.FHIR,
        message_id=name,
        report_number=_report_number(report, accessions),
        said=said,
        stated_at=stated_at,
        sent_at=sent_at,
        verification=Verification(issued, interpreter.name) if said in _FINAL else None,
        subject=_subject(child(report, "subject"), received, report, feed),
        content=content,
        received_at=received_at,
        alert_codes=_alerts(report, feed, content.text),
        accessions=accessions,
        order_numbers=tuple(sorted(set(identifiers(report, "FILL")) - {""})),
        resource_id=id_of(report),
        placer_numbers=_numbers(*requests, *_logical(report, "basedOn"), kinds=("PLAC", "")),
        study_uids=tuple(dict.fromkeys(_uids([*studies, *_logical(report, "imagingStudy")]))),
        exam=_exam(report, studies),
        referrer=_referrer(requests, received, report),
        interpreter=interpreter,
        raw=raw,
    )


def _sent_at(report: Resource, received: Received) -> datetime | None:
    """When its server changed the report, or sent it: the later."""
    times = (text(child(report, "meta"), "lastUpdated"), received.timestamp)
    return max(filter(None, map(instant, times)), default=None)


def _subject(reference: Resource, received: Received, report: Resource, feed: Feed) -> Subject:
    patient = received.resolve(reference, report)
    named = [*items(patient, "identifier"), *filter(None, [child(reference, "identifier")])]
    numbers: set[NhsNumber] = set()
    local: set[PatientId] = set()
    status = ""
    for identifier in named:
        system, value = text(identifier, "system"), text(identifier, "value")
        if system == NHS_NUMBER_SYSTEM:
            try:
                numbers.add(NhsNumber.parse(value))
            except InvalidIdentifier:
                continue
            status = status or _number_status(identifier)
        elif value and (not system or system in feed.profile.patient_authorities):
            local.add(PatientId(feed.patient_issuer, value[:NUMBER_CHARS_MAX]))
    if len(numbers) > 1:
        raise NotAReport("invalid", "the report names its patient by two NHS numbers")
    if not numbers and not local:
        raise NotAReport("required", "the report names its patient by no number that counts here")
    names = items(patient, "name")
    name = next((each for each in names if text(each, "use") in ("usual", "official")), next(iter(names), NOTHING))
    given = name.get("given")
    first = given[0] if isinstance(given, list) and given else ""
    return Subject(
        nhs_number=next(iter(numbers), None),
        nhs_number_status=status,
        local=tuple(sorted(local)),
        family_name=text(name, "family"),
        given_name=text({"given": first}, "given"),
        birth_date=_day(text(patient, "birthDate")),
    )


def _number_status(identifier: Resource) -> str:
    for extension in items(identifier, "extension"):
        if _STATUS_URL in text(extension, "url"):
            for code in codes(child(extension, "valueCodeableConcept")):
                return code if _STATUS_CODE.fullmatch(code) else _STATUS_WORDS.get(code, "")
    return ""


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if len(value) == 10 else None
    except ValueError:
        return None


def _content(report: Resource, received: Received) -> Content:
    plain: list[str] = []
    marked: list[str] = []
    pdfs: list[bytes] = []
    elsewhere: list[str] = []
    for form in (_presented(each, received, report) for each in items(report, "presentedForm")):
        encoded = long_text(form, "data")
        kind = text(form, "contentType").partition(";")[0].strip().lower()
        if not encoded:
            elsewhere.append(text(form, "url") or "presentedForm")
            continue
        decoded = documents.decoded_bytes(encoded, "Base64")
        if kind == "application/pdf":
            pdfs.append(documents.pdf(encoded, "Base64"))
        elif kind == "text/plain":
            plain.append(_text(decoded))
        elif kind in _RTF_TYPES:
            plain += documents.plain_lines([_text(decoded)])
        elif kind == "text/html":
            # Its markup stays in the text as characters: nobody's browser is to read it as markup.
            marked.append(_text(decoded))
        else:
            raise NotAReport("not-supported", "a form of the report is of a kind that is not known here")
    if len(pdfs) > 1:
        raise NotAReport("not-supported", "the report has more than one document")
    texts = plain or marked
    if pdfs or any(each.strip() for each in texts):
        elsewhere.clear()
    else:
        elsewhere += (text(each, "reference") or "result" for each in items(report, "result"))
    conclusion = tidy(long_text(report, "conclusion"))
    if " ".join(conclusion.split()) not in " ".join(" ".join(texts).split()):
        texts.append(conclusion)
    return Content("\n\n".join(texts).strip("\n"), pdfs[0] if pdfs else b"", tuple(dict.fromkeys(elsewhere)))


def _presented(form: Resource, received: Received, report: Resource) -> Resource:
    """A form as it came, or the Binary that it names and that came with it."""
    beside = received.resolve({"reference": text(form, "url")}, report)
    if long_text(form, "data") or beside.get("resourceType") != "Binary":
        return form
    return {**beside, **form, "data": long_text(beside, "data")}


def _text(decoded: bytes) -> str:
    try:
        return tidy(decoded.decode("utf-8").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"))
    except UnicodeDecodeError as error:
        raise NotAReport("invalid", "a form of the report is not UTF-8") from error


def _report_number(report: Resource, accessions: tuple[str, ...]) -> str:
    fillers = list(identifiers(report, "FILL"))
    others = [text(each, "value") for each in items(report, "identifier")]
    found = next(filter(None, [*fillers, *accessions, *others, id_of(report)]), "")
    if not found or len(found) > NUMBER_CHARS_MAX:
        raise NotAReport("required", "the report has no identifier and no id, or one that is too long")
    return found


def _numbers(*resources: Resource, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Identifiers of the first kind that there is any of; the kind "" means those that name none."""
    for kind in kinds:
        found = [
            text(each, "value")[:NUMBER_CHARS_MAX]
            for resource in resources
            for each in items(resource, "identifier")
            if (kind in codes(child(each, "type")) if kind else not codes(child(each, "type")))
        ]
        if numbers := tuple(dict.fromkeys(filter(None, found))):
            return numbers
    return ()


def _logical(report: Resource, name: str) -> Iterator[Resource]:
    """References that name what they mean by an identifier, as if each were a resource that has it."""
    for reference in items(report, name):
        if identifier := child(reference, "identifier"):
            yield {"identifier": [dict(identifier)]}


def _uids(studies: Iterable[Resource]) -> Iterator[str]:
    for study in studies:
        for each in items(study, "identifier"):
            uid = text(each, "value").removeprefix("urn:oid:")
            if text(each, "system") == UID_SYSTEM and _UID.fullmatch(uid):
                yield uid


def _alerts(report: Resource, feed: Feed, words: str) -> tuple[str, ...]:
    """Only codes that the profile maps: R4 has no place where every code is an alert."""
    found_codes = [code for concept in items(report, "conclusionCode") for code in codes(concept)]
    found_codes += [text(tag, "code") for tag in items(child(report, "meta"), "tag")]
    found = {feed.profile.alert_codes.get(code.upper()) for code in found_codes}
    return tuple(sorted({each.value for each in found if each is not None} | feed.alerts_in(words)))


def _exam(report: Resource, studies: list[Resource]) -> Exam:
    code = child(report, "code")
    names = [text(code, "text"), *(text(coding, "display") for coding in items(code, "coding"))]
    modalities = [text(each, "code") for study in studies for each in items(study, "modality")]
    return Exam(
        codes=codes(code),
        name=next(filter(None, names), ""),
        modality=next(filter(None, modalities), "")[:16],
        at=instant(text(report, "effectiveDateTime")),
    )


def _referrer(requests: list[Resource], received: Received, report: Resource) -> Practitioner:
    for request in requests:
        if requester := child(request, "requester"):
            return _named(requester, received, report)
    return Practitioner()


def _named(reference: Resource, received: Received, report: Resource) -> Practitioner:
    """Who a reference means: a practitioner, one in a role, or an organisation, which is a team."""
    target = received.resolve(reference, report)
    display = text(reference, "display")
    match target.get("resourceType"):
        case "PractitionerRole":
            person = _named(child(target, "practitioner"), received, report)
            team = _named(child(target, "organization"), received, report)
            return Practitioner(person.identifier, person.name or display, team.team)
        case "Organization":
            return Practitioner(_first_identifier(target, reference), "", text(target, "name") or display)
        case _:
            name = next(iter(items(target, "name")), NOTHING)
            return Practitioner(_first_identifier(target, reference), _full(name) or display)


def _first_identifier(target: Resource, reference: Resource) -> str:
    found = (text(each, "value") for each in [*items(target, "identifier"), child(reference, "identifier")])
    return next(filter(None, found), "")[:NUMBER_CHARS_MAX]


def _full(name: Resource) -> str:
    def words(key: str) -> list[str]:
        value = name.get(key)
        return [text({"word": each}, "word") for each in value] if isinstance(value, list) else []

    return text(name, "text") or " ".join(filter(None, [*words("prefix"), *words("given"), text(name, "family")]))
