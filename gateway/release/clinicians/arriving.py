"""Reports that trusts store as DICOM objects, taken in like those of any feed (domain.md A4).

A store waits for nothing of this: a job is queued before the object is kept, so that a fall in between loses nothing,
and finds it once it is there. Whose report it is, its identifiers say, by the trust's own issuer; what cannot be read
is a dead letter that a person sees, and so is an object that its sender began to store and that is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial

import orjson
import structlog

from gateway.instances.description import describe
from gateway.instances.header import HeaderReader
from gateway.instances.listing import row_of
from gateway.instances.reporting.reading import ENCAPSULATED_PDF, REPORT_CLASSES, Arrival, read
from gateway.instances.reporting.writing import MANUFACTURER
from gateway.jobs.runner import JobFailed, Work
from gateway.model.errors import InvalidRequest, NotFound, ServiceFault
from gateway.model.imaging import PATIENT_BIRTH_DATE, PATIENT_NAME, Attributes, JsonValue
from gateway.model.reporting.incoming import Subject
from gateway.model.reporting.seams import FeedMessage, ReportIntake
from gateway.model.seams import Clock
from gateway.model.work.jobs import FailureKind, Job, Lane, NewJob
from gateway.model.work.transfers import CachedInstance, InstanceRef, StudyCache
from gateway.sharing.identity.patients import identity_of
from gateway.sharing.merge import texts
from policy.parties import TrustId
from storage.store import SqlStore
from storage.work import jobs

log = structlog.get_logger(__name__)

ARRIVED = "report-arrived"
FEED = "dicom"
"""How the store doors are called among a trust's feeds."""
OBJECT_BYTES_MAX = 48 * 1024 * 1024
LOOKED_FOR = timedelta(hours=1)
"""An object that is not kept by then was not stored."""
NOT_KEPT = "its sender began to store the object, and within an hour it was not kept"
_MANUFACTURER = "00080070"
TRIED_AFTER = timedelta(seconds=1)
ATTEMPTS_MAX = 500
"""Pauses grow to a quarter of an hour: some days without keys, or with too many dead letters."""


class Arrivals:
    """Hears of objects on their way in, and takes them in by jobs."""

    def __init__(
        self,
        store: SqlStore,
        cache: StudyCache,
        intake: ReportIntake,
        issuer_of: Callable[[TrustId], str],
        clock: Clock,
    ) -> None:
        """`issuer_of` names what a trust's systems mean by a bare Patient ID."""
        self._store = store
        self._cache = cache
        self._intake = intake
        self._issuer_of = issuer_of
        self._clock = clock

    async def coming(self, ref: InstanceRef, trust: TrustId) -> None:
        """An object of a trust is about to be kept; raises `StoreUnavailable`, for then it could not be kept either."""
        if ref.sop_class_uid not in REPORT_CLASSES:
            return
        now = self._clock.now()
        detail: dict[str, JsonValue] = {
            "study": ref.study_uid,
            "series": ref.series_uid,
            "class": ref.sop_class_uid,
            "instance": ref.sop_uid,
            "trust": trust.code,
            "at": now.isoformat(),
        }
        key = f"{ARRIVED}/{trust.code}/{ref.sop_uid}"
        due_at = now + TRIED_AFTER
        new = NewJob(
            ARRIVED, Lane.BACKGROUND, detail, key, follows_running=True, run_at=due_at, attempts_max=ATTEMPTS_MAX
        )
        await self._store.write(partial(jobs.enqueue, new=new))

    def bytes_wanted(self, ref: InstanceRef) -> int:
        """How much of an object is wanted that may not be kept among images."""
        return OBJECT_BYTES_MAX if ref.sop_class_uid in REPORT_CLASSES else 0

    async def unkept(self, ref: InstanceRef, trust: TrustId, transfer_syntax: str, body: bytes) -> None:
        """Take in at once what may not be shared as an image: an opt-out of sharing is none of release (SAF-20).

        Raises `ServiceFault`; sealed like the reports of every other feed.
        """
        await self._take_in(self._read(ref, trust, transfer_syntax, self._clock.now(), body), trust)

    async def __call__(self, work: Work) -> None:
        """Take it in; it may have been taken in before."""
        try:
            await self._take(work.job)
        except ServiceFault as fault:
            if work.job.attempts >= work.job.attempts_max:
                reason, code = type(fault).__name__, work.job.detail.get("trust")
                log.error("stored report not taken in", alarm=True, trust=code, job=work.job.job_id, reason=reason)
            raise

    async def _take(self, job: Job) -> None:
        match job.detail:
            case {"study": str(study_uid), "instance": str(sop_uid), "trust": str(code), "at": str(at)}:
                trust, told_at = TrustId(code), datetime.fromisoformat(at)
            case _:
                raise JobFailed(FailureKind.PERMANENT, "it names no object")
        kept = await self._cache.instance(study_uid, sop_uid)
        if kept is not None and kept.source == trust:
            await self._take_in(await self._message(kept), trust)
            return
        if self._clock.now() - told_at < LOOKED_FOR:
            raise JobFailed(FailureKind.TRANSIENT, "the object is not kept yet")
        log.warning("stored report not found", trust=code)
        series_uid, sop_class_uid = str(job.detail.get("series", "")), str(job.detail.get("class", ""))
        ref = InstanceRef(study_uid, series_uid, sop_uid, sop_class_uid)
        lost = FeedMessage(trust, FEED, sop_uid, _kind_of(ref), told_at, problem=NOT_KEPT, raw=_name_of(ref))
        await self._intake.take(lost)

    async def _take_in(self, message: FeedMessage | None, trust: TrustId) -> None:
        if message is None:
            log.info("stored report is a copy of this gateway", trust=trust.code)
            return
        await self._intake.take(message)

    async def _message(self, kept: CachedInstance) -> FeedMessage | None:
        bare = partial(FeedMessage, kept.source, FEED, kept.ref.sop_uid, _kind_of(kept.ref), kept.received_at)
        if kept.plain_bytes > OBJECT_BYTES_MAX:
            return bare(problem=f"the object has more than {OBJECT_BYTES_MAX:,} bytes", raw=_name_of(kept.ref))
        body = bytearray()
        async with self._cache.open(kept) as pieces:
            async for piece in pieces:
                body += piece
        return self._read(kept.ref, kept.source, kept.transfer_syntax, kept.received_at, bytes(body))

    def _read(
        self, ref: InstanceRef, trust: TrustId, transfer_syntax: str, received_at: datetime, body: bytes
    ) -> FeedMessage | None:
        """None: it is what this gateway wrote of another trust's report, or of this trust's own."""
        if _is_written_here(body, transfer_syntax):
            return None
        bare = partial(FeedMessage, trust, FEED, ref.sop_uid, _kind_of(ref), received_at)
        try:
            subject = self._subject(body, trust, transfer_syntax)
            report = read(body, transfer_syntax, Arrival(trust, FEED, received_at, subject))
        except (InvalidRequest, NotFound) as error:
            return bare(problem=str(error), raw=_name_of(ref))
        # The object itself is kept where images are, if anywhere: the message only names it.
        return bare(reports=(report,), raw=_name_of(ref))

    def _subject(self, body: bytes, trust: TrustId, transfer_syntax: str) -> Subject:
        reader = HeaderReader(transfer_syntax)
        if not reader.feed(body):
            reader.end()
        row = row_of(reader.header)
        identity = identity_of(row, self._issuer_of(trust))
        family, given = _name(row)
        return Subject(identity.nhs_number, "", identity.local_ids, family, given, _born(row))


def _is_written_here(body: bytes, transfer_syntax: str) -> bool:
    described = describe(body, transfer_syntax, is_whole=True)
    return described is not None and texts(orjson.loads(described.json), _MANUFACTURER) == [MANUFACTURER]


def _kind_of(ref: InstanceRef) -> str:
    return "DICOM PDF" if ref.sop_class_uid == ENCAPSULATED_PDF else "DICOM SR"


def _name_of(ref: InstanceRef) -> bytes:
    return orjson.dumps({"study": ref.study_uid, "series": ref.series_uid, "instance": ref.sop_uid})


def _name(row: Attributes) -> tuple[str, str]:
    values = row.get(PATIENT_NAME, {}).get("Value")
    name = values[0] if isinstance(values, list) and values else None
    whole = name.get("Alphabetic") if isinstance(name, dict) else None
    family, _, rest = (whole if isinstance(whole, str) else "").partition("^")
    return family, rest.partition("^")[0]


def _born(row: Attributes) -> date | None:
    values = row.get(PATIENT_BIRTH_DATE, {}).get("Value")
    text = values[0] if isinstance(values, list) and values else None
    try:
        return datetime.strptime(str(text), "%Y%m%d").date()  # noqa: DTZ007  # a day, not an instant
    except ValueError:
        return None
