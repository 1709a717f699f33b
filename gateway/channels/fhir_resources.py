"""What a FHIR R4 portal is sent of a report: DiagnosticReport and DocumentReference to UK Core, and a Communication.

Every entry is put by the document's key, so a repeat changes nothing. A patient is named by NHS number within bodies,
never in an address. The Communication says that something is there and nothing else (A2). Pure.
"""

from __future__ import annotations

import base64
from datetime import datetime

from gateway.channels.rendering.disclaimer import DISCLAIMER_VERSION
from gateway.channels.rendering.forms import LANGUAGE, presented_forms
from gateway.model.imaging import JsonValue
from gateway.model.reporting.channels import Addressee, PatientReport, Rendering
from gateway.model.reporting.notices import Notice
from policy.release.chasing import Matter

NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
ODS_SYSTEM = "https://fhir.nhs.uk/Id/ods-organization-code"
KEY_SYSTEM = "urn:image-sharing-gateway:document"
"""System of the identifier by which we put, replace and withdraw a document."""
REPORT_SYSTEM = "urn:image-sharing-gateway:report"
MATTER_SYSTEM = "urn:image-sharing-gateway:matter"
"""System of the codes of what staff are told of: `policy.release.chasing.Matter`."""
VERSION_SYSTEM = "urn:image-sharing-gateway:disclaimer-version"

NOTIFICATION = "There is a new document in your account."

_PROFILE = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-"
_REPLACED = "A newer version of this document has taken its place."

Resource = dict[str, JsonValue]


def putting(report: PatientReport, rendering: Rendering) -> Resource:
    """A transaction that shows the report, in place of what it replaces: both or neither."""
    shown = [*_entries(_diagnostic_report(report, rendering)), *_entries(_document(report, rendering))]
    if report.replaces:
        shown += _withdrawn(report.replaces, report.addressee, _REPLACED, report.released_at)
    return {"resourceType": "Bundle", "type": "transaction", "entry": shown}


def withdrawing(document_key: str, addressee: Addressee, words: str, at: datetime) -> Resource:
    """A transaction after which only neutral words stand there."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [*_withdrawn(document_key, addressee, words, at)],
    }


def notifying(report: PatientReport) -> Resource:
    """A Communication without clinical content."""
    return {
        "resourceType": "Communication",
        "meta": {"profile": [_PROFILE + "Communication"]},
        "identifier": [_key(report.document_key)],
        "status": "completed",
        "subject": _patient(report.addressee),
        "recipient": [_patient(report.addressee)],
        "sent": report.released_at.isoformat(),
        "payload": [{"contentString": NOTIFICATION}],
    }


def telling(notice: Notice, at: datetime) -> Resource:
    """A Communication to staff: which report, by its trust's number, and what is due; nothing of its patient."""
    is_alert = notice.matter in (Matter.ALERT, Matter.UNANSWERED_ALERT)
    about: Resource = {"type": "DiagnosticReport", "identifier": {"system": REPORT_SYSTEM, "value": notice.report_id}}
    return {
        "resourceType": "Communication",
        "identifier": [_key(notice.key)],
        "status": "completed",
        "category": [{"coding": [{"system": MATTER_SYSTEM, "code": notice.matter.value}]}],
        "priority": "urgent" if is_alert else "routine",
        "about": [{**about, "display": notice.report_number}],
        "sender": {"type": "Organization", "identifier": {"system": ODS_SYSTEM, "value": notice.trust.code}},
        "recipient": [
            {"display": f"{each.recipient.value}: {each.address}" if each.address else each.recipient.value}
            for each in notice.to
        ],
        "sent": at.isoformat(),
        "payload": [{"contentString": f"Report {notice.report_number}, version {notice.version_id}"}],
    }


def _entries(resource: Resource) -> list[JsonValue]:
    key = resource["identifier"]
    value = key[0]["value"] if isinstance(key, list) and isinstance(key[0], dict) else ""
    url = f"{resource['resourceType']}?identifier={KEY_SYSTEM}|{value}"
    return [{"resource": resource, "request": {"method": "PUT", "url": url}}]


def _diagnostic_report(report: PatientReport, rendering: Rendering) -> Resource:
    last = report.sections[-1]
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "meta": {
            "profile": [_PROFILE + "DiagnosticReport"],
            "tag": [{"system": VERSION_SYSTEM, "code": DISCLAIMER_VERSION}],
        },
        "language": LANGUAGE,
        "identifier": [_key(report.document_key)],
        "status": "appended" if last.is_addendum else "corrected" if report.replaces else "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": {**_report_code(), "text": report.exam_name},
        "subject": _patient(report.addressee),
        "issued": last.verified_at.isoformat(),
        "performer": [_organisation(report)],
        "presentedForm": presented_forms(rendering, report.exam_name),
    }
    if report.exam_on is not None:
        resource["effectiveDateTime"] = report.exam_on.isoformat()
    if last.verified_by.strip():
        resource["resultsInterpreter"] = [{"display": last.verified_by.strip()}]
    return resource


def _document(report: PatientReport, rendering: Rendering) -> Resource:
    resource: Resource = {
        "resourceType": "DocumentReference",
        "meta": {"profile": [_PROFILE + "DocumentReference"]},
        "identifier": [_key(report.document_key)],
        "status": "current",
        "docStatus": "amended" if report.replaces else "final",
        "type": _report_code(),
        "subject": _patient(report.addressee),
        "date": report.released_at.isoformat(),
        "custodian": _organisation(report),
        "content": [{"attachment": presented_forms(rendering, report.exam_name)[0]}],
    }
    if report.replaces:
        target: Resource = {"type": "DocumentReference", "identifier": _key(report.replaces)}
        resource["relatesTo"] = [{"code": "replaces", "target": target}]
    return resource


def _withdrawn(document_key: str, addressee: Addressee, words: str, at: datetime) -> list[JsonValue]:
    plain: Resource = {
        "contentType": "text/plain; charset=utf-8",
        "language": LANGUAGE,
        "data": base64.b64encode(words.encode()).decode(),
    }
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "meta": {"profile": [_PROFILE + "DiagnosticReport"]},
        "identifier": [_key(document_key)],
        "status": "entered-in-error",
        "code": _report_code(),
        "subject": _patient(addressee),
        "issued": at.isoformat(),
        "presentedForm": [plain],
    }
    document: Resource = {
        "resourceType": "DocumentReference",
        "meta": {"profile": [_PROFILE + "DocumentReference"]},
        "identifier": [_key(document_key)],
        "status": "entered-in-error",
        "type": _report_code(),
        "subject": _patient(addressee),
        "date": at.isoformat(),
        "content": [{"attachment": plain}],
    }
    return [*_entries(report), *_entries(document)]


def _key(document_key: str) -> Resource:
    return {"system": KEY_SYSTEM, "value": document_key}


def _report_code() -> Resource:
    snomed: Resource = {"system": "http://snomed.info/sct", "code": "722124004", "display": "Radiology studies report"}
    return {"coding": [snomed]}


def _patient(addressee: Addressee) -> Resource:
    return {"type": "Patient", "identifier": {"system": NHS_NUMBER_SYSTEM, "value": addressee.nhs_number.digits}}


def _organisation(report: PatientReport) -> Resource:
    identifier: Resource = {"system": ODS_SYSTEM, "value": report.trust.code}
    return {"type": "Organization", "identifier": identifier, "display": report.trust_name}
