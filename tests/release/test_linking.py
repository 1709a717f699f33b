"""Which study a report is of: named, found by number, trust and patient together, or said by a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import orjson
import pytest

from gateway.model.errors import InvalidRequest, StoreUnavailable
from gateway.model.imaging import JsonValue
from gateway.model.reporting.incoming import Exam, Practitioner, Subject
from gateway.model.reporting.seams import MessageState
from gateway.model.work.transfers import CachedInstance, Described
from gateway.release.linking import DISAGREES, Images, Link, Linking, linked_by_person, unlinked_by_person
from policy.parties import TrustId
from storage.cache.cache import SealedCache
from storage.clinical import finding
from storage.registers.state import Author
from storage.release import links, listing
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import FEED, NORTH, OMAR, VERIFIED_AT, incoming, message
from tests.release.rig import Rig
from tests.storage import cache_rig
from tests.storage.keyrings import Place

OFFICER = Author("J Doe", "request-1", "the order was on paper")
SOUTH = TrustId("RZ2")


@dataclass
class Desk:
    """Reports and images beside each other."""

    rig: Rig
    cache: SealedCache
    linking: Linking

    async def arrives(self, study_uid: str, patient_row: str, accession: str, **otherwise: object) -> None:
        """An image of a study is kept."""
        trust = otherwise.pop("trust", NORTH)
        head = cache_rig.head(study_uid, f"{study_uid}.1.1", patient_row=patient_row, source=trust, custodian=trust)
        said: dict[str, JsonValue] = {
            "0020000D": {"vr": "UI", "Value": [study_uid]},
            "00080050": {"vr": "SH", "Value": [accession]},
            "00081030": {"vr": "LO", "Value": ["XR Hand Lt"]},
            "00080060": {"vr": "CS", "Value": ["DX"]},
            "00321033": {"vr": "LO", "Value": ["Hand clinic"]},
            **otherwise,  # type: ignore[dict-item]  # by tag
        }
        described = Described(has_pixels=True, metadata=orjson.dumps(said))
        await cache_rig.put(self.cache, head, b"pixels", described=described)

    async def filed(self, **otherwise: object) -> str:
        """A report that came."""
        name = str(otherwise.get("report_number", "R-1")) + str(otherwise.get("stated_at", ""))
        return (await self.rig.intake.take(message(incoming(**otherwise), name=name))).report_ids[0]

    async def studies(self, report_id: str) -> tuple[str, ...]:
        """The studies that it is linked to."""
        return await self.rig.store.read(lambda read: links.studies_of(read, report_id))

    async def row(self, report_id: str) -> str:
        """The patient's row."""
        return (await self.rig.kept(report_id)).patient_id or ""


@pytest.fixture
async def desk(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        Place(tmp_path / "keys", clock).keyring() as keys,
        cache_rig.opened_on(store, tmp_path / "cache", clock) as images,
    ):
        yield Desk(Rig(store, keys), images.cache, Linking(store, images.cache, lambda trust: trust.code))


async def test_a_report_that_names_its_study_is_linked_at_once(desk: Desk) -> None:
    report_id = await desk.filed(study_uids=("1.2.3",))
    assert await desk.studies(report_id) == ("1.2.3",)
    assert (await desk.rig.kept(report_id)).is_linked


async def test_a_study_that_comes_after_its_report_is_found_by_number_trust_and_patient(desk: Desk) -> None:
    report_id = await desk.filed()
    assert not (await desk.rig.kept(report_id)).is_linked
    assert await desk.linking.look() == 0
    await desk.arrives("1.2.3", await desk.row(report_id), "A-1")
    assert await desk.linking.look() == 1
    assert await desk.studies(report_id) == ("1.2.3",)
    assert (await desk.rig.events())[-1] == "release-change"
    assert await desk.linking.look() == 0


@pytest.mark.parametrize(
    "otherwise",
    [
        pytest.param({"trust": SOUTH}, id="another trust's number"),
        pytest.param({"00080051": {"vr": "SQ", "Value": [{"00400031": {"vr": "UT", "Value": ["RZ2"]}}]}}, id="issuer"),
        pytest.param({"00080050": {"vr": "SH", "Value": ["A-2"]}}, id="another number"),
    ],
)
async def test_a_number_without_its_issuer_links_nothing(desk: Desk, otherwise: dict[str, object]) -> None:
    report_id = await desk.filed()
    await desk.arrives("1.2.3", await desk.row(report_id), "A-1", **otherwise)
    assert await desk.linking.look() == 0
    assert await desk.studies(report_id) == ()


async def test_no_study_of_another_patient_is_linked(desk: Desk) -> None:
    report_id = await desk.filed()
    others = await desk.filed(subject=OMAR, report_number="R-2", accessions=())
    await desk.arrives("1.2.3", await desk.row(others), "A-1")
    assert await desk.linking.look() == 0
    assert await desk.studies(report_id) == ()


async def test_two_studies_of_one_number_are_left_to_a_person(desk: Desk) -> None:
    report_id = await desk.filed()
    row = await desk.row(report_id)
    await desk.arrives("1.2.3", row, "A-1")
    await desk.arrives("1.2.4", row, "A-1")
    assert await desk.linking.look() == 0
    assert await desk.studies(report_id) == ()
    counted = await desk.rig.store.read(listing.counts)
    assert (counted.unlinked, counted.unmatched) == (1, 0)


async def test_another_report_of_patient_and_trust_tells_the_study_of_a_number(desk: Desk) -> None:
    report_id = await desk.filed()
    await desk.filed(report_number="R-2", study_uids=("1.2.3",))
    assert await desk.linking.look() == 1
    assert await desk.studies(report_id) == ("1.2.3",)


async def test_a_person_links_by_name_and_reason_and_goes_before_what_a_message_named(desk: Desk) -> None:
    report_id = await desk.filed(study_uids=("1.2.3",))
    write = desk.rig.store.write
    assert await write(lambda tx: links.link_by_person(tx, report_id, "1.2.9", OFFICER))
    assert not await write(lambda tx: links.link_by_person(tx, report_id, "1.2.9", OFFICER))
    assert await desk.studies(report_id) == ("1.2.9", "1.2.3")
    for author in (Author("", "r", "why"), Author("who", "r", " ")):
        with pytest.raises(InvalidRequest, match="reason"):
            await write(lambda tx, author=author: links.link_by_person(tx, report_id, "1.2.8", author))  # type: ignore[misc]  # bound now
    with pytest.raises(InvalidRequest, match="no such report"):
        await write(lambda tx: links.link_by_person(tx, "unknown", "1.2.9", OFFICER))


async def by_person(desk: Desk, report_id: str, study_uid: str, *, is_of_another_trust: bool = False) -> bool:
    """A person says of which study a report is."""
    await desk.cache.studies_of("")  # what was taken in is indexed
    images, link = Images("north", cache_rig.STAND_INS.of_row), Link(report_id, study_uid)
    return await desk.rig.store.write(
        lambda tx: linked_by_person(tx, link, OFFICER, images, is_of_another_trust=is_of_another_trust)
    )


async def test_no_person_links_a_report_to_a_study_of_another_patient(desk: Desk) -> None:
    report_id = await desk.filed(accessions=())
    others = await desk.filed(subject=OMAR, report_number="R-2", accessions=(), study_uids=("1.2.4",))
    await desk.arrives("1.2.3", await desk.row(others), "A-1")
    for study_uid in ("1.2.3", "1.2.4"):
        for is_of_another_trust in (False, True):
            with pytest.raises(InvalidRequest, match="does not agree") as refused:
                await by_person(desk, report_id, study_uid, is_of_another_trust=is_of_another_trust)
            assert str(refused.value) == DISAGREES
    assert await desk.studies(report_id) == ()
    assert await by_person(desk, report_id, "1.2.5"), "of which nothing is known here"


async def test_a_study_of_another_trust_is_linked_by_whoever_says_that_it_is_one(desk: Desk) -> None:
    report_id = await desk.filed(accessions=())
    await desk.arrives("1.2.3", await desk.row(report_id), "A-1", trust=SOUTH)
    with pytest.raises(InvalidRequest, match="does not agree"):
        await by_person(desk, report_id, "1.2.3")
    assert await by_person(desk, report_id, "1.2.3", is_of_another_trust=True)
    own = await desk.filed(report_number="R-2", accessions=())
    await desk.arrives("1.2.4", await desk.row(own), "A-2")
    assert await by_person(desk, own, "1.2.4")


async def test_a_report_of_nobody_is_linked_to_no_study_of_somebody(desk: Desk) -> None:
    nobodys = await desk.filed(subject=Subject(), accessions=())
    hers = await desk.filed(report_number="R-2", accessions=())
    await desk.arrives("1.2.3", await desk.row(hers), "A-1")
    with pytest.raises(InvalidRequest, match="does not agree"):
        await by_person(desk, nobodys, "1.2.3")
    with pytest.raises(InvalidRequest, match="no study of an archive"):
        await by_person(desk, nobodys, finding.own_study_uid(hers))


async def test_a_study_that_a_person_takes_from_a_report_is_brought_back_by_no_message_and_no_number(
    desk: Desk,
) -> None:
    report_id = await desk.filed(study_uids=("1.2.3",))
    await desk.arrives("1.2.3", await desk.row(report_id), "A-1")
    exam, team = await desk.linking.exam_of(report_id, incoming())
    assert (exam.name, team) == ("XR Hand Lt", "Hand clinic")
    unlink = partial(unlinked_by_person, link=Link(report_id, "1.2.3"), author=OFFICER)
    assert await desk.rig.store.write(unlink)
    assert not await desk.rig.store.write(unlink)
    kept = await desk.rig.kept(report_id)
    assert (await desk.studies(report_id), kept.is_linked, kept.study_uid) == ((), False, None)
    assert await desk.linking.exam_of(report_id, incoming()) == (incoming().exam, incoming().referrer.team)
    await desk.filed(study_uids=("1.2.3",), stated_at=VERIFIED_AT + timedelta(hours=1))
    await desk.filed(study_uids=("1.2.3",), report_number="R-2")
    assert await desk.linking.look() == 0
    assert await desk.studies(report_id) == ()
    assert await by_person(desk, report_id, "1.2.3")
    assert await desk.studies(report_id) == ("1.2.3",)


async def test_a_number_finds_another_study_than_the_one_that_was_taken_away(desk: Desk) -> None:
    report_id = await desk.filed()
    row = await desk.row(report_id)
    await desk.arrives("1.2.3", row, "A-1")
    assert await desk.linking.look() == 1
    await desk.rig.store.write(partial(unlinked_by_person, link=Link(report_id, "1.2.3"), author=OFFICER))
    await desk.arrives("1.2.4", row, "A-1")
    assert await desk.linking.look() == 1
    assert await desk.studies(report_id) == ("1.2.4",)


async def test_the_examination_is_named_as_its_images_name_it(desk: Desk) -> None:
    said = incoming(study_uids=("1.2.3",), exam=Exam(("XHAND",), "hand", at=VERIFIED_AT), accessions=())
    report_id = (await desk.rig.intake.take(message(said))).report_ids[0]
    assert await desk.linking.exam_of(report_id, said) == (said.exam, "Orthopaedics")
    await desk.arrives("1.2.3", await desk.row(report_id), "A-1")
    exam, team = await desk.linking.exam_of(report_id, said)
    assert exam == Exam(("XHAND",), "XR Hand Lt", "DX", "", VERIFIED_AT)
    assert team == "Hand clinic"


async def test_nothing_is_told_of_a_study_of_another_patient(desk: Desk) -> None:
    said = incoming(study_uids=("1.2.3",), exam=Exam(("XHAND",), "hand", at=VERIFIED_AT), accessions=())
    report_id = (await desk.rig.intake.take(message(said))).report_ids[0]
    others = await desk.filed(subject=OMAR, report_number="R-2", accessions=())
    await desk.arrives("1.2.3", await desk.row(others), "A-1")
    assert await desk.linking.exam_of(report_id, said) == (said.exam, "Orthopaedics")


async def test_a_cache_that_is_away_delays_nothing(desk: Desk) -> None:
    class Away:
        async def studies_of(self, patient_row: str) -> list[str]:
            raise StoreUnavailable("away")

        async def instances(self, study_uid: str) -> list[CachedInstance]:
            raise StoreUnavailable("away")

        async def metadata(self, instances: object) -> list[bytes]:
            raise StoreUnavailable("away")

    said = incoming(study_uids=("1.2.3",), referrer=Practitioner(team="Hands"))
    report_id = (await desk.rig.intake.take(message(said))).report_ids[0]
    linking = Linking(desk.rig.store, Away(), lambda trust: trust.code)
    assert await linking.look() == 0
    assert await linking.exam_of(report_id, said) == (said.exam, "Hands")


async def test_governance_sees_what_came_and_what_leads_nowhere(desk: Desk) -> None:
    linked = await desk.filed(report_number="R-1", study_uids=("1.2.3",))
    nobodys = await desk.filed(report_number="R-2", study_uids=("1.2.4",), subject=Subject())
    waiting = await desk.filed(report_number="R-3")
    nowhere = await desk.filed(report_number="R-4", accessions=())
    read = desk.rig.store.read
    assert {each.report_id for each in await read(listing.unmatched)} == {nobodys, nowhere}
    assert {each.report_id for each in await read(listing.in_states)} == {linked, nobodys, waiting, nowhere}
    counted = await read(listing.counts)
    assert (counted.unlinked, counted.unmatched, counted.dead_letters) == (2, 2, 0)
    assert await read(lambda one: listing.unmatched(one, SOUTH)) == []
    at = incoming().received_at
    days = [at + timedelta(days=count) for count in range(3)]
    assert await read(lambda one: listing.brought(one, NORTH, FEED, *days[:2])) == {MessageState.FILED: 4}
    assert await read(lambda one: listing.brought(one, NORTH, FEED, *days[1:])) == {}
    assert await read(lambda one: listing.brought(one, SOUTH, FEED, *days[:2])) == {}


async def test_a_report_that_names_its_order_later_is_no_more_unmatched(desk: Desk) -> None:
    report_id = await desk.filed(accessions=())
    assert [each.report_id for each in await desk.rig.store.read(listing.unmatched)] == [report_id]
    await desk.filed(stated_at=VERIFIED_AT + timedelta(hours=1))
    assert await desk.rig.store.read(listing.unmatched) == []
    assert (await desk.rig.kept(report_id)).accession == "A-1"
