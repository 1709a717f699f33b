"""The simulated PACS when it is honest, over HTTP: searched, fetched from and stored to. And its process."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import trustme
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from gateway.demo.cast import (
    ANNE,
    ANNE_HEAD_CT,
    ANNE_HEART_US,
    ANNE_NECK_X_RAY,
    CLARA,
    EVE,
    EVE_BRAIN_MR,
    GRACE,
    KATE,
    TRUSTS,
)
from gateway.demo.images import MadeTrust, make_trust, study_instance_uid
from gateway.demo.pacs.__main__ import main
from tests.gateway.simulated_pacs import ANSWER_TIMEOUT_S, SimulatedPacs, end, running_pacs, start_pacs

LOCAL_NUMBER, OTHER_NUMBERS, STUDY_UID, MODALITIES = "00100020", "00101002", "0020000D", "00080061"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MadeTrust]:
    return {trust.ods_code: make_trust(trust, tmp_path_factory.mktemp("data")) for trust in TRUSTS}


@pytest.fixture(scope="module")
def eastvale(region: dict[str, MadeTrust]) -> Iterator[SimulatedPacs]:
    with running_pacs(region["RZ2"].folder, "--ae-title", "EASTVALE_PACS") as pacs:
        yield pacs


@pytest.fixture(scope="module")
def southbridge(region: dict[str, MadeTrust]) -> Iterator[SimulatedPacs]:
    with running_pacs(region["RZ3"].folder, trust="RZ3") as pacs:
        yield pacs


@pytest.fixture(autouse=True)
def honest(eastvale: SimulatedPacs) -> None:
    eastvale.reset()


# --- QIDO-RS ---


def test_a_patient_is_found_by_nhs_number_and_by_local_number(eastvale: SimulatedPacs) -> None:
    by_nhs_number = eastvale.ask("/studies", {"PatientID": ANNE.nhs_number}).rows
    by_local_number = eastvale.ask("/studies", {"00100020": "E0088123"}).rows
    assert by_nhs_number == by_local_number and len(by_nhs_number) == 3
    assert {row[LOCAL_NUMBER]["Value"][0] for row in by_nhs_number} == {"E0088123"}
    assert {row[OTHER_NUMBERS]["Value"][0]["00100020"]["Value"][0] for row in by_nhs_number} == {ANNE.nhs_number}  # type: ignore[index]  # JSON


@pytest.mark.parametrize(
    ("issuer", "count"),
    [("NHS", 3), ("2.16.840.1.113883.2.1.4.1", 3), ("EASTVALE-PAS", 0), ("SOUTHBRIDGE-PAS", 0)],
)
def test_the_issuer_must_be_that_of_the_number_asked_for(eastvale: SimulatedPacs, issuer: str, count: int) -> None:
    rows = eastvale.ask("/studies", {"PatientID": ANNE.nhs_number, "IssuerOfPatientID": issuer}).rows
    assert len(rows) == count


def test_numbers_that_differ_in_leading_zeros_are_different_patients(eastvale: SimulatedPacs) -> None:
    assert len(eastvale.ask("/studies", {"PatientID": "0001234"}).rows) == 1
    assert eastvale.ask("/studies", {"PatientID": "1234"}).rows == []


@pytest.mark.parametrize(
    ("key", "value", "studies"),
    [
        ("PatientName", "ó briain*", {EVE_BRAIN_MR.name}),
        ("PatientName", "PATEL^grace", {"grace-body-ct"}),
        ("PatientName", "pat?l^*", {"grace-body-ct"}),
        ("StudyInstanceUID", "{anne-head-ct},{eve-brain-mr},1.2.3", {ANNE_HEAD_CT.name, EVE_BRAIN_MR.name}),
        ("StudyInstanceUID", "{anne-head-ct}\\{eve-brain-mr}", {ANNE_HEAD_CT.name, EVE_BRAIN_MR.name}),
        ("StudyDate", "20260801-20260930", {EVE_BRAIN_MR.name, "grace-body-ct"}),
        ("StudyDate", "-20191231", {"david-hip-us"}),
        ("StudyDate", "20260901-", {"grace-body-ct"}),
        ("StudyDate", "20260803", {EVE_BRAIN_MR.name}),
        ("StudyTime", "2200-", {ANNE_HEAD_CT.name}),
        ("AccessionNumber", "a123", set()),
        ("AccessionNumber", "A12*", {"grace-body-ct"}),
        ("ModalitiesInStudy", "US", {"david-hip-us", "ivy-pelvis-us"}),
        ("RequestAttributesSequence.RequestedProcedureID", "A123", set()),
        ("IssuerOfAccessionNumberSequence.LocalNamespaceEntityID", "RZ1", set()),
        ("OtherPatientIDsSequence.PatientID", EVE.nhs_number, {EVE_BRAIN_MR.name}),
    ],
)
def test_search_keys_match_as_the_standard_says(
    eastvale: SimulatedPacs, region: dict[str, MadeTrust], key: str, value: str, studies: set[str]
) -> None:
    names = {made.study_instance_uid: made.plan.name for made in region["RZ2"].studies}
    for uid, name in names.items():
        value = value.replace(f"{{{name}}}", uid)
    expected = set(names.values()) if key.startswith("Request") else studies
    rows = eastvale.ask("/studies", {key: value}).rows
    assert {names[str(row[STUDY_UID]["Value"][0])] for row in rows} == expected


def test_an_unknown_key_or_one_of_a_lower_level_is_ignored_with_a_warning(eastvale: SimulatedPacs) -> None:
    unknown = {"NoSuchKeyword": "x", "00991001": "x", "OtherPatientIDsSequence.00991001": "x"}
    answer = eastvale.ask("/studies", {"SOPInstanceUID": "1.2.3", **unknown})
    assert len(answer.rows) == 10
    assert answer.headers["Warning"].count("299 ") == 4


def test_paging_walks_through_all_rows_and_announces_the_rest(eastvale: SimulatedPacs) -> None:
    every = eastvale.ask("/studies").rows
    pages = [eastvale.ask("/studies", {"limit": "4", "offset": str(offset)}) for offset in (0, 4, 8, 12)]
    assert [row for page in pages for row in page.rows] == every
    assert "There are 6 additional results that can be requested" in pages[0].headers["Warning"]
    assert "Warning" not in pages[2].headers


@pytest.mark.parametrize("parameter", [{"limit": "-1"}, {"offset": "ten"}])
def test_a_page_that_is_no_number_is_refused(eastvale: SimulatedPacs, parameter: dict[str, str]) -> None:
    assert eastvale.ask("/studies", parameter).status == 400


def test_study_rows_have_every_attribute_of_the_standards_table(eastvale: SimulatedPacs) -> None:
    tags = {
        *("00080005", "00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00080201", "00081190"),
        *("00100010", "00100020", "00100021", "00100030", "00100040", "00101002", "0020000D", "00200010", "00201206"),
        *("00201208", "00081030", "00080080"),
    }
    assert all(tags <= set(row) for row in eastvale.ask("/studies").rows)


def test_counts_and_modalities_are_those_of_the_study(southbridge: SimulatedPacs) -> None:
    (row,) = southbridge.ask("/studies", {"StudyInstanceUID": study_instance_uid(ANNE_HEAD_CT)}).rows
    assert (row["00201206"]["Value"], row["00201208"]["Value"], row[MODALITIES]["Value"]) == ([2], [5], ["CT"])


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/series?StudyInstanceUID={study}", 2),
        ("/instances?StudyInstanceUID={study}", 5),
        ("/studies/{study}/series", 2),
        ("/studies/{study}/instances", 5),
        ("/studies/{study}/series/{series}/instances", 4),
    ],
)
def test_every_search_resource_answers_with_rows_of_its_level(
    eastvale: SimulatedPacs, region: dict[str, MadeTrust], path: str, count: int
) -> None:
    (study,) = (made for made in region["RZ2"].studies if made.plan is ANNE_HEAD_CT)
    path, _, query = path.format(study=study.study_instance_uid, series=study.series[0].series_instance_uid).partition(
        "?"
    )
    keys = dict([query.split("=")] if query else [])
    rows = eastvale.ask(path, keys).rows
    assert len(rows) == count and all(row[OTHER_NUMBERS]["Value"] for row in rows)
    # A series or an instance found without its study in the path brings the study's attributes along.
    assert all(("00080020" in row) == ("studies" not in path) for row in rows)


def test_includefield_adds_what_is_not_returned_by_itself(eastvale: SimulatedPacs) -> None:
    assert "00080062" not in eastvale.ask("/studies").rows[0]
    assert "00080062" in eastvale.ask("/studies", {"includefield": "SOPClassesInStudy,NoSuchKeyword"}).rows[0]
    assert "00080062" in eastvale.ask("/studies", {"includefield": "all"}).rows[0]


def test_no_match_is_an_empty_list_or_no_content(eastvale: SimulatedPacs) -> None:
    answer = eastvale.ask("/studies", {"PatientID": KATE.nhs_number})
    assert (answer.status, answer.rows) == (200, [])
    eastvale.behave(empty_status=204)
    answer = eastvale.ask("/studies", {"PatientID": KATE.nhs_number})
    assert (answer.status, answer.body) == (204, b"")


# --- WADO-RS and STOW-RS ---


@pytest.fixture
def client(southbridge: SimulatedPacs) -> DICOMwebClient:
    return DICOMwebClient(str(southbridge.ready["base_url"]))


def test_dicomweb_client_finds_and_retrieves_a_study_as_stored(
    client: DICOMwebClient, region: dict[str, MadeTrust]
) -> None:
    uid = study_instance_uid(ANNE_HEART_US)
    (row,) = client.search_for_studies(search_filters={"StudyInstanceUID": uid})
    assert row[STUDY_UID]["Value"] == [uid]
    (made,) = (study for study in region["RZ3"].studies if study.plan is ANNE_HEART_US)
    stored = {file.read_bytes() for series in made.series for file in series.files}
    instances = client.retrieve_study(uid, media_types=(("application/dicom", "*"),))
    retrieved = set()
    for instance in instances:
        content = BytesIO()
        instance.save_as(content)
        retrieved.add(content.getvalue())
    assert retrieved == stored


def test_dicomweb_client_reads_metadata_and_frames(client: DICOMwebClient, region: dict[str, MadeTrust]) -> None:
    (made,) = (study for study in region["RZ3"].studies if study.plan is ANNE_HEART_US)
    series = made.series[0]
    place = (made.study_instance_uid, series.series_instance_uid, series.sop_instance_uids[0])
    metadata = client.retrieve_instance_metadata(*place)
    assert metadata["00280008"]["Value"] == [30] and "BulkDataURI" in metadata["7FE00010"]
    assert metadata["00083002"]["Value"] == ["1.2.840.10008.1.2.4.50"]
    first, last = client.retrieve_instance_frames(*place, frame_numbers=[1, 30], media_types=("image/jpeg",))
    assert first[:2] == last[:2] == b"\xff\xd8" and first != last


def test_uncompressed_frames_are_the_pixels(eastvale: SimulatedPacs, region: dict[str, MadeTrust]) -> None:
    (made,) = (study for study in region["RZ2"].studies if study.plan.name == "grace-body-ct")
    place = f"/studies/{made.study_instance_uid}/series/{made.series[0].series_instance_uid}"
    answer = eastvale.ask(f"{place}/instances/{made.series[0].sop_instance_uids[0]}/frames/1")
    assert dcmread(made.series[0].files[0]).PixelData in answer.body


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ('multipart/related; type="application/dicom"', 200),
        ("multipart/related; type=application/dicom; transfer-syntax=*", 200),
        ("multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1", 200),
        ("multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.5", 406),
        ("*/*", 200),
        ("image/png", 406),
    ],
)
def test_retrieval_honours_the_accept_header(eastvale: SimulatedPacs, accept: str, status: int) -> None:
    study = eastvale.ask("/studies", {"PatientID": GRACE.nhs_number}).rows[0][STUDY_UID]["Value"][0]
    assert eastvale.ask(f"/studies/{study}", headers={"Accept": accept}).status == status


def test_what_is_not_held_is_not_found(eastvale: SimulatedPacs) -> None:
    assert eastvale.ask("/studies/1.2.3").status == 404
    assert eastvale.ask("/studies/1.2.3/metadata").status == 404


def test_a_stored_study_is_found_and_retrieved_afterwards(tmp_path: Path, region: dict[str, MadeTrust]) -> None:
    (made,) = (study for study in region["RZ1"].studies if study.plan is ANNE_NECK_X_RAY)
    files = [series.files[0] for series in made.series]
    with running_pacs(tmp_path) as pacs:
        assert pacs.ready["studies"] == 0
        outcome = DICOMwebClient(str(pacs.ready["base_url"])).store_instances([dcmread(file) for file in files])
        assert len(outcome.ReferencedSOPSequence) == 3
        (row,) = pacs.ask("/studies", {"PatientID": ANNE.nhs_number}).rows
        assert row["00201208"]["Value"] == [3]
        assert pacs.ask(f"/studies/{made.study_instance_uid}").status == 200
    with running_pacs(tmp_path) as again:
        assert again.ready["instances"] == 3


def test_storing_nonsense_or_another_study_is_refused(tmp_path: Path, region: dict[str, MadeTrust]) -> None:
    content = region["RZ1"].studies[0].series[0].files[0].read_bytes()
    with running_pacs(tmp_path) as pacs:
        for path, part in (("/studies", b"no DICOM"), ("/studies/1.2.3", content)):
            connection = pacs.connection()
            body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--b--\r\n"
            headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
            connection.request("POST", f"/dicom-web{path}", body, headers)
            response = connection.getresponse()
            assert (response.status, "0008119A" in json.loads(response.read())) == (409, True)
            connection.close()
        assert pacs.ask("/studies").rows == []


# --- the journal, TLS, and the process ---


def test_the_journal_proves_what_was_asked_and_that_nothing_else_was(eastvale: SimulatedPacs) -> None:
    assert set(eastvale.counts().values()) == {0}
    eastvale.ask("/studies", {"PatientID": CLARA.nhs_number}, headers={"X-Correlation": "abc"})
    assert {door: count for door, count in eastvale.counts().items() if count} == {"qido": 1}
    (qido,) = eastvale.requests()
    assert (qido["path"], qido["query"]) == ("/dicom-web/studies", [["PatientID", CLARA.nhs_number]])
    assert ["X-Correlation", "abc"] in qido["headers"]  # type: ignore[operator]  # JSON


def test_the_journal_keeps_no_more_than_it_may(region: dict[str, MadeTrust]) -> None:
    with running_pacs(region["RZ2"].folder, "--requests-kept", "2") as pacs:
        for limit in ("1", "2", "3"):
            pacs.ask("/studies", {"limit": limit})
        assert [request["query"] for request in pacs.requests()] == [[["limit", "2"]], [["limit", "3"]]]
        assert pacs.counts()["qido"] == 3


def test_only_a_client_with_a_certificate_of_the_right_authority_is_served(
    tmp_path: Path, region: dict[str, MadeTrust]
) -> None:
    import ssl

    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"certificate": "certificate.pem", "key": "key.pem", "client-ca": "ca.pem"}
    flags = [flag for name, file in files.items() for flag in (f"--tls-{name}", str(tmp_path / file))]
    with running_pacs(region["RZ2"].folder, *flags) as pacs:
        assert str(pacs.ready["base_url"]).startswith("https://")
        known, unknown, nobody = (ssl.create_default_context() for _ in range(3))
        for context in (known, unknown, nobody):
            authority.configure_trust(context)
        authority.issue_cert("gateway.example", common_name="gateway").configure_cert(known)
        stranger.issue_cert("gateway.example").configure_cert(unknown)
        assert len(pacs.ask("/studies", {"PatientID": ANNE.nhs_number}, tls=known).rows) == 3
        (request,) = pacs.requests()
        assert request["client_certificate"]["commonName"] == "gateway"  # type: ignore[index]  # JSON
        for context in (unknown, nobody):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                pacs.ask("/studies", tls=context)
        assert pacs.counts()["qido"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_when_told(region: dict[str, MadeTrust], number: signal.Signals) -> None:
    pacs = start_pacs(region["RZ2"].folder)
    idle = pacs.connection()
    idle.connect()
    pacs.process.send_signal(number)
    assert pacs.process.wait(ANSWER_TIMEOUT_S) == 0
    idle.close()
    end(pacs.process)


def test_it_ends_with_its_parent(region: dict[str, MadeTrust]) -> None:
    pacs = start_pacs(region["RZ2"].folder)
    assert pacs.process.stdin is not None
    pacs.process.stdin.close()
    assert pacs.process.wait(ANSWER_TIMEOUT_S) == 0
    end(pacs.process)


def test_a_configuration_file_says_the_same_as_flags(tmp_path: Path, region: dict[str, MadeTrust]) -> None:
    config = tmp_path / "pacs.toml"
    config.write_text(
        f'trust = "rz3"\nae_title = "SOUTH"\ndata = "{region["RZ3"].folder}"\n'
        '[behaviour]\nempty_status = 204\n[destinations]\nVIEWER = "127.0.0.1:11113"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.demo.pacs", "--config", str(config), "--die-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    pacs = SimulatedPacs(process, json.loads(process.stdout.readline()))
    try:
        assert (pacs.ready["trust"], pacs.ready["ae_title"], pacs.ready["studies"]) == ("RZ3", "SOUTH", 11)
        assert pacs.ask("/studies", {"PatientID": "nobody"}).status == 204
    finally:
        end(process)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--trust", "RZ2"], "needed: data"),
        (["--trust", "RZ2", "--data", ".", "--behaviour", '{"lies": ["fibs"]}'], "each lie must be one of"),
        (["--trust", "RZ2", "--data", ".", "--behaviour", '{"lies": ["huge", "endless"]}'], "only one of"),
        (["--trust", "RZ2", "--data", ".", "--tls-key", "x"], "TLS needs"),
        (["--trust", "RX9", "--data", ".", "--demo-images"], "images for RZ1, RZ2, RZ3 only"),
        (["--trust", "RZ2", "--data", ".", "--web-port", "70000"], "web_port must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(
    flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2 and complaint in capsys.readouterr().err


def test_ending_with_the_parent_needs_a_pipe_from_it(tmp_path: Path) -> None:
    flags = ["--trust", "RZ2", "--data", str(tmp_path), "--die-with-parent"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway.demo.pacs", *flags],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_S,
    )
    assert done.returncode == 2 and "needs a pipe" in done.stderr


def test_the_help_names_every_flag_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    page = capsys.readouterr().out
    assert ended.value.code == 0 and "--die-with-parent" in page and "examples:" in page
    assert max(map(len, page.splitlines())) <= 100


def test_files_that_are_no_images_are_passed_over(tmp_path: Path, region: dict[str, MadeTrust]) -> None:
    content = region["RZ1"].studies[0].series[0].files[0].read_bytes()
    files = {"notes.txt": b"hello", "empty.dcm": b"", "cut.dcm": content[:400], "DICM": bytes(128) + b"DICM\x02"}
    for name, held in {**files, "image.dcm": content, "image.part": content}.items():
        (tmp_path / name).write_bytes(held)
    with running_pacs(tmp_path) as pacs:
        assert pacs.ready["instances"] == 1


def test_demo_images_are_written_on_request(tmp_path: Path) -> None:
    with running_pacs(tmp_path / "data", "--demo-images") as pacs:
        assert pacs.ready["studies"] == 10
    assert dcmread(BytesIO(next((tmp_path / "data").rglob("*.dcm")).read_bytes())).PatientID
