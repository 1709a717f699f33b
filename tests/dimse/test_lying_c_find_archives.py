"""Archives that lie, fail, stall or speak nonsense over C-FIND: none is believed, none stalls us, none is quoted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from dimse.connector import Quirk
from dimse.elements import encode_dataset
from dimse.sop_classes import STUDY_ROOT_FIND
from dimse.upper_layer import pdu
from dimse.upper_layer.association import Association
from dimse.upper_layer.commands import Command, CommandField, encode_command, response
from dimse.upper_layer.messages import Message
from dimse.upper_layer.pdata import in_p_data
from dimse.upper_layer.wire import Ended
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import PATIENT_ID, SERIES_UID, STUDY_UID, Attributes, Key, Level, Query
from gateway.model.seams import PeerRequest
from tests.dimse.c_find_asking import ANNE, ANNES, ANNES_STUDIES, EASTVALE, LIMITS, ask, peer, values
from tests.peers.dimse_archive import Archive, Script, element, ended, listening, series, study

PENDING = 0xFF00


def giving(*rows: Attributes | bytes, status: int = 0x0000) -> Script:
    """Gives these rows, whatever is asked, and ends."""

    async def give(archive: Archive, association: Association, message: Message) -> None:
        for row in rows:
            await archive.give(association, message, row)
        await archive.end(association, message, status)

    return give


def saying(command: Callable[[Message], Command], data: bytes | None = None, row: Attributes | None = None) -> Script:
    """Gives one row, if any, and then says something that is no answer."""

    async def say(archive: Archive, association: Association, message: Message) -> None:
        if row is not None:
            await archive.give(association, message, row)
        await archive.say(association, message, command(message), data)
        await asyncio.Event().wait()

    return say


async def find(script: Script, query: Query = ANNES_STUDIES, *quirks: Quirk, **limits: int) -> list[object]:
    """The study UIDs that are believed."""
    changed = replace(LIMITS, **limits)
    async with listening(Archive(script=script)) as archive, peer(archive.port, *quirks, limits=changed) as connector:
        return values(await ask(connector, query), STUDY_UID)


# How an answer ends.


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0xA700, PeerUnavailable),
        (0x0213, PeerUnavailable),
        (0xA900, PeerRefused),
        (0xC000, PeerRefused),
        (0xC514, PeerRefused),
        (0x0122, PeerRefused),
        (0x0124, PeerRefused),
        (0x0110, PeerRefused),
        (0xD000, PeerProtocolError),
    ],
)
async def test_a_failure_status_is_an_error_of_the_right_kind_whatever_came_before(
    status: int, expected: type[PeerError]
) -> None:
    async with listening(Archive(script=giving(study(1), status=status))) as archive, peer(archive.port) as connector:
        for _ in range(2):
            with pytest.raises(expected) as error:
                await ask(connector)
            assert error.value.trust == EASTVALE and ANNE not in str(error.value)
    # It said no in good order: the association is not to blame.
    assert len(archive.associations) == 1


@pytest.mark.parametrize("status", [0xFE00, 0xB001, 0xB000, 0x0001, 0x0107, 0x0116])
async def test_an_archive_that_ends_early_or_with_a_warning_is_truncated(status: int) -> None:
    async with listening(Archive(script=giving(study(1), status=status))) as archive, peer(archive.port) as connector:
        answer = await ask(connector)
    assert len(answer.rows) == 1 and answer.is_truncated


async def test_a_row_that_says_that_a_key_is_not_supported_is_a_row() -> None:
    async def give(archive: Archive, association: Association, message: Message) -> None:
        await archive.give(association, message, study(1), 0xFF01)
        await archive.end(association, message)

    assert await find(give) == ["1.2.1"]


async def test_rows_that_come_twice_are_one_and_rows_that_differ_are_two() -> None:
    other = study(1, "9990000026")
    assert await find(giving(study(1), study(1), other, study(1))) == ["1.2.1", "1.2.1"]


# What is not believed.


def other_level() -> Attributes:
    return {"00080052": element("CS", "SERIES"), **study(1)}


def without(tag: str) -> Attributes:
    return {name: value for name, value in study(1).items() if name != tag}


@pytest.mark.parametrize(
    "row",
    [
        other_level(),
        without(STUDY_UID),
        {**study(1), STUDY_UID: element("UI")},
        {**study(1), STUDY_UID: element("UI", "1.2", "1.3")},
        b"",
        b"\x00" * 7,
        b"\x10\x00\x20\x00LO\xff\xff9990000018",
        b"\x20\x00\x0d\x00UI\x08\x00../../et",
        b"\x20\x00\x0d\x00UI\x04\x001.2\x00\x20\x00\x0d\x00UI\x04\x001.3\x00",
        b"\xff" * 4_096,
    ],
)  # fmt: skip
async def test_a_row_that_cannot_be_is_not_believed(row: Attributes | bytes) -> None:
    async with listening(Archive(script=giving(study(7), row))) as archive, peer(archive.port) as connector:
        with pytest.raises(PeerProtocolError) as error:
            await ask(connector)
        await ended(archive.associations)
        assert ANNE not in str(error.value)
        assert archive.associations[0].end is not None
        assert archive.associations[0].end.why is Ended.ABORTED_BY_PEER


@pytest.mark.parametrize("has_row", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        lambda asked: response(replace(asked.command, message_id=asked.command.message_id + 1), 0),
        lambda asked: response(replace(asked.command, field=CommandField.C_ECHO_RQ), 0),
        lambda asked: response(replace(asked.command, field=CommandField.C_MOVE_RQ), PENDING),
        lambda asked: response(asked.command, PENDING),
        lambda asked: Command(CommandField.C_ECHO_RQ, 1, sop_class_uid="1.2.840.10008.1.1"),
        lambda asked: replace(asked.command, has_data=False),
    ],
    ids=["another message", "C-ECHO", "C-MOVE", "row without a data set", "asks us for C-ECHO", "asks us for C-FIND"],
)
async def test_whatever_is_no_answer_to_the_question_is_not_believed(
    command: Callable[[Message], Command], has_row: bool
) -> None:
    with pytest.raises(PeerProtocolError):
        await find(saying(command, row=study(1) if has_row else None))


async def test_an_archive_that_sends_us_images_is_not_believed() -> None:
    def store(_asked: Message) -> Command:
        return Command(
            CommandField.C_STORE_RQ,
            9,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            sop_instance_uid="1.2.3",
            has_data=True,
            priority=0,
        )

    with pytest.raises(PeerProtocolError):
        await find(saying(store, b"\x08\x00\x18\x00UI\x06\x001.2.3\x00"))


async def test_an_answer_in_another_context_is_not_believed() -> None:
    async def elsewhere(_archive: Archive, association: Association, message: Message) -> None:
        other = next(number for number in association.terms.contexts if number != message.context.context_id)
        await association.send(other, response(message.command, 0))
        await asyncio.Event().wait()

    with pytest.raises(PeerProtocolError):
        await find(elsewhere)


async def test_words_after_the_end_are_not_taken_for_the_next_answer() -> None:
    async def go_on(archive: Archive, association: Association, message: Message) -> None:
        await archive.be_honest(association, message)
        if len(archive.asked) == 1:
            await archive.give(association, message, study(66))
            await archive.end(association, message)

    async with listening(Archive([study(1)], go_on)) as archive, peer(archive.port) as connector:
        for _ in range(3):
            assert values(await ask(connector), STUDY_UID) == ["1.2.1"]


@pytest.mark.parametrize("is_news", [False, True])
async def test_endless_rows_end_at_the_limit_of_bytes(is_news: bool) -> None:
    async def for_ever(archive: Archive, association: Association, message: Message) -> None:
        number = 0
        while True:
            number += is_news
            await archive.give(association, message, study(number))
            await asyncio.sleep(0)

    with pytest.raises(PeerProtocolError):
        await find(for_ever, peer_answer_bytes_max=64 * 1024)


async def test_an_answer_is_as_long_as_its_limit_and_no_longer() -> None:
    sizes: list[int] = []

    async def measured(archive: Archive, association: Association, message: Message) -> None:
        row = encode_dataset(study(1), message.context.transfer_syntax, ("ISO_IR 100",))
        sizes.append(len(row) + 128)
        await archive.give(association, message, row)
        await archive.end(association, message)

    await find(measured)
    assert await find(measured, peer_answer_bytes_max=sizes[0]) == ["1.2.1"]
    with pytest.raises(PeerProtocolError):
        await find(measured, peer_answer_bytes_max=sizes[0] - 1)


async def test_one_row_that_is_longer_than_any_identifier_is_not_read() -> None:
    long = {**study(1), "00104000": element("LT", "a" * 5_000)}
    with pytest.raises(PeerProtocolError):
        await find(giving(long), identifier_bytes_max=4_096)


async def test_rows_of_other_studies_under_a_study_are_nobodys() -> None:
    async def stray(archive: Archive, association: Association, message: Message) -> None:
        rows = [study(1)] if archive.levels[-1] == "STUDY" else [series(1, 1), series(6, 6)]
        await giving(*rows)(archive, association, message)

    async with listening(Archive(script=stray)) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert values(answer, SERIES_UID) == ["1.2.1.1"]


async def test_a_study_filed_under_two_patients_shows_its_series_under_both() -> None:
    rows: list[Attributes] = [study(1), study(1, "9990000026"), series(1, 1)]
    async with (
        listening(Archive(script=ignoring_keys(rows))) as archive,
        peer(archive.port) as connector,
    ):
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert values(answer, PATIENT_ID) == [ANNE, "9990000026"] and archive.levels == ["STUDY", "SERIES"]


def ignoring_keys(rows: Sequence[Attributes]) -> Script:
    async def ignore(archive: Archive, association: Association, message: Message) -> None:
        of_level = archive.levels[-1] == "STUDY"
        await giving(*(row for row in rows if (SERIES_UID in row) is not of_level))(archive, association, message)

    return ignore


async def test_studies_that_do_not_answer_the_question_are_not_walked() -> None:
    since = Key(("00080020",), "DA", ("20250103-",))
    rows = [*(study(number) for number in range(1, 6)), series(5, 1)]
    async with listening(Archive(script=ignoring_keys(rows))) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES, since)))
    assert archive.levels == ["STUDY"] + ["SERIES"] * 4 and values(answer, SERIES_UID) == ["1.2.5.1"]


# Archives that fail.


async def test_an_archive_that_aborts_in_mid_answer_is_unavailable() -> None:
    async def abort(archive: Archive, association: Association, message: Message) -> None:
        await archive.give(association, message, study(1))
        association.abort("on purpose")

    with pytest.raises(PeerUnavailable):
        await find(abort)


async def test_an_archive_that_releases_in_mid_answer_is_unavailable() -> None:
    async def release(archive: Archive, association: Association, message: Message) -> None:
        await archive.give(association, message, study(1))
        await association.release()

    with pytest.raises(PeerUnavailable):
        await find(release)


@pytest.mark.parametrize(
    ("reject", "expected"),
    [
        (pdu.CALLED_AE_TITLE_NOT_RECOGNISED, PeerRefused),
        (pdu.CALLING_AE_TITLE_NOT_RECOGNISED, PeerRefused),
        (pdu.LOCAL_LIMIT_EXCEEDED, PeerUnavailable),
        (pdu.TEMPORARY_CONGESTION, PeerUnavailable),
    ],
)
async def test_a_refused_association_is_for_ever_or_for_now(
    reject: pdu.AssociateReject, expected: type[PeerError]
) -> None:
    async with listening(Archive(reject=reject)) as archive, peer(archive.port) as connector:
        with pytest.raises(expected):
            await ask(connector)
        with pytest.raises(expected):
            await ask(connector, Query(Level.SERIES, (ANNES,)))
    assert len(archive.requests) == 2


async def test_a_closed_port_is_no_connection() -> None:
    async with listening(Archive()) as archive:
        pass
    async with peer(archive.port) as connector:
        with pytest.raises(PeerUnavailable):
            await ask(connector)
        with pytest.raises(PeerUnavailable):
            await connector.echo()


Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def socket_that(talks: Conversation) -> AsyncIterator[int]:
    """A bare socket; gives its port."""

    talks_over: list[asyncio.Event] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks_over.append(asyncio.Event())
        is_over = talks_over[-1]
        try:
            await talks(reader, writer)
        finally:
            writer.close()
            is_over.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for is_over in talks_over:
            await is_over.wait()
        # The other end sees that we hung up.
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", PeerProtocolError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", PeerProtocolError),
        (b"\x02\x00\xff\xff\xff\xff", PeerProtocolError),
        (b"\x02\x00\x00\x00\x00\x08" + b"\x00" * 8, PeerProtocolError),
        (b"\x04\x00\x00\x00\x00\x08" + b"\x00" * 8, PeerProtocolError),
        (b"\x06\x00\x00\x00\x00\x04" + b"\x00" * 4, PeerProtocolError),
        (b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00", PeerUnavailable),
        (b"", PeerUnavailable),
    ],
)
async def test_who_does_not_speak_dicom_is_no_archive(words: bytes, expected: type[PeerError]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(6)
        writer.write(words)

    async with socket_that(talk) as port, peer(port) as connector:
        with pytest.raises(expected):
            await ask(connector)


async def test_an_acceptance_of_what_was_never_proposed_is_not_believed() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(6)
        request = pdu.decode(pdu.PduType(head[0]), await reader.readexactly(int.from_bytes(head[2:], "big")))
        assert isinstance(request, pdu.AssociateRequest)
        answer = pdu.ContextAnswer(99, pdu.ContextResult.ACCEPTED, "1.2.840.10008.1.2")
        user = pdu.UserInformation(16_384, "1.2.3")
        writer.write(pdu.encode(pdu.AssociateAccept("ARCHIVE", "GATEWAY", (answer,), user)))

    async with socket_that(accept) as port, peer(port) as connector:
        with pytest.raises(PeerProtocolError):
            await ask(connector)


async def test_a_silent_archive_is_a_timeout_whenever_it_falls_silent() -> None:
    async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(6)
        await reader.readexactly(int.from_bytes(head[2:], "big"))
        await reader.read(1)

    soon = replace(LIMITS, find_timeout_s=0.1, cancel_timeout_s=0.05)
    async with socket_that(say_nothing) as port, peer(port, limits=soon) as connector:
        with pytest.raises(PeerTimeout):
            await ask(connector)

    async def never_end(archive: Archive, association: Association, message: Message) -> None:
        await archive.give(association, message, study(1))
        await asyncio.Event().wait()

    async with listening(Archive(script=never_end)) as archive, peer(archive.port, limits=soon) as connector:
        with pytest.raises(PeerTimeout):
            await ask(connector)
        await ended(archive.associations)


# The caller's deadline.


async def waits_for_cancel(archive: Archive, association: Association, message: Message) -> None:
    """Gives one row, and ends only once it is told to."""
    await archive.give(association, message, study(1))
    await association.cancelled(message.command.message_id).wait()
    archive.was_cancelled.set()
    await archive.end(association, message, 0xFE00)


async def test_a_question_given_up_is_cancelled_there_and_its_association_used_again() -> None:
    async with (
        listening(Archive([study(1)], waits_for_cancel)) as archive,
        peer(archive.port, limits=replace(LIMITS, peer_requests_at_once_max=1)) as connector,
    ):
        question = asyncio.create_task(connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10)))
        await archive.was_asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await archive.was_cancelled.wait()
        archive.script = None
        assert len((await ask(connector)).rows) == 1
    assert len(archive.associations) == 1


async def test_an_archive_that_ignores_being_cancelled_is_aborted() -> None:
    async def go_on(archive: Archive, association: Association, message: Message) -> None:
        while True:
            await archive.give(association, message, study(1))
            await asyncio.sleep(0)

    async with (
        listening(Archive(script=go_on)) as archive,
        peer(archive.port, limits=replace(LIMITS, cancel_timeout_s=0.05)) as connector,
    ):
        question = asyncio.create_task(connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10)))
        await archive.was_asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await ended(archive.associations)
        assert archive.associations[0].end is not None
        assert archive.associations[0].end.why is Ended.ABORTED_BY_PEER


async def test_an_archive_that_is_known_to_ignore_it_is_not_even_told() -> None:
    async with (
        listening(Archive(script=waits_for_cancel)) as archive,
        peer(archive.port, Quirk.IGNORES_CANCEL) as connector,
    ):
        question = asyncio.create_task(connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10)))
        await archive.was_asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await ended(archive.associations)
    assert not archive.was_cancelled.is_set()


# Fragments of any size, and what a lie may leave behind.


async def test_an_answer_one_byte_a_pdu_is_an_answer() -> None:
    async def dribble(archive: Archive, association: Association, message: Message) -> None:
        row = encode_dataset({STUDY_UID: element("UI", "1.2.1")}, message.context.transfer_syntax, ())
        for command, data in (
            (response(message.command, PENDING, has_data=True), row),
            (response(message.command, 0), b""),
        ):
            for kind, body in ((1, encode_command(command)), (0, data)):
                for at in range(len(body)):
                    control = kind | (2 if at == len(body) - 1 else 0)
                    fragment = bytes((message.context.context_id, control, body[at]))
                    association.wire.write([b"\x04\x00\x00\x00\x00\x07\x00\x00\x00\x03" + fragment])
        await asyncio.Event().wait()

    assert await find(dribble, ANNES_STUDIES, Quirk.MODALITIES_UNKNOWN) == ["1.2.1"]


async def test_no_lie_leaves_the_patients_number_in_a_log_or_an_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scripts = [
        giving(other_level()),
        giving(without(STUDY_UID)),
        giving(b"\x10\x00\x20\x00LO\xff\xff9990000018"),
        giving(study(1), status=0xA900),
        giving(b"\x10\x00\x20\x00LO\x0a\x00" + ANNE.encode() + b"\x10\x00\x20\x00LO\x0a\x00" + ANNE.encode()),
        saying(lambda asked: Command(CommandField.C_ECHO_RQ, 1, sop_class_uid=STUDY_ROOT_FIND)),
    ]
    with structlog.testing.capture_logs() as logs:
        for script in scripts:
            with pytest.raises(PeerError) as error:
                await find(script)
            cause: BaseException | None = error.value
            while cause is not None:
                assert ANNE not in repr(cause) + str(cause)
                cause = cause.__cause__
    assert ANNE not in caplog.text + str(logs)


async def test_two_things_said_of_one_study_do_not_multiply_beyond_the_limit() -> None:
    rows = [*(study(1, str(number)) for number in range(40)), *(series(1, number) for number in range(40))]
    async with listening(Archive(script=ignoring_keys(rows))) as archive, peer(archive.port) as connector:
        answer = await ask(connector, Query(Level.SERIES, (ANNES,)), matches_max=100)
    assert len(answer.rows) == 100 and answer.is_truncated


def mutated(message: Message, draw: st.DataObject) -> bytes:
    """An honest answer with a few bytes changed, cut out or put in."""
    row = encode_dataset(study(1), message.context.transfer_syntax, ("ISO_IR 100",))
    stream = bytearray()
    for command, data in (
        (response(message.command, PENDING, has_data=True), row),
        (response(message.command, 0), None),
    ):
        views = [memoryview(data)] if data is not None else []
        for buffer in in_p_data(message.context.context_id, encode_command(command), views, 16_378):
            stream += buffer
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(stream) - 1))
        stream[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=3))
    return bytes(stream)


@settings(max_examples=150, deadline=None)
@given(draw=st.data())
def test_whatever_bytes_an_archive_answers_with_the_outcome_is_rows_or_a_peer_error(draw: st.DataObject) -> None:
    async def garble(_archive: Archive, association: Association, message: Message) -> None:
        association.wire.write([mutated(message, draw)])
        # Whoever still waits for more learns that nothing comes.
        await association.release()

    async def scenario() -> None:
        with contextlib.suppress(PeerError):
            found = await find(garble, ANNES_STUDIES, Quirk.MODALITIES_UNKNOWN)
            assert len(found) <= 1

    asyncio.run(scenario())
