"""Images of the simulated PACS: as they are stored, and each way in which it may send them wrongly, at both doors."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.presentation import build_context

from gateway.demo.cast import ANNE, ANNE_HEAD_CT, EASTVALE
from gateway.demo.certificates import Authority, KeyPair
from gateway.demo.images import MadeStudy, MadeTrust, make_trust
from tests.gateway.simulated_pacs import ANSWER_TIMEOUT_S, SimulatedPacs, running_pacs

STUDY_MOVE, STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
CLASSES = (CT, "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.6.1")
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90")
STALL_S = 2.0
"""Whatever has not come after so long does not come."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a door sent of a study, and whether it came to its end in good order."""

    encoded: Mapping[str, bytes]
    """Data sets by the UID under which they were announced."""
    files: tuple[bytes, ...]
    has_ended_well: bool

    @property
    def datasets(self) -> list[Dataset]:
        """The images, read."""
        return [dcmread(BytesIO(file)) for file in self.files]


Door = Callable[[SimulatedPacs, str], Sent]


def by_wado(pacs: SimulatedPacs, study_uid: str) -> Sent:
    connection = pacs.connection()
    connection.timeout = STALL_S
    connection.request("GET", f"/dicom-web/studies/{study_uid}")
    response = connection.getresponse()
    border = b"\r\n--" + response.headers["Content-Type"].rpartition("boundary=")[2].encode()
    body = b"\r\n"
    try:
        while piece := response.read1(1 << 20):
            body += piece
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    has_ended_well = body.endswith(border + b"--\r\n")
    parts = [part.partition(b"\r\n\r\n")[2] for part in body.split(border)[1:-1]]
    by_uid = {str(dcmread(BytesIO(part)).file_meta.MediaStorageSOPInstanceUID): data_set_of(part) for part in parts}
    return Sent(by_uid, tuple(parts), has_ended_well)


def by_get(pacs: SimulatedPacs, study_uid: str) -> Sent:
    encoded: dict[str, bytes] = {}
    files: list[bytes] = []

    def on_store(event: evt.Event) -> int:
        encoded[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset(include_meta=False)  # type: ignore[union-attr]  # it is a C-STORE
        files.append(event.encoded_dataset())
        return 0x0000

    ae = AE("VIEWER")
    ae.add_requested_context(STUDY_GET)
    for sop_class in CLASSES:
        for syntax in SYNTAXES:
            ae.add_requested_context(sop_class, syntax)
    association = ae.associate(
        "127.0.0.1",
        pacs.port("dimse"),
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in CLASSES],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    assert association.is_established
    responses = list(association.send_c_get(identifier(study_uid), STUDY_GET))
    final = responses[-1][0]
    association.abort()
    return Sent(encoded, tuple(files), "Status" in final and final.Status == 0x0000)


def identifier(study_uid: str) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study_uid
    return asked


def server_context(authority: Authority, pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.private_key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    return context


def client_context(authority: Authority, pair: KeyPair) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(pair.certificate, pair.private_key)
    return context


def data_set_of(file: bytes) -> bytes:
    return file[144 + int.from_bytes(file[140:144], "little") :]


@pytest.fixture(scope="module")
def eastvale(tmp_path_factory: pytest.TempPathFactory) -> MadeTrust:
    return make_trust(EASTVALE, tmp_path_factory.mktemp("region"))


@pytest.fixture(scope="module")
def running(eastvale: MadeTrust) -> Iterator[SimulatedPacs]:
    with running_pacs(eastvale.folder) as pacs:
        yield pacs


@pytest.fixture
def pacs(running: SimulatedPacs) -> SimulatedPacs:
    running.reset()
    return running


@pytest.fixture(params=[by_wado, by_get])
def door(request: pytest.FixtureRequest) -> Door:
    chosen: Door = request.param
    return chosen


@pytest.fixture
def study(eastvale: MadeTrust) -> MadeStudy:
    return next(made for made in eastvale.studies if made.plan is ANNE_HEAD_CT)


def stored(study: MadeStudy) -> dict[str, bytes]:
    pairs = [pair for one in study.series for pair in zip(one.sop_instance_uids, one.files, strict=True)]
    return {uid: data_set_of(path.read_bytes()) for uid, path in pairs}


def test_images_are_sent_byte_for_byte_as_they_are_stored(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    sent = door(pacs, study.study_instance_uid)
    assert sent.encoded == stored(study) and sent.has_ended_well


def test_fewer_than_announced_is_called_success(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    pacs.behave(lies=["fewer-images"])
    sent = door(pacs, study.study_instance_uid)
    assert sent.encoded.items() < stored(study).items() and len(sent.encoded) == len(stored(study)) - 1
    assert sent.has_ended_well


def test_an_extra_image_is_another_studys(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    pacs.behave(lies=["extra-image"])
    sent = door(pacs, study.study_instance_uid)
    others = [each for each in sent.datasets if each.StudyInstanceUID != study.study_instance_uid]
    assert len(others) == 1 and sent.encoded.keys() > stored(study).keys() and sent.has_ended_well


def test_another_patient_may_be_inside(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    pacs.behave(lies=["wrong-patient-inside"])
    sent = door(pacs, study.study_instance_uid)
    assert sent.encoded.keys() == stored(study).keys()
    assert not any(ANNE.nhs_number in str(each) or each.PatientName == ANNE.dicom_name for each in sent.datasets)


def test_other_uids_may_be_inside(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    pacs.behave(lies=["wrong-uids-inside"])
    sent = door(pacs, study.study_instance_uid)
    assert len(sent.datasets) == len(stored(study))
    assert not any(each.StudyInstanceUID == study.study_instance_uid for each in sent.datasets)
    assert not {each.SOPInstanceUID for each in sent.datasets} & stored(study).keys()
    # Over an association pynetdicom announces what stands inside; a file has two places for it.
    assert (sent.encoded.keys() == stored(study).keys()) == (door is by_wado)


def test_damage_alters_pixels_and_nothing_else(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    pacs.behave(lies=["damaged-images"])
    sent = door(pacs, study.study_instance_uid).encoded
    for uid, honest in stored(study).items():
        altered = [at for at, (one, other) in enumerate(zip(honest, sent[uid], strict=True)) if one != other]
        assert len(altered) == 1


def test_the_last_image_may_be_cut(pacs: SimulatedPacs, door: Door, study: MadeStudy) -> None:
    pacs.behave(lies=["cut-image"])
    sent = door(pacs, study.study_instance_uid)
    assert sent.encoded.items() < stored(study).items() and len(sent.encoded) == len(stored(study)) - 1
    assert not sent.has_ended_well
    pacs.reset()
    assert door(pacs, study.study_instance_uid).has_ended_well


def test_an_answer_that_stalls_has_sent_the_other_images(pacs: SimulatedPacs, study: MadeStudy) -> None:
    pacs.behave(lies=["stalled-image"])
    sent = by_wado(pacs, study.study_instance_uid)
    assert len(sent.encoded) == len(stored(study)) - 1 and not sent.has_ended_well


def test_a_get_that_stalls_goes_on_when_the_lie_ends(pacs: SimulatedPacs, study: MadeStudy) -> None:
    pacs.behave(lies=["stalled-image"])
    sent: list[Sent] = []
    getting = threading.Thread(target=lambda: sent.append(by_get(pacs, study.study_instance_uid)))
    getting.start()
    getting.join(STALL_S)
    assert getting.is_alive()
    pacs.reset()
    getting.join(ANSWER_TIMEOUT_S)
    assert sent[0].encoded == stored(study)


def test_only_so_many_associations_are_taken(pacs: SimulatedPacs) -> None:
    pacs.behave(associations_max=1)
    ae = AE("VIEWER")
    ae.add_requested_context(STUDY_GET)
    first = ae.associate("127.0.0.1", pacs.port("dimse"))
    second = ae.associate("127.0.0.1", pacs.port("dimse"))
    assert first.is_established and second.is_rejected
    first.release()


@pytest.mark.parametrize("lie", [None, "cut-image"])
def test_a_move_goes_over_tls_to_a_destination_and_may_break_off(
    eastvale: MadeTrust, study: MadeStudy, tmp_path_factory: pytest.TempPathFactory, lie: str | None
) -> None:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    archive, viewer = authority.issue("archive"), authority.issue("viewer")
    flags = ("--dimse-tls", "--tls-certificate", str(archive.certificate), "--tls-key", str(archive.private_key))
    received: list[str] = []
    has_closed = threading.Event()

    def on_store(event: evt.Event) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]  # it is a C-STORE
        return 0x0000

    receiver = AE("VIEWER")
    for context in AllStoragePresentationContexts:
        receiver.add_supported_context(context.abstract_syntax or "", list(SYNTAXES))
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_C_STORE, on_store),
        (evt.EVT_CONN_CLOSE, lambda _: has_closed.set()),
    ]
    server = receiver.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=server_context(authority, viewer), evt_handlers=handlers
    )
    assert server is not None and server.socket is not None
    try:
        with running_pacs(eastvale.folder, *flags, "--tls-client-ca", str(authority.certificate)) as pacs:
            address = f"localhost:{server.socket.getsockname()[1]}"
            assert pacs.control("PUT", "destinations", {"VIEWER": address}).status == 204
            if lie is not None:
                pacs.behave(lies=[lie])
            caller = AE("VIEWER")
            caller.requested_contexts = [build_context(STUDY_MOVE)]
            tls = (client_context(authority, viewer), "localhost")
            association = caller.associate("127.0.0.1", pacs.port("dimse"), tls_args=tls)
            assert association.is_established
            moved = association.send_c_move(identifier(study.study_instance_uid), "VIEWER", STUDY_MOVE)
            final = [status for status, _ in moved][-1]
            association.release()
            assert has_closed.wait(ANSWER_TIMEOUT_S)
    finally:
        server.shutdown()
    whole = set(stored(study))
    if lie is None:
        assert (final.Status, set(received)) == (0x0000, whole)
    else:
        assert final.Status != 0x0000 and set(received) < whole and len(received) == len(whole) - 1
