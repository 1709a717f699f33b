"""Every real file that pydicom and pydicom-data bring goes the whole way bit for bit: pushed, sealed, fetched back.

Each becomes an image of Anne's, under UIDs of its own; nothing else in it is touched. What leaves Southbridge is what
Northmoor must have, in the transfer syntax that it has: all is filed under the NHS number, so that nothing is written
anew for the caller (SAF-34).
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import pytest
import pytest_asyncio
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid
from pynetdicom.transport import ThreadedAssociationServer

from gateway.demo import cast
from gateway.demo.callers.received import Image, image_of
from gateway.demo.callers.retriever import GET, MOVE, Shelf, get, move
from gateway.demo.callers.viewer import Viewer
from gateway.demo.cast import ANNE
from gateway.demo.configuration import AE_TITLES, GATEWAY_AE_TITLE, PACS_CALLER, VIEWER
from gateway.demo.pausing import pause_soundly
from gateway.demo.region import Region
from tests.forked import Forks
from tests.instances.real import real_paths

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

HANG_S = 120.0
ROOT = "1.2.826.0.1.3680043.8.498.77"
WAYS_IN = {"stow-rs": f"{ROOT}.1", "c-store": f"{ROOT}.2"}
"""The root of all UIDs of what goes that way."""
STUDIES = 3
"""So many of each way, and no SOP class in two: 128 contexts have a place for each syntax of some eight classes."""
CT = "1.2.840.10008.5.1.4.1.1.2"
STALE = ("IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs", "OtherPatientIDsSequence")
OF_NO_PATIENT = ("Media Storage Directory Storage", "Color Palette Storage")
"""SOP classes that have no study by their definition (PS3.3 F.1, PS3.4 GG)."""
FILES_MIN, PAIRS_MIN = 220, 49
"""How many files there are with an image in them, and how many pairs of a SOP class and a transfer syntax."""
WITHOUT_FILE_META = {
    *("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "OT-PAL-8-face.dcm", "no_meta.dcm", "rtstruct.dcm"),
    *("meta_missing_tsyntax.dcm", "no_meta_group_length.dcm"),
}
WITHOUT_SOP_CLASS = {
    *("chrSQEncoding.dcm", "chrSQEncoding1.dcm", "empty_charset_LEI.dcm", "nested_priv_SQ.dcm", "priv_SQ.dcm"),
    *("UN_sequence.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"),
}
"""Pieces of images that show how something is encoded; the last is an image that was cut short."""
RETIRED_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6"
"""A class of before 1999 that pynetdicom takes only when it is told to."""
NOT_AS_DECLARED = {"SC_rgb_jpeg.dcm"}
"""Implicit VR, under a transfer syntax with explicit ones."""


class Made(NamedTuple):
    """An image made of a real file."""

    of: str
    study_uid: str
    uid: str
    sop_class: str
    image: Image


@cache
def images_under(root: str) -> tuple[Made, ...]:
    """All files as Anne's images, in studies of these UIDs."""
    made: list[Made] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some values are not what their VR asks for
        for path in real_paths():
            made += _made_of(path, root, len(made))
    return tuple(made)


def _made_of(path: Path, root: str, number: int) -> list[Made]:
    try:
        dataset = dcmread(BytesIO(path.read_bytes()))
    except (InvalidDicomError, EOFError):
        return []
    meta, sop_class = dataset.file_meta, dataset.get("SOPClassUID")
    if path.name in NOT_AS_DECLARED or "TransferSyntaxUID" not in meta:
        return []
    if not sop_class or sop_class.name in OF_NO_PATIENT:
        return []
    dataset.PatientID, dataset.IssuerOfPatientID = ANNE.nhs_number, cast.NHS_NUMBER_ISSUER
    dataset.PatientName, dataset.PatientSex = ANNE.dicom_name, ANNE.sex
    dataset.PatientBirthDate = f"{ANNE.birth_date:%Y%m%d}"
    for keyword in STALE:
        if keyword in dataset:
            del dataset[keyword]
    study_uid = f"{root}.{crc32(sop_class.encode()) % STUDIES}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, f"{study_uid}.0.{number}"
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(f"{study_uid}.{number + 1}")
    meta.MediaStorageSOPClassUID = sop_class
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    uid, image = image_of(file.getvalue())
    return [Made(path.name, study_uid, uid, str(sop_class), image)]


def pairs() -> set[tuple[str, str]]:
    """The SOP classes with their transfer syntaxes."""
    return {(made.sop_class, made.image.transfer_syntax) for made in images_under(WAYS_IN["stow-rs"])}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> AsyncIterator[Region]:
    """Southbridge has pushed all files by STOW-RS and all by C-STORE, and every image has been acknowledged."""
    async with Region(tmp_path_factory.mktemp("real"), start=forks.start) as running:
        await running.stop_gateway()
        written = running.configuration.read_text(encoding="utf-8")
        # What is pushed here is listed out of the cache, and a busy machine takes its time over hundreds.
        patient = written.replace("find_timeout_s = 3.0", "find_timeout_s = 20.0")
        running.configuration.write_text(patient, encoding="utf-8")
        await running.start_gateway()
        for way, root in WAYS_IN.items():
            images = await asyncio.to_thread(images_under, root)
            await (_push_by_stow(running, images) if way == "stow-rs" else asyncio.to_thread(_push, running, images))
        yield running


async def _push_by_stow(region: Region, images: tuple[Made, ...]) -> None:
    async with Viewer(region.machines_url, region.authority, region.key_pair(PACS_CALLER)) as viewer:
        status, answer = await viewer.store(*(made.image.file for made in images))
    assert status == 200, {
        next(made.of for made in images if made.uid == failed["00081155"]["Value"][0]): failed["00081197"]["Value"]
        for failed in answer.get("00081198", {"Value": []})["Value"]
    } or answer


def _push(region: Region, images: tuple[Made, ...]) -> None:
    """By C-STORE, as the bytes lie in the file."""
    folder = region.folder / "pushed"
    folder.mkdir()
    ae = entity(PACS_CALLER)
    for pair in pairs():
        ae.add_requested_context(*pair)
    _config.STORE_SEND_CHUNKED_DATASET = True
    refused = {}
    with associated(region, ae, PACS_CALLER) as association:
        for made in images:
            path = folder / f"{made.uid}.dcm"
            path.write_bytes(made.image.file)
            status = association.send_c_store(path)
            if status.get("Status") != 0:
                refused[made.of] = status
    assert not refused


async def fetch(region: Region, way: str, study_uid: str) -> Mapping[str, Image]:
    """A whole study, by one of the doors."""
    if way == "wado":
        async with Viewer(region.machines_url, region.authority, region.key_pair(VIEWER)) as viewer:
            received = await viewer.retrieve(f"studies/{study_uid}")
            assert received.is_whole, received.told
            return received.images
    return await asyncio.to_thread(_get if way == "c-get" else _move, region, study_uid)


def _get(region: Region, study_uid: str) -> Mapping[str, Image]:
    ae, shelf = entity(VIEWER), Shelf()
    ae.add_requested_context(GET)
    for pair in pairs():
        ae.add_requested_context(*pair)
    roles = [build_role(UID(sop_class), scp_role=True) for sop_class in {sop_class for sop_class, _ in pairs()}]
    with associated(region, ae, VIEWER, roles, [(evt.EVT_C_STORE, shelf.take)]) as association:
        retrieved = get(association, naming(study_uid), shelf)
    assert retrieved.is_whole, (retrieved.told, retrieved.failed_uids)
    return retrieved.images


def _move(region: Region, study_uid: str) -> Mapping[str, Image]:
    ae, receiver, shelf = entity(VIEWER), entity(VIEWER), Shelf()
    ae.add_requested_context(MOVE)
    register_uid(RETIRED_ULTRASOUND, "UltrasoundImageStorageRetired", StorageServiceClass)
    for pair in pairs():
        receiver.add_supported_context(*pair)
    server = receiver.start_server(
        ("127.0.0.1", region.receiving_port),
        block=False,
        ssl_context=_context(region, VIEWER, ssl.Purpose.CLIENT_AUTH),
        evt_handlers=[(evt.EVT_C_STORE, shelf.take)],
    )
    assert isinstance(server, ThreadedAssociationServer)
    try:
        with associated(region, ae, VIEWER) as association:
            retrieved = move(association, naming(study_uid), AE_TITLES[VIEWER], shelf)
    finally:
        server.shutdown()
    assert retrieved.is_whole, (retrieved.told, retrieved.failed_uids)
    return retrieved.images


def naming(study_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", study_uid
    return identifier


def entity(caller: str) -> AE:
    ae = AE(AE_TITLES[caller])
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = ae.network_timeout = HANG_S
    return ae


def _context(region: Region, caller: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=str(region.authority))
    context.verify_mode = ssl.CERT_REQUIRED
    pair = region.key_pair(caller)
    context.load_cert_chain(pair.certificate, pair.private_key)
    return context


@contextmanager
def associated(
    region: Region,
    ae: AE,
    caller: str,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[evt.EventHandlerType] = (),
) -> Iterator[Association]:
    association = ae.associate(
        "localhost",
        region.dimse_port,
        ae_title=GATEWAY_AE_TITLE,
        tls_args=(_context(region, caller, ssl.Purpose.SERVER_AUTH), "localhost"),
        ext_neg=list(roles),
        evt_handlers=[(evt.EVT_CONN_OPEN, pause_soundly), *handlers],
    )
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


async def test_what_is_left_out_is_no_image_of_a_patient() -> None:
    images = images_under(WAYS_IN["stow-rs"])
    assert len(images) >= FILES_MIN and len(pairs()) >= PAIRS_MIN
    paths = [path for path in real_paths() if path.suffix == ".dcm" or path.name.startswith("DICOMDIR")]
    left_out = {path for path in paths if path.name not in {made.of for made in images}}
    of_no_patient = {path for path in left_out if path.parent.name == "palettes" or path.name.startswith("DICOMDIR")}
    assert {path.name for path in left_out - of_no_patient} == WITHOUT_FILE_META | WITHOUT_SOP_CLASS | NOT_AS_DECLARED


@pytest.mark.parametrize("pushed_by", WAYS_IN)
@pytest.mark.parametrize("way", ["wado", "c-get", "c-move"])
async def test_every_real_file_comes_back_bit_for_bit(region: Region, pushed_by: str, way: str) -> None:
    sent = {made.uid: made for made in images_under(WAYS_IN[pushed_by])}
    arrived: dict[str, Image] = {}
    for study_uid in {made.study_uid for made in sent.values()}:
        arrived |= await fetch(region, way, study_uid)
    assert arrived.keys() == sent.keys()
    other = [
        made.of
        for uid, made in sent.items()
        if (arrived[uid].transfer_syntax, arrived[uid].encoded) != (made.image.transfer_syntax, made.image.encoded)
    ]
    assert other == []
