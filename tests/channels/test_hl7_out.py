"""An HL7 portal: what it is sent is ORU^R01, and what is not acknowledged is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hl7apy.consts import VALIDATION_LEVEL  # type: ignore[import-untyped]  # it has no types
from hl7apy.parser import parse_message  # type: ignore[import-untyped]  # it has no types
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.hl7_messages import Deletion, Names, deletion_message, report_message
from gateway.channels.hl7_out import Hl7Channel, Hl7Portal
from gateway.model.reporting.channels import Receipt
from gateway.model.reporting.hl7 import END, ack_of, frame, unframe
from tests.channels.reports import AT, RENDERING, REPORT, SARAH, Numbers, now

NAMES = Names("GATEWAY", "NORTH", "PORTAL", "PEP")

Answering = Callable[[bytes], bytes]


@asynccontextmanager
async def portal(answering: Answering, **settings: object) -> AsyncIterator[tuple[Hl7Channel, list[bytes]]]:
    """A channel to a portal that answers so, and what the portal got."""
    got: list[bytes] = []

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = unframe(await reader.readuntil(END))
        got.append(message)
        writer.write(answering(message))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(taken, "127.0.0.1", 0, limit=2**20) as server:
        port = server.sockets[0].getsockname()[1]
        facing = replace(Hl7Portal("pep", "127.0.0.1", port, NAMES, 5.0), **settings)  # type: ignore[arg-type]  # a test's own
        yield Hl7Channel(facing, now, Numbers()), got


def saying(code: str) -> Answering:
    """An acknowledgement with this code."""
    return lambda message: frame(ack_of(message, code, control_id="1", at="20260629"))


def segments(message: bytes, name: str) -> list[list[str]]:
    """Every segment of this name, in fields."""
    return [each.split("|") for each in message.decode().split("\r") if each.startswith(name)]


@pytest.mark.slow
def test_another_library_finds_the_messages_right() -> None:
    for message in (
        report_message(NAMES, "1", AT, REPORT, RENDERING),
        *(deletion_message(NAMES, "2", AT, "document-1", SARAH, "Gone.", how) for how in Deletion),
    ):
        parsed = parse_message(message.decode(), validation_level=VALIDATION_LEVEL.TOLERANT)
        assert parsed.name == "ORU_R01"
        assert parsed.validate()


def test_a_report_says_whose_it_is_which_and_that_it_is_final() -> None:
    message = report_message(NAMES, "1", AT, REPORT, RENDERING)
    (pid,), (obr,), obx = segments(message, "PID"), segments(message, "OBR"), segments(message, "OBX")
    assert pid[3] == "9990000018^^^NHS^NH"
    assert (obr[3], obr[7], obr[22], obr[25]) == ("document-1", "20260530", "20260629091500+0100", "F")
    assert [(each[2], each[11]) for each in obx] == [("FT", "F"), ("ED", "F")]


@given(st.text(max_size=60))
def test_no_value_brings_a_segment_or_a_field(value: str) -> None:
    who = replace(SARAH, family_name=value, given_name=value)
    report = replace(REPORT, addressee=who, exam_name=value, referrer=replace(REPORT.referrer, name=value))
    message = report_message(NAMES, "1", AT, report, replace(RENDERING, text=value))
    plain = report_message(NAMES, "1", AT, REPORT, RENDERING)
    assert [len(each) for each in segments(message, "")] == [len(each) for each in segments(plain, "")]


async def test_a_report_is_confirmed_once_acknowledged() -> None:
    async with portal(saying("AA")) as (channel, got):
        assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.CONFIRMED
    assert len(got) == 1
    assert not channel.is_idempotent


async def test_what_is_replaced_goes_first() -> None:
    async with portal(saying("AA")) as (channel, got):
        assert (await channel.put(replace(REPORT, replaces="document-0"), RENDERING)).receipt is Receipt.CONFIRMED
    assert [segments(each, "OBR")[0][3] for each in got] == ["document-0", "document-1"]
    assert [segments(each, "OBR")[0][25] for each in got] == ["R", "C"]


@pytest.mark.parametrize(("how", "statuses"), [(Deletion.OBR_25_R, ("R", "D")), (Deletion.OBX_11_W, ("C", "W"))])
async def test_a_document_is_taken_back_as_the_portal_takes_it(how: Deletion, statuses: tuple[str, str]) -> None:
    async with portal(saying("AA"), deletion=how) as (channel, got):
        assert (await channel.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.CONFIRMED
    assert (segments(got[0], "OBR")[0][25], segments(got[0], "OBX")[0][11]) == statuses


@pytest.mark.parametrize(
    ("answering", "receipt"),
    [
        (saying("AE"), Receipt.REFUSED),
        (saying("AR"), Receipt.REFUSED),
        (lambda _: b"", Receipt.UNKNOWN),
        (lambda _: b"HTTP/1.1 400\r\n\x1c\r", Receipt.UNKNOWN),
        (lambda _: frame(b"MSH|^~\\&|\rMSA|AA|another\r"), Receipt.UNKNOWN),
        (lambda _: b"\x0b" + b"x" * 200_000, Receipt.UNKNOWN),
        (lambda message: saying("AA")(message) * 2, Receipt.CONFIRMED),
    ],
)
async def test_each_answer_is_what_it_was(answering: Answering, receipt: Receipt) -> None:
    async with portal(answering) as (channel, got):
        assert (await channel.put(REPORT, RENDERING)).receipt is receipt
    assert len(got) == 1


async def test_a_portal_that_is_not_there_failed() -> None:
    channel = Hl7Channel(Hl7Portal("pep", "127.0.0.1", 1, NAMES, 5.0), now, Numbers())
    assert (await channel.put(REPORT, RENDERING)).receipt is Receipt.FAILED
