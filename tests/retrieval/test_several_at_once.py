"""A door may have several images on their way at once: each counts by what is said of it, whenever that is."""

from __future__ import annotations

from gateway.model.work.retrievals import Counts
from tests.retrieval.travels import Travels
from tests.sharing.rows import ANNE


async def test_what_is_said_of_an_image_counts_after_the_next_one_was_given_too(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    await travels.region.refer(ANNE, to="RZ1")
    async with travels.retrieval() as delivery:
        first, second, third = [item async for item in delivery]
        assert delivery.counts == Counts(remaining=3, completed=0, failed=0, warning=0)
        delivery.sent(second)
        delivery.sent(first, "it changed data elements")
        assert delivery.counts == Counts(remaining=1, completed=1, failed=0, warning=1)
    # What nothing was said of has failed.
    assert delivery.counts == Counts(remaining=0, completed=1, failed=1, warning=1)
    assert [failure.ref for failure in delivery.failures] == [third.ref]
