"""What one archive can make the gateway hold or do by what it sends: little, and nothing to the harm of the others."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

from gateway.model.imaging import (
    ACCESSION_NUMBER,
    Element,
    Key,
    Level,
    Query,
)
from gateway.model.settings import Limits
from gateway.sharing.broker import QUALITY_ITEMS_MAX
from gateway.sharing.merge import PEOPLE_MAX
from policy.parties import NhsNumber
from storage.registers.quality import open_items
from tests.attacks.house import House, found_by, states
from tests.sharing.rows import ANNE, CLARA, RZ2, RZ3, asking_for, asking_for_study, row


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


def people(count: int) -> list[NhsNumber]:
    """As many NHS numbers as wanted, all of the synthetic range."""
    found = []
    for first in range(999_100_000, 999_999_999):
        check = (
            11 - sum(int(digit) * weight for digit, weight in zip(str(first), range(10, 1, -1), strict=True)) % 11
        ) % 11
        if check < 10:
            found.append(NhsNumber.parse(f"{first}{check}"))
        if len(found) == count:
            break
    return found


WITH_THE_NUMBER = Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", ("A123",)),))


async def test_an_archive_that_answers_with_too_many_people_is_not_believed_and_the_others_are(house: House) -> None:
    """Reading the registers for thousands of people would cost every other question its time."""
    crowd = [row(f"1.2.{n}", number, accession="A123") for n, number in enumerate(people(PEOPLE_MAX + 1))]
    house.archives[RZ2].rows = [row("1.1", accession="A123")]
    house.archives[RZ3].rows = crowd
    matches = await house.find(WITH_THE_NUMBER)
    assert found_by(matches) == [("1.1", (RZ2,))]
    assert states(matches) == {RZ2: "answered", RZ3: "invalid-answer"}
    house.archives[RZ3].rows = crowd[:PEOPLE_MAX]
    assert states(await house.find(WITH_THE_NUMBER)) == {RZ2: "answered", RZ3: "answered"}


async def test_as_many_people_are_believed_as_studies_were_asked_for(house: House) -> None:
    uids = [f"1.2.{n}" for n in range(PEOPLE_MAX + 1)]
    house.archives[RZ3].rows = [row(uid, number) for uid, number in zip(uids, people(len(uids)), strict=True)]
    assert states(await house.find(asking_for_study(*uids)))[RZ3] == "answered"


async def test_an_archive_cannot_withhold_others_rows_by_spelling_a_name_in_too_many_ways(house: House) -> None:
    house.archives[RZ2].rows = [row("1.1")]
    house.archives[RZ3].rows = [row(f"1.2.{n}", name=f"SMITH^ANNE{n}") for n in range(PEOPLE_MAX + 1)]
    matches = await house.find(asking_for(ANNE))
    assert found_by(matches) == [("1.1", (RZ2,))]
    assert states(matches)[RZ3] == "invalid-answer"


async def test_what_one_answer_can_write_into_the_register_of_faults_is_bounded(house: House) -> None:
    house.archives[RZ3].rows = [row(f"1.2.{n}", None, name="") for n in range(3 * QUALITY_ITEMS_MAX)]
    matches = await house.find(asking_for(ANNE))
    assert [source.trust for source in matches.sources if source.has_identity_conflict] == [RZ3]
    assert len(await house.store.read(open_items)) == QUALITY_ITEMS_MAX
