"""Storage commitment with Orthanc, which knows both roles: the archive that is asked, and the sender that asks."""

from __future__ import annotations

import asyncio
import http.client
import json
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from tests.clock import FakeClock
from tests.custody.custody_rig import REGION, STUDY, Rig, custody_of, destination
from tests.gateway.keeping_rig import Place
from tests.peers.orthanc import AE_TITLE, Orthanc, running_orthanc
from tests.storage.cache_rig import CT

pytestmark = pytest.mark.peer

ONE, TWO = "1.2.1.1", "1.2.1.2"
LOOKS_MAX = 600
"""A hang guard: of a tenth of a second each."""


def rest(orthanc: Orthanc, path: str, body: object = None, method: str = "") -> object:
    """What Orthanc answers over its own interface."""
    connection = http.client.HTTPConnection("127.0.0.1", orthanc.port, timeout=30)
    data = json.dumps(body) if body is not None else None
    connection.request(method or ("POST" if data is not None else "GET"), path, data)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    assert response.status == 200, (path, response.status)
    return json.loads(text) if text.strip() else None


def image(sop_uid: str) -> bytes:
    """A CT image, encoded as it travels."""
    file = get_testdata_file("CT_small.dcm")
    assert isinstance(file, str)
    dataset = dcmread(BytesIO(Path(file).read_bytes()))
    made = Dataset()
    made.update({element.tag: element for element in dataset})
    made.SOPClassUID, made.SOPInstanceUID = CT, sop_uid
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    body = encode(made, False, True)
    assert body is not None
    return body


async def until_no_sole_copy(rig: Rig) -> None:
    """Follow until the archive has reported."""
    never = asyncio.create_task(asyncio.Event().wait())
    for _ in range(LOOKS_MAX):
        await rig.follow()
        if not await rig.sole():
            break
        await asyncio.wait([never], timeout=0.1)
    never.cancel()
    assert not await rig.sole()


async def test_orthanc_takes_sole_copies_back_commits_itself_and_is_told_what_it_asks(tmp_path: Path) -> None:
    place, folder = Place(tmp_path, FakeClock()), tmp_path / "orthanc"
    folder.mkdir()
    with running_orthanc(folder) as orthanc:
        place.more = [REGION, destination(orthanc.dicom_port, ae_title=AE_TITLE)]
        async with custody_of(place) as rig:
            known = {"AET": "GATEWAY", "Host": "127.0.0.1", "Port": rig.house.port, "AllowStorageCommitment": True}
            await asyncio.to_thread(rest, orthanc, "/modalities/gateway", known, "PUT")
            await rig.push(ONE, content=image(ONE))
            await rig.push(TWO, content=image(TWO))
            await rig.turn()
            await until_no_sole_copy(rig)
            kept = await asyncio.to_thread(rest, orthanc, "/statistics")
            assert isinstance(kept, dict) and kept["CountInstances"] == 2

            asked = {"DicomInstances": [{"SOPClassUID": CT, "SOPInstanceUID": uid} for uid in (ONE, "1.2.1.9")]}
            taken = await asyncio.to_thread(rest, orthanc, "/modalities/gateway/storage-commitment", asked)
            assert isinstance(taken, dict)
            told = await _report(rig, orthanc, taken["Path"])
    status, success, failures = told["Status"], told["Success"], told["Failures"]
    assert status == "Failure" and isinstance(success, list) and isinstance(failures, list)
    assert [each["SOPInstanceUID"] for each in success] == [ONE]
    assert [(each["SOPInstanceUID"], each["FailureReason"]) for each in failures] == [("1.2.1.9", 0x0112)]


async def _report(rig: Rig, orthanc: Orthanc, path: str) -> dict[str, object]:
    """What Orthanc was told, once it was."""
    never = asyncio.create_task(asyncio.Event().wait())
    try:
        for _ in range(LOOKS_MAX):
            await rig.follow()
            told = await asyncio.to_thread(rest, orthanc, path)
            assert isinstance(told, dict)
            if told["Status"] != "Pending":
                return told
            await asyncio.wait([never], timeout=0.1)
    finally:
        never.cancel()
    raise AssertionError("Orthanc was told nothing")
