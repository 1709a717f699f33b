"""Twenty thousand seeded mutations of honest input at each codec, and thousands of spoilt streams at both ends (G16).

Honest input is written by another toolkit. A codec gives a value or its own refusal; an end of an association says
PDUs, at most one A-ABORT as its last, is over when the peer is, leaves no task behind, logs no fault, and does the same
however the network cuts the stream. A failure names its seed; `make soak` does a hundred times as many.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dsutils import decode

from dimse.elements import DatasetError, Reading, RowDecoder, decode_dataset, encode_dataset
from dimse.identifier import EXTENDED, Answerer, parse_identifier
from dimse.scp.find_scp import FIND_CLASSES, FindService
from dimse.server import DimseDoor
from dimse.upper_layer import pdu
from dimse.upper_layer.association import AssociationFailure, AssociationLimits, accepting, requesting
from dimse.upper_layer.commands import Command, CommandError, CommandField, decode_command, encode_command
from dimse.upper_layer.pdu import PduError, PduType
from dimse.upper_layer.requestor import receive_buffer
from dimse.upper_layer.wire import WireLimits
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.imaging import Level, Match
from gateway.model.settings import Limits
from tests.clock import FakeClock
from tests.dimse import captures
from tests.dimse.door import (
    COMMENT,
    EXPLICIT,
    IMPLICIT,
    OURS,
    PACS,
    PATIENT_ROOT,
    STUDY_ROOT,
    VERIFICATION,
    Doorkeeper,
    Shelf,
    Tally,
    proposal,
)
from tests.dimse.storing import Storing, counted
from tests.dimse.stream import Stream, cut, settled, turns
from tests.sharing.rows import ANNE, RZ2, row

ROUNDS, ROUNDS_IN_SOAK = 20_000, 2_000_000
STREAMS, STREAMS_IN_SOAK = 1_500, 150_000

BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
WORDS = (
    *(
        b"\0",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\1",
        b"\x80\0\0\0",
        b" ",
        b"\\",
        b"*",
        b"^",
        b"=",
    ),
    *(b"\x1b$B", b"\x1b(B", b"UN\0\0", b"SQ\0\0", b"LO", b"OB\0\0", b"\xfe\xff\0\xe0", b"\xfe\xff\x0d\xe0"),
    *(
        b"\xfe\xff\xdd\xe0\0\0\0\0",
        b"\x08\0\x05\0",
        b"\x10\0\x10\0",
        b"9990000018",
        b"1.2.840",
        b"STUDY ",
        b"ISO_IR 192",
    ),
    *(b"\x50\0\0\4", b"\x51\0\0\4\0\0\0\0", b"\x58\0\0\6", b"\x20\0\0\0"),
)


def mutated(source: random.Random, text: bytes) -> bytes:
    """The text with a few bytes changed and pieces cut out, doubled, moved or replaced."""
    changed = bytearray(text)
    for _ in range(source.choice((1, 1, 1, 2, 3, 6))):
        at = source.randrange(len(changed) + 1)
        end = min(len(changed), at + source.choice((1, 1, 2, 4, 8, 40)))
        match source.randrange(6):
            case 0:
                changed[at:end] = bytes(byte ^ 1 << source.randrange(8) for byte in changed[at:end])
            case 1:
                changed[at:end] = source.randbytes(end - at)
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end]
            case 4:
                changed[at : at + source.choice((0, 4))] = source.choice(WORDS)
            case _:
                changed[at:end] = source.choice(WORDS)[: end - at].ljust(end - at, b"\0")
    return bytes(changed)


# --- codecs ---


def read_pdu(body: bytes, _source: random.Random, kind: int) -> None:
    read = pdu.decode(kind, body)
    try:
        written = pdu.encode(read)
    except ValueError:  # not everything that is forgiven may be written
        return
    assert pdu.decode(kind, written[6:]) == read


def read_command(body: bytes, _source: random.Random, _kind: int) -> None:
    written = encode_command(decode_command(body))
    assert encode_command(decode_command(written)) == written


def read_rows(body: bytes, source: random.Random, number: int) -> None:
    reading = Reading(source.choice(("", "ISO_IR 100", "ISO_IR 192")), row_elements_max=source.choice((4, 4_096)))
    decoder = RowDecoder(SYNTAXES[number], reading)
    row = decoder.row(body)
    assert decoder.row(body) == row, "what is remembered is what was read"
    assert all(element.keys() <= {"vr", "Value"} for element in row.values())
    written = encode_dataset(row, SYNTAXES[number], ("ISO_IR 192",))
    again = decode_dataset(written, SYNTAXES[number], Reading("ISO_IR 192"))
    assert encode_dataset(again, SYNTAXES[number], ("ISO_IR 192",)) == written


def ask(body: bytes, source: random.Random, number: int) -> None:
    model = source.choice((STUDY_ROOT, PATIENT_ROOT))
    asked = parse_identifier(
        body,
        SYNTAXES[number],
        model,
        source.choice((b"", EXTENDED[model])),
        limits=Limits(),
        is_lenient=source.random() < 0.5,
        fallback_charset="ISO_IR 100",
    )
    assert all(key.values for key in asked.query.keys)
    echoed, _ = Answerer(asked, SYNTAXES[number], OURS).row(STUDY)
    others = decode(BytesIO(echoed), number == 0, number != 2, number == 3)
    tags = [f"{tag:08X}" for tag in others.keys()]  # noqa: SIM118  # a Dataset iterates over elements, and parses them
    assert tags == sorted(tags)
    assert {slot.tag for slot in asked.echoed} <= {*tags}


def _identifiers() -> list[tuple[bytes, int]]:
    """In each transfer syntax, by its number."""
    found = [(body, SYNTAXES.index(syntax)) for syntax in (IMPLICIT, EXPLICIT) for body in captures.identifiers(syntax)]
    rows = [decode_dataset(body, EXPLICIT, Reading()) for body in (OF_STUDIES, OF_IMAGES)]
    for syntax in (BIG_ENDIAN, DEFLATED):
        found += [(encode_dataset(row, syntax, ("ISO_IR 192",)), SYNTAXES.index(syntax)) for row in rows]
    return found


OF_STUDIES, OF_IMAGES = captures.identifiers(EXPLICIT)
STUDY = Match(Level.STUDY, ANNE, "1.2.3", "", "", (RZ2,), row("1.2.3", ANNE, date="20260101"))
PDUS = [
    (captures.REQUEST[6:], PduType.ASSOCIATE_RQ),
    (captures.ACCEPT[6:], PduType.ASSOCIATE_AC),
    (pdu.encode(pdu.LOCAL_LIMIT_EXCEEDED)[6:], PduType.ASSOCIATE_RJ),
    (captures.abort()[6:], PduType.ABORT),
]
IDENTIFIERS = _identifiers()
COMMANDS = [
    (message[0][12:], 0)
    for message in (
        captures.echo(),
        captures.find(OF_STUDIES),
        captures.found(OF_STUDIES, 0xFF00, 2),
        captures.found(None, 0xA900, 2),
        captures.store(),
        captures.cancel(),
    )
]
Codec = Callable[[bytes, random.Random, int], None]
CODECS: list[tuple[Codec, list[tuple[bytes, int]], type[Exception] | tuple[type[Exception], ...]]] = [
    (read_pdu, [(body, int(kind)) for body, kind in PDUS], PduError),
    (read_command, COMMANDS, CommandError),
    (read_rows, IDENTIFIERS, DatasetError),
    (ask, IDENTIFIERS, (InvalidRequest, RequestTooLarge)),
]


@pytest.mark.parametrize(("codec", "honest", "refusal"), CODECS)
def test_mutated_input_is_read_or_refused(
    codec: Codec, honest: list[tuple[bytes, int]], refusal: type[Exception] | tuple[type[Exception], ...]
) -> None:
    _fuzz(codec, honest, refusal, ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("codec", "honest", "refusal"), CODECS)
def test_much_mutated_input_is_read_or_refused(
    codec: Codec, honest: list[tuple[bytes, int]], refusal: type[Exception] | tuple[type[Exception], ...]
) -> None:
    _fuzz(codec, honest, refusal, ROUNDS_IN_SOAK)


def _fuzz(
    codec: Codec,
    honest: list[tuple[bytes, int]],
    refusal: type[Exception] | tuple[type[Exception], ...],
    rounds: int,
) -> None:
    read = 0
    for seed in range(rounds):
        source = random.Random(seed)
        body, kind = source.choice(honest)
        text = mutated(source, body)
        try:
            codec(text, source, kind)
            read += 1
        except refusal:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}, {kind}: {text!r}") from error
    # Mutations that nobody takes would only try the first check.
    assert rounds // 50 < read < rounds


@settings(max_examples=500)
@given(st.binary(max_size=400), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(body: bytes, number: int) -> None:
    source = random.Random(number)
    for codec, kind, refusal in (
        (read_pdu, number % 8, PduError),
        (read_command, 0, CommandError),
        (read_rows, number % 4, DatasetError),
        (ask, number % 4, (InvalidRequest, RequestTooLarge)),
    ):
        with contextlib.suppress(refusal):  # type: ignore[arg-type]  # one class or several
            codec(body, source, kind)


# --- streams ---


LIMITS = AssociationLimits(wire=WireLimits(associate_bytes_max=4_096))
HONEST = [
    *(captures.echo(1), captures.find(OF_STUDIES), captures.find(OF_IMAGES, captures.PATIENT_CONTEXT, 9)),
    *(captures.store(), captures.cancel(), [captures.release()], [captures.abort()], captures.echo(7)),
]
QUESTION = Command(CommandField.C_FIND_RQ, 1, sop_class_uid=STUDY_ROOT, has_data=True, priority=0)
REQUEST = proposal(VERIFICATION, STUDY_ROOT, PATIENT_ROOT, captures.CT)
ANSWERED = [
    captures.found(OF_STUDIES, 0xFF00, 1),
    captures.found(OF_STUDIES, 0xFF01, 1),
    captures.found(None, 0x0000, 1),
    *([captures.release()], [captures.release_reply()], [captures.abort()], captures.echo(1)),
]


def spoilt(source: random.Random, messages: list[list[bytes]]) -> bytes:
    """A few messages one after the other, spoilt in one way or another; sometimes not at all."""
    pdus = [each for _ in range(source.randint(1, 4)) for each in source.choice(messages)]
    match source.randrange(6):
        case 0:
            pass
        case 1:
            source.shuffle(pdus)
        case 2:
            del pdus[source.randrange(len(pdus))]
        case _:
            at = source.randrange(len(pdus))
            pdus[at] = mutated(source, pdus[at])
    stream = b"".join(pdus)
    return stream[: source.randrange(len(stream) + 1)] if source.random() < 0.1 else stream


@contextlib.asynccontextmanager
async def a_door() -> AsyncIterator[tuple[Callable[[], asyncio.BufferedProtocol], Tally]]:
    """The door as it is, with a study on its shelf and a place for images; nobody may be left inside."""
    figures = Tally()
    find = FindService(Shelf(STUDY), lambda _: COMMENT, Limits(), ae_title=OURS)
    door = DimseDoor(
        Doorkeeper(PACS),
        {**dict.fromkeys(FIND_CLASSES, find), captures.CT: Storing(EXPLICIT, IMPLICIT)},
        Limits(),
        figures,
        FakeClock(),
        ae_title=OURS,
        extended=EXTENDED,
        new_id=lambda: "request",
        sink_for=counted,
    )
    yield accepting(door, LIMITS), figures
    await turns()
    assert figures.open == 0


async def accepted(protocol: asyncio.BufferedProtocol, greeting: bytes, pieces: list[bytes]) -> Stream:
    """An acceptor's end after a stream in these pieces, which arrive once the greeting is answered."""
    stream = Stream(protocol)
    if greeting:
        stream.feed(greeting)
        await turns()
    stream.feed(*pieces)
    await turns()
    stream.end()
    return stream


async def requested(greeting: bytes, pieces: list[bytes]) -> Stream:
    """A requestor's end after a stream in these pieces, while it asks and listens."""
    association, wire = requesting(REQUEST, LIMITS, receive_buffer())
    stream = Stream(wire)

    async def ask() -> None:
        with contextlib.suppress(AssociationFailure):
            await association.established()
            await association.send(captures.STUDY_CONTEXT, QUESTION, OF_STUDIES)
            while True:
                await association.receive()

    asking = asyncio.create_task(ask())
    stream.feed(greeting)
    await turns()
    stream.feed(*pieces)
    await turns()
    stream.end()
    await asking
    return stream


def misdirected(source: random.Random, greeting: bytes) -> bytes:
    """A greeting with another letter in its called AE title (PS3.8 9.3.2), which chance alone hits too seldom."""
    at = 10 + source.randrange(16)
    return greeting[:at] + bytes((source.randrange(0x41, 0x5B),)) + greeting[at + 1 :]


async def at_the_end(stream: Stream, before: set[asyncio.Task[object]]) -> str:
    """What was said last; fails if that, or how it ended, is nothing that a peer may expect."""
    await settled(before)
    kinds = [kind for kind, _ in stream.pdus()]
    assert stream.is_lost
    if PduType.ABORT in kinds:
        # A second one is the answer to what is no PDU, or to a request, behind the first (PS3.8 9.2, AA-7).
        assert set(kinds[kinds.index(PduType.ABORT) :]) == {PduType.ABORT}, "an abort is the last word"
    return PduType(kinds[-1]).name if kinds else ""


async def _fuzz_streams(
    speak: Callable[[bytes, list[bytes]], Awaitable[Stream]], greeting: bytes, honest: list[list[bytes]], rounds: int
) -> Counter[str]:
    """Each spoilt stream whole, and cut up; returns what was said last, and how often."""
    endings: Counter[str] = Counter()
    before = asyncio.all_tasks()
    with structlog.testing.capture_logs() as logged:
        for seed in range(rounds):
            source = random.Random(seed)
            first, text = greeting, spoilt(source, honest)
            chance = source.random()
            if chance < 0.2:
                first = mutated(source, greeting)
            elif chance < 0.22:
                first = misdirected(source, greeting)
            places = range(len(text)) if seed % 2 else source.sample(range(len(text) + 1), min(len(text), 5))
            try:
                whole, in_pieces = await speak(first, [text]), await speak(first, cut(text, places))
                endings[await at_the_end(whole, before)] += 1
                await at_the_end(in_pieces, before)
                assert whole.pdus() == in_pieces.pdus(), "however the network cuts it"
                assert not [event for event in logged if event["log_level"] == "error"]
            except Exception as error:
                raise AssertionError(f"seed {seed}: {first!r} then {text!r}") from error
            logged.clear()
    return endings


async def _fuzz_acceptor(rounds: int) -> None:
    async with a_door() as (new_protocol, figures):
        endings = await _fuzz_streams(
            lambda first, pieces: accepted(new_protocol(), first, pieces), captures.REQUEST, HONEST, rounds
        )
    assert {"ASSOCIATE_AC", "ASSOCIATE_RJ", "P_DATA", "RELEASE_RP", "ABORT"} <= endings.keys(), endings
    assert {0x0000, 0xA900, 0xFE00} <= {status for _, status in figures.answered}


async def _fuzz_requestor(rounds: int) -> None:
    endings = await _fuzz_streams(requested, captures.ACCEPT, ANSWERED, rounds)
    assert {"ASSOCIATE_RQ", "P_DATA", "RELEASE_RP", "ABORT"} <= endings.keys(), endings


async def test_spoilt_streams_end_in_order_at_the_acceptor() -> None:
    await _fuzz_acceptor(STREAMS)


async def test_spoilt_streams_end_in_order_at_the_requestor() -> None:
    await _fuzz_requestor(STREAMS)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("fuzz", [_fuzz_acceptor, _fuzz_requestor])
async def test_many_spoilt_streams_end_in_order(fuzz: Callable[[int], Awaitable[None]]) -> None:
    await fuzz(STREAMS_IN_SOAK)


@settings(max_examples=300)
@given(st.booleans(), st.binary(max_size=200), st.sets(st.integers(0, 200)))
def test_any_bytes_end_in_order(is_greeted: bool, text: bytes, places: set[int]) -> None:
    async def speak() -> None:
        before = asyncio.all_tasks()
        async with a_door() as (new_protocol, _):
            stream = await accepted(
                new_protocol(), captures.REQUEST if is_greeted else b"", cut(text, places & {*range(len(text))})
            )
            await at_the_end(stream, before)

    with structlog.testing.capture_logs() as logged:
        asyncio.run(speak())
    assert not [event for event in logged if event["log_level"] == "error"]


@pytest.mark.parametrize("message", HONEST)
async def test_each_honest_message_is_understood(message: list[bytes]) -> None:
    async with a_door() as (new_protocol, figures):
        stream = await accepted(new_protocol(), captures.REQUEST, message)
        await turns()
    assert PduType.ABORT not in [kind for kind, _ in stream.pdus()]
    assert {status for _, status in figures.answered} <= {0x0000}
