"""A report that names the wrong study or patient is withheld alone: images stay in sight (SAF-08, SAF-63)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from gateway.model.imaging import MODALITY, Level
from gateway.model.reporting.incoming import Subject
from policy.parties import TrustId
from policy.release.reports import Said
from tests.clinicians.ward import SMITH, VERIFIED_AT, Ward, reported
from tests.retrieval.travels import STUDY, whole
from tests.sharing.rows import BEN, RZ2, values

OTHER = Subject(BEN, "01", (), "OTHER", "BEN", date(1960, 1, 1))
MISTYPED = replace(SMITH, birth_date=date(1958, 4, 13))
RZ3 = TrustId("RZ3")
LATER = VERIFIED_AT + timedelta(hours=2)


async def modalities(ward: Ward) -> list[str]:
    """What RZ1 finds of the study."""
    return sorted(str(values(match.attributes, MODALITY)[0]) for match in (await ward.find()).rows)


@pytest.mark.parametrize(
    ("subject", "kind"),
    [(OTHER, "report-of-another-patient"), (MISTYPED, "demographics-differ")],
    ids=["other", "born"],
)
@pytest.mark.parametrize("said", [Said.VERIFIED, Said.PRELIMINARY])
@pytest.mark.parametrize("trust", [RZ2, RZ3])
async def test_it_hides_no_image_and_is_told_to_its_custodian_alone(
    ward: Ward, subject: Subject, kind: str, said: Said, trust: TrustId
) -> None:
    ward.region.trust("RZ3")
    await ward.region.refer(BEN, to="RZ1")
    await ward.file(reported("Not hers.", subject=subject, trust=trust, said=said))
    assert await modalities(ward) == ["CT"]
    assert [match.study_uid for match in (await ward.find_of(level=Level.STUDY)).rows] == [STUDY]
    got, _ = await ward.travels.brought(whole(STUDY))
    assert len(got) == 1
    items = await ward.region.quality()
    assert {(item.kind, item.custodian) for item in items} == {(kind, trust)}


async def test_taken_back_it_hides_no_image_either_and_the_right_report_is_shown(ward: Ward) -> None:
    await ward.region.refer(BEN, to="RZ1")
    await ward.file(reported("Ben's.", subject=OTHER), reported("", subject=OTHER, said=Said.WITHDRAWN, at=LATER))
    assert await modalities(ward) == ["CT"]
    await ward.file(reported("Anne's."), reported("Hers.", report_number="R2"))
    assert await modalities(ward) == ["CT", "SR"]


async def test_one_wrong_report_hides_no_right_one(ward: Ward) -> None:
    await ward.file(reported(), reported("Not hers.", subject=OTHER, report_number="R2"))
    assert await modalities(ward) == ["CT", "SR"]
