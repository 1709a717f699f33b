"""A node's custody over a real store and cache, on a clock that a test moves, with a foreign archive on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import orjson

from dimse.flow.asked import Asked
from dimse.scp.commitment_scp import CommitmentService, ReportService, commitment_sink
from dimse.sop_classes import STORAGE_COMMITMENT
from dimse.upper_layer.commands import Command
from dimse.upper_layer.messages import Sink
from dimse.upper_layer.negotiation import Context
from gateway.custody.custody import Custody
from gateway.metrics import Figures
from gateway.model.settings import Limits
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest, Reference
from gateway.model.work.jobs import JobState
from gateway.model.work.transfers import CachedInstance, Standing
from gateway.node import new_uid
from policy.identity import CallerBinding
from policy.parties import Caller, Principal, PrincipalKind, PurposeOfUse, TrustId
from storage import audit_log
from storage.cache.index import cache_instance
from storage.work import jobs
from tests.clock import FakeClock
from tests.dimse.door import PACS, Doorkeeper, House, Shelf, opened
from tests.gateway.keeping_rig import Kept, Place
from tests.peers.committing import CommittingArchive, committing
from tests.storage import people
from tests.storage.cache_rig import CT, body, head

RZ1, RZ2 = TrustId("RZ1"), TrustId("RZ2")
STRANGER = CallerBinding("rz2-pacs", RZ2, loopback_only=True, ae_titles=("RZ2_PACS",))
FOREIGN = CallerBinding("rz1-orthanc", RZ1, loopback_only=True, ae_titles=("ORTHANC",))
LIMITS = Limits()
STUDY = "1.2"

REGION = """
[listen.dimse]
ae_title = "GATEWAY"
plain_on_loopback = true
[limits]
store_patience_s = 0.01
connect_timeout_s = 5.0
commitment_linger_s = 0.3
[[trust]]
ods = "RZ1"
name = "Trust RZ1"
[[trust]]
ods = "RZ2"
name = "Trust RZ2"
"""


def destination(port: int, custody: str = "commitment", name: str = "archive", ae_title: str = "RZ1_PACS") -> str:
    """A destination of RZ1's on this machine."""
    return f"""
[[destination]]
name = "{name}"
trust = "RZ1"
ae_title = "{ae_title}"
address = "127.0.0.1:{port}"
plain_on_loopback = true
custody = "{custody}"
"""


@dataclass
class Line:
    """Where a sender is told on its own association; closed unless a test opens it."""

    is_open: bool = False
    told: list[CommitmentReport] = field(default_factory=list)

    async def __call__(self, report: CommitmentReport) -> bool:
        if self.is_open:
            self.told.append(report)
        return self.is_open


class Rig:
    """A node that has opened."""

    def __init__(self, kept: Kept, custody: Custody, clock: FakeClock, house: House, figures: Figures) -> None:
        self.kept = kept
        self.custody = custody
        self.clock = clock
        self.house = house
        self.figures = figures

    async def push(
        self, sop_uid: str, seed: int = 0, *, trust: TrustId = RZ1, study: str = STUDY, content: bytes = b""
    ) -> CachedInstance:
        """An instance that a trust sent here by itself."""
        anne = await people.patient(self.kept.store)
        wanted = head(study=study, sop=sop_uid, patient_row=anne, source=trust, custodian=trust, is_sole_copy=True)
        async with self.kept.keeping.cache.put(wanted) as writing:
            writing.add(content or content_of(sop_uid, seed))
            return await writing.commit()

    async def turn(self, minutes: float = 0.0) -> None:
        """Let time pass and a study rest, look, and run what that queues to its end."""
        await self.clock.advance(60.0 * minutes + LIMITS.store_rest_s + 1)
        await self.follow()

    async def follow(self) -> None:
        """Look, run what is due to its end, and look what came of it."""
        await self.custody.look()
        never = asyncio.create_task(asyncio.Event().wait())
        async with self.kept.keeping.runner.running():
            while await self._is_busy():
                await asyncio.wait([never], timeout=0.01)
                await self.clock.advance(0.1)
        never.cancel()
        await self.custody.look()

    async def sole(self) -> set[str]:
        """The SOP Instance UIDs of which sole copies are kept, whatever they are good for."""
        await self.kept.keeping.cache.sole_copies.indexed()
        found = cache_instance.select().where(cache_instance.c.is_sole_copy)
        return await self.kept.store.read(lambda read: {row.sop_uid for row in read.connection.execute(found)})

    async def standing(self, sop_uid: str) -> list[Standing]:
        """Of each version that is kept."""
        found = cache_instance.select().where(cache_instance.c.sop_uid == sop_uid).order_by(cache_instance.c.version)
        return await self.kept.store.read(
            lambda read: [Standing(row.standing) for row in read.connection.execute(found)]
        )

    async def take(
        self, transaction_uid: str, *sop_uids: str, line: Line | None = None, by: Caller | None = None
    ) -> None:
        """A sender asks for commitment."""
        request = request_for(transaction_uid, *sop_uids)
        await self.custody.desk.take(by or caller_of(RZ1), "RZ1_SENDER", request, line or Line())

    async def failed_jobs(self) -> list[str]:
        """Why jobs have failed for good."""
        found = await self.kept.store.read(lambda read: jobs.listed(read, [JobState.FAILED]))
        return [job.words for job in found]

    async def acts(self) -> list[str]:
        """What the audit says was done about sole copies and commitment, in order."""
        found: list[str] = []
        store, first = self.kept.store, 0
        while page := await store.read(partial(audit_log.page, node=store.node, after=first)):
            entries = [orjson.loads(each.encoded) for each in page]
            found += [each["body"]["act"] for each in entries if each["body"].get("register") == "custody"]
            first += len(page)
        return found

    async def _is_busy(self) -> bool:
        now = self.clock.now()
        found = await self.kept.store.read(lambda read: jobs.listed(read, [JobState.READY, JobState.RUNNING]))
        return any(job.state is JobState.RUNNING or job.run_at <= now for job in found)


def content_of(sop_uid: str, seed: int = 0) -> bytes:
    """What was sent of an instance."""
    return body(2_000, hash(sop_uid) % 1_000 + 1_000 * seed)


def caller_of(trust: TrustId) -> Caller:
    """A trust's system, proven."""
    principal = Principal(f"{trust.code.lower()}-pacs", PrincipalKind.SYSTEM, trust, frozenset(), frozenset())
    return Caller(principal, PurposeOfUse.TREAT, "request-1", 0)


def request_for(transaction_uid: str, *sop_uids: str) -> CommitmentRequest:
    """A request for CT images."""
    return CommitmentRequest(transaction_uid, tuple(Reference(CT, uid) for uid in sop_uids))


@asynccontextmanager
async def custody_of(place: Place, archive: CommittingArchive | None = None) -> AsyncIterator[Rig]:
    """A node as it is when its doors open; the archive hears of its door, if there is one."""
    configuration = place.configuration()
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(place.open())
        clock = place.clock
        assert isinstance(clock, FakeClock)
        figures = Figures()
        show = figures.images.sole_copies
        custody = Custody(configuration, kept.store, kept.keeping, clock, new_uid=new_uid, show=show)
        asked = Asked()

        def sink_for(context: Context, command: Command) -> Sink | None:
            return commitment_sink(context, command, LIMITS.commitment_bytes_max)

        house = await stack.enter_async_context(
            opened(
                Shelf(),
                Doorkeeper(PACS, STRANGER, FOREIGN),
                services={STORAGE_COMMITMENT: CommitmentService(custody.desk, asked, LIMITS, asyncio.to_thread)},
                sink_for=sink_for,
                scp_roles=(STORAGE_COMMITMENT,),
                reports={STORAGE_COMMITMENT: ReportService(custody.desk, LIMITS, asyncio.to_thread)},
                asked=asked,
            )
        )
        if archive is not None:
            archive.gateway_port = house.port
        yield Rig(kept, custody, clock, house, figures)


@asynccontextmanager
async def archived(place: Place, archive: CommittingArchive, custody: str = "commitment") -> AsyncIterator[Rig]:
    """A node whose trust RZ1 has this archive."""
    with committing(archive):
        place.more = [*place.more, REGION, destination(archive.port, custody)]
        async with custody_of(place, archive) as rig:
            yield rig
