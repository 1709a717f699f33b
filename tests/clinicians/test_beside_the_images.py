"""Reports stand beside the images: found, fetched and refused as images are, marked as they stand (SAF-62, SAF-63)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import pytest
from sqlalchemy import update

from gateway.instances.reporting.reading import COMPREHENSIVE_SR
from gateway.model.attributes import SERIES_DESCRIPTION
from gateway.model.errors import Denied
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
    MODALITY,
    SOP_UID,
    Attributes,
    Key,
    Level,
    Query,
)
from gateway.model.reporting.incoming import Content, Exam, ReportSource, Subject
from gateway.model.work.transfers import InstanceRef, KeyDomain
from policy.parties import PatientId
from policy.release.reports import Said
from storage.registers.agreements import Clause
from storage.release.tables import report_version
from tests.clinicians.ward import VERIFIED_AT, Ward, reported
from tests.memory_archive import Image
from tests.retrieval.travels import CT, STUDY, encoded, image_row, whole
from tests.sharing.rows import ANNE, BEN, RZ2, values

MR_STUDY = "1.2.7"
LATER = VERIFIED_AT + timedelta(hours=2)


def titles(rows: list[Attributes]) -> set[str]:
    """How the series of reports among these are called."""
    return {str(values(row, SERIES_DESCRIPTION)[0]) for row in rows if values(row, MODALITY) == ["SR"]}


async def series(ward: Ward) -> list[Attributes]:
    """The series that RZ1 finds of the study."""
    return [match.attributes for match in (await ward.find()).rows]


async def test_a_verified_report_is_found_beside_the_images(ward: Ward) -> None:
    await ward.file(reported())
    studies = (await ward.find_of()).rows
    assert [match.study_uid for match in studies] == [STUDY]
    assert values(studies[0].attributes, MODALITIES_IN_STUDY) == ["SR"]
    rows = await series(ward)
    assert sorted(str(values(row, MODALITY)[0]) for row in rows) == ["CT", "SR"]
    assert titles(rows) == {"Report: Chest X-ray"}


async def test_it_is_fetched_by_the_same_road_as_the_images(ward: Ward) -> None:
    await ward.file(reported())
    got, _ = await ward.travels.brought(whole(STUDY))
    assert len(got) == 2
    assert any(b"No fracture." in body for body in got.values())


async def test_a_trust_whose_archive_is_silent_still_shows_its_reports(ward: Ward) -> None:
    await ward.file(reported())
    ward.region.trust("RZ2").down()
    matches = await ward.find()
    assert titles([match.attributes for match in matches.rows]) == {"Report: Chest X-ray"}
    assert next(source for source in matches.sources if source.trust == RZ2).state.is_missing


async def test_a_correction_stands_beside_what_it_supersedes(ward: Ward) -> None:
    await ward.file(reported(), reported("A fracture.", said=Said.CORRECTED, at=LATER))
    assert titles(await series(ward)) == {"Report: Chest X-ray", "SUPERSEDED: Report: Chest X-ray"}
    images = (await ward.find(Level.IMAGE)).rows
    assert len({str(values(match.attributes, SOP_UID)[0]) for match in images}) == 3


async def test_a_preliminary_report_is_labelled_and_gives_way(ward: Ward) -> None:
    await ward.file(reported("Perhaps a fracture.", said=Said.PRELIMINARY))
    assert titles(await series(ward)) == {"PRELIMINARY: Report: Chest X-ray"}
    await ward.file(reported(at=LATER))
    assert titles(await series(ward)) == {"Report: Chest X-ray"}


async def test_an_addendum_stands_beside_its_report(ward: Ward) -> None:
    await ward.file(reported(), reported("Compared with 2024.", said=Said.APPENDED, at=LATER))
    assert titles(await series(ward)) == {"Report: Chest X-ray"}  # one series: both are current
    images = [match.attributes for match in (await ward.find(Level.IMAGE)).rows]
    assert sorted(titles(images)) == ["Addendum: Chest X-ray", "Report: Chest X-ray"]


async def test_a_withdrawn_report_leaves_a_notice_without_its_text(ward: Ward) -> None:
    await ward.file(reported(), reported("", said=Said.WITHDRAWN, at=LATER))
    assert titles(await series(ward)) == {"WITHDRAWN: Report: Chest X-ray"}
    got, _ = await ward.travels.brought(whole(STUDY))
    assert any(b"WITHDRAWN" in body for body in got.values())
    assert not any(b"No fracture" in body for body in got.values())


@pytest.mark.parametrize("said", [Said.VERIFIED, Said.PRELIMINARY])
@pytest.mark.parametrize("forgotten_by", [Said.WITHDRAWN, Said.CANCELLED])
async def test_what_was_withdrawn_stays_so_whatever_comes_under_its_number(
    ward: Ward, said: Said, forgotten_by: Said
) -> None:
    await ward.file(reported("Of another person."), reported("", said=forgotten_by, at=LATER))
    await ward.file(reported("Her own.", said=said, at=LATER + timedelta(hours=1)))
    label = "" if said is Said.VERIFIED else "PRELIMINARY: "
    assert titles(await series(ward)) == {f"{label}Report: Chest X-ray", "WITHDRAWN: Report: Chest X-ray"}
    got, _ = await ward.travels.brought(whole(STUDY))
    assert any(b"Her own." in body for body in got.values())
    assert not any(b"Of another person." in body for body in got.values())


async def test_a_status_alone_does_not_bring_back_a_text_that_was_withdrawn(ward: Ward) -> None:
    hour = timedelta(hours=1)
    await ward.file(reported("Of another person."), reported("", said=Said.WITHDRAWN, at=LATER))
    await ward.file(reported("", at=LATER + hour), reported("Her own.", said=Said.CORRECTED, at=LATER + 2 * hour))
    got, _ = await ward.travels.brought(whole(STUDY))
    assert not any(b"Of another person." in body for body in got.values())


async def test_an_unverified_report_is_marked_until_its_correction_is_there(ward: Ward) -> None:
    await ward.file(reported(), reported("", said=Said.TAKEN_BACK, at=LATER))
    assert titles(await series(ward)) == {"BEING CORRECTED: Report: Chest X-ray"}


async def test_a_version_of_another_patient_is_shown_to_nobody(ward: Ward) -> None:
    ben = Subject(BEN, "01", (), "OTHER", "BEN", date(1960, 1, 1))
    await ward.region.refer(BEN, to="RZ1")
    await ward.file(reported("Anne's."), reported("Ben's.", said=Said.CORRECTED, at=LATER, subject=ben, study_uids=()))
    of_anne = await ward.find_of(ANNE, Level.IMAGE)
    assert titles([match.attributes for match in of_anne.rows]) == set()


async def test_who_may_not_see_the_images_does_not_see_the_report(ward: Ward) -> None:
    await ward.file(reported())
    assert (await ward.find(by="RZ3")).rows == ()
    with pytest.raises(Denied):
        await ward.find_of(by="RZ3")


async def test_an_opt_out_hides_reports_and_its_undoing_shows_them_again(ward: Ward) -> None:
    await ward.file(reported())
    await ward.travels.brought(whole(STUDY))
    await ward.region.opt_out(ANNE)
    assert (await ward.find()).rows == ()
    assert (await ward.find_of()).rows == ()
    await ward.region.opt_in(ANNE)
    assert titles(await series(ward)) == {"Report: Chest X-ray"}


def shares_only(ward: Ward, *modalities: str) -> None:
    """RZ2 agrees to share these kinds of images."""
    ward.region.trust("RZ2").sharing(Clause(modalities=frozenset(modalities)))


def of_mr(ward: Ward) -> None:
    """RZ2 has an MR of Anne's too."""
    ref = InstanceRef(MR_STUDY, f"{MR_STUDY}.1", f"{MR_STUDY}.1.1", CT)
    listed: Attributes = {**image_row(ref, ANNE.digits), MODALITY: {"vr": "CS", "Value": ["MR"]}}
    ward.region.trust("RZ2").pacs.with_image(listed, Image(ref, encoded(ref, ANNE.digits, Modality="MR")))


async def test_an_agreement_on_kinds_of_images_shares_their_reports_with_them(ward: Ward) -> None:
    of_mr(ward)
    other = reported("A lesion.", report_number="R2", accessions=("A2",), study_uids=(MR_STUDY,))
    await ward.file(reported(), replace(other, exam=Exam(modality="MR")))
    shares_only(ward, "CT")
    assert titles(await series(ward)) == {"Report: Chest X-ray"}
    assert (await ward.find(study=MR_STUDY)).rows == ()
    got, _ = await ward.travels.brought(whole(STUDY))
    assert any(b"No fracture." in body for body in got.values())
    read = await ward.reading.of_patient(ward.region.caller("RZ1"), ANNE)
    assert [each.documents[0].study_uid for each in read.found] == [STUDY]


async def test_a_report_of_images_that_are_not_shared_is_not_shared_whatever_its_feed_calls_it(ward: Ward) -> None:
    of_mr(ward)
    await ward.file(reported("A lesion.", study_uids=(MR_STUDY,)))
    shares_only(ward, "CT")
    assert (await ward.find(study=MR_STUDY)).rows == ()
    await ward.region.agree("RZ2", Clause(modalities=frozenset({"CT", "SR"})))
    assert len((await ward.find(study=MR_STUDY)).rows) == 1


async def test_a_report_of_several_studies_is_shared_only_where_reports_are(ward: Ward) -> None:
    of_mr(ward)
    await ward.file(reported("Of both.", study_uids=(STUDY, MR_STUDY)))
    shares_only(ward, "CT")
    assert titles(await series(ward)) == set()
    assert (await ward.reading.of_patient(ward.region.caller("RZ1"), ANNE)).found == ()


async def test_while_the_archive_is_silent_a_report_is_shared_by_what_it_is_of(ward: Ward) -> None:
    await ward.file(reported(), reported("A knee.", report_number="R2", exam=Exam(modality="MR"), study_uids=("1.8",)))
    ward.region.trust("RZ2").down()
    shares_only(ward, "CT")
    assert titles(await series(ward)) == {"Report: Chest X-ray"}
    assert (await ward.find(study="1.8")).rows == ()


async def test_a_report_object_of_shared_images_is_shared_with_them(ward: Ward) -> None:
    ref = InstanceRef(STUDY, f"{STUDY}.9", f"{STUDY}.77", COMPREHENSIVE_SR)
    listed: Attributes = {**image_row(ref, ANNE.digits), MODALITY: {"vr": "CS", "Value": ["SR"]}}
    ward.region.trust("RZ2").pacs.with_image(listed, Image(ref, encoded(ref, ANNE.digits)))
    shares_only(ward, "CT")
    assert sorted(str(values(row, MODALITY)[0]) for row in await series(ward)) == ["CT", "SR"]
    await ward.region.agree("RZ2", Clause(modalities=frozenset({"MR"})))
    assert await series(ward) == []


async def test_a_label_hides_the_report_with_its_study(ward: Ward) -> None:
    await ward.file(reported())
    await ward.region.label(ANNE, "RZ2", STUDY)
    assert (await ward.find()).rows == ()


async def test_a_report_of_no_known_study_has_one_of_its_own(ward: Ward) -> None:
    await ward.file(reported(study_uids=()))
    [own] = [match.study_uid for match in (await ward.find_of()).rows if match.study_uid != STUDY]
    by_accession = await ward.region.find(Query(Level.STUDY, (Key((ACCESSION_NUMBER,), "SH", ("ACC00001",)),)))
    assert [match.study_uid for match in by_accession.rows] == [own]
    got, _ = await ward.travels.brought(whole(own))
    assert len(got) == 1 and b"No fracture." in next(iter(got.values()))


async def test_a_report_of_a_trust_without_an_archive_is_found_and_fetched(ward: Ward) -> None:
    ward.region.trust("RZ2").without_archive()
    ward.region.rebuilt()
    ward.lead()
    await ward.file(reported())
    assert titles(await series(ward)) == {"Report: Chest X-ray"}
    got, _ = await ward.travels.brought(whole(STUDY))
    assert len(got) == 1


async def test_what_came_as_dicom_is_left_to_its_own_form(ward: Ward) -> None:
    await ward.file(reported(source=ReportSource.DICOM_SR))
    assert titles(await series(ward)) == set()


async def test_a_pdf_is_shown_as_a_document(ward: Ward) -> None:
    await ward.file(reported("", content=Content(pdf=b"%PDF-1.7\n%%EOF")))
    rows = await series(ward)
    assert sorted(str(values(row, MODALITY)[0]) for row in rows) == ["CT", "DOC"]
    got, _ = await ward.travels.brought(whole(STUDY))
    assert any(b"%PDF-1.7\n%%EOF" in body for body in got.values())


async def test_what_is_evicted_is_written_again_byte_for_byte(ward: Ward) -> None:
    await ward.file(reported())
    first, _ = await ward.travels.brought(whole(STUDY))
    await ward.travels.cache.forget(STUDY, "room is needed")
    assert await ward.travels.cache.instances(STUDY) == ()
    again, _ = await ward.travels.brought(whole(STUDY))
    assert again == first


async def test_a_copy_of_what_was_superseded_is_given_to_nobody(ward: Ward) -> None:
    await ward.file(reported())
    first, _ = await ward.travels.brought(whole(STUDY))
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER))
    await ward.travels.clock.advance(60)
    ward.region.trust("RZ2").down()
    second, _ = await ward.travels.brought(whole(STUDY))
    [old] = [uid for uid, body in first.items() if b"No fracture." in body]
    assert old not in second
    assert any(b"SUPERSEDED" in body and b"No fracture." in body for body in second.values())


async def test_a_report_whose_text_is_forgotten_is_none_any_more_and_no_fault(ward: Ward) -> None:
    await ward.file(reported())
    forget = update(report_version).values(sealed=b"", key_id=b"")
    await ward.store.write(lambda tx: tx.connection.execute(forget))
    matches = await ward.find()
    assert titles([match.attributes for match in matches.rows]) == set()
    assert not any(source.state.is_missing for source in matches.sources)


async def test_without_keys_every_trust_is_told_in_part_whether_or_not_there_is_a_report(ward: Ward) -> None:
    ward.has_keys = False
    without = [source.state for source in (await ward.find()).sources]
    await ward.file(reported())
    await ward.travels.clock.advance(60)
    assert [source.state for source in (await ward.find()).sources] == without
    assert all(state.is_missing for state in without)


async def test_an_erased_report_is_absent(ward: Ward) -> None:
    await ward.file(reported())
    [row] = await ward.store.patient_rows([PatientId("NHS", ANNE.digits)])
    await ward.keys.close_patient(row, KeyDomain.RELEASE)
    matches = await ward.find()
    assert titles([match.attributes for match in matches.rows]) == set()
    assert not any(source.state.is_missing for source in matches.sources)


async def test_reports_that_cannot_be_read_are_said_to_be_missing(ward: Ward) -> None:
    await ward.file(reported())
    await ward.region.lose("report_study")
    matches = await ward.find()
    assert titles([match.attributes for match in matches.rows]) == set()
    assert all(source.state.is_missing for source in matches.sources)


async def test_what_was_superseded_since_it_was_listed_is_asked_of_nobody(ward: Ward) -> None:
    await ward.file(reported())
    first, _ = await ward.travels.brought(whole(STUDY))
    await ward.file(reported("A fracture.", said=Said.CORRECTED, at=LATER))
    await ward.travels.cache.forget(STUDY, "room is needed")
    second, _ = await ward.travels.brought(whole(STUDY))  # by the list of a moment ago
    assert second.keys() < first.keys()
    assert not any(b"No fracture." in body for body in second.values())
    assert await ward.region.quality() == []


@pytest.mark.parametrize("labelled", [STUDY, MR_STUDY])
async def test_a_report_of_several_studies_is_read_by_nobody_to_whom_one_of_them_is_not_shown(
    ward: Ward, labelled: str
) -> None:
    of_mr(ward)
    report_id = await ward.file(reported("Of both.", study_uids=(STUDY, MR_STUDY)))
    await ward.region.prepare()
    asking = partial(ward.reading.of_id, ward.region.caller("RZ1"), report_id)
    read = await asking()
    assert read is not None and read.documents[0].content.content.text == "Of both."
    await ward.region.label(ANNE, "RZ2", labelled)
    assert await ward.travels.clock.run(asking(), is_busy=ward.region.store.is_busy) is None
