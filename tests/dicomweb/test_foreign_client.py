"""dicomweb-client, the Python client of the imaging community, searching through the gateway."""

from __future__ import annotations

import asyncio

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset
from requests import HTTPError

from gateway.model.errors import QueryTooBroad
from gateway.model.settings import QidoEmpty
from tests.dicomweb.small_region import Shelf, element, instance, series, serving, study


async def search(shelf: Shelf, what: str, empty: QidoEmpty = QidoEmpty.OK, **arguments: object) -> list[Dataset]:
    """Run one `search_for_...` of the client in a thread, beside the served shelf."""
    async with serving(shelf, empty=empty) as base:
        client = DICOMwebClient(base)
        found = await asyncio.to_thread(getattr(client, f"search_for_{what}"), **arguments)
    return [Dataset.from_json(each) for each in found]


async def test_studies_are_found_by_filters_fields_and_pages() -> None:
    shelf = Shelf([study(number, t00081030=element("LO", f"Thorax {number}")) for number in range(5)])
    found = await search(
        shelf, "studies", search_filters={"PatientID": "9990000018"}, fields=["StudyDescription"], limit=2, offset=1
    )
    assert [each.StudyDescription for each in found] == ["Thorax 1", "Thorax 2"]
    assert found[0].PatientName == "ONE^ANNE" and found[0].RetrieveURL.startswith("https://gateway.example/dicom-web/")


async def test_all_pages_are_read_by_the_client_itself() -> None:
    shelf = Shelf([study(number) for number in range(5)])
    assert (
        len(await search(shelf, "studies", search_filters={"PatientID": "9990000018"}, limit=2, get_remaining=True))
        == 5
    )


async def test_series_and_instances_are_found_below_a_study() -> None:
    shelf = Shelf([series(1), series(2), instance(1), instance(2)])
    study_uid = "1.2.826.0.1.1"
    found = await search(shelf, "series", study_instance_uid=study_uid)
    assert {each.SeriesNumber for each in found} == {1, 2}
    within = await search(shelf, "instances", study_instance_uid=study_uid, series_instance_uid=f"{study_uid}.1")
    assert [each.Rows for each in within] == [512, 512]
    assert len(await search(shelf, "instances", search_filters={"PatientID": "9990000018"})) == 2


@pytest.mark.parametrize("empty", QidoEmpty)
async def test_no_matches_are_read_in_either_form(empty: QidoEmpty) -> None:
    assert await search(Shelf(), "studies", empty) == []


async def test_fuzzy_matching_asked_for_is_answered_literally() -> None:
    found = await search(Shelf([study(1)]), "studies", fuzzymatching=True, search_filters={"PatientName": "ONE^ANNE"})
    assert len(found) == 1


async def test_a_refusal_reaches_the_client_as_an_error() -> None:
    with pytest.raises(HTTPError) as error:
        await search(Shelf(error=QueryTooBroad("name one patient")), "studies")
    assert error.value.response is not None and error.value.response.status_code == 400
