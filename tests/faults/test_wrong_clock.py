"""Real gateways under a wrong system clock (libfaketime): nothing goes early, nothing is lost, the audit is whole (G9).

Each case is a gateway with a clock of its own, all at the same time. Of two reports one falls due within seconds of the
true time, the other so that only the wrong clock has reached it. Where the clock is wrong it is put right at the end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sqlite3
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from joserfc import jwe
from joserfc.jwe import JWERegistry
from joserfc.jwk import RSAKey

from gateway.demo.cast import ANNE
from gateway.demo.ports import free_port
from gateway.demo.reports.national import REGISTER_PATH, NationalServices
from policy.release.clock import later_of
from policy.release.terms import Calendar
from tests.feeds.messages import line, message, result
from tests.forked import Forked, Forks
from tests.gateway.certificates import Files
from tests.gateway.node import Node, Serving

SOON = timedelta(seconds=20)
"""From the start of a case until its first report is due."""
LOOKED_AT_WITHIN_S = 45.0
"""A look is taken each 30 s, and then there is a document to write."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EMBARGO_DAYS = 28
LONG_AGO, FAR_OFF = datetime(2015, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 25, 1, tzinfo=UTC)
"""02:00 in London, which becomes 01:00."""
SPRING = datetime(2027, 3, 28, 1, tzinfo=UTC)
"""01:00 in London, which becomes 02:00."""
END_OF_32_BITS = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)
OFFICE_HOURS = datetime(2026, 11, 24, 10, tzinfo=UTC)


class _Whole(JWERegistry):
    """What the portal's owner takes: a report is longer than the library's own limit."""

    max_ciphertext_length = 64 * 1024 * 1024


_SEALED = _Whole(algorithms=["RSA-OAEP-256", "A256GCM"])


@dataclass(frozen=True)
class Case:
    """What is done to a clock."""

    name: str
    starts: datetime
    """What is true when the gateway starts."""
    jump: timedelta = timedelta()
    is_wrong_at_start: bool = False
    """It was right in the process before; else it jumps under way."""

    @property
    def reached(self) -> timedelta:
        """So far ahead lies what a clock that runs ahead has reached."""
        return self.jump / 2 if self.jump > timedelta() else HOUR


CASES = (
    Case("an hour ahead", OFFICE_HOURS, HOUR),
    Case("an hour behind", OFFICE_HOURS, -HOUR),
    Case("a day ahead", OFFICE_HOURS, DAY),
    Case("a day behind", OFFICE_HOURS, -DAY),
    Case("ahead into 2038", OFFICE_HOURS, END_OF_32_BITS - OFFICE_HOURS),
    Case("started a day ahead", OFFICE_HOURS, DAY, is_wrong_at_start=True),
    Case("started in 2038", OFFICE_HOURS, END_OF_32_BITS - OFFICE_HOURS, is_wrong_at_start=True),
    Case("started a day behind", OFFICE_HOURS, -DAY, is_wrong_at_start=True),
    Case("the night in which clocks go back", AUTUMN - SOON / 2),
    Case("the night in which clocks go forward", SPRING - SOON / 2),
    Case("the second after 32 bits", END_OF_32_BITS - SOON / 2),
)


class FakedClock:
    """The system clock of one process, as libfaketime reads it from a file."""

    def __init__(self, folder: Path, starts: datetime) -> None:
        self._file = folder / "offset"
        self._starts_s = starts.timestamp()
        self._true_s: float | None = None
        """What is true, less what the machine shows; None: it does not run yet."""
        self.environment = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TZ": "Europe/London",
        }

    def begin(self) -> None:
        """Let it run from now on."""
        if self._true_s is None:
            self._true_s = self._starts_s - time.time()
            self.wrong_by(timedelta())

    def wrong_by(self, ahead: timedelta) -> None:
        """Set it."""
        assert self._true_s is not None
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._true_s + ahead.total_seconds():+.3f}")
        new.replace(self._file)

    def true_now(self) -> datetime:
        """What a right clock shows."""
        assert self._true_s is not None
        return datetime.fromtimestamp(time.time() + self._true_s, UTC)


class Trial:
    """One gateway, its clock, and the portal's folder in which its patients would see their reports."""

    def __init__(self, folder: Path, case: Case, register_url: str, forks: Forks, starting: asyncio.Semaphore) -> None:
        """`starting` lets so many start at once as the machine has processors."""
        folder.mkdir()
        self.case = case
        self.clock = FakedClock(folder, case.starts)
        self.portal = folder / "portal"
        self.portal.mkdir()
        self._starting = starting
        self.node = Node(folder, partial(_started, forks))
        issue = partial(self.node.authority.issue, not_before=LONG_AGO, not_after=FAR_OFF)
        self.node.own = issue("gateway.example", "localhost", "127.0.0.1")
        self.ris = issue("ris.northmoor.example")
        # Shown by a second system of the trust: good at the true time, and not at the wrong one.
        begins, ends = case.starts - HOUR / 4, case.starts + case.reached
        self.brief = self.node.authority.issue("brief.northmoor.example", not_before=begins, not_after=ends)
        self.key = RSAKey.generate_key(2048)
        key = folder / "recipient.pem"
        key.write_bytes(self.key.as_pem(private=False))
        terms = (
            *("[trust.release]", "go_live_at = 2020-01-01T08:00:00Z", "working_days_only = false"),
            'channels = ["portal"]',
            *("[trust.release.contacts]", 'patient_phone = "01632 960100"'),
            *(f'{each} = "{each}@northmoor.example"' for each in ("results_lead", "service_mailbox")),
            *(f'{each} = "{each}@northmoor.example"' for each in ("caldicott_guardian", "privacy_officer")),
            *(f'{each} = ["{each}@northmoor.example"]' for each in ("deputies", "governance")),
        )
        own, authority = self.node.own, self.node.authority.certificate
        phone = 'desk_phone = "01632 960001"'
        self.node.write(
            *("[listen.hl7]\nport = 0", f'certificate = "{own.certificate}"\nprivate_key = "{own.private_key}"'),
            f'client_ca = "{authority}"',
            *self._feed("ris", self.ris),
            *self._feed("brief", self.brief),
            *(f'[[channel]]\nname = "portal"\nkind = "folder"\nfolder = "{self.portal}"', f'recipient_key = "{key}"'),
            f'[[lookup]]\nkind = "pds"\nurl = "{register_url}"\nplain_http_on_loopback = true',
            replace={phone: "\n".join((phone, *terms))},
        )

    @staticmethod
    def _feed(name: str, shown: Files) -> tuple[str, str]:
        return f'[[report_feed]]\nname = "{name}"\ntrust = "RZ1"', f'certificate_sha256 = "{shown.fingerprint}"'

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Serving]:
        """The gateway, by its clock."""
        async with AsyncExitStack() as stack:
            async with self._starting:
                self.clock.begin()
                running = await stack.enter_async_context(self.node.serving(self.clock.environment))
            yield running

    async def send(self, serving: Serving, number: str, due_at: datetime, shown: Files) -> None:
        """A report that falls due then, sent and acknowledged; raises `OSError` where nobody listens to its sender."""
        at = _verified_for(due_at)
        told = (result(number, at=f"{at:%Y%m%d%H%M%S}+0000", placer=f"P-{number}"), line(f"Report {number}."))
        patient = f"PID|1||{ANNE.nhs_number}^^^NHS^NH||{ANNE.family_name}^{ANNE.given_name}||{ANNE.birth_date:%Y%m%d}|F"
        header = f"MSH|^~\\&|RIS|RX1|GATEWAY|REGION|{at:%Y%m%d%H%M%S}||ORU^R01^ORU_R01|{number}|P|2.5"
        raw = message(*told, patient=patient, header=header)
        host, port = str((await serving.logged("ready"))["hl7"]).rsplit(":", 1)
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=serving.client(shown), server_hostname="localhost"
        )
        try:
            writer.write(b"\x0b" + raw + b"\x1c\r")
            answer = await reader.readuntil(b"\x1c\r")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError from error
        finally:
            writer.close()
        assert b"MSA|AA" in answer, (self.case.name, answer)

    def out(self) -> set[str]:
        """The reports that their patient was given, by number."""
        opened = [jwe.decrypt_compact(file.read_bytes(), self.key, registry=_SEALED) for file in self._files()]
        found = re.findall(r"Report ([A-Z]+)\.", "".join(_text(each.plaintext or b"") for each in opened))
        assert len(found) == len(opened), "each once"
        return set(found)

    def _files(self) -> list[Path]:
        return list(self.portal.glob("*.jwe"))

    def rows(self, query: str) -> set[str]:
        """The one column that a query asks for."""
        with closing(sqlite3.connect(f"file:{self.node.database}?mode=ro", uri=True)) as database:
            return {str(value) for (value,) in database.execute(query)}

    async def out_within(self, seconds: float) -> set[str]:
        """The same, once there are any, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _until(lambda: bool(self.out()))
        return self.out()


@pytest.mark.peer
@pytest.mark.slow
async def test_no_wrong_clock_releases_early_or_loses_anything(tmp_path: Path, forks: Forks) -> None:
    starting = asyncio.Semaphore(2)
    async with NationalServices(tmp_path / "national" / "client.pem", free_port()) as national:
        trials = [
            Trial(tmp_path / f"case-{number}", case, national.url + REGISTER_PATH, forks, starting)
            for number, case in enumerate(CASES)
        ]
        outcomes = await asyncio.gather(*(tried(each) for each in trials), return_exceptions=True)
    wrong = {case.name: outcome for case, outcome in zip(CASES, outcomes, strict=True) if outcome is not None}
    assert not wrong


async def tried(trial: Trial) -> None:
    """One case from its start to its end; raises `AssertionError`."""
    clock, case = trial.clock, trial.case
    if case.is_wrong_at_start:
        async with trial.serving() as serving:
            soon = await begun(trial, serving)
            await _until(lambda: bool(trial.rows("SELECT name FROM release_mark WHERE name = 'looked'")))
        clock.wrong_by(case.jump)
        async with trial.serving() as serving:
            await judged(trial, serving, soon)
    else:
        async with trial.serving() as serving:
            soon = await begun(trial, serving)
            clock.wrong_by(case.jump)
            await judged(trial, serving, soon)
    checked = await trial.node.run("audit", "verify")
    assert checked.status == 0, checked


async def begun(trial: Trial, serving: Serving) -> datetime:
    """Both reports are sent; when the first is due."""
    soon = trial.clock.true_now().replace(microsecond=0) + SOON
    await trial.send(serving, "SOON", soon, trial.ris)
    await trial.send(serving, "LATER", soon + trial.case.reached, trial.brief)
    return soon


async def judged(trial: Trial, serving: Serving, soon: datetime) -> None:
    """Nothing is out before its time; what is due goes, at the latest once the clock is right."""
    clock, case = trial.clock, trial.case
    await _until(lambda: clock.true_now() >= soon or bool(trial.out()))
    assert clock.true_now() >= soon, "early"
    if case.jump:
        with pytest.raises(OSError):
            await trial.send(serving, "REFUSED", soon, trial.brief)
        # A look is taken by the wrong clock too.
        assert await trial.out_within(LOOKED_AT_WITHIN_S - SOON.total_seconds()) <= {"SOON"}, "early"
        clock.wrong_by(timedelta())
    assert await trial.out_within(LOOKED_AT_WITHIN_S) == {"SOON"}, "lost, or early"


async def _until(is_so: Callable[[], bool]) -> None:
    """Look, four times a second, until it is so: what another process does sets no event here."""
    while not is_so():  # noqa: ASYNC110  # as said
        await asyncio.sleep(0.25)


def _text(content: bytes) -> str:
    return base64.b64decode(json.loads(content)["text"]).decode()


def _verified_for(due_at: datetime) -> datetime:
    """When a report was verified that is due then, to the second."""
    at = due_at - timedelta(days=EMBARGO_DAYS)
    return next(each for each in (at, at - HOUR, at + HOUR) if later_of(each, EMBARGO_DAYS, Calendar()) == due_at)


def _library() -> Path:
    """Libfaketime for processes with threads."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed")
    return found[0]


async def _started(
    forks: Forks, program: str, *arguments: str, stdin: int, stdout: int, stderr: int, env: Mapping[str, str]
) -> Process | Forked:
    """Start a process; what is forked has loaded its libraries already, so that its clock is the machine's."""
    if "LD_PRELOAD" not in env:
        return await forks.start(program, *arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=env)
    return await asyncio.create_subprocess_exec(program, *arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=env)
