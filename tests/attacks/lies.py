"""What a hostile archive says: answers that cannot be believed, and rows that are well formed and no answer."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Mapping

import orjson

from gateway.demo.cast import ANNE, BEN, CLARA
from gateway.model.imaging import Attributes, JsonValue
from policy.parties import NhsNumber
from tests.attacks.hostile import HEAD, Speaks, answer, of_rows
from tests.sharing.rows import row

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


def annes(study: str = "1.2.3", **attributes: str) -> Attributes:
    """A row that would be Anne's, were it believed."""
    return row(study, NhsNumber(ANNE.nhs_number), name=ANNE.dicom_name, born=f"{ANNE.birth_date:%Y%m%d}", **attributes)


def item(dataset: Attributes) -> JsonValue:
    """A row as an item of a sequence."""
    return {tag: dict(element) for tag, element in dataset.items()}


def says(whole: bytes) -> Speaks:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole)
        await writer.drain()

    return speak


def repeats(opening: bytes, piece: bytes) -> Speaks:
    """Say something once, and then the same again as long as anybody listens."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(opening)
        while True:
            writer.write(piece)
            await writer.drain()

    return speak


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    for byte in of_rows(annes()):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(of_rows(annes())[:-5])
    writer.write_eof()
    await reader.read()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(of_rows(annes())[:-5])
    await writer.drain()
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def json_of(text: bytes) -> bytes:
    return answer(text)


WHOLE = orjson.dumps([annes()])
ONE_ROW = orjson.dumps(annes())

LIES: Mapping[str, Speaks] = {
    "nothing at all": silent,
    "one byte at a time": dripping,
    "half an answer and no more": half_closed,
    "half an answer and a reset": reset,
    "a length that is too short": says(HEAD + b"Content-Length: %d\r\n\r\n" % (len(WHOLE) - 9) + WHOLE),
    "a length that is too long": says(HEAD + b"Content-Length: %d\r\n\r\n" % (len(WHOLE) + 9) + WHOLE),
    "a length of four gigabytes": says(HEAD + b"Content-Length: 4294967296\r\n\r\n" + WHOLE),
    "two lengths": says(HEAD + b"Content-Length: 2\r\nContent-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE),
    "a length and chunks": says(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + WHOLE),
    "a chunk of no size": says(CHUNKED + b"zz\r\n" + WHOLE),
    "a chunk of all memory": says(CHUNKED + b"FFFFFFFFFFFFFFFF\r\n" + WHOLE),
    "a chunk that announces more": says(CHUNKED + b"10000000\r\n" + WHOLE),
    "a chunk size without end": repeats(CHUNKED, b"0" * 65_536),
    "a chunk's extension without end": repeats(CHUNKED + b"5;", b"a" * 65_536),
    "trailers without end": repeats(CHUNKED + b"2\r\n[]\r\n0\r\n", b"X-A: " + b"a" * 1_000 + b"\r\n"),
    "chunks without end": repeats(CHUNKED + b"1\r\n[\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n"),
    "rows without end": repeats(HEAD + b"\r\n[", ONE_ROW + b","),
    "headers without end": repeats(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 1_000 + b"\r\n"),
    "many small headers": repeats(b"HTTP/1.1 200 OK\r\n", b"A:b\r\n" * 10_000),
    "a header without end": repeats(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65_536),
    "a status line without end": repeats(b"HTTP/1.1 200 ", b"a" * 65_536),
    "only wait a little": repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "other protocols": says(b"SSH-2.0-OpenSSH_9\r\n"),
    "an old protocol": says(WHOLE),
    "a new protocol": says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 100),
    "a bomb in gzip": says(answer(gzip.compress(b"[" + b" " * 200 * MIB + b"]", 1), b"Content-Encoding: gzip")),
    "gzip that is not called so": says(answer(gzip.compress(WHOLE))),
    "another coding": says(answer(WHOLE, b"Content-Encoding: identity, br")),
    "another transfer coding": says(HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(WHOLE)),
    "a redirect to a neighbour": says(answer(b"", b"Location: http://169.254.169.254/latest", status=b"302 Found")),
    "a redirect to a file": says(answer(b"", b"Location: file:///etc/passwd", status=b"307 Temporary Redirect")),
    "a page of HTML": says(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n[]"),
    "no content type": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
    "fifteen megabytes of rows": says(json_of(b"[" + b",".join([ONE_ROW] * (15 * MIB // len(ONE_ROW))) + b"]")),
    "a million empty rows": says(json_of(b"[" + b"{}," * 1_000_000 + b"{}]")),
    "a million numbers": says(json_of(b"[" + b"1," * 1_000_000 + b"1]")),
    "seven million openings": says(json_of(b"[" * 7_000_000 + b"]" * 7_000_000)),
    "a million objects in objects": says(json_of(b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000)),
    "nested a hundred deep": says(json_of(b'[{"00081199":{"vr":"SQ","Value":[' * 100 + b"]}}]" * 100)),
    "brackets that do not match": says(json_of(b"[{]}")),
    "many small attributes": says(
        json_of(b"[{" + b",".join(b'"%08X":{"vr":"LO"}' % tag for tag in range(0x00090000, 0x00097FFF)) + b"}]" * 1)
    ),
    "one attribute twice": says(json_of(b'[{"0020000D":{"vr":"UI","Value":["1.2"]},' + ONE_ROW[1:] + b"]")),
    "one value twice": says(json_of(b'[{"0020000D":{"vr":"UI","Value":["1.2"],"Value":["1.3"]}}]')),
    "one key twice by an escape": says(json_of(b'[{"0020000D":{"vr":"UI"},"002000\\u0030D":{"vr":"UI"}}]')),
    "a number of ten thousand digits": says(json_of(b'[{"00201208":{"vr":"IS","Value":[' + b"9" * 10_000 + b"]}}]")),
    "a fraction of ten thousand digits": says(
        json_of(b'[{"00189073":{"vr":"FD","Value":[0.' + b"3" * 10_000 + b"]}}]")
    ),
    "a number beyond all": says(json_of(b'[{"00201208":{"vr":"DS","Value":[1e999999]}}]')),
    "not a number": says(json_of(b'[{"00201208":{"vr":"DS","Value":[NaN]}}]')),
    "half a surrogate": says(json_of(WHOLE.replace(b"WHITFIELD", b"\\ud800"))),
    "a wrong escape": says(json_of(WHOLE.replace(b"WHITFIELD", b"\\x41"))),
    "a control character": says(json_of(WHOLE.replace(b"WHITFIELD", b"\\u0000"))),
    "UTF-16": says(json_of(WHOLE.decode().encode("utf-16"))),
    "a comment": says(json_of(b"/* */" + WHOLE)),
    "two values": says(json_of(WHOLE + WHOLE)),
    "rows that are lists": says(json_of(b"[[" + ONE_ROW + b"]]")),
    "null": says(json_of(b"null")),
    "a row of nulls": says(json_of(b'[{"0020000D":null}]')),
    "values that are objects": says(json_of(b'[{"0020000D":{"vr":"UI","Value":[{"a":1}]}}]')),
    "a UID that climbs": says(of_rows(annes("../../etc/passwd"))),
    "a UID without end": says(of_rows(annes("1" * 65))),
    "a tag in lower case": says(json_of(WHOLE.replace(b"0020000D", b"0020000d"))),
    "a vr that is none": says(json_of(WHOLE.replace(b'"UI"', b'"ZZ"'))),
}
"""What cannot be believed at all."""

UNTRUE: Mapping[str, tuple[Attributes, ...]] = {
    "rows of a patient whom nobody asked for": (row("1.2.3", NhsNumber(CLARA.nhs_number), name=CLARA.dicom_name),),
    "rows of the opted-out patient": (row("1.2.3", NhsNumber(BEN.nhs_number), name=BEN.dicom_name),),
    "a row with two NHS numbers": (
        {**annes(), "00101002": {"vr": "SQ", "Value": [item(row("", NhsNumber(CLARA.nhs_number)))]}},
    ),
    "a row with a list of NHS numbers": (
        {**annes(), "00100020": {"vr": "LO", "Value": [ANNE.nhs_number, CLARA.nhs_number]}},
    ),
    "a row whose number lies deep inside": (
        {
            **row("1.2.3", None, name=ANNE.dicom_name),
            "00400275": {"vr": "SQ", "Value": [{"00101002": {"vr": "SQ", "Value": [item(annes())]}}]},
        },
    ),
    "a row whose number is of another issuer": ({**annes(), "00100021": {"vr": "LO", "Value": ["RZ9"]}},),
    "a row with a wrong check digit": ({**annes(), "00100020": {"vr": "LO", "Value": ["9990000019"]}},),
    "a row of nobody": (row("1.2.3", None, name=""),),
    "an enormous name of somebody else": (row("1.2.3", NhsNumber(CLARA.nhs_number), name="X" * 5_000_000),),
}
"""Well-formed rows that are no answer."""
