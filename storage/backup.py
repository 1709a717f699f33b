"""Backups of the whole store while it serves, and restoring them into an empty place (DEC-20).

A backup is a folder: the database (SQLite's own online copy, or PostgreSQL's custom-format dump of one snapshot) and a
manifest with its digest, the schema revision and the ends of the audit chains, signed. The signing key and the anchor
file are never in it: keys lie apart, and the witness of what came after the backup must outlive it. A restored database
is noticed at the next start as rolled back, and somebody accepts it with a reason (`storage.checkpoints`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson
from sqlalchemy import Connection, make_url, text

from gateway.model.audit import ChainHead
from gateway.model.errors import InvalidRequest, StoreUnavailable
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from storage import migrate
from storage.audit_log import heads
from storage.database import Database, Read
from storage.engines import DatabaseSettings, open_engine, sqlite_path
from storage.keys import SigningKey, VerifyingKey, sync_folder

Progress = Callable[[int, int], None]
"""Told how much is done of how much: pages of SQLite; 0 or 1 of 1 for PostgreSQL, which does not tell."""

MANIFEST = "manifest.json"
_SQLITE_FILE = "gateway.db"
_POSTGRESQL_FILE = "gateway.pgdump"
_PAGES_AT_ONCE = 512
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    engine: str
    file: str
    sha256: str
    schema: str
    node: str
    at: datetime
    heads: tuple[ChainHead, ...]
    key_id: str
    signature: str = ""

    def encoded(self) -> bytes:
        """The manifest's bytes; those signed are the same with an empty signature."""
        said: dict[str, JsonValue] = {
            "at": self.at.astimezone(UTC).isoformat(),
            "engine": self.engine,
            "file": self.file,
            "heads": [[head.node, head.sequence, head.hash] for head in self.heads],
            "key": self.key_id,
            "node": self.node,
            "schema": self.schema,
            "sha256": self.sha256,
            "signature": self.signature,
        }
        return orjson.dumps(said, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Raises `InvalidRequest` for anything that is no manifest."""
        try:
            said = orjson.loads(content)
            return cls(
                said["engine"],
                said["file"],
                said["sha256"],
                said["schema"],
                said["node"],
                datetime.fromisoformat(said["at"]),
                tuple(ChainHead(node, sequence, digest) for node, sequence, digest in said["heads"]),
                said["key"],
                said["signature"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest("the folder holds no backup manifest") from error


async def backup(
    database: Database, folder: Path, key: SigningKey, progress: Progress = lambda done, of: None
) -> Manifest:
    """Write a backup into a new folder while others read and write; durable when it returns.

    Raises `InvalidRequest` if the folder is not empty or PostgreSQL's programs are missing, `StoreUnavailable` if the
    database or the disk fails; what was written by then is removed.
    """
    return await asyncio.to_thread(_backup, database, folder, key, progress)


async def restore(
    folder: Path, settings: DatabaseSettings, key: VerifyingKey, progress: Progress = lambda done, of: None
) -> Manifest:
    """Check a backup and bring it into an empty place; checks again what is there afterwards.

    Raises `InvalidRequest` if the backup is not whole or not ours, is of another engine or a newer schema, or the
    place is not empty; `StoreUnavailable` if writing fails.
    """
    return await asyncio.to_thread(_restore, folder, settings, key, progress)


def read_manifest(folder: Path, key: VerifyingKey) -> Manifest:
    """The manifest of a backup, after checking signature and digest; raises `InvalidRequest`."""
    try:
        manifest = Manifest.parse((folder / MANIFEST).read_bytes())
        is_signed = key.is_signed(replace(manifest, signature="").encoded(), manifest.signature)
        if not is_signed or manifest.file not in (_SQLITE_FILE, _POSTGRESQL_FILE):
            raise InvalidRequest("the backup's manifest is not signed by this gateway's key")
        if _digest(folder / manifest.file) != manifest.sha256:
            raise InvalidRequest("the backup's database is not the one that the manifest describes")
    except OSError as error:
        raise InvalidRequest(f"the backup cannot be read: {error.strerror}") from error
    return manifest


def _backup(database: Database, folder: Path, key: SigningKey, progress: Progress) -> Manifest:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise InvalidRequest("the backup's folder is not empty")
    except OSError as error:
        raise InvalidRequest(f"the backup's folder cannot be used: {error.strerror}") from error
    try:
        if database.is_sqlite:
            name, ends = _SQLITE_FILE, _copy_sqlite(database.settings, folder / _SQLITE_FILE, progress)
        else:
            name, ends = _POSTGRESQL_FILE, _dump_postgresql(database.settings, folder / _POSTGRESQL_FILE, progress)
        faultpoint("backup.database.after")
        unsigned = Manifest(
            engine="sqlite" if database.is_sqlite else "postgresql",
            file=name,
            sha256=_digest(folder / name),
            schema=migrate.current(database.settings) or "",
            node=database.node,
            at=database.now(),
            heads=ends,
            key_id=key.verifying.key_id,
        )
        manifest = replace(unsigned, signature=key.sign(unsigned.encoded()))
        with _private(folder / MANIFEST) as file:
            file.write(manifest.encoded())
            _sync(file)
        sync_folder(folder)
        faultpoint("backup.manifest.after")
    except (OSError, sqlite3.Error) as error:
        _empty(folder)
        raise StoreUnavailable(f"the backup could not be written: {type(error).__name__}") from error
    except BaseException:
        _empty(folder)
        raise
    return manifest


def _copy_sqlite(settings: DatabaseSettings, target: Path, progress: Progress) -> tuple[ChainHead, ...]:
    source = sqlite_path(settings.url)
    if source is None:
        raise InvalidRequest("the database is not SQLite")
    _private(target).close()
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        # One step holds one snapshot; a write in between would make SQLite start again, and the copy could go on for
        # ever under load. A read transaction pins the snapshot for all steps.
        live.execute("BEGIN")
        live.execute("SELECT count(*) FROM sqlite_master").fetchone()
        live.backup(copy, pages=_PAGES_AT_ONCE, progress=lambda _, left, of: progress(of - left, of))
        live.execute("COMMIT")
        copy.execute("PRAGMA journal_mode=DELETE")
    with target.open("rb") as file:
        _sync(file)
    return _heads_of(replace(settings, url=f"sqlite:///{target}"), is_copy=True)


def _dump_postgresql(settings: DatabaseSettings, target: Path, progress: Progress) -> tuple[ChainHead, ...]:
    progress(0, 1)
    with open_engine(settings).connect() as connection:
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        ends = heads(_reading(connection))
        _private(target).close()
        _run("pg_dump", settings, "--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={target}")
        connection.exec_driver_sql("COMMIT")
    with target.open("rb") as file:
        _sync(file)
    progress(1, 1)
    return ends


def _restore(folder: Path, settings: DatabaseSettings, key: VerifyingKey, progress: Progress) -> Manifest:
    manifest = read_manifest(folder, key)
    engine = make_url(settings.url).get_backend_name()
    if manifest.engine != engine:
        raise InvalidRequest(f"the backup is of {manifest.engine}, the place is {engine}")
    if manifest.schema not in migrate.revisions():
        raise InvalidRequest("the backup is of a newer version of the gateway")
    try:
        if engine == "sqlite":
            _restore_sqlite(folder / manifest.file, settings, progress)
        else:
            _restore_postgresql(folder / manifest.file, settings, progress)
    except OSError as error:
        raise StoreUnavailable(f"the backup could not be restored: {type(error).__name__}") from error
    if _heads_of(settings) != manifest.heads:
        raise StoreUnavailable("the restored audit does not end where the backup's did")
    return manifest


def _restore_sqlite(source: Path, settings: DatabaseSettings, progress: Progress) -> None:
    target = sqlite_path(settings.url)
    if target is None or any(Path(f"{target}{suffix}").exists() for suffix in ("", "-wal", "-journal")):
        raise InvalidRequest("there is a database already: restore into an empty place")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".restoring")
    size, done = source.stat().st_size, 0
    with source.open("rb") as reading, _private(partial, replace_old=True) as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            writing.write(chunk)
            done += len(chunk)
            progress(done, size)
        _sync(writing)
    faultpoint("restore.rename.before")
    partial.rename(target)
    sync_folder(target.parent)
    faultpoint("restore.rename.after")


def _restore_postgresql(source: Path, settings: DatabaseSettings, progress: Progress) -> None:
    progress(0, 1)
    with open_engine(settings).connect() as connection:
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"))
        if tables.scalar_one():
            raise InvalidRequest("there are tables already: restore into an empty database")
    database = make_url(settings.url).database or ""
    _run(
        "pg_restore",
        settings,
        "--no-owner",
        "--single-transaction",
        "--exit-on-error",
        f"--dbname={database}",
        str(source),
    )
    progress(1, 1)


def _run(program: str, settings: DatabaseSettings, *options: str) -> None:
    """Run one of PostgreSQL's programs; the password goes by the environment, which other users cannot read."""
    found = shutil.which(program)
    if found is None:
        raise InvalidRequest(f"{program} is not installed (Debian package postgresql-client)")
    url = make_url(settings.url)
    environment = {
        **os.environ,
        "PGHOST": url.host or "",
        "PGPORT": str(url.port or 5432),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
        "PGDATABASE": url.database or "",
        **{f"PG{name.upper()}": str(value) for name, value in url.query.items() if name in _BY_ENVIRONMENT},
    }
    done = subprocess.run([found, *options], env=environment, check=False, capture_output=True)
    if done.returncode:
        raise StoreUnavailable(f"{program} failed with exit status {done.returncode}")


_BY_ENVIRONMENT = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey"})


def _heads_of(settings: DatabaseSettings, *, is_copy: bool = False) -> tuple[ChainHead, ...]:
    if is_copy:
        path = sqlite_path(settings.url)
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
            rows = copy.execute("SELECT node, sequence, hash FROM audit_head ORDER BY node").fetchall()
        return tuple(ChainHead(*row) for row in rows)
    with open_engine(settings).connect() as connection:
        return heads(_reading(connection))


def _reading(connection: Connection) -> Read:
    return Read(connection, "", datetime.now(UTC))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private(path: Path, *, replace_old: bool = False) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if replace_old else os.O_EXCL)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _empty(folder: Path) -> None:
    for name in (_SQLITE_FILE, _POSTGRESQL_FILE, MANIFEST):
        (folder / name).unlink(missing_ok=True)
