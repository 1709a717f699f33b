"""Messages broken in every way a seed can think of: each is read or refused, and answered, and nothing of it told."""

import json
import random
from datetime import UTC, datetime

from gateway.feeds.fhir.reading import read_message as read_fhir
from gateway.feeds.hl7.acknowledging import acknowledge
from gateway.feeds.hl7.receiving import read_message
from tests.feeds.messages import FEED, ORDER, RECEIVED, line, message, result
from tests.feeds.test_documents import RTF
from tests.feeds.test_fhir import FEED as FHIR_FEED
from tests.feeds.test_fhir import report

ROUNDS = 20_000
PIECES = (
    *(
        b"|",
        b"^",
        b"~",
        b"\\",
        b"&",
        b"\r",
        b"\n",
        b"\x0b",
        b"\x1c",
        b"\0",
        b"\xff",
        b"\xc3",
        b'""',
        b"\\X0D\\",
        b"\\.sp99\\",
    ),
    *(
        b"\rOBR|1",
        b"\rOBX|1|ED|x||^AP^PDF^Base64^AAAA",
        b"\rPID|1",
        b"\rMSH|^~\\&",
        b"\rZDS|1.2",
        b"{\\rtf1 ",
        b"}",
        b"|W",
        b"|U",
    ),
)
WHOLE = message(ORDER, result(), line("Heart."), line(RTF), result("A2", "C"), line("", "U"), "NTE|1||note")


def broken(seed: random.Random, whole: bytes) -> bytes:
    found = bytearray(whole)
    for _ in range(seed.randint(1, 6)):
        at = seed.randrange(len(found) + 1)
        match seed.randrange(4):
            case 0:
                found[at:at] = seed.choice(PIECES)
            case 1:
                del found[at : at + seed.randint(1, 40)]
            case 2:
                found[at : at + 1] = bytes([seed.randrange(256)])
            case _:
                begin = seed.randrange(len(found) + 1)
                found[at:at] = found[begin : begin + seed.randint(1, 80)]
    return bytes(found)


def test_any_broken_message_is_read_or_refused_and_answered() -> None:
    seed, now = random.Random(6), datetime(2026, 6, 1, tzinfo=UTC)
    refused = 0
    for _ in range(ROUNDS):
        raw = broken(seed, WHOLE)
        read = read_message(raw, FEED, RECEIVED)
        assert read.message.raw == raw and not (read.message.problem and read.message.reports)
        refused += bool(read.message.problem)
        for each in acknowledge(raw, read.answer, now=now, control_id="G1"):
            assert each.startswith(b"MSH") and each.count(b"\rMSA") == 1
        for name in ("TESTER", "ANNE", "9990000018", "Heart"):
            assert name not in read.message.problem
    assert 0 < refused < ROUNDS


def test_any_broken_resource_is_read_or_refused() -> None:
    seed, whole = random.Random(6), json.dumps(report()).encode()
    for _ in range(ROUNDS):
        raw = broken(seed, whole)
        found, wrong = read_fhir(raw, FHIR_FEED, RECEIVED)
        assert bool(found.problem) is (wrong is not None)
        assert bool(found.problem) is not bool(found.reports)
        assert "TESTER" not in found.problem
