"""Copies of a report among the images go with its text, once its retention is over (SAF-41)."""

from __future__ import annotations

from datetime import datetime, timedelta

from gateway.release.upkeep.forgetting import Forgetting, Retention
from tests.clinicians.test_changes import kept_texts
from tests.clinicians.ward import Ward, reported
from tests.retrieval.travels import STUDY, whole

DAY = timedelta(days=1)
KEPT = Retention(payloads=DAY, dead_letters=DAY, addressees=DAY, texts=10 * DAY, letters=DAY)


async def test_a_copy_among_the_images_goes_with_the_text(ward: Ward) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    assert await kept_texts(ward) == 1

    async def now() -> datetime:
        return ward.travels.clock.now()

    forgetting = Forgetting(ward.store, ward.travels.cache, lambda: KEPT, now)
    await ward.travels.clock.advance(9 * DAY.total_seconds())
    assert (await forgetting.forget()).versions == 0
    assert await kept_texts(ward) == 1
    await ward.travels.clock.advance(2 * DAY.total_seconds())
    assert (await forgetting.forget()).versions == 1
    assert await kept_texts(ward) == 0
