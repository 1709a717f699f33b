"""Well-formed answers of an archive that are not true, or not whole: nothing of them is lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile
from gateway.model.imaging import (
    MODALITIES_IN_STUDY,
    Attributes,
    Key,
    Query,
)
from gateway.model.seams import PeerAnswer, PeerConnector, PeerRequest
from gateway.model.settings import Limits
from tests.attacks.hostile import answer, archive, of_rows, saying
from tests.attacks.house import House, found_by, states
from tests.sharing.rows import ANNE, BEN, RZ2, RZ3, asking_for, asking_for_study, row

PATIENTS_STUDIES = asking_for(ANNE)


def connector(url: str, limits: Limits | None = None) -> DicomwebPeer:
    return DicomwebPeer(DicomwebPeerProfile(RZ2, url), limits or Limits(), None)


async def asked(url: str, query: Query = PATIENTS_STUDIES, matches_max: int = 5_000) -> PeerAnswer:
    peer = connector(url)
    try:
        return await peer.find(PeerRequest(query, "request-1", 1, matches_max))
    finally:
        await peer.close()


async def test_two_rows_of_one_uid_are_both_kept_when_they_differ() -> None:
    """The second one may be another patient's: that is for the identity rules to find."""
    rows = [row("1.1"), row("1.1", BEN, name="BAKER^BEN"), row("1.1"), row("1.2")]
    async with archive(saying(of_rows(*rows))) as url:
        found = await asked(url)
    assert list(found.rows) == [rows[0], rows[1], rows[3]]


async def test_one_study_under_two_patients_at_one_archive_is_withheld_and_told(house: House) -> None:
    rows = [row("1.1"), row("1.1", BEN, name="BAKER^BEN"), row("1.2")]
    async with archive(saying(of_rows(*rows))) as url:
        connectors: Sequence[PeerConnector] = [connector(url), house.archives[RZ3]]
        house.build(connectors=connectors)
        matches = await house.find(asking_for_study("1.1", "1.2"))
        await house.peers.close()
    assert found_by(matches) == [("1.2", (RZ2,))]
    assert [source.has_identity_conflict for source in matches.sources] == [True, False]


async def test_thousands_of_different_rows_of_one_uid_are_read_one_by_one() -> None:
    rows = [row("1.1", name=f"SMITH^ANNE{n}") for n in range(3_000)]
    async with archive(saying(of_rows(*rows[:500]), of_rows(*rows[500:1_000]), of_rows())) as url:
        found = await asked(url)
    assert list(found.rows) == rows[:1_000]


async def test_a_list_of_modalities_is_not_left_to_archives_to_understand() -> None:
    """QIDO-RS knows lists of UIDs alone: an archive that takes `CT\\MR` for one modality finds nothing at all."""
    heads: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(of_rows(row("1.1", modalities="CT"), row("1.2", modalities="US")))

    async with archive(speak) as url:
        found = await asked(url, asking_for(ANNE, Key((MODALITIES_IN_STUDY,), "CS", ("CT", "MR"))))
        one = await asked(url, asking_for(ANNE, Key((MODALITIES_IN_STUDY,), "CS", ("CT",))))
    assert b"ModalitiesInStudy=" not in heads[0]
    assert b"ModalitiesInStudy=CT" in heads[1]
    assert len(found.rows) == len(one.rows) == 2


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content"])
async def test_nothing_found_with_something_missing_is_not_nothing(status: bytes, house: House) -> None:
    """A peer that is a gateway says in a warning that one of its trusts could not be asked; with 204 as with 200."""
    body = b"" if status.startswith(b"204") else b"[]"
    warning = b"Warning: 299 peer: Imaging may be missing: RJ9 Far Trust cannot be reached"
    async with archive(saying(answer(body, warning, status=status))) as url:
        assert (await asked(url)).is_truncated
        house.build(connectors=[connector(url), house.archives[RZ3]])
        matches = await house.find(asking_for(ANNE))
        await house.peers.close()
    assert states(matches) == {RZ2: "truncated", RZ3: "answered"}


async def test_a_list_of_nhs_numbers_in_one_patient_id_identifies_nobody(house: House) -> None:
    """Patient ID has one value (PS3.3 C.2.2): the first of several is no better than the others."""
    both: Attributes = {**row("1.1"), "00100020": {"vr": "LO", "Value": [ANNE.digits, BEN.digits]}}
    twice: Attributes = {**row("1.2"), "00100020": {"vr": "LO", "Value": [ANNE.digits, ANNE.digits]}}
    house.archives[RZ2].rows = [both, twice]
    matches = await house.find(asking_for(ANNE))
    assert found_by(matches) == [("1.2", (RZ2,))]
    assert [source.has_identity_conflict for source in matches.sources] == [True, False]
