"""The simulated PACS when it is told to misbehave: every switch does what its page says, and can be turned back."""

import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from gateway.demo.cast import ANNE, ANNE_HEAD_CT, EASTVALE, EVE
from gateway.demo.images import make_trust, study_instance_uid
from gateway.demo.pacs.behaviour import Charset, Dead, Lie
from gateway.demo.pacs.lies import HUGE_BYTES, NESTING_LEVELS
from tests.gateway.simulated_pacs import ANSWER_TIMEOUT_S, SimulatedPacs, end, running_pacs, start_pacs

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
VERIFICATION = "1.2.840.10008.1.1"
ANNES = {"PatientID": ANNE.nhs_number}
PATIENT_NAME, LOCAL_NUMBER, OTHER_NUMBERS, BIRTH_DATE = "00100010", "00100020", "00101002", "00100030"
STUDY_UID, INSTANCE_COUNT, RETRIEVE_URL = "0020000D", "00201208", "00081190"

Rows = list[dict[str, dict[str, list[object]]]]


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trust(EASTVALE, tmp_path_factory.mktemp("region")).folder


@pytest.fixture(scope="module")
def running(data_folder: Path) -> Iterator[SimulatedPacs]:
    with running_pacs(data_folder) as pacs:
        yield pacs


@pytest.fixture
def pacs(running: SimulatedPacs) -> SimulatedPacs:
    running.reset()
    return running


@pytest.fixture
def association(pacs: SimulatedPacs) -> Iterator[Association]:
    opened = associate(pacs)
    assert opened.is_established
    yield opened
    opened.release()


def associate(pacs: SimulatedPacs) -> Association:
    ae = AE("VIEWER")
    ae.add_requested_context(STUDY_FIND)
    ae.add_requested_context(VERIFICATION)
    return ae.associate("127.0.0.1", pacs.port("dimse"))


def find(association: Association, patient_id: str) -> list[tuple[int | None, Dataset | None]]:
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.PatientID = patient_id
    for keyword in ("StudyInstanceUID", "PatientName", "IssuerOfPatientID", "OtherPatientIDsSequence"):
        setattr(asked, keyword, None)
    responses = association.send_c_find(asked, STUDY_FIND)
    return [(status.get("Status"), match) for status, match in responses]


def values(rows: Rows, tag: str) -> list[object]:
    """The first value of the attribute in each row that has one."""
    return [row[tag]["Value"][0] for row in rows if "Value" in row.get(tag, {})]


# --- dead and slow ---


def unanswered_request(pacs: SimulatedPacs) -> http.client.HTTPConnection:
    """A search that has arrived, as the journal says, and to which not one byte has come back."""
    connection = pacs.connection()
    connection.request("GET", "/dicom-web/studies")
    while not pacs.counts()["qido"]:
        assert not select.select([connection.sock], [], [], 0.02)[0]
    return connection


@pytest.mark.parametrize("switch", [{"dead": "silent"}, {"slow_s": 600}])
def test_a_silent_or_slow_pacs_takes_the_request_and_does_not_answer(
    pacs: SimulatedPacs, switch: dict[str, object]
) -> None:
    pacs.behave(**switch)
    connection = unanswered_request(pacs)
    assert not select.select([connection.sock], [], [], 0.1)[0]
    connection.close()


def test_a_slow_pacs_answers_in_the_end(pacs: SimulatedPacs, association: Association) -> None:
    pacs.behave(slow_s=0.05)
    assert len(pacs.ask("/studies", ANNES).rows) == 3
    assert [status for status, _ in find(association, ANNE.nhs_number)] == [0xFF00] * 3 + [0x0000]


def test_a_silent_pacs_accepts_an_association_and_answers_nothing_on_it(
    pacs: SimulatedPacs, association: Association
) -> None:
    pacs.behave(dead="silent")
    association.ae.dimse_timeout = 0.2
    assert association.send_c_echo().get("Status") is None
    assert pacs.counts()["c-echo"] == 1


def test_a_closed_pacs_refuses_connections_and_comes_back_on_the_same_ports(pacs: SimulatedPacs) -> None:
    pacs.behave(dead="closed")
    with pytest.raises(ConnectionRefusedError):
        pacs.ask("/studies")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", pacs.port("dimse")))
    pacs.behave(dead="no")
    assert pacs.ask("/studies").status == 200
    opened = associate(pacs)
    assert opened.send_c_echo().Status == 0x0000
    opened.release()


def test_a_closed_pacs_ends_the_connections_it_had(pacs: SimulatedPacs) -> None:
    connection = pacs.connection()
    connection.request("GET", "/dicom-web/studies?PatientID=none")
    connection.getresponse().read()
    pacs.behave(dead="closed")
    assert select.select([connection.sock], [], [], ANSWER_TIMEOUT_S)[0] and connection.sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize("switch", ['{"dead": "silent"}', '{"slow_s": 600}', '{"lies": ["endless"]}'])
def test_it_stops_cleanly_in_the_middle_of_misbehaving(data_folder: Path, switch: str) -> None:
    pacs = start_pacs(data_folder, "--behaviour", switch)
    connection = pacs.connection()
    connection.request("GET", "/dicom-web/studies")
    opened = associate(pacs)
    while not pacs.counts()["qido"]:
        continue
    pacs.process.terminate()
    assert pacs.process.wait(ANSWER_TIMEOUT_S) == 0
    opened.abort()
    connection.close()
    end(pacs.process)


def test_a_pacs_that_starts_closed_has_its_ports_and_can_be_revived(data_folder: Path) -> None:
    with running_pacs(data_folder, "--behaviour", '{"dead": "closed"}') as pacs:
        with pytest.raises(ConnectionRefusedError):
            pacs.ask("/studies")
        pacs.behave(dead="no")
        assert pacs.ask("/studies").status == 200


# --- lies in rows ---


def no_row_is_annes(honest: Rows, lying: Rows) -> bool:
    return bool(lying) and not set(values(honest, LOCAL_NUMBER)) & set(values(lying, LOCAL_NUMBER))


ROW_LIES: dict[Lie, Callable[[Rows, Rows], bool]] = {
    Lie.IGNORES_KEYS: lambda honest, lying: len(lying) == 10 and all(row in lying for row in honest),
    Lie.WRONG_PATIENT: no_row_is_annes,
    Lie.SAME_UID_OTHER_PATIENT: lambda honest, lying: (
        values(honest, STUDY_UID) == values(lying, STUDY_UID) and no_row_is_annes(honest, lying)
    ),
    Lie.IDENTITY_DIFFERS: lambda honest, lying: (
        values(honest, LOCAL_NUMBER) == values(lying, LOCAL_NUMBER)
        and not set(map(str, values(honest, PATIENT_NAME))) & set(map(str, values(lying, PATIENT_NAME)))
        and not set(values(honest, BIRTH_DATE)) & set(values(lying, BIRTH_DATE))
    ),
    Lie.NO_NHS_NUMBER: lambda honest, lying: len(lying) == 3 and ANNE.nhs_number not in json.dumps(lying),
    Lie.DUPLICATES: lambda honest, lying: lying == [row for row in honest for _ in range(2)],
    Lie.WRONG_COUNTS: lambda honest, lying: (
        values(lying, INSTANCE_COUNT) == [int(str(count)) + 7 for count in values(honest, INSTANCE_COUNT)]
    ),
    Lie.MISSING_UIDS: lambda honest, lying: len(lying) == 3 and not values(lying, STUDY_UID),
    Lie.BAD_UIDS: lambda honest, lying: values(lying, STUDY_UID) == ["../../etc/passwd"] * 3,
    Lie.NOTHING: lambda honest, lying: lying == [],
    Lie.FOREIGN_RETRIEVE_URL: lambda honest, lying: all("elsewhere" in str(url) for url in values(lying, RETRIEVE_URL)),
}


@pytest.mark.parametrize("lie", ROW_LIES)
def test_a_lie_is_told_in_the_rows_of_a_search_and_ends_when_turned_off(pacs: SimulatedPacs, lie: Lie) -> None:
    honest = pacs.ask("/studies", ANNES).rows
    pacs.behave(lies=[lie])
    lying = pacs.ask("/studies", ANNES).rows
    assert lying != honest and ROW_LIES[lie](honest, lying)
    pacs.behave(lies=[])
    assert pacs.ask("/studies", ANNES).rows == honest


@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        (Lie.IGNORES_KEYS, 10),
        (Lie.WRONG_PATIENT, 7),
        (Lie.DUPLICATES, 6),
        (Lie.NOTHING, 0),
        (Lie.SAME_UID_OTHER_PATIENT, 3),
    ],
)
def test_the_same_lie_is_told_over_dimse(
    pacs: SimulatedPacs, association: Association, lie: Lie, expected: int
) -> None:
    pacs.behave(lies=[lie])
    *matches, final = find(association, ANNE.nhs_number)
    assert (len(matches), final[0]) == (expected, 0x0000)
    names = {str(match.PatientName) for _, match in matches if match is not None}
    assert (ANNE.dicom_name in names) == (lie in (Lie.IGNORES_KEYS, Lie.DUPLICATES))


def test_lies_can_be_told_together(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["duplicates", "wrong-counts", "truncated"])
    with pytest.raises(http.client.IncompleteRead):
        pacs.ask("/studies", ANNES)
    pacs.behave(lies=["duplicates", "bad-uids"])
    assert values(pacs.ask("/studies", ANNES).rows, STUDY_UID) == ["../../etc/passwd"] * 6


# --- lies in whole answers ---


def test_an_endless_search_never_ends(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["endless"])
    connection = pacs.connection()
    connection.request("GET", "/dicom-web/studies")
    response = connection.getresponse()
    beginning = response.read(1 << 20)
    assert beginning.startswith(b"[{") and len(response.read(1 << 24)) == 1 << 24
    response.close()
    connection.close()


def test_an_endless_find_goes_on_until_it_is_cancelled(pacs: SimulatedPacs, association: Association) -> None:
    pacs.behave(lies=["endless"])
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.PatientID = ANNE.nhs_number
    asked.StudyInstanceUID = None
    uids, statuses = [], []
    for status, match in association.send_c_find(asked, STUDY_FIND, msg_id=7):
        statuses.append(status.Status)
        if match is not None:
            uids.append(match.StudyInstanceUID)
        if len(uids) == 50:
            association.send_c_cancel(7, query_model=STUDY_FIND)
    assert statuses[-1] == 0xFE00 and len(set(uids)) == len(uids) > 49


def test_a_huge_answer_is_a_well_formed_list_of_many_megabytes(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["huge"])
    answer = pacs.ask("/studies", ANNES)
    assert len(answer.body) > HUGE_BYTES
    assert (answer.body[:2], answer.body[-2:]) == (b"[{", b"}]")


@pytest.mark.parametrize("path", ["/studies", f"/studies/{study_instance_uid(ANNE_HEAD_CT)}"])
def test_a_server_error_is_told_at_every_resource(pacs: SimulatedPacs, path: str) -> None:
    pacs.behave(lies=["server-error"])
    assert pacs.ask(path).status == 500


def test_a_server_error_is_told_over_dimse(pacs: SimulatedPacs, association: Association) -> None:
    pacs.behave(lies=["server-error"])
    assert find(association, ANNE.nhs_number) == [(0xC001, None)]


def test_a_garbled_answer_is_no_json(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["garbled"])
    answer = pacs.ask("/studies", ANNES)
    assert answer.headers["Content-Type"] == "application/dicom+json"
    with pytest.raises(ValueError, match="decode"):
        json.loads(answer.body)


def test_garbled_images_differ_from_those_stored(pacs: SimulatedPacs) -> None:
    path = f"/studies/{study_instance_uid(ANNE_HEAD_CT)}"
    assert b"DICM" in pacs.ask(path).body
    pacs.behave(lies=["garbled"])
    assert pacs.ask(path).body.count(b"\xff") > 1000


@pytest.mark.parametrize("path", ["/studies", f"/studies/{study_instance_uid(ANNE_HEAD_CT)}"])
def test_a_truncated_answer_breaks_off(pacs: SimulatedPacs, path: str) -> None:
    pacs.behave(lies=["truncated"])
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        pacs.ask(path)


def test_a_dripping_answer_comes_byte_by_byte(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["dripping"])
    connection = pacs.connection()
    connection.request("GET", "/dicom-web/studies")
    response = connection.getresponse()
    assert [response.read1(100) for _ in range(3)] == [b"[", b"{", b'"']
    response.close()
    connection.close()


def test_an_answer_may_be_no_list(pacs: SimulatedPacs) -> None:
    honest = pacs.ask("/studies", ANNES).rows
    pacs.behave(lies=["not-a-list"])
    assert json.loads(pacs.ask("/studies", ANNES).body) == {"rows": honest}


def test_values_may_be_of_types_that_dicom_json_does_not_know(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["wrong-types"])
    *rows, last = json.loads(pacs.ask("/studies", ANNES).body)
    kinds = {type(element["Value"]) for row in rows for element in row.values()}
    assert kinds >= {int, float, dict, list, type(None), bool} and last == "not a row"


def test_an_answer_may_be_nested_deeper_than_a_parser_can_follow(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["deep-nesting"])
    body = pacs.ask("/studies", ANNES).body
    assert body.count(b'{"00081199"') == NESTING_LEVELS and body.count(b"[") == body.count(b"]")
    with pytest.raises(RecursionError):
        json.loads(body)


def test_the_content_type_may_be_wrong(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["wrong-content-type"])
    answer = pacs.ask("/studies", ANNES)
    assert (answer.headers["Content-Type"], len(answer.rows)) == ("text/html", 3)


def test_a_redirection_shows_in_the_journal_if_it_is_followed(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["redirect"])
    answer = pacs.ask("/studies", ANNES)
    assert (answer.status, answer.headers["Location"]) == (307, f"http://127.0.0.1:{pacs.port('web')}/elsewhere")
    assert pacs.counts()["other-http"] == 0
    connection = pacs.connection()
    connection.request("GET", "/elsewhere")
    response = connection.getresponse()
    assert (response.status, response.read()) == (404, b"404: Not Found")
    connection.close()
    assert pacs.counts()["other-http"] == 1


def test_paging_may_be_ignored(pacs: SimulatedPacs) -> None:
    pacs.behave(lies=["ignores-paging"])
    assert len(pacs.ask("/studies", {"limit": "1", "offset": "5"}).rows) == 10


def test_rows_above_the_archives_own_maximum_are_held_back_and_announced(pacs: SimulatedPacs) -> None:
    pacs.behave(rows_max=4)
    answer = pacs.ask("/studies", {"limit": "100"})
    assert len(answer.rows) == 4 and "There are 6 additional results" in answer.headers["Warning"]


# --- character sets ---


def test_latin_1_may_go_undeclared_in_both_doors(pacs: SimulatedPacs, association: Association) -> None:
    pacs.behave(charset="latin-1-undeclared")
    body = pacs.ask("/studies", {"PatientID": EVE.nhs_number}).body
    assert EVE.dicom_name.encode("latin-1") in body
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    (_, match), _ = find(association, EVE.nhs_number)
    assert match is not None and "SpecificCharacterSet" not in match
    assert match["PatientName"].value.original_string == EVE.dicom_name.encode("latin-1")


@pytest.mark.parametrize(("charset", "declared"), [("utf-8", "ISO_IR 192"), ("latin-1", "ISO_IR 100")])
def test_a_declared_character_set_is_the_one_used(
    pacs: SimulatedPacs, association: Association, charset: str, declared: str
) -> None:
    pacs.behave(charset=charset)
    (_, match), _ = find(association, EVE.nhs_number)
    assert match is not None and match.SpecificCharacterSet == declared and match.PatientName == EVE.dicom_name
    assert EVE.dicom_name in pacs.ask("/studies", {"PatientID": EVE.nhs_number}).body.decode()


# --- the control port ---


def test_the_present_behaviour_can_be_read_changed_in_part_and_reset(pacs: SimulatedPacs) -> None:
    honest = json.loads(pacs.control("GET", "behaviour").body)
    pacs.behave(lies=["nothing"])
    pacs.behave(rows_max=7)
    changed = json.loads(pacs.control("GET", "behaviour").body)
    assert changed == {**honest, "lies": ["nothing"], "rows_max": 7}
    assert json.loads(pacs.control("DELETE", "behaviour").body) == honest


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"lie": "nothing"}, "unknown switch lie"),
        ({"lies": "nothing"}, "lies must be a list"),
        ({"slow_s": -1}, "slow_s must be"),
        ({"slow_s": True}, "slow_s must be"),
        ({"dead": "yes"}, "dead must be one of no, closed, silent"),
        ({"charset": "ebcdic"}, "charset must be one of"),
        ({"empty_status": 404}, "200 or 204"),
        ({"rows_max": 0}, "rows_max must be"),
        ([], "a behaviour is a JSON object"),
    ],
)
def test_a_switch_that_does_not_exist_is_refused_and_nothing_changes(
    pacs: SimulatedPacs, changes: object, complaint: str
) -> None:
    before = pacs.control("GET", "behaviour").body
    answer = pacs.control("POST", "behaviour", changes)
    assert answer.status == 400 and complaint in answer.body.decode()
    assert pacs.control("GET", "behaviour").body == before


@pytest.mark.parametrize("destinations", [{"VIEWER": "nowhere"}, {"": "h:1"}, {"V": "h:99999"}, ["VIEWER"]])
def test_destinations_that_make_no_sense_are_refused(pacs: SimulatedPacs, destinations: object) -> None:
    assert pacs.control("PUT", "destinations", destinations).status == 400


def test_every_switch_is_described_for_those_who_use_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert [word for choices in (Lie, Dead, Charset) for word in choices if f"`{word}`" not in page] == []
