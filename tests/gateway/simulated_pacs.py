"""A simulated PACS started as a process of its own, and the few plain requests that tests send to it.

Plain `http.client`, so that nothing follows a redirect or forgives a wrong answer on the way to the assertion.
"""

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

ANSWER_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, undecoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def rows(self) -> list[dict[str, dict[str, list[object]]]]:
        """The body as the rows of a search."""
        rows: list[dict[str, dict[str, list[object]]]] = json.loads(self.body)
        return rows


@dataclass(frozen=True, slots=True)
class SimulatedPacs:
    """A running simulator: its process and what it said when it was ready."""

    process: subprocess.Popen[bytes]
    ready: Mapping[str, object]

    def port(self, door: str) -> int:
        """The port of the `dimse`, `web` or `control` door."""
        return int(str(self.ready[f"{door}_port"]))

    def connection(self, door: str = "web", tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        if tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port(door), timeout=ANSWER_TIMEOUT_S)
        return http.client.HTTPSConnection("127.0.0.1", self.port(door), timeout=ANSWER_TIMEOUT_S, context=tls)

    def ask(
        self,
        path: str,
        keys: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """GET below /dicom-web."""
        connection = self.connection(tls=tls)
        try:
            connection.request("GET", f"/dicom-web{path}?{urlencode(keys or {})}", headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def control(self, method: str, resource: str, body: object = None) -> Answer:
        """Speak to the control port."""
        connection = self.connection("control")
        try:
            connection.request(method, f"/_simulator/{resource}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def behave(self, **changes: object) -> None:
        """Change switches while it runs."""
        answer = self.control("POST", "behaviour", changes)
        assert answer.status == 200, answer.body

    def reset(self) -> None:
        """Be honest again and forget what was asked."""
        assert self.control("DELETE", "behaviour").status == 200
        assert self.control("DELETE", "requests").status == 204

    def counts(self) -> Mapping[str, int]:
        """How often each door was asked."""
        counts: Mapping[str, int] = json.loads(self.control("GET", "requests").body)["counts"]
        return counts

    def requests(self) -> list[dict[str, object]]:
        """What was asked, oldest first."""
        requests: list[dict[str, object]] = json.loads(self.control("GET", "requests").body)["requests"]
        return requests


def start_pacs(data_folder: Path, *flags: str, trust: str = "RZ2") -> SimulatedPacs:
    """Start a simulator that ends with us at the latest; returns when it listens."""
    command = [sys.executable, "-m", "gateway.demo.pacs", "--trust", trust, "--data", str(data_folder)]
    process = subprocess.Popen([*command, "--die-with-parent", *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output = process.stdout
    assert output is not None
    line = output.readline()
    if not line:
        end(process)
        raise AssertionError("the simulated PACS did not start")
    return SimulatedPacs(process, json.loads(line))


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to stop and wait for it; its exit code."""
    process.terminate()
    try:
        return process.wait(ANSWER_TIMEOUT_S)
    finally:
        process.kill()
        pipes: Sequence[IO[bytes] | None] = (process.stdin, process.stdout)
        for pipe in pipes:
            if pipe is not None:
                pipe.close()


@contextmanager
def running_pacs(data_folder: Path, *flags: str, trust: str = "RZ2") -> Iterator[SimulatedPacs]:
    """A simulator for the length of a block."""
    pacs = start_pacs(data_folder, *flags, trust=trust)
    try:
        yield pacs
    finally:
        end(pacs.process)
