"""Large print is a patient's choice that is kept: it holds for what goes to every channel, the letter among them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.model.reporting.channels import Outcome, PatientReport, Rendering
from gateway.model.reporting.reading import Choices
from policy.parties import NhsNumber
from storage.registers import merges
from storage.registers.merges import MergeBasis
from storage.registers.patients import nhs
from storage.registers.state import Author
from storage.release import patients
from tests.release.portal import Portal
from tests.release.release_rig import DUE_AT, opened, verified

NUMBER, OTHER = NhsNumber("9990000018"), NhsNumber("9990000026")


@dataclass
class Printing(Portal):
    """A portal that keeps what it was given."""

    given: list[Rendering] = field(default_factory=list)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        self.given.append(rendering)
        return await super().put(report, rendering)


@pytest.mark.parametrize("is_chosen", [False, True])
async def test_every_channel_and_the_letter_get_the_print_that_the_patient_chose(
    tmp_path: Path, sqlite_url: str, is_chosen: bool
) -> None:
    portal, letter = Printing(), Printing("letter")
    async with opened(tmp_path, sqlite_url, portal, letter) as rig:
        rig.terms = replace(rig.terms, channels=("portal",), letter_for_adults=True)
        row = await rig.store.patient_row(nhs(NUMBER))
        chosen = Choices(letter=True, large_print=is_chosen)
        await rig.store.write(lambda tx: rig.acts.choose(tx, row, chosen, "request-9"))
        await rig.file(verified())
        await rig.look(DUE_AT)
        assert [each.is_large_print for each in (*portal.given, *letter.given)] == [is_chosen] * 2


async def test_what_was_chosen_under_a_number_that_gave_way_holds_and_can_be_taken_back(
    tmp_path: Path, sqlite_url: str
) -> None:
    portal = Printing()
    async with opened(tmp_path, sqlite_url, portal) as rig:
        row, other = [await rig.store.patient_row(nhs(each)) for each in (NUMBER, OTHER)]
        await rig.store.write(lambda tx: rig.acts.choose(tx, other, Choices(large_print=True), "request-9"))
        author = Author("J Doe", "request-1")
        await rig.store.write(lambda tx: merges.merge(tx, other, row, MergeBasis.PDS_SUPERSESSION, author))
        await rig.file(verified())
        await rig.look(DUE_AT)
        assert [each.is_large_print for each in portal.given] == [True]
        await rig.store.write(lambda tx: rig.acts.choose(tx, row, Choices(), "request-10"))
        assert await rig.store.read(lambda read: patients.chosen(read, (row, other))) == Choices()
