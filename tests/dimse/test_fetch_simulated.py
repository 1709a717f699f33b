"""Fetching from the simulated PACS, which speaks through pynetdicom: plain and over TLS, honest and otherwise."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from dimse.connector import FetchBy
from gateway.demo.cast import EASTVALE
from gateway.demo.images import make_trust
from gateway.model.errors import PeerError, PeerTimeout
from tests.dimse.fetching import LIMITS, Archive, all_of, fetched, peer, wanting
from tests.dimse.intakes import MemoryIntake
from tests.dimse.items import MemoryItem, item_of
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs

pytestmark = pytest.mark.peer

TITLE = "EASTVALE_PACS"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[MemoryItem]]:
    """A trust's folder, and the images of its largest study."""
    trust = make_trust(EASTVALE, tmp_path_factory.mktemp("region"))
    studies = [[item_of(path) for series in study.series for path in series.files] for study in trust.studies]
    return trust.folder, max(studies, key=len)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=["plain", "over TLS"])
def simulated(
    request: pytest.FixtureRequest,
    made: tuple[Path, list[MemoryItem]],
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SimulatedPacs, Archive]]:
    folder, items = made
    flags, secure = ["--ae-title", TITLE], None
    if request.param == "over TLS":
        files = tmp_path_factory.mktemp("certificates")
        issued = authority.issue_cert("127.0.0.1")
        (files / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        (files / "key.pem").write_bytes(issued.private_key_pem.bytes())
        (files / "ca.pem").write_bytes(authority.cert_pem.bytes())
        flags += ["--dimse-tls", "--tls-certificate", str(files / "chain.pem"), "--tls-key", str(files / "key.pem")]
        flags += ["--tls-client-ca", str(files / "ca.pem")]
        secure = ssl.create_default_context()
        authority.configure_trust(secure)
        authority.issue_cert("gateway.example").configure_cert(secure)
    with running_pacs(folder, *flags) as pacs:
        yield pacs, Archive(pacs.port("dimse"), TITLE, items, secure)


@pytest.fixture
def pacs(simulated: tuple[SimulatedPacs, Archive]) -> SimulatedPacs:
    simulated[0].reset()
    return simulated[0]


@pytest.fixture
def archive(simulated: tuple[SimulatedPacs, Archive]) -> Archive:
    return simulated[1]


async def test_images_arrive_as_they_are_stored(pacs: SimulatedPacs, archive: Archive) -> None:
    for request in (wanting(*(item.ref for item in archive.items)), all_of(archive.items[0].ref.study_uid)):
        intake = MemoryIntake()
        async with peer(archive, FetchBy.GET) as connector:
            await fetched(connector, request, intake)
        assert {uid: kept.content for uid, kept in intake.kept.items()} == {
            item.ref.sop_uid: item.content for item in archive.items
        }


@pytest.mark.parametrize("lie", ["fewer-images", "extra-image", "damaged-images"])
async def test_what_an_archive_leaves_out_adds_or_damages_is_for_the_intake_to_see(
    pacs: SimulatedPacs, archive: Archive, lie: str
) -> None:
    wanted = {item.ref.sop_uid for item in archive.items}
    intake = MemoryIntake(wanted=wanted)
    pacs.behave(lies=[lie])
    async with peer(archive, FetchBy.GET) as connector:
        await fetched(connector, wanting(*(item.ref for item in archive.items)), intake)
    match lie:
        case "fewer-images":
            assert intake.kept.keys() < wanted
        case "extra-image":
            # It is of another class, and was not even offered.
            assert intake.kept.keys() == wanted
        case _:
            assert any(intake.kept[item.ref.sop_uid].content != item.content for item in archive.items)


async def test_a_transfer_that_breaks_off_keeps_what_came_whole(pacs: SimulatedPacs, archive: Archive) -> None:
    intake, by_uid = MemoryIntake(), {item.ref.sop_uid: item.content for item in archive.items}
    pacs.behave(lies=["cut-image"])
    async with peer(archive, FetchBy.GET) as connector:
        with pytest.raises(PeerError):
            await fetched(connector, all_of(archive.items[0].ref.study_uid), intake)
    assert 0 < len(intake.kept) < len(by_uid)
    assert all(kept.content == by_uid[uid] for uid, kept in intake.kept.items())


async def test_a_transfer_that_stalls_is_given_up(pacs: SimulatedPacs, archive: Archive) -> None:
    intake = MemoryIntake()
    pacs.behave(lies=["stalled-image"])
    limits = replace(LIMITS, retrieve_idle_timeout_s=1.0, cancel_timeout_s=0.1)
    async with peer(archive, FetchBy.GET, limits=limits) as connector:
        with pytest.raises(PeerTimeout):
            await fetched(connector, all_of(archive.items[0].ref.study_uid), intake)
        pacs.reset()
        again = MemoryIntake()
        await fetched(connector, all_of(archive.items[0].ref.study_uid), again)
    assert len(intake.kept) < len(again.kept) == len(archive.items)
