"""Images fetched of an archive over WADO-RS: honest ones, and what becomes of those that are cut, lie or stop.

The honest archive is the demo region's simulated PACS; what that cannot be made to do is done by bytes over a socket.
"""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile
from dicomweb.peer.fetching import KEEPING_MAX, PASSED_OVER_MAX, REFUSALS_MAX, SINGLY_MAX, Resource, resources_of
from dicomweb.problem import TYPE_PREFIX
from dicomweb.wado.file_meta import read_file_meta
from gateway.demo.images import MadeStudy, MadeTrust
from gateway.model.errors import (
    Conflicting,
    GatewayError,
    PeerError,
    PeerProtocolError,
    PeerRefused,
    PeerTimeout,
    PeerUnavailable,
    StoreFull,
    Unwanted,
)
from gateway.model.settings import Limits
from gateway.model.work.transfers import FetchRequest, InstanceRef
from policy.parties import TrustId
from tests.dicomweb.asking import EASTVALE, LIMITS, http, peer
from tests.dicomweb.taking import MemoryIntake, wanting
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs

STUDY, SERIES = "1.2.3", "1.2.3.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
HANG_S = 30.0


async def fetch(
    at: SimulatedPacs | str, request: FetchRequest, intake: MemoryIntake | None = None, limits: Limits = LIMITS
) -> MemoryIntake:
    """What arrives; where it fails, what came before is in the intake that was handed in."""
    into = intake or MemoryIntake()
    url = at if isinstance(at, str) else f"http://127.0.0.1:{at.port('web')}/dicom-web"
    async with peer(url, limits=limits) as connector, asyncio.timeout(HANG_S):
        await connector.fetch(request, into)
    return into


def uid(number: int) -> str:
    return f"{SERIES}.{number}"


def ref(number: int, series: str = SERIES) -> InstanceRef:
    return InstanceRef(STUDY, series, uid(number), CT)


def file_of(number: int, content: bytes = b"pixels") -> bytes:
    def element(tag: int, text: str) -> bytes:
        value = text.encode() + b"\0" * (len(text) % 2)
        return b"\x02\x00" + tag.to_bytes(2, "little") + b"UI" + len(value).to_bytes(2, "little") + value

    return bytes(128) + b"DICM" + element(2, CT) + element(3, uid(number)) + element(16, EXPLICIT) + content


def body_of(*contents: bytes, is_closed: bool = True) -> bytes:
    parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in contents)
    return parts + (b"--b--\r\n" if is_closed else b"")


@asynccontextmanager
async def serving(answers: dict[str, bytes], *, otherwise: bytes = b"") -> AsyncIterator[tuple[str, list[str]]]:
    """A socket that gives a whole HTTP answer for each path, and the paths that it was asked."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode().removeprefix("/dicom-web")
        asked.append(path)
        writer.write(answers.get(path, otherwise))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web", asked
    finally:
        server.close()


def multipart(body: bytes, status: str = "200 OK", extra: bytes = b"") -> bytes:
    return http(status, body, MULTIPART, extra)


# --- what honest archives send ---


async def test_every_instance_of_a_study_arrives_as_it_lies_in_the_archive(
    eastvale: SimulatedPacs, made: MadeTrust
) -> None:
    for study in made.studies:
        arrived = await fetch(eastvale, wanting(study.study_instance_uid))
        assert {(one.sop_uid, one.digest.hexdigest()) for one in arrived.kept} == set(_held(study))


def _held(study: MadeStudy) -> Iterator[tuple[str, str]]:
    for series in study.series:
        for sop_uid, path in zip(series.sop_instance_uids, series.files, strict=True):
            yield sop_uid, _digest_of_data_set(path)


def _digest_of_data_set(path: Path) -> str:
    content = path.read_bytes()
    meta = read_file_meta(content)
    assert meta is not None
    return hashlib.blake2b(content[meta.data_set_at :]).hexdigest()


async def test_a_series_or_single_instances_arrive_alone(eastvale: SimulatedPacs, made: MadeTrust) -> None:
    study = max(made.studies, key=lambda each: len(each.series[0].files))
    series = study.series[0]
    of_series = (series.series_instance_uid,)
    whole = await fetch(eastvale, wanting(study.study_instance_uid, series_uids=of_series))
    assert sorted(whole.kept_uids) == sorted(series.sop_instance_uids)
    some = series.sop_instance_uids[1:3]
    few = await fetch(eastvale, wanting(study.study_instance_uid, series_uids=of_series, sop_uids=some))
    assert sorted(few.kept_uids) == sorted(some)
    refs = [InstanceRef(study.study_instance_uid, series.series_instance_uid, each, CT) for each in some]
    named = await fetch(eastvale, wanting(study.study_instance_uid, *refs))
    assert sorted(named.kept_uids) == sorted(some)


@pytest.mark.filterwarnings("ignore::UserWarning")  # one of them is not written as it says
async def test_every_transfer_syntax_of_real_files_arrives_bit_for_bit(tmp_path: Path) -> None:
    expected = _copied_with_identity(tmp_path)
    assert len({syntax for syntax, _ in expected.values()}) >= 9
    arrived: dict[tuple[str, str], tuple[str, str]] = {}
    with running_pacs(tmp_path) as archive:
        for study_uid in {study_uid for study_uid, _ in expected}:
            into = await fetch(archive, wanting(study_uid))
            arrived |= {(study_uid, one.sop_uid): (one.transfer_syntax, one.digest.hexdigest()) for one in into.kept}
    assert arrived == expected


def _copied_with_identity(folder: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Copy pydicom's own files that say who they are: transfer syntax and digest by study and instance."""
    copied: dict[tuple[str, str], tuple[str, str]] = {}
    for path in sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm")):
        dataset = dcmread(path, stop_before_pixels=True, force=True)
        meta = getattr(dataset, "file_meta", Dataset())
        uids = [str(dataset.get(f"{level}InstanceUID", "")) for level in ("Study", "Series", "SOP")]
        if not all(uids) or "SOPClassUID" not in dataset or meta.get("MediaStorageSOPInstanceUID") != uids[2]:
            continue
        if path.read_bytes()[128:132] == b"DICM" and (uids[0], uids[2]) not in copied:
            copyfile(path, folder / path.name)
            copied[uids[0], uids[2]] = (str(meta.TransferSyntaxUID), _digest_of_data_set(path))
    return copied


async def test_the_request_says_what_is_accepted_and_who_asks(eastvale: SimulatedPacs, made: MadeTrust) -> None:
    await fetch(eastvale, wanting(made.studies[0].study_instance_uid))
    [request] = eastvale.requests()
    headers = {name.lower(): value for name, value in request["headers"]}  # type: ignore[attr-defined]  # JSON
    assert headers["accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert headers["gateway-correlation"] == "request-1" and headers["gateway-hops"] == "1"
    assert headers["accept-encoding"] == "identity" and "gateway-asking-trust" not in headers


# --- which requests an errand is ---


def test_few_instances_are_asked_for_one_by_one_and_many_by_their_series() -> None:
    few = resources_of(wanting(STUDY, *map(ref, range(SINGLY_MAX))))
    assert [each.path for each in few] == [
        f"/studies/{STUDY}/series/{SERIES}/instances/{uid(n)}" for n in range(SINGLY_MAX)
    ]
    [many] = resources_of(wanting(STUDY, *map(ref, range(SINGLY_MAX + 1))))
    assert many.path == f"/studies/{STUDY}/series/{SERIES}" and many.wanted == frozenset(
        map(uid, range(SINGLY_MAX + 1))
    )


def test_refs_of_several_series_are_asked_for_by_each() -> None:
    paths = [each.path for each in resources_of(wanting(STUDY, ref(1), ref(2, "9.1"), ref(3)))]
    assert [path.split("/series/")[1].split("/")[0] for path in paths] == [SERIES, SERIES, "9.1"]


def test_what_has_no_series_or_several_is_sorted_out_of_what_comes() -> None:
    assert resources_of(wanting(STUDY)) == [Resource(f"/studies/{STUDY}")]
    assert resources_of(wanting(STUDY, sop_uids=("1.9",))) == [Resource(f"/studies/{STUDY}", frozenset({"1.9"}))]
    several = resources_of(wanting(STUDY, series_uids=("9.1", "9.2"), sop_uids=("1.9",)))
    assert [each.wanted for each in several] == [frozenset({"1.9"})] * 2


async def test_what_is_not_wanted_is_not_offered() -> None:
    body = multipart(body_of(*(file_of(number) for number in range(4))))
    async with serving({}, otherwise=body) as (url, _):
        into = await fetch(url, wanting(STUDY, sop_uids=(uid(1), uid(2))))
    assert into.begun == into.kept_uids == [uid(1), uid(2)]


async def test_a_series_of_which_little_is_wanted_is_left_for_single_requests() -> None:
    wanted = range(PASSED_OVER_MAX + 2, PASSED_OVER_MAX + SINGLY_MAX + 3)
    path = f"/studies/{STUDY}/series/{SERIES}"
    # It never ends: whoever would wait for its end would hang.
    endless = MULTIPART_HEAD + body_of(*(file_of(number) for number in range(PASSED_OVER_MAX + 2)), is_closed=False)
    singles = {f"{path}/instances/{uid(number)}": multipart(body_of(file_of(number))) for number in wanted}
    async with serving({path: endless, **singles}) as (url, asked):
        into = await fetch(url, wanting(STUDY, *map(ref, wanted)))
    assert sorted(into.kept_uids) == sorted(map(uid, wanted)) and sorted(asked) == sorted([path, *singles])


MULTIPART_HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\nContent-Length: 1000000\r\n\r\n".encode()


# --- what the intake refuses ---


@pytest.mark.parametrize("at", [0, 1, -1])
@pytest.mark.parametrize("error", [Unwanted("nobody waits for it"), Conflicting("kept with other pixels")])
async def test_a_refused_instance_is_passed_over_and_the_rest_goes_on(at: int, error: GatewayError) -> None:
    def refuses(sop_uid: str, count: int) -> GatewayError | None:
        return error if sop_uid == uid(2) and (count == at or (at == 1 and count > 0)) else None

    large = bytes(1_500_000)
    body = multipart(body_of(file_of(1), file_of(2, large), file_of(3, large)))
    async with serving({}, otherwise=body) as (url, _):
        into = await fetch(url, wanting(STUDY), MemoryIntake(refuses))
    assert into.begun == [uid(1), uid(2), uid(3)] and into.kept_uids == [uid(1), uid(3)]


@pytest.mark.parametrize("at", [0, 1, -1])
async def test_nothing_more_is_fetched_once_nothing_can_be_kept(at: int) -> None:
    def refuses(sop_uid: str, count: int) -> GatewayError | None:
        return StoreFull("no room") if sop_uid == uid(2) and (count == at or (at == 1 and count > 0)) else None

    into, files = MemoryIntake(refuses), [file_of(number) for number in range(1, 21)]
    async with serving({}, otherwise=multipart(body_of(*files))) as (url, _):
        with pytest.raises(StoreFull):
            await fetch(url, wanting(STUDY), into)
    # What is on its way while one is made durable is not taken back.
    ahead = KEEPING_MAX if at == -1 else 0
    assert into.begun[:2] == [uid(1), uid(2)] and len(into.begun) <= 2 + ahead
    assert set(into.begun) - set(into.kept_uids) <= {uid(2), into.begun[-1]}


# --- archives that are cut, lie or stop ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (multipart(b"", "404 Not Found"), PeerRefused),
        (multipart(b"", "403 Forbidden"), PeerRefused),
        (multipart(b"", "406 Not Acceptable"), PeerRefused),
        (b"HTTP/1.1 204 No Content\r\n\r\n", PeerRefused),
        (multipart(b"", "429 Too Many Requests"), PeerUnavailable),
        (multipart(b"", "500 Internal Server Error"), PeerUnavailable),
        (multipart(b"", "503 Service Unavailable"), PeerUnavailable),
        (multipart(b"", "302 Found", b"Location: /elsewhere\r\n"), PeerProtocolError),
        (http(body=b"<html>", content_type="text/html"), PeerProtocolError),
        (http(body=b"[]", content_type="application/dicom+json"), PeerProtocolError),
        (http(body=body_of(), content_type="multipart/related; type=image/jpeg; boundary=b"), PeerProtocolError),
        (http(body=body_of(), content_type='multipart/related; type="application/dicom"'), PeerProtocolError),
        (multipart(body_of(file_of(1)), extra=b"Content-Encoding: gzip\r\n"), PeerProtocolError),
        (multipart(b"--c\r\n\r\n" + bytes(70_000)), PeerProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", PeerProtocolError),
        (b"", PeerUnavailable),
    ],
)
async def test_what_is_no_answer_with_images_has_its_error(answer: bytes, expected: type[PeerError]) -> None:
    async with serving({}, otherwise=answer) as (url, _):
        with pytest.raises(expected) as error:
            await fetch(url, wanting(STUDY))
    assert error.value.trust == EASTVALE and STUDY not in str(error.value) and type(error.value) is expected


WHOLE = body_of(file_of(1), file_of(2), file_of(3))


@pytest.mark.parametrize("cut", [1, 40, 300, 420, len(body_of(file_of(1), file_of(2))), len(WHOLE) - 5])
@pytest.mark.parametrize("is_told", [True, False])
async def test_of_an_answer_that_is_cut_the_whole_instances_are_kept(cut: int, is_told: bool) -> None:
    # By its length the connection broke; without, the archive seems to have ended it in good order.
    length = f"Content-Length: {len(WHOLE)}\r\n" if is_told else "Connection: close\r\n"
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\n{length}\r\n".encode() + WHOLE[:cut]
    into = MemoryIntake()
    async with serving({}, otherwise=answer) as (url, _):
        with pytest.raises(PeerUnavailable):
            await fetch(url, wanting(STUDY), into)
    borders = [len(body_of(*map(file_of, range(1, count + 1)), is_closed=False)) + 3 for count in (1, 2, 3)]
    assert into.kept_uids == [uid(count) for count, border in enumerate(borders, 1) if cut >= border]


async def test_an_answer_that_says_it_is_partial_is_taken_and_is_a_gap() -> None:
    into = MemoryIntake()
    async with serving({}, otherwise=multipart(body_of(file_of(1)), "206 Partial Content")) as (url, _):
        with pytest.raises(PeerUnavailable):
            await fetch(url, wanting(STUDY), into)
    assert into.kept_uids == [uid(1)]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (b"--b\r\nContent-Type: application/problem+json\r\n\r\n{}\r\n", PeerUnavailable),
        (b"--b\r\nContent-Type: application/dicom\r\n\r\n<html>\r\n", PeerProtocolError),
        (b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file_of(1)[:140] + b"\r\n", PeerProtocolError),
        (b"--b\r\n\r\n" + bytes(128) + b"DICM" + b"\x02\x00\x02\x01OB\0\0\xff\xff\xff\xff\r\n", PeerProtocolError),
    ],
)
async def test_a_part_that_is_no_instance_is_a_gap_and_the_others_are_kept(
    part: bytes, expected: type[PeerError]
) -> None:
    into = MemoryIntake()
    body = body_of(file_of(1), is_closed=False) + part + body_of(file_of(2))
    async with serving({}, otherwise=multipart(body)) as (url, _):
        with pytest.raises(expected):
            await fetch(url, wanting(STUDY), into)
    assert into.kept_uids == [uid(1), uid(2)]


async def test_an_instance_that_is_not_there_keeps_no_other_from_coming() -> None:
    path = f"/studies/{STUDY}/series/{SERIES}/instances"
    answers = {f"{path}/{uid(number)}": multipart(body_of(file_of(number))) for number in (1, 3)}
    into = MemoryIntake()
    async with serving(answers, otherwise=multipart(b"", "404 Not Found")) as (url, _):
        with pytest.raises(PeerRefused):
            await fetch(url, wanting(STUDY, ref(1), ref(2), ref(3)), into)
    assert sorted(into.kept_uids) == [uid(1), uid(3)]


async def test_an_archive_that_refuses_everything_is_not_asked_for_everything() -> None:
    refs = [ref(number, series) for series in ("9.1", "9.2", "9.3") for number in range(SINGLY_MAX)]
    async with serving({}, otherwise=multipart(b"", "403 Forbidden")) as (url, asked):
        with pytest.raises(PeerRefused):
            await fetch(url, wanting(STUDY, *refs))
    assert REFUSALS_MAX < len(asked) <= REFUSALS_MAX + LIMITS.retrieve_associations_max < len(refs)


async def test_an_archive_that_stops_is_given_up_after_the_idle_time_and_one_that_drips_after_the_total() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MULTIPART_HEAD + body_of(file_of(1), is_closed=False))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
    try:
        for limits, words in (
            (replace(LIMITS, retrieve_idle_timeout_s=0.2), "stopped answering"),
            (replace(LIMITS, retrieve_total_timeout_s=0.2), "in time"),
        ):
            into = MemoryIntake()
            with pytest.raises(PeerTimeout, match=words):
                await fetch(url, wanting(STUDY), into, limits)
            # The border behind it has not come: it may yet go on.
            assert into.begun == [uid(1)] and into.kept_uids == []
    finally:
        server.close()


async def test_nobody_at_the_address_is_unavailable_and_a_closed_connector_too(eastvale: SimulatedPacs) -> None:
    with pytest.raises(PeerUnavailable):
        await fetch("http://127.0.0.1:9/dicom-web", wanting(STUDY))
    connector = DicomwebPeer(DicomwebPeerProfile(EASTVALE, "http://127.0.0.1:9"), LIMITS, None)
    await connector.close()
    with pytest.raises(PeerUnavailable):
        await connector.fetch(wanting(STUDY), MemoryIntake())


async def test_whoever_gives_up_hangs_up() -> None:
    gone = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(MULTIPART_HEAD + body_of(file_of(1), file_of(2), is_closed=False))
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    into = MemoryIntake()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
    try:
        async with peer(url) as connector, asyncio.timeout(HANG_S):
            under_way = asyncio.create_task(connector.fetch(wanting(STUDY), into))
            await into.arrived.wait()
            under_way.cancel()
            with pytest.raises(asyncio.CancelledError):
                await under_way
            await gone.wait()
    finally:
        server.close()
    assert into.kept_uids == [uid(1)]


# --- another gateway ---


async def test_another_gateway_is_told_for_whom_and_its_gaps_are_gaps() -> None:
    answer = multipart(body_of(file_of(1)), extra=b'Gateway-Sources: "RZ2";state="timed-out"\r\n')
    profile = DicomwebPeerProfile(EASTVALE, "", is_gateway=True)
    request = replace(wanting(STUDY), asking_trust=TrustId("RZ1"))
    into = MemoryIntake()
    async with serving({}, otherwise=answer) as (url, _), asyncio.timeout(HANG_S):
        connector = DicomwebPeer(replace(profile, url=url), LIMITS, None)
        with pytest.raises(PeerUnavailable):
            await connector.fetch(request, into)
        with pytest.raises(PeerRefused, match="never for this gateway itself"):
            await connector.fetch(wanting(STUDY), into)
        await connector.close()
    assert into.kept_uids == [uid(1)]


@pytest.mark.parametrize(("kind", "expected"), [("peer-timeout", PeerTimeout), ("peer-refused", PeerRefused)])
async def test_what_another_gateway_says_of_a_failure_is_believed(kind: str, expected: type[PeerError]) -> None:
    problem = b'{"type":"%s%s"}' % (TYPE_PREFIX.encode(), kind.encode())
    answer = http("504 Gateway Timeout", problem, "application/problem+json")
    request = replace(wanting(STUDY), asking_trust=TrustId("RZ1"))
    async with serving({}, otherwise=answer) as (url, _), asyncio.timeout(HANG_S):
        connector = DicomwebPeer(DicomwebPeerProfile(EASTVALE, url, is_gateway=True), LIMITS, None)
        with pytest.raises(expected):
            await connector.fetch(request, MemoryIntake())
        await connector.close()


# --- size ---


async def test_a_large_instance_passes_in_little_memory() -> None:
    piece, pieces = bytes(1024 * 1024), 256

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body_of(file_of(1), is_closed=False)[:-2])
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
        writer.write(b"\r\n--b--\r\n")
        writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
    tracemalloc.start()
    try:
        into = await fetch(url, wanting(STUDY))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        server.close()
    assert into.kept[0].data_bytes == len(piece) * pieces + len(b"pixels")
    assert peak_bytes < 8 * 1024 * 1024
