"""The demo's viewer and workstation fetch images: of a simulated archive, as they will of a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.callers.answer import Outcome
from gateway.demo.callers.received import Image, stored_image
from gateway.demo.callers.viewer import Viewer
from gateway.demo.callers.workstation import Workstation
from gateway.demo.cast import ANNE_HEAD_CT, EASTVALE
from gateway.demo.certificates import Authority, KeyPair
from gateway.demo.images import MadeStudy, make_trust
from gateway.demo.ports import free_port
from tests.gateway.simulated_pacs import SimulatedPacs, running_pacs

ARCHIVE, VIEWER = "EASTVALE_PACS", "NORTHMOOR_VIEW"


@dataclass(frozen=True, slots=True)
class Rig:
    """An archive behind TLS, and somebody who may ask it."""

    pacs: SimulatedPacs
    authority: Path
    pair: KeyPair
    study: MadeStudy

    @property
    def viewer(self) -> Viewer:
        return Viewer(f"https://localhost:{self.pacs.port('web')}", self.authority, self.pair)

    @property
    def workstation(self) -> Workstation:
        return Workstation(self.pacs.port("dimse"), ARCHIVE, VIEWER, self.authority, self.pair)

    @property
    def stored(self) -> dict[str, Image]:
        pairs = [pair for one in self.study.series for pair in zip(one.sop_instance_uids, one.files, strict=True)]
        return {uid: stored_image(path) for uid, path in pairs}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("rig")
    authority = Authority(folder / "certificates")
    archive, pair = authority.issue("archive"), authority.issue("viewer")
    made = make_trust(EASTVALE, folder / "images")
    study = next(each for each in made.studies if each.plan is ANNE_HEAD_CT)
    flags = ("--tls-certificate", str(archive.certificate), "--tls-key", str(archive.private_key), "--dimse-tls")
    with running_pacs(
        made.folder, "--ae-title", ARCHIVE, *flags, "--tls-client-ca", str(authority.certificate)
    ) as pacs:
        yield Rig(pacs, authority.certificate, pair, study)


@pytest.fixture(autouse=True)
def honest(rig: Rig) -> None:
    rig.pacs.reset()


async def test_a_viewer_fetches_a_study_as_it_is_kept(rig: Rig) -> None:
    async with rig.viewer as viewer:
        received = await viewer.retrieve(f"studies/{rig.study.study_instance_uid}")
        assert received.images == rig.stored and received.is_whole and received.outcome is Outcome.ANSWERED
        nothing = await viewer.search("studies", StudyInstanceUID="1.2.3")
        assert not nothing.rows


async def test_a_viewer_sees_that_an_answer_was_cut(rig: Rig) -> None:
    rig.pacs.behave(lies=["cut-image"])
    async with rig.viewer as viewer:
        received = await viewer.retrieve(f"studies/{rig.study.study_instance_uid}")
    assert not received.is_whole and received.images.items() < rig.stored.items()


async def test_a_workstation_gets_a_study_as_it_is_kept(rig: Rig) -> None:
    async with rig.workstation as workstation:
        received = await workstation.get(StudyInstanceUID=rig.study.study_instance_uid)
        nothing = await workstation.get(StudyInstanceUID="1.2.3")
    assert {uid: image.encoded for uid, image in received.images.items()} == _encoded(rig.stored)
    assert {image.transfer_syntax for image in received.images.values()} == _syntaxes(rig.stored)
    assert received.is_whole and received.counters.completed == len(rig.stored) and received.failed_uids == ()
    assert nothing.is_whole and nothing.images == {} and nothing.counters.completed == 0


async def test_a_workstation_has_images_sent_to_itself_and_says_so_when_it_refuses_some(rig: Rig) -> None:
    port = free_port()
    assert rig.pacs.control("PUT", "destinations", {VIEWER: f"localhost:{port}"}).status == 204
    async with rig.workstation as workstation:
        with workstation.receiving(port) as shelf:
            received = await workstation.move(VIEWER, shelf, StudyInstanceUID=rig.study.study_instance_uid)
        assert {uid: image.encoded for uid, image in received.images.items()} == _encoded(rig.stored)
        assert received.is_whole and shelf.originators == {VIEWER}
        refused = sorted(rig.stored)[0]
        with workstation.receiving(port) as shelf:
            shelf.refuses = lambda uid: 0xA700 if uid == refused else 0x0000
            received = await workstation.move(VIEWER, shelf, StudyInstanceUID=rig.study.study_instance_uid)
        unknown = await workstation.move("STRANGER", shelf, StudyInstanceUID=rig.study.study_instance_uid)
    assert received.failed_uids == (refused,) and received.counters.failed == 1 and not received.is_whole
    assert len(received.images) == len(rig.stored) - 1
    assert unknown.status == 0xA801 and unknown.outcome is Outcome.INVALID


def _encoded(images: dict[str, Image]) -> dict[str, bytes]:
    return {uid: image.encoded for uid, image in images.items()}


def _syntaxes(images: dict[str, Image]) -> set[str]:
    return {image.transfer_syntax for image in images.values()}
