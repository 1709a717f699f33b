"""What one archive can make the gateway hold or do by what it sends: little, and nothing to the harm of the others."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

from gateway.model.imaging import (
    Element,
)
from gateway.model.settings import Limits
from tests.attacks.house import House
from tests.sharing.rows import ANNE, CLARA, RZ2, asking_for, row


class Watched(dict[str, Element]):
    """A row that tells when nobody holds it any more."""


async def test_a_kept_page_holds_none_of_the_rows_that_were_no_answer(house: House) -> None:
    """An archive that ignores keys sends thousands of them; with a page kept for each question that is gigabytes."""
    other = Watched(row("1.9", CLARA))
    is_held = weakref.ref(other)
    house.archives[RZ2].rows = [row("1.1"), row("1.2"), other]
    page = await house.find(replace(asking_for(ANNE), limit=1))
    house.archives[RZ2].rows = ()
    del other
    gc.collect()
    assert page.snapshot and is_held() is None
    again = await house.find(replace(asking_for(ANNE), limit=1, offset=1), snapshot=page.snapshot)
    assert len(again.rows) == 1


async def test_rows_in_conflict_count_towards_what_pages_may_hold(house: House) -> None:
    house.build(Limits(snapshot_rows_max=4))
    house.archives[RZ2].rows = [row("1.1"), row("1.2"), row("1.3", None, name=""), row("1.4", None, name="")]
    question = replace(asking_for(ANNE), limit=1)
    first = await house.find(question)
    await house.find(replace(question, offset=1), snapshot=first.snapshot)
    assert len(house.archives[RZ2].asked) == 1
    house.archives[RZ2].rows = [*house.archives[RZ2].rows, row("1.5", None, name="")]
    first = await house.find(question)
    await house.find(replace(question, offset=1), snapshot=first.snapshot)
    assert len(house.archives[RZ2].asked) == 3
