"""The door for HL7: real sockets, the client of python-hl7, answers read by hl7apy, and senders that keep no rule."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import hl7.client  # type: ignore[import-untyped]  # it has no types
import pytest
import trustme
from hl7apy.parser import parse_message  # type: ignore[import-untyped]  # it has no types
from hl7apy.validation import Validator  # type: ignore[import-untyped]  # it has no types

from gateway.feeds.hl7.mllp import Mllp, MllpLimits, Shown, Speaker
from gateway.feeds.hl7.receiving import Reports
from policy.release.reports import Said
from tests.clock import FakeClock
from tests.feeds.intakes import MemoryFigures, MemoryIntake
from tests.feeds.messages import FEED, HEADER, line, message, result

ORU = message(result(), line("Heart size normal."))


@dataclass
class Rig:
    """A door with one feed behind it."""

    limits: MllpLimits = field(default_factory=MllpLimits)
    secure: ssl.SSLContext | None = None
    is_known: Callable[[Shown], bool] = lambda shown: True
    intake: MemoryIntake = field(default_factory=MemoryIntake)
    figures: MemoryFigures = field(default_factory=MemoryFigures)
    shown: list[Shown] = field(default_factory=list)

    def admit(self, shown: Shown) -> Speaker | None:
        self.shown.append(shown)
        if not self.is_known(shown):
            return None
        return Reports(FEED, self.intake, FakeClock(), self.figures, new_id=lambda: "G1")

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        self.door = Mllp(self, self.limits)
        server = await asyncio.get_running_loop().create_server(self.door.connection, "127.0.0.1", 0, ssl=self.secure)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            self.door.close()
            await server.wait_closed()


def block(raw: bytes) -> bytes:
    return b"\x0b" + raw + b"\x1c\r"


async def answers(port: int, *pieces: bytes, count: int = 1) -> list[list[str]]:
    """MSA and ERR of what a sender is answered, until there are so many or the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found: list[bytes] = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while len(found) < count:
            found.append(await reader.readuntil(b"\x1c\r"))
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return [each[1:-2].decode().split("\r")[1:-1] for each in found]


async def test_the_client_of_another_hand_is_answered_once_its_report_is_kept() -> None:
    rig = Rig()

    def send(port: int) -> bytes:
        with hl7.client.MLLPClient("127.0.0.1", port) as client:
            return bytes(client.send_message(ORU))

    async with rig.open() as port:
        raw = await asyncio.to_thread(send, port)
    answer = parse_message(raw[1:-2].decode())
    assert Validator.validate(answer)
    assert (answer.msh.msh_9.value, answer.msh.msh_3.value, answer.msh.msh_5.value) == ("ACK^R01^ACK", "GATEWAY", "RIS")
    assert (answer.msa.msa_1.value, answer.msa.msa_2.value) == ("AA", "M1")
    (kept,) = rig.intake.messages
    assert (kept.message_id, kept.kind, kept.raw) == ("RIS|RX1|M1", "ORU^R01", ORU)
    assert [(each.said, each.report_number) for each in kept.reports] == [(Said.VERIFIED, "A1")]


async def test_messages_sent_at_once_and_in_pieces_are_answered_in_their_order() -> None:
    rig = Rig()
    three = b"".join(block(ORU.replace(b"|M1|", b"|M%d|" % number)) for number in (1, 2, 3))
    async with rig.open() as port:
        whole = await answers(port, three, count=3)
        pieces = await answers(port, *(three[at : at + 7] for at in range(0, len(three), 7)), count=3)
    assert whole == pieces == [["MSA|AA|M1"], ["MSA|AA|M2"], ["MSA|AA|M3"]]


async def test_a_message_sent_again_is_kept_once_and_answered_each_time() -> None:
    rig = Rig()
    async with rig.open() as port:
        assert await answers(port, block(ORU) + b"\r\n" + block(ORU), count=2) == [["MSA|AA|M1"]] * 2
    assert len(rig.intake.messages) == 1


async def test_a_message_that_cannot_be_kept_now_is_asked_for_again() -> None:
    rig = Rig()
    rig.intake.is_down = True
    async with rig.open() as port:
        assert await answers(port, block(ORU)) == [["MSA|AE|M1|the message cannot be kept now", "ERR|||207|E"]]
        rig.intake.is_down = False
        assert await answers(port, block(ORU)) == [["MSA|AA|M1"]]
    assert rig.figures.outcomes == ["failed", "filed"]


async def test_a_mistake_of_ours_ends_the_connection_and_not_the_door() -> None:
    rig = Rig()
    rig.intake.is_broken = True
    async with rig.open() as port:
        assert await answers(port, block(ORU)) == []
        rig.intake.is_broken = False
        assert await answers(port, block(ORU)) == [["MSA|AA|M1"]]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ""),
        (b"hello", ""),
        (b"MSH|^~\\&|A|B\r", "101"),
        (message(result(status="Z"), line("x")), "204"),
        (message(result(), header=HEADER.replace("ORU^R01^ORU_R01", "ADT^A01")), "200"),
        (message(result(), header=HEADER.replace("ORU^R01^ORU_R01", "ORU^W01")), "201"),
        (message(result(), header=HEADER.replace("|P|2.5", "|T|2.5")), "202"),
        (message(result(), header=HEADER.replace("|P|2.5", "|P|3")), "203"),
        (message(result(), line("caf\xe9")).replace("é".encode(), b"\xe9"), "102"),
        (message(result(), HEADER, line("x")), "100"),
    ],
)
async def test_what_can_never_be_read_is_kept_and_rejected_without_a_word_of_it(raw: bytes, code: str) -> None:
    rig = Rig()
    async with rig.open() as port:
        ((said, *error),) = await answers(port, block(raw))
    assert said.startswith("MSA|AR|")
    assert "TESTER" not in said and "9990000018" not in said
    (kept,) = rig.intake.messages
    assert kept.problem and kept.raw == raw and not kept.reports
    assert [feed for feed, _ in rig.intake.heard] == ["rx1-ris"], "a sign of life all the same"
    if code:
        assert error == [f"ERR|||{code}|E"] or (code == "101" and error)


@pytest.mark.parametrize("number", [3, 4])
async def test_a_message_of_another_sender_than_the_feeds_is_refused(number: int) -> None:
    from gateway.feeds.hl7.receiving import read_message
    from gateway.feeds.profile import Profile
    from tests.feeds.messages import RECEIVED, feed

    known = feed(Profile(sending_application="RIS", sending_facility="RX1"))
    assert not read_message(ORU, known, RECEIVED).message.problem
    foreign = message(result(), header=HEADER.replace(["RIS", "RX1"][number - 3], "OTHER"))
    assert f"MSH-{number}" in read_message(foreign, known, RECEIVED).message.problem


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("|||AL|NE", ["MSA|CA|M1"]),
        ("|||NE|AL", ["MSA|AA|M1"]),
        ("|||AL|AL", ["MSA|CA|M1", "MSA|AA|M1"]),
        ("|||ER|SU", ["MSA|AA|M1"]),
        ("|||SU|ER", ["MSA|CA|M1"]),
        ("|||NE|NE", []),
    ],
)
async def test_in_enhanced_mode_a_sender_gets_the_acknowledgements_that_it_asks_for(
    asked: str, given: list[str]
) -> None:
    rig = Rig()
    first = block(message(result(), line("x"), header=HEADER + asked))
    async with rig.open() as port:
        found = await answers(port, first + block(ORU.replace(b"|M1|", b"|LAST|")), count=len(given) + 1)
    assert [each[0] for each in found] == [*given, "MSA|AA|LAST"]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "what came is no block"),
        (b"\x0b" + ORU + block(ORU), "a block began before the last one ended"),
        (b"\x0b" + ORU + b"\x1cX", "is not followed by a carriage return"),
        (b"\x0b" + ORU + b"x" * 20_000, "a message is longer than 20000 bytes"),
    ],
)
async def test_bytes_that_are_no_block_are_rejected_and_the_connection_ends(sent: bytes, words: str) -> None:
    rig = Rig(limits=MllpLimits(message_bytes_max=20_000))
    async with rig.open() as port:
        ((said, error),) = await answers(port, sent, count=2)
    assert said.startswith("MSA|AR|") and error == "ERR|||102|E"
    (kept,) = rig.intake.messages
    assert words in kept.problem


async def test_a_message_as_long_as_allowed_is_taken() -> None:
    long = message(result(), line("x" * 60_000))
    rig = Rig(limits=MllpLimits(message_bytes_max=len(long)))
    async with rig.open() as port:
        assert await answers(port, block(long)) == [["MSA|AA|M1"]]
        ((said, _),) = await answers(port, block(long + b"x"), count=2)
    assert said.startswith("MSA|AR|M1")


async def test_a_message_of_ten_megabytes_is_taken_and_one_byte_more_is_rejected() -> None:
    limit = MllpLimits().message_bytes_max
    rest = limit - len(message(result(), line("")))
    rig = Rig()
    async with rig.open() as port:
        whole = message(result(), line("x" * rest))
        assert (len(whole), await answers(port, block(whole))) == (10_000_000, [["MSA|AA|M1"]])
        ((said, _),) = await answers(port, block(message(result(), line("x" * (rest + 1)))), count=2)
    assert said == "MSA|AR|M1|a message is longer than 10000000 bytes"


async def test_a_block_that_does_not_end_and_a_silent_peer_are_given_up() -> None:
    for limits, sent in (
        (MllpLimits(message_timeout_s=0.05), b"\x0b" + ORU),
        (MllpLimits(idle_timeout_s=0.05), b""),
    ):
        async with Rig(limits=limits).open() as port:
            assert await answers(port, sent) == []


async def test_a_peer_that_nobody_knows_is_told_nothing() -> None:
    rig = Rig(is_known=lambda shown: False)
    async with rig.open() as port:
        assert await answers(port, block(ORU)) == []
    assert rig.intake.messages == []


async def test_stopping_answers_what_is_at_work_and_takes_no_more() -> None:
    rig = Rig()
    rig.intake.may_go_on.clear()
    async with rig.open() as port:
        asking = asyncio.create_task(answers(port, block(ORU), count=2))
        await rig.intake.is_asked.wait()
        stopping = asyncio.create_task(rig.door.stop())
        rig.intake.may_go_on.set()
        await stopping
        assert await asking == [["MSA|AA|M1"]]


async def test_a_peer_that_takes_no_answers_is_given_up() -> None:
    rig = Rig(limits=MllpLimits(send_timeout_s=0.05))
    # What is answered is as long as the names of the sender are.
    many = b"".join([block(message(result(), header=HEADER.replace("RIS", "R" * 3_000)))] * 1_000)
    async with rig.open() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(many)
                await writer.drain()
        assert reader.at_eof() or writer.is_closing() or reader.exception() is not None


async def test_a_peer_is_told_by_its_certificate() -> None:
    authority = trustme.CA()
    server, client = (ssl.SSLContext(each) for each in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    authority.issue_cert("localhost").configure_cert(server)
    certificate = authority.issue_cert("ris.rx1.example")
    certificate.configure_cert(client)
    for each in (server, client):
        authority.configure_trust(each)
    server.verify_mode = ssl.CERT_REQUIRED
    rig = Rig(secure=server)
    async with rig.open() as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client)
        writer.write(block(ORU))
        assert b"MSA|AA|M1" in await reader.readuntil(b"\x1c\r")
        writer.close()
        await writer.wait_closed()
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    assert [each.certificate_sha256 for each in rig.shown] == [hashlib.sha256(der).hexdigest()]
