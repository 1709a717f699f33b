"""Reports that come as DICOM: verified only where all three flags say so, dated by the latest verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway.instances.reporting.reading import COMPREHENSIVE_SR, ENHANCED_SR, stated
from gateway.instances.transfer_syntaxes import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.reporting.incoming import Content, IncomingReport, Practitioner, ReportSource
from gateway.release.naming import version_of
from policy.release.lifecycle import fold
from policy.release.reports import Lifecycle, Said, Standing, Verification, ZoneKnown
from tests.clinicians.documents import (
    ARRIVAL,
    PDF,
    code,
    observer,
    reference,
    request,
    structured,
    taken_in,
    text_item,
    wrapped,
)

HOUR = timedelta(hours=1)
AT = "20260601091500+0100"
VERIFIED_AT = datetime(2026, 6, 1, 8, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("completion", "verification", "preliminary", "said"),
    [
        ("COMPLETE", "VERIFIED", None, Said.VERIFIED),
        ("COMPLETE", "VERIFIED", "FINAL", Said.VERIFIED),
        ("COMPLETE", "VERIFIED", "PRELIMINARY", Said.PRELIMINARY),
        ("COMPLETE", "UNVERIFIED", "FINAL", Said.PRELIMINARY),
        ("COMPLETE", None, "FINAL", Said.PRELIMINARY),
        ("PARTIAL", "VERIFIED", "FINAL", Said.PRELIMINARY),
        ("PARTIAL", "UNVERIFIED", "PRELIMINARY", Said.PRELIMINARY),
        (None, "VERIFIED", "FINAL", Said.PRELIMINARY),
    ],
)
def test_a_report_is_verified_only_if_complete_verified_and_not_preliminary(
    completion: str | None, verification: str | None, preliminary: str | None, said: Said
) -> None:
    dataset = structured(observers=[observer(AT)], CompletionFlag=completion, VerificationFlag=verification)
    if preliminary is not None:
        dataset.PreliminaryFlag = preliminary
    report = taken_in(dataset)
    assert report.said is said
    assert (report.verification is not None) == (said is Said.VERIFIED)


def test_the_latest_of_several_verifiers_starts_the_clock() -> None:
    first, last = observer("20260601090000+0100", "EARLY^EVE"), observer("20260601085500+0000", "LATE^LEO")
    report = taken_in(structured(observers=[last, first]))
    assert report.verification is not None
    assert (report.verification.at, report.verification.by) == (datetime(2026, 6, 1, 8, 55, tzinfo=UTC), "LATE^LEO")
    assert report.interpreter == Practitioner("C1234567", "LATE^LEO", "Radiology")
    assert report.stated_at == report.verification.at


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("unreadable", ["", "2026", "20261301", "yesterday"])
def test_a_verifier_whose_time_cannot_be_read_leaves_the_time_unknown(unreadable: str) -> None:
    report = taken_in(structured(observers=[observer(AT), observer(unreadable)]))
    assert report.said is Said.VERIFIED
    assert report.verification is not None and report.verification.at is None


@pytest.mark.parametrize(
    ("text", "offset", "at", "zone"),
    [
        ("20260601091500.000000+0100", "", "2026-06-01T08:15:00Z", ZoneKnown.STATED),
        ("20260601091500-0500", "+0100", "2026-06-01T14:15:00Z", ZoneKnown.STATED),
        ("20260601091500", "+0000", "2026-06-01T09:15:00Z", ZoneKnown.STATED),
        ("20260601091500", "", "2026-06-01T08:15:00Z", ZoneKnown.ASSUMED),
        ("202606010915", "", "2026-06-01T08:15:00Z", ZoneKnown.ASSUMED),
        ("20260601", "", "2026-06-01T22:59:59Z", ZoneKnown.DATE_ONLY),
        ("20261025013000", "", "2026-10-25T01:30:00Z", ZoneKnown.ASSUMED),
        ("20270328013000", "", "2027-03-28T01:30:00Z", ZoneKnown.ASSUMED),
    ],
)
def test_a_time_is_read_by_its_own_offset_then_the_data_sets_then_londons(
    text: str, offset: str, at: str, zone: ZoneKnown
) -> None:
    found = stated(text, offset)
    assert found is not None
    assert (found.at, found.zone) == (datetime.fromisoformat(at), zone)


def test_the_data_sets_offset_counts_where_the_verifier_gives_none() -> None:
    report = taken_in(structured(observers=[observer("20260601091500")], TimezoneOffsetFromUTC="+0000"))
    assert report.verification is not None and report.verification.at == datetime(2026, 6, 1, 9, 15, tzinfo=UTC)


def test_the_content_is_text_under_its_headings() -> None:
    findings = Dataset()
    findings.RelationshipType, findings.ValueType, findings.ContinuityOfContent = "CONTAINS", "CONTAINER", "SEPARATE"
    findings.ConceptNameCodeSequence = [code("Findings")]
    findings.ContentSequence = [text_item("Finding", "Café au lait.\r\n<b>No</b> lesion.")]
    report = taken_in(structured(findings, text_item("Impression", "Normal."), observers=[observer(AT)]))
    assert report.content.text == "Findings\n  Finding: Café au lait.\n    <b>No</b> lesion.\nImpression: Normal."


def test_the_order_and_the_study_are_told() -> None:
    report = taken_in(
        structured(observers=[observer(AT)], CurrentRequestedProcedureEvidenceSequence=[reference("1.9", "1.9.1")])
    )
    assert (report.report_number, report.accessions, report.placer_numbers) == ("F1", ("A1",), ("P1",))
    assert report.study_uids == ("1.2.3", "1.9")
    assert (report.exam.codes, report.exam.name) == (("XCHES",), "Chest X-ray")
    assert report.referrer == Practitioner(name="GREY^JO")
    assert (report.trust, report.feed, report.message_id) == (ARRIVAL.trust, "dicom", "1.2.3.1")


def test_a_report_without_an_order_is_called_by_what_it_has() -> None:
    alone = structured(observers=[observer(AT)], ReferencedRequestSequence=None)
    assert taken_in(alone).report_number == "1.2.3.1"
    alone.AccessionNumber = "A7"
    assert taken_in(alone).report_number == "A7"
    follower = structured(ReferencedRequestSequence=None, PredecessorDocumentsSequence=[reference("1.2.3", "1.2.3.0")])
    assert taken_in(follower).report_number == "1.2.3.0"


def test_a_document_with_a_predecessor_corrects_it_or_is_added_to_it() -> None:
    before = {"PredecessorDocumentsSequence": [reference("1.2.3", "1.2.3.0")]}
    assert taken_in(structured(observers=[observer(AT)], **before)).said is Said.CORRECTED
    titled = structured(
        observers=[observer(AT)], ConceptNameCodeSequence=[code("Addendum Document", "55107-7")], **before
    )
    assert taken_in(titled).said is Said.APPENDED
    only_part = structured(text_item("Addendum", "See also."), observers=[observer(AT)], **before)
    assert taken_in(only_part).said is Said.APPENDED
    with_more = structured(
        text_item("Findings", "New."), text_item("Addendum", "See also."), observers=[observer(AT)], **before
    )
    assert taken_in(with_more).said is Said.CORRECTED


def test_a_draft_that_follows_another_stays_a_draft() -> None:
    draft = structured(PredecessorDocumentsSequence=[reference("1.2.3", "1.2.3.0")])
    assert taken_in(draft).said is Said.PRELIMINARY


def measured(at: str = "1100", **others: Sequence[Dataset] | str) -> Dataset:
    """What a modality measured, sent after the report was signed, under the order that both answer."""
    found = structured(text_item("Length", "52 mm"), SOPInstanceUID="1.2.3.5", ContentTime=at)
    for keyword, value in others.items():
        setattr(found, keyword, value)
    return found


def folded(*told: IncomingReport) -> Lifecycle:
    """What stands of a report of which these are told."""
    return fold([version_of(each, "nhs:9990000018", b"") for each in told], timedelta(minutes=5))


def test_measurements_leave_the_radiologists_report_verified() -> None:
    signed = taken_in(structured(observers=[observer(AT)]))
    life = folded(signed, taken_in(measured()))
    assert (life.standing, life.content_of, life.preliminary) == (
        Standing.VERIFIED,
        version_of(signed, "nhs:9990000018", b"").version_id,
        None,
    )


SIGNED = taken_in(structured(observers=[observer(AT)]))
FOLLOWS_THE_SIGNED = [reference("1.2.3", "1.2.3.1")]


@pytest.mark.parametrize(
    "draft",
    [
        {"CompletionFlag": "PARTIAL"},
        {"CompletionFlag": "COMPLETE"},
        {"PreliminaryFlag": "PRELIMINARY", "VerificationFlag": "VERIFIED", "VerifyingObserverSequence": [observer(AT)]},
    ],
    ids=["partial", "unverified", "preliminary"],
)
def test_a_draft_takes_back_the_report_that_it_amends_until_it_is_verified(draft: dict[str, Any]) -> None:
    follower = taken_in(measured(PredecessorDocumentsSequence=FOLLOWS_THE_SIGNED, **draft))
    verified = structured(
        text_item("Findings", "A lesion."),
        observers=[observer("20260601113000+0100")],
        SOPInstanceUID="1.2.3.6",
        PredecessorDocumentsSequence=[reference("1.2.3", "1.2.3.5")],
    )
    for told in permutations([SIGNED, follower]):
        life = folded(*told)
        assert (life.standing, life.clock_started_at) == (Standing.BEING_CORRECTED, None)
    for told in permutations([SIGNED, follower, taken_in(verified)]):
        life = folded(*told)
        assert life.standing is Standing.VERIFIED and life.current is not None
        assert (life.current.document, life.clock_started_at) == ("1.2.3.6", VERIFIED_AT + timedelta(minutes=135))


def test_a_verified_report_takes_the_place_of_what_it_follows() -> None:
    correction = structured(
        text_item("Findings", "A lesion."),
        observers=[observer("20260601113000+0100")],
        SOPInstanceUID="1.2.3.6",
        PredecessorDocumentsSequence=FOLLOWS_THE_SIGNED,
    )
    for told in permutations([SIGNED, taken_in(correction)]):
        life = folded(*told)
        assert life.current is not None and life.current.document == "1.2.3.6"
        assert list(life.superseded) == [version_of(SIGNED, "nhs:9990000018", b"").version_id]


def test_an_addendum_that_is_being_written_leaves_its_report_as_it_is() -> None:
    draft = measured(
        PredecessorDocumentsSequence=FOLLOWS_THE_SIGNED, ConceptNameCodeSequence=[code("Addendum Document", "55107-7")]
    )
    life = folded(SIGNED, taken_in(draft))
    assert (life.standing, life.clock_started_at) == (Standing.VERIFIED, VERIFIED_AT)


def test_what_is_measured_anew_takes_back_no_report_that_was_signed() -> None:
    first = measured()
    anew = measured("1200", SOPInstanceUID="1.2.3.6", PredecessorDocumentsSequence=[reference("1.2.3", "1.2.3.5")])
    for told in permutations([SIGNED, taken_in(first), taken_in(anew)]):
        assert folded(*told).standing is Standing.VERIFIED


def test_a_status_alone_promotes_what_its_feed_sent_and_no_measurements() -> None:
    measurements = taken_in(measured("0930"))
    text = replace(
        measurements, source=ReportSource.HL7_V2, content=Content("No lesion."), stated_at=VERIFIED_AT - HOUR
    )
    final = replace(
        text, said=Said.VERIFIED, verification=Verification(VERIFIED_AT), content=Content(), stated_at=VERIFIED_AT
    )
    final = replace(final, promotes=True)
    assert folded(text, measurements, final).content_of == version_of(text, "nhs:9990000018", b"").version_id
    assert folded(measurements, final).content_of == ""


def test_of_several_drafts_the_newest_is_shown() -> None:
    first, second = taken_in(measured("0901")), taken_in(measured("0902", SOPInstanceUID="1.2.3.6"))
    again = replace(second, content=Content("53 mm"))
    for told in ((first, again), (again, first)):
        life = folded(*told)
        assert life.preliminary is not None and life.preliminary.text_digest == version_of(again, "", b"").text_digest


def test_an_unverified_object_that_names_its_exam_alone_is_a_report_of_its_own() -> None:
    by_accession = request(filler="")
    alone = taken_in(measured(ReferencedRequestSequence=[by_accession], AccessionNumber="A1"))
    assert (alone.report_number, alone.accessions, alone.study_uids) == ("1.2.3.5", (), ("1.2.3",))
    follower = measured(
        ReferencedRequestSequence=[by_accession], PredecessorDocumentsSequence=[reference("1.2.3", "1.2.3.1")]
    )
    # What it follows is found by its UID: another report may bear the same accession number.
    assert (taken_in(follower).report_number, taken_in(follower).accessions) == ("1.2.3.1", ())
    signed = structured(observers=[observer(AT)], ReferencedRequestSequence=[by_accession])
    assert taken_in(signed).report_number == "A1"


@pytest.mark.parametrize("sop_class", [ENHANCED_SR, COMPREHENSIVE_SR])
@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
def test_every_kind_and_encoding_is_read(sop_class: str, transfer_syntax: str) -> None:
    report = taken_in(structured(observers=[observer(AT)], SOPClassUID=sop_class), transfer_syntax)
    assert (report.source, report.content.text) == (ReportSource.DICOM_SR, "Findings: No lesion.")
    assert report.verification is not None and report.verification.at == VERIFIED_AT


def test_a_wrapped_pdf_is_the_document_without_its_padding() -> None:
    odd = PDF + b"\n"
    for pdf in (PDF, odd):
        report = taken_in(wrapped(pdf))
        assert (report.source, report.content.pdf, report.content.text) == (ReportSource.DICOM_PDF, pdf, "")


def test_a_pdf_that_does_not_say_so_is_not_verified_and_takes_nothing_back() -> None:
    report = taken_in(wrapped())
    assert (report.said, report.verification) == (Said.PRELIMINARY, None)
    # Before the exam's report can have been verified: whatever another feed says stands.
    assert timedelta() <= report.stated_at - datetime(2026, 5, 31, 9, tzinfo=UTC) < timedelta(seconds=1)


def test_a_pdf_that_says_so_without_a_time_is_verified_at_an_unknown_time() -> None:
    report = taken_in(wrapped(VerificationFlag="VERIFIED"))
    assert report.said is Said.VERIFIED
    assert report.verification is not None and report.verification.at is None


@pytest.mark.parametrize(
    "broken",
    [
        {"MIMETypeOfEncapsulatedDocument": "text/xml"},
        {"EncapsulatedDocument": b"<script>", "EncapsulatedDocumentLength": 8},
    ],
)
def test_what_is_no_pdf_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match="no pdf"):
        taken_in(wrapped(PDF, **broken))


def test_other_objects_are_no_reports() -> None:
    with pytest.raises(NotFound):
        taken_in(structured(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59"))


def test_a_text_that_cannot_be_held_whole_is_refused_and_not_cut() -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        taken_in(structured(text_item("Findings", "word " * 20_000), observers=[observer(AT)]))
