"""The staff's desk: a certificate's trust and kind say what is seen and done, and views count what there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.model.errors import InvalidRequest, NotFound
from gateway.model.work.jobs import JobState
from gateway.release.acts import Acts
from gateway.release.clinicians.telling import CHANGED
from gateway.release.linking import Images
from gateway.release.planner import Planner, Rules
from gateway.release.referrers.referring import Referring
from gateway.release.staff.desk import ReleaseDesk
from gateway.web.api.desk import (
    Acknowledgement,
    Acknowledgements,
    Approval,
    Asked,
    Dispatch,
    FollowUp,
    NewHold,
    NewLink,
    NewStop,
    Numbered,
    OfVersion,
    ReadVersion,
    Reasoned,
    Settlement,
    Span,
    WrongLink,
)
from policy.parties import Caller, Principal, PrincipalKind, PurposeOfUse, TrustId
from policy.release.circumstances import HoldKind, ReleaseState
from policy.release.reports import Said
from policy.release.terms import Calendar
from storage.release import listing, messages
from storage.store import new_id
from storage.work import jobs
from tests.release.incoming import NORTH, OMAR, SARAH, message
from tests.release.portal import UNKNOWN, Portal
from tests.release.release_rig import DUE_AT, GO_LIVE, MONDAY, Rig, opened, verified

EAST = TrustId("RZ2")
WEEK = (MONDAY + timedelta(days=7)).date()


def caller(kind: PrincipalKind, trust: TrustId = NORTH, name: str = "dr-c") -> Caller:
    return Caller(Principal(name, kind, trust), PurposeOfUse.TREAT, "request-1")


CLINICIAN = caller(PrincipalKind.CLINICIAN)
OFFICER = caller(PrincipalKind.OFFICER, name="lead")
SYSTEM = caller(PrincipalKind.SYSTEM, name="ris")
STRANGER = caller(PrincipalKind.CLINICIAN, EAST)


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Rig]:
    async with opened(tmp_path, sqlite_url, Portal()) as running:
        yield running


@pytest.fixture
def desk(rig: Rig) -> ReleaseDesk:
    return desk_of(rig)


def desk_of(rig: Rig) -> ReleaseDesk:
    """The desk of a process."""
    images = Images("north", lambda row: row.encode())
    plain = Rules(lambda trust: rig.terms, Calendar(), rig.time.now)
    referring = Referring(lambda: plain)
    rules = replace(plain, referred=referring.referred, noted=referring.noted)
    planner = Planner(lambda: rules)
    return ReleaseDesk(rig.store, planner, Acts(planner, new_id), referring, images, lambda: None)


async def test_a_report_of_another_trust_does_not_exist_at_the_desk(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    [version] = (await desk.explained(CLINICIAN, report_id)).versions
    because = OfVersion(version.version_id, "r")
    for refused in (
        desk.explained(STRANGER, report_id),
        desk.hold(STRANGER, report_id, NewHold(HoldKind.TIMING, "r", WEEK)),
        desk.release_early(STRANGER, report_id, because),
        desk.retract(STRANGER, report_id, because),
        desk.review(STRANGER, report_id, because),
        desk.acknowledge(STRANGER, report_id, Acknowledgement(version.version_id, "Dr C")),
        desk.acknowledge_many(STRANGER, Acknowledgements((ReadVersion(report_id, version.version_id),), "Dr C")),
        desk.follow_up(STRANGER, report_id, FollowUp(version.version_id, "Dr C", "rang")),
        desk.prove_dispatch(STRANGER, report_id, Dispatch(version.version_id, "MSG1 AA")),
        desk.named(STRANGER, Numbered("R-1")),
        desk.link(STRANGER, report_id, NewLink("1.2.3", "r")),
        desk.unlink(STRANGER, report_id, WrongLink("1.2.3", "r")),
    ):
        with pytest.raises(NotFound):
            await refused
    assert (await desk.reports(STRANGER, Asked())).reports == ()
    assert (await desk.board(STRANGER)).waiting == 0
    assert [entry["act"] for entry in await rig.audit()] == ["plan"]


async def test_a_hold_of_the_desk_is_the_callers_and_another_report_does_not_end_it(
    rig: Rig, desk: ReleaseDesk
) -> None:
    report_id = await rig.file(verified(), "m-1")
    other = await rig.file(verified(report_number="R-2"), "m-2")
    done = await desk.hold(CLINICIAN, report_id, NewHold(HoldKind.LEGAL, "court order", WEEK))
    assert (done.state, done.changed) == (ReleaseState.HELD, True)
    [hold] = (await desk.explained(OFFICER, report_id)).holds
    assert (hold.by, hold.role, hold.reason) == ("dr-c", "clinician", "court order")
    with pytest.raises(NotFound):
        await desk.end_hold(OFFICER, other, hold.hold_id, Reasoned("lifted"))
    with pytest.raises(NotFound):
        await desk.end_hold(STRANGER, report_id, hold.hold_id, Reasoned("lifted"))
    done = await desk.end_hold(OFFICER, report_id, hold.hold_id, Reasoned("lifted"))
    assert done.state is ReleaseState.EMBARGOED


async def test_serious_harm_needs_a_clinician_who_says_that_they_are_responsible(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    harm = NewHold(HoldKind.SERIOUS_HARM, "r", WEEK)
    for who in (CLINICIAN, OFFICER, SYSTEM):
        with pytest.raises(InvalidRequest, match="not for"):
            await desk.hold(who, report_id, harm)
    claimed = NewHold(HoldKind.SERIOUS_HARM, "r", WEEK, is_responsible=True)
    for who in (OFFICER, SYSTEM):
        with pytest.raises(InvalidRequest, match="not for"):
            await desk.hold(who, report_id, claimed)
    assert (await desk.hold(CLINICIAN, report_id, claimed)).state is ReleaseState.HELD


async def test_a_trusts_own_system_stops_a_report_of_the_wrong_patient(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    done = await desk.hold(SYSTEM, report_id, NewHold(HoldKind.WRONG_PATIENT, "other patient's text", WEEK))
    assert done.state is ReleaseState.HELD


async def test_an_early_release_goes_out_and_stands_in_the_explanation(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    [version] = (await desk.explained(CLINICIAN, report_id)).versions
    for who in (OFFICER, SYSTEM):
        with pytest.raises(InvalidRequest, match="clinician"):
            await desk.release_early(who, report_id, OfVersion(version.version_id, "asked for"))
    await desk.release_early(CLINICIAN, report_id, OfVersion(version.version_id, "asked for"))
    await rig.look()
    told = await desk.explained(CLINICIAN, report_id)
    assert told.report.state is ReleaseState.RELEASED
    assert told.will_be_released_at is None
    assert told.versions[0].released_at is not None
    [delivery] = told.deliveries
    assert delivery.state == "confirmed"
    assert (await desk.board(CLINICIAN)).released_today == 1
    done = await desk.retract(CLINICIAN, report_id, OfVersion(version.version_id, "wrong side"))
    assert done.state is ReleaseState.RETRACTED


async def test_the_board_and_the_lists_count_the_callers_trust(rig: Rig, desk: ReleaseDesk) -> None:
    held = await rig.file(verified(), "m-1")
    await rig.file(verified(report_number="R-2"), "m-2")
    await desk.hold(CLINICIAN, held, NewHold(HoldKind.LEGAL, "court order", WEEK))
    board = await desk.board(OFFICER)
    assert (board.waiting, board.held, board.due, board.is_stopped) == (1, 1, 0, False)
    assert {each.state for each in (await desk.reports(OFFICER, Asked())).reports} == {
        ReleaseState.EMBARGOED,
        ReleaseState.HELD,
    }
    some = await desk.reports(OFFICER, Asked(limit=1))
    assert (len(some.reports), some.is_whole) == (1, False)
    assert (await desk.reports(OFFICER, Asked(days=7))).reports == ()
    assert [each.report_number for each in (await desk.reports(OFFICER, Asked(days=29))).reports] == ["R-2"]


async def test_a_list_of_what_is_due_is_chosen_by_state_before_it_is_cut(rig: Rig, desk: ReleaseDesk) -> None:
    for name in ("R-1", "R-3"):
        await rig.file(verified(report_number=name), name)
    await rig.on(DUE_AT)
    await rig.looking.look()
    await rig.file(verified(DUE_AT - timedelta(days=1), report_number="R-2"), "m-2")
    *due, waiting = (await desk.reports(OFFICER, Asked(days=60))).reports
    assert {each.state for each in due} == {ReleaseState.DUE}
    found = await desk.reports(OFFICER, Asked(ReleaseState.EMBARGOED, days=60, limit=1))
    assert (found.reports, found.is_whole) == ((waiting,), True)
    nothing = await desk.reports(OFFICER, Asked(ReleaseState.HELD, days=60, limit=1))
    assert (nothing.reports, nothing.is_whole) == ((), True)


async def test_the_longest_list_that_may_be_asked_for_says_that_there_is_more(
    rig: Rig, desk: ReleaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LIST_MAX", 2)
    for n in range(3):
        await rig.file(verified(report_number=f"R-{n}"), f"m-{n}")
    for asked in (Asked(limit=2), Asked(days=60, limit=2)):
        found = await desk.reports(OFFICER, asked)
        assert (len(found.reports), found.is_whole) == (2, False)


async def test_one_trusts_dead_letters_hide_no_other_trusts(
    rig: Rig, desk: ReleaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "LIST_MAX", 2)
    for n in range(3):
        await rig.intake.take(replace(message(name=f"east-{n}"), trust=EAST, problem="unread", raw=b"MSH"))
    await rig.clock.advance(60)
    await rig.intake.take(replace(message(name="own"), problem="unread", raw=b"MSH", received_at=rig.clock.now()))
    own, theirs = await desk.dead_letters(OFFICER), await desk.dead_letters(STRANGER)
    assert ([each.trust for each in own.messages], own.is_whole) == (["RZ1"], True)
    assert ([each.trust for each in theirs.messages], theirs.is_whole) == (["RZ2", "RZ2"], False)


async def test_released_reports_give_a_median_from_due_to_released(rig: Rig, desk: ReleaseDesk) -> None:
    await rig.file(verified())
    await rig.look(DUE_AT + timedelta(minutes=10))
    median = (await desk.board(CLINICIAN)).medians.due_to_released_s
    assert median is not None
    assert 600 <= median < 660


async def test_the_stop_switch_is_thrown_by_any_staff_and_undone_by_governance(rig: Rig, desk: ReleaseDesk) -> None:
    await rig.file(verified())
    soon = rig.clock.now() + timedelta(days=1)
    assert (await desk.stop(SYSTEM, NewStop("RIS upgrade", soon))).changed
    assert not (await desk.stop(CLINICIAN, NewStop("RIS upgrade", soon))).changed
    assert (await desk.board(CLINICIAN)).is_stopped
    assert not (await desk.board(STRANGER)).is_stopped
    with pytest.raises(InvalidRequest):
        await desk.restart(SYSTEM, Reasoned("done"))
    assert (await desk.restart(OFFICER, Reasoned("done"))).changed
    assert not (await desk.board(CLINICIAN)).is_stopped


async def test_reports_from_before_go_live_are_counted_before_they_are_let_go(rig: Rig, desk: ReleaseDesk) -> None:
    old = GO_LIVE - timedelta(days=30)
    await rig.file(verified(old))
    span = Span(old - timedelta(days=1), GO_LIVE)
    assert (await desk.retrospective(OFFICER, span)).reports == 1
    assert (await desk.retrospective(caller(PrincipalKind.OFFICER, EAST), span)).reports == 0
    with pytest.raises(InvalidRequest, match="1 reports would go, not 2"):
        await desk.approve_retrospective(OFFICER, Approval(span.verified_from, span.verified_until, 2, "agreed"))
    approved = await desk.approve_retrospective(OFFICER, Approval(span.verified_from, span.verified_until, 1, "agreed"))
    assert approved.reports == 1


async def test_what_is_noted_of_a_referrer_has_a_name_and_a_time_that_has_been(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    now = rig.clock.now()
    read = (await desk.named(SYSTEM, Numbered("R-1"))).version_id or ""
    assert (await desk.acknowledge(CLINICIAN, report_id, Acknowledgement(read, "Dr C"))).changed
    assert not (await desk.acknowledge(CLINICIAN, report_id, Acknowledgement(read, "Dr D"))).changed
    spoken_at = now - timedelta(minutes=1)
    assert (await desk.follow_up(CLINICIAN, report_id, FollowUp(read, "Dr C", "rang", spoken_at))).changed
    assert (await desk.prove_dispatch(SYSTEM, report_id, Dispatch(read, "MSG1 AA"))).changed
    told = await desk.explained(CLINICIAN, report_id)
    assert (told.is_acknowledged, told.is_dispatch_proven) == (True, True)
    [acknowledged] = await rig.audit("acknowledge")
    assert (acknowledged["name"], acknowledged["by"], acknowledged["at"]) == (
        "Dr C",
        "dr-c (clinician)",
        now.isoformat(),
    )
    [dispatched] = await rig.audit("prove-dispatch")
    assert (dispatched["reference"], dispatched["by"]) == ("MSG1 AA", "ris (staff)")
    with pytest.raises(InvalidRequest, match="ahead"):
        await desk.acknowledge(CLINICIAN, report_id, Acknowledgement(read, "Dr C", now + timedelta(seconds=1)))


async def test_lists_name_the_newest_text_and_acts_on_an_earlier_one_are_refused(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    [line] = (await desk.reports(CLINICIAN, Asked())).reports
    read = line.version_id or ""
    at = rig.clock.now()
    await rig.file(verified(at, "A fracture.", said=Said.APPENDED, received_at=at), "m-2")
    told = await desk.explained(CLINICIAN, report_id)
    newest = told.report.version_id or ""
    assert newest not in ("", read)
    assert [each.stands for each in told.versions] == [True, True]
    with pytest.raises(InvalidRequest, match=f"does not stand.*{newest}"):
        await desk.acknowledge(CLINICIAN, report_id, Acknowledgement(read, "Dr C"))
    both = Acknowledgements((ReadVersion(report_id, read), ReadVersion(report_id, newest)), "Dr C")
    with pytest.raises(InvalidRequest, match="twice"):
        await desk.acknowledge_many(CLINICIAN, both)
    done = await desk.acknowledge_many(CLINICIAN, Acknowledgements((ReadVersion(report_id, newest),), "Dr C"))
    assert done.acknowledged == (report_id,)
    assert (await desk.explained(CLINICIAN, report_id)).is_acknowledged
    assert [each.version_id for each in (await desk.reports(CLINICIAN, Asked())).reports] == [newest]
    [entry] = await rig.audit("acknowledge")
    assert (entry["version"], entry["by"]) == (newest, "dr-c (clinician)")


async def test_governance_settles_whose_a_report_is_and_what_became_of_a_document(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with opened(tmp_path, sqlite_url, Portal(puts=[UNKNOWN], is_idempotent=False)) as rig:
        desk = desk_of(rig)
        foreign = replace(SARAH, nhs_number=OMAR.nhs_number)
        report_id = await rig.file(verified(MONDAY - timedelta(hours=1), subject=foreign))
        await rig.file(verified(MONDAY, "hers", said=Said.CORRECTED), "m-2")
        hers = OfVersion((await rig.report(report_id)).current_version or "", "seen in the RIS")
        with pytest.raises(NotFound):
            await desk.settle_patient(STRANGER, report_id, hers)
        with pytest.raises(InvalidRequest, match="clinician or for governance"):
            await desk.settle_patient(SYSTEM, report_id, hers)
        assert (await desk.settle_patient(OFFICER, report_id, hers)).state is ReleaseState.EMBARGOED
        await rig.look(DUE_AT)
        [delivery] = (await desk.explained(OFFICER, report_id)).deliveries
        assert delivery.state == "unknown"
        there = Settlement(delivery.channel, delivery.document_key, True, "asked the portal's desk")
        with pytest.raises(NotFound):
            await desk.settle_delivery(STRANGER, report_id, there)
        assert (await desk.settle_delivery(OFFICER, report_id, there)).state is ReleaseState.RELEASED
        [settled] = await rig.audit("settle-delivery")
        assert (settled["by"], settled["reason"]) == ("lead (governance)", "asked the portal's desk")
        [settled] = await rig.audit("settle-patient")
        assert (settled["by"], settled["version"]) == ("lead (governance)", hers.version_id)


async def test_a_study_named_at_the_desk_is_the_reports(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    assert (await desk.board(CLINICIAN)).unmatched == 0
    before = len(await rig.store.read(lambda read: jobs.listed(read, list(JobState), CHANGED)))
    assert (await desk.link(OFFICER, report_id, NewLink("1.2.3", "seen in the RIS"))).changed
    [queued] = (await rig.store.read(lambda read: jobs.listed(read, list(JobState), CHANGED)))[before:]
    assert queued.detail == {"report": report_id}, "copies that stood elsewhere are given up"
    assert not (await desk.link(OFFICER, report_id, NewLink("1.2.3", "seen in the RIS"))).changed
    told = await desk.explained(OFFICER, report_id)
    assert (told.report.is_linked, told.study_uids) == (True, ("1.2.3",))
    assert (await desk.unlink(CLINICIAN, report_id, WrongLink("1.2.3", "the wrong side"))).changed
    assert not (await desk.unlink(CLINICIAN, report_id, WrongLink("1.2.3", "the wrong side"))).changed
    told = await desk.explained(OFFICER, report_id)
    assert (told.report.is_linked, told.study_uids) == (False, ())
    [unlinked] = await rig.audit("unlink")
    assert (unlinked["by"], unlinked["reason"], unlinked["study"]) == ("dr-c (clinician)", "the wrong side", "1.2.3")


async def test_a_gateway_is_no_member_of_staff(rig: Rig, desk: ReleaseDesk) -> None:
    report_id = await rig.file(verified())
    for kind in (PrincipalKind.GATEWAY, PrincipalKind.SERVICE):
        with pytest.raises(InvalidRequest, match="no member of staff"):
            await desk.hold(caller(kind), report_id, NewHold(HoldKind.TIMING, "r", WEEK))
