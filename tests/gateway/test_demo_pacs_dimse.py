"""The simulated PACS when it is honest, over DIMSE: asked by pynetdicom's own service users and by DCMTK."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.association import Association

from gateway.demo.cast import ANNE, ANNE_HEAD_CT, ANNE_NECK_X_RAY, CLARA, EVE, EVE_BRAIN_MR, GRACE
from gateway.demo.certificates import Authority, KeyPair
from gateway.demo.images import MadeTrust, study_instance_uid
from tests.gateway.simulated_pacs import ANSWER_TIMEOUT_S, SimulatedPacs, end, running_pacs, start_pacs
from tests.gateway.test_demo_pacs import eastvale, honest, region, southbridge

__all__ = ["eastvale", "honest", "region", "southbridge"]

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def associate(eastvale: SimulatedPacs) -> Iterator[Callable[..., Association]]:
    opened: list[Association] = []

    def to(*sop_classes: str, port: int | None = None, **options: object) -> Association:
        ae = AE("VIEWER")
        for sop_class in sop_classes:
            ae.add_requested_context(sop_class)
        association = ae.associate("127.0.0.1", port or eastvale.port("dimse"), **options)  # type: ignore[arg-type]  # options differ in kind
        assert association.is_established
        opened.append(association)
        return association

    yield to
    for association in opened:
        association.release()


def identifier(level: str, **keys: object) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def found(association: Association, model: str, asked: Dataset) -> list[Dataset]:
    """The matches of a C-FIND that ends in success."""
    responses = list(association.send_c_find(asked, model))
    assert responses[-1][0].Status == 0x0000
    return [match for status, match in responses[:-1] if match is not None]


def test_echo_is_answered(associate: Callable[..., Association]) -> None:
    assert associate(VERIFICATION).send_c_echo().Status == 0x0000


def test_find_returns_what_was_asked_for_and_the_uids(associate: Callable[..., Association]) -> None:
    asked = identifier("STUDY", PatientID=EVE.nhs_number, PatientName="", ModalitiesInStudy="", StudyDescription="")
    (match,) = found(associate(STUDY_FIND), STUDY_FIND, asked)
    assert match.PatientName == EVE.dicom_name and match.StudyDescription == "MR brain, Ménière's disease"
    assert match.SpecificCharacterSet == "ISO_IR 192" and match.RetrieveAETitle == "EASTVALE_PACS"
    assert match.StudyInstanceUID == study_instance_uid(EVE_BRAIN_MR) and match.ModalitiesInStudy == "MR"
    assert "PatientBirthDate" not in match


def test_find_works_at_every_level(associate: Callable[..., Association]) -> None:
    association = associate(PATIENT_FIND)
    (patient,) = found(association, PATIENT_FIND, identifier("PATIENT", PatientID=ANNE.nhs_number, PatientName=""))
    keys = {"PatientID": patient.PatientID}
    studies = found(association, PATIENT_FIND, identifier("STUDY", **keys, StudyDate="20260101-"))
    assert [study.StudyInstanceUID for study in studies] == [study_instance_uid(ANNE_HEAD_CT)]
    keys["StudyInstanceUID"] = studies[0].StudyInstanceUID
    series = found(association, PATIENT_FIND, identifier("SERIES", **keys, SeriesDescription=""))
    assert [one.SeriesDescription for one in series] == ["Head 5 mm", "Head plain"]
    keys["SeriesInstanceUID"] = series[0].SeriesInstanceUID
    images = found(association, PATIENT_FIND, identifier("IMAGE", **keys, InstanceNumber=""))
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "asked",
    [
        identifier("SERIES", PatientID=ANNE.nhs_number),
        identifier("PATIENT", PatientID=ANNE.nhs_number),
        identifier("VOLUME", PatientID=ANNE.nhs_number),
    ],
)
def test_find_that_breaks_the_hierarchy_is_refused(associate: Callable[..., Association], asked: Dataset) -> None:
    ((status, _),) = associate(STUDY_FIND).send_c_find(asked, STUDY_FIND)
    assert status.Status == 0xA900


@pytest.mark.parametrize("level", ["SERIES", "PATIENT", "STUDY"])
def test_retrieval_that_names_no_study_is_refused(associate: Callable[..., Association], level: str) -> None:
    asked = identifier(level, PatientID=ANNE.nhs_number)
    association = associate(STUDY_GET, STUDY_MOVE)
    assert [status.Status for status, _ in association.send_c_get(asked, STUDY_GET)][-1] == 0xA900
    (moved,) = [status.Status for status, _ in association.send_c_move(asked, "VIEWER", STUDY_MOVE)]
    assert 0xC000 <= moved <= 0xCFFF


def test_an_unsupported_key_is_said_to_be_so(associate: Callable[..., Association]) -> None:
    asked = identifier("STUDY", PatientID=GRACE.nhs_number, PatientComments="")
    responses = list(associate(STUDY_FIND).send_c_find(asked, STUDY_FIND))
    assert [status.Status for status, _ in responses] == [0xFF01, 0x0000]
    assert responses[0][1] is not None and responses[0][1].PatientComments == ""


def test_get_brings_every_instance_as_stored(southbridge: SimulatedPacs, region: dict[str, MadeTrust]) -> None:
    (made,) = (study for study in region["RZ3"].studies if study.plan is ANNE_HEAD_CT)
    received: dict[str, bytes] = {}

    def on_store(event: evt.Event) -> int:
        received[str(event.dataset.SOPInstanceUID)] = event.dataset.PixelData
        return 0x0000

    ae = AE("VIEWER")
    ae.add_requested_context(STUDY_GET)
    ct = "1.2.840.10008.5.1.4.1.1.2"
    for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.91"):
        ae.add_requested_context(ct, syntax)
    association = ae.associate(
        "127.0.0.1",
        southbridge.port("dimse"),
        ext_neg=[build_role(ct, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    responses = list(association.send_c_get(identifier("STUDY", StudyInstanceUID=made.study_instance_uid), STUDY_GET))
    association.release()
    assert responses[-1][0].Status == 0x0000
    stored = [dcmread(file) for series in made.series for file in series.files]
    assert received == {str(dataset.SOPInstanceUID): dataset.PixelData for dataset in stored}


def test_move_sends_to_the_destination_it_was_told_and_to_no_other(
    eastvale: SimulatedPacs, associate: Callable[..., Association]
) -> None:
    received: list[str] = []

    def on_store(event: evt.Event) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]  # it is a C-STORE
        return 0x0000

    receiver = AE("VIEWER")
    for context in AllStoragePresentationContexts:
        receiver.add_supported_context(context.abstract_syntax or "", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.91"])
    server = receiver.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None and server.socket is not None
    try:
        address = f"127.0.0.1:{server.socket.getsockname()[1]}"
        assert eastvale.control("PUT", "destinations", {"VIEWER": address}).status == 204
        asked = identifier("STUDY", StudyInstanceUID=study_instance_uid(ANNE_HEAD_CT))
        association = associate(STUDY_MOVE)
        statuses = [status for status, _ in association.send_c_move(asked, "STRANGER", STUDY_MOVE)]
        assert [status.Status for status in statuses] == [0xA801] and received == []
        final = [status for status, _ in association.send_c_move(asked, "VIEWER", STUDY_MOVE)][-1]
        assert (final.Status, final.NumberOfCompletedSuboperations, len(set(received))) == (0x0000, 5, 5)
        nothing = identifier("STUDY", StudyInstanceUID="1.2.3")
        final = [status for status, _ in association.send_c_move(nothing, "VIEWER", STUDY_MOVE)][-1]
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 0)
    finally:
        server.shutdown()


def run(tool: str | None, *arguments: str) -> str:
    """What a tool of DCMTK says; it must succeed."""
    assert tool is not None
    done = subprocess.run([tool, *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.peer
def test_dcmtk_stores_finds_and_gets(tmp_path: Path, region: dict[str, MadeTrust]) -> None:
    tools = {name: shutil.which(name, path="/usr/bin") for name in ("storescu", "findscu", "getscu")}
    if None in tools.values():
        pytest.skip("DCMTK is not installed")
    files = [str(series.files[0]) for series in region["RZ1"].studies[0].series]
    received = tmp_path / "received"
    received.mkdir()
    with running_pacs(tmp_path / "data") as pacs:
        address = ["127.0.0.1", str(pacs.port("dimse"))]
        run(tools["storescu"], *address, *files)
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={ANNE.nhs_number}", "-k", "StudyInstanceUID"]
        answer = run(tools["findscu"], "-S", *address, *keys)
        assert study_instance_uid(ANNE_NECK_X_RAY) in answer
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_instance_uid(ANNE_NECK_X_RAY)}"]
        run(tools["getscu"], "-S", "-od", str(received), *address, *keys)
    uids = {dcmread(file).SOPInstanceUID for file in received.iterdir()}
    assert uids == {dcmread(file).SOPInstanceUID for file in files}


@pytest.mark.peer
def test_over_tls_a_certificate_of_the_region_is_demanded(tmp_path: Path, region: dict[str, MadeTrust]) -> None:
    tools = {name: shutil.which(name, path="/usr/bin") for name in ("echoscu", "findscu")}
    if None in tools.values():
        pytest.skip("DCMTK is not installed")
    authority, other = Authority(tmp_path / "region"), Authority(tmp_path / "other")
    archive, known, unknown = authority.issue("archive"), authority.issue("gateway"), other.issue("gateway")
    flags = ("--dimse-tls", "--tls-certificate", str(archive.certificate), "--tls-key", str(archive.private_key))
    with running_pacs(region["RZ2"].folder, *flags, "--tls-client-ca", str(authority.certificate)) as pacs:
        address = ["localhost", str(pacs.port("dimse"))]

        def shows(pair: KeyPair) -> list[str]:
            return ["+tls", str(pair.private_key), str(pair.certificate), "+cf", str(authority.certificate)]

        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={ANNE.nhs_number}", "-k", "StudyInstanceUID"]
        assert study_instance_uid(ANNE_HEAD_CT) in run(tools["findscu"], "-S", *shows(known), *address, *keys)
        for stranger in (shows(unknown), []):
            command = [str(tools["echoscu"]), *stranger, *address]
            assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode != 0
        assert pacs.counts()["association"] == 1


def test_the_journal_names_who_asked_and_with_which_keys(
    eastvale: SimulatedPacs, associate: Callable[..., Association]
) -> None:
    found(associate(STUDY_FIND), STUDY_FIND, identifier("STUDY", PatientID=CLARA.nhs_number))
    assert {door: count for door, count in eastvale.counts().items() if count} == {"association": 1, "c-find": 1}
    association, find = eastvale.requests()
    assert association["calling_ae"] == "VIEWER"
    assert find["keys"] == {"QueryRetrieveLevel": ["STUDY"], "PatientID": [CLARA.nhs_number]}


def test_it_stops_cleanly_with_an_association_open(region: dict[str, MadeTrust]) -> None:
    pacs = start_pacs(region["RZ2"].folder)
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", pacs.port("dimse"))
    assert association.is_established
    pacs.process.terminate()
    assert pacs.process.wait(ANSWER_TIMEOUT_S) == 0
    association.abort()
    end(pacs.process)
