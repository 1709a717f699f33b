"""PS3.18 Tables 10.6.3-3 to -5: every attribute that an answer shall have, at every resource, with its VR.

The tables stand here as the standard has them, apart from the product's own. Those of type "conditional" that depend on
the object (rows, columns, frames, time zone) are required only where the archive gave them.
"""

from __future__ import annotations

import re

import pytest

from gateway.model.imaging import Match
from tests.dicomweb.small_region import PUBLIC_URL, Shelf, ask, element, instance, series, study

STUDY = {
    "00080005": "CS",
    "00080020": "DA",
    "00080030": "TM",
    "00080050": "SH",
    "00080056": "CS",
    "00080061": "CS",
    "00080090": "PN",
    "00081190": "UR",
    "00100010": "PN",
    "00100020": "LO",
    "00100030": "DA",
    "00100040": "CS",
    "0020000D": "UI",
    "00200010": "SH",
    "00201206": "IS",
    "00201208": "IS",
}
SERIES = {
    "00080005": "CS",
    "00080060": "CS",
    "0008103E": "LO",
    "00081190": "UR",
    "0020000E": "UI",
    "00200011": "IS",
    "00201209": "IS",
    "00400244": "DA",
    "00400245": "TM",
    "00400275": "SQ",
}
INSTANCE = {
    "00080005": "CS",
    "00080016": "UI",
    "00080018": "UI",
    "00080056": "CS",
    "00081190": "UR",
    "00200013": "IS",
}
RESOURCES = {
    "/studies": STUDY,
    "/studies/1.2.826.0.1.1/series": SERIES,
    "/studies/1.2.826.0.1.1/series/1.2.826.0.1.1.1/instances": INSTANCE,
    # Where the path does not name the upper levels, their attributes come too (10.6.3.3).
    "/series": STUDY | SERIES,
    "/studies/1.2.826.0.1.1/instances": SERIES | INSTANCE,
    "/instances": STUDY | SERIES | INSTANCE,
}

BARE = ("0020000D", "0020000E", "00080018")


def bare(match: Match) -> Match:
    """The match of an archive that returned nothing but unique keys."""
    row = {tag: match.attributes[tag] for tag in BARE if tag in match.attributes}
    return Match(match.level, match.patient, match.study_uid, match.series_uid, match.sop_uid, match.holders, row)


@pytest.mark.parametrize(("resource", "table"), RESOURCES.items())
@pytest.mark.parametrize("is_bare", [False, True], ids=["full", "bare"])
async def test_every_required_attribute_is_returned_with_its_vr(
    resource: str, table: dict[str, str], is_bare: bool
) -> None:
    held = [study(1), series(1), instance(1)]
    [row] = (await ask(Shelf([bare(each) for each in held] if is_bare else held), resource)).rows
    assert {tag: row[tag]["vr"] for tag in table} == table
    for tag, attribute in row.items():
        assert re.fullmatch("[0-9A-F]{8}", tag) and attribute.keys() <= {"vr", "Value"}
        assert attribute.get("Value", ["present"]), "an empty attribute has no Value"


@pytest.mark.parametrize("resource", RESOURCES)
async def test_text_is_utf_8_and_says_so(resource: str) -> None:
    named = element("PN", {"Alphabetic": "YAMADA^Tarou", "Ideographic": "山田^太郎"})
    held = [each(1, t00100010=named) for each in (study, series, instance)]
    answer = await ask(Shelf(held), f"{resource}{'&' if '?' in resource else '?'}includefield=PatientName")
    [row] = answer.rows
    assert row["00080005"]["Value"] == ["ISO_IR 192"] and row["00100010"]["Value"] == named["Value"]
    assert "山田^太郎".encode() in answer.body


@pytest.mark.parametrize("resource", RESOURCES)
async def test_the_retrieve_url_is_absolute_and_ours(resource: str) -> None:
    held = [each(1, t00081190=element("UR", "http://pacs.internal/x")) for each in (study, series, instance)]
    [row] = (await ask(Shelf(held), resource)).rows
    assert str(row["00081190"]["Value"]).startswith(f"['{PUBLIC_URL}/studies/1.2.826.0.1.1")


async def test_image_attributes_are_returned_for_images() -> None:
    [row] = (await ask(Shelf([instance(1, t00280008=element("IS", 3))]), "/instances")).rows
    assert {tag: row[tag]["Value"] for tag in ("00280008", "00280010", "00280011", "00280100")} == {
        "00280008": [3],
        "00280010": [512],
        "00280011": [512],
        "00280100": [16],
    }


async def test_included_fields_are_returned_in_each_of_their_forms() -> None:
    more = {"t00081030": element("LO", "Thorax"), "t00081080": element("LO", "Cough")}
    shelf = Shelf([study(1, **more)])
    forms = (
        "includefield=StudyDescription&includefield=AdmittingDiagnosesDescription",
        "includefield=00081030,00081080",
        "includefield=studydescription,00081080,Nonsense",
        "includefield=all",
    )
    for form in forms:
        answer = await ask(shelf, f"/studies?{form}")
        assert answer.rows[0].keys() >= {"00081030", "00081080"} and "Warning" not in answer.headers
