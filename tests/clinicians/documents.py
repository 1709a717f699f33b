"""Structured reports and wrapped documents as a RIS would store them, written by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from gateway.instances.reporting.reading import BASIC_TEXT_SR, ENCAPSULATED_PDF, Arrival, read
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.reporting.incoming import IncomingReport, Subject
from policy.parties import NhsNumber, TrustId
from tests.instances.test_coercion import encoded

RECEIVED_AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
SUBJECT = Subject(NhsNumber("9990000018"), family_name="TEST", given_name="ANNE")
ARRIVAL = Arrival(TrustId("RJ1"), "dicom", RECEIVED_AT, SUBJECT)
PDF = b"%PDF-1.7\n%%EOF"


def code(meaning: str, value: str = "X") -> Dataset:
    """A coded concept."""
    found = Dataset()
    found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = value, "LN", meaning
    return found


def text_item(concept: str, text: str) -> Dataset:
    """A text under its concept."""
    found = Dataset()
    found.RelationshipType, found.ValueType = "CONTAINS", "TEXT"
    found.ConceptNameCodeSequence = [code(concept)]
    found.TextValue = text
    return found


def observer(at: str, name: str = "SMITH^RUTH") -> Dataset:
    """Somebody who verified."""
    found = Dataset()
    found.VerifyingOrganization, found.VerificationDateTime = "Radiology", at
    found.VerifyingObserverName = name
    found.VerifyingObserverIdentificationCodeSequence = [code("Ruth Smith", "C1234567")]
    return found


def request(*, accession: str = "A1", filler: str = "F1", placer: str = "P1") -> Dataset:
    """The order that it answers."""
    found = Dataset()
    found.AccessionNumber, found.FillerOrderNumberImagingServiceRequest = accession, filler
    found.PlacerOrderNumberImagingServiceRequest = placer
    found.RequestedProcedureDescription = "Chest X-ray"
    found.RequestedProcedureCodeSequence = [code("Chest X-ray", "XCHES")]
    return found


def reference(study_uid: str, sop_uid: str) -> Dataset:
    """A document or image of a study, as SR refers to it."""
    sop, series, study = Dataset(), Dataset(), Dataset()
    sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = BASIC_TEXT_SR, sop_uid
    series.SeriesInstanceUID, series.ReferencedSOPSequence = f"{study_uid}.9", [sop]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = study_uid, [series]
    return study


def structured(*items: Dataset, observers: Sequence[Dataset] = (), **values: object) -> Dataset:
    """A report: complete, verified by these observers if there are any; `values` come last, None takes away."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID, found.SOPInstanceUID = BASIC_TEXT_SR, "1.2.3.1"
    found.StudyInstanceUID, found.SeriesInstanceUID = "1.2.3", "1.2.3.9"
    found.StudyDate, found.StudyTime = "20260531", "100000"
    found.ContentDate, found.ContentTime = "20260601", "0900"
    found.PatientID, found.PatientName, found.ReferringPhysicianName = "9990000018", "TEST^ANNE", "GREY^JO"
    found.ConceptNameCodeSequence = [code("Radiology Report", "18785-6")]
    found.CompletionFlag = "COMPLETE"
    found.VerificationFlag = "VERIFIED" if observers else "UNVERIFIED"
    if observers:
        found.VerifyingObserverSequence = list(observers)
    found.ReferencedRequestSequence = [request()]
    found.ContentSequence = list(items or [text_item("Findings", "No lesion.")])
    return _changed(found, values)


def wrapped(pdf: bytes = PDF, **values: object) -> Dataset:
    """A PDF in an instance."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = ENCAPSULATED_PDF, "1.2.3.2"
    found.StudyInstanceUID, found.SeriesInstanceUID = "1.2.3", "1.2.3.9"
    found.StudyDate, found.StudyTime, found.AccessionNumber = "20260531", "100000", "A1"
    found.ContentDate, found.ContentTime = "20260601", "0905"
    found.PatientID, found.PatientName = "9990000018", "TEST^ANNE"
    found.MIMETypeOfEncapsulatedDocument = "application/pdf"
    found.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    found.EncapsulatedDocumentLength = len(pdf)
    return _changed(found, values)


def taken_in(dataset: Dataset, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> IncomingReport:
    """The version of a report that it is."""
    return read(encoded(dataset, transfer_syntax), transfer_syntax, ARRIVAL)


def _changed(dataset: Dataset, values: dict[str, object]) -> Dataset:
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset
