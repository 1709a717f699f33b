"""What a trust's rejection note names is given to nobody, whatever its archive still lists, and who has it is told."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from gateway.keeping.freshness import REJECTED, Freshness
from gateway.model.imaging import JsonValue
from gateway.model.seams import RECEIVED_AND_WITHDRAWN
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.freshness.rejections import KEY_OBJECT_SELECTION, REJECTIONS, rejected_by
from tests.memory_archive import Image
from tests.retrieval.test_freshness import due, freshness
from tests.retrieval.travels import STUDY, Travels, image_row
from tests.sharing.rows import ANNE

__all__ = ["freshness"]

NOTE = InstanceRef(STUDY, "1.2.3.9", "1.2.3.9.1", KEY_OBJECT_SELECTION)


def item(**attributes: object) -> Dataset:
    """A data set of these."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def note(*rejected: str, code: str = "113001", study: str = STUDY) -> bytes:
    """A Key Object Selection of the study, titled so, that names these instances."""
    images = [item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=uid) for uid in rejected]
    series = item(SeriesInstanceUID=f"{study}.1", ReferencedSOPSequence=Sequence(images))
    dataset = item(
        SOPClassUID=NOTE.sop_class_uid,
        SOPInstanceUID=NOTE.sop_uid,
        StudyInstanceUID=NOTE.study_uid,
        SeriesInstanceUID=NOTE.series_uid,
        PatientID=ANNE.digits,
        PatientName="SMITH^ANNE",
        PatientBirthDate="19580314",
        Modality="KO",
        ConceptNameCodeSequence=Sequence(
            [item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="Rejected for Quality Reasons")]
        ),
        CurrentRequestedProcedureEvidenceSequence=Sequence(
            [item(StudyInstanceUID=study, ReferencedSeriesSequence=Sequence([series]))]
        ),
    )
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def hold_note(travels: Travels, trust: str, encoded: bytes) -> None:
    """Let a trust's archive list a note, beside everything that it lists already."""
    travels.region.trust(trust).pacs.with_image(image_row(NOTE, ANNE.digits), Image(NOTE, encoded))


@pytest.mark.parametrize("code", sorted(REJECTIONS))
async def test_what_a_note_rejects_is_not_given_though_its_archive_lists_it(travels: Travels, code: str) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    hold_note(travels, "RZ2", note("1.2.3.2", code=code))
    await travels.region.refer(ANNE, to="RZ1")
    assert set((await travels.brought())[0]) == {"1.2.3.1", NOTE.sop_uid}
    assert set((await travels.brought())[0]) == {"1.2.3.1", NOTE.sop_uid}


async def test_key_images_are_no_rejection(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    hold_note(travels, "RZ2", note("1.2.3.1", code="113000"))
    await travels.region.refer(ANNE, to="RZ1")
    assert set((await travels.brought())[0]) == {"1.2.3.1", NOTE.sop_uid}


async def test_a_note_that_comes_later_takes_the_copy_back_and_tells_who_has_it(
    travels: Travels, freshness: Freshness
) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    assert len((await travels.brought())[0]) == 2
    hold_note(travels, "RZ2", note("1.2.3.2", code="113037"))
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    assert set((await travels.brought())[0]) == {"1.2.3.1", NOTE.sop_uid}
    await due(travels, dict(freshness.handlers))
    [told] = await travels.region.quality()
    assert (told.kind, told.custodian.code, told.detail["why"]) == (RECEIVED_AND_WITHDRAWN, "RZ1", REJECTED)
    travels.region.trust("RZ2").pacs.down()
    await travels.clock.advance(travels.region.limits.listing_fresh_s)
    assert set((await travels.brought())[0]) == {"1.2.3.1", NOTE.sop_uid}


async def test_a_note_binds_its_own_archives_images_alone(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    held = travels.hold("RZ3", "1.2.3.1")
    hold_note(travels, "RZ2", note("1.2.3.1"))
    await travels.region.refer(ANNE, to="RZ1")
    got, delivery = await travels.brought()
    assert got["1.2.3.1"] == held[0].encoded and not delivery.failures
    assert [each.source.code for each in await travels.cache.instances(STUDY) if each.ref.sop_uid == "1.2.3.1"] == [
        "RZ3"
    ]


async def test_a_study_of_which_everything_is_rejected_is_given_as_nothing_but_its_note(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    hold_note(travels, "RZ2", note("1.2.3.1"))
    await travels.region.refer(ANNE, to="RZ1")
    assert set((await travels.brought())[0]) == {NOTE.sop_uid}


async def test_a_note_that_cannot_be_had_keeps_nothing_back(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1")
    hold_note(travels, "RZ2", note("1.2.3.1"))
    del travels.region.trust("RZ2").pacs.images[NOTE.sop_uid]
    await travels.region.refer(ANNE, to="RZ1")
    got, delivery = await travels.brought()
    assert set(got) == {"1.2.3.1"} and [each.ref for each in delivery.failures] == [NOTE]


@pytest.mark.parametrize(
    "title", [None, {"vr": "SQ"}, {"vr": "SQ", "Value": [None, {"00080100": 1}]}, "113001", {"Value": "113001"}]
)
def test_a_document_that_is_no_note_or_broken_rejects_nothing(title: JsonValue) -> None:
    assert rejected_by({"0040A043": title, "0040A375": title}) == {}
