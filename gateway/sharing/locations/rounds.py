"""Sampling in the background: now and then a few patients are asked for where trusts' feeds are live (C7, SAF-05).

Only there can a negative ever spare a question, so nobody else is bothered. Those go first who were longest not asked
for. It never ends: a round that fails is told, counted, and followed by the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog

from gateway.model.errors import ServiceFault
from gateway.model.seams import Clock, SampleBook
from gateway.model.settings import SharingSettings
from gateway.sharing.locations.sampling import Sampling

log = structlog.get_logger(__name__)


class CountsSamples(Protocol):
    """Who keeps the figures."""

    def sampled(self, patients: int, at: datetime) -> None:
        """A round ended; so many patients were chosen in it."""

    def sampling_failed(self) -> None:
        """A round could not be gone."""


class Rounds:
    """Goes from patient to patient (`run`)."""

    def __init__(
        self,
        book: SampleBook,
        sampling: Callable[[], Sampling],
        settings: SharingSettings,
        clock: Clock,
        figures: CountsSamples,
        *,
        new_id: Callable[[], str],
    ) -> None:
        """`sampling` gives who may ask at this moment, or raises a `ServiceFault`."""
        self._book = book
        self._sampling = sampling
        self._settings = settings
        self._clock = clock
        self._figures = figures
        self._new_id = new_id
        self._after = ""
        """Where the next round begins in the register."""

    async def run(self) -> None:
        """Go round at intervals of the clock, for ever."""
        while True:
            await self._clock.sleep(60 * self._settings.sample_interval_minutes)
            await self.go_round()

    async def go_round(self) -> None:
        """Sample a few patients; raises nothing."""
        try:
            patients = await self._sampled()
        except ServiceFault as error:
            self._figures.sampling_failed()
            log.warning("locations not sampled", reason=str(error))
        except Exception as error:  # noqa: BLE001  # outermost frame of a round: a bug must not end the rounds unseen
            self._figures.sampling_failed()
            log.error("sampling of locations failed", error=type(error).__name__)
        else:
            self._figures.sampled(patients, self._clock.now())

    async def _sampled(self) -> int:
        sampling, feeds, now = self._sampling(), await self._book.feeds(), self._clock.now()
        live = [
            trust for trust in sorted(sampling.trusts) if self._settings.is_feed_live(trust.code, feeds.get(trust), now)
        ]
        if not live:
            return 0
        count_max = self._settings.sample_patients_max
        patients, self._after = await self._book.least_checked(live, self._after, count_max)
        await sampling.sample(patients, live, self._new_id())
        return len(patients)
