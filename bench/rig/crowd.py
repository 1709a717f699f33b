"""Up to a hundred trusts in one light process: each answers after a time of its own, or never.

Run as a process of its own: `python -m bench.rig.crowd FOLDER` reads the `Plan` there and listens on two ports. By QIDO
over TLS a trust's archive is at `/<ODS code>/dicom-web`, by C-FIND its AE title is its ODS code. Every answer is
encoded beforehand and a question is looked up, not read, so that a hundred trusts cost about as much as one: their
processor time is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.rig import archive, studies, wire
from bench.rig.dimse import crowd as dimse
from policy.parties import TrustId

READY = "crowd ready"


@dataclass(frozen=True, slots=True)
class Told:
    """What one trust says of one patient, and how long it takes over it."""

    trust: str
    patient: str
    delay_s: float
    rows: str
    """The DICOM JSON answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the process is told: its certificates, who says what, who never says anything."""

    certificate: str
    private_key: str
    client_ca: str
    told: tuple[Told, ...]
    """Of anybody else a trust has `[]`."""
    delay_s: float
    """What that takes, and a probe."""
    stalled: tuple[str, ...] = ()
    """Trusts that take a question and never answer it."""

    def write(self, folder: Path) -> None:
        """Leave the plan where the process looks for it."""
        (folder / "crowd.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Plan:
        """The plan that was left there."""
        fields = json.loads((folder / "crowd.json").read_text(encoding="utf-8"))
        told = tuple(Told(**one) for one in fields.pop("told"))
        return Plan(**{**fields, "told": told, "stalled": tuple(fields["stalled"])})


def root(trust: TrustId) -> str:
    """What stands before `/dicom-web` in the address of a trust's archive."""
    return f"/{trust.code}"


def codes(count: int) -> Sequence[TrustId]:
    """The ODS codes of so many trusts."""
    return [TrustId(f"RB{number:03}") for number in range(1, count + 1)]


class _Answers:
    """What is said to a question, by its line; lines are few, for every question comes again and again."""

    def __init__(self, plan: Plan) -> None:
        self._told = {(one.trust, one.patient): (one.delay_s, wire.answer(one.rows.encode())) for one in plan.told}
        self._nothing = (plan.delay_s, archive.EMPTY)
        self._stalled = frozenset(plan.stalled)
        self._by_line: dict[bytes, tuple[float, bytes] | None] = {}

    def to(self, line: bytes) -> tuple[float, bytes] | None:
        """The delay and the answer; None: never."""
        if line not in self._by_line:
            trust = line.split(b"/", 2)[1].decode("ascii")
            found = self._told.get((trust, archive.patient_of(line)), self._nothing)
            self._by_line[line] = None if trust in self._stalled else found
        return self._by_line[line]


def _prepared(plan: Plan) -> dimse.Answers:
    """What is said by C-FIND."""
    told = {
        (one.trust, one.patient): dimse.prepare(one.delay_s, list(map(studies.elements, json.loads(one.rows))))
        for one in plan.told
    }
    nothing = dimse.prepare(plan.delay_s, [])
    return lambda trust, patient: told.get((trust, patient), nothing) if trust not in plan.stalled else None


async def serve(plan: Plan) -> None:
    """Answer until the process is ended."""
    answers, prepared = _Answers(plan), _prepared(plan)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plan.certificate, plan.private_key)
    context.load_verify_locations(plan.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()

    def answer(line: bytes, transport: asyncio.Transport) -> None:
        found = answers.to(line)
        if found is not None:
            delay_s, body = found
            loop.call_later(delay_s, transport.write, body)

    by_qido = await loop.create_server(lambda: archive.Connection(answer), "127.0.0.1", 0, ssl=context, backlog=1024)
    by_c_find = await loop.create_server(lambda: dimse.Connection(prepared), "127.0.0.1", 0, backlog=1024)
    ports = [server.sockets[0].getsockname()[1] for server in (by_qido, by_c_find)]
    print(f"{READY} tls={ports[0]} dimse={ports[1]}", flush=True)
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(serve(Plan.read(Path(sys.argv[1]))))
