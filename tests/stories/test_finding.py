"""What a viewer at one trust finds at the others, and what it is told when it finds nothing."""

import pytest

from gateway.demo import cast
from gateway.demo.cast import (
    ANNE,
    BEN,
    CLARA,
    EASTVALE,
    EVE,
    FAITH,
    GRACE,
    HENRY,
    IVY,
    JACK,
    KATE,
    SOUTHBRIDGE,
    StudyPlan,
)
from gateway.demo.images import study_instance_uid
from gateway.demo.region import CLINICIAN, PACS_CALLER, SURGERY, Region
from gateway.demo.viewer import Answer
from tests.stories.conftest import Door

pytestmark = pytest.mark.asyncio(loop_scope="session")


def uids(*plans: StudyPlan) -> frozenset[str]:
    return frozenset(study_instance_uid(plan) for plan in plans)


def same_for_all_patients(answer: Answer) -> object:
    """All that a caller can compare between two answers."""
    changing = {"Date", "Gateway-Correlation"}
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    return answer.status, answer.body, headers, answer.warnings


async def test_a_viewer_finds_the_shared_studies_of_a_patient_in_care(door: Door) -> None:
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.status == 200
    assert answer.studies == uids(cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US)


async def test_a_study_held_by_two_trusts_is_listed_once_and_its_images_are_not_added_up(door: Door) -> None:
    answer = await door.studies(PatientID=ANNE.nhs_number, StudyInstanceUID=study_instance_uid(cast.ANNE_HEAD_CT))
    assert len(answer.rows) == 1
    images = sum(len(series.sources) for series in cast.ANNE_HEAD_CT.series)
    assert answer.rows[0]["00201208"]["Value"] == [images]


async def test_the_callers_own_trust_is_not_asked(door: Door, region: Region) -> None:
    own = region.archives["RZ1"]
    await own.forget_requests()
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert not answer.studies & uids(cast.ANNE_NECK_X_RAY)
    assert ANNE.nhs_number not in str(await own.requests())


async def test_names_with_accents_arrive_as_they_are(door: Door) -> None:
    answer = await door.studies(PatientID=EVE.nhs_number)
    assert answer.studies == uids(cast.EVE_HEAD_CT)  # Eastvale does not share MR
    assert {answer.text(row, "00100010") for row in answer.rows} == {EVE.dicom_name}


async def test_two_local_numbers_of_one_patient_are_one_patient(door: Door) -> None:
    answer = await door.studies(PatientID=KATE.nhs_number)
    assert answer.studies == uids(cast.KATE_BRAIN_MR, cast.KATE_KNEE_MR)
    assert {answer.text(row, "00100020") for row in answer.rows} == {KATE.nhs_number}


async def test_an_accession_number_used_by_two_trusts_stays_two_studies(door: Door) -> None:
    answer = await door.studies(AccessionNumber="A123")
    assert answer.studies == uids(cast.GRACE_BODY_CT, cast.HENRY_NECK_X_RAY)
    found = {answer.text(row, "00100020"): answer.text(row, "0020000D") for row in answer.rows}
    assert found == {
        GRACE.nhs_number: study_instance_uid(cast.GRACE_BODY_CT),
        HENRY.nhs_number: study_instance_uid(cast.HENRY_NECK_X_RAY),
    }


async def test_a_study_uid_alone_finds_only_what_the_caller_may_see(door: Door) -> None:
    clara = await door.studies(StudyInstanceUID=study_instance_uid(cast.CLARA_BRAIN_MR))
    nobody = await door.studies(StudyInstanceUID="1.2.826.0.1.3680043.8.498.1")
    assert same_for_all_patients(clara) == same_for_all_patients(nobody)
    assert clara.rows == ()


async def test_every_answer_says_that_absence_proves_nothing(door: Door) -> None:
    for patient in (ANNE, FAITH):
        answer = await door.studies(PatientID=patient.nhs_number)
        assert "does not mean none exists" in answer.headers["Gateway-Notice"]


async def test_no_care_relationship_is_told_and_nobody_is_asked(door: Door, region: Region) -> None:
    for archive in region.archives.values():
        await archive.forget_requests()
    answer = await door.studies(PatientID=CLARA.nhs_number)
    assert answer.status == 403
    assert "no care relationship" in answer.problem["detail"]
    for archive in region.archives.values():
        assert CLARA.nhs_number not in str(await archive.requests())


async def test_an_opted_out_patient_looks_like_one_without_studies(door: Door, region: Region) -> None:
    for archive in region.archives.values():
        await archive.forget_requests()
    hidden = await door.studies(PatientID=BEN.nhs_number)
    absent = await door.studies(PatientID=FAITH.nhs_number)
    assert same_for_all_patients(hidden) == same_for_all_patients(absent)
    assert hidden.status == 200
    for archive in region.archives.values():
        assert BEN.nhs_number not in str(await archive.requests())


async def test_an_opted_out_patients_study_cannot_be_found_by_its_uid(door: Door) -> None:
    hidden = await door.studies(StudyInstanceUID=study_instance_uid(cast.BEN_BODY_CT))
    nobody = await door.studies(StudyInstanceUID="1.2.826.0.1.3680043.8.498.2")
    assert same_for_all_patients(hidden) == same_for_all_patients(nobody)


async def test_a_trusts_own_images_are_not_subject_to_the_opt_out(door: Door) -> None:
    own = await door.studies(PatientID=BEN.nhs_number, trust="RZ1")
    assert own.studies == uids(cast.BEN_NECK_X_RAY)
    others = await door.studies(PatientID=BEN.nhs_number, trust="RZ2")
    assert others.status == 200
    assert others.rows == ()


async def test_a_question_that_pins_nobody_is_refused_visibly(door: Door) -> None:
    for keys in ({}, {"PatientName": "WHITFIELD*"}, {"PatientBirthDate": "19580314", "PatientName": "WHITFIELD^Anne"}):
        answer = await door.studies(**keys)
        assert answer.status == 400
        assert "NHS number" in answer.problem["detail"]


async def test_an_nhs_number_that_cannot_be_is_refused_not_answered_empty(door: Door) -> None:
    for number in ("9990000019", "999000001", "E0088123", "999*"):
        assert (await door.studies(PatientID=number)).status == 400


async def test_only_hospital_trusts_and_direct_care_are_answered(door: Door) -> None:
    surgery = await door.studies(caller=SURGERY, PatientID=ANNE.nhs_number)
    assert surgery.status == 403
    assert "not an enrolled NHS hospital trust" in surgery.problem["detail"]
    for purpose in ("HRESCH", "CLINTRL", "POPHLTH"):
        research = await door.studies(purpose=purpose, PatientID=ANNE.nhs_number)
        assert research.status == 403
        assert "not direct care" in research.problem["detail"]


async def test_a_clinician_needs_a_relationship_of_the_own_team(door: Door) -> None:
    assert (await door.studies(caller=CLINICIAN, PatientID=ANNE.nhs_number)).studies
    answer = await door.studies(caller=CLINICIAN, PatientID=EVE.nhs_number)
    assert answer.status == 403
    assert "team" in answer.problem["detail"]


async def test_each_trust_is_judged_by_its_own_relationships(door: Door) -> None:
    answer = await door.studies(caller=PACS_CALLER, PatientID=ANNE.nhs_number)
    assert answer.studies == uids(cast.ANNE_NECK_X_RAY, cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT)
    assert (await door.studies(caller=PACS_CALLER, PatientID=EVE.nhs_number)).status == 403


async def test_a_modality_that_a_trust_never_shares_is_told_as_coverage(door: Door) -> None:
    for patient in (ANNE, FAITH, BEN):
        answer = await door.studies(PatientID=patient.nhs_number)
        assert any(EASTVALE.ods_code in text and "shares only CR CT DX NM US" in text for text in answer.warnings)


async def test_a_labelled_study_is_not_shown_and_its_neighbour_is(door: Door) -> None:
    answer = await door.studies(PatientID=IVY.nhs_number)
    assert answer.studies == uids(cast.IVY_HEAD_CT)


async def test_two_people_under_one_number_are_never_merged_and_the_caller_is_told_whom_to_ring(door: Door) -> None:
    answer = await door.studies(PatientID=JACK.nhs_number)
    assert answer.rows == ()
    told = [text for text in answer.warnings if "identity details differ" in text]
    assert {EASTVALE.ods_code, SOUTHBRIDGE.ods_code} == {
        code for code in ("RZ1", "RZ2", "RZ3") for t in told if code in t
    }
    assert all("0300 555" in text for text in told)


async def test_a_birth_date_beside_the_number_settles_whose_rows_are_meant(door: Door) -> None:
    answer = await door.studies(PatientID=JACK.nhs_number, PatientBirthDate=f"{JACK.birth_date:%Y%m%d}")
    assert answer.studies == uids(cast.JACK_BODY_CT)
    assert answer.source_state(EASTVALE.ods_code) == "answered"
    assert any("identity details differ" in text and EASTVALE.ods_code in text for text in answer.warnings)


async def test_series_and_images_of_a_study_are_found_below_it(door: Door) -> None:
    viewer = await door.viewer("northmoor-viewer")
    study = study_instance_uid(cast.ANNE_HEAD_CT)
    series = await viewer.search(f"studies/{study}/series")
    assert len(series.rows) == len(cast.ANNE_HEAD_CT.series)
    images = await viewer.search(f"studies/{study}/instances")
    assert len(images.rows) == sum(len(plan.sources) for plan in cast.ANNE_HEAD_CT.series)
    hidden = await viewer.search(f"studies/{study_instance_uid(cast.BEN_BODY_CT)}/series")
    assert (hidden.status, hidden.rows) == (200, ())


async def test_pages_follow_one_order_and_say_how_many_are_left(door: Door) -> None:
    whole = await door.studies(PatientID=ANNE.nhs_number)
    order = [whole.text(row, "0020000D") for row in whole.rows]
    first = await door.studies(PatientID=ANNE.nhs_number, limit="2")
    assert [first.text(row, "0020000D") for row in first.rows] == order[:2]
    assert any("There are 1 additional results" in text for text in first.warnings)
    second = await door.studies(PatientID=ANNE.nhs_number, limit="2", offset="2")
    assert [second.text(row, "0020000D") for row in second.rows] == order[2:]


async def test_what_ohif_sends_is_understood(door: Door) -> None:
    answer = await door.studies(
        limit="101",
        offset="0",
        fuzzymatching="false",
        includefield="00081030,00080060,00080090,00100030",
        **{"00100020": f"*{ANNE.nhs_number}*", "PatientName": "*whit*"},
    )
    assert answer.studies == uids(cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US)
    assert all(row["00080061"]["Value"] for row in answer.rows)
