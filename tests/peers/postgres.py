"""A real PostgreSQL server for tests: `GATEWAY_TEST_PG_URL`, or Debian's own binaries on a temporary folder.

The server refuses to run as root, so as root it runs as user `postgres`. It listens on a free loopback port and is
stopped with the test session. Where there is neither server nor binaries the tests that need one are skipped.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from gateway.demo.ports import free_port

_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass
class Postgres:
    """A server: make databases in it; stop and start it if it is ours."""

    url: str
    """Of the maintenance database."""
    binaries: Path | None = None
    folder: Path | None = None
    port: int = 0

    def create_database(self, copy_of: str = "") -> str:
        """A new database, empty or a copy of another that nobody is connected to; its URL."""
        name = f"gateway_{uuid4().hex[:12]}"
        template = copy_of.rsplit("/", 1)[1] if copy_of else "template1"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return f"{self.url.rsplit('/', 1)[0]}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, cutting its connections."""
        name = url.rsplit("/", 1)[1]
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    @property
    def is_ours(self) -> bool:
        """Whether the server was started here, and so may be stopped."""
        return self.folder is not None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("start", "-o", f"-p {self.port}", "-l", str(self._folder / "log"))

    def stop(self, *, crash: bool = False) -> None:
        """Cut all connections and stop the server, cleanly or as in a crash."""
        self._control("stop", "-m", "immediate" if crash else "fast")

    def _control(self, verb: str, *options: str) -> None:
        assert self.binaries is not None, "only a server that was started here can be stopped"
        command = [str(self.binaries / "pg_ctl"), verb, "-D", str(self._folder / "data"), "-w", "-s", *options]
        subprocess.run([*_as_postgres(), *command], check=True, cwd=self._folder, stdout=subprocess.DEVNULL)

    @property
    def _folder(self) -> Path:
        assert self.folder is not None
        return self.folder


@contextmanager
def running_postgres(*, of_our_own: bool = False) -> Iterator[Postgres]:
    """A server for as long as the block lasts; skips the test where there is none.

    `of_our_own`: one that the test may stop, whatever `GATEWAY_TEST_PG_URL` says.
    """
    url = os.environ.get("GATEWAY_TEST_PG_URL")
    if url and not of_our_own:
        yield Postgres(url)
        return
    binaries = next((place for place in _PLACES if (place / "initdb").exists()), None)
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql), nor is GATEWAY_TEST_PG_URL set")
    folder = Path(tempfile.mkdtemp(prefix="gateway-pg-"))
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        _initialise(binaries, folder)
        port = free_port()
        server = Postgres(f"postgresql://gateway@127.0.0.1:{port}/postgres", binaries, folder, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialise(binaries: Path, folder: Path) -> None:
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "gateway", "-A", "trust", "-E", "UTF8"]
    subprocess.run(
        [*_as_postgres(), *command, "--no-locale", "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=folder
    )
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = 32MB\n"
            # Processes are killed here, never the machine: what the system holds is as good as what the disk holds.
            "max_connections = 50\nfsync = off\n"
        )


def _as_postgres() -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if os.geteuid() == 0 else []
