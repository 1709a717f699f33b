"""Real foreign archives asked by C-FIND: DCMTK's, Orthanc, the simulated PACS plain and over TLS, and odd ones.

The same questions to each, holding the demo region's images. None of them shares protocol code with us. Orthanc and
DCMTK match Patient ID alone, so the images are filed there under their NHS numbers, as a region would agree.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # pynetdicom makes these names at run time
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dimse.connector import Model, Quirk
from gateway.demo.cast import ANNE, EASTVALE
from gateway.demo.images import MadeStudy, MadeTrust, make_trust
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerUnavailable
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Key,
    Level,
    Query,
)
from gateway.model.seams import PeerAnswer
from tests.dimse.c_find_asking import ANNES, ANNES_STUDIES, LIMITS, ask, peer
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs
from tests.peers import dcmqrscp, orthanc
from tests.peers.dcmqrscp import running_dcmqrscp
from tests.peers.orthanc import running_orthanc

pytestmark = pytest.mark.peer

KINDS = ["dcmqrscp", "orthanc", "simulated", "simulated over TLS"]


@dataclass(frozen=True)
class Foreign:
    """An archive, and how it is reached."""

    port: int
    called: str
    secure: ssl.SSLContext | None = None

    async def find(
        self, query: Query = ANNES_STUDIES, *quirks: Quirk, model: Model = Model.STUDY_ROOT, matches_max: int = 1_000
    ) -> PeerAnswer:
        """Ask one thing on an association of its own."""
        async with peer(self.port, *quirks, called=self.called, secure=self.secure, model=model) as connector:
            return await ask(connector, query, matches_max=matches_max)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeTrust:
    return make_trust(EASTVALE, tmp_path_factory.mktemp("region"))


@pytest.fixture(scope="module")
def filed(made: MadeTrust, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The images, under NHS numbers."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for study in made.studies:
        for path in (path for series in study.series for path in series.files):
            dataset = dcmread(path)
            dataset.PatientID, dataset.IssuerOfPatientID = study.plan.patient.nhs_number, "NHS"
            paths.append(folder / f"{dataset.SOPInstanceUID}.dcm")
            dataset.save_as(paths[-1])
    return paths


@pytest.fixture(scope="module")
def dcmtk_archive(filed: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with running_dcmqrscp(tmp_path_factory.mktemp("dcmqrscp"), filed) as port:
        yield Foreign(port, dcmqrscp.AE_TITLE)


@pytest.fixture(scope="module")
def orthanc_archive(filed: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        assert archive.store(filed) == len(filed)
        yield Foreign(archive.dicom_port, orthanc.AE_TITLE)


@pytest.fixture(scope="module")
def simulated(made: MadeTrust) -> Iterator[SimulatedPacs]:
    with running_pacs(made.folder, "--ae-title", "EASTVALE_PACS") as pacs:
        yield pacs


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(
    made: MadeTrust, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimulatedPacs]:
    folder = tmp_path_factory.mktemp("certificates")
    issued = authority.issue_cert("127.0.0.1")
    (folder / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    flags = ["--dimse-tls", "--tls-certificate", str(folder / "chain.pem"), "--tls-key", str(folder / "key.pem")]
    flags += ["--tls-client-ca", str(folder / "ca.pem"), "--ae-title", "EASTVALE_PACS"]
    with running_pacs(made.folder, *flags) as pacs:
        yield pacs


def client(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if names:
        authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def foreign(request: pytest.FixtureRequest) -> Foreign:
    """The archive of the kind that the test names."""
    match request.param:
        case "dcmqrscp":
            found: Foreign = request.getfixturevalue("dcmtk_archive")
            return found
        case "orthanc":
            found = request.getfixturevalue("orthanc_archive")
            return found
        case "simulated":
            plain: SimulatedPacs = request.getfixturevalue("simulated")
            plain.reset()
            return Foreign(plain.port("dimse"), "EASTVALE_PACS")
        case _:
            tls: SimulatedPacs = request.getfixturevalue("secured")
            context = client(request.getfixturevalue("authority"), "gateway.example")
            return Foreign(tls.port("dimse"), "EASTVALE_PACS", context)


@pytest.fixture
def of_anne(made: MadeTrust) -> list[MadeStudy]:
    return [study for study in made.studies if study.plan.patient == ANNE]


every_archive = pytest.mark.parametrize("foreign", KINDS, indirect=True)


def uid_key(tag: str, *uids: str) -> Key:
    return Key((tag,), "UI", uids)


def values(answer: PeerAnswer, tag: str) -> set[object]:
    return {row[tag]["Value"][0] for row in answer.rows}  # type: ignore[index]  # a list by the reader's contract


@every_archive
async def test_an_archive_answers_a_sign_of_life(foreign: Foreign) -> None:
    async with peer(foreign.port, called=foreign.called, secure=foreign.secure) as connector:
        await connector.echo()


@every_archive
async def test_a_patients_studies_are_found_with_their_identity_and_modalities(
    foreign: Foreign, of_anne: list[MadeStudy]
) -> None:
    answer = await foreign.find()
    assert values(answer, STUDY_UID) == {study.study_instance_uid for study in of_anne} and not answer.is_truncated
    for row in answer.rows:
        assert row.keys() >= {PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_NAME, PATIENT_BIRTH_DATE}
        assert row[MODALITIES_IN_STUDY]["Value"] and "00080054" not in row


@every_archive
@pytest.mark.parametrize("model", list(Model))
async def test_series_and_instances_are_found_with_all_uids_above_them(
    foreign: Foreign, of_anne: list[MadeStudy], model: Model
) -> None:
    study = of_anne[0]
    in_study = uid_key(STUDY_UID, study.study_instance_uid)
    in_series = uid_key(SERIES_UID, study.series[0].series_instance_uid)
    for keys in ((in_study,), (ANNES,), (ANNES, in_study)):
        found = await foreign.find(Query(Level.SERIES, keys), model=model)
        assert {series.series_instance_uid for series in study.series} <= values(found, SERIES_UID)
        assert all(row.keys() >= {STUDY_UID, PATIENT_ID, PATIENT_BIRTH_DATE, MODALITY} for row in found.rows)
    for keys in ((in_study, in_series), (in_study,), (ANNES,)):
        found = await foreign.find(Query(Level.IMAGE, keys), model=model)
        assert set(study.series[0].sop_instance_uids) <= values(found, SOP_UID)
        assert all(row.keys() >= {STUDY_UID, SERIES_UID, PATIENT_ID, PATIENT_NAME} for row in found.rows)


@every_archive
async def test_names_beyond_ascii_arrive_whole(foreign: Foreign) -> None:
    everybody = await foreign.find(Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("*",)),)))
    assert any("Ó" in str(row[PATIENT_NAME]) for row in everybody.rows)


@every_archive
async def test_a_list_of_studies_is_found_at_once_and_one_by_one(foreign: Foreign, made: MadeTrust) -> None:
    wanted = [study.study_instance_uid for study in made.studies[:3]]
    query = Query(Level.STUDY, (uid_key(STUDY_UID, *wanted, "1.2.3"),))
    assert values(await foreign.find(query), STUDY_UID) == set(wanted)
    assert values(await foreign.find(query, Quirk.NO_UID_LISTS), STUDY_UID) == set(wanted)


@every_archive
async def test_alternatives_do_not_make_it_find_nothing(foreign: Foreign, of_anne: list[MadeStudy]) -> None:
    several = Key((MODALITIES_IN_STUDY,), "CS", ("CT", "US"))
    assert len((await foreign.find(Query(Level.STUDY, (ANNES, several)))).rows) == len(of_anne)


@every_archive
async def test_an_unknown_patient_is_nothing_found(foreign: Foreign) -> None:
    answer = await foreign.find(Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("9990000999",)),)))
    assert not answer.rows and not answer.is_truncated


@every_archive
async def test_rows_beyond_the_limit_are_said_to_be_missing(foreign: Foreign, of_anne: list[MadeStudy]) -> None:
    whole = await foreign.find(matches_max=len(of_anne))
    assert len(whole.rows) == len(of_anne) and not whole.is_truncated
    cut = await foreign.find(matches_max=1)
    assert len(cut.rows) == 1 and cut.is_truncated


@every_archive
async def test_implicit_vr_and_single_queries_will_do(foreign: Foreign, of_anne: list[MadeStudy]) -> None:
    quirks = (Quirk.IMPLICIT_VR_ONLY, Quirk.ONE_QUERY_PER_ASSOCIATION, Quirk.NO_RELATIONAL_NEGOTIATION)
    answer = await foreign.find(Query(Level.SERIES, (ANNES,)), *quirks)
    assert values(answer, SERIES_UID) == {series.series_instance_uid for study in of_anne for series in study.series}


@every_archive
async def test_an_association_given_up_or_left_idle_costs_no_later_answer(foreign: Foreign) -> None:
    async with peer(foreign.port, called=foreign.called, secure=foreign.secure) as connector:
        for _ in range(3):
            assert (await ask(connector, matches_max=1)).is_truncated
        assert len((await ask(connector)).rows) == 3


@pytest.mark.parametrize("kind", ["dcmqrscp", "orthanc"])
async def test_an_archive_that_is_called_by_another_name_refuses(kind: str, request: pytest.FixtureRequest) -> None:
    archive: Foreign = request.getfixturevalue(f"{'dcmtk' if kind == 'dcmqrscp' else kind}_archive")
    with pytest.raises(PeerRefused):
        await replace(archive, called="SOMEBODY").find()


async def test_an_archive_that_has_gone_is_unavailable(filed: list[Path], tmp_path: Path) -> None:
    with running_dcmqrscp(tmp_path, filed) as port:
        gone = Foreign(port, dcmqrscp.AE_TITLE)
        assert len((await gone.find()).rows) == 3
    with pytest.raises(PeerUnavailable):
        await gone.find()


@pytest.mark.parametrize("kind", ["no certificate", "another authority", "system roots", "plain"])
async def test_an_archive_that_does_not_know_us_or_that_we_do_not_know_is_not_asked(
    secured: SimulatedPacs, authority: trustme.CA, kind: str
) -> None:
    contexts = {
        "no certificate": client(authority),
        "another authority": client(trustme.CA(), "gateway.example"),
        "system roots": ssl.create_default_context(),
        "plain": None,
    }
    before = secured.counts().get("find", 0)
    with pytest.raises(PeerError):
        await Foreign(secured.port("dimse"), "EASTVALE_PACS", contexts[kind]).find()
    assert secured.counts().get("find", 0) == before


# The simulated PACS when it lies.


@pytest.mark.parametrize("lie", ["endless", "huge"])
async def test_an_endless_answer_is_cut_and_said_to_be(simulated: SimulatedPacs, lie: str) -> None:
    simulated.reset()
    simulated.behave(lies=[lie])
    answer = await Foreign(simulated.port("dimse"), "EASTVALE_PACS").find(matches_max=200)
    assert len(answer.rows) == 200 and answer.is_truncated


@pytest.mark.parametrize(("lie", "expected"), [("missing-uids", PeerProtocolError), ("bad-uids", PeerProtocolError)])
async def test_a_lying_archive_is_not_believed(simulated: SimulatedPacs, lie: str, expected: type[PeerError]) -> None:
    simulated.reset()
    simulated.behave(lies=[lie])
    with pytest.raises(expected):
        await Foreign(simulated.port("dimse"), "EASTVALE_PACS").find()


async def test_undeclared_latin_1_is_read(simulated: SimulatedPacs) -> None:
    simulated.reset()
    simulated.behave(charset="latin-1-undeclared")
    everybody = Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("*",)),))
    answer = await Foreign(simulated.port("dimse"), "EASTVALE_PACS").find(everybody)
    assert any("Ó" in str(row[PATIENT_NAME]) for row in answer.rows)


# Odd archives on pynetdicom.

Answers = Callable[[evt.Event], Iterator[tuple[int, Dataset | None]]]


def row(**changes: object) -> Dataset:
    """One study."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel, dataset.StudyInstanceUID = "STUDY", "1.2.3"
    dataset.PatientID, dataset.PatientName, dataset.ModalitiesInStudy = "9990000018", "ONE^ANNE", "CT"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


@contextmanager
def odd_archive(answers: Answers, *, syntax: str = ExplicitVRLittleEndian, titles: str = "ARCHIVE") -> Iterator[int]:
    """An archive of pynetdicom's that answers C-FIND so; gives its port."""
    ae = AE(titles)
    for sop_class in (
        PatientRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelFind,
        Verification,
    ):
        ae.add_supported_context(sop_class, syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answers)])
    assert server is not None and server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
async def test_an_archive_that_ignores_its_keys_gives_rows_and_nothing_else(syntax: str) -> None:
    def everything(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(5):
            yield 0xFF01, row(StudyInstanceUID=f"1.2.{number}", PatientID=str(number))

    with odd_archive(everything, syntax=syntax) as port:
        answer = await Foreign(port, "ARCHIVE").find()
    assert len(answer.rows) == 5


async def test_an_archive_that_ignores_cancel_costs_its_association_and_nothing_else() -> None:
    goes_on = threading.Event()
    numbers = iter(range(10**6))

    def a_million(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        while not goes_on.is_set():
            yield 0xFF00, row(StudyInstanceUID=f"1.2.{next(numbers)}")

    with odd_archive(a_million) as port:
        limits = replace(LIMITS, cancel_timeout_s=0.1)
        async with peer(port, limits=limits) as connector:
            for _ in range(2):
                answer = await ask(connector, matches_max=20)
                assert len(answer.rows) == 20 and answer.is_truncated
        goes_on.set()


async def test_an_archive_that_aborts_in_mid_answer_is_unavailable() -> None:
    def abort(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, row()
        event.assoc.abort()

    with odd_archive(abort) as port, pytest.raises(PeerUnavailable):
        await Foreign(port, "ARCHIVE").find()


async def test_an_archive_whose_handler_fails_refuses() -> None:
    def fail(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        yield from ()
        raise RuntimeError("a bug of theirs")

    with odd_archive(fail) as port, pytest.raises(PeerRefused):
        await Foreign(port, "ARCHIVE").find()


async def test_a_slow_archive_is_cancelled_at_the_callers_deadline() -> None:
    told = threading.Event()

    def slow(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, row()
        while not event.is_cancelled:
            told.wait(0.01)
        told.set()
        yield 0xFE00, None

    with odd_archive(slow) as port:
        async with peer(port) as connector:
            await connector.echo()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ask(connector)
            assert await asyncio.to_thread(told.wait, 30)
            await connector.echo()
