"""Instances that are sent by STOW-RS: what is kept, what is refused, and what the sender is told of each."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import orjson
import pytest
from aiohttp import web

from dicomweb.bodies.multipart import file_head
from dicomweb.credentials import Callers
from dicomweb.listener import edge
from dicomweb.stow.outcome import FailureReason, reason_of
from dicomweb.stow.service import Desk, routes
from gateway.model.errors import (
    AuditUnavailable,
    Conflicting,
    GatewayError,
    InvalidRequest,
    OverCapacity,
    StoreFull,
    Unwanted,
)
from gateway.model.settings import Limits
from gateway.model.work.transfers import InstanceRef, Intake
from policy.parties import Caller
from tests.dicomweb.image_shelf import bundled, kept_file
from tests.dicomweb.small_region import PUBLIC_URL, Answer, Reception, served

BORDER = "----a-border-of-some-client"
TYPE = f'multipart/related; type="application/dicom"; boundary="{BORDER}"'
CT, MR = "CT_small.dcm", "MR_small.dcm"


@dataclass
class Tray:
    """Takes in everything but what it is told to refuse."""

    errors: dict[str, GatewayError] = field(default_factory=dict)
    """By SOP Instance UID, at the end of it."""
    kept: dict[str, bytes] = field(default_factory=dict)
    error: GatewayError | None = None
    drained: int = 0
    keeps_bytes: bool = True
    taken_bytes: int = 0

    def reception(self, caller: Caller) -> Intake:
        if self.error is not None:
            raise self.error
        return self

    @asynccontextmanager
    async def take(self, sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> AsyncIterator[Taken]:
        yield Taken(self, sop_uid)


@dataclass
class Taken:
    tray: Tray
    sop_uid: str
    content: bytearray = field(default_factory=bytearray)

    def add(self, piece: bytes | memoryview) -> None:
        self.tray.taken_bytes += len(piece)
        if self.tray.keeps_bytes:
            self.content += piece

    async def drain(self) -> None:
        self.tray.drained += 1
        await asyncio.sleep(0)

    async def keep(self) -> None:
        if (error := self.tray.errors.get(self.sop_uid)) is not None:
            raise error
        self.tray.kept[self.sop_uid] = bytes(self.content)


def whole(name: str, **uids: str) -> bytes:
    """A file of pydicom's as a sender would write it."""
    kept = kept_file(name, **uids)
    return file_head(kept.ref, kept.transfer_syntax) + kept.content


def uid_of(name: str) -> str:
    return kept_file(name).ref.sop_uid


def study_of(name: str) -> str:
    return kept_file(name).ref.study_uid


def body_of(*files: bytes) -> bytes:
    parts = b"".join(b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BORDER.encode(), f) for f in files)
    return parts + b"--%s--\r\n" % BORDER.encode()


async def store(
    tray: Tray,
    data: object,
    *,
    path: str = "/studies",
    content_type: str = TYPE,
    limits: Limits | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send it, and wait for the answer."""
    sent = {"Content-Type": content_type} | (headers or {})
    async with (
        storing(tray, limits) as base,
        aiohttp.ClientSession() as session,
        session.post(base + path, data=data, headers=sent) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


@asynccontextmanager
async def storing(tray: Tray, limits: Limits | None = None) -> AsyncIterator[str]:
    """Serve a tray; gives the address of the DICOMweb service."""
    known, numbers = limits or Limits(), count(1)
    app = web.Application(middlewares=[edge(known, new_id=lambda: f"request-{next(numbers)}")])
    app.add_routes(routes(Desk(tray, Callers(Reception()), known, PUBLIC_URL)))
    async with served(app) as origin:
        yield f"{origin}/dicom-web"


def references(answer: Answer) -> list[str]:
    model = orjson.loads(answer.body)
    return [item["00081155"]["Value"][0] for item in model.get("00081199", {}).get("Value", [])]


def failures(answer: Answer) -> dict[str, int]:
    model = orjson.loads(answer.body)
    items = model.get("00081198", {}).get("Value", [])
    return {item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in items}


async def test_instances_are_kept_as_they_were_sent_and_named_with_their_addresses() -> None:
    tray = Tray()
    answer = await store(tray, body_of(whole(CT), whole(MR)))
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/dicom+json"
    assert references(answer) == [uid_of(CT), uid_of(MR)]
    assert tray.kept == {uid_of(name): kept_file(name).content for name in (CT, MR)}
    first = orjson.loads(answer.body)["00081199"]["Value"][0]
    ref = kept_file(CT).ref
    assert first["00081190"]["Value"] == [
        f"{PUBLIC_URL}/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.sop_uid}"
    ]
    assert "00081198" not in orjson.loads(answer.body)


@pytest.mark.parametrize("name", bundled())
async def test_every_real_file_is_kept_bit_for_bit_or_refused_by_name(name: str) -> None:
    tray = Tray()
    answer = await store(tray, whole(name), content_type="application/dicom")
    if answer.status == 200:
        assert tray.kept == {uid_of(name): kept_file(name).content}
    else:
        # Some of these files name no study: nobody could ever ask for them.
        assert answer.status == 409 and tray.kept == {} and not (study_of(name) and kept_file(name).ref.series_uid)


async def test_an_identical_second_sending_is_as_good_as_the_first() -> None:
    tray = Tray()
    first = await store(tray, body_of(whole(CT)))
    assert (await store(tray, body_of(whole(CT)))).body == first.body


async def test_some_refused_and_some_kept_is_202_and_says_which() -> None:
    tray = Tray({uid_of(MR): Conflicting("kept with other content")})
    answer = await store(tray, body_of(whole(MR), whole(CT)))
    assert answer.status == 202
    assert (references(answer), failures(answer)) == ([uid_of(CT)], {uid_of(MR): 0x0111})


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Conflicting("x"), 409, FailureReason.CONFLICTING),
        (StoreFull("x"), 507, FailureReason.OUT_OF_RESOURCES),
        (OverCapacity("x"), 409, FailureReason.OUT_OF_RESOURCES),
        (InvalidRequest("x"), 409, FailureReason.NOT_AS_ANNOUNCED),
        (Unwanted("x"), 409, FailureReason.NOT_AUTHORISED),
    ],
)
async def test_none_kept_is_409_or_507_with_the_reason(error: GatewayError, status: int, reason: FailureReason) -> None:
    answer = await store(Tray({uid_of(CT): error}), body_of(whole(CT)))
    assert answer.status == status and failures(answer) == {uid_of(CT): reason}
    assert reason_of(error) is reason


async def test_where_there_is_room_for_some_it_is_202() -> None:
    answer = await store(Tray({uid_of(MR): StoreFull("x")}), body_of(whole(MR), whole(CT)))
    assert answer.status == 202 and failures(answer) == {uid_of(MR): FailureReason.OUT_OF_RESOURCES}


async def test_an_instance_of_another_study_than_the_path_names_is_refused() -> None:
    tray = Tray()
    answer = await store(tray, body_of(whole(CT), whole(MR)), path=f"/studies/{study_of(CT)}")
    assert answer.status == 202 and list(tray.kept) == [uid_of(CT)]
    assert failures(answer) == {uid_of(MR): FailureReason.NOT_AS_ANNOUNCED}


async def test_what_is_no_dicom_file_fails_without_a_name_and_the_rest_goes_on() -> None:
    tray = Tray()
    answer = await store(tray, body_of(b"%PDF-1.7 ...", whole(CT), b"", whole(MR)[:140]))
    assert answer.status == 202 and list(tray.kept) == [uid_of(CT)]
    others = orjson.loads(answer.body)["0008119A"]["Value"]
    assert others == [{"00081197": {"vr": "US", "Value": [0xC000]}}] * 3


async def test_a_fault_of_the_service_refuses_the_whole_request() -> None:
    answer = await store(Tray({uid_of(CT): AuditUnavailable("gone")}), body_of(whole(CT)))
    assert answer.status == 503 and answer.problem["detail"] == "not recorded" and "Retry-After" in answer.headers


async def test_a_caller_that_cannot_store_here_now_is_told_before_its_images_are_read() -> None:
    tray = Tray(error=AuditUnavailable("gone"))
    assert (await store(tray, body_of(whole(CT)))).status == 503
    assert tray.taken_bytes == 0


@pytest.mark.parametrize(
    "content_type",
    [
        "application/dicom+json",
        'multipart/related; type="application/dicom+json"; boundary=x',
        'multipart/related; type="application/dicom+xml"; boundary=x',
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "nonsense",
    ],
)
async def test_other_bodies_than_dicom_files_are_refused(content_type: str) -> None:
    answer = await store(Tray(), body_of(whole(CT)), content_type=content_type)
    assert answer.status == answer.problem["status"] == 415


async def test_an_answer_that_the_sender_cannot_read_is_refused_before_anything_is_kept() -> None:
    tray = Tray()
    answer = await store(tray, body_of(whole(CT)), headers={"Accept": "application/dicom+xml"})
    assert answer.status == 406 and tray.kept == {}


async def test_a_compressed_body_is_refused() -> None:
    answer = await store(Tray(), body_of(whole(CT)), headers={"Content-Encoding": "br"})
    assert answer.status in (400, 415)


@pytest.mark.parametrize(
    "data",
    [b"", b"no border at all", body_of()[:-4], body_of(whole(CT))[:-6], body_of(whole(CT))[:-40]],
    ids=["empty", "no-border", "half-border", "not-closed", "cut-inside"],
)
async def test_a_body_that_is_not_closed_is_refused(data: bytes) -> None:
    assert (await store(Tray(), data)).status == 400


@pytest.mark.parametrize(("past", "status"), [(0, 200), (1, 413)])
async def test_a_body_is_as_long_as_its_limit_and_no_longer(past: int, status: int) -> None:
    data = body_of(whole(CT))
    limits = Limits(stow_body_bytes_max=len(data) - past)
    assert (await store(Tray(), data, limits=limits)).status == status

    async def unannounced() -> AsyncIterator[bytes]:
        yield data

    assert (await store(Tray(), unannounced(), limits=limits)).status == status


@pytest.mark.parametrize(("instances", "status"), [(3, 200), (4, 413)])
async def test_a_request_has_as_many_instances_as_its_limit_and_no_more(instances: int, status: int) -> None:
    data = body_of(*[whole(CT)] * instances)
    assert (await store(Tray(), data, limits=Limits(stow_instances_max=3))).status == status


async def test_a_sender_that_stops_in_the_middle_is_given_up() -> None:
    async def half() -> AsyncIterator[bytes]:
        yield body_of(whole(CT))[:1000]
        await asyncio.Event().wait()

    tray = Tray()
    limits = Limits(keepalive_timeout_s=0.1)
    answer = await store(tray, half(), limits=limits)
    assert answer.status == 408 and tray.kept == {}


async def test_the_connection_serves_the_next_request_once_a_body_was_read() -> None:
    answer = await store(Tray(), body_of(whole(CT)))
    assert answer.headers.get("Connection", "").lower() != "close"


async def test_a_gigabyte_passes_through_constant_memory() -> None:
    ref = InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.2")
    names = b"".join(
        b"%s\x00UI\x04\x00%s" % (tag, value)
        for tag, value in ((b"\x20\x00\x0d", b"1.2\0"), (b"\x20\x00\x0e", b"1.3\0"))
    )
    head = file_head(ref, "1.2.840.10008.1.2.1") + names + b"\xe0\x7f\x10\x00OW\x00\x00\x00\x00\x00\x40"
    chunk, chunks = bytes(4 * 1024 * 1024), 256

    async def large() -> AsyncIterator[bytes]:
        yield f"--{BORDER}\r\n\r\n".encode() + head
        for _ in range(chunks):
            yield chunk
        yield f"\r\n--{BORDER}--\r\n".encode()

    tray = Tray(keeps_bytes=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await store(tray, large())
    assert answer.status == 200 and tray.taken_bytes > chunks * len(chunk) and tray.drained > chunks
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [1, 7, 1000, 65_537])
async def test_it_does_not_matter_where_the_network_cuts(size: int) -> None:
    data = body_of(whole(MR)[:3000] if size == 1 else whole(MR), whole(CT))[: None if size > 1 else 200_000]

    async def cut() -> AsyncIterator[bytes]:
        for piece in _pieces(data, size):
            yield piece

    tray = Tray()
    answer = await store(tray, cut())
    assert answer.status in (200, 202) and tray.kept[uid_of(CT)] == kept_file(CT).content
