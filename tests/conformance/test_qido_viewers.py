"""Searches as viewers really send them: OHIF's study list and series list, and what nginx makes of its headers.

After the viewer's own source (`extensions/default/src/DicomWebDataSource/qido.js`).
"""

from __future__ import annotations

import pytest

from gateway.model.imaging import Match
from tests.dicomweb.small_region import Answer, Shelf, ask, element, series, study

LIST = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030"
READ_BY_THE_LIST = ("00080020", "00080030", "00080050", "00080061", "00100010", "00100020", "0020000D", "00201208")


def shelf() -> Shelf:
    return Shelf([_described(1, "Chest CT", "CT"), _described(2, "MR brain", "MR"), _described(3, "Chest X-ray", "CR")])


def _described(number: int, text: str, modality: str) -> Match:
    return study(number, t00081030=element("LO", text), t00080061=element("CS", modality))


def found(answer: Answer) -> list[object]:
    assert answer.status == 200
    return [row["00200010"]["Value"][0] for row in answer.rows]  # type: ignore[index]  # a list by the answer's contract


async def test_the_study_list_has_what_it_reads() -> None:
    answer = await ask(shelf(), f"/studies?{LIST}", headers={"Accept": "application/dicom+json"})
    assert len(answer.rows) == 3 and all(row.keys() >= set(READ_BY_THE_LIST) for row in answer.rows)
    assert answer.rows[0]["00081030"]["Value"] == ["Chest CT"]
    # A series' attribute asked of studies is no error and no warning.
    assert "Warning" not in answer.headers


@pytest.mark.parametrize(
    ("typed", "studies"),
    [
        ("PatientName=*anne*", ["1", "2", "3"]),
        ("PatientName=*nobody*", []),
        ("00100020=*9990000018*", ["1", "2", "3"]),
        ("AccessionNumber=*ACC00002*", ["2"]),
        ("StudyDescription=*Chest*", ["1", "3"]),
        ("ModalitiesInStudy=CT", ["1"]),
        ("ModalitiesInStudy=CT%2CMR", ["1", "2"]),
        ("ModalitiesInStudy=CT%5CMR", ["1", "2"]),
        ("StudyDate=20250103-20250103", ["2"]),
        ("StudyDate=19700102-20250102", ["1"]),
        ("StudyDate=20250103-20261121", ["2", "3"]),
        ("StudyInstanceUID=1.2.826.0.1.1%5C%5C1.2.826.0.1.3", ["1", "3"]),
        ("StudyInstanceUID=1.2.826.0.1.2", ["2"]),
        ("PatientName=*anne*&ModalitiesInStudy=CT&StudyDate=19700102-20261121", ["1"]),
    ],
)
async def test_what_is_typed_into_the_filters_filters(typed: str, studies: list[str]) -> None:
    assert found(await ask(shelf(), f"/studies?{typed}&{LIST}")) == studies


async def test_the_list_learns_that_there_is_more_than_its_page() -> None:
    many = Shelf([study(number) for number in range(150)])
    answer = await ask(many, f"/studies?{LIST}")
    assert len(answer.rows) == 101
    assert answer.headers["Warning"].endswith(": There are 49 additional results that can be requested")
    assert len((await ask(many, f"/studies?{LIST.replace('offset=0', 'offset=101')}")).rows) == 49


async def test_the_series_of_a_study_have_what_the_viewer_reads() -> None:
    held = Shelf([series(1, t00080021=element("DA", "20250102")), series(2)])
    answer = await ask(held, "/studies/1.2.826.0.1.1/series?includefield=0008103E%2C00080021")
    assert [row["0008103E"]["Value"] for row in answer.rows] == [["Thorax"], ["Thorax"]]
    assert answer.rows[0]["00080021"]["Value"] == ["20250102"]
    assert all(row.keys() >= {"0020000E", "00080060", "00200011", "00201209"} for row in answer.rows)


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom+json",
        "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
        "*/*",
        "",
    ],
)
async def test_the_headers_that_viewers_and_proxies_send_are_answered(accept: str) -> None:
    answer = await ask(shelf(), f"/studies?{LIST}", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/dicom+json" and len(answer.rows) == 3
