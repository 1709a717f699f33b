"""Studies, series and instances by WADO-RS: what arrives, what a gap looks like, and what absence looks like."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from email.policy import HTTP
from io import BytesIO

import aiohttp
import orjson
import pydicom
import pytest
from pydicom.uid import UID
from yarl import URL

from dicomweb.problem import TYPE_PREFIX
from gateway.model.errors import RegisterUnavailable
from gateway.model.imaging import Level, SourceState
from gateway.model.settings import Limits
from gateway.model.work.retrievals import Halt
from policy.parties import TrustId
from tests.dicomweb.image_shelf import (
    ImageShelf,
    Kept,
    RawAnswer,
    ShelfItem,
    ask,
    ask_raw,
    bundled,
    content_of,
    kept_file,
    made,
    serving,
)
from tests.dicomweb.small_region import Answer, source

ANYTHING = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
THREE = [made(1), made(2), made(3, series="1.2.3.9")]


def parts(answer: Answer) -> list[Message]:
    """The parts of a multipart body, as the standard library reads it; a body that is not closed is none."""
    head = b"Content-Type: " + answer.headers["Content-Type"].encode() + b"\r\n\r\n"
    read = message_from_bytes(head + answer.body, policy=HTTP)
    assert not read.defects and answer.body.endswith(b"--\r\n")
    found = read.get_payload()
    assert isinstance(found, list)
    return [each for each in found if isinstance(each, Message)]


def files(answer: Answer) -> list[bytes]:
    """The bodies of the parts: cut out by the boundary alone, for instances are no text."""
    boundary = answer.headers["Content-Type"].split('boundary="')[1].rstrip('"').encode()
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + boundary)
    assert pieces[0] == b"" and pieces[-1] == b"--\r\n"
    return [piece.split(b"\r\n\r\n", 1)[1] for piece in pieces[1:-1]]


async def test_a_study_is_given_in_parts_as_it_is_kept() -> None:
    shelf = ImageShelf(THREE)
    answer = await ask(shelf, "/studies/1.2.3", headers=ANYTHING)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary="')
    named = [(each.get_content_type(), each.get_param("transfer-syntax")) for each in parts(answer)]
    assert named == [("application/dicom", "1.2.840.10008.1.2.1")] * 3
    assert [content_of(each) for each in files(answer)] == [each.content for each in THREE]
    assert shelf.sent == [each.ref.sop_uid for each in THREE]


@pytest.mark.parametrize(
    ("path", "level", "uids"),
    [
        ("/studies/1.2.3", Level.STUDY, (("1.2.3",), (), ())),
        ("/studies/1.2.3/series/1.2.3.1", Level.SERIES, (("1.2.3",), ("1.2.3.1",), ())),
        ("/studies/1.2.3/series/1.2.3.1/instances/1.2.3.2", Level.IMAGE, (("1.2.3",), ("1.2.3.1",), ("1.2.3.2",))),
    ],
)
@pytest.mark.parametrize("trust", ["", "RJ1"])
async def test_a_path_says_what_is_wanted_and_from_whom(
    path: str, level: Level, uids: tuple[tuple[str, ...], ...], trust: str
) -> None:
    shelf = ImageShelf(THREE)
    answer = await ask(shelf, f"/trust/{trust}{path}" if trust else path)
    [wish] = shelf.wishes
    assert answer.status == 200 and wish.level is level
    assert (wish.study_uids, wish.series_uids, wish.sop_uids) == uids
    assert wish.only_trust == (TrustId(trust) if trust else None)


@pytest.mark.parametrize("name", bundled())
async def test_every_real_file_arrives_bit_for_bit_with_a_head_that_others_read(name: str) -> None:
    kept = kept_file(name, study="1.2.3", series="1.2.3.1", sop="1.2.3.1.1")
    headers = {"Accept": "application/dicom; transfer-syntax=*"}
    path = "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.1"
    answer = await ask(ImageShelf([kept]), path, headers=headers)
    assert answer.status == 200 and int(answer.headers["Content-Length"]) == len(answer.body)
    assert content_of(answer.body) == kept.content
    meta = pydicom.dcmread(BytesIO(answer.body[: -len(kept.content)])).file_meta
    assert meta.TransferSyntaxUID == kept.transfer_syntax
    assert meta.MediaStorageSOPClassUID == kept.ref.sop_class_uid
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.1.1" and UID(meta.ImplementationClassUID).is_valid
    assert answer.headers["Content-Type"].endswith(f"transfer-syntax={kept.transfer_syntax}")


def test_every_transfer_syntax_of_stored_objects_is_among_the_files() -> None:
    assert len({kept_file(name).transfer_syntax for name in bundled()}) >= 12


@pytest.mark.parametrize("path", ["/studies/1.2.9", "/studies/1.2.3/series/1.2.9", "/trust/RJ1/studies/1.2.9"])
async def test_nothing_that_may_be_had_is_absence_and_says_what_may_be_missing(path: str) -> None:
    shelf = ImageShelf(THREE, sources=[source(SourceState.TIMED_OUT)])
    answer = await ask(shelf, path)
    assert answer.status == 404 and answer.problem["detail"] == "nothing available through sharing"
    assert "does not mean none exists" in answer.headers["Gateway-Notice"]
    assert "RJ1" in answer.headers["Warning"] and "020 7946 0000" in answer.headers["Warning"]


@pytest.mark.parametrize("path", ["/studies/x", "/studies/1.2.3/series/1a", "/studies/1.2.3/series/1/instances/1-2"])
async def test_a_path_that_names_no_uid_is_refused(path: str) -> None:
    assert (await ask(ImageShelf(THREE), path)).status == 400


async def test_a_fault_of_the_service_is_told() -> None:
    answer = await ask(ImageShelf(THREE, error=RegisterUnavailable("gone")), "/studies/1.2.3")
    assert answer.status == 503 and answer.problem["detail"] == "sharing not checked"


async def test_a_retrieval_that_policy_stops_before_its_first_instance_looks_like_absence() -> None:
    stopped = await ask(ImageShelf(THREE, halts_at="1.2.3.1"), "/studies/1.2.3")
    never = await ask(ImageShelf(THREE), "/studies/1.2.9")
    assert (stopped.status, stopped.body.split(b"requestId")[0]) == (404, never.body.split(b"requestId")[0])
    assert set(stopped.headers) == set(never.headers)


async def test_one_that_the_service_stops_before_its_first_instance_is_a_fault() -> None:
    answer = await ask(ImageShelf(THREE, halts_at="1.2.3.1", halts_as=Halt.SERVICE), "/studies/1.2.3")
    assert answer.status == 503


@pytest.mark.parametrize("path", ["/studies/1.2.3", "/studies/1.2.3/metadata"])
async def test_what_is_known_to_be_missing_makes_a_part_that_says_so(path: str) -> None:
    shelf = ImageShelf(THREE, lost_before=frozenset({"1.2.3.2"}))
    answer = await ask(shelf, path)
    assert answer.status == 206
    assert any("1 of 3 instances could not be had" in text for text in answer.headers.getall("Warning"))
    if not path.endswith("metadata"):
        assert len(files(answer)) == 2


@pytest.mark.parametrize("path", ["/studies/1.2.3", "/studies/1.2.3/series/1.2.3.1", "/studies/1.2.3/metadata"])
async def test_a_trust_that_did_not_answer_makes_a_study_a_part(path: str) -> None:
    shelf = ImageShelf(THREE, sources=[source(), source(SourceState.UNREACHABLE, code="RZ9", name="Far Away")])
    answer = await ask(shelf, path)
    assert answer.status == 206 and "RZ9 Far Away" in answer.headers["Warning"]


async def test_an_instance_is_whole_whoever_did_not_answer() -> None:
    shelf = ImageShelf(THREE, sources=[source(SourceState.UNREACHABLE)])
    answer = await ask(shelf, "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1")
    assert answer.status == 200 and "Warning" in answer.headers


async def _cut(shelf: ImageShelf, path: str) -> RawAnswer:
    async with serving(shelf) as base:
        answer = await ask_raw(base, path)
    assert answer.status == 200 and not answer.is_whole
    return answer


@pytest.mark.parametrize(
    "shelf",
    [
        ImageShelf(THREE, lost_on_the_way=frozenset({"1.2.3.2"})),
        ImageShelf(THREE, damaged_from={"1.2.3.2": 0}),
    ],
    ids=["not-fetched", "damaged"],
)
async def test_a_gap_found_on_the_way_is_told_and_the_body_is_never_closed(shelf: ImageShelf) -> None:
    body = (await _cut(shelf, "/studies/1.2.3")).body
    assert THREE[0].content in body and THREE[2].content in body and THREE[1].content not in body
    head, _, told = body.rpartition(b"\r\n\r\n")
    assert head.endswith(b"Content-Type: application/problem+json")
    problem = orjson.loads(told)
    assert (problem["type"], problem["missing"]) == (f"{TYPE_PREFIX}incomplete", ["1.2.3.2"])
    assert shelf.sent == ["1.2.3.1", "1.2.3.3"]


async def test_a_policy_that_stops_a_body_is_told_in_the_words_of_any_gap() -> None:
    body = (await _cut(ImageShelf(THREE, halts_at="1.2.3.2"), "/studies/1.2.3")).body
    problem = orjson.loads(body.rpartition(b"\r\n\r\n")[2])
    assert problem["detail"] == "2 of 3 instances could not be had" and "1.2.3.3" in problem["missing"]


async def test_damage_inside_an_instance_cuts_the_body_there() -> None:
    large = made(1, bytes(3 * 1024 * 1024))
    shelf = ImageShelf([large, made(2)], damaged_from={"1.2.3.1": 2 * 1024 * 1024})
    assert len((await _cut(shelf, "/studies/1.2.3")).body) < 3 * 1024 * 1024
    assert shelf.sent == []


async def test_metadata_with_a_gap_never_ends_its_array() -> None:
    shelf = ImageShelf(THREE, lost_on_the_way=frozenset({"1.2.3.2"}))
    body = (await _cut(shelf, "/studies/1.2.3/metadata")).body
    assert body.startswith(b"[{") and not body.endswith(b"]")


async def test_where_nothing_of_what_was_found_could_be_had_the_trust_is_named() -> None:
    shelf = ImageShelf([made(1)], lost_on_the_way=frozenset({"1.2.3.1"}))
    answer = await ask(shelf, "/studies/1.2.3")
    assert answer.status == 504 and answer.problem["detail"] == "RJ1: what was found there could not be had"


async def test_an_instance_that_cannot_be_opened_is_never_given_as_an_empty_one() -> None:
    shelf = ImageShelf([made(1)], damaged_from={"1.2.3.1": 0})
    headers = {"Accept": "application/dicom"}
    answer = await ask(shelf, "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1", headers=headers)
    assert answer.status == 503 and shelf.sent == []


async def test_head_says_what_get_would_and_hands_out_nothing() -> None:
    shelf = ImageShelf(THREE)
    answer = await ask(shelf, "/studies/1.2.3", method="HEAD")
    assert answer.status == 200 and answer.body == b"" and "ETag" in answer.headers
    assert shelf.handed_out == [] and shelf.delivery.is_spared


@pytest.mark.parametrize("suffix", ["", "/metadata", "/series/1.2.3.1/instances/1.2.3.1?accept=application/dicom"])
async def test_a_caller_that_has_this_version_is_told_so(suffix: str) -> None:
    shelf = ImageShelf(THREE)
    tag = (await ask(shelf, f"/studies/1.2.3{suffix}")).headers["ETag"]
    again = await ask(shelf, f"/studies/1.2.3{suffix}", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag) and shelf.delivery.is_spared
    assert (await ask(shelf, f"/studies/1.2.3{suffix}", headers={"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize("named", ["*", 'W/""', '""'])
@pytest.mark.parametrize("suffix", ["", "/metadata"])
async def test_of_a_version_that_nobody_knows_yet_no_caller_is_told_that_it_has_it(suffix: str, named: str) -> None:
    shelf = ImageShelf(THREE, etag="")
    answer = await ask(shelf, f"/studies/1.2.3{suffix}", headers={"If-None-Match": named})
    assert answer.status == 200 and len(shelf.sent) == 3 and "ETag" not in answer.headers


async def test_some_bytes_of_a_file_are_those_of_the_whole() -> None:
    shelf = ImageShelf([made(1)])
    path = "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1?accept=application/dicom"
    whole = (await ask(shelf, path)).body
    for wanted, expected in (
        ("bytes=0-9", whole[:10]),
        ("bytes=300-", whole[300:]),
        ("bytes=-5", whole[-5:]),
        ("bytes=130-700", whole[130:701]),
        ("bytes=0-99999", whole),
    ):
        answer = await ask(shelf, path, headers={"Range": wanted})
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")
    behind = await ask(shelf, path, headers={"Range": f"bytes={len(whole)}-"})
    assert (behind.status, behind.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")


class ToExplicit:
    """Changes every syntax in name alone."""

    async def transcoded(self, item: object, accepted: object) -> object:
        assert isinstance(item, ShelfItem)
        return ShelfItem(Kept(item.ref, "1.2.840.10008.1.2.1", b"changed", b"{}"))


async def test_what_is_not_taken_as_it_is_kept_is_changed_or_refused() -> None:
    kept = kept_file("MR_small_implicit.dcm", study="1.2.3")
    shelf = ImageShelf([kept])
    default = {"Accept": 'multipart/related; type="application/dicom"'}
    refused = await ask(shelf, "/studies/1.2.3", headers=default)
    assert refused.status == 406 and shelf.sent == []
    changed = await ask(shelf, "/studies/1.2.3", headers=default, transcoder=ToExplicit())
    assert [content_of(each) for each in files(changed)] == [b"changed"]
    as_kept = await ask(shelf, "/studies/1.2.3", headers=ANYTHING, transcoder=ToExplicit())
    assert [content_of(each) for each in files(as_kept)] == [kept.content]


async def test_a_reader_that_goes_away_ends_the_retrieval() -> None:
    arrived = asyncio.Event()

    async def not_the_second(sop_uid: str) -> None:
        if sop_uid == "1.2.3.2":
            arrived.set()
            await asyncio.Event().wait()

    shelf = ImageShelf(THREE, before_each=not_the_second)
    async with serving(shelf) as base, aiohttp.ClientSession() as session:
        async with session.get(f"{base}/studies/1.2.3") as response:
            # The first is there while the second is still on its way.
            received = bytearray()
            while THREE[0].content not in received:
                received += await response.content.readany()
            await arrived.wait()
        await asyncio.wait_for(shelf.ended.wait(), 30)
        assert shelf.delivery.is_cancelled and shelf.sent == ["1.2.3.1"]


async def test_a_slow_reader_is_waited_for_and_little_is_read_ahead_of_it() -> None:
    pieces = [made(number, bytes(1024 * 1024)) for number in range(1, 65)]
    shelf = ImageShelf(pieces)
    async with serving(shelf) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port, limit=65536)
        writer.write(b"GET /dicom-web/studies/1.2.3 HTTP/1.0\r\nHost: a\r\n\r\n")
        await reader.readexactly(1024 * 1024)
        # Socket buffers of both ends and one piece: nowhere near the whole.
        assert len(shelf.handed_out) < 32
        rest = await reader.read()
        total = 1024 * 1024 + len(rest)
        while rest:
            rest = await reader.read()
            total += len(rest)
        assert total > 64 * 1024 * 1024 and len(shelf.sent) == 64
        writer.close()


async def test_a_proxy_of_an_older_protocol_gets_the_whole_body_and_then_the_end() -> None:
    async with serving(ImageShelf(THREE)) as base:
        answer = await ask_raw(base, "/studies/1.2.3", "1.0")
    assert b"Transfer-Encoding" not in answer.head and answer.body.endswith(b"--\r\n")


async def test_a_reader_that_takes_nothing_is_cut_off_and_the_retrieval_ends() -> None:
    shelf = ImageShelf([made(number, bytes(1024 * 1024)) for number in range(1, 129)])
    async with serving(shelf, limits=replace(Limits(), keepalive_timeout_s=0.2)) as base:
        _, writer = await asyncio.open_connection("127.0.0.1", URL(base).port, limit=1024)
        writer.write(b"GET /dicom-web/studies/1.2.3 HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(shelf.ended.wait(), 30)
        assert shelf.delivery.is_cancelled and len(shelf.sent) < 128
        writer.close()


async def test_two_readers_share_the_road_and_each_gets_everything() -> None:
    shelf = ImageShelf([made(number, bytes([number]) * 300_000) for number in range(1, 21)])
    async with serving(shelf) as base:
        answers = await asyncio.gather(*(ask_raw(base, "/studies/1.2.3") for _ in range(4)))
    assert all(answer.is_whole and answer.body.count(b"DICM") == 20 for answer in answers)


async def test_a_browser_of_a_known_origin_may_read_what_it_needs_of_the_answer() -> None:
    origin = "https://viewer.northmoor.example"
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "accept,range,if-none-match",
    }
    answer = await ask(ImageShelf(THREE), "/studies/1.2.3", headers={"Origin": origin}, cors_origins=[origin])
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"ETag", "Content-Range", "Warning", "Gateway-Notice"} <= exposed
    allowed = await ask(
        ImageShelf(THREE), "/studies/1.2.3/metadata", method="OPTIONS", headers=preflight, cors_origins=[origin]
    )
    assert allowed.status == 204
    assert {"Range", "If-None-Match", "Accept"} <= set(allowed.headers["Access-Control-Allow-Headers"].split(", "))
    stranger = await ask(ImageShelf(THREE), "/studies/1.2.3", headers={"Origin": "https://evil.example"})
    assert not any(name.startswith("Access-Control") for name in stranger.headers)
