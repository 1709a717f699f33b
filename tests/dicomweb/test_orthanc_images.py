"""A real foreign archive's images: Orthanc's, fetched by our connector, bit for bit what lies on its disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from dicomweb.wado.file_meta import read_file_meta
from gateway.demo.images import MadeStudy, MadeTrust
from gateway.model.errors import PeerRefused
from gateway.model.work.transfers import InstanceRef
from tests.dicomweb.asking import peer
from tests.dicomweb.taking import MemoryIntake, wanting
from tests.peers.orthanc import Orthanc, running_orthanc

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def orthanc(made: MadeTrust, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    files = [path for study in made.studies for series in study.series for path in series.files]
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        assert archive.store(files) == len(files)
        yield archive


def digests_of(study: MadeStudy) -> dict[str, str]:
    pairs = (zip(one.sop_instance_uids, one.files, strict=True) for one in study.series)
    return {uid: digest_of(path) for uid, path in chain.from_iterable(pairs)}


def digest_of(path: Path) -> str:
    content = path.read_bytes()
    meta = read_file_meta(content)
    assert meta is not None
    return hashlib.blake2b(content[meta.data_set_at :]).hexdigest()


async def test_every_study_arrives_in_the_transfer_syntax_that_it_is_kept_in(orthanc: Orthanc, made: MadeTrust) -> None:
    async with peer(orthanc.url) as connector:
        for study in made.studies:
            into = MemoryIntake()
            await connector.fetch(wanting(study.study_instance_uid), into)
            assert {one.sop_uid: one.digest.hexdigest() for one in into.kept} == digests_of(study)


async def test_single_instances_arrive_alone(orthanc: Orthanc, made: MadeTrust) -> None:
    study = max(made.studies, key=lambda each: len(each.series[0].files))
    series = study.series[0]
    uid = series.sop_instance_uids[1]
    into = MemoryIntake()
    async with peer(orthanc.url) as connector:
        ref = InstanceRef(study.study_instance_uid, series.series_instance_uid, uid, "")
        await connector.fetch(wanting(study.study_instance_uid, ref), into)
    assert [one.digest.hexdigest() for one in into.kept] == [digests_of(study)[uid]]


async def test_a_study_that_it_does_not_have_is_refused(orthanc: Orthanc) -> None:
    into = MemoryIntake()
    async with peer(orthanc.url) as connector:
        with pytest.raises(PeerRefused):
            await connector.fetch(wanting("1.2.3.4.5.6"), into)
    assert into.begun == []
