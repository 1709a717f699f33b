"""One archive of the mixed region is honest about nothing: what it says is held to the question, and to the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.demo import cast
from gateway.demo.callers.answer import Answer, Outcome, text_of
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE, BEN, CLARA, EASTVALE, FAITH, GRACE, HENRY, SOUTHBRIDGE, Trust
from gateway.demo.configuration import VIEWER
from gateway.demo.images import study_instance_uid
from tests.federation.filing import (
    HARBOURSIDE,
    OAKFIELD,
    TWO_PATIENTS_UID,
    WESTHAVEN,
    WESTHAVENS_NUMBERS,
    found,
    own,
    scripted_row,
)
from tests.federation.mixed import PHONES, MixedRegion
from tests.stories.conftest import Door
from tests.stories.quality import custodians_told, put_right

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]

HANG_S = 60.0
IMAGES = "00201208"
OTHER_PATIENT_IDS = "00101002"
HEAD_CT = study_instance_uid(cast.ANNE_HEAD_CT)
MATCHES_MAX = 1_000
"""Rows of one answer, as the gateway is configured."""

each_liar = pytest.mark.parametrize("liar", [EASTVALE, SOUTHBRIDGE], ids=["by C-FIND", "by QIDO"])


def images_of(answer: Answer, study_uid: str) -> object:
    """How many images the answer says that a study has."""
    [row] = [row for row in answer.rows if text_of(row, "0020000D") == study_uid]
    return row[IMAGES]["Value"]


@each_liar
async def test_wrong_counts_of_one_holder_are_never_added_to_those_of_others(
    door: Door, mixed: MixedRegion, liar: Trust
) -> None:
    true = sum(len(series.sources) for series in cast.ANNE_HEAD_CT.series)
    await mixed.archives[liar.ods_code].behave(lies=["wrong-counts"])
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.studies == found(ANNE)
    assert images_of(answer, HEAD_CT) in ([true], [true + 7])


@each_liar
@pytest.mark.parametrize("lie", ["ignores-keys", "wrong-patient", "nothing", "bad-uids"])
async def test_what_one_archive_says_of_others_patients_takes_nothing_from_the_rest(
    door: Door, mixed: MixedRegion, liar: Trust, lie: str
) -> None:
    await mixed.archives[liar.ods_code].behave(lies=[lie])
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.outcome is Outcome.ANSWERED
    assert found(ANNE, liar) <= answer.studies <= found(ANNE)
    assert {text_of(row, "00100020") for row in answer.rows} == {ANNE.nhs_number}
    assert answer.missing <= {liar.ods_code}


async def test_one_study_of_four_archives_is_one_row_whoever_says_it_twice(door: Door, mixed: MixedRegion) -> None:
    for liar in (EASTVALE, SOUTHBRIDGE):
        await mixed.archives[liar.ods_code].behave(lies=["duplicates"])
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert len(answer.rows) == len(found(ANNE))
    assert images_of(answer, HEAD_CT) == [sum(len(series.sources) for series in cast.ANNE_HEAD_CT.series)]


async def test_a_study_of_two_patients_at_two_archives_is_withheld_at_both_and_their_custodians_are_told(
    door: Door, mixed: MixedRegion, tmp_path: Path
) -> None:
    by_uid = await door.studies(StudyInstanceUID=TWO_PATIENTS_UID)
    assert by_uid.outcome is Outcome.ANSWERED
    assert not by_uid.rows
    assert await custodians_told(mixed, TWO_PATIENTS_UID) == {WESTHAVEN.ods_code, OAKFIELD.ods_code}
    # From now on by either patient's number too, where the other's archive has nothing to contradict.
    for patient in (GRACE, HENRY):
        assert TWO_PATIENTS_UID not in (await door.studies(PatientID=patient.nhs_number)).studies
    await put_right(mixed, TWO_PATIENTS_UID, tmp_path)


async def test_what_an_archive_cannot_match_is_matched_here(door: Door) -> None:
    # DCMTK's index knows no modalities of a study, and answers as if they had not been asked for.
    answer = await door.studies(PatientID=ANNE.nhs_number, ModalitiesInStudy="US")
    assert answer.studies == {study_instance_uid(cast.ANNE_HEART_US), own(cast.ANNE_HEART_US, OAKFIELD)}
    assert not answer.missing


async def test_two_numbers_of_one_patient_at_one_archive_are_one_patient(door: Door) -> None:
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert {HEAD_CT, own(cast.ANNE_BODY_CT, WESTHAVEN)} <= answer.studies
    assert {text_of(row, "00100020") for row in answer.rows} == {ANNE.nhs_number}


async def test_the_numbers_of_the_archive_are_kept_beside_the_one_that_is_shown(mixed: MixedRegion) -> None:
    async with Viewer(mixed.machines_url, mixed.authority, mixed.key_pair(VIEWER)) as viewer:
        answer = await viewer.studies(PatientID=ANNE.nhs_number, includefield=OTHER_PATIENT_IDS)
    others = {
        text_of(item, "00100020")
        for row in answer.rows
        for item in row.get(OTHER_PATIENT_IDS, {}).get("Value", [])
        if text_of(row, "0020000D") in (HEAD_CT, own(cast.ANNE_BODY_CT, WESTHAVEN))
    }
    assert WESTHAVENS_NUMBERS[ANNE.nhs_number][1] in others
    assert ANNE.nhs_number not in others


async def test_too_many_matches_are_cut_visibly(door: Door, mixed: MixedRegion) -> None:
    mixed.scripted.rows = [scripted_row(f"1.2.3.{number}") for number in range(MATCHES_MAX + 100)]
    answer = await door.studies(PatientID=ANNE.nhs_number)
    assert answer.outcome is Outcome.ANSWERED
    assert len(answer.rows) == MATCHES_MAX
    assert any(str(MATCHES_MAX) in text and "cut" in text.lower() for text in answer.notices)


@pytest.mark.parametrize("down", [None, WESTHAVEN, OAKFIELD], ids=["all heard", "DCMTK down", "Orthanc down"])
async def test_an_opted_out_patient_looks_like_one_without_studies_whoever_is_down(
    door: Door, mixed: MixedRegion, down: Trust | None
) -> None:
    async def both() -> tuple[Answer, Answer]:
        return await door.studies(PatientID=BEN.nhs_number), await door.studies(PatientID=FAITH.nhs_number)

    if down is None:
        hidden, absent = await both()
    else:
        async with mixed.proxies[down.ods_code].down():
            while down.ods_code not in (await door.studies(PatientID=FAITH.nhs_number)).missing:
                pass
            hidden, absent = await both()
        assert PHONES[down.ods_code] in str(absent.notices)
    assert hidden.outcome is Outcome.ANSWERED
    assert not hidden.rows
    assert hidden.comparable == absent.comparable


async def test_no_care_relationship_is_told_whoever_is_down(door: Door, mixed: MixedRegion) -> None:
    asked = len(mixed.scripted.asked)
    async with mixed.proxies[WESTHAVEN.ods_code].down():
        answer = await door.studies(PatientID=CLARA.nhs_number)
    assert answer.outcome is Outcome.DENIED
    assert CLARA.nhs_number not in str(mixed.scripted.asked[asked:])
    assert HARBOURSIDE.ods_code not in answer.missing


@contextmanager
def unreadable(database: Path, table: str) -> Iterator[None]:
    """A register's table is not where it should be, as after a restore gone wrong."""
    with closing(sqlite3.connect(database, timeout=HANG_S, isolation_level=None)) as connection:
        connection.execute(f'ALTER TABLE "{table}" RENAME TO "{table}_elsewhere"')
        try:
            yield
        finally:
            connection.execute(f'ALTER TABLE "{table}_elsewhere" RENAME TO "{table}"')


@pytest.mark.parametrize("table", ["optout_choice", "relationship", "sensitive_label"])
async def test_a_register_that_cannot_be_read_is_the_same_visible_fault_for_every_patient(
    door: Door, mixed: MixedRegion, table: str
) -> None:
    everybody = (ANNE, BEN, FAITH)
    asked = len(mixed.scripted.asked)
    with unreadable(mixed.database, table):
        answers = [await door.studies(PatientID=patient.nhs_number) for patient in everybody]
        not_in_care = await door.studies(PatientID=CLARA.nhs_number)
    assert {answer.outcome for answer in answers} == {Outcome.FAULT}
    assert {answer.told for answer in answers} == {"sharing not checked"}
    assert not any(answer.rows for answer in answers)
    # What depends on the caller alone is told before, as long as it can be read itself (SAF-02).
    assert not_in_care.outcome is (Outcome.FAULT if table == "relationship" else Outcome.DENIED)
    assert not any(patient.nhs_number in str(mixed.scripted.asked[asked:]) for patient in everybody)
    assert (await door.studies(PatientID=ANNE.nhs_number)).studies == found(ANNE)
