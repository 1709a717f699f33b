"""Every cut of an answer shows, whatever the page (C12); of one trust's part see `test_broker`."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from gateway.model.settings import Limits
from policy.parties import NhsNumber
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.region import Region
from tests.sharing.rows import asking_for

MATCHES_MAX = 5
PEOPLE = [NhsNumber(digits) for digits in ("9990000018", "9990000026", "9990000034", "9990000042", "9990000050")]
STUDIES = (0, 1, 5, 6, 9)
"""How many studies each of these people has."""


async def test_every_cut_and_every_page_adds_up(store: SqlStore, clock: FakeClock) -> None:
    region = Region(store, clock, limits=Limits(matches_max=MATCHES_MAX))
    region.trust("RZ1")
    for person, count in zip(PEOPLE, STUDIES, strict=True):
        for number in range(count):
            region.trust("RZ2" if number % 2 else "RZ3").with_study(f"1.{person.digits[-3:]}.{number}", of=person)
    for person in PEOPLE:
        await region.refer(person, to="RZ1")
    for (person, count), limit, offset in product(
        zip(PEOPLE, STUDIES, strict=True), (None, 0, 1, 4, 5, 6), (0, 1, 4, 5, 6)
    ):
        found = await region.find(replace(asking_for(person), limit=limit, offset=offset))
        whole = min(count, MATCHES_MAX)
        shown = max(0, min(whole - offset, whole if limit is None else limit))
        assert len(found.rows) == shown
        assert found.remaining == max(0, whole - offset - shown)
        assert found.truncated_at == (MATCHES_MAX if count > MATCHES_MAX else None)
