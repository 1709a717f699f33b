"""The bucket of the study cache under examination: moto's, and one that refuses what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.demo.ports import free_port
from tests.doctor.archives import HEAD
from tests.gateway.commands import Commands, gateway
from tests.peers.s3 import S3, TestBucket
from tests.storage.buckets import s3_server

__all__ = ["gateway", "s3_server"]


@pytest.fixture
def bucket(s3_server: S3) -> TestBucket:
    return s3_server.bucket()


def examined(gateway: Commands, bucket: str, port: int, credentials: object) -> tuple[int, list[dict[str, str]]]:
    """The command's exit code, and what it found of this bucket."""
    head = HEAD.partition("[[peer]]")[0].replace("[gateway]", '[gateway]\nnode = "north"')
    lines = [head, '[cache]\nstore = "s3"', f'[cache.s3]\nbucket = "{bucket}"']
    lines += [f'endpoint = "http://127.0.0.1:{port}"', "retries_max = 0"]
    lines += [f'access_key_file = "{credentials}"', f'secret_key_file = "{credentials}"']
    gateway.path.write_text("\n".join(lines), encoding="utf-8")
    status, output = gateway.status("doctor", "--json")
    [found] = json.loads(output)
    return status, found["bucket"]


def test_a_bucket_of_which_all_is_well_is_said_to_take_give_and_delete(gateway: Commands, bucket: TestBucket) -> None:
    status, found = examined(gateway, bucket.name, bucket.port, bucket.word)
    checks = ["it is there, and this part of it is ours", "an object is put", "it is read back"]
    assert [each["check"] for each in found] == [*checks, "its clock agrees with ours", "it is deleted"]
    assert (status, [each["verdict"] for each in found]) == (0, ["note", "good", "good", "good", "good"])
    assert bucket.names() == []
    assert "the bucket of the study cache:" in gateway.do("doctor")


def test_a_bucket_that_is_not_there_or_cannot_be_reached_is_told_apart(gateway: Commands, bucket: TestBucket) -> None:
    status, [gone] = examined(gateway, "bucket-of-nobody", bucket.port, bucket.word)
    assert status == 1 and (gone["verdict"], gone["found"]) == ("failed", "there is no such bucket")
    assert gone["advice"] == "look at cache.s3.bucket and endpoint"
    status, [silent] = examined(gateway, bucket.name, free_port(), bucket.word)
    assert status == 1 and silent["found"] == "the bucket does not answer as it should"
    assert "cache.s3.endpoint" in silent["advice"]


def test_anothers_part_is_not_written_to(gateway: Commands, bucket: TestBucket) -> None:
    examined(gateway, bucket.name, bucket.port, bucket.word)
    bucket.client.put_object(Bucket=bucket.name, Key="north/owner", Body=b"another's")
    status, [found] = examined(gateway, bucket.name, bucket.port, bucket.word)
    assert status == 1 and "belongs to another gateway" in found["found"] and "prefix" in found["advice"]
    assert bucket.names() == ["north/owner"]


@contextmanager
def refusing(refused: dict[str, str], apart: timedelta = timedelta()) -> Iterator[int]:
    """A store of one object that answers these methods with S3's error codes, and whose clock is apart; its port."""
    kept: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("PUT", 200, b"")

        def do_GET(self) -> None:
            if self.path in kept:
                self._answer("GET", 200, kept[self.path])
            else:
                self._answer("", 404, b"<Error><Code>NoSuchKey</Code></Error>")

        def do_DELETE(self) -> None:
            self._answer("DELETE", 204, b"")

        def do_POST(self) -> None:
            wanted = self.rfile.read(int(self.headers["Content-Length"]))
            key = wanted.partition(b"<Key>")[2].partition(b"</Key>")[0]
            self._answer("DELETE", 200, b"<DeleteResult><Deleted><Key>" + key + b"</Key></Deleted></DeleteResult>")

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _answer(self, method: str, status: int, body: bytes) -> None:
            if method in refused:
                status, body = 403, f"<Error><Code>{refused[method]}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"one"')
            self.send_header("Last-Modified", format_datetime(datetime.now(UTC) + apart, usegmt=True))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("method", "check"), [("GET", "it is read back"), ("PUT", "an object is put"), ("DELETE", "it is deleted")]
)
def test_what_our_credentials_may_not_do_is_found_out(
    gateway: Commands, bucket: TestBucket, method: str, check: str
) -> None:
    with refusing({method: "AccessDenied"}) as port:
        status, found = examined(gateway, bucket.name, port, bucket.word)
    assert status == 1 and (found[-1]["check"], found[-1]["verdict"]) == (check, "failed")
    assert found[-1]["found"] == "the bucket refuses our credentials"
    assert found[-1]["advice"] == "look at cache.s3 and the policy of the bucket"


def test_a_clock_that_is_apart_is_told_before_and_after_the_bucket_refuses_for_it(
    gateway: Commands, bucket: TestBucket
) -> None:
    with refusing({}, apart=timedelta(minutes=10)) as port:
        status, found = examined(gateway, bucket.name, port, bucket.word)
    [clock] = [each for each in found if each["check"] == "its clock agrees with ours"]
    assert status == 0 and clock["verdict"] == "warning" and "this node's clock" in clock["advice"]
    with refusing({"PUT": "RequestTimeTooSkewed"}) as port:
        status, found = examined(gateway, bucket.name, port, bucket.word)
    assert status == 1 and found[-1]["found"] == "the bucket has another time than we"
