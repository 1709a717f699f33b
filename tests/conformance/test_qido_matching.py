"""PS3.18 Table 10.6.1-5: every attribute that a search service shall support for matching, at every resource it is for.

The table stands here as the standard has it, apart from the product's own.
"""

from __future__ import annotations

import pytest

from gateway.model.imaging import Level, Match
from tests.dicomweb.small_region import Shelf, ask, element, instance, series, study

STUDY_ATTRIBUTES = [
    ("StudyDate", "00080020", "20250102", "20250103"),
    ("StudyTime", "00080030", "1015", "1115"),
    ("AccessionNumber", "00080050", "ACC00001", "ACC00009"),
    ("ModalitiesInStudy", "00080061", "CT", "MR"),
    ("ReferringPhysicianName", "00080090", "WATSON^JOHN", "HOUSE^GREGORY"),
    ("PatientName", "00100010", "ONE^ANNE", "TWO^BELLA"),
    ("PatientID", "00100020", "9990000018", "9990000026"),
    ("StudyInstanceUID", "0020000D", "1.2.826.0.1.1", "1.2.826.0.1.9"),
    ("StudyID", "00200010", "1", "9"),
]
SERIES_ATTRIBUTES = [
    ("Modality", "00080060", "CT", "MR"),
    ("SeriesInstanceUID", "0020000E", "1.2.826.0.1.1.1", "1.2.826.0.1.1.9"),
    ("SeriesNumber", "00200011", "1", "9"),
    ("PerformedProcedureStepStartDate", "00400244", "20250102", "20250103"),
    ("PerformedProcedureStepStartTime", "00400245", "1015", "1115"),
    ("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009", "SPS1", "SPS9"),
    ("RequestAttributesSequence.RequestedProcedureID", "00400275.00401001", "RP1", "RP9"),
]
INSTANCE_ATTRIBUTES = [
    ("SOPClassUID", "00080016", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"),
    ("SOPInstanceUID", "00080018", "1.2.826.0.1.1.1.1", "1.2.826.0.1.1.1.9"),
    ("InstanceNumber", "00200013", "1", "9"),
]
BY_RESOURCE = {
    "/studies": STUDY_ATTRIBUTES,
    "/series": STUDY_ATTRIBUTES + SERIES_ATTRIBUTES,
    "/studies/1.2.826.0.1.1/series": SERIES_ATTRIBUTES,
    "/instances": STUDY_ATTRIBUTES + SERIES_ATTRIBUTES + INSTANCE_ATTRIBUTES,
    "/studies/1.2.826.0.1.1/instances": SERIES_ATTRIBUTES + INSTANCE_ATTRIBUTES,
    "/studies/1.2.826.0.1.1/series/1.2.826.0.1.1.1/instances": INSTANCE_ATTRIBUTES,
}
CASES = [(resource, *case) for resource, cases in BY_RESOURCE.items() for case in cases]

_REQUEST = {"00400009": element("SH", "SPS1"), "00401001": element("SH", "RP1")}
_MORE = {
    "t00080090": element("PN", {"Alphabetic": "WATSON^JOHN"}),
    "t00400244": element("DA", "20250102"),
    "t00400245": element("TM", "101500"),
    "t00400275": element("SQ", {tag: dict(each) for tag, each in _REQUEST.items()}),
}


def held() -> list[Match]:
    return [study(1, **_MORE), series(1, **_MORE), instance(1, **_MORE)]


@pytest.mark.parametrize(("resource", "keyword", "tag", "hit", "miss"), CASES)
async def test_a_required_attribute_is_matched_by_keyword_and_by_tag(
    resource: str, keyword: str, tag: str, hit: str, miss: str
) -> None:
    for name in (keyword, tag):
        found = await ask(Shelf(held()), f"{resource}?{name}={hit}")
        assert found.status == 200 and len(found.rows) == 1 and "Warning" not in found.headers
        missed = await ask(Shelf(held()), f"{resource}?{name}={miss}")
        assert missed.status == 200 and missed.rows == []


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
async def test_a_matched_attribute_stands_in_the_row(level: Level) -> None:
    resource = {Level.STUDY: "/studies", Level.SERIES: "/series", Level.IMAGE: "/instances"}[level]
    for keyword, tag, hit, _ in BY_RESOURCE[resource]:
        [row] = (await ask(Shelf(held()), f"{resource}?{keyword}={hit}")).rows
        assert row[tag.split(".", maxsplit=1)[0]]["Value"]
