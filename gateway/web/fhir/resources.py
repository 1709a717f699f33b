"""DiagnosticReport as UK Core profiles it, and what stands around it: searchset, outcome, capability (FHIR R4). Pure.

What may be read of a report is in `presentedForm`, what stands now first, each under a title that says what it is. The
clinical text is its trust's, untouched, below a line that says where it stands unless that is current.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.instances.reporting.writing import Document, Form, Marking, text_of
from gateway.model.imaging import JsonValue
from gateway.model.wording import SENTENCE
from gateway.sharing.reading.reports import ReadReport
from gateway.web.fhir.parameters import NHS_NUMBER_SYSTEM
from policy.release.reports import Said

PROFILE = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-DiagnosticReport"
ODS_SYSTEM = "https://fhir.nhs.uk/Id/ods-organization-code"
FHIR_VERSION = "4.0.1"
_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"

Resource = dict[str, JsonValue]


def status_of(documents: Sequence[Document]) -> str:
    """The status of a report of which these stand (domain.md A4, read the other way)."""
    present = [each for each in documents if each.marking is Marking.CURRENT]
    if any(each.is_addendum for each in present):
        return "appended"
    if present:
        is_corrected = any(each.content.said is Said.CORRECTED for each in present)
        is_second = any(each.marking is Marking.SUPERSEDED for each in documents)
        return "corrected" if is_corrected or is_second else "final"
    if any(each.marking in (Marking.PRELIMINARY, Marking.BEING_CORRECTED) for each in documents):
        return "preliminary"
    return "entered-in-error"


def diagnostic_report(report: ReadReport) -> Resource:
    """The resource of a report."""
    first = _first(report)
    content, trust = first.content, first.trust.code
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "id": report.report_id,
        "meta": {
            "versionId": report.standing,
            "lastUpdated": _instant(max(each.content.received_at for each in report.documents)),
            "profile": [PROFILE],
        },
        "identifier": [
            _identifier("FILL", content.report_number, trust),
            *(_identifier("ACSN", number, trust) for number in content.accessions),
        ],
        "status": status_of(report.documents),
        "code": _code(first),
        "subject": _subject(first),
        "performer": [{"type": "Organization", "identifier": {"system": ODS_SYSTEM, "value": trust}}],
        "presentedForm": [_attachment(each) for each in _readable(report)],
    }
    if content.exam.at is not None:
        resource["effectiveDateTime"] = _instant(content.exam.at)
    if first.marking is not Marking.PRELIMINARY:
        resource["issued"] = _instant(first.stated_at)
    if first.verified_by:
        resource["resultsInterpreter"] = [{"display": _person(first.verified_by)}]
    studies: list[JsonValue] = [
        {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}
        for uid in content.study_uids
    ]
    if studies:
        resource["imagingStudy"] = studies
    return resource


def searchset(
    reports: Sequence[ReadReport], *, total: int, notes: Sequence[str], self_url: str, base_url: str, next_url: str
) -> Resource:
    """A page of what was found, with what has to be said beside it."""
    links: list[JsonValue] = [{"relation": "self", "url": self_url}]
    if next_url:
        links.append({"relation": "next", "url": next_url})
    entries: list[JsonValue] = [
        {
            "fullUrl": f"{base_url}/DiagnosticReport/{each.report_id}",
            "resource": diagnostic_report(each),
            "search": {"mode": "match"},
        }
        for each in reports
    ]
    said = outcome([("information", "informational", SENTENCE), *(("warning", "incomplete", note) for note in notes)])
    entries.append({"resource": said, "search": {"mode": "outcome"}})
    return {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links, "entry": entries}


def outcome(issues: Sequence[tuple[str, str, str]]) -> Resource:
    """An OperationOutcome of issues: severity, code, words."""
    said: list[JsonValue] = [
        {"severity": severity, "code": code, "details": {"text": words}} for severity, code, words in issues
    ]
    return {"resourceType": "OperationOutcome", "issue": said}


def capability(*, version: str, base_url: str, at: datetime) -> Resource:
    """What is offered here."""
    searched: list[JsonValue] = [
        {"name": "patient", "type": "reference", "documentation": "patient:identifier with an NHS number; required"},
        {"name": "date", "type": "date", "documentation": "when the patient was examined"},
        {"name": "status", "type": "token"},
    ]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _instant(at),
        "kind": "instance",
        "software": {"name": "Regional image sharing gateway", "version": version},
        "implementation": {"description": SENTENCE, "url": base_url},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "documentation": "Callers are known by certificate. POST _search keeps numbers out of addresses.",
                "resource": [
                    {
                        "type": "DiagnosticReport",
                        "supportedProfile": [PROFILE],
                        "interaction": [{"code": "read"}, {"code": "search-type"}],
                        "versioning": "versioned",
                        "searchParam": searched,
                    }
                ],
            }
        ],
    }


def _first(report: ReadReport) -> Document:
    """What stands: the current text before its addenda, else what is newest."""
    return next(
        (each for each in report.documents if each.marking is Marking.CURRENT and not each.is_addendum),
        report.documents[0],
    )


def _readable(report: ReadReport) -> list[Document]:
    """What stands now; where nothing does, what is left of it. What was superseded is had as DICOM, marked."""
    first = _first(report)
    if first.marking is not Marking.CURRENT:
        return [each for each in report.documents if each.marking is first.marking]
    addenda = [each for each in report.documents if each.marking is Marking.CURRENT and each.is_addendum]
    own = [each for each in report.documents if each.marking is Marking.CURRENT and not each.is_addendum]
    newer = [each for each in report.documents if each.marking is Marking.PRELIMINARY]
    return [*own, *addenda, *newer]


def _attachment(document: Document) -> Resource:
    is_text = document.form is Form.TEXT
    body = text_of(document).encode() if is_text else document.content.content.pdf
    return {
        "contentType": "text/plain; charset=utf-8" if is_text else "application/pdf",
        "language": "en-GB",
        "data": base64.b64encode(body).decode(),
        "title": document.title,
        "creation": _instant(document.stated_at),
    }


def _code(document: Document) -> Resource:
    exam, trust = document.content.exam, document.trust.code
    coded: list[JsonValue] = [{"system": f"urn:ods:{trust}:exam", "code": code} for code in exam.codes]
    words: Resource = {"text": exam.name or "Imaging report"}
    return {"coding": coded, **words} if coded else words


def _subject(document: Document) -> Resource:
    subject = document.content.subject
    if subject.nhs_number is not None:
        return {"type": "Patient", "identifier": {"system": NHS_NUMBER_SYSTEM, "value": subject.nhs_number.digits}}
    local = next(iter(subject.local), None)
    value = local.value if local is not None else "unknown"
    return {"type": "Patient", "identifier": {"value": value, "assigner": {"display": document.trust.code}}}


def _identifier(kind: str, value: str, trust: str) -> Resource:
    return {
        "type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": kind}]},
        "value": value,
        "assigner": {"identifier": {"system": ODS_SYSTEM, "value": trust}},
    }


def _person(name: str) -> str:
    """A name as people write it, whatever its components were parted by."""
    family, _, given = name.partition("^")
    return " ".join(part for part in (*given.split("^"), family) if part)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
