"""Rows of studies and series that are folded from instances say what an archive would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.attributes import INSTANCE_NUMBER, SERIES_DESCRIPTION, STUDY_DESCRIPTION
from gateway.model.imaging import (
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_ID,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Attributes,
    Element,
)
from gateway.model.work.transfers import InstanceRef
from gateway.sharing.retrieval.folding import (
    SERIES_INSTANCES,
    SOP_CLASSES_IN_STUDY,
    STUDY_INSTANCES,
    STUDY_SERIES,
    image_row,
    series_row,
    study_row,
)
from tests.sharing.rows import values

INSTANCES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 30), st.sampled_from(["1.1", "1.2", "1.3"])), min_size=1, max_size=30
)
MODALITY_OF = ("", "CT", "MR", "CT", "SR")


def refs_of(instances: list[tuple[int, int, str]]) -> list[InstanceRef]:
    return [InstanceRef("1", f"1.{series}", f"1.{series}.{number}", kind) for series, number, kind in instances]


def said(series: int) -> Attributes:
    return {
        PATIENT_ID: {"vr": "LO", "Value": ["9990000018"]},
        STUDY_UID: {"vr": "UI", "Value": ["1"]},
        SERIES_UID: {"vr": "UI", "Value": [f"1.{series}"]},
        SOP_UID: {"vr": "UI", "Value": [f"1.{series}.1"]},
        INSTANCE_NUMBER: {"vr": "IS", "Value": [1]},
        MODALITY: {"vr": "CS", "Value": [MODALITY_OF[series]]},
    }


@given(INSTANCES)
def test_a_study_counts_each_series_and_each_instance_once(instances: list[tuple[int, int, str]]) -> None:
    refs = refs_of(instances)
    series = sorted({each[0] for each in instances})
    row = study_row([said(each) for each in series], refs)
    assert values(row, STUDY_SERIES) == [len(series)] and values(row, STUDY_INSTANCES) == [len(refs)]
    assert values(row, MODALITIES_IN_STUDY) == sorted({MODALITY_OF[each] for each in series})
    assert values(row, SOP_CLASSES_IN_STUDY) == sorted({kind for *_, kind in instances})
    assert row.keys().isdisjoint({SERIES_UID, SOP_UID, MODALITY, INSTANCE_NUMBER})


@given(INSTANCES)
def test_a_series_says_nothing_of_one_instance(instances: list[tuple[int, int, str]]) -> None:
    row = series_row(said(1), refs_of(instances))
    assert values(row, SERIES_INSTANCES) == [len(instances)]
    assert values(row, MODALITY) == ["CT"] and row.keys().isdisjoint({SOP_UID, INSTANCE_NUMBER})


def test_the_first_series_that_says_anything_of_the_study_speaks() -> None:
    empty: Element = {"vr": "LO"}
    described: Element = {"vr": "LO", "Value": ["THORAX"]}
    row = study_row([{**said(1), STUDY_DESCRIPTION: empty}, {**said(2), STUDY_DESCRIPTION: described}], [])
    assert values(row, STUDY_DESCRIPTION) == ["THORAX"]


def test_an_image_keeps_its_own_words_beside_those_of_its_series() -> None:
    row = image_row(said(1), {**said(2), SERIES_DESCRIPTION: {"vr": "LO", "Value": ["THIN"]}})
    assert values(row, SERIES_UID) == ["1.1"] and values(row, SERIES_DESCRIPTION) == ["THIN"]
    assert values(row, SOP_UID) == ["1.1.1"]
