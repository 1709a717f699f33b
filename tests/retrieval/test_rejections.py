"""What a trust's rejection note names is given to nobody, whatever its archive still lists, and who has it is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from gateway.keeping.freshness import REJECTED, Freshness
from gateway.model.imaging import JsonValue, Level
from gateway.model.seams import RECEIVED_AND_WITHDRAWN
from gateway.model.work.retrievals import Halt, RetrieveWish
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.freshness.rejections import KEY_OBJECT_SELECTION, REJECTIONS, rejected_by
from storage.registers.agreements import Clause
from tests.clock import settle
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


async def test_nothing_goes_before_a_slow_archive_has_sent_its_note(travels: Travels) -> None:
    travels.region.limits = replace(travels.region.limits, find_timeout_s=0.3)
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    hold_note(travels, "RZ2", note("1.2.3.2"))
    await travels.region.refer(ANNE, to="RZ1")

    async def pace(ref: InstanceRef) -> None:
        if ref == NOTE:
            longer_than_a_list = asyncio.Event()
            asyncio.get_running_loop().call_later(0.6, longer_than_a_list.set)
            await longer_than_a_list.wait()

    travels.region.trust("RZ2").pacs.pace = pace
    got, delivery = await travels.brought()
    assert set(got) == {"1.2.3.1", NOTE.sop_uid} and not delivery.failures


@pytest.mark.parametrize("is_kept", [False, True])
async def test_what_a_note_names_that_comes_on_the_way_is_not_given_any_more(travels: Travels, is_kept: bool) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    await travels.region.refer(ANNE, to="RZ1")
    if is_kept:
        await travels.brought()
        await travels.clock.advance(travels.region.limits.listing_fresh_s)
    hold_note(travels, "RZ2", note("1.2.3.2"))
    pacs = travels.region.trust("RZ2").pacs
    # Its archive cannot send it when it is asked for it first; asked again, it sends it before the images.
    sent = pacs.images.pop(NOTE.sop_uid)
    got: list[str] = []
    async with travels.retrieval() as delivery:
        pacs.images = {NOTE.sop_uid: sent, **pacs.images}
        async for item in delivery:
            got.append(item.ref.sop_uid)
            delivery.sent(item)
            await settled(travels, NOTE)
    assert sorted(got) == ["1.2.3.1", NOTE.sop_uid]
    assert [(each.ref.sop_uid, each.words) for each in delivery.failures] == [("1.2.3.2", "its trust has rejected it")]
    assert "1.2.3.2" not in {each.ref.sop_uid for each in await travels.cache.instances(STUDY)}


async def test_a_note_that_comes_later_counts_for_who_sits_over_the_study(travels: Travels) -> None:
    travels.hold("RZ2", "1.2.3.1", "1.2.3.2")
    hold_note(travels, "RZ2", note("1.2.3.2"))
    pacs = travels.region.trust("RZ2").pacs
    sent = pacs.images.pop(NOTE.sop_uid)
    await travels.region.refer(ANNE, to="RZ1")
    one = RetrieveWish(Level.IMAGE, study_uids=(STUDY,), sop_uids=("1.2.3.1",))
    assert set((await travels.brought(one))[0]) == set((await travels.brought(one))[0]) == {"1.2.3.1"}
    pacs.images[NOTE.sop_uid] = sent
    assert NOTE.sop_uid in (await travels.brought(RetrieveWish(Level.IMAGE, patient=ANNE)))[0]
    rejected = replace(one, sop_uids=("1.2.3.2",))
    assert (await travels.brought(rejected))[0] == {}


async def settled(travels: Travels, ref: InstanceRef) -> None:
    """Return once an instance that is on its way is kept."""
    while await travels.cache.instance(ref.study_uid, ref.sop_uid) is None:
        await settle()
    # It is told of a moment after it is kept.
    await settle()


async def test_what_changes_in_the_registers_while_a_note_is_waited_for_counts_for_the_first_image(
    travels: Travels,
) -> None:
    travels.hold("RZ2", "1.2.3.1")
    hold_note(travels, "RZ2", note("9.9"))
    await travels.region.refer(ANNE, to="RZ1")

    async def pace(ref: InstanceRef) -> None:
        if ref == NOTE:
            await travels.region.agree("RZ2", Clause(modalities=frozenset({"US"})))
            travels.version += 1

    travels.region.trust("RZ2").pacs.pace = pace
    got, delivery = await travels.brought()
    assert got == {} and delivery.halted is Halt.POLICY


@pytest.mark.parametrize(
    "title", [None, {"vr": "SQ"}, {"vr": "SQ", "Value": [None, {"00080100": 1}]}, "113001", {"Value": "113001"}]
)
def test_a_document_that_is_no_note_or_broken_rejects_nothing(title: JsonValue) -> None:
    assert rejected_by({"0040A043": title, "0040A375": title}) == {}
