"""A version of a report as a DICOM object: Basic Text SR, or its source's PDF, encapsulated (PS3.3 A.35.1, A.45.1).

For clinicians of other trusts, who read reports where they read images. Where a version stands is in its title and in
the first line of its text, so that no viewer can lose it; the clinical text itself is untouched. The same document is
the same bytes whenever it is written, and another standing is another instance. Days and hours are London's. Pure.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from struct import pack

import orjson

from gateway.instances.encoding.structure import Syntax
from gateway.instances.encoding.written import sorted_bytes
from gateway.instances.reporting.reading import BASIC_TEXT_SR, ENCAPSULATED_PDF, PDF_BYTES_MAX
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gateway.model.imaging import Attributes, Element, JsonValue
from gateway.model.reporting.incoming import IncomingReport, ReportSource
from gateway.model.work.transfers import InstanceRef
from policy.parties import NHS_NUMBER_ISSUER, TrustId
from policy.release.reports import Verification
from policy.release.terms import LONDON

OBJECTS = frozenset({ReportSource.DICOM_SR, ReportSource.DICOM_PDF})
"""Sources whose reports are DICOM objects themselves."""
TRANSFER_SYNTAX = EXPLICIT_VR_LITTLE_ENDIAN
MANUFACTURER = "Regional image sharing gateway"
WITHDRAWN_TEXT = "This report was withdrawn by its trust. Do not use it."
SERIES_NUMBERS_FROM = 9_001
_SYNTAX = Syntax(is_explicit=True)
_DECLARED = ("ISO_IR 192",)
_TITLE_CHARS_MAX = 64
_DOCUMENT = 0x00420011


class Form(StrEnum):
    """In what form a version is written."""

    TEXT = "text"
    PDF = "pdf"

    @property
    def sop_class_uid(self) -> str:
        """Of the object."""
        return BASIC_TEXT_SR if self is Form.TEXT else ENCAPSULATED_PDF

    @property
    def modality(self) -> str:
        """Of its series (PS3.3 C.7.3.1.1.1)."""
        return "SR" if self is Form.TEXT else "DOC"


class Marking(StrEnum):
    """Where a version stands, for whoever reads it."""

    CURRENT = "CURRENT"
    PRELIMINARY = "PRELIMINARY"
    """Nobody vouches for it yet."""
    SUPERSEDED = "SUPERSEDED"
    BEING_CORRECTED = "BEING CORRECTED"
    """Its verification was taken back, and what takes its place is not there yet."""
    WITHDRAWN = "WITHDRAWN"
    """Without its text: it was wrong, or another patient's."""

    @property
    def notice(self) -> str:
        """The first line of its text; empty where nothing needs to be said."""
        match self:
            case Marking.CURRENT:
                return ""
            case Marking.PRELIMINARY:
                return "PRELIMINARY: not verified. Do not act on it as on a final report."
            case Marking.SUPERSEDED:
                return "SUPERSEDED: a newer version of this report takes its place."
            case Marking.BEING_CORRECTED:
                return "BEING CORRECTED: its trust has taken back its verification."
            case Marking.WITHDRAWN:
                return f"WITHDRAWN: {WITHDRAWN_TEXT}"


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a report in one form, under the study that it is shown with."""

    report_id: str
    version_id: str
    study_uid: str
    form: Form
    marking: Marking
    is_addendum: bool
    number: int
    """Its place among the versions of its report, from 1."""
    content: IncomingReport
    """What it says: text or document, whose it is and what was examined. In lists only the beginning of a document."""
    content_of: str
    """The version that it is the content of."""
    verification: Verification | None
    """Of the version itself, which may have promoted an earlier text."""
    verified_by: str = ""
    is_of_one_study: bool = True
    predecessors: tuple[InstanceRef, ...] = ()
    """What it takes the place of, as it was given out and as it is marked now; or what it is added to."""

    @property
    def trust(self) -> TrustId:
        """Whose report it is."""
        return self.content.trust

    @property
    def ref(self) -> InstanceRef:
        """Its place in its study."""
        return ref_of(self.report_id, self.version_id, self.study_uid, self.form, self.marking)

    @property
    def has_own_form(self) -> bool:
        """Whether it came as a DICOM object, which its archive lists: then it is not written as another one.

        Once it is no more what it was, that object is given to nobody, and this one says where it stands.
        """
        return self.content.source in OBJECTS and self.marking in (Marking.CURRENT, Marking.PRELIMINARY)

    @property
    def title(self) -> str:
        """How it is called: what it is, and first where it stands unless that is current."""
        name = "Addendum" if self.is_addendum else "Report"
        exam = self.content.exam.name
        called = f"{name}: {exam}" if exam else f"Imaging {name.lower()}"
        return called if self.marking is Marking.CURRENT else f"{self.marking.value}: {called}"

    @property
    def is_verified(self) -> bool:
        """Whether it may say so of itself: it stands or once stood, and its time is known."""
        return self.marking is not Marking.PRELIMINARY and self._verified_at is not None

    @property
    def _verified_at(self) -> datetime | None:
        return self.verification.at if self.verification is not None else None

    @property
    def stated_at(self) -> datetime:
        """The instant of its content."""
        return self._verified_at or self.content.stated_at


def ref_of(report_id: str, version_id: str, study_uid: str, form: Form, marking: Marking) -> InstanceRef:
    """Where a version stands in a study in this form and standing, whether or not it is written so."""
    series_uid = _uid("series", report_id, study_uid, form.value, marking.value)
    sop_uid = _uid("instance", version_id, study_uid, form.value, marking.value)
    return InstanceRef(study_uid, series_uid, sop_uid, form.sop_class_uid)


def every_ref(report_id: str, version_id: str, study_uid: str) -> list[InstanceRef]:
    """Every instance that a version ever may have been."""
    return [ref_of(report_id, version_id, study_uid, form, marking) for form in Form for marking in Marking]


def attributes_of(document: Document) -> Attributes:
    """The document's attributes but for its content: what its row tells, and more."""
    report, ref, at = document.content, document.ref, document.stated_at.astimezone(LONDON)
    verified = document.is_verified
    accession = report.accessions[0] if report.accessions else ""
    found: dict[str, Element] = {
        "00080005": _of("CS", *_DECLARED),
        "00080012": _of("DA", f"{at:%Y%m%d}"),
        "00080013": _of("TM", f"{at:%H%M%S}"),
        "00080016": _of("UI", ref.sop_class_uid),
        "00080018": _of("UI", ref.sop_uid),
        "00080023": _of("DA", f"{at:%Y%m%d}"),
        "00080033": _of("TM", f"{at:%H%M%S}"),
        "00080050": _of("SH", accession),
        "00080060": _of("CS", document.form.modality),
        "00080070": _of("LO", MANUFACTURER),
        "00080090": _of("PN", {"Alphabetic": report.referrer.name}) if report.referrer.name else {"vr": "PN"},
        "0008103E": _of("LO", _cut(document.title)),
        "0020000D": _of("UI", ref.study_uid),
        "0020000E": _of("UI", ref.series_uid),
        "00200010": {"vr": "SH"},
        "00200011": _of("IS", _series_number(document)),
        "00200013": _of("IS", document.number),
        "0040A493": _of("CS", "VERIFIED" if verified else "UNVERIFIED"),
        **_patient(report),
        **_exam(report),
    }
    return dict(sorted(found.items()))


def encoded(document: Document) -> bytes:
    """The document as an encoded data set in `TRANSFER_SYNTAX`."""
    attributes = dict(attributes_of(document))
    if document.form is Form.TEXT:
        return sorted_bytes({**attributes, **_structured(document)}, _SYNTAX, _DECLARED)
    pdf = document.content.content.pdf[:PDF_BYTES_MAX]
    attributes |= {
        "00080064": _of("CS", "WSD"),
        "00280301": _of("CS", "YES"),
        "00420010": _of("ST", document.title),
        "00420012": _of("LO", "application/pdf"),
        "00420015": _of("UL", len(pdf)),
        "0040A043": _of("SQ", _code("18748-4", "LN", "Diagnostic imaging report")),
    }
    before = {tag: element for tag, element in attributes.items() if int(tag, 16) < _DOCUMENT}
    behind = {tag: element for tag, element in attributes.items() if int(tag, 16) > _DOCUMENT}
    padded = pdf + b"\0" * (len(pdf) % 2)
    wrapped = pack("<HH2s2xI", 0x0042, 0x0011, b"OB", len(padded)) + padded
    return sorted_bytes(before, _SYNTAX, _DECLARED) + wrapped + sorted_bytes(behind, _SYNTAX, _DECLARED)


def text_of(document: Document) -> str:
    """What is read in it: where it stands, then the text as its source has it."""
    if document.marking is Marking.WITHDRAWN:
        return document.marking.notice
    return "\n\n".join(part for part in (document.marking.notice, document.content.content.text) if part)


def _series_number(document: Document) -> int:
    """Behind every series of images; a series holds what stands alike, so that its description can say so."""
    return SERIES_NUMBERS_FROM + 2 * list(Marking).index(document.marking) + list(Form).index(document.form)


def _structured(document: Document) -> dict[str, Element]:
    found: dict[str, Element] = {
        "00081111": {"vr": "SQ"},
        "0040A040": _of("CS", "CONTAINER"),
        "0040A043": _of("SQ", _code("18748-4", "LN", "Diagnostic imaging report")),
        "0040A050": _of("CS", "SEPARATE"),
        "0040A370": _of("SQ", _request(document)),
        "0040A372": {"vr": "SQ"},
        "0040A491": _of("CS", "PARTIAL" if document.marking is Marking.PRELIMINARY else "COMPLETE"),
        "0040A496": _of("CS", "PRELIMINARY" if document.marking is Marking.PRELIMINARY else "FINAL"),
        "0040A730": _of("SQ", *_contents(document)),
    }
    at = document.verification.at if document.verification is not None else None
    if document.is_verified and at is not None:
        found["0040A073"] = _of("SQ", _observer(document, at))
    if document.predecessors:
        found["0040A360"] = _of("SQ", *map(_reference, document.predecessors))
    return found


def _contents(document: Document) -> list[dict[str, JsonValue]]:
    notice, text = document.marking.notice, document.content.content.text
    items = [_text_item("121106", "Comment", notice)] if notice else []
    if document.marking is not Marking.WITHDRAWN:
        items.append(_text_item("121071", "Finding", text))
    return items


def _text_item(code: str, meaning: str, text: str) -> dict[str, JsonValue]:
    return _item(
        {
            "0040A010": _of("CS", "CONTAINS"),
            "0040A040": _of("CS", "TEXT"),
            "0040A043": _of("SQ", _code(code, "DCM", meaning)),
            "0040A160": _of("UT", text.replace("\n", "\r\n")),
        }
    )


def _observer(document: Document, at: datetime) -> dict[str, JsonValue]:
    name = document.verified_by or "UNKNOWN"
    return _item(
        {
            "0040A027": _of("LO", document.trust.code),
            "0040A030": _of("DT", f"{at.astimezone(UTC):%Y%m%d%H%M%S}+0000"),
            "0040A075": _of("PN", {"Alphabetic": name}),
            "0040A088": {"vr": "SQ"},
        }
    )


def _request(document: Document) -> dict[str, JsonValue]:
    report = document.content
    return _item(
        {
            "00080050": _of("SH", *report.accessions[:1]),
            "00081110": {"vr": "SQ"},
            "0020000D": _of("UI", document.study_uid),
            "00321060": _of("LO", _cut(report.exam.name)) if report.exam.name else {"vr": "LO"},
            "00321064": {"vr": "SQ"},
            "00401001": {"vr": "SH"},
            "00402016": _of("LO", *report.placer_numbers[:1]),
            "00402017": _of("LO", _cut(report.report_number)),
        }
    )


def _reference(ref: InstanceRef) -> dict[str, JsonValue]:
    sop = _item({"00081150": _of("UI", ref.sop_class_uid), "00081155": _of("UI", ref.sop_uid)})
    series = _item({"0020000E": _of("UI", ref.series_uid), "00081199": _of("SQ", sop)})
    return _item({"0020000D": _of("UI", ref.study_uid), "00081115": _of("SQ", series)})


def _patient(report: IncomingReport) -> dict[str, Element]:
    subject = report.subject
    local = next(iter(subject.local), None)
    found: dict[str, Element] = {
        "00100010": {"vr": "PN"},
        "00100020": {"vr": "LO"},
        "00100030": _of("DA", f"{subject.birth_date:%Y%m%d}") if subject.birth_date is not None else {"vr": "DA"},
        "00100040": {"vr": "CS"},
    }
    if subject.family_name or subject.given_name:
        name = f"{subject.family_name}^{subject.given_name}".rstrip("^")
        found["00100010"] = _of("PN", {"Alphabetic": name})
    if subject.nhs_number is not None:
        found["00100020"] = _of("LO", subject.nhs_number.digits)
        found["00100021"] = _of("LO", NHS_NUMBER_ISSUER)
    elif local is not None:
        found["00100020"], found["00100021"] = _of("LO", local.value), _of("LO", local.issuer)
    return found


def _exam(report: IncomingReport) -> dict[str, Element]:
    """What is not known is left out, so that no question about it drops the report."""
    exam = report.exam
    found: dict[str, Element] = {}
    if exam.at is not None:
        began = exam.at.astimezone(LONDON)
        found |= {"00080020": _of("DA", f"{began:%Y%m%d}"), "00080030": _of("TM", f"{began:%H%M%S}")}
    if exam.name:
        found["00081030"] = _of("LO", _cut(exam.name))
    return found


def _uid(*parts: str) -> str:
    """The UID of these words (PS3.5 B.2), the same whenever it is asked for."""
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(orjson.dumps(parts)).digest()[:16], version=5).int}"


def _cut(text: str) -> str:
    """What a LO holds."""
    return text[:_TITLE_CHARS_MAX]


def _code(value: str, scheme: str, meaning: str) -> dict[str, JsonValue]:
    return _item({"00080100": _of("SH", value), "00080102": _of("SH", scheme), "00080104": _of("LO", meaning)})


def _of(vr: str, *values: JsonValue) -> Element:
    return {"vr": vr, "Value": list(values)} if values and values != ("",) else {"vr": vr}


def _item(attributes: dict[str, Element]) -> dict[str, JsonValue]:
    return {tag: dict(element) for tag, element in attributes.items()}
