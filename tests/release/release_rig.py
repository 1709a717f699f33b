"""Release as one process runs it, over a real store, real keys and real jobs, on a clock that a test moves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson

from gateway.jobs.runner import Runner
from gateway.model.imaging import JsonValue
from gateway.model.reporting.channels import Channel, PatientReport, Rendering
from gateway.model.reporting.incoming import Content, Exam, IncomingReport
from gateway.model.reporting.tracing import TracedPerson
from gateway.model.seams import TraceState
from gateway.model.work.jobs import JobState
from gateway.release.acts import Acts, Role, Staff
from gateway.release.contents import Contents
from gateway.release.giving.addressees import Vault
from gateway.release.giving.composing import Composing, TrustCard
from gateway.release.giving.looking import Looking
from gateway.release.giving.tending import Means, Tending
from gateway.release.giving.tracing import DayTracing
from gateway.release.giving.trusted import TrustedTime
from gateway.release.intake import Intake
from gateway.release.planner import TEND, Planner, Rules, Situation
from policy.parties import NhsNumber
from policy.release.circumstances import Death
from policy.release.reports import Verification
from policy.release.terms import Calendar, ReleaseTerms
from storage.database import Read
from storage.engines import DatabaseSettings
from storage.keyring.keyring import Keyring
from storage.release import deliveries, releases, reports, standing
from storage.release.deliveries import Delivery
from storage.release.releases import Notice
from storage.release.reports import KeptReport
from storage.store import SqlStore, new_id
from storage.tables.chain import audit_record
from storage.work import jobs
from storage.work.book import SqlJobBook
from tests.clock import FakeClock
from tests.release.incoming import NORTH, SARAH, incoming, message
from tests.release.portal import Portal
from tests.storage.keyrings import Place

MONDAY = datetime(2026, 6, 1, 8, 15, tzinfo=UTC)
"""09:15 in London; four weeks on is a Monday again, 09:15."""
DUE_AT = datetime(2026, 6, 29, 8, 15, tzinfo=UTC)
GO_LIVE = datetime(2026, 1, 1, tzinfo=UTC)
PHONE = "0113 496 0000"
CLINICIAN = Staff("Dr C Carter", NORTH, Role.CLINICIAN, "request-1")
RESPONSIBLE = Staff("Dr B Referrer", NORTH, Role.RESPONSIBLE, "request-2")
CLERK = Staff("J Doe", NORTH, Role.STAFF, "request-3")
LEAD = Staff("R Lead", NORTH, Role.GOVERNANCE, "request-4")
SARAH_TRACED = TracedPerson(
    TraceState.FOUND,
    SARAH.nhs_number,
    "01",
    "O'Shea",
    "Sarah",
    frozenset({"O'Shea"}),
    SARAH.birth_date,
)


@dataclass
class Demographics:
    """A service of demographics that knows whom a test tells it of."""

    people: dict[str, TracedPerson] = field(default_factory=lambda: {"9990000018": SARAH_TRACED})
    asked: int = 0

    async def person(self, number: NhsNumber, request_id: str) -> TracedPerson:
        """See `PersonLookup`."""
        self.asked += 1
        return self.people.get(number.digits, TracedPerson(TraceState.UNKNOWN))

    async def close(self) -> None:
        """See `PersonLookup`."""

    def sarah(self, **otherwise: object) -> None:
        """What is told of Sarah from now on."""
        self.people["9990000018"] = replace(SARAH_TRACED, **otherwise)  # type: ignore[arg-type]  # by name


async def render(report: PatientReport, *, large_print: bool) -> Rendering:
    """The texts, bare."""
    text = "\n".join(section.text for section in report.sections)
    size = "large " if large_print else ""
    return Rendering(f"<p>{size}{text}</p>", text, f"%PDF {size}of {text}".encode(), large_print)


async def as_told(report_id: str, said: IncomingReport) -> tuple[Exam, str]:
    """The examination as the report has it: no study is linked."""
    return said.exam, said.referrer.team


class Rig:
    """One process."""

    def __init__(self, store: SqlStore, keys: Keyring, clock: FakeClock, *portals: Channel) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self.channels: dict[str, Channel] = {each.name: each for each in portals}
        self.demographics = Demographics()
        self.terms = ReleaseTerms(go_live_at=GO_LIVE, channels=tuple(self.channels))
        self.referred = (False, False)
        self.time = TrustedTime(clock, timedelta(minutes=60))
        self.time.begin(None)
        self.planner = Planner(self._rules)
        self.contents = Contents(store, keys)
        self.vault = Vault(keys, os.urandom)
        self.acts = Acts(self.planner, new_id)
        self.intake = Intake(
            store,
            keys,
            self.planner.filed,
            random=os.urandom,
            new_id=new_id,
            elsewhere=asyncio.to_thread,
            time=self.time,
        )
        self.tending = Tending(
            Means(
                store,
                self.planner,
                DayTracing(store, self.contents, self.vault, self.demographics, new_id=new_id),
                Composing(
                    self.contents, lambda trust: TrustCard("North Trust", PHONE), lambda exam: exam.name, as_told
                ),
                self.vault,
                render,
                self._channels,
                lambda trust: PHONE,
                self.time.is_sure,
            )
        )
        self.looking = Looking(store, self.planner, self.time, lambda: None)

    def _rules(self) -> Rules:
        return Rules(lambda trust: self.terms, Calendar(), self.time.now, lambda read, report_id: self.referred)

    def _channels(self) -> Mapping[str, Channel]:
        return self.channels

    async def begin(self) -> None:
        """Start from the clock as it is, as a process does."""
        self.time.begin(await self.store.read(standing.looked_at))

    async def file(self, report: IncomingReport, name: str = "m-1") -> str:
        """A report comes in; its id."""
        taken = await self.intake.take(message(report, name=name))
        return taken.report_ids[0]

    async def on(self, at: datetime) -> None:
        """Let time pass until then; nothing is looked at meanwhile."""
        await self.clock.advance((at - self.clock.now()).total_seconds())

    async def look(self, at: datetime | None = None) -> None:
        """Look, and do all that is to be done."""
        if at is not None:
            await self.on(at)
        await self.looking.look()
        await self.work()

    async def work(self) -> None:
        """Run the jobs that are due to their end."""
        book = SqlJobBook(self.store)
        runner = Runner(book, {TEND: self.tending}, self.clock, owner=f"{self.store.node}/{id(self)}")
        never = asyncio.create_task(asyncio.Event().wait())
        async with runner.running():
            while await self.store.read(_is_busy):
                await asyncio.wait([never], timeout=0.005)
                await self.clock.advance(0.01)
        never.cancel()

    async def report(self, report_id: str) -> KeptReport:
        """The report's row."""
        found = await self.store.read(lambda read: reports.get(read, report_id))
        assert found is not None
        return found

    async def situation(self, report_id: str) -> Situation:
        """How it stands, and why."""
        return await self.store.read(lambda read: self.planner.situation(read, report_id))

    async def given(self, report_id: str) -> tuple[Delivery, ...]:
        """Its deliveries."""
        return await self.store.read(lambda read: deliveries.deliveries(read, report_id))

    async def released(self, report_id: str) -> Mapping[str, datetime]:
        """Its versions that were ever released."""
        return await self.store.read(lambda read: releases.released(read, report_id))

    async def notices(self, report_id: str) -> tuple[Notice, ...]:
        """Of what its patient was told."""
        return await self.store.read(lambda read: releases.notices(read, report_id))

    async def audit(self, act: str = "") -> list[dict[str, JsonValue]]:
        """What the audit says of releases, in order; of one act alone."""

        def body(read: object) -> list[dict[str, JsonValue]]:
            assert hasattr(read, "connection")
            rows = read.connection.execute(audit_record.select().order_by(audit_record.c.sequence))
            entries = [orjson.loads(row.encoded) for row in rows if row.event == "release-change"]
            return [entry["body"] for entry in entries if act in ("", entry["body"]["act"])]

        return await self.store.read(body)


def _is_busy(read: Read) -> bool:
    """Whether a job of reports runs, or could: in one snapshot, for it goes from the one to the other."""
    found = jobs.listed(read, [JobState.READY, JobState.RUNNING], TEND)
    return any(job.state is JobState.RUNNING or job.run_at <= read.now for job in found)


def verified(at: datetime = MONDAY, text: str = "No fracture.", **otherwise: object) -> IncomingReport:
    """A report of Sarah's, verified then."""
    plain = {
        "stated_at": at,
        "received_at": at + timedelta(minutes=1),
        "verification": Verification(at, "Dr A Roentgen"),
        "content": Content(text),
    }
    return incoming(**{**plain, **otherwise})


@asynccontextmanager
async def opened(
    folder: Path, url: str, *portals: Channel, clock: FakeClock | None = None, node: str = "north"
) -> AsyncIterator[Rig]:
    """A process with these channels."""
    time = clock or FakeClock(MONDAY + timedelta(minutes=2))
    place = Place(folder / "keys", time)
    async with (
        SqlStore(DatabaseSettings(url), node=node, clock=time) as store,
        place.keyring() as keys,
    ):
        yield Rig(store, keys, time, *(portals or (Portal(),)))


BORN_2020 = date(2020, 1, 1)
DEAD = Death.FORMAL
