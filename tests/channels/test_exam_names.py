"""What a patient reads of what was examined: plain words, and nothing but what was done where."""

from __future__ import annotations

import re

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from gateway.channels.rendering.exam_names import MODALITIES, REGIONS, UNNAMED, plain_name

ACQUISITION_MODALITY = 29
"""Context group of PS3.16."""
AS_FEEDS_WRITE = {"XR": "CR", "MRI": "MR", "DXA": "BMD"}
JUDGEMENTS = re.compile(
    r"normal|finding|cancer|tumour|lesion|fracture|urgent|suspect|suspicious|risk|query|follow|screen|pain|sign", re.I
)


@pytest.mark.parametrize(
    ("modality", "region", "own", "shown"),
    [
        ("DX", "CHEST", "XR Chest", "X-ray of the chest (XR Chest)"),
        ("CT", "ABDOMEN", "", "CT scan of the abdomen (tummy)"),
        ("CT", "NOWHERE", "CT thing", "CT scan (CT thing)"),
        ("MG", "BREAST", "", "Breast X-ray (mammogram)"),
        ("MR", "", "MRI  knee\nleft", "MRI scan (MRI knee left)"),
        (" us ", "liver", "ultrasound scan of the liver", "Ultrasound scan of the liver"),
        ("", "", "Special view", "Special view"),
        ("OT", "CHEST", "", UNNAMED),
        ("", "", " \n ", UNNAMED),
    ],
)
def test_an_examination_is_named_in_plain_words(modality: str, region: str, own: str, shown: str) -> None:
    assert plain_name(modality, region, own) == shown


def test_modalities_are_those_of_the_standard_and_one_has_one_name() -> None:
    group = cid_concepts[ACQUISITION_MODALITY]["DCM"]
    assert isinstance(group, list)
    named = [concepts["DCM"][name] for name in group]
    defined = {code for each in named if isinstance(each, dict) for code in each}
    assert MODALITIES.keys() - AS_FEEDS_WRITE.keys() <= defined
    assert all(MODALITIES[other] == MODALITIES[code] for other, code in AS_FEEDS_WRITE.items())


@pytest.mark.parametrize("modality", ["", *MODALITIES])
@pytest.mark.parametrize("region", ["", *REGIONS])
def test_no_name_judges_or_says_more_than_what_was_done_where(modality: str, region: str) -> None:
    name = plain_name(modality, region, "")
    assert re.fullmatch(r"[A-Z][A-Za-z() -]{3,79}", name)
    assert not JUDGEMENTS.search(name)
    assert name.count("(") == name.count(")") and not re.search(r"\b(left|right)\b", name)


def test_no_region_has_the_words_of_another_but_the_head() -> None:
    words = [REGIONS[code] for code in REGIONS if code != "SKULL"]
    assert len(words) == len(set(words))
