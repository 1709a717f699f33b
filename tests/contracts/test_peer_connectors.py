"""What the core may rely on of every `PeerConnector`, whatever protocol it speaks, before the same archive.

The archive is the demo region's simulated PACS, which answers both protocols from one index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile
from dimse.connector import DimsePeer, DimsePeerProfile
from gateway.demo import cast
from gateway.demo.cast import ANNE
from gateway.demo.images import MadeTrust, make_trust
from gateway.model.errors import PeerError, PeerProtocolError, PeerRefused, PeerTimeout, PeerUnavailable
from gateway.model.imaging import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    Key,
    Level,
    Query,
)
from gateway.model.seams import PeerAnswer, PeerConnector, PeerRequest
from gateway.model.settings import Limits
from policy.parties import TrustId
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs

EASTVALE = TrustId("RZ2")
ANNES = Key((PATIENT_ID,), "LO", (ANNE.nhs_number,))
ANNES_STUDIES = Query(Level.STUDY, (ANNES,))

Connecting = Callable[[SimulatedPacs, Limits], PeerConnector]


def over_dicomweb(archive: SimulatedPacs, limits: Limits) -> PeerConnector:
    url = f"http://127.0.0.1:{archive.port('web')}/dicom-web"
    return DicomwebPeer(DicomwebPeerProfile(EASTVALE, url), limits, None)


def over_dimse(archive: SimulatedPacs, limits: Limits) -> PeerConnector:
    profile = DimsePeerProfile(EASTVALE, "127.0.0.1", archive.port("dimse"), "EASTVALE_PACS", "GATEWAY")
    return DimsePeer(profile, limits, None)


@pytest.fixture(params=[over_dicomweb, over_dimse], ids=["dicomweb", "dimse"])
def connecting(request: pytest.FixtureRequest) -> Connecting:
    found: Connecting = request.param
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeTrust:
    return make_trust(cast.EASTVALE, tmp_path_factory.mktemp("region"))


@pytest.fixture(scope="module")
def archive(made: MadeTrust) -> Iterator[SimulatedPacs]:
    with running_pacs(made.folder, "--ae-title", "EASTVALE_PACS") as pacs:
        yield pacs


@pytest.fixture
def eastvale(archive: SimulatedPacs) -> SimulatedPacs:
    archive.reset()
    return archive


@asynccontextmanager
async def connected(
    connecting: Connecting, archive: SimulatedPacs, limits: Limits | None = None
) -> AsyncIterator[PeerConnector]:
    connector = connecting(archive, limits or Limits())
    try:
        yield connector
    finally:
        await connector.close()


async def ask(connector: PeerConnector, query: Query = ANNES_STUDIES, matches_max: int = 1_000) -> PeerAnswer:
    async with asyncio.timeout(30):
        return await connector.find(PeerRequest(query, "request-1", 1, matches_max))


async def find(
    connecting: Connecting, archive: SimulatedPacs, query: Query = ANNES_STUDIES, matches_max: int = 1_000
) -> PeerAnswer:
    async with connected(connecting, archive) as connector:
        return await ask(connector, query, matches_max)


def values(answer: PeerAnswer, tag: str) -> set[object]:
    return {row[tag]["Value"][0] for row in answer.rows}  # type: ignore[index]  # a list by the reader's contract


async def test_it_says_whose_archive_it_is(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    async with connected(connecting, eastvale) as connector:
        assert connector.trust == EASTVALE


async def test_rows_say_whose_they_are_and_nothing_that_leads_round_the_policy(
    connecting: Connecting, eastvale: SimulatedPacs, made: MadeTrust
) -> None:
    answer = await find(connecting, eastvale)
    held = {each.study_instance_uid for each in made.studies if each.plan.patient == ANNE}
    assert values(answer, STUDY_UID) == held and not answer.is_truncated
    for row in answer.rows:
        assert row.keys() >= {PATIENT_ID, ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_NAME, PATIENT_BIRTH_DATE}
        assert row[MODALITIES_IN_STUDY]["Value"]
        assert not row.keys() & {"00081190", "00080054", "00080052"}


async def test_both_protocols_read_the_same_values(eastvale: SimulatedPacs) -> None:
    tags = (PATIENT_ID, PATIENT_NAME, PATIENT_BIRTH_DATE, STUDY_UID, STUDY_DATE, ACCESSION_NUMBER, OTHER_PATIENT_IDS)
    by_dicomweb, by_dimse = [
        sorted(str({tag: row[tag] for tag in tags}) for row in (await find(each, eastvale)).rows)
        for each in (over_dicomweb, over_dimse)
    ]
    assert by_dicomweb == by_dimse


async def test_rows_of_every_level_name_all_above_them(
    connecting: Connecting, eastvale: SimulatedPacs, made: MadeTrust
) -> None:
    [of_anne, *_] = [each for each in made.studies if each.plan.patient == ANNE]
    in_study = Key((STUDY_UID,), "UI", (of_anne.study_instance_uid,))
    for keys in ((ANNES,), (in_study,), (ANNES, in_study)):
        series = await find(connecting, eastvale, Query(Level.SERIES, keys))
        assert {each.series_instance_uid for each in of_anne.series} <= values(series, SERIES_UID)
        assert all(row.keys() >= {STUDY_UID, PATIENT_ID, MODALITY} for row in series.rows)
        instances = await find(connecting, eastvale, Query(Level.IMAGE, keys))
        assert {uid for each in of_anne.series for uid in each.sop_instance_uids} <= values(instances, SOP_UID)
        assert all(row.keys() >= {STUDY_UID, SERIES_UID, PATIENT_ID, MODALITY} for row in instances.rows)


async def test_nothing_found_is_an_empty_answer(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    answer = await find(connecting, eastvale, Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("9990000999",)),)))
    assert list(answer.rows) == [] and not answer.is_truncated


async def test_rows_beyond_the_limit_are_cut_and_said_to_be(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    count = len((await find(connecting, eastvale)).rows)
    exact = await find(connecting, eastvale, matches_max=count)
    assert len(exact.rows) == count and not exact.is_truncated
    cut = await find(connecting, eastvale, matches_max=count - 1)
    assert len(cut.rows) == count - 1 and cut.is_truncated


async def test_a_row_that_comes_twice_is_one(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["duplicates"])
    answer = await find(connecting, eastvale)
    assert len(answer.rows) == len(values(answer, STUDY_UID)) == 3


@pytest.mark.parametrize("lie", ["missing-uids", "bad-uids"])
async def test_rows_that_cannot_be_are_not_believed(connecting: Connecting, eastvale: SimulatedPacs, lie: str) -> None:
    eastvale.behave(lies=[lie])
    with pytest.raises(PeerProtocolError) as error:
        await find(connecting, eastvale)
    assert error.value.trust == EASTVALE and ANNE.nhs_number not in str(error.value)


async def test_a_failing_archive_is_a_peer_error(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["server-error"])
    with pytest.raises(PeerError):
        await find(connecting, eastvale)


async def test_there_is_no_search_at_patient_level(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    with pytest.raises(PeerRefused):
        await find(connecting, eastvale, Query(Level.PATIENT, (ANNES,)))


async def test_a_closed_port_is_no_connection(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    eastvale.behave(dead="closed")
    with pytest.raises(PeerUnavailable):
        await find(connecting, eastvale)


async def test_a_silent_archive_is_a_timeout(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    eastvale.behave(dead="silent")
    limits = replace(Limits(), find_timeout_s=0.2, cancel_timeout_s=0.05)
    async with connected(connecting, eastvale, limits) as connector:
        with pytest.raises(PeerTimeout):
            await ask(connector)


# aiohttp leaves a socket to the collector whose connection is given up while it is being made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_question_given_up_does_not_spoil_the_next(connecting: Connecting, eastvale: SimulatedPacs) -> None:
    async with connected(connecting, eastvale) as connector:
        eastvale.behave(slow_s=2)
        question = asyncio.create_task(ask(connector))
        while not await asyncio.to_thread(eastvale.requests):
            pass
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        eastvale.reset()
        assert len((await ask(connector)).rows) == 3


async def test_closing_twice_is_closing_once_and_a_closed_connector_asks_nobody(
    connecting: Connecting, eastvale: SimulatedPacs
) -> None:
    async with connected(connecting, eastvale) as connector:
        assert (await ask(connector)).rows
        await connector.close()
        await connector.close()
        with pytest.raises(PeerUnavailable):
            await ask(connector)
