"""Reports taken in: one version for one statement, the right patient's, sealed, recorded, and never twice."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.model.errors import InvalidRequest, KeyClosed, ServiceFault
from gateway.model.reporting.incoming import Content, ReportSource, Subject
from gateway.model.reporting.seams import FeedMessage, MessageState, Taken
from gateway.model.work.transfers import KeyDomain
from gateway.release import intake
from gateway.release.intake import Intake
from gateway.release.letters import Letters
from gateway.release.naming import report_id_of, version_of
from policy.parties import PatientId, TrustId
from policy.release.reports import Said, Verification
from storage.database import Tx
from storage.engines import DatabaseSettings
from storage.registers import patients
from storage.registers.state import Author
from storage.release import messages, reports
from storage.store import SqlStore
from tests.clock import FakeClock
from tests.release.incoming import FEED, NORTH, OMAR, RECEIVED_AT, SARAH, TEXT, VERIFIED_AT, incoming, message
from tests.release.rig import Rig
from tests.storage.keyrings import Place

SHA_OF_NORMAL = hashlib.sha256(b"Normal.").hexdigest()
OFFICER = Author("J Doe", "request-1", "the profile was mended")


@pytest.fixture
async def rig(store: SqlStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Rig]:
    place = Place(tmp_path / "keys", clock)
    async with place.keyring() as keys:
        yield Rig(store, keys)


async def test_a_report_is_kept_with_everything_that_it_says(rig: Rig) -> None:
    said = incoming(
        content=Content(TEXT, b"%PDF-1.7 of it"),
        study_uids=("1.2.3",),
        alert_codes=("CRIT",),
        placer_numbers=("P-1",),
    )
    taken = await rig.intake.take(message(said, raw=b"MSH|as it came"))
    assert (taken.state, taken.is_new) == (MessageState.FILED, True)
    [version] = await rig.store.read(lambda read: reports.versions(read, taken.report_ids[0]))
    assert await rig.contents.open(version.version_id) == said
    assert (version.said, version.has_content, version.alerts) == (Said.VERIFIED, True, frozenset({"CRIT"}))
    assert version.verification is not None
    assert version.verification.at == VERIFIED_AT
    assert rig.planned == list(taken.report_ids)
    assert await rig.events() == ["register-change", "report-filed"]


async def test_no_short_text_can_be_tried_on_the_rows_alone(sqlite_url: str, clock: FakeClock, tmp_path: Path) -> None:
    said = incoming(content=Content("Normal."))
    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store:
        for name in ("keys", "other keys"):
            async with Place(tmp_path / name, clock).keyring() as keys:
                rig = Rig(store, keys)
                [report_id] = (await rig.intake.take(message(said, name=name))).report_ids
                await rig.intake.take(message(problem="no order", name=f"{name} 2", raw=b"Normal."))
                by_bytes = message(replace(said, report_number="R-2"), name=SHA_OF_NORMAL, raw=b"Normal.")
                assert [(await rig.intake.take(by_bytes)).is_new for _ in range(2)] == [True, False]
        held = await store.read(lambda read: reports.versions(read, report_id))
    of_rows = b"".join(path.read_bytes() for path in folder.iterdir())
    assert len({each.version_id for each in held}) == len({each.text_digest for each in held}) == 2
    tried = version_of(said, SARAH.key, b"")
    unkeyed = [said.content.digest, SHA_OF_NORMAL, tried.version_id, tried.text_digest]
    assert not [each for each in unkeyed if each.encode() in of_rows]


async def test_the_same_text_has_one_digest_whenever_it_comes(
    store: SqlStore, clock: FakeClock, tmp_path: Path
) -> None:
    for number in range(2):
        async with Place(tmp_path / "keys", clock).keyring() as keys:
            rig = Rig(store, keys)
            at = VERIFIED_AT + timedelta(hours=number)
            again = incoming(stated_at=at, verification=Verification(at, "Dr A Roentgen"))
            [report_id] = (await rig.intake.take(message(again, name=f"m-{number}"))).report_ids
    held = await store.read(lambda read: reports.versions(read, report_id))
    assert (len(held), len({each.text_digest for each in held})) == (2, 1)


async def test_nothing_that_a_person_can_read_lies_open(sqlite_url: str, clock: FakeClock, tmp_path: Path) -> None:
    place = Place(tmp_path / "keys", clock)
    async with SqlStore(DatabaseSettings(sqlite_url), node="north", clock=clock) as store, place.keyring() as keys:
        said = incoming(content=Content(TEXT, b"%PDF-1.7 of it"))
        await Rig(store, keys).intake.take(message(said, raw=b"MSH|as it came"))
        await Rig(store, keys).intake.take(message(problem="no order number", name="2", raw=b"MSH|unreadable"))
        folder = Path(sqlite_url.removeprefix("sqlite:///")).parent
        held = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"RIS|NORTH|1" in held
    read_by_people = ("lungs", "O'Shea", "Sarah", "Roentgen", "Referrer", "Orthopaedics", "as it came", "PDF-1.7")
    for secret in (*read_by_people, "unreadable"):
        assert secret.encode() not in held, secret


async def test_the_same_message_again_changes_nothing(rig: Rig) -> None:
    first = await rig.intake.take(message(incoming()))
    events = await rig.events()
    again = await rig.intake.take(message(incoming(received_at=RECEIVED_AT + timedelta(hours=1))))
    assert again == replace(first, is_new=False)
    assert await rig.events() == events
    assert len(rig.planned) == 1


async def test_the_same_statement_in_another_message_is_the_version_that_is_there(rig: Rig) -> None:
    first = await rig.intake.take(message(incoming()))
    other = incoming(source=ReportSource.DICOM_SR, feed="north-pacs")
    again = await rig.intake.take(message(other, name="another"))
    assert again.report_ids == first.report_ids
    assert await rig.texts(first.report_ids[0]) == [TEXT]
    assert len(rig.planned) == 1


async def test_a_name_used_again_for_another_message_is_a_dead_letter_and_overwrites_nothing(rig: Rig) -> None:
    first = await rig.intake.take(message(incoming()))
    other = await rig.intake.take(message(incoming(content=Content("Another text.")), raw=b"other"))
    assert (other.state, other.is_new) == (MessageState.DEAD, True)
    assert await rig.texts(first.report_ids[0]) == [TEXT]
    again = await rig.intake.take(message(incoming(content=Content("Another text.")), raw=b"other"))
    assert (again.state, again.is_new) == (MessageState.DEAD, False)
    assert len(await rig.letters(message()).waiting()) == 1
    assert (await rig.events())[-1] == "report-refused"


async def test_versions_end_up_the_same_in_whatever_order_they_come(rig: Rig) -> None:
    hour = timedelta(hours=1)
    said = [
        incoming(said=Said.PRELIMINARY, verification=None, stated_at=VERIFIED_AT - hour, content=Content("Draft.")),
        incoming(),
        incoming(said=Said.CORRECTED, stated_at=VERIFIED_AT + hour, content=Content("Left, not right."), subject=OMAR),
    ]
    shown = set()
    for number, order in enumerate(permutations(said)):
        of_its_own = [replace(each, report_number=f"R-{number}") for each in order]
        taken = [
            await rig.intake.take(message(each, name=f"{number}-{place}")) for place, each in enumerate(of_its_own)
        ]
        kept = await rig.kept(taken[0].report_ids[0])
        texts = await rig.texts(kept.report_id)
        shown.add((kept.patient_key, kept.birth_date, *texts))
    assert shown == {("nhs:9990000026", OMAR.birth_date, "Draft.", TEXT, "Left, not right.")}


async def test_a_message_of_two_orders_becomes_two_reports(rig: Rig) -> None:
    taken = await rig.intake.take(message(incoming(), incoming(report_number="R-2", accessions=("A-2",))))
    assert len(set(taken.report_ids)) == 2
    assert sorted(rig.planned) == sorted(taken.report_ids)


async def test_a_report_that_names_nobody_is_kept_without_a_patient(rig: Rig) -> None:
    taken = await rig.intake.take(message(incoming(subject=Subject(family_name="O'Shea"))))
    kept = await rig.kept(taken.report_ids[0])
    assert (kept.patient_id, kept.patient_key) == (None, "")
    assert await rig.texts(kept.report_id) == [TEXT]


async def test_a_local_number_counts_with_its_issuer_alone(rig: Rig) -> None:
    here = incoming(subject=Subject(local=(PatientId("RZ1", "7"),)))
    there = incoming(subject=Subject(local=(PatientId("RZ2", "7"),)), report_number="R-2")
    taken = await rig.intake.take(message(here, there))
    rows = {(await rig.kept(report_id)).patient_id for report_id in taken.report_ids}
    assert len(rows) == 2
    assert None not in rows


async def test_a_local_number_that_its_register_linked_is_the_same_identity_as_the_nhs_number(rig: Rig) -> None:
    assert SARAH.nhs_number is not None
    number, local = patients.nhs(SARAH.nhs_number), SARAH.local[0]

    def link(tx: Tx) -> None:
        row = patients.ensure(tx, number, OFFICER, source="RZ1")
        patients.add_identifier(tx, row, local, OFFICER, source="RZ1")

    await rig.store.write(link)
    await rig.intake.take(message(incoming(), name="by number"))
    later = incoming(subject=Subject(local=(local,)), stated_at=VERIFIED_AT + timedelta(hours=1))
    taken = await rig.intake.take(message(later, name="by local number"))
    found = await rig.store.read(lambda read: reports.versions(read, taken.report_ids[0]))
    assert {each.patient for each in found} == {"RZ1:0001234|nhs:9990000018"}


async def test_local_numbers_of_two_people_make_them_no_one_person(rig: Rig) -> None:
    one, other = PatientId("RZ1", "1"), PatientId("RZ1", "2")
    await rig.store.write(lambda tx: [patients.ensure(tx, each, OFFICER, source="RZ1") for each in (one, other)])
    taken = await rig.intake.take(message(incoming(subject=Subject(local=(one, other)))))
    kept = await rig.kept(taken.report_ids[0])
    assert kept.patient_id is None


async def test_no_number_is_linked_to_another_by_a_report(rig: Rig) -> None:
    await rig.intake.take(message(incoming()))
    assert await rig.store.read(lambda read: patients.find(read, SARAH.local[0])) is None


async def test_closed_keys_open_no_report_of_the_patient(rig: Rig) -> None:
    taken = await rig.intake.take(message(incoming()))
    kept = await rig.kept(taken.report_ids[0])
    assert kept.patient_id is not None
    await rig.keys.close_patient(kept.patient_id, KeyDomain.RELEASE)
    with pytest.raises(KeyClosed):
        await rig.texts(kept.report_id)


async def test_what_says_nothing_of_a_report_is_ignored_and_remembered(rig: Rig) -> None:
    taken = await rig.intake.take(message())
    assert (taken.state, taken.is_new) == (MessageState.IGNORED, True)
    assert not (await rig.intake.take(message())).is_new


async def test_what_cannot_be_read_waits_sealed_for_a_person_and_is_filed_by_its_replay(rig: Rig) -> None:
    broken = message(problem="no filler order number", raw=b"MSH|unreadable")
    taken = await rig.intake.take(broken)
    assert (taken.state, taken.is_new) == (MessageState.DEAD, True)
    letters = rig.letters(message(incoming(), raw=b"MSH|unreadable"))
    [letter] = await letters.waiting()
    assert await letters.show(letter.row_id, OFFICER) == b"MSH|unreadable"
    replayed = await letters.replay(letter.row_id, OFFICER)
    assert replayed.state is MessageState.REPLAYED
    assert await rig.texts(replayed.report_ids[0]) == [TEXT]
    assert await letters.waiting() == ()
    events = await rig.events()
    assert events == ["report-refused", "audit-read", "register-change", "report-filed"]
    with pytest.raises(InvalidRequest, match="replayed"):
        await letters.replay(letter.row_id, OFFICER)


async def test_a_dead_letter_that_comes_again_and_can_be_read_by_now_is_filed(rig: Rig) -> None:
    await rig.intake.take(message(problem="an unknown code", raw=b"MSH|1"))
    taken = await rig.intake.take(message(incoming(), raw=b"MSH|1"))
    assert taken.state is MessageState.REPLAYED
    assert await rig.letters(message()).waiting() == ()
    again = await rig.intake.take(message(incoming(), raw=b"MSH|1"))
    assert (again.state, again.is_new) == (MessageState.REPLAYED, False)


async def test_a_letter_that_came_by_a_clock_that_ran_ahead_counts_as_received_when_it_is_read(
    rig: Rig, clock: FakeClock
) -> None:
    def read(trust: TrustId, feed: str, raw: bytes, at: datetime) -> FeedMessage:
        return replace(message(incoming(received_at=at)), received_at=at)

    ahead = clock.now() + timedelta(days=40)
    await rig.intake.take(message(problem="an unknown code", name="dead", received_at=ahead))
    letters = Letters(rig.store, rig.keys, rig.intake, read)
    [letter] = await letters.waiting()
    [report_id] = (await letters.replay(letter.row_id, OFFICER)).report_ids
    [version] = await rig.store.read(lambda read: reports.versions(read, report_id))
    assert version.received_at == clock.now()


async def test_a_replay_that_fails_leaves_the_letter_where_it_is(rig: Rig) -> None:
    await rig.intake.take(message(problem="an unknown code", raw=b"MSH|1"))
    letters = rig.letters(message(problem="still an unknown code", raw=b"MSH|1"))
    [letter] = await letters.waiting()
    with pytest.raises(InvalidRequest, match="still"):
        await letters.replay(letter.row_id, OFFICER)
    assert [each.row_id for each in await letters.waiting()] == [letter.row_id]


async def test_a_dismissed_letter_does_not_come_back(rig: Rig) -> None:
    broken = message(problem="an unknown code", raw=b"MSH|1")
    await rig.intake.take(broken)
    letters = rig.letters(broken)
    [letter] = await letters.waiting()
    await letters.dismiss(letter.row_id, OFFICER)
    assert (await rig.intake.take(broken)).state is MessageState.DISMISSED
    assert await letters.waiting() == ()


@pytest.mark.parametrize("author", [Author(" ", "r", "why"), Author("who", "r", "")])
async def test_nobody_touches_a_dead_letter_without_name_and_reason(rig: Rig, author: Author) -> None:
    await rig.intake.take(message(problem="an unknown code"))
    letters = rig.letters(message())
    [letter] = await letters.waiting()
    for touch in (letters.show, letters.replay, letters.dismiss):
        with pytest.raises(InvalidRequest, match="reason"):
            await touch(letter.row_id, author)


async def test_payloads_are_forgotten_and_the_same_message_is_still_the_same(rig: Rig) -> None:
    await rig.intake.take(message(incoming()))
    await rig.intake.take(message(problem="an unknown code", name="dead"))
    later, earlier = RECEIVED_AT + timedelta(days=1), RECEIVED_AT
    assert await rig.store.write(lambda tx: messages.forget_payloads(tx, later, earlier)) == 1
    letters = rig.letters(message())
    [letter] = await letters.waiting()
    assert await letters.show(letter.row_id, OFFICER) == b"MSH of dead"
    assert await rig.store.write(lambda tx: messages.forget_payloads(tx, later, later)) == 1
    with pytest.raises(InvalidRequest, match="forgotten"):
        await letters.show(letter.row_id, OFFICER)
    assert not (await rig.intake.take(message(incoming()))).is_new


async def test_the_last_sign_of_life_of_a_feed_is_remembered(rig: Rig) -> None:
    intake = rig.intake
    await intake.take(message(incoming()))
    at = RECEIVED_AT + timedelta(minutes=5)
    await intake.heard_from(NORTH, FEED, at)
    await intake.heard_from(NORTH, FEED, at - timedelta(minutes=4))
    assert await rig.store.read(messages.heard) == {(NORTH, FEED): at}


async def test_a_message_larger_than_a_segment_comes_back_whole(rig: Rig) -> None:
    large = incoming(content=Content(TEXT, os.urandom(600_000)))
    taken = await rig.intake.take(message(large))
    [version] = await rig.store.read(lambda read: reports.versions(read, taken.report_ids[0]))
    assert (await rig.contents.open(version.version_id)).content == large.content


async def test_two_processes_that_take_the_same_messages_at_once_keep_each_once(
    rig: Rig, url: str, clock: FakeClock
) -> None:
    async with SqlStore(DatabaseSettings(url), node="south", clock=clock) as other:
        both = (rig.intake, Rig(other, rig.keys, rig.planned).intake)
        numbers = range(8)

        async def taken(intake: Intake, number: int) -> Taken:
            said = [incoming(report_number=f"R-{each}") for each in ((number, 9) if number % 2 else (9, number))]
            while True:
                with suppress(ServiceFault):  # as a sender that is answered AE
                    return await intake.take(message(*said, name=f"{number}"))

        told = await asyncio.gather(*(taken(intake, number) for number in numbers for intake in both))
    assert sum(each.is_new for each in told) == len(numbers)
    events = await rig.events()
    assert events.count("report-filed") == len(numbers) + 1
    assert len(rig.planned) == len(numbers) + 1
    assert await rig.texts(report_id_of(NORTH, "R-9")) == [TEXT]


async def test_a_trust_cannot_touch_the_report_that_another_one_calls_by_the_same_number(rig: Rig) -> None:
    south = TrustId("RZ2")
    mine = (await rig.intake.take(message(incoming()))).report_ids[0]
    wrong = incoming(trust=south, said=Said.WITHDRAWN, stated_at=VERIFIED_AT + timedelta(hours=1))
    theirs = (await rig.intake.take(message(wrong, trust=south))).report_ids[0]
    assert theirs != mine
    assert await rig.texts(mine) == [TEXT]
    smuggled = await rig.intake.take(message(replace(wrong, trust=NORTH), name="2", trust=south))
    assert smuggled.state is MessageState.DEAD
    assert await rig.texts(mine) == [TEXT]


async def test_a_report_of_a_patient_whose_keys_are_closed_is_not_lost(rig: Rig) -> None:
    first = (await rig.intake.take(message(incoming()))).report_ids[0]
    row = (await rig.kept(first)).patient_id
    assert row is not None
    await rig.keys.close_patient(row, KeyDomain.RELEASE)
    later = message(incoming(report_number="R-2"), name="2", raw=b"MSH|2")
    assert (await rig.intake.take(later)).state is MessageState.DEAD
    letters = rig.letters(later)
    [letter] = await letters.waiting()
    with pytest.raises(KeyClosed):
        await letters.replay(letter.row_id, OFFICER)
    assert await rig.keys.reopen_patient(row, KeyDomain.RELEASE)
    replayed = await letters.replay(letter.row_id, OFFICER)
    assert await rig.texts(replayed.report_ids[0]) == [TEXT]


@pytest.mark.parametrize("said", [Said.WITHDRAWN, Said.CANCELLED, Said.TAKEN_BACK, Said.CORRECTED])
async def test_a_report_of_too_many_versions_can_still_be_stopped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr(reports, "VERSIONS_MAX", 4)
    monkeypatch.setattr(intake, "VERSIONS_USUAL_MAX", 4)
    with capture_logs() as logs:
        for nth in range(4):
            each = incoming(content=Content(f"Text {nth}."), stated_at=VERIFIED_AT + timedelta(minutes=nth))
            (report_id,) = (await rig.intake.take(message(each, name=f"m-{nth}"))).report_ids
    assert [each["versions"] for each in logs if each["event"] == "report has many versions"] == [2, 4]
    more = incoming(content=Content("More."), stated_at=VERIFIED_AT + timedelta(hours=1))
    assert (await rig.intake.take(message(more, name="m-4"))).state is MessageState.DEAD
    stop = incoming(said=said, stated_at=VERIFIED_AT + timedelta(hours=2))
    assert (await rig.intake.take(message(stop, name="m-5"))).state is MessageState.FILED
    told = await rig.store.read(lambda read: reports.versions(read, report_id))
    assert [each.said for each in told][-1] is said


async def test_a_sign_of_life_after_a_clock_ran_ahead_is_written_down(rig: Rig) -> None:
    intake = rig.intake
    await intake.heard_from(NORTH, FEED, RECEIVED_AT + timedelta(days=30))
    await intake.heard_from(NORTH, FEED, RECEIVED_AT)
    assert list((await rig.store.read(messages.heard)).values()) == [RECEIVED_AT]
