"""A report that a person takes from a study is found there no more, and whoever received it there is told (SAF-62)."""

from __future__ import annotations

from gateway.model.imaging import SOP_UID, Level
from gateway.release.linking import Images, Link, linked_by_person, unlinked_by_person
from policy.release.reports import Said
from storage.registers.state import Author
from tests.clinicians.test_changes import LATER, kept_texts, told
from tests.clinicians.ward import Ward, reported
from tests.retrieval.test_freshness import due
from tests.retrieval.travels import STUDY, whole
from tests.sharing.rows import ANNE, values
from tests.storage.cache_rig import STAND_INS

OFFICER = Author("R Lead", "request-1", "the RIS named the wrong study")
IMAGES = Images("north", STAND_INS.of_row)


async def texts(ward: Ward, study: str = STUDY) -> int:
    """How many reports a clinician finds in a study."""
    rows = (await ward.find(Level.IMAGE, study=study)).rows
    return sum(str(values(match.attributes, SOP_UID)[0]).startswith("2.25.") for match in rows)


async def unlink(ward: Ward, report_id: str) -> bool:
    """A person says that the report is not of the study."""
    return await ward.store.write(lambda tx: unlinked_by_person(tx, Link(report_id, STUDY), OFFICER))


async def test_a_report_that_is_taken_from_a_study_is_found_by_its_patient_alone(ward: Ward) -> None:
    report_id = await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    assert (await texts(ward), await kept_texts(ward)) == (1, 1)
    assert await unlink(ward, report_id)
    assert not await unlink(ward, report_id)
    assert await texts(ward) == 0
    [own] = [match.study_uid for match in (await ward.find_of()).rows if match.study_uid != STUDY]
    assert await texts(ward, own) == 1
    await ward.file(reported("See also.", said=Said.APPENDED, at=LATER))
    assert await texts(ward) == 0, "no message links it again"
    link = Link(report_id, STUDY)
    assert await ward.store.write(lambda tx: linked_by_person(tx, link, OFFICER, IMAGES, is_of_another_trust=False))
    assert (await texts(ward), await texts(ward, own)) == (2, 0)


async def test_a_kept_copy_of_it_is_not_told_of_in_the_place_of_a_silent_archive(ward: Ward) -> None:
    report_id = await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    ward.region.trust("RZ2").down()
    before = len((await ward.find(Level.IMAGE)).rows)
    assert await unlink(ward, report_id)
    assert await texts(ward) == 0
    assert len((await ward.find(Level.IMAGE)).rows) < before


async def test_whoever_received_it_there_is_told_and_no_copy_of_it_is_given_out(ward: Ward) -> None:
    report_id = await ward.file(reported())
    first, _ = await ward.travels.brought(whole(STUDY))
    await ward.region.prepare()
    await ward.travels.clock.run(
        ward.reading.of_patient(ward.region.caller("RZ1"), ANNE), is_busy=ward.region.store.is_busy
    )
    assert await unlink(ward, report_id)
    await due(ward.travels, ward.handlers)
    assert await kept_texts(ward) == 0
    items = await told(ward)
    assert {(item.custodian.code, item.study_uid == STUDY) for item in items} == {("RZ1", True), ("RZ1", False)}
    await ward.travels.clock.advance(60)
    again, _ = await ward.travels.brought(whole(STUDY))
    assert again.keys() < first.keys()
    await due(ward.travels, ward.handlers)
    assert len(await told(ward)) == 2
