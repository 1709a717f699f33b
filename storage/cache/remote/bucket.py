"""One node's part of an S3-compatible bucket: requests with limits, and what their failures mean.

Names are random ids below `<prefix>/<node>/`, nothing else is ever sent with a put; a mark there says whose part it is,
and nobody else's is touched. What obstore raises is told by its class and by S3's own error codes, never by its text,
which holds addresses. The only module that imports obstore.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from gateway.model.errors import ConfigurationError, Damaged, OutOfReach
from gateway.model.faults import faultpoint
from storage.cache.packs.port import Buffer
from storage.cache.remote.reach import Reach
from storage.cache.remote.settings import BucketSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

SUFFIX = ".pack"
MARK = "owner"
DELETES_AT_ONCE_MAX = 500
CREDENTIALS_READ_ANEW = timedelta(minutes=5)
"""Credentials in files are read again after so long, so that they can be changed while the gateway serves."""
MARK_BYTES_MAX = 64
MARK_GONE = "the mark of the node's part is gone from the bucket: was it emptied?"
ANOTHERS = "the node's part of the bucket belongs to another gateway"

_FAILURES = (BaseError, OSError)
_PACK_ID_BYTES = 16

T = TypeVar("T")


class Bucket:
    """The part of one node. Puts and deletes on the loop, everything else blocks: for a pool's threads."""

    def __init__(self, settings: BucketSettings, mark: bytes, reach: Reach) -> None:
        """`mark` says whose part it is: the same for every start of this node on its database, and for nobody else."""
        self.settings = settings
        self.reach = reach
        self._mark = mark.hex().encode()
        self._folder = "/".join(filter(None, (settings.prefix.strip("/"), settings.node)))
        self._store: S3Store | None = None

    def take(self) -> None:
        """Make sure that this part is ours. Blocks; raises `OutOfReach`, or `ConfigurationError` where it is not."""
        store = self._connected()
        try:
            obstore.put(store, self._at(MARK), self._mark, mode="create", use_multipart=False)
        except AlreadyExistsError:
            if not self._is_ours():
                words = f"cache.s3: {self._folder} in the bucket is another gateway's: choose another prefix or node"
                raise ConfigurationError([words]) from None
        except _FAILURES as error:
            raise self._lost(error) from None
        self.reach.find()

    async def look(self) -> None:
        """Whether it is there and still ours; raises `OutOfReach`."""
        try:
            answer = await obstore.get_async(self._connected(), self._at(MARK))
            found = bytes(await answer.bytes_async())
        except _FAILURES as error:
            raise self._lost(error) from None
        if found[:MARK_BYTES_MAX] != self._mark:
            raise self.reach.lose(ANOTHERS)

    async def trial(self, name: str, content: bytes) -> AsyncIterator[datetime | None]:
        """Put an object that is no pack, read it back and delete it: gives after each what time the store says it has.

        Only reading says one: of the put. Raises `OutOfReach` at the step that fails.
        """
        path = self._at(name)
        try:
            await obstore.put_async(self._connected(), path, content, use_multipart=False)
            yield None
            answer = await obstore.get_async(self._connected(), path)
            found = bytes(await answer.bytes_async())
            if found != content:
                raise self.reach.lose("the bucket gives other bytes than it took")
            yield answer.meta["last_modified"]
            await obstore.delete_async(self._connected(), path)
            yield None
        except _FAILURES as error:
            raise self._lost(error) from None

    async def put(self, pack_id: bytes, buffers: Sequence[Buffer]) -> None:
        """Put a pack in one request; it is durable when this returns. Raises `OutOfReach`."""
        self.reach.check()
        try:
            faultpoint("bucket.put.before")
            await obstore.put_async(self._connected(), self._pack(pack_id), list(buffers), use_multipart=False)
            faultpoint("bucket.put.after")
        except _FAILURES as error:
            raise self._lost(error) from None

    async def put_parts(self, pack_id: bytes, pieces: AsyncIterator[Buffer]) -> None:
        """Put a pack as it comes, part by part; durable when this returns. Raises `OutOfReach`.

        What `pieces` raises gives up the parts that were put, and comes out again.
        """
        self.reach.check()
        settings = self.settings
        try:
            faultpoint("bucket.parts.before")
            await obstore.put_async(
                self._connected(),
                self._pack(pack_id),
                pieces,
                use_multipart=True,
                chunk_size=settings.part_bytes,
                max_concurrency=settings.parts_in_flight_max,
            )
            faultpoint("bucket.parts.after")
        except _FAILURES as error:
            raise self._lost(error) from None

    async def delete(self, packs: Sequence[bytes]) -> None:
        """Delete packs; those that are gone already are no failure. Raises `OutOfReach`."""
        for first in range(0, len(packs), DELETES_AT_ONCE_MAX):
            self.reach.check()
            paths = [self._pack(pack_id) for pack_id in packs[first : first + DELETES_AT_ONCE_MAX]]
            try:
                faultpoint("bucket.delete.before")
                await obstore.delete_async(self._connected(), paths)
                faultpoint("bucket.delete.after")
            except FileNotFoundError as error:
                if _says(error, "NoSuchBucket"):
                    raise self._lost(error) from None
            except _FAILURES as error:
                raise self._lost(error) from None

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """The packs and their lengths; whatever else lies there is nobody's to judge. Blocks; raises `OutOfReach`."""
        try:
            for some in obstore.list(self._connected(), self._folder):
                for each in some:
                    name = each["path"].rpartition("/")[2]
                    if (pack_id := _pack_id(name)) and self._pack(pack_id) == each["path"]:
                        yield pack_id, each["size"]
        except _FAILURES as error:
            raise self._lost(error) from None

    def length(self, pack_id: bytes) -> int:
        """A pack's length. Blocks; raises `Damaged` for one that is gone, `OutOfReach`."""
        return self._asked(pack_id, lambda store, path: obstore.head(store, path)["size"])

    def read(self, pack_id: bytes, at: int, length: int) -> bytes:
        """Bytes of a pack, fewer where it ends before. Blocks; raises `Damaged` for none, `OutOfReach`."""
        if not length:
            return b""
        return self._asked(pack_id, lambda store, path: bytes(obstore.get_range(store, path, start=at, length=length)))

    def _asked(self, pack_id: bytes, ask: Callable[[S3Store, str], T]) -> T:
        self.reach.check()
        try:
            return ask(self._connected(), self._pack(pack_id))
        except FileNotFoundError as error:
            # A bucket that was emptied or given away lost more than one pack.
            if _says(error, "NoSuchBucket"):
                raise self._lost(error) from None
            if not self._is_ours():
                raise self.reach.lose(ANOTHERS) from None
            raise Damaged("a pack is gone from the bucket") from None
        except _FAILURES as error:
            if _says(error, "InvalidRange"):
                raise Damaged("a pack ends before what it should hold") from None
            raise self._lost(error) from None

    def _is_ours(self) -> bool:
        try:
            found = bytes(obstore.get(self._connected(), self._at(MARK)).bytes())
        except _FAILURES as error:
            raise self._lost(error) from None
        return found[:MARK_BYTES_MAX] == self._mark

    def _lost(self, error: Exception) -> OutOfReach:
        """What a failure says, in words that help: S3's codes where it sent one."""
        match error:
            case _ if _says(error, "RequestTimeTooSkewed"):
                words = "the bucket has another time than we: look at this node's clock"
            case UnauthenticatedError() | PermissionDeniedError():
                words = "the bucket refuses our credentials: look at cache.s3 and the policy of the bucket"
            case FileNotFoundError() if _says(error, "NoSuchKey"):
                words = MARK_GONE
            case FileNotFoundError():
                words = "there is no such bucket: look at cache.s3.bucket and endpoint"
            case _ if _says(error, "NoSuchBucket"):
                words = "there is no such bucket: look at cache.s3.bucket and endpoint"
            case PermissionError():
                words = "the credentials of the bucket cannot be read"
            case _:
                words = "the bucket does not answer as it should"
        return self.reach.lose(words)

    def _connected(self) -> S3Store:
        if self._store is None:
            self._store = _store(self.settings)
        return self._store

    def _at(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _pack(self, pack_id: bytes) -> str:
        name = pack_id.hex()
        return self._at(f"{name[:2]}/{name}{SUFFIX}")


def _store(settings: BucketSettings) -> S3Store:
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "timeout": timedelta(seconds=settings.request_timeout_s),
        "allow_http": settings.endpoint.startswith("http://"),
    }
    if settings.ca is not None:
        client["root_certificate"] = settings.ca.read_bytes()
    store: S3Config = {
        "region": settings.region,
        "virtual_hosted_style_request": settings.is_virtual_hosted,
    }
    if settings.endpoint:
        store["endpoint"] = settings.endpoint
    return S3Store(
        settings.bucket,
        config=store,
        client_options=client,
        retry_config={
            "max_retries": settings.retries_max,
            "retry_timeout": timedelta(seconds=settings.retry_timeout_s),
        },
        credential_provider=_credentials(settings) if settings.access_key_file is not None else None,
    )


def _credentials(settings: BucketSettings) -> Callable[[], S3Credential]:
    def read() -> S3Credential:
        return {
            "access_key_id": _word(settings.access_key_file),
            "secret_access_key": _word(settings.secret_key_file),
            "token": _word(settings.session_token_file) or None,
            "expires_at": datetime.now(UTC) + CREDENTIALS_READ_ANEW,
        }

    return read


def _word(path: Path | None) -> str:
    return path.read_text(encoding="utf-8").strip() if path is not None else ""


def _says(error: Exception, code: str) -> bool:
    """Whether S3 gave this code. A HEAD has no body and so no code."""
    return f"<Code>{code}</Code>" in str(error)


def _pack_id(name: str) -> bytes | None:
    stem, suffix = os.path.splitext(name)
    try:
        found = bytes.fromhex(stem)
    except ValueError:
        return None
    return found if suffix == SUFFIX and len(found) == _PACK_ID_BYTES else None
