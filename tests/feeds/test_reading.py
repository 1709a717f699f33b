"""Reading HL7 v2: delimiters, line ends, character sets, escapes and times, of honest and of hostile senders."""

from datetime import datetime

import pytest
from hl7apy.parser import parse_message  # type: ignore[import-untyped]  # it has no types
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.feeds.hl7 import escapes, reading
from gateway.feeds.hl7.reading import Fault, Unreadable
from gateway.feeds.hl7.times import stamp
from policy.release.reports import ZoneKnown
from tests.feeds.messages import HEADER, PATIENT, line, message, result

LETTERS = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}


def read(raw: bytes, character_set: str = "UNICODE UTF-8") -> reading.Message:
    return reading.read(raw, character_set=character_set)


def report_text(raw: bytes) -> str:
    found = read(raw).first("OBX")
    assert found is not None
    return found.field(5).text


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_segments_may_end_in_any_of_the_three_ways(end: str) -> None:
    whole = read(message(result(), line("Normal."), end=end))
    assert [each.name for each in whole.segments] == ["MSH", "PID", "OBR", "OBX"]
    assert whole.segments[1].field(5).component(2) == "ANNE"


def test_another_line_end_than_the_headers_is_part_of_a_text() -> None:
    raw = message(result(), line("First.\nOBX|2|FT|GDT||Second.||||||F"))
    assert [each.name for each in read(raw).segments].count("OBX") == 1
    assert report_text(raw) == "First.\nOBX"


def test_a_message_whose_segments_end_in_two_ways_is_refused() -> None:
    with pytest.raises(Unreadable):
        read(message(result(), line("a\rb"), end="\r\n"))


def test_any_five_different_marks_part_a_message() -> None:
    raw = b"MSH#@!?%#RIS\rPID#1##1@@@RX1@PI!2@@@NHS##A%B@C\rOBX#1#FT#x##a?T?b?F?c?E?d?R?e?S?f\r"
    patient = read(raw).segments[1]
    assert [each.value for each in patient.field(3).repetitions] == ["1", "2"]
    assert patient.field(5).component(1, 2) == "B"
    assert report_text(raw) == "a%b#c?d!e@f"


@pytest.mark.parametrize(
    "start",
    [
        "",
        "MSH",
        "MSH|",
        "MSH||||||",
        "MSH|^^^^|A",
        "MSH|^~\\|A",
        "MSH|abcd|A",
        "MSH|^~\\&#$|A",
        "MSH\r^~\\&\rA",
        "PID|1",
    ],
)
def test_a_message_without_a_whole_header_is_refused(start: str) -> None:
    with pytest.raises(Unreadable):
        read(start.encode())


@pytest.mark.parametrize(
    ("name", "encoded"),
    [("", "utf-8"), ("UNICODE UTF-8", "utf-8"), ("UNICODE", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859_15")],
)
def test_the_character_set_is_the_one_the_header_names(name: str, encoded: str) -> None:
    header = HEADER + "|" * 6 + name
    text = "\r".join([header, PATIENT, result(), line("Fractured ulna, Zoë Müller")])
    assert report_text(text.encode(encoded)) == "Fractured ulna, Zoë Müller"


def test_quotation_marks_of_windows_are_read_where_they_are_called_latin() -> None:
    text = "\r".join([HEADER + "||||||8859/1", PATIENT, line("\u201cnormal\u201d")])
    assert report_text(text.encode("cp1252")) == "\u201cnormal\u201d"


@pytest.mark.parametrize(
    ("header", "body", "fault"),
    [
        (HEADER + "||||||ASCII", "Müller".encode(), Fault.FORM),
        (HEADER, "Müller".encode("latin-1"), Fault.FORM),
        (HEADER + "||||||ISO IR87", b"x", Fault.VALUE),
        (HEADER + "||||||ASCII~ISO IR87", b"x", Fault.VALUE),
        (HEADER, b"a\0b", Fault.FORM),
    ],
)
def test_bytes_that_cannot_be_told_are_refused_whole(header: str, body: bytes, fault: Fault) -> None:
    with pytest.raises(Unreadable) as refused:
        read(header.encode() + b"\rOBX|1|FT|x||" + body + b"\r")
    assert refused.value.fault is fault


@pytest.mark.parametrize(
    "batch", ["FHS|^~\\&|A\rBHS|^~\\&|A\rMSH|^~\\&|A\r", f"{HEADER}\r{HEADER}\r", f"{HEADER}\rBTS|1\r"]
)
def test_batches_and_messages_within_messages_are_refused(batch: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(batch.encode())
    assert refused.value.fault is Fault.SEGMENTS


@pytest.mark.parametrize(
    ("escaped", "meant"),
    [
        ("T1 \\F\\ T2 \\S\\ \\T\\ \\R\\ \\E\\", "T1 | T2 ^ & ~ \\"),
        ("one\\.br\\two\\.sp2\\three\\.ce\\four", "one\ntwo\n\nthree\nfour"),
        ("\\H\\bold\\N\\ \\.in+4\\in\\.ti-2\\ \\.fi\\fill\\.nf\\", "bold in fill"),
        ("5\\XC2B5\\m", "5µm"),
        ("a\\X0D\\OBX|9", "a\nOBX"),
        ("C:\\scans\\anne.rtf", "C:\\scans\\anne.rtf"),
        ("\\Zlocal\\ \\C2842\\", "\\Zlocal\\ \N{REPLACEMENT CHARACTER}"),
        ("\\E\\F\\", "\\F\\"),
        ("\\.sp999\\x", "\n" * 20 + "x"),
        ("a\x07b\x85c", "a\N{REPLACEMENT CHARACTER}b\nc"),
        ("line~line & T1^T2", "line\nline & T1^T2"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ('""', ""),
    ],
)
def test_escapes_mean_what_the_standard_says_and_no_word_is_lost(escaped: str, meant: str) -> None:
    assert report_text(message(result(), line(escaped))) == meant


def test_no_escape_in_a_name_makes_a_segment_or_a_line() -> None:
    raw = message(patient="PID|1||1^^^RX1^PI||TESTER\\X0D\\OBX\\F\\1\\.br\\x^ANNE\\E\\X0D\\E\\")
    name = read(raw).segments[1].field(5)
    assert name.component(1) == "TESTER OBX|1 x"
    assert name.component(2) == "ANNE\\X0D\\"
    assert [each.name for each in read(raw).segments] == ["MSH", "PID"]


def test_what_has_more_parts_than_anybody_needs_is_refused_and_costs_little() -> None:
    for value in ("~" * 3_000_000, "^" * 3_000_000, "|" * 3_000_000):
        whole = read(message(f"PID|1||{value}"))
        with pytest.raises(Unreadable):
            _ = [each.component(1) for each in whole.segments[2].field(3).repetitions]
    with pytest.raises(Unreadable):
        read(message(*["OBX|1"] * 30_000))


@pytest.mark.parametrize(
    ("value", "instant", "zone"),
    [
        ("20260601091500+0100", "2026-06-01T08:15:00Z", ZoneKnown.STATED),
        ("20260601091500.1234-0230", "2026-06-01T11:45:00.123400Z", ZoneKnown.STATED),
        ("202606010915", "2026-06-01T08:15:00Z", ZoneKnown.ASSUMED),
        ("20261101091500", "2026-11-01T09:15:00Z", ZoneKnown.ASSUMED),
        ("20260601", "2026-06-01T22:59:59Z", ZoneKnown.DATE_ONLY),
        ("20261025013000", "2026-10-25T01:30:00Z", ZoneKnown.ASSUMED),
        ("20270328013000", "2027-03-28T01:30:00Z", ZoneKnown.ASSUMED),
    ],
)
def test_a_time_without_a_zone_is_londons(value: str, instant: str, zone: ZoneKnown) -> None:
    found = stamp(value)
    assert found is not None
    assert (found.at, found.zone) == (datetime.fromisoformat(instant), zone)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2026",
        "202606",
        "20260230",
        "2026060109",
        "20260601256000",
        "20260601091500+9900",
        "00010101",
        "٢٠٢٦٠٦٠١",
        "x",
    ],
)
def test_what_is_no_time_is_none(value: str) -> None:
    assert stamp(value) is None


def test_hl7apy_reads_the_same() -> None:
    raw = message("OBR|1|P1|A1|XCHES^Chest X-ray||||||||||||||||||20260601||DX|F", line("Clear \\T\\ normal."))
    theirs = parse_message(raw.decode(), find_groups=False)
    ours = read(raw)
    assert ours.header.field(10).value == theirs.msh.msh_10.value
    assert ours.header.field(9).component(2) == theirs.msh.msh_9.msh_9_2.value
    patient = ours.first("PID")
    assert patient is not None
    assert [each.value for each in patient.field(3).repetitions] == [each.cx_1.value for each in theirs.pid.pid_3]
    assert patient.field(5).component(1) == theirs.pid.pid_5.pid_5_1.value
    request = ours.first("OBR")
    assert request is not None
    assert [request.field(number).value for number in (3, 22, 25)] == [
        theirs.obr.obr_3.value,
        theirs.obr.obr_22.value,
        theirs.obr.obr_25.value,
    ]


@settings(max_examples=400)
@given(st.text())
def test_any_text_that_is_escaped_is_read_as_it_was(text: str) -> None:
    marks = {value: f"\\{letter}\\" for letter, value in LETTERS.items()}
    escaped = "".join(marks.get(each, each) for each in text)
    assert escapes.text(escaped, "\\", LETTERS, "utf-8") == escapes.tidy(text)


@settings(max_examples=800)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda rest: b"MSH|^~\\&|" + rest)))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        whole = read(raw)
    except Unreadable as refused:
        assert str(refused)
    else:
        assert all(len(each.name) == 3 for each in whole.segments)
