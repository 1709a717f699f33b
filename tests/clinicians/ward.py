"""Clinicians at RZ1, in whose care Anne is, while RZ2 holds her images and its RIS sends her reports."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import replace
from datetime import date, datetime, timedelta

from gateway.jobs.runner import Handler
from gateway.metrics import Figures
from gateway.model.imaging import PATIENT_ID, STUDY_UID, Key, Level, Matches, Query
from gateway.model.reporting.incoming import Content, Exam, IncomingReport, Practitioner, ReportSource, Subject
from gateway.model.reporting.seams import FeedMessage
from gateway.release.clinicians import telling
from gateway.release.clinicians.arriving import ARRIVED, Arrivals
from gateway.release.clinicians.book import Book
from gateway.release.clinicians.custodians import Organisations
from gateway.release.clinicians.readers import Readers, kept_for_reading
from gateway.release.clinicians.telling import CHANGED, Telling
from gateway.release.contents import Contents
from gateway.release.intake import Intake
from gateway.release.naming import report_id_of
from gateway.sharing.conduct.ledger import Budgets, Ledger
from gateway.sharing.conduct.watch import Watch
from gateway.sharing.identity.people import People
from gateway.sharing.locations.sampling import Sampling
from gateway.sharing.reading.reports import ReportReading
from gateway.sharing.retrieval.acquiring import Acquiring
from gateway.sharing.retrieval.delivery import Means
from gateway.sharing.retrieval.reported import Reported, WithReports
from gateway.sharing.retrieval.road import Road
from gateway.sharing.retrieval.witness import Witness
from policy.parties import NhsNumber, PatientId, TrustId
from policy.release.reports import Said, Verification
from storage.observations.notebook import Notebook
from storage.observations.pseudonyms import Pseudonyms
from storage.store import SqlStore, new_id
from tests.clock import NOON
from tests.retrieval.travels import STUDY, Travels
from tests.sharing.rows import ANNE, RZ2
from tests.storage.cache_rig import FixedKeys

VERIFIED_AT = NOON - timedelta(days=1)
SMITH = Subject(ANNE, "01", (), "SMITH", "ANNE", date(1958, 3, 14))
TEXT = "No fracture.\nThe lungs are clear."


def reported(
    text: str = TEXT, *, said: Said = Said.VERIFIED, at: datetime = VERIFIED_AT, **changes: object
) -> IncomingReport:
    """A report of Anne's by RZ2, verified then, but for what a test says."""
    is_verified = said in (Said.VERIFIED, Said.CORRECTED, Said.APPENDED)
    plain = IncomingReport(
        trust=RZ2,
        feed="ris",
        source=ReportSource.HL7_V2,
        message_id="",
        report_number="R1",
        said=said,
        stated_at=at,
        verification=Verification(at, "ROENTGEN^ADA") if is_verified else None,
        subject=SMITH,
        content=Content(text),
        received_at=at + timedelta(minutes=1),
        accessions=("ACC00001",),
        placer_numbers=("P1",),
        study_uids=(STUDY,),
        exam=Exam(("XCHES",), "Chest X-ray", "CT", "CHEST", NOON - timedelta(days=3)),
        referrer=Practitioner("C7654321", "GREY^JO", "Chest clinic"),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # by name


class Ward:
    """A region on the road whose gateway keeps reports too."""

    def __init__(self, store: SqlStore, travels: Travels) -> None:
        self.store = store
        self.travels = travels
        self.region = travels.region
        self.keys = FixedKeys()
        self._messages = itertools.count()
        self.intake = Intake(
            store, self.keys, telling.queue, random=os.urandom, new_id=new_id, elsewhere=asyncio.to_thread
        )
        self.contents = Contents(store, self.keys)
        self.has_keys = True
        self.asked = Ledger(b"salt")
        self.tolerance = timedelta(minutes=5)
        self.book = Book(store, self.contents, self._tolerance_of, is_open=lambda: self.has_keys)
        self.readers = Readers(store, self._tolerance_of)
        travels.ledger.also(self.readers.frozen)
        self.reported = Reported(self.book, [TrustId(code) for code in ("RZ1", "RZ2", "RZ3", "RZ4")])
        kept = Witness(travels.cache, self.region.store, travels.clock, self.region.limits)
        self.region.witness = WithReports(kept, self.reported)

        self.telling = Telling(store, self._tolerance_of, travels.cache, travels.clock)
        self.arrivals = Arrivals(store, travels.cache, self.intake, self.contents, self._organisations, travels.clock)

    @property
    def reading(self) -> ReportReading:
        """Who answers for reports as such."""
        region = self.region
        people = People(region.store, region.directory, region.identity, region.tracing)
        kept = kept_for_reading(self.book, self.readers)
        watch = Watch(region.broker, self.asked, Budgets(strangers_per_hour=1), region.store, region.clock, Figures())
        return ReportReading(
            region.gate, people, region.directory, kept, region.sharing, region.clock, at_once_max=10, watch=watch
        )

    @property
    def sampling(self) -> Sampling:
        """Who asks what trusts have, here and there."""
        region = self.region
        people = People(region.store, region.directory, region.identity, region.tracing)
        notebook = Notebook(self.store, region.clock, Pseudonyms(bytes(32)), max_age_days=100)
        return Sampling(region.gate, region.peers, people, notebook, region.limits, written=self.reported.made)

    @property
    def handlers(self) -> dict[str, Handler]:
        """What a runner here would do."""
        return {CHANGED: self.telling, ARRIVED: self.arrivals}

    def _tolerance_of(self, _: TrustId) -> timedelta:
        return self.tolerance

    def _organisations(self) -> Organisations:
        return Organisations.of(self.region.directory.trusts)

    def lead(self) -> None:
        """Build the road; describe the region first."""
        travels, region = self.travels, self.region
        means = Means(travels.cache, travels.ledger, travels.clock, region.limits, lambda: travels.version)
        acquiring = Acquiring(region.peers, travels.cache, region.gate.report, self.reported)
        travels._road = Road(
            region.broker, acquiring, region.store, means, new_id=region.new_id, withdraw=travels.withdrawals
        )

    async def file(self, *reports: IncomingReport) -> str:
        """Have these filed, each by a message of its own; the id of the last one's report."""
        for each in reports:
            message = FeedMessage(
                each.trust, each.feed, f"RIS|{next(self._messages)}", "ORU^R01", each.received_at, (each,), raw=b"MSH"
            )
            taken = await self.intake.take(message)
            assert taken.report_ids
        return report_id_of(reports[-1].trust, reports[-1].report_number)

    async def find(self, level: Level = Level.SERIES, *, study: str = STUDY, by: str = "RZ1") -> Matches:
        """What a caller finds of a study."""
        return await self.region.find(Query(level, (Key((STUDY_UID,), "UI", (study,)),)), by=by)

    async def find_of(self, patient: NhsNumber = ANNE, level: Level = Level.STUDY, by: str = "RZ1") -> Matches:
        """What a caller finds of a patient."""
        return await self.region.find(Query(level, (Key((PATIENT_ID,), "LO", (patient.digits,)),)), by=by)


def local(value: str) -> PatientId:
    """RZ2's own number of somebody."""
    return PatientId("RZ2", value)
