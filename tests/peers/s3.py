"""Moto's S3 server as a process of a test's own, and its buckets as an administrator sees them.

It keeps objects in its memory and honours conditional puts. It checks no signature.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from gateway.demo.ports import free_port
from storage.cache.remote.settings import BucketSettings
from tests.peers.processes import running, takes_connections

REGION = "eu-west-2"
PART_BYTES = 5 * 1024 * 1024
"""The smallest part but the last that S3 takes."""


class S3Client(Protocol):
    """What is used of boto3's client, in its words."""

    def create_bucket(self, *, Bucket: str, CreateBucketConfiguration: dict[str, str]) -> object: ...
    def delete_bucket(self, *, Bucket: str) -> object: ...
    def list_objects_v2(self, *, Bucket: str) -> dict[str, list[dict[str, str]]]: ...
    def list_multipart_uploads(self, *, Bucket: str) -> dict[str, list[dict[str, str]]]: ...
    def get_object(self, *, Bucket: str, Key: str) -> dict[str, _Body]: ...
    def head_object(self, *, Bucket: str, Key: str) -> dict[str, object]: ...
    def get_object_tagging(self, *, Bucket: str, Key: str) -> dict[str, object]: ...
    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> object: ...
    def delete_object(self, *, Bucket: str, Key: str) -> object: ...


class _Body(Protocol):
    def read(self) -> bytes: ...


@dataclass(frozen=True)
class TestBucket:
    """One bucket, past the gateway."""

    __test__ = False
    client: S3Client
    name: str
    port: int
    word: Path
    """A file with what passes for both halves of its credentials."""

    def settings(self, node: str = "north", *, port: int = 0, part_bytes: int = PART_BYTES) -> BucketSettings:
        """How a gateway reaches it; `port` is that of a relay before it."""
        return BucketSettings(
            self.name,
            node,
            prefix="studies",
            region=REGION,
            endpoint=f"http://127.0.0.1:{port or self.port}",
            connect_timeout_s=2.0,
            request_timeout_s=5.0,
            retries_max=1,
            retry_timeout_s=5.0,
            part_bytes=part_bytes,
            access_key_file=self.word,
            secret_key_file=self.word,
        )

    def names(self) -> list[str]:
        """The names of everything in it."""
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def packs(self) -> list[StoredPack]:
        """The packs in it."""
        return [StoredPack(self, key) for key in sorted(self.names()) if key.endswith(".pack")]

    def uploads(self) -> int:
        """Multipart uploads that were neither completed nor given up."""
        return len(self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))

    def empty(self) -> None:
        """Delete everything in it."""
        for key in self.names():
            self.client.delete_object(Bucket=self.name, Key=key)


@dataclass(frozen=True)
class StoredPack:
    """A pack in a bucket, in the words of `Path`."""

    bucket: TestBucket
    key: str

    def read_bytes(self) -> bytes:
        """What it holds."""
        return self.bucket.client.get_object(Bucket=self.bucket.name, Key=self.key)["Body"].read()

    def write_bytes(self, content: bytes | bytearray) -> None:
        """Put other bytes in its place."""
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=self.key, Body=bytes(content))

    def unlink(self) -> None:
        """Delete it."""
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self.key)


class S3:
    """The server."""

    def __init__(self, port: int, word: Path) -> None:
        self.port = port
        self._word = word
        self._numbers = itertools.count(1)
        self._client = _client(f"http://127.0.0.1:{port}")

    def bucket(self) -> TestBucket:
        """A new one."""
        bucket = TestBucket(self._client, f"bucket-{next(self._numbers)}", self.port, self._word)
        self._client.create_bucket(Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return bucket


def seen(settings: BucketSettings) -> TestBucket:
    """The bucket that a gateway uses."""
    assert settings.access_key_file is not None
    port = int(settings.endpoint.rpartition(":")[2])
    return TestBucket(_client(settings.endpoint), settings.bucket, port, settings.access_key_file)


@contextmanager
def s3(log: Path) -> Iterator[S3]:
    """The server for as long as the block lasts."""
    port, word = free_port(), log.with_suffix(".word")
    word.write_text("a-word-that-moto-does-not-check\n")
    word.chmod(0o600)
    # Parts may be as small as a scenario likes: what S3 takes is held by the configuration.
    command = ["env", "S3_UPLOAD_PART_MIN_SIZE=1", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    with running([*command, str(port)], log, lambda: takes_connections(port)):
        yield S3(port, word)


def _client(endpoint: str) -> S3Client:
    # By name, because an ordinary install does not have it.
    client: S3Client = import_module("boto3").client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="administrator",
        aws_secret_access_key="nothing",
    )
    return client
