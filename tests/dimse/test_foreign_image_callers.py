"""Other people's software that gets images at our door, has them moved, and sends its own: nothing changes on the way.

Compared to the byte wherever the tool leaves the bytes as they are.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from dimse.scp.profiles import CallerProfile, MoveDestination
from dimse.sop_classes import PATIENT_ROOT_MOVE, STUDY_ROOT_GET
from dimse.status import MissingSources
from gateway.demo.ports import free_port
from policy.identity import CallerBinding
from policy.parties import TrustId
from tests.dimse.door import HANG_S, THEIRS, identifier
from tests.dimse.items import MemoryItem, item_of, items_in, real_files
from tests.dimse.lending import destination, lending, profile_for
from tests.dimse.library import CT, EXPLICIT, Library, Stack, images
from tests.peers import dcmjs
from tests.peers.dcmtk import program, run, storescp
from tests.peers.orthanc import AE_TITLE as ORTHANC
from tests.peers.orthanc import Orthanc, running_orthanc

NOWHERE = CallerProfile(MissingSources.COMMENT)
STUDY_UID, SERIES_UID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.1.1"
STUDY = identifier("STUDY", StudyInstanceUID=STUDY_UID)
KEYS = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY_UID}")
UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.2"})
T = TypeVar("T")


@dataclass(frozen=True)
class Filed:
    """One of pydicom's own files."""

    path: Path
    item: MemoryItem


FILES = [Filed(path, item_of(path)) for path in real_files()]
LIBRARY = [replace(each.item, ref=replace(each.item.ref, study_uid=STUDY_UID, series_uid=SERIES_UID)) for each in FILES]
"""All of them, listed as instances of one study."""
CONTENTS = {item.ref.sop_uid: (item.transfer_syntax, item.content) for item in LIBRARY}


def padded(content: bytes) -> bytes:
    """A file's data set of odd length, as tools end it."""
    return content + b"\0" * (len(content) % 2)


def filed(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What a tool filed, by UID: transfer syntax and data set."""
    return {uid: (item.transfer_syntax, item.content) for uid, item in items_in(folder).items()}


# --- DCMTK ---

PROPOSING: Mapping[str, str] = {
    "1.2.840.10008.1.2": "-xi",
    EXPLICIT: "-xe",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
}
"""`storescu`'s option that proposes each transfer syntax."""


async def storescu(port: int, called: str) -> None:
    """Send every file that the tool can read, each in its own transfer syntax."""
    for uid, option in PROPOSING.items():
        files = tuple(each.path for each in FILES if each.item.transfer_syntax == uid)
        done = await run("storescu", port, "-R", option, calling=THEIRS, called=called, files=files)
        assert done.status == 0, done.printed


@pytest.mark.peer
async def test_storescu_sends_us_what_it_would_send_a_receiver_of_its_own_family(tmp_path: Path) -> None:
    stack = Stack()
    async with lending(Library(), NOWHERE, intake=stack) as door:
        await storescu(door.house.port, "GATEWAY")
    async with storescp(tmp_path, "+xa", "+B") as port:  # all transfer syntaxes, written as they come
        await storescu(port, "STORESCP")
    assert {uid: (syntax, content) for uid, (_, syntax, content) in stack.kept.items()} == filed(tmp_path)
    assert len(stack.kept) == sum(each.item.transfer_syntax in PROPOSING for each in FILES) > 15


@pytest.mark.peer
async def test_movescu_has_every_image_moved_to_storescp_as_it_is(tmp_path: Path) -> None:
    library = Library()
    async with storescp(tmp_path, "+xa", "+B") as port, lending(library, profile_for(destination(port))) as door:
        # One class after the other: of more at once there are not contexts enough for each rare syntax of each.
        for sop_class in {item.ref.sop_class_uid for item in LIBRARY}:
            library.items = [item for item in LIBRARY if item.ref.sop_class_uid == sop_class]
            done = await run("movescu", door.house.port, *KEYS, "-aem", THEIRS, calling=THEIRS, called="GATEWAY")
            assert done.status == 0 and "Received Final Move Response (Success)" in done.printed
    assert filed(tmp_path) == {uid: (syntax, padded(content)) for uid, (syntax, content) in CONTENTS.items()}


@pytest.mark.peer
async def test_movescu_is_a_destination_itself(tmp_path: Path) -> None:
    library, port = Library([item for item in LIBRARY if item.transfer_syntax == EXPLICIT]), free_port()
    async with lending(library, profile_for(destination(port))) as door:
        process = await asyncio.create_subprocess_exec(
            *(program("movescu"), "-v", "-aet", THEIRS, "-aec", "GATEWAY", "-aem", THEIRS, "+P", str(port), *KEYS),
            *("127.0.0.1", str(door.house.port)),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(HANG_S):
            printed, _ = await process.communicate()
    assert process.returncode == 0, printed
    assert library.loan.counts.completed == len(library.items) == len(filed(tmp_path))


@pytest.mark.peer
async def test_movescu_hears_of_destinations_that_it_may_not_name() -> None:
    async with lending(Library(), NOWHERE) as door:
        unknown = await run("movescu", door.house.port, *KEYS, "-aem", "NOBODY", calling=THEIRS, called="GATEWAY")
        others = await run("movescu", door.house.port, *KEYS, "-aem", "OTHERS_PACS", calling=THEIRS, called="GATEWAY")
    assert "Refused: MoveDestinationUnknown" in unknown.printed
    assert "Unknown Status: 0x124" in others.printed  # the tool's own words for a status that it has no name for


@pytest.mark.peer
async def test_getscu_gets_uncompressed_images_to_the_byte_and_is_told_of_the_others(tmp_path: Path) -> None:
    library = Library([item for item in LIBRARY if item.ref.sop_class_uid == CT])
    expected = {item.ref.sop_uid for item in library.items if item.transfer_syntax == EXPLICIT}
    async with lending(library, NOWHERE) as door:
        options = ("+B", "-od", str(tmp_path))
        await run("getscu", door.house.port, *KEYS, *options, calling=THEIRS, called="GATEWAY")
    assert filed(tmp_path) == {uid: CONTENTS[uid] for uid in expected} and expected
    assert set(library.loan.sent_uids) == expected and library.loan.counts.failed == len(library.items) - len(expected)


@pytest.mark.peer
async def test_getscu_that_is_killed_stops_the_work(tmp_path: Path) -> None:
    library = Library(images(5, study=STUDY_UID), gates={2: asyncio.Event()})
    async with lending(library, NOWHERE) as door:
        process = await asyncio.create_subprocess_exec(
            *(program("getscu"), "-aet", THEIRS, "-aec", "GATEWAY", "-od", str(tmp_path), "+B", *KEYS),
            *("127.0.0.1", str(door.house.port)),
        )
        await asyncio.wait_for(library.is_waiting.wait(), HANG_S)
        process.kill()
        await asyncio.wait_for(library.is_over.wait(), HANG_S)
        await process.wait()
    assert library.loan.counts.completed == 2 and library.loan.counts.failed == 3


# --- pynetdicom ---


def viewer() -> AE:
    """A requestor under the title of the tests' PACS."""
    ae = AE(THEIRS)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = HANG_S
    return ae


async def using(ae: AE, port: int, act: Callable[[Association], T], **options: object) -> T:
    """Associate, act, release; in a thread, for pynetdicom blocks."""

    def associated() -> T:
        association = ae.associate("127.0.0.1", port, ae_title="GATEWAY", **options)  # type: ignore[arg-type]  # options differ in kind
        try:
            assert association.is_established
            return act(association)
        finally:
            association.release()

    return await asyncio.to_thread(associated)


async def test_pynetdicom_sends_us_every_file_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    stack, ae = Stack(), viewer()
    for item in LIBRARY:
        ae.add_requested_context(item.ref.sop_class_uid, item.transfer_syntax)

    def act(association: Association) -> list[int]:
        return [association.send_c_store(each.path).Status for each in FILES]

    async with lending(Library(), NOWHERE, intake=stack) as door:
        assert await using(ae, door.house.port, act) == [0] * len(FILES)
    assert {uid: (syntax, content) for uid, (_, syntax, content) in stack.kept.items()} == CONTENTS


async def test_pynetdicom_gets_every_image_to_the_byte_in_contexts_of_their_own() -> None:
    got: dict[str, tuple[str, bytes]] = {}

    def keep(event: evt.Event) -> int:
        request = event.request
        assert isinstance(request, C_STORE) and request.DataSet is not None
        got[str(request.AffectedSOPInstanceUID)] = (str(event.context.transfer_syntax), request.DataSet.getvalue())
        return 0x0000

    ae, classes = viewer(), {item.ref.sop_class_uid for item in LIBRARY}
    ae.add_requested_context(STUDY_ROOT_GET)
    for item in LIBRARY:
        ae.add_requested_context(item.ref.sop_class_uid, item.transfer_syntax)
    roles = [build_role(uid, scp_role=True) for uid in classes]

    def act(association: Association) -> list[Dataset]:
        return [status for status, _ in association.send_c_get(STUDY, STUDY_ROOT_GET)]

    async with lending(Library(LIBRARY), NOWHERE) as door:
        told = await using(ae, door.house.port, act, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert got == {uid: (syntax, padded(content)) for uid, (syntax, content) in CONTENTS.items()}
    assert told[-1].Status == 0x0000
    assert told[-1].NumberOfCompletedSuboperations == len(LIBRARY) and "NumberOfRemainingSuboperations" not in told[-1]


async def test_pynetdicom_has_a_patient_moved_and_hears_what_failed(tmp_path: Path) -> None:
    library = Library(images(4, study=STUDY_UID))
    library.lost = {library.items[1].ref.sop_uid}
    ae, port = viewer(), free_port()
    ae.add_requested_context(PATIENT_ROOT_MOVE)
    ae.add_supported_context(CT, EXPLICIT)
    question = identifier("PATIENT", PatientID="9434765919")

    def act(association: Association) -> list[tuple[Dataset, Dataset | None]]:
        return list(association.send_c_move(question, THEIRS, PATIENT_ROOT_MOVE))

    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0x0000)])
    assert server is not None
    try:
        async with lending(library, profile_for(destination(port))) as door:
            answers = await using(ae, door.house.port, act)
    finally:
        server.shutdown()
    status, failed = answers[-1]
    assert status.Status == 0xB000 and failed is not None
    assert failed.FailedSOPInstanceUIDList == library.items[1].ref.sop_uid
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (3, 1)


# --- dcmjs-dimse ---


@pytest.mark.peer
async def test_dcmjs_gets_and_moves_on_one_association_and_sends_on_another(tmp_path: Path) -> None:
    [sent] = [each for each in FILES if each.path.name == "CT_small.dcm"]
    stack = Stack()
    # Other classes it does not propose for C-GET.
    library = Library([item for item in LIBRARY if item.ref.sop_class_uid == CT and item.transfer_syntax == EXPLICIT])
    gets, moves = {"kind": "get", "study": STUDY_UID}, {"kind": "move", "study": STUDY_UID, "to": THEIRS}
    async with (
        storescp(tmp_path, "+B") as port,
        lending(library, profile_for(destination(port)), intake=stack) as door,
    ):
        said = await dcmjs.converse(door.house.port, gets, moves, calling=THEIRS, called="GATEWAY")
        store = {"kind": "store", "file": str(sent.path)}
        stored = await dcmjs.converse(door.house.port, store, calling=THEIRS, called="GATEWAY")
    assert [answer.statuses[-1] for answer in (*said.answers, *stored.answers)] == [0, 0, 0]
    uids = {item.ref.sop_uid for item in library.items}
    assert set(said.received) == uids and set(filed(tmp_path)) == uids
    assert list(stack.kept) == [sent.item.ref.sop_uid]


# --- Orthanc ---


def orthanc_said(archive: Orthanc, method: str, path: str, body: object = None) -> Any:  # JSON
    """What it answers over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", archive.port, timeout=HANG_S)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    said = response.read()
    connection.close()
    assert response.status == 200, said
    return json.loads(said)


@pytest.mark.peer
async def test_orthanc_has_studies_moved_to_itself_and_sends_them_to_us(tmp_path: Path) -> None:
    library = Library([each.item for each in FILES if each.item.transfer_syntax == EXPLICIT])
    stack, destinations = Stack(), dict[str, MoveDestination]()
    orthanc = CallerBinding("rz1-orthanc", TrustId("RZ1"), loopback_only=True, ae_titles=(ORTHANC,))
    profile = replace(NOWHERE, destinations=destinations)
    async with lending(library, profile, intake=stack, callers=(orthanc,)) as door:
        gateway = {"gateway": {"AET": "GATEWAY", "Host": "127.0.0.1", "Port": door.house.port}}
        with running_orthanc(tmp_path, gateway) as archive:
            destinations[ORTHANC] = destination(archive.dicom_port, ORTHANC)
            wishes = [{"StudyInstanceUID": item.ref.study_uid} for item in library.items]
            wish = {"Level": "Study", "Resources": wishes, "TargetAet": ORTHANC}
            await asyncio.to_thread(orthanc_said, archive, "POST", "/modalities/gateway/move", wish)
            found = await asyncio.to_thread(orthanc_said, archive, "GET", "/instances?expand")
            assert {each["MainDicomTags"]["SOPInstanceUID"] for each in found} == {
                item.ref.sop_uid for item in library.items
            }
            ids = [each["ID"] for each in found]
            await asyncio.to_thread(orthanc_said, archive, "POST", "/modalities/gateway/store", ids)
    # It writes data sets anew, without padding at their ends.
    assert {uid: (kind, syntax) for uid, (kind, syntax, _) in stack.kept.items()} == {
        item.ref.sop_uid: (item.ref.sop_class_uid, item.transfer_syntax) for item in library.items
    }
