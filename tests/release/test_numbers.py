"""A report of several numbers, and messages that name only some: no text stays that another message corrected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.model.reporting.incoming import Content, IncomingReport, ReportSource
from gateway.model.reporting.seams import MessageState
from policy.release.lifecycle import fold
from policy.release.reports import Said, Standing, Verification, Version
from storage.release import holds, reports
from storage.release.reports import KeptReport
from storage.release.tables import report as report_table
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import OMAR, VERIFIED_AT, incoming, message
from tests.release.rig import Rig
from tests.storage.keyrings import Place

HOUR = timedelta(hours=1)
TOLERANCE = timedelta(days=2)


def said_of(names: str, text: str, hours: int = 0, said: Said = Said.VERIFIED, **otherwise: object) -> IncomingReport:
    """A statement about orders that are named by letters: `AB` names F-A and F-B, which have numbers A-A and A-B."""
    at = VERIFIED_AT + hours * HOUR
    plain = incoming(
        report_number=f"F-{names[0]}",
        order_numbers=tuple(f"F-{each}" for each in names),
        accessions=tuple(f"A-{each}" for each in names),
        said=said,
        stated_at=at,
        verification=Verification(at, "Dr A Roentgen")
        if said in (Said.VERIFIED, Said.CORRECTED, Said.APPENDED)
        else None,
        content=Content(text),
    )
    return replace(plain, **otherwise)  # type: ignore[arg-type]  # by name


def by_accession(names: str, text: str, hours: int = 0, said: Said = Said.VERIFIED) -> IncomingReport:
    """A statement that knows no order number."""
    return said_of(
        names, text, hours, said, order_numbers=(), report_number=f"A-{names[0]}", source=ReportSource.DICOM_SR
    )


@pytest.fixture
async def rig(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    place = Place(tmp_path / "keys", clock)
    async with place.keyring() as keys:
        yield Rig(store, keys)


async def take(rig: Rig, said: Iterable[IncomingReport], tag: str = "m") -> list[MessageState]:
    """What became of each, in a message of its own."""
    return [(await rig.intake.take(message(each, name=f"{tag}-{at}"))).state for at, each in enumerate(said)]


async def versions_of(rig: Rig, report_id: str) -> tuple[Version, ...]:
    """Every version of a report."""
    return await rig.store.read(lambda read: reports.versions(read, report_id))


async def numbered(rig: Rig, said: IncomingReport) -> KeptReport:
    """The report of the statement's own number."""
    found = await rig.store.read(lambda read: reports.find(read, said.trust, said.report_number))
    assert found is not None
    return found


async def held_for(rig: Rig, report_id: str) -> list[str]:
    """The kinds of the holds in force."""
    return [each.kind.value for each in await rig.store.read(lambda read: holds.holds(read, report_id))]


async def standing_texts(rig: Rig, marked: str = "") -> list[tuple[str, str]]:
    """Of each report whose number ends so: whose it is, and the text that stands."""
    query = select(report_table.c.report_id).order_by(report_table.c.report_number)
    ids = await rig.store.read(lambda read: list(read.connection.execute(query).scalars()))
    found: list[tuple[str, str]] = []
    for report_id in ids:
        kept = await rig.kept(report_id)
        stands = fold(await versions_of(rig, report_id), TOLERANCE)
        if stands.current is None or not kept.report_number.endswith(marked):
            continue
        texts = [(await rig.contents.open(stands.content_of)).content.text]
        texts += [(await rig.contents.open(each.version_id)).content.text for each in stands.addenda]
        found += [(kept.patient_key, text) for text in texts]
    return found


def renamed(said: IncomingReport, tag: str) -> IncomingReport:
    """The same about orders of its own."""
    return replace(
        said,
        report_number=said.report_number + tag,
        order_numbers=tuple(each + tag for each in said.order_numbers),
        accessions=tuple(each + tag for each in said.accessions),
    )


JOINED = said_of("AB", "wrong")
STOPPED: list[tuple[str, list[IncomingReport], set[str]]] = [
    ("corrected", [JOINED, said_of("B", "right", 2, Said.CORRECTED)], {"right"}),
    ("final again", [JOINED, said_of("B", "right", 2)], {"right"}),
    ("taken back", [JOINED, said_of("B", "", 2, Said.TAKEN_BACK)], set()),
    ("withdrawn", [JOINED, said_of("B", "", 2, Said.WITHDRAWN)], set()),
    ("cancelled", [JOINED, said_of("B", "", 2, Said.CANCELLED)], set()),
    ("added to", [JOINED, said_of("B", "and more", 2, Said.APPENDED)], {"wrong", "and more"}),
    ("corrected by accession", [JOINED, by_accession("B", "right", 2, Said.CORRECTED)], {"right"}),
    ("joined later", [said_of("B", "wrong"), said_of("AB", "right", 2)], {"right"}),
    ("joined and corrected", [said_of("B", "old"), said_of("AB", "wrong", 2), said_of("B", "right", 4)], {"right"}),
    ("three", [said_of("ABC", "wrong"), said_of("C", "", 2, Said.TAKEN_BACK), said_of("BC", "right", 4)], {"right"}),
]


@pytest.mark.parametrize(("said", "stands"), [each[1:] for each in STOPPED], ids=[each[0] for each in STOPPED])
async def test_what_names_one_order_reaches_the_report_of_several_in_every_order(
    rig: Rig, said: list[IncomingReport], stands: set[str]
) -> None:
    for number, order in enumerate(permutations(said)):
        tag = f"-{number}"
        assert set(await take(rig, [renamed(each, tag) for each in order], tag)) == {MessageState.FILED}
        found = await standing_texts(rig, tag)
        assert {text for _, text in found} == stands, [each.content.text for each in order]
        assert len(found) == len(stands)


async def test_two_reports_that_one_message_joins_show_no_text_that_was_replaced(rig: Rig) -> None:
    said = [said_of("A", "old of a"), said_of("B", "old of b"), said_of("AB", "of both", 2), said_of("B", "right", 4)]
    for number, order in enumerate(permutations(said)):
        tag = f"-{number:02}"
        await take(rig, [renamed(each, tag) for each in order], tag)
        shown = {text for _, text in await standing_texts(rig, tag)}
        assert shown == {"right"}, [each.content.text for each in order]


@pytest.mark.parametrize("said", [Said.TAKEN_BACK, Said.CANCELLED, Said.WITHDRAWN])
async def test_what_stops_a_report_reaches_every_report_that_it_names(rig: Rig, said: Said) -> None:
    await take(rig, [said_of("A", "one"), said_of("B", "two")])
    assert len(await standing_texts(rig)) == 2
    await take(rig, [said_of("AB", "", 2, said)], "stop")
    assert await standing_texts(rig) == []


@pytest.mark.parametrize("text", ["", "first"])
@pytest.mark.parametrize("said", [Said.TAKEN_BACK, Said.CANCELLED, Said.WITHDRAWN])
async def test_what_stops_an_accession_stops_every_opinion_on_it(rig: Rig, said: Said, text: str) -> None:
    opinions = [said_of("A", "first"), said_of("X", "second", 1, accessions=("A-A",))]
    await take(rig, [*opinions, by_accession("A", text, 2, said)])
    assert await standing_texts(rig) == []


async def test_opinions_of_distinct_order_numbers_stay_reports_of_their_own(rig: Rig) -> None:
    opinions = [said_of("A", "first"), said_of("X", "second", 1, accessions=("A-A",))]
    for number, order in enumerate(permutations(opinions)):
        tag = f"-{number}"
        await take(rig, [renamed(each, tag) for each in order], tag)
        assert {text for _, text in await standing_texts(rig, tag)} == {"first", "second"}
    copies = [by_accession("A", "second", 1)]
    assert await take(rig, [renamed(each, "-0") for each in copies], "copy") == [MessageState.FILED]
    assert {text for _, text in await standing_texts(rig, "-0")} == {"first", "second"}


async def test_a_text_that_may_be_of_either_opinion_waits_for_a_person(rig: Rig) -> None:
    opinions = [said_of("A", "first"), said_of("X", "second", 1, accessions=("A-A",))]
    await take(rig, opinions)
    assert await take(rig, [by_accession("A", "third", 2)], "which") == [MessageState.DEAD]
    assert {text for _, text in await standing_texts(rig)} == {"first", "second"}
    # Of a correction one thing is certain: one of the texts that stand is wrong.
    assert await take(rig, [by_accession("A", "fourth", 3, Said.CORRECTED)], "one") == [MessageState.FILED]
    assert {text for _, text in await standing_texts(rig)} == {"fourth"}


async def test_two_patients_are_never_made_one_by_a_number(rig: Rig) -> None:
    said = [JOINED, said_of("B", "omar's", 2, Said.CORRECTED, subject=OMAR)]
    for number, order in enumerate(permutations(said)):
        tag = f"-{number}"
        taken = [
            await rig.intake.take(message(renamed(each, tag), name=f"{tag}-{at}")) for at, each in enumerate(order)
        ]
        for each in order:
            kept = await numbered(rig, renamed(each, tag))
            assert {one.patient for one in await versions_of(rig, kept.report_id)} == {each.subject.key}
        assert await standing_texts(rig, tag) == [(OMAR.key, "omar's")]
        assert await held_for(rig, taken[1].report_ids[0]) == ["identity"]


async def test_a_withdrawal_under_another_patient_stops_the_report_and_brings_nobody_into_it(rig: Rig) -> None:
    [state] = await take(rig, [JOINED])
    taken = await rig.intake.take(message(said_of("B", "", 2, Said.WITHDRAWN, subject=OMAR), name="w"))
    assert state is taken.state is MessageState.FILED
    assert await standing_texts(rig) == []
    kept = await numbered(rig, JOINED)
    assert kept.patient_key == JOINED.subject.key
    versions = await versions_of(rig, kept.report_id)
    assert fold(versions, TOLERANCE).standing is Standing.WITHDRAWN
    assert (await rig.contents.open(versions[-1].version_id)).subject.nhs_number is None


async def test_an_order_cancelled_beside_a_text_that_stands_cancels_no_text(rig: Rig) -> None:
    await take(rig, [JOINED])
    both = message(said_of("A", "of a alone", 2), said_of("B", "", 2, Said.CANCELLED), name="both")
    await rig.intake.take(both)
    assert [text for _, text in await standing_texts(rig)] == ["of a alone"]


async def test_the_same_statements_again_change_nothing(rig: Rig) -> None:
    said = [said_of("A", "old of a"), said_of("B", "old of b"), said_of("AB", "of both", 2)]
    await take(rig, said)
    filed = (await rig.events()).count("report-filed")
    await take(rig, reversed(said), "again")
    assert (await rig.events()).count("report-filed") == filed
