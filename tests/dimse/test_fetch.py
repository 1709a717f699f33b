"""Fetching images from real archives, DCMTK's and Orthanc, by C-GET and by C-MOVE: to the byte, as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dimse.connector import FetchBy, Quirk
from dimse.scu.contexts import COMMON
from gateway.demo.ports import free_port
from gateway.model.errors import PeerRefused, PeerUnavailable
from tests.dimse.fetching import (
    GATEWAY,
    LIMITS,
    Archive,
    ImageDoor,
    all_of,
    fetched,
    image_door,
    peer,
    uids,
    wanting,
)
from tests.dimse.intakes import MemoryIntake
from tests.dimse.items import MemoryItem, as_dcmtk_writes, item_of, real_files
from tests.peers import dcmqrscp, orthanc
from tests.peers.dcmqrscp import running_dcmqrscp
from tests.peers.orthanc import running_orthanc

pytestmark = pytest.mark.peer

EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
BY_EVERY_WAY = pytest.mark.parametrize("by", list(FetchBy))
KINDS = pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])


@dataclass(frozen=True)
class Archives:
    """The archives by kind, and the port at which they expect us by C-MOVE."""

    by_kind: dict[str, Archive]
    door_port: int

    def __getitem__(self, kind: str) -> Archive:
        return self.by_kind[kind]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real images; twenty more of one series, that is a study of its own."""
    return as_dcmtk_writes(real_files(), tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def archives(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archives]:
    door_port = free_port()
    items = {path: item_of(path) for path in files}
    # DCMTK's archive takes and sends what is not compressed, unless it is told of one compressed syntax.
    plain = [path for path, item in items.items() if item.transfer_syntax == EXPLICIT]
    with (
        running_orthanc(tmp_path_factory.mktemp("orthanc"), {"us": [GATEWAY, "127.0.0.1", door_port]}) as foreign,
        running_dcmqrscp(tmp_path_factory.mktemp("dcmqrscp"), plain, moves_to={GATEWAY: door_port}) as port,
    ):
        assert foreign.store(files) == len(files)
        yield Archives(
            {
                "orthanc": Archive(foreign.dicom_port, orthanc.AE_TITLE, [*items.values()]),
                "dcmqrscp": Archive(port, dcmqrscp.AE_TITLE, [items[path] for path in plain]),
            },
            door_port,
        )


@pytest.fixture
async def door(archives: Archives) -> AsyncIterator[ImageDoor]:
    async with image_door(archives.door_port) as opened:
        yield opened


def assert_arrived(intake: MemoryIntake, items: list[MemoryItem]) -> None:
    """These, and nothing else, to the byte."""
    assert intake.kept.keys() == uids(items)
    for item in items:
        kept = intake.kept[item.ref.sop_uid]
        assert (kept.sop_class_uid, kept.transfer_syntax) == (item.ref.sop_class_uid, item.transfer_syntax)
        # A deflated data set of odd length is padded on its way (PS3.5 A.5).
        assert kept.content == item.content or kept.content == item.content + b"\0"


@KINDS
@BY_EVERY_WAY
async def test_every_instance_arrives_as_it_is_stored(
    archives: Archives, door: ImageDoor, kind: str, by: FetchBy
) -> None:
    archive, intake = archives[kind], MemoryIntake()
    async with peer(archive, by, awaiting=door.awaiting) as connector:
        for item in archive.items:
            await fetched(connector, wanting(item.ref), intake)
    assert_arrived(intake, [*archive.items])
    assert not door.pushed
    assert len({item.transfer_syntax for item in archive.items}) == (9 if kind == "orthanc" else 1)


@KINDS
@BY_EVERY_WAY
async def test_a_study_or_its_series_arrive_whole_without_naming_an_instance(
    archives: Archives, door: ImageDoor, kind: str, by: FetchBy
) -> None:
    archive = archives[kind]
    for study_uid in {item.ref.study_uid for item in archive.items if item.transfer_syntax == EXPLICIT}:
        of_study = archive.of_study(study_uid)
        if by is FetchBy.GET and not all(item.ref.sop_class_uid in COMMON for item in of_study):
            continue
        async with peer(archive, by, awaiting=door.awaiting) as connector:
            for request in (all_of(study_uid), all_of(study_uid, *{item.ref.series_uid for item in of_study})):
                intake = MemoryIntake()
                await fetched(connector, request, intake)
                # By C-GET there is no room for every transfer syntax of every class: some may be unpacked on their way.
                assert intake.kept.keys() == uids(of_study)
                if by is not FetchBy.GET:
                    assert_arrived(intake, of_study)


@KINDS
@BY_EVERY_WAY
@pytest.mark.parametrize(
    "quirks",
    [(Quirk.NO_UID_LISTS,), (Quirk.ONE_QUERY_PER_ASSOCIATION,), (Quirk.IMPLICIT_VR_ONLY, Quirk.NO_UID_LISTS)],
    ids=" ".join,
)
async def test_habits_of_archives_are_heeded(
    archives: Archives, door: ImageDoor, kind: str, by: FetchBy, quirks: tuple[Quirk, ...]
) -> None:
    archive, intake = archives[kind], MemoryIntake()
    of_class = [item for item in archive.items if item.transfer_syntax == EXPLICIT][:4]
    async with peer(archive, by, *quirks, awaiting=door.awaiting) as connector:
        await fetched(connector, wanting(*(item.ref for item in of_class)), intake)
    assert_arrived(intake, of_class)


@KINDS
@BY_EVERY_WAY
async def test_what_we_refuse_is_no_failure_of_the_archive(
    archives: Archives, door: ImageDoor, kind: str, by: FetchBy
) -> None:
    archive = archives[kind]
    intake = MemoryIntake(wanted=uids(archive.items[:1]))
    async with peer(archive, by, awaiting=door.awaiting) as connector:
        for item in archive.items[:3]:
            try:
                await fetched(connector, wanting(item.ref), intake)
            except PeerRefused:
                # Its C-MOVE ends at the first instance that is not taken, and says nothing of how many were left.
                assert (kind, by) == ("orthanc", FetchBy.MOVE)
    assert intake.kept.keys() == uids(archive.items[:1])
    assert len(intake.refused) == 2


@KINDS
async def test_an_archive_that_does_not_know_us_as_a_destination_says_so(archives: Archives, kind: str) -> None:
    async with image_door(0) as door:
        archive = replace(archives[kind], items=())
        # It knows the title and not this port; another title it does not know at all.
        async with peer(archive, FetchBy.MOVE, awaiting=door.awaiting) as connector:
            connector._fetching._profile = replace(connector._fetching._profile, calling_ae_title="SOMEBODY")
            with pytest.raises((PeerRefused, PeerUnavailable)):
                await fetched(connector, wanting(archives[kind].items[0].ref), MemoryIntake())


@KINDS
@BY_EVERY_WAY
async def test_what_the_archive_does_not_hold_does_not_come(
    archives: Archives, door: ImageDoor, kind: str, by: FetchBy
) -> None:
    intake, ref = MemoryIntake(), replace(archives[kind].items[0].ref, sop_uid="1.2.3.4")
    async with peer(archives[kind], by, awaiting=door.awaiting) as connector:
        try:
            await fetched(connector, wanting(ref), intake)
        except (PeerRefused, PeerUnavailable):
            assert kind == "orthanc"  # DCMTK's says that it sent all there was, which was nothing
    assert not intake.kept


async def test_without_a_door_c_move_is_not_asked_for(archives: Archives) -> None:
    async with peer(archives["orthanc"], FetchBy.MOVE) as connector:
        with pytest.raises(PeerRefused):
            await fetched(connector, wanting(archives["orthanc"].items[0].ref), MemoryIntake())


async def test_a_jpeg_archive_sends_jpeg(files: list[Path], tmp_path: Path) -> None:
    jpeg = [path for path in files if item_of(path).transfer_syntax == "1.2.840.10008.1.2.4.70"]
    port = free_port()
    with running_dcmqrscp(tmp_path, jpeg, "+xs", "-xs", moves_to={GATEWAY: port}) as archive_port:
        archive = Archive(archive_port, dcmqrscp.AE_TITLE, [item_of(path) for path in jpeg])
        async with image_door(port) as door:
            for by in (FetchBy.AUTO, FetchBy.MOVE):  # by C-GET it would have to unpack it, which it cannot
                intake = MemoryIntake()
                async with peer(archive, by, awaiting=door.awaiting) as connector:
                    await fetched(connector, wanting(archive.items[0].ref), intake)
                assert_arrived(intake, [*archive.items])
            async with peer(archive, FetchBy.GET, awaiting=door.awaiting) as connector:
                with pytest.raises(PeerUnavailable):
                    await fetched(connector, wanting(archive.items[0].ref), MemoryIntake())


@BY_EVERY_WAY
async def test_being_cancelled_ends_it_at_once_and_costs_the_next_fetch_nothing(
    archives: Archives, door: ImageDoor, by: FetchBy
) -> None:
    archive, intake = archives["orthanc"], MemoryIntake()
    limits = replace(LIMITS, retrieve_associations_max=1, retrieve_uids_max=1)
    several = [item.ref for item in archive.items]
    async with peer(archive, by, limits=limits, awaiting=door.awaiting) as connector:
        fetching = asyncio.create_task(connector.fetch(wanting(*several), intake))
        async with asyncio.timeout(30):
            await intake.first.wait()
            fetching.cancel()
            await asyncio.wait([fetching])
        assert fetching.cancelled()
        came = len(intake.kept)
        again = MemoryIntake()
        await fetched(connector, wanting(several[0]), again)
        assert again.kept.keys() == {several[0].sop_uid}
        assert len(intake.kept) == came
