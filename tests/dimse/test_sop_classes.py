"""Hold the tables of UIDs to those of pynetdicom and pydicom, and to what a region's archives really hold."""

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom.presentation import AllStoragePresentationContexts, NonPatientObjectPresentationContexts

from dimse import sop_classes

QUERY_RETRIEVE = {
    sop_classes.PATIENT_ROOT_FIND: "Patient Root Query/Retrieve Information Model - FIND",
    sop_classes.PATIENT_ROOT_MOVE: "Patient Root Query/Retrieve Information Model - MOVE",
    sop_classes.PATIENT_ROOT_GET: "Patient Root Query/Retrieve Information Model - GET",
    sop_classes.STUDY_ROOT_FIND: "Study Root Query/Retrieve Information Model - FIND",
    sop_classes.STUDY_ROOT_MOVE: "Study Root Query/Retrieve Information Model - MOVE",
    sop_classes.STUDY_ROOT_GET: "Study Root Query/Retrieve Information Model - GET",
    sop_classes.PATIENT_STUDY_ONLY_FIND: "Patient/Study Only Query/Retrieve Information Model - FIND",
    sop_classes.VERIFICATION: "Verification SOP Class",
}


@pytest.mark.parametrize(("uid", "name"), QUERY_RETRIEVE.items())
def test_each_service_has_the_uid_of_its_name(uid: str, name: str) -> None:
    assert sop_classes.name_of(uid) == name


def test_every_storage_class_that_the_other_implementation_takes_is_known() -> None:
    theirs = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    assert len(theirs) >= 170 and theirs <= sop_classes.STORAGE


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image Storage
    ],
)
def test_a_prior_of_a_retired_class_can_be_stored(uid: str) -> None:
    assert UID_dictionary[uid][3] == "Retired" and uid in sop_classes.STORAGE


def test_what_is_of_no_patient_is_not_stored() -> None:
    theirs = {str(context.abstract_syntax) for context in NonPatientObjectPresentationContexts}
    assert theirs and not theirs & sop_classes.STORAGE


def test_no_storage_class_is_a_service() -> None:
    assert not sop_classes.STORAGE & QUERY_RETRIEVE.keys()
    assert all(UID(uid).is_valid for uid in sop_classes.STORAGE)


@pytest.mark.parametrize(
    "name",
    [
        "Implicit VR Little Endian",
        "Explicit VR Little Endian",
        "Deflated Explicit VR Little Endian",
        "Explicit VR Big Endian",
        "RLE Lossless",
        "JPEG Baseline (Process 1)",
        "JPEG Extended (Process 2 and 4)",
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        "JPEG-LS Lossless Image Compression",
        "JPEG-LS Lossy (Near-Lossless) Image Compression",
        "JPEG 2000 Image Compression (Lossless Only)",
        "JPEG 2000 Image Compression",
        "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)",
        "JPEG 2000 Part 2 Multi-component Image Compression",
        "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
        "High-Throughput JPEG 2000 Image Compression",
        "MPEG2 Main Profile / Main Level",
        "MPEG-4 AVC/H.264 High Profile / Level 4.1",
        "HEVC/H.265 Main Profile / Level 5.1",
    ],
)
def test_a_common_transfer_syntax_is_taken(name: str) -> None:
    assert name in {sop_classes.name_of(uid) for uid in sop_classes.TRANSFER_SYNTAXES}


@pytest.mark.parametrize("syntaxes", [sop_classes.TRANSFER_SYNTAXES, sop_classes.QUERY_TRANSFER_SYNTAXES])
def test_explicit_comes_first_and_the_retired_one_last(syntaxes: tuple[str, ...]) -> None:
    assert syntaxes[0] == sop_classes.EXPLICIT_VR_LITTLE_ENDIAN
    assert syntaxes[-2:] == (sop_classes.IMPLICIT_VR_LITTLE_ENDIAN, sop_classes.EXPLICIT_VR_BIG_ENDIAN)
    assert len(set(syntaxes)) == len(syntaxes)
    assert all(UID_dictionary[uid][1] == "Transfer Syntax" for uid in syntaxes)


def test_an_object_whose_pixels_are_elsewhere_is_not_taken() -> None:
    names = [sop_classes.name_of(uid) for uid in sop_classes.TRANSFER_SYNTAXES]
    assert [name for name in names if "JPIP" in name or "SMPTE" in name] == []


def test_what_nobody_registered_is_called_by_its_uid() -> None:
    assert sop_classes.name_of("1.2.3.4") == "1.2.3.4"
    assert sop_classes.name_of("1.2.840.10008.5.1.4.1.1.66.7") == "LabelMapSegmentationStorage"
