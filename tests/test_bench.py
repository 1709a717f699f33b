"""Show that each benchmark runs to its end and writes well-formed lines. What the figures say is no test's business."""

import asyncio
import json
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from bench.figures import (
    LATEST,
    Figure,
    at_most,
    machine,
    more_by_at_most,
    quantile,
    ratio_at_least,
    ratio_at_most,
    write,
)
from bench.plan import in_turns
from bench.rig.dimse.wire import (
    IMPLICIT_LE,
    Replies,
    associate_request,
    data_head,
    identifier,
    pdu_bytes_max,
    store_request,
)
from bench.rig.wire import Inbound, answer
from dimse.elements import Reading, decode_dataset
from dimse.upper_layer.commands import decode_command
from dimse.upper_layer.negotiation import Offer, negotiate
from dimse.upper_layer.pdu import AssociateRequest, PduType, decode, encode
from tests.forked import Forks

GOALS = {
    "decisions": 0,
    "audit": 0,
    "qido": 12,
    "memory": 1,
    "store": 41,
    "idle": 7,
    "find": 6,
    "locations": 1,
    "fanout": 22,
    "merge": 2,
    "cache": 1,
    "ingest": 10,
    "warm": 5,
    "web": 5,
    "cold": 4,
    "beside": 2,
    "growing": 5,
    "jobs": 4,
    "reports": 5,
    "due": 3,
}
"""How many of each benchmark's figures have a goal in a whole run."""
FIELDS = ["name", "ours", "peer", "unit", "ratio", "goal", "met", "about"]


async def figures_of(forks: Forks, benchmark: str, results: Path) -> list[dict[str, object]]:
    """What a tiny run of a benchmark writes, each line well formed."""
    command = (sys.executable, "-m", "bench", "--tiny", "--only", benchmark, "--results", str(results))
    async with asyncio.timeout(280):
        process = await forks.start(*command, stdout=PIPE, stderr=PIPE)
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return read(results, output.decode())


def read(results: Path, printed: str) -> list[dict[str, object]]:
    """The figures of a run."""
    head, *figures = (json.loads(line) for line in results.read_text(encoding="utf-8").splitlines())
    assert printed.splitlines()[1:] == [json.dumps(figure) for figure in figures]
    assert {"machine", "run", "date", "revision", "versions"} <= head.keys()
    for figure in figures:
        assert list(figure) == FIELDS
        # A share, or what one more costs, is a difference: it may come to nothing in a run as short as this.
        assert figure["ours"] > 0 or figure["unit"] == "%" or " more" in str(figure["name"])
        assert (figure["ratio"] is None) is (figure["peer"] is None)
        assert (figure["met"] is None) is (figure["goal"] is None)
    return figures


async def test_decisions_are_counted(tmp_path: Path, forks: Forks) -> None:
    names = [figure["name"] for figure in await figures_of(forks, "decisions", tmp_path / "lines")]
    assert "decisions a second, 100 rows of one question" in names


@pytest.mark.slow
async def test_the_cache_is_written_and_opened(tmp_path: Path, forks: Forks) -> None:
    names = [figure["name"] for figure in await figures_of(forks, "cache", tmp_path / "lines")]
    assert "cache, small, 16 writers: syncs an instance" in names and "cache: seconds to open 200 objects" in names


@pytest.mark.peer
@pytest.mark.slow
async def test_audit_appends_are_counted_on_both_databases(tmp_path: Path, forks: Forks) -> None:
    figures = await figures_of(forks, "audit", tmp_path / "lines")
    assert [figure["name"] for figure in figures] == [
        f"audit, {database}, {callers} callers: appends a second"
        for database in ("SQLite", "PostgreSQL")
        for callers in (1, 8, 64)
    ]
    assert all(figure["peer"] for figure in figures)


@pytest.mark.peer
@pytest.mark.slow
async def test_questions_are_answered_beside_orthanc_and_the_archive_itself(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "qido", tmp_path / "lines")}
    for matches in ("1 match", "100 matches"):
        for callers in (1, 16):
            name = f"qido, {matches}, {callers} at once"
            for quantity in ("answers a second", "p99", "median"):
                assert figures[f"{name}: {quantity}"]["peer"]
                assert figures[f"{name}: {quantity}"]["goal"]


@pytest.mark.peer
@pytest.mark.slow
async def test_images_are_received_and_sent_beside_dcmtk_and_pynetdicom(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "store", tmp_path / "lines")}
    for pdu in ("16 KB", "128 KB", "unlimited"):
        receiver = "our receiver" if pdu == "unlimited" else "storescp"
        for associations in (1, 4):
            for way in ("receive CT, raw sender", "receive CT, storescu", f"send CT, to {receiver}"):
                name = f"{way}, PDU {pdu}, {associations} at once"
                assert figures[name]["goal"] == "ratio >= 1"
                assert figures[f"{name}, beside pynetdicom"]["goal"] == "ratio >= 6"
    for associations in (1, 4):
        assert figures[f"receive CT over TLS, raw sender, {associations} at once"]["goal"] == "ratio >= 0.5"
        assert figures[f"send CT over TLS, to storescp, {associations} at once"]["goal"] == "ratio >= 0.5"
    assert figures["receive 12.8 kB instances, storescu as installed"]["goal"] == "ratio >= 20"


@pytest.mark.slow
async def test_idle_associations_are_weighed(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "idle", tmp_path / "lines")}
    for words in ("plain", "TLS"):
        for quantity in ("processor time", "resident memory", "C-ECHO median"):
            assert figures[f"10 idle associations, {words}: {quantity}"]["goal"]
    assert figures["1100 files open in the gateway: C-ECHO median"]["goal"]


@pytest.mark.peer
@pytest.mark.slow
async def test_c_find_is_answered_beside_the_archive_itself_and_orthanc(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "find", tmp_path / "lines")}
    at_once = "c-find, 100 matches, 8 long-lived associations: answers a second"
    assert figures[at_once]["goal"] == "ratio >= 0.4"
    assert figures[f"{at_once}, against Orthanc"]["goal"] == "ratio >= 5"
    assert figures[f"{at_once}, against a bare relay"]["peer"]
    one_by_one = "c-find, 100 matches, an association a question, 8 at once: answers a second"
    assert figures[one_by_one]["goal"] == "ratio >= 0.8"
    for matches, bound in (("1 match", 5.05), ("100 matches", 10)):
        assert figures[f"c-find, {matches}, 1 caller: median"]["goal"] == f"ours - peer <= {bound:g} ms"


@pytest.mark.slow
async def test_the_location_index_is_measured_at_its_size_and_beside_a_small_one(tmp_path: Path, forks: Forks) -> None:
    lookup, news, *size = await figures_of(forks, "locations", tmp_path / "lines")
    assert lookup["goal"] == "ratio <= 2" and news["peer"]
    assert [figure["unit"] for figure in size] == ["MB", "B"]


async def test_the_merge_is_measured_by_the_row_beside_a_tenth_of_its_rows(tmp_path: Path, forks: Forks) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "merge", tmp_path / "lines")}
    for words in ("each at one trust", "each at two trusts"):
        name = f"merge, 1,000 rows of ten trusts, {words}"
        assert figures[f"{name}: all three, a row"]["goal"] == "ratio <= 1.2"
        assert all(figures[f"{name}: {stage}, a row"]["peer"] for stage in ("read and match", "judge", "merge"))


@pytest.mark.slow
async def test_a_question_to_many_trusts_is_measured_beside_the_slowest_and_with_two_silent(
    tmp_path: Path, forks: Forks
) -> None:
    figures = {figure["name"]: figure for figure in await figures_of(forks, "fanout", tmp_path / "lines")}
    for trusts in (2, 8, 24):
        for kind in ("1 row at each", "10 rows at each", "1 row at 2 of them", "1 row at each, slow"):
            assert figures[f"fan-out to {trusts} trusts, {kind}: median"]["goal"] == "ratio <= 1.3"
    for kind in ("1 row at each", "10 rows at each", "1 row at 2 of them"):
        name = f"fan-out, {kind}: gateway's processor time for a trust more, from 8 to 24"
        assert figures[name]["goal"] == "ratio <= 1.2"
    assert figures["fan-out by C-FIND to 24 trusts, 1 row at each: median"]["goal"] == "ratio <= 1.3"
    for quantity in ("median", "p99"):
        assert figures[f"ten trusts, one stalled and one dead, once left alone: {quantity}"]["goal"] == "ratio <= 1.1"


@pytest.mark.slow
async def test_memory_is_read_before_and_after_questions(tmp_path: Path, forks: Forks) -> None:
    (figure,) = await figures_of(forks, "memory", tmp_path / "lines")
    assert figure["goal"] == "ratio <= 1.05"


@pytest.mark.parametrize(("ours", "peer", "met"), [(100.0, 10.0, True), (99.9, 10.0, False), (100.0, None, False)])
def test_a_rate_is_met_from_its_bound_on(ours: float, peer: float | None, met: bool) -> None:
    assert Figure("x", ours, peer, "1/s", ratio_at_least(10)).is_met is met


@pytest.mark.parametrize(("ours", "met"), [(2.0, True), (2.1, False)])
def test_a_tail_is_met_up_to_its_bound(ours: float, met: bool) -> None:
    assert Figure("x", ours, 10.0, "ms", ratio_at_most(0.2)).is_met is met


@pytest.mark.parametrize(("ours", "met"), [(6.5, True), (6.6, False)])
def test_added_time_is_reckoned_against_the_peer(ours: float, met: bool) -> None:
    assert Figure("x", ours, 1.5, "ms", more_by_at_most(5, "ms")).is_met is met


@pytest.mark.parametrize(("ours", "met"), [(2.0, True), (2.1, False)])
def test_a_share_is_met_up_to_its_bound(ours: float, met: bool) -> None:
    assert Figure("x", ours, None, "%", at_most(2, "%")).is_met is met


def test_contenders_take_turns_in_an_order_that_moves_on_and_the_first_round_is_dropped() -> None:
    order: list[str] = []

    def turn(name: str) -> str:
        order.append(name)
        return f"{name}{len(order)}"

    measured = in_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, 2)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert measured == {"a": ["a4", "a5"], "b": ["b3", "b6"]}


def test_a_file_of_results_begins_with_the_machine_in_words(tmp_path: Path) -> None:
    write(tmp_path / "lines", machine("whole run"), [Figure("x", 1.23456, None, "us")])
    head, line = (json.loads(text) for text in (tmp_path / "lines").read_text(encoding="utf-8").splitlines())
    assert "GiB" in head["machine"] and head["run"] == "whole run"
    assert line == dict.fromkeys(FIELDS) | {"name": "x", "ours": 1.235, "unit": "us", "about": {}}


def test_the_committed_results_are_of_whole_runs_with_every_goal_stated() -> None:
    lines = [json.loads(line) for line in LATEST.read_text(encoding="utf-8").splitlines()]
    heads = [line for line in lines if "machine" in line]
    assert heads[0] == lines[0] and all(head["run"].startswith("whole run of ") for head in heads)
    measured = [name for head in heads for name in head["run"].removeprefix("whole run of ").split(", ")]
    assert len(measured) == len(set(measured)) and {"audit", "qido", "store", "idle", "find"} <= set(measured)
    assert sum(line.get("goal") is not None for line in lines) == sum(GOALS[name] for name in measured)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_an_answer_is_whole_when_its_last_byte_came_however_it_is_cut(step: int) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2;x=y\r\n2]\r\n0\r\n\r\n"
    for message, size in ((answer(b"[1,2]"), 5), (chunked, 5), (b"HTTP/1.1 204 No Content\r\n\r\n", 0)):
        inbound = Inbound()
        for start in range(0, len(message), step):
            assert not inbound.is_whole
            inbound.feed(message[start : start + step])
        assert (inbound.is_whole, inbound.body_bytes) == (True, size)


def _pending_row(status: int, row: bytes) -> bytes:
    response = _p_data(3, b"\0\0\0\0\4\0\0\0" + bytes(4) + b"\0\0\0\x09\2\0\0\0" + status.to_bytes(2, "little"))
    return response + (_p_data(2, row) if row else b"")


def _p_data(control: int, body: bytes) -> bytes:
    value = (len(body) + 2).to_bytes(4) + bytes((1, control)) + body
    return bytes((4, 0)) + len(value).to_bytes(4) + value


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_responses_are_counted_however_they_are_cut(step: int) -> None:
    stream = (
        _pending_row(0xFF00, b"row")
        + _pending_row(0xFF01, b"rows")
        + _pending_row(0, b"")
        + bytes((6, 0, 0, 0, 0, 4))
        + bytes(4)
    )
    replies = Replies()
    for start in range(0, len(stream), step):
        replies.feed(stream[start : start + step])
    assert (replies.pending, replies.statuses, replies.others, replies.body_bytes) == (2, [0], [6], 7)


def test_what_the_load_sends_is_what_the_gateway_reads() -> None:
    request = associate_request("ANY-SCP", "1.2.840.10008.1.1", "1.2.840.10008.1.2", pdu_bytes_max=16_384)
    proposed = decode(PduType.ASSOCIATE_RQ, request[6:])
    assert isinstance(proposed, AssociateRequest)
    assert (proposed.called_ae_title, proposed.calling_ae_title, proposed.user.pdu_bytes_max) == (
        "ANY-SCP",
        "BENCH",
        16_384,
    )
    command = decode_command(store_request(7, "1.2.3", "1.2.3.4")[12:])
    assert (command.message_id, command.sop_class_uid, command.sop_instance_uid) == (7, "1.2.3", "1.2.3.4")
    assert command.has_data
    assert data_head(100, True)[1:] == b"\0" + (106).to_bytes(4) + (102).to_bytes(4) + b"\1\2"
    assert decode_dataset(identifier([(0x00100020, "999"), (0x0020000D, "1.2")]), IMPLICIT_LE, Reading()) == {
        "00100020": {"vr": "LO", "Value": ["999"]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
    }


def test_the_longest_pdu_is_read_out_of_an_answer() -> None:
    offer = Offer(frozenset({"ANY-SCP"}), {"1.2.840.10008.1.1": ("1.2.840.10008.1.2",)}, pdu_bytes_max=16_384)
    request = decode(PduType.ASSOCIATE_RQ, associate_request("ANY-SCP", "1.2.840.10008.1.1", "1.2.840.10008.1.2")[6:])
    assert isinstance(request, AssociateRequest)
    assert pdu_bytes_max(encode(negotiate(request, offer))[6:]) == 16_384


def test_the_tail_of_few_values_is_an_upper_one() -> None:
    assert quantile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert quantile(list(map(float, range(1, 101))), 0.5) == 51.0
