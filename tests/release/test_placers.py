"""Reports that a feed names by nothing but the number of whoever ordered them: neither joined nor split by mistake."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from gateway.model.reporting.incoming import IncomingReport
from gateway.model.reporting.seams import MessageState
from gateway.release.filing.numbers import numbers_of
from policy.release.reports import Said
from storage.release import links
from tests.release.incoming import NORTH, OMAR, VERIFIED_AT, message
from tests.release.rig import Rig
from tests.release.test_numbers import rig, said_of, standing_texts, take

__all__ = ["rig"]


def placed(
    names: str, text: str, hours: int = 0, said: Said = Said.VERIFIED, *, exam: str = "XCHES", days: int = 1
) -> IncomingReport:
    """A statement about what was ordered under `P-A` and so on, days ago, named by the lowest of these."""
    plain = said_of("A", text, hours, said, order_numbers=(), accessions=(), report_number=f"P-{min(names)}")
    codes = (exam,) if exam else ()
    examined = replace(plain.exam, codes=codes, at=VERIFIED_AT - timedelta(days=days))
    return replace(plain, placer_numbers=tuple(f"P-{each}" for each in names), exam=examined)


def renamed(said: IncomingReport, tag: str) -> IncomingReport:
    """The same about orders of its own."""
    return replace(
        said,
        report_number=said.report_number + tag,
        placer_numbers=tuple(each + tag for each in said.placer_numbers),
        order_numbers=tuple(each + tag for each in said.order_numbers),
        accessions=tuple(each + tag for each in said.accessions),
    )


KNEE = placed("A", "of the knee", 1, exam="XKNEE")
STANDING: list[tuple[str, list[IncomingReport], list[str]]] = [
    ("two examinations", [placed("A", "of the chest"), KNEE], ["of the chest", "of the knee"]),
    ("two days", [placed("A", "first"), placed("A", "second", 1, days=0)], ["first", "second"]),
    ("final again", [placed("A", "wrong"), placed("A", "right", 1)], ["right"]),
    ("fewer placers", [placed("AB", "wrong"), placed("B", "right", 1, Said.CORRECTED)], ["right"]),
    ("more placers", [placed("B", "wrong"), placed("AB", "right", 1, Said.CORRECTED)], ["right"]),
    ("other placers", [placed("AB", "wrong"), placed("BC", "right", 1)], ["right"]),
    ("withdrawn by another placer", [placed("AB", "wrong"), placed("B", "", 1, Said.WITHDRAWN, exam="")], []),
    ("recoded", [placed("A", "wrong"), placed("A", "right", 1, Said.CORRECTED, exam="XKNEE")], ["right"]),
    (
        "with an order number from then on",
        [placed("A", "wrong"), said_of("A", "right", 1, Said.CORRECTED, placer_numbers=("P-A",))],
        ["right"],
    ),
    (
        "without its order number once",
        [said_of("A", "wrong", placer_numbers=("P-A",)), placed("A", "", 1, Said.TAKEN_BACK)],
        [],
    ),
]


@pytest.mark.parametrize(("said", "stands"), [each[1:] for each in STANDING], ids=[each[0] for each in STANDING])
async def test_what_is_known_by_its_placer_is_found_by_it_and_told_apart_by_its_examination(
    rig: Rig, said: list[IncomingReport], stands: list[str]
) -> None:
    for number, order in enumerate(permutations(said)):
        tag = f"-{number}"
        assert set(await take(rig, [renamed(each, tag) for each in order], tag)) == {MessageState.FILED}
        found = await standing_texts(rig)
        assert sorted(text for _, text in found) == sorted(stands * (number + 1)), [each.content.text for each in order]


async def test_one_message_of_two_examinations_makes_two_reports(rig: Rig) -> None:
    await rig.intake.take(message(placed("A", "of the chest"), replace(KNEE, stated_at=VERIFIED_AT)))
    assert sorted(text for _, text in await standing_texts(rig)) == ["of the chest", "of the knee"]


async def test_of_two_examinations_only_the_one_that_is_corrected_gives_way(rig: Rig) -> None:
    corrected = placed("A", "right", 2, Said.CORRECTED, exam="XKNEE")
    await take(rig, [placed("A", "of the chest"), KNEE, corrected])
    assert sorted(text for _, text in await standing_texts(rig)) == ["of the chest", "right"]


async def test_a_correction_of_nobody_knows_which_stops_both(rig: Rig) -> None:
    await take(rig, [placed("A", "of the chest"), KNEE, placed("A", "right", 2, Said.CORRECTED, exam="")])
    assert [text for _, text in await standing_texts(rig)] == ["right"]


async def test_a_text_of_nobody_knows_which_waits_for_a_person(rig: Rig) -> None:
    await take(rig, [placed("A", "of the chest"), KNEE])
    assert await take(rig, [placed("B", "which", 2, exam="", days=1)], "other") == [MessageState.FILED]
    assert await take(rig, [placed("AC", "which", 2, exam="")], "which") == [MessageState.DEAD]


async def test_another_surgery_issues_the_same_number_for_another_patient(rig: Rig) -> None:
    named = said_of("A", "anne's", placer_numbers=("P-A",))
    others = replace(said_of("B", "omar's", 1, placer_numbers=("P-A",)), subject=OMAR)
    await take(rig, [named, others])
    assert sorted(text for _, text in await standing_texts(rig)) == ["anne's", "omar's"]


async def test_whoever_has_a_better_number_is_not_looked_for_by_a_placers(rig: Rig) -> None:
    named = [said_of(each, "", placer_numbers=("P-A",)) for each in "AB"]
    await take(rig, named)
    ordered = numbers_of(named[1])
    found = await rig.store.read(lambda read: links.namesakes(read, NORTH, sorted(ordered.all)))
    assert len(found) == 1
    bare = numbers_of(placed("A", ""))
    assert len(await rig.store.read(lambda read: links.namesakes(read, NORTH, sorted(bare.all)))) == 2
