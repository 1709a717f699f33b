"""Fragments become messages, and what does not fit together ends the association."""

import pytest

from dimse.upper_layer.commands import Command, CommandField, encode_command
from dimse.upper_layer.messages import Assembler, Message, MessageLimits, Sink
from dimse.upper_layer.negotiation import Context
from dimse.upper_layer.pdata import IS_COMMAND, IS_LAST
from dimse.upper_layer.pdu import AbortReason, PduError

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXTS = {1: Context(1, CT, "1.2.840.10008.1.2"), 3: Context(3, CT, "1.2.840.10008.1.2.1")}
STORE = Command(CommandField.C_STORE_RQ, 1, sop_class_uid=CT, sop_instance_uid="1.2.3", has_data=True)
CANCEL = Command(CommandField.C_CANCEL_RQ, 1)
WHOLE_COMMAND = IS_COMMAND | IS_LAST


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.is_abandoned = False

    def write(self, piece: memoryview) -> None:
        self.content += piece

    def finish(self) -> object:
        return len(self.content)

    def abandon(self) -> None:
        self.is_abandoned = True


def _assembler(limits: MessageLimits | None = None, sink: Sink | None = None) -> Assembler:
    return Assembler(CONTEXTS, limits or MessageLimits(), lambda _context, _command: sink)


def _take(
    assembler: Assembler, control: int, content: bytes, context_id: int = 1, *, is_end: bool = True
) -> Message | None:
    return assembler.fragment(context_id, control, memoryview(content), is_end)


def test_a_command_without_a_data_set_is_a_message() -> None:
    message = _take(_assembler(), WHOLE_COMMAND, encode_command(CANCEL))
    assert message == Message(CONTEXTS[1], CANCEL)


def test_a_message_comes_in_any_number_of_fragments_the_last_of_which_may_be_empty() -> None:
    assembler = _assembler()
    command = encode_command(STORE)
    for number in range(len(command)):
        assert _take(assembler, IS_COMMAND, command[number : number + 1]) is None
    assert _take(assembler, WHOLE_COMMAND, b"") is None
    assert _take(assembler, 0, b"ab") is None
    assert _take(assembler, 0, b"c", is_end=False) is None
    assert _take(assembler, 0, b"d") is None
    assert _take(assembler, IS_LAST, b"") == Message(CONTEXTS[1], STORE, b"abcd")
    assert _take(assembler, WHOLE_COMMAND, encode_command(CANCEL), 3) == Message(CONTEXTS[3], CANCEL)


def test_a_sink_takes_the_data_set_piece_by_piece() -> None:
    sink = Kept()
    assembler = _assembler(MessageLimits(data_bytes_max=1), sink)
    _take(assembler, WHOLE_COMMAND, encode_command(STORE))
    _take(assembler, 0, b"abc")
    assert sink.content == b"abc"
    assert _take(assembler, IS_LAST, b"de") == Message(CONTEXTS[1], STORE, 5)
    assembler.abandon()
    assert not sink.is_abandoned


def test_a_sink_is_told_when_the_rest_will_not_come() -> None:
    sink = Kept()
    assembler = _assembler(sink=sink)
    _take(assembler, WHOLE_COMMAND, encode_command(STORE))
    _take(assembler, 0, b"abc")
    assembler.abandon()
    assert sink.is_abandoned


@pytest.mark.parametrize(
    "fragments",
    [
        [(WHOLE_COMMAND, encode_command(CANCEL), 5)],
        [(IS_LAST, b"data first", 1)],
        [(WHOLE_COMMAND, encode_command(STORE), 1), (WHOLE_COMMAND, encode_command(CANCEL), 1)],
        [(WHOLE_COMMAND, encode_command(STORE), 1), (IS_LAST, b"", 3)],
        [(WHOLE_COMMAND, encode_command(CANCEL), 1), (IS_LAST, b"no data was announced", 1)],
        [(WHOLE_COMMAND, b"", 1)],
        [(WHOLE_COMMAND, b"no command", 1)],
    ],
    ids=["unknown context", "data first", "two commands", "context changes", "data after", "empty", "garbage"],
)
def test_fragments_that_do_not_fit_are_refused(fragments: list[tuple[int, bytes, int]]) -> None:
    assembler = _assembler()
    for control, content, context_id in fragments[:-1]:
        _take(assembler, control, content, context_id)
    with pytest.raises(PduError) as refused:
        _take(assembler, *fragments[-1])
    assert refused.value.reason is AbortReason.INVALID_PARAMETER


def test_a_command_may_be_as_long_as_its_limit() -> None:
    command = encode_command(STORE)
    assert _take(_assembler(MessageLimits(command_bytes_max=len(command))), WHOLE_COMMAND, command) is None
    with pytest.raises(PduError) as refused:
        _take(_assembler(MessageLimits(command_bytes_max=len(command) - 1)), WHOLE_COMMAND, command)
    assert refused.value.reason is AbortReason.NOT_SPECIFIED


def test_a_data_set_kept_in_memory_may_be_as_long_as_its_limit() -> None:
    assembler = _assembler(MessageLimits(data_bytes_max=4))
    _take(assembler, WHOLE_COMMAND, encode_command(STORE))
    _take(assembler, 0, b"abcd")
    assert _take(assembler, IS_LAST, b"") is not None
    _take(assembler, WHOLE_COMMAND, encode_command(STORE))
    with pytest.raises(PduError):
        _take(assembler, 0, b"abcde", is_end=False)


def test_a_message_may_have_as_many_fragments_as_its_limit() -> None:
    assembler = _assembler(MessageLimits(fragments_max=3))
    command = encode_command(CANCEL)
    _take(assembler, IS_COMMAND, command[:4])
    _take(assembler, IS_COMMAND, command[4:])
    assert _take(assembler, WHOLE_COMMAND, b"") is not None
    for _ in range(3):
        _take(assembler, IS_COMMAND, b"")
    with pytest.raises(PduError) as refused:
        _take(assembler, IS_COMMAND, b"")
    assert refused.value.reason is AbortReason.NOT_SPECIFIED


def test_a_streamed_data_set_may_have_any_number_of_fragments_that_carry_something() -> None:
    assembler = _assembler(MessageLimits(fragments_max=3), Kept())
    _take(assembler, WHOLE_COMMAND, encode_command(STORE))
    for _ in range(10):
        _take(assembler, 0, bytes(256))
    with pytest.raises(PduError):
        for _ in range(10):
            _take(assembler, 0, b".")
