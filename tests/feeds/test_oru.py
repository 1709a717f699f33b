"""ORU^R01 as versions of reports: tables of statuses, several orders, verification, patients, texts in every form."""

import base64
import itertools
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from gateway.feeds.hl7 import oru
from gateway.feeds.hl7.reading import Unreadable
from gateway.feeds.hl7.statuses import NoStatement, Statement, statement
from gateway.feeds.profile import Place, Profile
from gateway.model.reporting.incoming import Content, IncomingReport, ReportSource
from gateway.release.naming import version_of
from policy.parties import NhsNumber, PatientId
from policy.release.lifecycle import fold
from policy.release.reports import AlertCategory, Problem, Said, Standing, ZoneKnown
from tests.feeds.messages import HEADER, ORDER, PATIENT, RECEIVED, TRUST, feed, line, message, only, reports, result

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n"
PRELIMINARY, VERIFIED, CORRECTED = Said.PRELIMINARY, Said.VERIFIED, Said.CORRECTED
RESULTS = {
    "F": VERIFIED,
    "C": CORRECTED,
    **dict.fromkeys(["P", "R", "A", "", "?"], PRELIMINARY),
    "M": Said.TAKEN_BACK,
    "X": Said.CANCELLED,
}
LINES = {
    **dict.fromkeys(["F", "V", "U", ""], VERIFIED),
    **dict.fromkeys(["C", "A"], CORRECTED),
    "B": Said.APPENDED,
    **dict.fromkeys(["P", "R", "S", "I", "O", "N", "?"], PRELIMINARY),
    "D": Said.TAKEN_BACK,
    "X": Said.CANCELLED,
    "W": Said.WITHDRAWN,
}
LESS_FINAL = [Said.WITHDRAWN, Said.TAKEN_BACK, Said.CANCELLED, PRELIMINARY, CORRECTED, Said.APPENDED, VERIFIED]


@pytest.mark.parametrize(("whole", "one"), [*itertools.product(RESULTS, LINES)])
def test_of_a_result_and_its_line_the_less_final_governs(whole: str, one: str) -> None:
    expected = min(RESULTS[whole], LINES[one], key=LESS_FINAL.index)
    if (whole, one) == ("C", "B"):
        expected = Said.APPENDED
    says = statement(whole, [one])
    assert says == Statement(expected, promotes=expected is VERIFIED and one == "U")


@pytest.mark.parametrize("whole", ["N", "O", "I", "S"])
def test_a_result_that_is_not_there_yet_changes_nothing(whole: str) -> None:
    assert statement(whole, ["F"]) is NoStatement.IGNORED
    assert reports(message(result(status=whole), line("No results yet."))) == ()


@pytest.mark.parametrize("whole", ["Y", "Z"])
def test_a_result_without_order_or_patient_is_rejected(whole: str) -> None:
    with pytest.raises(Unreadable):
        reports(message(result(status=whole), line("Normal.")))


@pytest.mark.parametrize("whole", [*RESULTS, "N", "I"])
def test_a_line_of_the_wrong_patient_withdraws_whatever_else_is_said(whole: str) -> None:
    assert statement(whole, ["F", "W", "P"]) == Statement(Said.WITHDRAWN)


def test_a_verified_report_is_read_whole() -> None:
    raw = message(
        ORDER, result(), line("Heart size normal."), line("Lungs clear."), "ZDS|1.2.826.0.1^RIS^Application^DICOM"
    )
    found = only(raw)
    assert (found.trust, found.feed, found.source) == (TRUST, "rx1-ris", ReportSource.HL7_V2)
    assert (found.said, found.content.text) == (VERIFIED, "Heart size normal.\nLungs clear.")
    assert (found.report_number, found.accessions, found.placer_numbers) == ("A1", ("A1",), ("P1",))
    assert found.study_uids == ("1.2.826.0.1",)
    assert found.verification is not None
    assert found.verification.at == found.stated_at == datetime.fromisoformat("2026-06-01T08:15:00Z")
    assert (found.verification.by, found.verification.zone) == ("DR ROBERT READER", ZoneKnown.STATED)
    assert (found.referrer.identifier, found.referrer.name, found.referrer.team) == (
        "C1234567",
        "DR RITA REFERRER",
        "Chest clinic",
    )
    assert (found.interpreter.identifier, found.interpreter.name) == ("C7654321", "DR ROBERT READER")
    assert (found.exam.codes, found.exam.name, found.exam.modality) == (("XCHES",), "Chest X-ray", "DX")
    assert found.subject.nhs_number == NhsNumber("9990000018")
    assert found.subject.local == (PatientId("RX1-PAS", "0001234"),)
    assert (found.subject.family_name, found.subject.birth_date) == ("TESTER", date(1980, 2, 29))
    assert (found.received_at, found.raw) == (RECEIVED, raw)


def test_whose_report_it_is_says_the_feed_and_not_the_message() -> None:
    claimed = HEADER.replace("|RX1|", "|RX2|")
    found = only(message(result(), line("Normal."), header=claimed, patient=PATIENT.replace("^^^RX1^PI", "^^^RX2^PI")))
    assert (found.trust, found.subject.local) == (TRUST, ()), "a number of another hospital is not vouched for"


def test_no_time_but_that_of_verification_starts_a_clock() -> None:
    first = only(message(result(), line("Normal.")))
    other = "MSH|^~\\&|RIS|RX1|||20300101||ORU^R01|M9|P|2.5"
    later = only(message(result().replace("20260530120000", "20300101120000"), line("Normal."), header=other))
    assert first.verification == later.verification


@pytest.mark.parametrize("status", ["P", "R", "A", "M", "X"])
def test_what_is_not_verified_has_no_verification(status: str) -> None:
    assert only(message(result(status=status), line("Normal."))).verification is None


@pytest.mark.parametrize("at", ["", "20260231091500", "yesterday", "2026"])
def test_a_verification_time_that_cannot_be_read_is_known_to_be_unknown(at: str) -> None:
    found = only(message(result(at=at), line("Normal.")))
    assert found.verification is not None and found.verification.at is None
    assert found.stated_at == datetime.fromisoformat("2026-06-01T08:16:00Z")


@pytest.mark.parametrize(("status", "line_status"), [("M", "P"), ("P", "P"), ("R", "R"), ("X", "X"), ("F", "W")])
def test_what_stops_a_text_says_when_it_was_sent_beside_the_time_of_that_text(status: str, line_status: str) -> None:
    sent = HEADER.replace("20260601091600", "20260603120000+0100")
    stopped = only(message(result(status=status), line("Normal.", line_status), header=sent))
    vouched = only(message(result(), line("Normal."), header=sent))
    assert stopped.stated_at == vouched.stated_at == datetime.fromisoformat("2026-06-01T08:15:00Z")
    assert stopped.sent_at == vouched.sent_at == datetime.fromisoformat("2026-06-03T11:00:00Z")


def test_what_stops_a_text_counts_from_its_verification_at_the_earliest() -> None:
    habits = feed(Profile(verification_from=Place.parse("OBX-14")))
    stopped = only(message(result(status="M"), line("Normal.", "P") + "|||20260604120000+0100"), habits)
    assert stopped.stated_at == datetime.fromisoformat("2026-06-04T11:00:00Z")


@pytest.mark.parametrize(("place", "segment"), [("OBX-14", 0), ("ZVR-2.2", 1)])
def test_a_profile_says_where_the_verification_time_stands(place: str, segment: int) -> None:
    segments = [
        [line("a") + "|||20260602100000", line("b") + "|||20260602110000"],
        [line("a"), "ZVR|1|READER^20260602110000+0100"],
    ][segment]
    found = only(message(result(), *segments), feed(Profile(verification_from=Place.parse(place))))
    assert found.verification is not None
    assert found.verification.at == datetime.fromisoformat("2026-06-02T10:00:00Z")


def test_status_u_promotes_only_where_it_brings_no_text() -> None:
    assert only(message(result(), line("", "U"))).promotes
    assert not only(message(result(), line("Normal.", "U"))).promotes
    assert not only(message(result(status="P"), line("", "U"))).promotes
    assert not only(message(result())).promotes


def test_an_addendum_brings_what_was_appended_and_no_more() -> None:
    raw = message(
        result(), line("Normal."), "NTE|1||of the report", line("Rib fracture.", "B"), "NTE|1||of the addendum"
    )
    found = only(raw)
    assert (found.said, found.content.text) == (Said.APPENDED, "Rib fracture.\nof the addendum")


def test_a_deleted_part_is_not_shown() -> None:
    found = only(message(result(), line("Normal."), line("Tumour.", "D")))
    assert (found.said, found.content.text) == (Said.TAKEN_BACK, "Normal.")


@pytest.mark.parametrize(("status", "is_verified"), [("F", True), ("C", True), ("M", False), ("P", False)])
def test_a_person_looks_at_what_a_verified_report_deletes(status: str, is_verified: bool) -> None:
    first = only(message(result(), line("Normal."), line("Tumour.")))
    found = only(message(result(status=status, at="20260602091500"), line("Normal."), line("Tumour.", "D")))
    told = [version_of(each, each.subject.key, b"") for each in (first, replace(found, received_at=found.stated_at))]
    life = fold(told, timedelta(minutes=5))
    assert (life.standing, found.verification is not None) == (Standing.BEING_CORRECTED, is_verified)
    assert (Problem.PART_DELETED in life.problems) is is_verified


def test_orders_of_one_text_are_one_report_with_the_latest_verification_and_the_least_final_status() -> None:
    first = [result("A2", at="20260601091500"), line("Both knees normal.")]
    second = [result("A1", at="20260602091500", number=2), line("Both  knees normal. ")]
    found = only(message(*first, *second))
    assert (found.report_number, set(found.accessions), found.content.text) == (
        "A1",
        {"A1", "A2"},
        "Both knees normal.",
    )
    assert found.verification is not None
    assert found.verification.at == datetime.fromisoformat("2026-06-02T08:15:00Z")
    swapped = only(message(*second, *first))
    assert swapped.report_number == found.report_number and swapped.verification == found.verification
    preliminary = only(message(*first, result("A1", "P", number=2), line("Both knees normal.")))
    assert preliminary.said is PRELIMINARY
    unread = only(message(*first, result("A1", at="", number=2), line("Both knees normal.")))
    assert unread.verification is not None and unread.verification.at is None


def test_the_text_of_each_of_many_orders_is_evened_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    digest: property = vars(Content)["digest"]
    seen_chars = 0

    def counted(content: Content) -> str:
        nonlocal seen_chars
        seen_chars += len(content.text)
        return str(digest.__get__(content))

    monkeypatch.setattr(Content, "digest", property(counted))
    texts = {f"A{number}": f"Text {number} of this patient." for number in range(oru.ORDERS_MAX)}
    found = reports(message(*(each for filler, text in texts.items() for each in (result(filler), line(text)))))
    assert len(found) == oru.ORDERS_MAX
    assert seen_chars == sum(map(len, texts.values()))


def test_orders_without_a_text_share_that_of_the_one_beside_them() -> None:
    before = only(message(result("A1"), result("A2"), line("Normal.")))
    after = only(message(result("A1"), line("Normal."), result("A2"), ORDER, result("A3")))
    assert (before.accessions, after.accessions) == (("A1", "A2"), ("A1", "A2", "A3"))


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("status", "lines", "said"),
    [
        ("F", [line("Tumour.", "D")], Said.TAKEN_BACK),
        ("M", [], Said.TAKEN_BACK),
        ("P", [], PRELIMINARY),
        ("C", [], CORRECTED),
        ("F", [line("", "W")], Said.WITHDRAWN),
        ("F", [line("", "U")], VERIFIED),
    ],
)
def test_what_an_order_says_without_a_text_changes_no_report_beside_it(
    status: str, lines: list[str], said: Said, is_first: bool
) -> None:
    parts = [[result("A1"), line("Chest normal.")], [result("B2", status, number=2), *lines]]
    first, then = parts[::-1] if is_first else parts
    found = {each.report_number: each for each in reports(message(*first, *then, result("A3", number=3)))}
    assert {number: (each.said, each.order_numbers) for number, each in found.items()} == {
        "A1": (VERIFIED, ("A1", "A3")),
        "B2": (said, ("B2",)),
    }
    assert found["B2"].promotes is (said is VERIFIED)


def test_an_order_cancelled_without_a_word_cancels_no_report_beside_it() -> None:
    cancelled = result("A2", "X", number=2)
    for segments in (
        (result("A1"), line("Chest normal."), cancelled),
        (cancelled, result("A1"), line("Chest normal.")),
        (result("A1"), cancelled, result("A1"), line("Chest normal.")),
    ):
        found = {each.report_number: each.said for each in reports(message(*segments))}
        assert found == {"A1": VERIFIED, "A2": Said.CANCELLED}
    assert only(message(result("A1"), result("A1", "X"))).said is Said.CANCELLED, "one order is one report"


def test_orders_of_different_texts_are_different_reports() -> None:
    found = reports(message(result("A1"), line("Chest normal."), result("A2", "P"), line("Knee fractured.")))
    assert [(each.report_number, each.said, each.content.text) for each in found] == [
        ("A1", VERIFIED, "Chest normal."),
        ("A2", PRELIMINARY, "Knee fractured."),
    ]


def test_results_of_one_order_number_are_one_report() -> None:
    found = only(message(result("A1"), line("Chest normal."), result("A1", number=2), line("No change.")))
    assert found.content.text == "Chest normal.\n\nNo change."


def test_a_document_is_read_from_base64_and_from_hex() -> None:
    encoded = base64.b64encode(PDF).decode()
    for form, value in (("Base64", encoded), ("Base64", encoded[:20] + "\\.br\\" + encoded[20:]), ("Hex", PDF.hex())):
        found = only(message(result(), line(f"^AP^PDF^{form}^{value}", kind="ED")))
        assert (found.content.pdf, found.content.text) == (PDF, "")
    both = only(message(result(), line("Normal."), line(f"^application^pdf^Base64^{encoded}", kind="ED")))
    assert (both.content.pdf, both.content.text) == (PDF, "Normal.")


@pytest.mark.parametrize(
    "value",
    [
        "^AP^PDF^Base64^%%%%",
        "^AP^PDF^Base64^" + base64.b64encode(b"MZ").decode(),
        "^AP^PDF^A^x",
        "^IM^TIFF^Base64^AAAA",
    ],
)
def test_a_document_that_cannot_be_read_refuses_the_whole_message(value: str) -> None:
    with pytest.raises(Unreadable):
        reports(message(result(), line("Normal."), line(value, kind="ED")))


ELSEWHERE = line("\\\\ris\\1.pdf", kind="RP", code="PDF^Report")


def test_a_report_of_which_a_part_lies_elsewhere_is_none_to_read_and_confirms_no_other() -> None:
    first = only(message(result(), line("Normal.")))
    for lines in ([ELSEWHERE], [line("See attached report."), ELSEWHERE]):
        later = replace(only(message(result(at="20260602091500"), *lines)), received_at=RECEIVED + timedelta(days=1))
        told = [version_of(each, each.subject.key, b"") for each in (first, later)]
        life = fold(told, timedelta(minutes=5))
        assert life.problems == {Problem.NO_CONTENT} and life.content_of == ""
        assert life.current is not None and life.current.version_id == told[1].version_id


def test_an_order_whose_report_lies_elsewhere_takes_no_text_of_the_one_beside_it() -> None:
    found = reports(message(result("A1"), ELSEWHERE, result("A2"), line("Normal.")))
    assert [(each.report_number, each.content.text) for each in found] == [("A1", ""), ("A2", "Normal.")]


def test_a_link_to_images_is_no_part_of_a_report() -> None:
    raw = message(result(), line("Normal."), line("http://pacs.example/1", kind="RP", code="VIEWER"))
    assert not only(raw).content.is_whole
    assert only(raw, feed(Profile(image_link_codes=frozenset({"VIEWER"})))).content.is_whole


def test_coded_and_measured_values_have_their_names() -> None:
    raw = message(
        result(),
        "OBX|1|NM|38341^Ejection fraction||55|%|||||F",
        "OBX|2|CWE|1^Breast density||c^heterogeneously dense|||||||F",
        "OBX|3|ST|113014^DICOM Study^DCM||1.2.3.4||||||F",
    )
    found = only(raw)
    assert found.content.text == "Ejection fraction: 55 %\nBreast density: heterogeneously dense"
    assert found.study_uids == ("1.2.3.4",)


def test_an_unmapped_alert_is_passed_on_and_a_name_in_its_place_is_not() -> None:
    profile = Profile(
        alert_from=(Place("OBX", 8), Place("ZAL", 1)),
        alert_codes={"RED": AlertCategory.CRITICAL},
        no_alert_codes=frozenset({"N"}),
        alert_words={"[CANCER ALERT]": AlertCategory.CANCER},
    )
    found = only(message(result(), line("Mass. [CANCER ALERT]", flag="red~N~L7"), "ZAL|Anne Tester"), feed(profile))
    assert found.alert_codes == ("L7", "cancer", "critical", "unknown")


def test_an_addendum_is_administrative_where_the_profile_says_so() -> None:
    profile = Profile(administrative_from=Place("OBX", 3), administrative_codes=frozenset({"ADM"}))
    assert only(message(result(), line("Typist changed.", "B", code="ADM")), feed(profile)).is_administrative
    assert not only(message(result(), line("Fracture.", "B")), feed(profile)).is_administrative
    assert not only(message(result(), line("Normal.", code="ADM")), feed(profile)).is_administrative


@pytest.mark.parametrize(
    "identifiers",
    ["", "9990000018", "123^^^RX2^MR", "1^^^NHS^NH", "123^^^^SS", "9990000018^^^NHS^NH~9990000026^^^NHS^NH"],
)
def test_a_message_that_names_nobody_or_two_is_refused(identifiers: str) -> None:
    if identifiers == "9990000018":
        # A number without an authority is the hospital's own, whatever it looks like.
        found = only(message(result(), patient=f"PID|1||{identifiers}||A^B"))
        assert (found.subject.nhs_number, found.subject.local) == (None, (PatientId("RX1-PAS", "9990000018"),))
        return
    with pytest.raises(Unreadable):
        reports(message(result(), patient=f"PID|1||{identifiers}||A^B"))


def test_an_nhs_number_that_is_none_leaves_the_hospitals_own() -> None:
    found = only(message(result(), patient="PID|1||9990000019^^^NHS^NH~77^^^RX1^PI||A^B"))
    assert (found.subject.nhs_number, found.subject.local) == (None, (PatientId("RX1-PAS", "77"),))


def test_numbers_of_another_authority_count_where_the_profile_names_it() -> None:
    known = feed(Profile(patient_authorities=frozenset({"OLDPAS"})))
    assert only(message(result(), patient="PID|1||77^^^OLDPAS^MR||A^B"), known).subject.local == (
        PatientId("RX1-PAS", "77"),
    )


@pytest.mark.parametrize(
    "segments",
    [(), ("OBX|1|TX|x||y||||||F",), (ORDER,), (PATIENT, result()), (result("", placer=""),), (result("A" * 65),)],
)
def test_a_message_without_one_patient_and_an_order_is_refused(segments: tuple[str, ...]) -> None:
    with pytest.raises(Unreadable):
        reports(message(*segments))


def test_the_interpreter_may_come_as_a_plain_name_or_with_times() -> None:
    def interpreter(value: str) -> IncomingReport:
        return only(message(result().replace("C7654321&READER&ROBERT&&&DR", value), line("Normal.")))

    assert interpreter("C1^READER^ROBERT^^^DR").interpreter.name == "DR ROBERT READER"
    assert interpreter("READER^20260601091500").interpreter.name == "READER"
    assert interpreter("").interpreter.name == ""


def test_a_message_that_says_no_time_is_refused_for_it_would_be_another_each_time_it_came() -> None:
    with pytest.raises(Unreadable):
        reports(message(result(at=""), line("Normal."), header=HEADER.replace("20260601091600", "")))


def test_every_report_of_a_message_with_several_leaves_the_message_to_be_kept_once() -> None:
    found = reports(message(result("A1"), line("One."), result("A2"), line("Two.")))
    assert [each.raw for each in found] == [b"", b""]


def test_text_that_looks_like_markup_or_a_segment_stays_text() -> None:
    found = only(
        message(result(), line("<script>alert(1)</script>\\X0D\\PID|1||9990000026^^^NHS^NH".replace("|", "\\F\\")))
    )
    assert found.content.text == "<script>alert(1)</script>\nPID|1||9990000026^^^NHS^NH"
    assert found.subject.nhs_number == NhsNumber("9990000018")


def test_header_and_feed_do_not_change_what_is_reported() -> None:
    plain = only(message(result(), line("Normal.")))
    other = only(message(result(), line("Normal."), header=HEADER.replace("M1", "M2")))
    assert replace(plain, raw=b"") == replace(other, raw=b"")
