"""HL7 v2 as bytes: what stands in a value never becomes a segment, a field or the end of a block (threat G9)."""

from __future__ import annotations

import hl7  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.reporting.hl7 import (
    END,
    START,
    Acknowledgement,
    NotHl7,
    ack_of,
    escape,
    escape_text,
    frame,
    read_ack,
    unframe,
)

ORU = b"MSH|^~\\&|RIS|RZ1|GW|NORTH|202601011200||ORU^R01|M-1|P|2.4\rPID|1||x\r"


@given(value=st.text(st.characters()))
def test_no_value_brings_a_separator_a_line_end_or_a_framing_byte(value: str) -> None:
    for written in (escape(value), escape_text(value)):
        assert not set(written) & set("|^~&\r\n\x0b\x1c")
        assert unframe(frame(written.encode())) == written.encode()


def test_formatted_text_keeps_its_lines_and_spaces() -> None:
    assert escape_text("Chest:  clear\n\tA|B ^ C\\F\\") == "Chest:  clear\\.br\\\\X09\\A\\F\\B \\S\\ C\\E\\F\\E\\"


def test_another_parser_reads_the_value_that_was_escaped() -> None:
    value = "x|y^z&~ \\E\\"
    message = hl7.parse(f"MSH|^~\\&|A|B|C|D|20260101||ORU^R01|1|P|2.4\rOBX|1|FT|||{escape(value)}\r")

    assert message.unescape(str(message.segment("OBX")[5])) == value


def test_a_framed_message_comes_out_as_it_was() -> None:
    assert unframe(frame(ORU)) == ORU
    assert unframe(b"\r\n" + frame(ORU)) == ORU


@pytest.mark.parametrize("message", [ORU + START, ORU + END, ORU + b"\x1c"])
def test_a_message_with_a_framing_byte_is_not_framed(message: bytes) -> None:
    with pytest.raises(NotHl7):
        frame(message)


@pytest.mark.parametrize("block", [b"", ORU, START + ORU, ORU + END, START + ORU + START + END])
def test_what_is_no_block_is_refused(block: bytes) -> None:
    with pytest.raises(NotHl7):
        unframe(block)


def test_an_acknowledgement_names_the_message_and_goes_back_to_its_sender() -> None:
    answer = ack_of(ORU, "AE", control_id="A-1", at="20260101120001", words="no such | order")

    assert read_ack(answer) == Acknowledgement("AE", "M-1")
    assert answer.startswith(
        b"MSH|^~\\&|GW|NORTH|RIS|RZ1|20260101120001||ACK^R01|A-1|P|2.4\rMSA|AE|M-1|no such ? order"
    )


def test_an_acknowledgement_speaks_in_the_senders_separators() -> None:
    answer = ack_of(b"MSH#*~\\&#RIS#RZ1#GW#NORTH#2026##ORU*R01#7#P#2.3\r", "AA", control_id="1", at="2026")

    assert answer == b"MSH#*~\\&#GW#NORTH#RIS#RZ1#2026##ACK*R01#1#P#2.3\rMSA#AA#7\r"


@pytest.mark.parametrize("answer", [b"", b"OK", b"MSH|^~\\&|\r", b"MSH|^~\\&|\rMSA|ZZ|1\r", b"MSH|^~\\&|\rMSA|AA\r"])
def test_an_answer_that_acknowledges_nothing_is_refused(answer: bytes) -> None:
    with pytest.raises(NotHl7):
        read_ack(answer)


@given(message=st.binary(max_size=400))
def test_reading_a_message_never_fails_otherwise(message: bytes) -> None:
    for read in (read_ack, lambda each: ack_of(each, "AR", control_id="1", at="2026"), unframe):
        try:
            read(message)
        except NotHl7:
            continue
