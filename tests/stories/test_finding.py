"""What a viewer at one trust finds at the others, and what it is told when it finds nothing."""

import pytest

from gateway.demo import cast
from gateway.demo.callers.answer import Outcome, text_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
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
    NORTHMOOR,
    SOUTHBRIDGE,
    StudyPlan,
)
from gateway.demo.configuration import AE_TITLES, ALIASES, CLINICIAN, PACS_CALLER, SURGERY, VIEWER
from gateway.demo.images import study_instance_uid
from gateway.demo.region import Region
from tests.stories.conftest import Door

pytestmark = pytest.mark.asyncio(loop_scope="session")


def uids(*plans: StudyPlan) -> frozenset[str]:
    return frozenset(study_instance_uid(plan) for plan in plans)


async def test_a_viewer_finds_the_shared_studies_of_a_patient_in_care(door: Door) -> None:
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.outcome is Outcome.ANSWERED
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
    assert {text_of(row, "00100010") for row in answer.rows} == {EVE.dicom_name}


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "latin-1-undeclared"])
async def test_accents_arrive_as_they_are_however_an_archive_asked_by_c_find_writes_them(
    door: Door, region: Region, charset: str
) -> None:
    await region.archives[EASTVALE.ods_code].behave(charset=charset)
    answer = await door.studies(PatientID=ANNE.nhs_number, StudyInstanceUID=study_instance_uid(cast.ANNE_BODY_CT))
    assert [text_of(row, "00080090") for row in answer.rows] == [cast.ANNE_BODY_CT.referring_physician]


async def test_two_local_numbers_of_one_patient_are_one_patient(door: Door) -> None:
    answer = await door.studies(PatientID=KATE.nhs_number)
    assert answer.studies == uids(cast.KATE_BRAIN_MR, cast.KATE_KNEE_MR)
    assert {text_of(row, "00100020") for row in answer.rows} == {KATE.nhs_number}


async def test_an_accession_number_used_by_two_trusts_stays_two_studies(door: Door) -> None:
    answer = await door.studies(AccessionNumber="A123")
    assert answer.studies == uids(cast.GRACE_BODY_CT, cast.HENRY_NECK_X_RAY)
    found = {text_of(row, "00100020"): text_of(row, "0020000D") for row in answer.rows}
    assert found == {
        GRACE.nhs_number: study_instance_uid(cast.GRACE_BODY_CT),
        HENRY.nhs_number: study_instance_uid(cast.HENRY_NECK_X_RAY),
    }


async def test_a_study_uid_alone_finds_only_what_the_caller_may_see(door: Door) -> None:
    clara = await door.studies(StudyInstanceUID=study_instance_uid(cast.CLARA_BRAIN_MR))
    nobody = await door.studies(StudyInstanceUID="1.2.826.0.1.3680043.8.498.1")
    assert clara.comparable == nobody.comparable
    assert not clara.rows


async def test_every_web_answer_says_that_absence_proves_nothing(viewer: Viewer) -> None:
    for patient in (ANNE, FAITH):
        answer = await viewer.studies(PatientID=patient.nhs_number)
        assert "does not mean none exists" in answer.headers["Gateway-Notice"]


async def test_no_care_relationship_is_told_and_nobody_is_asked(door: Door, region: Region) -> None:
    for archive in region.archives.values():
        await archive.forget_requests()
    answer = await door.studies(PatientID=CLARA.nhs_number)
    assert answer.outcome is Outcome.DENIED
    assert "no care relationship" in answer.told
    for archive in region.archives.values():
        assert CLARA.nhs_number not in str(await archive.requests())


async def test_an_opted_out_patient_looks_like_one_without_studies(door: Door, region: Region) -> None:
    for archive in region.archives.values():
        await archive.forget_requests()
    hidden = await door.studies(PatientID=BEN.nhs_number)
    absent = await door.studies(PatientID=FAITH.nhs_number)
    assert hidden.comparable == absent.comparable
    assert hidden.outcome is Outcome.ANSWERED
    for archive in region.archives.values():
        assert BEN.nhs_number not in str(await archive.requests())


async def test_an_opted_out_patients_study_cannot_be_found_by_its_uid(door: Door) -> None:
    hidden = await door.studies(StudyInstanceUID=study_instance_uid(cast.BEN_BODY_CT))
    nobody = await door.studies(StudyInstanceUID="1.2.826.0.1.3680043.8.498.2")
    assert hidden.comparable == nobody.comparable


async def test_a_trusts_own_images_are_not_subject_to_the_opt_out(viewer: Viewer) -> None:
    own = await viewer.studies(PatientID=BEN.nhs_number, trust="RZ1")
    assert own.studies == uids(cast.BEN_NECK_X_RAY)
    others = await viewer.studies(PatientID=BEN.nhs_number, trust="RZ2")
    assert others.outcome is Outcome.ANSWERED
    assert not others.rows


async def test_a_question_that_pins_nobody_is_refused_visibly(door: Door) -> None:
    questions: tuple[dict[str, str], ...] = (
        {},
        {"PatientName": "WHITFIELD*"},
        {"PatientBirthDate": "19580314", "PatientName": "WHITFIELD^Anne"},
    )
    for keys in questions:
        answer = await door.studies(**keys)
        assert answer.outcome is Outcome.INVALID
        assert "NHS number" in answer.told


async def test_an_nhs_number_that_cannot_be_is_refused_not_answered_empty(door: Door) -> None:
    for number in ("9990000019", "999000001", "E0088123", "999*"):
        assert (await door.studies(PatientID=number)).outcome is Outcome.INVALID


async def test_only_hospital_trusts_are_answered(door: Door) -> None:
    surgery = await door.studies(caller=SURGERY, PatientID=ANNE.nhs_number)
    assert surgery.outcome is Outcome.DENIED
    assert "enrolled" in surgery.told


async def test_only_direct_care_is_answered(viewer: Viewer) -> None:
    for purpose in ("HRESCH", "CLINTRL", "POPHLTH"):
        research = await viewer.studies(purpose=purpose, PatientID=ANNE.nhs_number)
        assert research.outcome is Outcome.DENIED
        assert "not direct care" in research.told


async def test_a_clinician_needs_a_relationship_of_the_own_team(door: Door) -> None:
    assert (await door.studies(caller=CLINICIAN, PatientID=ANNE.nhs_number)).studies
    answer = await door.studies(caller=CLINICIAN, PatientID=EVE.nhs_number)
    assert answer.outcome is Outcome.DENIED
    assert "team" in answer.told


async def test_each_trust_is_judged_by_its_own_relationships(door: Door) -> None:
    answer = await door.studies(caller=PACS_CALLER, PatientID=ANNE.nhs_number)
    assert answer.studies == uids(cast.ANNE_NECK_X_RAY, cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT)
    denied = await door.studies(caller=PACS_CALLER, PatientID=EVE.nhs_number)
    assert denied.outcome is Outcome.DENIED


async def test_a_modality_that_a_trust_never_shares_is_told_as_coverage(door: Door) -> None:
    for patient in (ANNE, FAITH, BEN):
        answer = await door.studies(PatientID=patient.nhs_number)
        assert any(EASTVALE.ods_code in text and "only CR CT DX NM US" in text for text in answer.notices)


async def test_a_labelled_study_is_not_shown_and_its_neighbour_is(door: Door) -> None:
    answer = await door.studies(PatientID=IVY.nhs_number)
    assert answer.studies == uids(cast.IVY_HEAD_CT)


async def test_two_people_under_one_number_are_never_merged_and_the_caller_is_told_whom_to_ring(door: Door) -> None:
    answer = await door.studies(PatientID=JACK.nhs_number)
    assert not answer.rows
    told = [text for text in answer.notices if "identity details differ" in text.lower()]
    assert {EASTVALE.ods_code, SOUTHBRIDGE.ods_code} == {
        code for code in ("RZ1", "RZ2", "RZ3") for t in told if code in t
    }
    assert all("0300 555" in text for text in told)


async def test_a_birth_date_beside_the_number_settles_whose_rows_are_meant(door: Door) -> None:
    answer = await door.studies(PatientID=JACK.nhs_number, PatientBirthDate=f"{JACK.birth_date:%Y%m%d}")
    assert answer.studies == uids(cast.JACK_BODY_CT)
    assert EASTVALE.ods_code not in answer.missing
    assert any("identity details differ" in text.lower() and EASTVALE.ods_code in text for text in answer.notices)


async def test_series_and_images_of_a_study_are_found_below_it(door: Door) -> None:
    study = study_instance_uid(cast.ANNE_HEAD_CT)
    series = await door.series(study)
    assert {text_of(row, "0008103E") for row in series.rows} == {plan.description for plan in cast.ANNE_HEAD_CT.series}
    images = [await door.images(study, text_of(row, "0020000E")) for row in series.rows]
    counts = sorted(len(answer.rows) for answer in images)
    assert counts == sorted(len(plan.sources) for plan in cast.ANNE_HEAD_CT.series)
    hidden = await door.series(study_instance_uid(cast.BEN_BODY_CT))
    assert hidden.outcome is Outcome.ANSWERED
    assert not hidden.rows


async def test_pages_follow_one_order_and_say_how_many_are_left(viewer: Viewer) -> None:
    whole = await viewer.studies(PatientID=ANNE.nhs_number)
    order = [text_of(row, "0020000D") for row in whole.rows]
    first = await viewer.studies(PatientID=ANNE.nhs_number, limit="2")
    assert [text_of(row, "0020000D") for row in first.rows] == order[:2]
    assert any("There are 1 additional results" in text for text in first.notices)
    second = await viewer.studies(PatientID=ANNE.nhs_number, limit="2", offset="2")
    assert [text_of(row, "0020000D") for row in second.rows] == order[2:]


async def test_what_ohif_sends_is_understood(viewer: Viewer) -> None:
    answer = await viewer.studies(
        limit="101",
        offset="0",
        fuzzymatching="false",
        includefield="00081030,00080060,00080090,00100030",
        **{"00100020": f"*{ANNE.nhs_number}*", "PatientName": "*whit*"},
    )
    assert answer.studies == uids(cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT, cast.ANNE_HEART_US)
    assert all(row["00080061"]["Value"] for row in answer.rows)


async def test_a_workstation_that_calls_a_trusts_own_title_asks_that_trust_alone(region: Region) -> None:
    for trust, studies in (
        (EASTVALE, uids(cast.ANNE_HEAD_CT, cast.ANNE_BODY_CT)),
        (NORTHMOOR, uids(cast.ANNE_NECK_X_RAY)),
    ):
        title = ALIASES[trust.ods_code]
        pair = region.key_pair(VIEWER)
        async with Workstation(region.dimse_port, title, AE_TITLES[VIEWER], region.authority, pair) as workstation:
            answer = await workstation.studies(PatientID=ANNE.nhs_number)
        assert (answer.outcome, answer.studies) == (Outcome.ANSWERED, studies)
        assert not answer.missing
