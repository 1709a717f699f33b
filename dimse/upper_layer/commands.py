"""Command sets: what a DIMSE message says of itself (PS3.7 6.3 and Annex E), to bytes and back.

Always Implicit VR Little Endian, group 0000 only, ascending. Strict about lengths, because a command that is read
wrongly is answered wrongly; forgiving about what peers add. Pure.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum

COMMENT_CHARS_MAX = 64
"""Error Comment is LO."""

_HAS_DATA, _NO_DATA = 0x0001, 0x0101
_RESPONSE = 0x8000
_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS, _REQUESTED_SOP_CLASS = 0x0002, 0x0003
_COMMAND_FIELD, _MESSAGE_ID, _MESSAGE_ID_RESPONDED_TO = 0x0100, 0x0110, 0x0120
_MOVE_DESTINATION, _PRIORITY, _DATA_SET_TYPE, _STATUS = 0x0600, 0x0700, 0x0800, 0x0900
_OFFENDING_ELEMENT, _ERROR_COMMENT = 0x0901, 0x0902
_AFFECTED_SOP_INSTANCE, _REQUESTED_SOP_INSTANCE = 0x1000, 0x1001
_EVENT_TYPE, _ACTION_TYPE = 0x1002, 0x1008
_REMAINING, _COMPLETED, _FAILED, _WARNING = 0x1020, 0x1021, 0x1022, 0x1023
_MOVE_ORIGINATOR, _MOVE_ORIGINATOR_MESSAGE_ID = 0x1030, 0x1031

_ELEMENT = struct.Struct("<HHI")
_NUMBER_ELEMENT = struct.Struct("<HHIH")
_LENGTH_ELEMENT = struct.Struct("<HHII")
_US = struct.Struct("<H")
_ELEMENTS_MAX = 64
_UID = re.compile(r"[0-9.]{1,64}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class CommandField(IntEnum):
    """Command Field (0000,0100), PS3.7 E.1."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


class CommandError(ValueError):
    """A command set that cannot be read; in words that repeat nothing of it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command set. What a command does not have is empty or None."""

    field: CommandField
    message_id: int
    """Of a request its own id; of a response or C-CANCEL the id of the request that is meant."""
    sop_class_uid: str = ""
    """Affected or Requested SOP Class UID."""
    has_data: bool = False
    """Whether a data set follows."""
    status: int | None = None
    priority: int | None = None
    sop_instance_uid: str = ""
    """Affected or Requested SOP Instance UID."""
    event_type: int | None = None
    action_type: int | None = None
    move_destination: str = ""
    move_originator_ae_title: str = ""
    move_originator_message_id: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    offending_elements: tuple[str, ...] = ()
    """Tags of eight hexadecimal digits."""
    error_comment: str = ""

    @property
    def is_request(self) -> bool:
        """Whether it is one that asks for an answer."""
        return self.field < _RESPONSE and not self.is_cancel

    @property
    def is_cancel(self) -> bool:
        """Whether it is C-CANCEL."""
        return self.field is CommandField.C_CANCEL_RQ

    @property
    def is_pending(self) -> bool:
        """Whether further responses to the same request follow (PS3.7 C.1.1)."""
        return self.status in (0xFF00, 0xFF01)


def response(request: Command, status: int, *, has_data: bool = False) -> Command:
    """The response to `request` with this status, naming the same SOP class and instance."""
    return Command(
        CommandField(request.field | _RESPONSE),
        request.message_id,
        sop_class_uid=request.sop_class_uid,
        has_data=has_data,
        status=status,
        sop_instance_uid=request.sop_instance_uid,
    )


def encode_command(command: Command) -> bytes:
    """The command set as bytes, group length first."""
    is_own_id = command.is_request
    parts = []
    if command.sop_class_uid:
        tag = _REQUESTED_SOP_CLASS if _names_requested(command.field) else _AFFECTED_SOP_CLASS
        parts.append(_uid_element(tag, command.sop_class_uid))
    parts.append(_NUMBER_ELEMENT.pack(0, _COMMAND_FIELD, 2, command.field))
    tag = _MESSAGE_ID if is_own_id else _MESSAGE_ID_RESPONDED_TO
    parts.append(_NUMBER_ELEMENT.pack(0, tag, 2, command.message_id))
    if command.move_destination:
        parts.append(_text_element(_MOVE_DESTINATION, command.move_destination))
    if command.priority is not None:
        parts.append(_NUMBER_ELEMENT.pack(0, _PRIORITY, 2, command.priority))
    parts.append(_NUMBER_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _HAS_DATA if command.has_data else _NO_DATA))
    if command.status is not None:
        parts.append(_NUMBER_ELEMENT.pack(0, _STATUS, 2, command.status))
    if command.offending_elements:
        tags = b"".join(struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16)) for tag in command.offending_elements)
        parts.append(_ELEMENT.pack(0, _OFFENDING_ELEMENT, len(tags)) + tags)
    if command.error_comment:
        parts.append(_text_element(_ERROR_COMMENT, _UNPRINTABLE.sub("?", command.error_comment)[:COMMENT_CHARS_MAX]))
    if command.sop_instance_uid:
        tag = _REQUESTED_SOP_INSTANCE if _names_requested(command.field) else _AFFECTED_SOP_INSTANCE
        parts.append(_uid_element(tag, command.sop_instance_uid))
    for tag, number in (
        (_EVENT_TYPE, command.event_type),
        (_ACTION_TYPE, command.action_type),
        (_REMAINING, command.remaining),
        (_COMPLETED, command.completed),
        (_FAILED, command.failed),
        (_WARNING, command.warning),
    ):
        if number is not None:
            parts.append(_NUMBER_ELEMENT.pack(0, tag, 2, number))
    if command.move_originator_ae_title:
        parts.append(_text_element(_MOVE_ORIGINATOR, command.move_originator_ae_title))
    if command.move_originator_message_id is not None:
        parts.append(_NUMBER_ELEMENT.pack(0, _MOVE_ORIGINATOR_MESSAGE_ID, 2, command.move_originator_message_id))
    body = b"".join(parts)
    return _LENGTH_ELEMENT.pack(0, _GROUP_LENGTH, 4, len(body)) + body


def decode_command(body: bytes) -> Command:
    """Read a command set; raises `CommandError` and nothing else."""
    values = _elements(body)
    number = _number(values, _COMMAND_FIELD)
    try:
        field = CommandField(number if number is not None else -1)
    except ValueError:
        raise CommandError("the command field is missing or unknown") from None
    is_request = field < _RESPONSE and field is not CommandField.C_CANCEL_RQ
    message_id = _number(values, _MESSAGE_ID if is_request else _MESSAGE_ID_RESPONDED_TO)
    if message_id is None:
        raise CommandError("the message id is missing")
    data_set_type = _number(values, _DATA_SET_TYPE)
    if data_set_type is None:
        raise CommandError("the data set type is missing")
    status = _number(values, _STATUS)
    if not is_request and status is None and field is not CommandField.C_CANCEL_RQ:
        raise CommandError("a response has no status")
    sop_class_uid = _uid(values, _AFFECTED_SOP_CLASS) or _uid(values, _REQUESTED_SOP_CLASS)
    if is_request and not sop_class_uid:
        raise CommandError("a request names no SOP class")
    sop_instance_uid = _uid(values, _AFFECTED_SOP_INSTANCE) or _uid(values, _REQUESTED_SOP_INSTANCE)
    if field is CommandField.C_STORE_RQ and not sop_instance_uid:
        raise CommandError("a C-STORE request names no SOP instance")
    return Command(
        field,
        message_id,
        sop_class_uid=sop_class_uid,
        has_data=data_set_type != _NO_DATA,
        status=status,
        priority=_number(values, _PRIORITY),
        sop_instance_uid=sop_instance_uid,
        event_type=_number(values, _EVENT_TYPE),
        action_type=_number(values, _ACTION_TYPE),
        move_destination=_text(values, _MOVE_DESTINATION, 16),
        move_originator_ae_title=_text(values, _MOVE_ORIGINATOR, 16),
        move_originator_message_id=_number(values, _MOVE_ORIGINATOR_MESSAGE_ID),
        remaining=_number(values, _REMAINING),
        completed=_number(values, _COMPLETED),
        failed=_number(values, _FAILED),
        warning=_number(values, _WARNING),
        offending_elements=_tags(values, _OFFENDING_ELEMENT),
        # A peer's comment may be longer than LO allows: it is cut, for a comment is no reason to lose an answer.
        error_comment=_text(values, _ERROR_COMMENT, None)[:COMMENT_CHARS_MAX],
    )


def _names_requested(field: CommandField) -> bool:
    """Whether a command names its SOP class and instance as requested: requests on instances that exist."""
    return field in (
        CommandField.N_GET_RQ,
        CommandField.N_SET_RQ,
        CommandField.N_ACTION_RQ,
        CommandField.N_DELETE_RQ,
    )


def _uid_element(tag: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    if len(value) & 1:
        value += b"\0"
    return _ELEMENT.pack(0, tag, len(value)) + value


def _text_element(tag: int, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) & 1:
        value += b" "
    return _ELEMENT.pack(0, tag, len(value)) + value


def _elements(body: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at, end, last = 0, len(body), -1
    while at < end:
        if end - at < 8:
            raise CommandError("an element of the command set is cut")
        group, element, length = _ELEMENT.unpack_from(body, at)
        if group != 0:
            # Orthanc writes Failed SOP Instance UID List behind the command set, where its group length ends.
            if _GROUP_LENGTH not in values:
                raise CommandError("an element of the command set is of another group")
            end = at
            break
        at += 8
        if element <= last:
            raise CommandError("the elements of the command set do not ascend")
        if length > end - at:
            raise CommandError("an element of the command set is longer than the set")
        if len(values) == _ELEMENTS_MAX:
            raise CommandError("the command set has too many elements")
        values[element] = body[at : at + length]
        at, last = at + length, element
    announced = values.pop(_GROUP_LENGTH, None)
    # Some toolkits leave the group length out; one that is there must be true.
    if announced is not None and (len(announced) != 4 or int.from_bytes(announced, "little") != end - 12):
        raise CommandError("the command group length is wrong")
    return values


def _number(values: dict[int, bytes], tag: int) -> int | None:
    value = values.get(tag)
    if value is None or not value:
        return None
    if len(value) != 2:
        raise CommandError("a number of the command set is not two bytes long")
    number: int = _US.unpack(value)[0]
    return number


def _uid(values: dict[int, bytes], tag: int) -> str:
    value = values.get(tag)
    if not value:
        return ""
    text = value.rstrip(b"\0 ").decode("ascii", errors="replace")
    if text and not _UID.fullmatch(text):
        raise CommandError("a UID of the command set is not made of 1 to 64 digits and full stops")
    return text


def _text(values: dict[int, bytes], tag: int, chars_max: int | None) -> str:
    value = values.get(tag)
    if not value:
        return ""
    text = value.decode("ascii", errors="replace").strip(" \0")
    if chars_max is not None and (len(text) > chars_max or _UNPRINTABLE.search(text)):
        raise CommandError("an AE title of the command set is longer than 16 characters or unprintable")
    return text


def _tags(values: dict[int, bytes], tag: int) -> tuple[str, ...]:
    value = values.get(tag)
    if not value:
        return ()
    if len(value) % 4:
        raise CommandError("a list of tags in the command set is cut")
    return tuple(f"{group:04X}{element:04X}" for group, element in struct.iter_unpack("<HH", value))
