"""A gateway's core in one process: the real store, gate, broker and peers, before archives that a test fills.

RZ1 asks; RZ2 and RZ3 have archives and share everything with it. Anne and Ben are in RZ1's care, Clara is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from itertools import count

from gateway.metrics import Figures
from gateway.model.errors import PeerRefused
from gateway.model.imaging import Attributes, Matches, Query
from gateway.model.seams import Clock, PeerAnswer, PeerConnector, PeerRequest
from gateway.model.settings import Limits, SharingSettings
from gateway.model.work.transfers import FetchRequest, Intake
from gateway.node import SystemClock
from gateway.sharing.absence import AbsenceDelays
from gateway.sharing.broker import Broker
from gateway.sharing.directory import Directory, TrustEntry
from gateway.sharing.guard.gate import Gate
from gateway.sharing.peers import Peers
from policy.facts import OrganisationKind, RelationshipKind, SharingChoice
from policy.optout import CaseEvent, CaseTerms, Role
from policy.parties import Caller, NhsNumber, Principal, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Settings
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.registers import agreements, labels, optouts, patients, relationships
from storage.registers.state import Author
from storage.store import SqlStore
from tests.sharing.rows import ANNE, BEN, RZ1, RZ2, RZ3, RZ4

STAFF = Author("staff", "request-0", "test")
DAY = timedelta(days=1)
CALENDAR = optouts.Calendar(CaseTerms(), (), UTC)
NAMES: Mapping[TrustId, str] = {RZ1: "Northmoor", RZ2: "Eastvale", RZ3: "Southbridge", RZ4: "Westhaven"}
QUIET = SharingSettings(absence_timing=False)
EVERYTHING = (agreements.Clause(),)


@dataclass(slots=True)
class Archive:
    """One trust's archive as the core sees it; answers whatever it was given, to whatever it is asked."""

    trust: TrustId
    rows: Sequence[Attributes] = ()
    is_truncated: bool = False
    error: Exception | None = None
    wait: Callable[[], Awaitable[None]] | None = None
    asked: list[PeerRequest] = field(default_factory=list)

    async def find(self, request: PeerRequest) -> PeerAnswer:
        """What a test gave it to answer."""
        self.asked.append(request)
        if self.wait is not None:
            await self.wait()
        if self.error is not None:
            raise self.error
        return PeerAnswer(list(self.rows), self.is_truncated)

    async def fetch(self, request: FetchRequest, intake: Intake) -> None:
        """It sends no images: what it says is what is attacked with."""
        raise PeerRefused(request.trust, "this archive sends no images")

    async def close(self) -> None:
        """Nothing to give up."""


class House:
    """The core, its store, and its archives."""

    def __init__(self, store: SqlStore, archives: Mapping[TrustId, Archive], trusts: Iterable[TrustId]) -> None:
        self.store = store
        self.archives = archives
        self.figures = Figures()
        self._trusts = tuple(trusts)
        self._numbers = count(1)
        self.build()

    @property
    def clock(self) -> Clock:
        """The clock of all its parts."""
        return self.store.clock

    def build(
        self,
        limits: Limits | None = None,
        settings: SharingSettings = QUIET,
        connectors: Sequence[PeerConnector] | None = None,
        choose: Callable[[Sequence[float]], float] = max,
    ) -> None:
        """Build the core anew, with other limits, settings or archives."""
        self.limits = limits or Limits()
        directory = Directory(
            [
                TrustEntry(
                    trust, NAMES[trust], OrganisationKind.NHS_HOSPITAL_TRUST, True, f"0300 555 {trust.code}", "NHS"
                )
                for trust in self._trusts
            ],
            (),
        )
        self.delays = AbsenceDelays(choose)
        peers = connectors if connectors is not None else list(self.archives.values())
        self.peers = Peers(peers, self.limits, self.clock, self.figures, on_empty=self.delays.peer_was_empty)
        self.gate = Gate(
            self.store,
            directory,
            Settings(mode=Mode.DEMO),
            self.clock,
            self.figures,
            new_id=self._new_id,
            custodians=self._trusts,
        )
        self.broker = Broker(
            self.gate,
            self.peers,
            directory,
            self.delays,
            self.limits,
            settings,
            self.clock,
            new_token=lambda: f"token-{next(self._numbers)}",
        )

    async def find(self, query: Query, *, trust: TrustId = RZ1, snapshot: str = "") -> Matches:
        """Ask as the PACS of a trust."""
        return await self.broker.find(self.caller(trust), query, snapshot)

    def caller(self, trust: TrustId = RZ1) -> Caller:
        """The proven PACS of a trust."""
        proven_by = frozenset({"https", "certificate"})
        principal = Principal(f"{trust.code.lower()}-pacs", PrincipalKind.SYSTEM, trust, frozenset(), proven_by)
        return Caller(principal, PurposeOfUse.TREAT, f"request-{next(self._numbers)}")

    async def in_care(self, *numbers: NhsNumber, trust: TrustId = RZ1) -> None:
        """Refer patients to a trust."""
        since = self.clock.now() - DAY

        def body(tx: Tx) -> None:
            for number in numbers:
                row = patients.ensure(tx, patients.nhs(number), STAFF, source="test")
                claim = relationships.NewRelationship(row, trust, RelationshipKind.REFERRAL, "letter", "test", since)
                relationships.add(tx, claim, STAFF)

        await self.store.write(body)

    async def opts_out(self, number: NhsNumber) -> None:
        """Implement a patient's opt-out."""
        at = self.clock.now()

        def body(tx: Tx) -> None:
            row = patients.ensure(tx, patients.nhs(number), STAFF, source="test")
            receipt = optouts.Receipt(row, SharingChoice.OPT_OUT, "paper", "patient", at)
            case = optouts.open_case(tx, receipt, CALENDAR, Role.OFFICER, STAFF)
            for event in (CaseEvent.VERIFY, CaseEvent.IMPLEMENT):
                optouts.move_case(tx, case.case_id, event, Role.OFFICER, at, STAFF)

        await self.store.write(body)

    async def labelled(self, number: NhsNumber, custodian: TrustId, study_uid: str) -> None:
        """Label a study so that nobody elsewhere sees it."""
        since = self.clock.now() - DAY

        def body(tx: Tx) -> None:
            row = patients.ensure(tx, patients.nhs(number), STAFF, source="test")
            new = labels.NewLabel(row, custodian, "sensitive", study_uid, frozenset(), frozenset(), since)
            labels.add_label(tx, new, STAFF)

        await self.store.write(body)

    async def shares(self, custodian: TrustId, *clauses: agreements.Clause) -> None:
        """Give a custodian's agreement these clauses."""
        since = self.clock.now() - DAY
        await self.store.write(lambda tx: agreements.import_version(tx, custodian, clauses, since, STAFF))

    def _new_id(self) -> str:
        return f"decision-{next(self._numbers)}"


def states(matches: Matches) -> dict[TrustId, str]:
    """What the answer says of each trust."""
    return {source.trust: source.state.value for source in matches.sources}


def found_by(matches: Matches) -> list[tuple[str, tuple[TrustId, ...]]]:
    """Study UIDs with their holders, in the answer's order."""
    return [(match.study_uid, match.holders) for match in matches.rows]


def outside_of_rows(matches: Matches) -> Matches:
    """All that an answer says but for its rows."""
    return replace(matches, rows=())


@asynccontextmanager
async def housed(
    url: str, clock: Clock | None = None, trusts: Sequence[TrustId] = (RZ1, RZ2, RZ3)
) -> AsyncIterator[House]:
    """A house over a fresh database; every trust but the first has an archive and shares everything."""
    async with SqlStore(DatabaseSettings(url), node="north", clock=clock or SystemClock()) as store:
        archives = {trust: Archive(trust) for trust in trusts[1:]}
        house = House(store, archives, trusts)
        for custodian in trusts:
            await house.shares(custodian, *EVERYTHING)
        await house.in_care(ANNE, BEN)
        yield house
