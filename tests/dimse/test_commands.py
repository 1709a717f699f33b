"""Command sets: what we write others read, what others write we read, and nothing else gets through."""

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import (
    C_ECHO_RQ,
    C_FIND_RSP,
    C_MOVE_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    DIMSEMessage,
)
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_MOVE, C_STORE
from pynetdicom.dsutils import decode, encode

from dimse.upper_layer.commands import Command, CommandError, CommandField, decode_command, encode_command, response

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
UIDS = st.from_regex(r"[0-9]{1,8}(\.[0-9]{1,8}){0,5}", fullmatch=True)
NUMBERS = st.none() | st.integers(0, 0xFFFF)
TITLES = st.just("") | st.from_regex(r"[A-Z0-9_]{1,16}", fullmatch=True)
COMMENTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=64)
REQUESTS = [field for field in CommandField if field < 0x8000 and field is not CommandField.C_CANCEL_RQ]
RESPONSES = [field for field in CommandField if field >= 0x8000]


@st.composite
def commands(draw: st.DrawFn) -> Command:
    field = draw(st.sampled_from(CommandField))
    is_response = field in RESPONSES
    must_name_instance = field is CommandField.C_STORE_RQ
    return Command(
        field,
        draw(st.integers(0, 0xFFFF)),
        sop_class_uid=draw(UIDS) if field in REQUESTS else draw(st.just("") | UIDS),
        has_data=draw(st.booleans()),
        status=draw(st.integers(0, 0xFFFF)) if is_response else None,
        priority=draw(NUMBERS),
        sop_instance_uid=draw(UIDS) if must_name_instance else draw(st.just("") | UIDS),
        move_destination=draw(TITLES),
        move_originator_ae_title=draw(TITLES),
        move_originator_message_id=draw(NUMBERS),
        remaining=draw(NUMBERS),
        completed=draw(NUMBERS),
        failed=draw(NUMBERS),
        warning=draw(NUMBERS),
        offending_elements=tuple(draw(st.lists(st.from_regex(r"[0-9A-F]{8}", fullmatch=True), max_size=4))),
        error_comment=draw(COMMENTS),
    )


@given(commands())
def test_a_command_reads_as_it_was_written(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@given(st.data(), commands())
def test_any_damage_is_a_value_or_a_command_error(data: st.DataObject, command: Command) -> None:
    body = bytearray(encode_command(command))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                body[at] = data.draw(st.integers(0, 255))
            case "cut":
                del body[at : at + data.draw(st.integers(1, 9))]
            case _:
                body[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        if not body:
            break
    with contextlib.suppress(CommandError):
        decode_command(bytes(body))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_command_error(body: bytes) -> None:
    with contextlib.suppress(CommandError):
        decode_command(body)


def _written_by_pynetdicom(message: DIMSEMessage, primitive: C_ECHO | C_FIND | C_MOVE | C_STORE) -> bytes:
    message.primitive_to_message(primitive)
    written = encode(message.command_set, is_implicit_vr=True, is_little_endian=True)
    assert written is not None
    return written


def test_a_store_request_of_another_toolkit_is_read() -> None:
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = UID(CT)
    primitive.AffectedSOPInstanceUID = UID("1.2.3")
    primitive.Priority = 2
    primitive.MoveOriginatorApplicationEntityTitle = "NORTHMOOR"
    primitive.MoveOriginatorMessageID = 9
    assert decode_command(_written_by_pynetdicom(C_STORE_RQ(), primitive)) == Command(
        CommandField.C_STORE_RQ,
        7,
        sop_class_uid=CT,
        sop_instance_uid="1.2.3",
        priority=2,
        has_data=False,
        move_originator_ae_title="NORTHMOOR",
        move_originator_message_id=9,
    )


def test_a_find_response_of_another_toolkit_is_read() -> None:
    primitive = C_FIND()
    primitive.MessageIDBeingRespondedTo = 7
    primitive.AffectedSOPClassUID = UID(FIND)
    primitive.Status = 0xA900
    primitive.ErrorComment = "no level"  # type: ignore[assignment]  # pynetdicom infers None
    primitive.OffendingElement = [0x00080052]  # type: ignore[assignment]  # as above
    found = decode_command(_written_by_pynetdicom(C_FIND_RSP(), primitive))
    assert (found.status, found.error_comment, found.offending_elements) == (0xA900, "no level", ("00080052",))


def test_move_messages_of_another_toolkit_are_read() -> None:
    primitive = C_MOVE()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = UID(FIND)
    primitive.Priority = 0
    primitive.MoveDestination = "EASTVALE"
    assert decode_command(_written_by_pynetdicom(C_MOVE_RQ(), primitive)).move_destination == "EASTVALE"
    primitive = C_MOVE()
    primitive.MessageIDBeingRespondedTo = 1
    primitive.Status = 0xFF00
    primitive.NumberOfRemainingSuboperations = 3
    primitive.NumberOfCompletedSuboperations = 2
    primitive.NumberOfFailedSuboperations = 1
    primitive.NumberOfWarningSuboperations = 0
    found = decode_command(_written_by_pynetdicom(C_MOVE_RSP(), primitive))
    assert (found.remaining, found.completed, found.failed, found.warning) == (3, 2, 1, 0)


def test_another_toolkit_reads_what_is_written() -> None:
    ours = encode_command(
        Command(CommandField.C_FIND_RSP, 3, sop_class_uid=FIND, status=0x0124, error_comment="not authorised")
    )
    read = decode(BytesIO(ours), is_implicit_vr=True, is_little_endian=True)
    assert (read.CommandField, read.Status, read.ErrorComment) == (0x8020, 0x0124, "not authorised")
    assert read.CommandGroupLength == len(ours) - 12
    assert read.CommandDataSetType == 0x0101


def test_an_echo_request_of_another_toolkit_is_answered_as_it_asks() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 12
    primitive.AffectedSOPClassUID = UID("1.2.840.10008.1.1")
    request = decode_command(_written_by_pynetdicom(C_ECHO_RQ(), primitive))
    answer = response(request, 0)
    assert (answer.field, answer.message_id, answer.status) == (CommandField.C_ECHO_RSP, 12, 0)


def test_a_missing_group_length_is_forgiven_and_a_wrong_one_is_not() -> None:
    body = encode_command(Command(CommandField.C_CANCEL_RQ, 5))
    assert decode_command(body[12:]) == Command(CommandField.C_CANCEL_RQ, 5)
    with pytest.raises(CommandError):
        decode_command(body[:8] + b"\x09\0\0\0" + body[12:])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 8])
def test_a_group_length_of_another_length_than_four_is_refused(length: int) -> None:
    with pytest.raises(CommandError):
        decode_command(b"\0\0\0\0" + length.to_bytes(4, "little") + bytes(length))


@pytest.mark.parametrize(
    "command",
    [
        Command(CommandField.C_ECHO_RQ, 1),
        Command(CommandField.C_STORE_RQ, 1, sop_class_uid=CT),
        Command(CommandField.C_ECHO_RSP, 1),
    ],
)
def test_a_command_without_what_it_must_have_is_refused(command: Command) -> None:
    with pytest.raises(CommandError):
        decode_command(encode_command(command))


def test_a_long_comment_of_a_peer_is_cut_and_ours_is_printable() -> None:
    written = encode_command(Command(CommandField.C_FIND_RSP, 1, status=0xC000, error_comment="é" * 99))
    assert decode_command(written).error_comment == "?" * 64


def test_what_orthanc_writes_behind_a_command_set_is_passed_over() -> None:
    command = encode_command(Command(CommandField.C_GET_RSP, 1, sop_class_uid=FIND, status=0xC000, failed=1))
    failed_list = bytes.fromhex("08005800 06000000") + b"1.2.34"
    assert decode_command(command + failed_list) == decode_command(command)
    with pytest.raises(CommandError):
        decode_command(command[12:] + failed_list)  # without a group length nobody can tell where it ends
