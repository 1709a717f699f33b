"""Structured reports of one accession number: one takes another's place only if it says so (REL-38, domain.md A4)."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from gateway.model.reporting.incoming import IncomingReport, ReportSource
from gateway.model.reporting.seams import MessageState
from policy.release.lifecycle import fold
from policy.release.reports import Problem, Said
from tests.release.incoming import OMAR, message
from tests.release.rig import Rig
from tests.release.test_numbers import TOLERANCE, by_accession, numbered, rig, said_of, standing_texts, versions_of

__all__ = ["rig"]


def document(
    uid: str, text: str, hours: int = 0, said: Said = Said.VERIFIED, *, follows: tuple[str, ...] = ()
) -> IncomingReport:
    """A structured report of accession number A-A that names no order."""
    return replace(by_accession("A", text, hours, said), message_id=uid, predecessors=follows)


def tagged(said: IncomingReport, tag: str) -> IncomingReport:
    """The same of an order and under UIDs of its own."""
    return replace(
        said,
        message_id=said.message_id + tag,
        predecessors=tuple(each + tag for each in said.predecessors),
        report_number=said.report_number + tag,
        order_numbers=tuple(each + tag for each in said.order_numbers),
        accessions=tuple(each + tag for each in said.accessions),
    )


async def take(rig: Rig, *said: IncomingReport) -> set[MessageState]:
    """What became of these, each in a message of its own."""
    return {(await rig.intake.take(message(each, name=each.message_id))).state for each in said}


FILLED = replace(said_of("A", "as hl7 has it"), message_id="hl7")
MEASURED = replace(
    said_of("A", "52 mm", -2, Said.PRELIMINARY, accessions=()), message_id="m", source=ReportSource.DICOM_SR
)
STANDING: list[tuple[str, list[IncomingReport], list[str]]] = [
    ("two", [document("1", "first"), document("2", "second", 1)], ["first", "second"]),
    ("followed", [document("1", "first"), document("2", "right", 1, Said.CORRECTED, follows=("1",))], ["right"]),
    (
        "a chain",
        [
            document("1", "first"),
            document("2", "better", 1, Said.CORRECTED, follows=("1",)),
            document("3", "right", 2, Said.CORRECTED, follows=("2",)),
        ],
        ["right"],
    ),
    (
        "added to",
        [document("1", "first"), document("2", "and more", 1, Said.APPENDED, follows=("1",))],
        ["and more", "first"],
    ),
    (
        "followed by what nobody sent",
        [document("1", "first"), document("3", "right", 2, Said.CORRECTED, follows=("2",))],
        ["right"],
    ),
    ("a copy beside a feed's", [FILLED, document("1", "as hl7 has it")], ["as hl7 has it"]),
    (
        "a copy under another UID, verified once more",
        [document("1", "first"), document("2", "first", 1)],
        ["first"],
    ),
    (
        "measurements beside a feed's",
        [FILLED, MEASURED, document("1", "as hl7 has it")],
        ["as hl7 has it"],
    ),
    (
        "a second opinion beside a feed's",
        [FILLED, document("1", "as hl7 has it"), document("2", "second", 1)],
        ["as hl7 has it", "second"],
    ),
]


@pytest.mark.parametrize(("said", "stands"), [each[1:] for each in STANDING], ids=[each[0] for each in STANDING])
async def test_a_document_takes_the_place_of_what_it_follows_and_of_nothing_else(
    rig: Rig, said: list[IncomingReport], stands: list[str]
) -> None:
    for number, order in enumerate(permutations(said)):
        tag = f"-{number}"
        assert await take(rig, *(tagged(each, tag) for each in order)) == {MessageState.FILED}
        found = await standing_texts(rig)
        assert sorted(text for _, text in found) == sorted(stands * (number + 1)), [each.message_id for each in order]


OPINIONS = [document("1", "first"), document("2", "second", 1)]
AMENDED = document("3", "right", 2, Said.CORRECTED, follows=("1",))


async def test_of_two_opinions_only_the_one_that_is_followed_gives_way(rig: Rig) -> None:
    for number, order in enumerate([(0, 1, 2), (1, 0, 2), (0, 2, 1)]):
        said = [(*OPINIONS, AMENDED)[at] for at in order]
        await take(rig, *(tagged(each, f"-{number}") for each in said))
    assert sorted(text for _, text in await standing_texts(rig)) == ["right"] * 3 + ["second"] * 3


async def test_what_is_amended_never_stands_though_it_comes_last(rig: Rig) -> None:
    await take(rig, OPINIONS[1], AMENDED, OPINIONS[0])
    assert [text for _, text in await standing_texts(rig)] == ["right"]


async def test_another_copy_of_the_same_document_is_the_same_report(rig: Rig) -> None:
    first, second = document("1", "first"), document("2", "second", 1)
    again = replace(second, exam=replace(second.exam, name="Chest"), alert_codes=("CANCER",))
    await take(rig, first, second)
    await rig.intake.take(replace(message(again, name="elsewhere"), reports=(again,)))
    assert sorted(text for _, text in await standing_texts(rig)) == ["first", "second"]


async def test_a_correction_of_the_whole_accession_stops_every_document(rig: Rig) -> None:
    said = replace(by_accession("A", "right", 3, Said.CORRECTED), source=ReportSource.HL7_V2, message_id="hl7")
    await take(rig, document("1", "first"), document("2", "second", 1), said)
    assert [text for _, text in await standing_texts(rig)] == ["right"]


async def test_documents_of_two_patients_under_one_accession_are_not_released(rig: Rig) -> None:
    await take(rig, document("1", "first"), replace(document("2", "omar's", 1), subject=OMAR))
    first = await numbered(rig, document("1", "first"))
    life = fold(await versions_of(rig, first.report_id), TOLERANCE)
    assert Problem.PATIENT_CHANGED in life.problems
    assert [text for _, text in await standing_texts(rig)] == ["omar's"]
