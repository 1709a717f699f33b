"""A trust's archive asked over DICOMweb: what honest ones answer, and on which connection.

The honest archive is the demo region's simulated PACS, which shares no protocol code with us.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from dicomweb.connector import PAGE_ROWS_MAX, Quirk
from gateway.demo.cast import ANNE
from gateway.demo.images import MadeTrust
from gateway.model.errors import PeerProtocolError, PeerUnavailable
from gateway.model.imaging import (
    ISSUER_OF_PATIENT_ID,
    OTHER_PATIENT_IDS,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Key,
    Level,
    Query,
    SourceState,
)
from gateway.model.seams import PeerAnswer, PeerRequest
from tests.dicomweb.asking import ANNES, ANNES_STUDIES, EASTVALE, answering, find, http, peer, values
from tests.dicomweb.small_region import Shelf, element, serving, source, study
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs


async def test_a_patients_studies_are_found_with_what_identity_and_policy_need(
    eastvale: SimulatedPacs, made: MadeTrust
) -> None:
    answer = await find(eastvale)
    held = {each.study_instance_uid for each in made.studies if each.plan.patient == ANNE}
    assert values(answer, STUDY_UID) == held and not answer.is_truncated
    for row in answer.rows:
        assert row.keys() >= {PATIENT_ID, ISSUER_OF_PATIENT_ID, OTHER_PATIENT_IDS, PATIENT_NAME, PATIENT_BIRTH_DATE}
        assert "00081190" not in row and "00080054" not in row


async def test_series_and_instances_are_found_with_all_uids_above_them(
    eastvale: SimulatedPacs, made: MadeTrust
) -> None:
    [of_anne, *_] = [each for each in made.studies if each.plan.patient == ANNE]
    in_study = Key((STUDY_UID,), "UI", (of_anne.study_instance_uid,))
    in_series = Key((SERIES_UID,), "UI", (of_anne.series[0].series_instance_uid,))
    for keys in ((in_study,), (ANNES,), (ANNES, in_study)):
        series = await find(eastvale, Query(Level.SERIES, keys))
        assert {each.series_instance_uid for each in of_anne.series} <= values(series, SERIES_UID)
        assert of_anne.study_instance_uid in values(series, STUDY_UID)
        assert values(series, PATIENT_BIRTH_DATE)
    for keys in ((in_study, in_series), (in_study,), (ANNES,)):
        instances = await find(eastvale, Query(Level.IMAGE, keys))
        assert set(of_anne.series[0].sop_instance_uids) <= values(instances, SOP_UID)
        assert all(row.keys() >= {STUDY_UID, SERIES_UID, SOP_UID} for row in instances.rows)


@pytest.mark.parametrize("status", [200, 204])
async def test_nothing_found_is_nothing_in_either_form(eastvale: SimulatedPacs, status: int) -> None:
    eastvale.behave(empty_status=status)
    answer = await find(eastvale, Query(Level.STUDY, (Key((PATIENT_ID,), "LO", ("9990000999",)),)))
    assert list(answer.rows) == [] and not answer.is_truncated


async def test_the_question_travels_with_its_id_and_the_gateways_it_has_passed(eastvale: SimulatedPacs) -> None:
    await find(eastvale)
    [request] = eastvale.requests()
    headers = {name.lower(): value for name, value in request["headers"]}  # type: ignore[attr-defined]  # JSON
    assert headers["gateway-correlation"] == "request-1" and headers["gateway-hops"] == "1"
    assert headers["accept"] == "application/dicom+json" and "cookie" not in headers


async def test_pages_are_fetched_until_the_archive_has_no_more(eastvale: SimulatedPacs) -> None:
    whole = await find(eastvale, Query(Level.IMAGE, (ANNES,)))
    eastvale.behave(rows_max=2)
    paged = await find(eastvale, Query(Level.IMAGE, (ANNES,)))
    assert values(paged, SOP_UID) == values(whole, SOP_UID) and len(paged.rows) == len(whole.rows) > 4
    assert not paged.is_truncated


async def test_as_many_rows_are_believed_as_the_limit_and_the_rest_is_said_to_be_missing(
    eastvale: SimulatedPacs,
) -> None:
    count = len((await find(eastvale)).rows)
    exact = await find(eastvale, matches_max=count)
    assert len(exact.rows) == count and not exact.is_truncated
    cut = await find(eastvale, matches_max=count - 1)
    assert len(cut.rows) == count - 1 and cut.is_truncated


async def test_an_archive_that_cuts_but_cannot_page_is_truncated(eastvale: SimulatedPacs) -> None:
    eastvale.behave(rows_max=2)
    answer = await find(eastvale, ANNES_STUDIES, Quirk.NO_PAGING)
    assert len(answer.rows) == 2 and answer.is_truncated


async def test_an_archive_that_gives_the_first_page_again_and_again_is_truncated() -> None:
    page = b",".join(b'{"0020000D":{"vr":"UI","Value":["1.2.%d"]}}' % number for number in range(PAGE_ROWS_MAX))
    async with answering(http(body=b"[" + page + b"]")) as url:
        answer = await find(url)
    assert len(answer.rows) == PAGE_ROWS_MAX and answer.is_truncated


async def test_an_archive_whose_rows_just_fill_a_page_is_not_truncated() -> None:
    page = b",".join(b'{"0020000D":{"vr":"UI","Value":["1.2.%d"]}}' % number for number in range(PAGE_ROWS_MAX))
    async with answering(http(body=b"[" + page + b"]"), http(body=b"[]")) as url:
        answer = await find(url)
    assert len(answer.rows) == PAGE_ROWS_MAX and not answer.is_truncated


async def test_a_gap_on_any_page_is_a_gap_of_the_answer() -> None:
    rows = [b'[{"0020000D":{"vr":"UI","Value":["1.2.%d"]}}]' % number for number in range(2)]
    warnings = b"Warning: 299 a: There are 1 additional results\r\nWarning: 299 a: RJ1 is missing\r\n"
    async with answering(http(body=rows[0], extra=warnings), http(body=rows[1])) as url:
        answer = await find(url)
    assert len(answer.rows) == 2 and answer.is_truncated


async def test_an_archive_that_repeats_itself_is_asked_no_longer_than_it_has_news(eastvale: SimulatedPacs) -> None:
    eastvale.behave(lies=["duplicates"])
    answer = await find(eastvale)
    assert len(answer.rows) == len(values(answer, STUDY_UID)) == 3


async def test_undeclared_latin_1_is_read_by_the_profiles_charset_or_not_believed(eastvale: SimulatedPacs) -> None:
    eastvale.behave(charset="latin-1-undeclared")
    everyone = Query(Level.STUDY, (Key((PATIENT_NAME,), "PN", ("Ó*",)),))
    answer = await find(eastvale, everyone, charset="ISO_IR 100")
    assert any("Ó" in str(row[PATIENT_NAME]).upper() for row in answer.rows)
    with pytest.raises(PeerProtocolError):
        await find(eastvale, everyone)


async def test_another_gateway_is_a_peer_and_its_missing_trusts_are_gaps_of_its_answer() -> None:
    async with serving(Shelf([study(1, t00100020=element("LO", ANNE.nhs_number))])) as url:
        whole = await find(url)
    assert len(whole.rows) == 1 and not whole.is_truncated

    missing = [source(), source(SourceState.TIMED_OUT, code="RYJ")]
    async with serving(Shelf([study(1, t00100020=element("LO", ANNE.nhs_number))], sources=missing)) as url:
        partial = await find(url)
    assert len(partial.rows) == 1 and partial.is_truncated


async def test_a_proxy_named_in_the_environment_is_not_used(
    eastvale: SimulatedPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await find(eastvale)).rows


async def test_closing_twice_is_closing_once_and_a_closed_connector_asks_nobody(eastvale: SimulatedPacs) -> None:
    async with peer(f"http://127.0.0.1:{eastvale.port('web')}/dicom-web") as connector:
        assert connector.trust == EASTVALE
        await connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10))
        await connector.close()
        await connector.close()
        with pytest.raises(PeerUnavailable):
            await connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10))


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(
    made: MadeTrust, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimulatedPacs]:
    folder = tmp_path_factory.mktemp("certificates")
    issued = authority.issue_cert("127.0.0.1")
    _write(folder / "chain.pem", *(pem.bytes() for pem in issued.cert_chain_pems))
    _write(folder / "key.pem", issued.private_key_pem.bytes())
    _write(folder / "ca.pem", authority.cert_pem.bytes())
    flags = ("--tls-certificate", "chain.pem", "--tls-key", "key.pem", "--tls-client-ca", "ca.pem")
    with running_pacs(made.folder, *(str(folder / flag) if flag.endswith("pem") else flag for flag in flags)) as pacs:
        yield pacs


def _write(path: Path, *parts: bytes) -> None:
    path.write_bytes(b"".join(parts))


def client(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    if names:
        authority.issue_cert(*names).configure_cert(context)
    return context


async def find_securely(at: SimulatedPacs, context: ssl.SSLContext | None) -> PeerAnswer:
    async with peer(f"https://127.0.0.1:{at.port('web')}/dicom-web", secure=context) as connector, asyncio.timeout(30):
        return await connector.find(PeerRequest(ANNES_STUDIES, "r", 0, 10))


async def test_an_archive_is_asked_with_our_certificate(secured: SimulatedPacs, authority: trustme.CA) -> None:
    assert len((await find_securely(secured, client(authority, "gateway.example"))).rows) == 3


@pytest.mark.parametrize("kind", ["no certificate", "another authority", "system roots"])
async def test_an_archive_that_does_not_know_us_or_that_we_do_not_know_is_not_asked(
    secured: SimulatedPacs, authority: trustme.CA, kind: str
) -> None:
    contexts = {
        "no certificate": client(authority),
        "another authority": client(trustme.CA(), "gateway.example"),
        "system roots": None,
    }
    with pytest.raises(PeerUnavailable):
        await find_securely(secured, contexts[kind])
