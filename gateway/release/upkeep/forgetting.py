"""Forget what is kept once its retention is over (SAF-41): messages as they came, dead letters, reports, addressees.

What messages said outlives them as versions of reports, and each row outlives what stood beside it: a message that
comes again is still the same one. A report's copies among the images go before its texts, so that a fall in between
leaves nothing that nobody looks for. A wrong clock takes nothing away before its time (SAF-31).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from gateway.jobs.runner import Work
from gateway.model.work.transfers import StudyCache
from gateway.release.clinicians.versions import studies_with
from storage.database import Tx
from storage.release import messages
from storage.release.upkeep import forgetting
from storage.store import SqlStore

log = structlog.get_logger(__name__)

FORGET = "reports-forget"
"""The kind of the job that forgets."""
FORGET_INTERVAL_S = 86_400.0
ROUNDS_MAX = 2_000
GONE = "This report is no longer kept here. The hospital that wrote it has the record."
"""What stands on a patient's page in the place of a report whose retention is over."""


class KeepsLetters(Protocol):
    """A folder in which letters lie after they were taken."""

    async def forget(self, before: datetime) -> int:
        """Remove those that were taken before an instant; how many files that was. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long it is kept."""

    payloads: timedelta
    dead_letters: timedelta
    addressees: timedelta
    texts: timedelta
    letters: timedelta


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was forgotten."""

    messages: int = 0
    versions: int = 0
    addressees: int = 0
    letters: int = 0


class Forgetting:
    """The job."""

    def __init__(
        self,
        store: SqlStore,
        cache: StudyCache,
        retention: Callable[[], Retention],
        now: Callable[[], Awaitable[datetime]],
        folders: Iterable[KeepsLetters] = (),
    ) -> None:
        """`now` gives time that no wrong clock takes ahead: see `gateway.keeping.counting`."""
        self._store = store
        self._cache = cache
        self._retention = retention
        self._now = now
        self._folders = tuple(folders)

    async def __call__(self, work: Work) -> None:
        """The job that recurs."""
        gone = await self.forget()
        if gone != Forgotten():
            log.info("contents of reports forgotten", job=work.job.job_id, **asdict(gone))

    async def forget(self) -> Forgotten:
        """Forget what is due."""
        now, kept = await self._now(), self._retention()
        some = partial(messages.forget_payloads, filed_before=now - kept.payloads, dead_before=now - kept.dead_letters)
        addressees = partial(forgetting.forget_addressees, before=now - kept.addressees)
        return Forgotten(
            await self._all(some),
            await self._all_texts(now - kept.texts),
            await self._all(addressees),
            sum([await _emptied(each, now - kept.letters) for each in self._folders]),
        )

    async def _all(self, some: Callable[[Tx], int]) -> int:
        count = 0
        for _ in range(ROUNDS_MAX):
            forgotten = await self._store.write(some)
            count += forgotten
            if not forgotten:
                break
        return count

    async def _all_texts(self, before: datetime) -> int:
        count = 0
        for _ in range(ROUNDS_MAX):
            report_ids = await self._store.write(partial(forgetting.over, before=before))
            await self._give_up_copies(report_ids)
            some = partial(forgetting.forget_texts, report_ids=report_ids, before=before, words=GONE)
            forgotten = await self._store.write(some)
            count += forgotten
            if not forgotten:
                break
        return count

    async def _give_up_copies(self, report_ids: Sequence[str]) -> None:
        """Give studies up in which these stand among the images: images are fetched again when somebody asks."""
        for study_uid, written in (await self._store.read(partial(studies_with, report_ids=report_ids))).items():
            kept = await self._cache.instances(study_uid)
            if any(each.ref.sop_uid in written for each in kept):
                await self._cache.forget(study_uid, "the retention of its reports is over")


async def _emptied(folder: KeepsLetters, before: datetime) -> int:
    try:
        return await folder.forget(before)
    except OSError as error:
        log.warning("letters not forgotten", error=type(error).__name__)
        return 0
