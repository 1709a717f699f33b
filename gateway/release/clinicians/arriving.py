"""Reports that trusts store as DICOM objects, taken in like those of any feed (domain.md A4).

A store waits for nothing of this: a job is queued before the object is kept, so that a fall in between loses nothing,
and finds it once it is there. Whose patient's it is, its identifiers say, by the trust's own issuer. What is another
trust's report is that trust's to release, and nothing is made of it here (`custodians.py`). What cannot be read is a
dead letter that a person sees, and so is an object of which nobody can say whose it is, or that its sender began to
store and that is not there. A letter only names its object where that is kept among images; a person has it read anew
by a job too, because the process that keeps images does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from gateway.model.errors import InvalidRequest, KeyClosed, NotFound, ServiceFault
from gateway.model.imaging import PATIENT_BIRTH_DATE, PATIENT_NAME, Attributes, JsonValue
from gateway.model.reporting.incoming import IncomingReport, Subject
from gateway.model.reporting.seams import FeedMessage
from gateway.model.seams import Clock
from gateway.model.work.jobs import FailureKind, Job, Lane, NewJob
from gateway.model.work.transfers import CachedInstance, InstanceRef, StudyCache
from gateway.release.clinicians.custodians import Elsewhere, Organisations, Whose, custodian
from gateway.release.contents import Contents
from gateway.release.intake import Intake, Replay
from gateway.sharing.identity.patients import identity_of
from gateway.sharing.merge import texts
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.registers.state import Author
from storage.release import links, messages
from storage.release.messages import KeptMessage
from storage.store import SqlStore
from storage.work import jobs, recipients

log = structlog.get_logger(__name__)

ARRIVED = "report-arrived"
FEED = "dicom"
"""How the store doors are called among a trust's feeds."""
OBJECT_BYTES_MAX = 48 * 1024 * 1024
LOOKED_FOR = timedelta(hours=1)
"""An object that is not kept by then was not stored."""
NOT_KEPT = "its sender began to store the object, and within an hour it was not kept"
NOBODY_KNOWS_WHOSE = "it may be another organisation's report: replay it if it is your own, else dismiss it"
CLAIMED = "another trust has stored the same object as its own report"
_GONE = "the object is not kept here: have it stored again"
_MANUFACTURER = "00080070"
TRIED_AFTER = timedelta(seconds=1)
ATTEMPTS_MAX = 500
"""Pauses grow to a quarter of an hour: some days without keys, or with too many dead letters."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """An object that a trust stored."""

    ref: InstanceRef
    trust: TrustId
    transfer_syntax: str
    received_at: datetime
    body: bytes
    raw: bytes
    """What a letter of it says."""
    kept_from: TrustId
    """Whose archive gave what is kept of it, byte for byte the same."""


class Arrivals:
    """Hears of objects on their way in, and takes them in by jobs."""

    def __init__(
        self,
        store: SqlStore,
        cache: StudyCache,
        intake: Intake,
        contents: Contents,
        organisations: Callable[[], Organisations],
        clock: Clock,
    ) -> None:
        self._store = store
        self._cache = cache
        self._intake = intake
        self._contents = contents
        self._organisations = organisations
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
        raw = _name_of(ref, transfer_syntax) + b"\n" + body
        stored = _Stored(ref, trust, transfer_syntax, self._clock.now(), body, raw, trust)
        await self._take_in(stored)

    async def __call__(self, work: Work) -> None:
        """Take it in; it may have been taken in before."""
        try:
            match work.job.detail:
                case {"letter": str(row_id), "by": str(by), "reason": str(reason)}:
                    await self._replay(Replay(row_id, by, reason))
                case _:
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
        is_waited_for = self._clock.now() - told_at < LOOKED_FOR
        if kept is not None and (kept.source == trust or not is_waited_for):
            await self._take_in(await self._opened(kept, trust))
            return
        if is_waited_for:
            raise JobFailed(FailureKind.TRANSIENT, "the object is not kept yet")
        log.warning("stored report not found", trust=code)
        series_uid, sop_class_uid = str(job.detail.get("series", "")), str(job.detail.get("class", ""))
        ref = InstanceRef(study_uid, series_uid, sop_uid, sop_class_uid)
        lost = FeedMessage(trust, FEED, sop_uid, _kind_of(ref), told_at, problem=NOT_KEPT, raw=_name_of(ref))
        await self._intake.take(lost)

    async def _take_in(self, stored: _Stored) -> None:
        match await self._whose(stored):
            case Whose.OWN:
                await self._file(stored)
            case Whose.ANOTHERS:
                log.info("stored report is a copy", trust=stored.trust.code)
            case Whose.UNKNOWN:
                log.warning("stored report of nobody knows whom", trust=stored.trust.code)
                await self._intake.take(self._dead(stored, NOBODY_KNOWS_WHOSE))

    async def _replay(self, replay: Replay) -> None:
        """Read a letter's object anew. That somebody does so says whose it is where nobody knew; it never makes another
        trust's report this one's.
        """
        letter = await self._store.read(lambda read: messages.get(read, replay.row_id))
        try:
            stored = await self._of_letter(letter, await self._contents.letter(replay.row_id))
            if await self._whose(stored) is Whose.ANOTHERS:
                raise InvalidRequest("the report is another trust's")
            await self._file(stored, replay)
        except (InvalidRequest, KeyClosed) as error:
            log.warning("dead letter not replayed", trust=letter.trust.code, message=replay.row_id, reason=str(error))
            raise JobFailed(FailureKind.PERMANENT, str(error)) from error

    async def _file(self, stored: _Stored, replay: Replay | None = None) -> None:
        """File it; whoever filed the same object before as its own releases it no more until a person has looked."""
        for report_id, trust in await self._store.read(partial(_claimed, stored=stored)):
            log.error("stored report of two trusts", alarm=True, trust=stored.trust.code, other=trust.code)
            await self._intake.doubt(report_id, trust, CLAIMED)
        await self._intake.take(self._message(stored), replay)

    async def _of_letter(self, letter: KeptMessage, raw: bytes) -> _Stored:
        """Raises `InvalidRequest` where the object is not kept any more."""
        name, _, body = raw.partition(b"\n")
        said = orjson.loads(name)
        ref = InstanceRef(said["study"], said["series"], said["instance"], said["class"])
        if body:
            return _Stored(ref, letter.trust, said["syntax"], letter.received_at, body, raw, letter.trust)
        kept = await self._cache.instance(ref.study_uid, ref.sop_uid)
        if kept is None:
            raise InvalidRequest(_GONE)
        return await self._opened(kept, letter.trust)

    async def _opened(self, kept: CachedInstance, trust: TrustId) -> _Stored:
        body = bytearray()
        if kept.plain_bytes <= OBJECT_BYTES_MAX:
            async with self._cache.open(kept) as pieces:
                async for piece in pieces:
                    body += piece
        # The object itself is kept where images are: the message only names it.
        raw = _name_of(kept.ref)
        return _Stored(kept.ref, trust, kept.transfer_syntax, kept.received_at, bytes(body), raw, kept.source)

    async def _whose(self, stored: _Stored) -> Whose:
        described = _described(stored)
        if texts(described, _MANUFACTURER) == [MANUFACTURER]:
            return Whose.ANOTHERS  # or its own, which its archive has in that form too
        known, is_filed = await self._store.read(partial(_known, stored=stored))
        # What was filed before is so again, whatever became of it elsewhere since.
        return Whose.OWN if is_filed else custodian(stored.trust, described, known, self._organisations())

    def _message(self, stored: _Stored) -> FeedMessage:
        if not stored.body:
            return self._dead(stored, f"the object has more than {OBJECT_BYTES_MAX:,} bytes")
        try:
            arrival = Arrival(stored.trust, FEED, stored.received_at, self._subject(stored))
            report = read(stored.body, stored.transfer_syntax, arrival)
        except (InvalidRequest, NotFound) as error:
            return self._dead(stored, str(error))
        return _bare(stored, reports=(report,))

    def _dead(self, stored: _Stored, problem: str) -> FeedMessage:
        return _bare(stored, problem=problem)

    def _subject(self, stored: _Stored) -> Subject:
        reader = HeaderReader(stored.transfer_syntax)
        if not reader.feed(stored.body):
            reader.end()
        row = row_of(reader.header)
        identity = identity_of(row, self._organisations().patient_issuers.get(stored.trust, ""))
        family, given = _name(row)
        return Subject(identity.nhs_number, "", identity.local_ids, family, given, _born(row))


def queue_replay(tx: Tx, letter: KeptMessage, author: Author) -> None:
    """Have a dead letter's object read anew; raises `InvalidRequest` where it is no dead letter any more."""
    messages.hold_dead(tx, letter.row_id)
    detail: dict[str, JsonValue] = {
        "letter": letter.row_id,
        "by": author.subject,
        "reason": author.reason,
        "trust": letter.trust.code,
    }
    jobs.enqueue(tx, NewJob(ARRIVED, Lane.BACKGROUND, detail, f"{ARRIVED}/{letter.row_id}", attempts_max=ATTEMPTS_MAX))


def _known(read: Read, stored: _Stored) -> tuple[Elsewhere, bool]:
    """What is known of an object beside what it says, and whether it was filed as this trust's before."""
    ref, trust = stored.ref, stored.trust
    filed = messages.find(read, trust, FEED, ref.sop_uid)
    given = recipients.given_to(read, ref.study_uid, trust)
    is_elsewhere = bool(given) or stored.kept_from != trust or links.has_others(read, ref.study_uid, trust)
    return Elsewhere(ref.sop_uid in given, is_elsewhere), filed is not None and bool(filed.report_ids)


def _claimed(read: Read, stored: _Stored) -> list[tuple[str, TrustId]]:
    """The reports that other trusts made of an object which this trust now files for the first time."""
    filed = messages.find(read, stored.trust, FEED, stored.ref.sop_uid)
    is_filed = filed is not None and bool(filed.report_ids)
    return [] if is_filed else links.others_document(read, stored.ref.sop_uid, stored.trust)


def _described(stored: _Stored) -> Attributes:
    """All that it says; nothing where it cannot be read."""
    try:
        described = describe(stored.body, stored.transfer_syntax, is_whole=True) if stored.body else None
    except InvalidRequest:
        return {}
    said: Attributes = orjson.loads(described.json) if described is not None else {}
    return said


def _bare(stored: _Stored, *, reports: tuple[IncomingReport, ...] = (), problem: str = "") -> FeedMessage:
    kind, name = _kind_of(stored.ref), stored.ref.sop_uid
    return FeedMessage(stored.trust, FEED, name, kind, stored.received_at, reports, problem, stored.raw)


def _kind_of(ref: InstanceRef) -> str:
    return "DICOM PDF" if ref.sop_class_uid == ENCAPSULATED_PDF else "DICOM SR"


def _name_of(ref: InstanceRef, transfer_syntax: str = "") -> bytes:
    named = {"study": ref.study_uid, "series": ref.series_uid, "instance": ref.sop_uid, "class": ref.sop_class_uid}
    return orjson.dumps({**named, "syntax": transfer_syntax} if transfer_syntax else named)


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
