"""Whoever received a report is told once when it is no more what it was; nobody is given a copy of that (SAF-62)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.instances.reporting.reading import COMPREHENSIVE_SR
from gateway.keeping.freshness import Freshness
from gateway.model.imaging import SOP_UID, Level
from gateway.model.reporting.incoming import ReportSource
from gateway.model.seams import RECEIVED_AND_WITHDRAWN, QualityItem
from gateway.model.work.transfers import InstanceRef
from policy.release.reports import Said
from tests.clinicians.ward import VERIFIED_AT, Ward, reported
from tests.memory_archive import Image
from tests.retrieval.test_freshness import due
from tests.retrieval.travels import STUDY, encoded, image_row, whole
from tests.sharing.rows import ANNE, values

LATER = VERIFIED_AT + timedelta(hours=2)


async def told(ward: Ward) -> list[QualityItem]:
    """What recipients were told."""
    return [item for item in await ward.region.quality() if item.kind == RECEIVED_AND_WITHDRAWN]


async def kept_texts(ward: Ward, study: str = STUDY) -> int:
    """How many reports the cache gives out of a study."""
    kept = await ward.travels.cache.instances(study)
    return sum(each.ref.sop_uid.startswith("2.25.") for each in kept)


async def test_a_correction_reaches_who_received_the_old_version(ward: Ward) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER))
    await due(ward.travels, ward.handlers)
    [item] = await told(ward)
    assert (item.custodian.code, item.study_uid) == ("RZ1", STUDY)
    assert (item.detail["source"], item.detail["instances"]) == ("RZ2", 1)
    assert await kept_texts(ward) == 0


async def test_a_withdrawal_reaches_every_trust_that_has_it_although_no_copy_is_kept(ward: Ward) -> None:
    await ward.region.refer(ANNE, to="RZ3")
    await ward.file(reported())
    for trust in ("RZ1", "RZ3"):
        await ward.travels.brought(whole(STUDY), by=trust)
    await ward.travels.cache.forget(STUDY, "room is needed")
    await ward.file(reported("", said=Said.WITHDRAWN, at=LATER))
    await due(ward.travels, ward.handlers)
    assert {item.custodian.code for item in await told(ward)} == {"RZ1", "RZ3"}


async def test_nobody_is_told_twice_of_one_thing_and_again_of_another(ward: Ward) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER))
    await due(ward.travels, ward.handlers)
    await ward.file(reported("See also.", said=Said.APPENDED, at=LATER + timedelta(hours=1)))
    await due(ward.travels, ward.handlers)
    assert len(await told(ward)) == 1
    await ward.travels.clock.advance(60)
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("", said=Said.WITHDRAWN, at=LATER + timedelta(hours=2)))
    await due(ward.travels, ward.handlers)
    assert len(await told(ward)) == 2


async def test_an_addendum_leaves_the_report_that_it_is_added_to_where_it_is(ward: Ward) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("See also.", said=Said.APPENDED, at=LATER))
    await due(ward.travels, ward.handlers)
    assert await told(ward) == []
    assert await kept_texts(ward) == 1


async def test_a_report_that_finds_its_study_is_given_up_where_it_stood_before(ward: Ward) -> None:
    await ward.file(reported(study_uids=()))
    [own] = [match.study_uid for match in (await ward.find_of()).rows if match.study_uid != STUDY]
    await ward.travels.brought(whole(own))
    assert await kept_texts(ward, own) == 1
    await ward.file(reported(said=Said.CORRECTED, at=LATER))
    await due(ward.travels, ward.handlers)
    assert await kept_texts(ward, own) == 0
    assert [item.study_uid for item in await told(ward)] == [own]


async def test_a_copy_of_what_stands_is_kept_whatever_its_archive_lists(ward: Ward) -> None:
    await ward.file(reported())
    first, _ = await ward.travels.brought(whole(STUDY))
    await ward.travels.clock.advance(60)
    again, _ = await ward.travels.brought(whole(STUDY))
    await ward.travels.clock.advance(60)
    sampling = ward.sampling
    freshness = Freshness(
        ward.store,
        ward.travels.cache,
        ward.travels.withdrawals,
        lambda: sampling,
        ward.travels.clock,
        node="north",
        studies_max=10,
    )
    await freshness.told_of(STUDY)
    await ward.travels.clock.advance(60)
    assert await due(ward.travels, dict(freshness.handlers)) == [freshness.kind]
    assert again == first
    assert await kept_texts(ward) == 1
    assert await told(ward) == []


def held_as_object(ward: Ward, sop_class_uid: str = COMPREHENSIVE_SR) -> InstanceRef:
    """A report that RZ2's archive holds as an object of the study."""
    ref = InstanceRef(STUDY, f"{STUDY}.9", f"{STUDY}.77", sop_class_uid)
    image = Image(ref, encoded(ref, ANNE.digits))
    ward.region.trust("RZ2").pacs.with_image(image_row(ref, ANNE.digits), image)
    return ref


@pytest.mark.parametrize(
    ("said", "notice"),
    [(Said.CORRECTED, b"SUPERSEDED"), (Said.WITHDRAWN, b"WITHDRAWN"), (Said.CANCELLED, b"WITHDRAWN")],
)
async def test_a_report_that_came_as_an_object_is_given_up_and_its_recipients_are_told(
    ward: Ward, said: Said, notice: bytes
) -> None:
    ref = held_as_object(ward)
    await ward.file(reported(source=ReportSource.DICOM_SR, message_id=ref.sop_uid))
    first, _ = await ward.travels.brought(whole(STUDY))
    assert ref.sop_uid in first
    await ward.file(reported("A fracture." if said is Said.CORRECTED else "", said=said, at=LATER))
    await due(ward.travels, ward.handlers)
    [item] = await told(ward)
    assert (item.custodian.code, item.detail["instances"]) == ("RZ1", 1)
    assert ref.sop_uid not in {each.ref.sop_uid for each in await ward.travels.cache.instances(STUDY)}
    await ward.travels.clock.advance(60)
    again, _ = await ward.travels.brought(whole(STUDY))
    assert ref.sop_uid not in again
    assert any(notice in body for body in again.values())


async def test_a_report_that_was_an_object_is_told_of_by_nobody_while_its_archive_is_silent(ward: Ward) -> None:
    ref = held_as_object(ward)
    await ward.file(reported(source=ReportSource.DICOM_SR, message_id=ref.sop_uid))
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("", said=Said.WITHDRAWN, at=LATER))
    await ward.travels.clock.advance(60)
    ward.region.trust("RZ2").down()
    rows = (await ward.find(Level.IMAGE)).rows
    assert ref.sop_uid not in {values(match.attributes, SOP_UID)[0] for match in rows}
    assert len(rows) == 2


async def test_an_object_stays_while_it_says_what_stands(ward: Ward) -> None:
    ref = held_as_object(ward)
    await ward.file(reported(source=ReportSource.DICOM_SR, message_id=ref.sop_uid))
    await ward.travels.brought(whole(STUDY))
    await ward.file(reported("See also.", said=Said.APPENDED, at=LATER))
    await ward.file(reported(said=Said.CORRECTED, at=LATER + timedelta(hours=1)))
    await due(ward.travels, ward.handlers)
    assert await told(ward) == []
    assert ref.sop_uid in {each.ref.sop_uid for each in await ward.travels.cache.instances(STUDY)}


async def test_what_nobody_has_is_told_to_nobody(ward: Ward) -> None:
    await ward.file(reported(), reported("A fracture.", said=Said.CORRECTED, at=LATER))
    assert await due(ward.travels, ward.handlers) == ["report-changed"]
    assert await told(ward) == []
