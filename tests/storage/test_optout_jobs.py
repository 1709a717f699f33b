"""An opt-out ends what is queued and what runs for its patient, in the transaction of the act itself (DEC-11)."""

from __future__ import annotations

from functools import partial

import orjson
import pytest

from gateway.model.imaging import JsonValue
from gateway.model.work.jobs import Job, JobState, Lane, NewJob
from policy.facts import SharingChoice
from policy.optout import CaseEvent, Role
from storage import audit_log
from storage.database import Tx
from storage.registers import merges, optouts
from storage.registers.merges import MergeBasis
from storage.store import SqlStore
from storage.work import jobs, standing
from tests.clock import NOON, FakeClock
from tests.storage.people import ANNE, BEN, CALENDAR, CARA, CLERK, OFFICER, patient


async def queued(store: SqlStore, row: str) -> str:
    """A job that is about a patient; its id."""
    new = NewJob("retrieve-resume", Lane.INTERACTIVE, patient_row=row)
    return (await store.write(lambda tx: jobs.enqueue(tx, new))).job_id


async def stands(store: SqlStore, job_id: str) -> Job:
    """A job as it stands."""
    return await store.read(partial(jobs.get, job_id=job_id))


async def act(store: SqlStore, row: str, choice: SharingChoice, *events: CaseEvent) -> str:
    """A case that goes through these events; its id."""
    receipt = optouts.Receipt(row, choice, "paper", "patient", NOON)
    case = await store.write(lambda tx: optouts.open_case(tx, receipt, CALENDAR, Role.OFFICER, CLERK))
    for event in events:
        await store.write(partial(moved, case_id=case.case_id, event=event))
    return case.case_id


def moved(tx: Tx, case_id: str, event: CaseEvent) -> None:
    """Let an event happen to a case."""
    optouts.move_case(tx, case_id, event, Role.OFFICER, NOON, OFFICER)


async def changes(store: SqlStore, register: str) -> list[dict[str, JsonValue]]:
    """What the audit has of a register."""
    page = await store.read(lambda read: audit_log.page(read, store.node, 0))
    bodies = [orjson.loads(each.encoded)["body"] for each in page]
    return [body for body in bodies if body.get("register") == register]


@pytest.mark.parametrize(
    "events", [(CaseEvent.ACKNOWLEDGE, CaseEvent.VERIFY), (CaseEvent.VERIFY, CaseEvent.CONSIDER, CaseEvent.IMPLEMENT)]
)
async def test_an_opt_out_that_acts_cancels_the_patients_jobs_and_says_so(
    store: SqlStore, events: tuple[CaseEvent, ...]
) -> None:
    anne, ben = await patient(store), await patient(store, BEN)
    mine, other = await queued(store, anne), await queued(store, ben)
    case = await act(store, anne, SharingChoice.OPT_OUT, *events)
    stopped = await stands(store, mine)
    assert (stopped.state, stopped.words) == (JobState.CANCELLED, "no longer permitted")
    assert (await stands(store, other)).state is JobState.READY
    [change] = await changes(store, "jobs")
    assert (change["act"], change["row"], change["jobs"], change["by"]) == ("cancel-of-patient", case, 1, "officer")


async def test_a_request_that_is_only_received_and_an_opt_in_cancel_nothing(store: SqlStore) -> None:
    anne = await patient(store)
    mine = await queued(store, anne)
    await act(store, anne, SharingChoice.OPT_OUT, CaseEvent.ACKNOWLEDGE)
    await act(store, anne, SharingChoice.OPT_IN, CaseEvent.VERIFY, CaseEvent.CONSIDER, CaseEvent.IMPLEMENT)
    assert (await stands(store, mine)).state is JobState.READY
    assert not await changes(store, "jobs")


async def test_jobs_under_another_number_of_the_person_are_cancelled_too(store: SqlStore) -> None:
    anne, before = await patient(store, ANNE), await patient(store, CARA)
    await store.write(lambda tx: merges.merge(tx, before, anne, MergeBasis.PDS_SUPERSESSION, CLERK))
    mine = await queued(store, before)
    await act(store, anne, SharingChoice.OPT_OUT, CaseEvent.VERIFY, CaseEvent.CONSIDER, CaseEvent.IMPLEMENT)
    assert (await stands(store, mine)).state is JobState.CANCELLED


async def test_each_lane_says_how_much_waits_and_since_when(store: SqlStore, clock: FakeClock) -> None:
    await queued(store, "")
    await store.write(lambda tx: jobs.enqueue(tx, NewJob("fetch", Lane.BACKGROUND, run_at=NOON)))
    await clock.advance(60)
    lanes = await store.read(standing.by_lane)
    assert {lane: each.ready for lane, each in lanes.items() if each.ready} == {Lane.INTERACTIVE: 1, Lane.BACKGROUND: 1}
    assert lanes[Lane.BACKGROUND].oldest_due_at == NOON
    assert lanes[Lane.EMERGENCY] == standing.LaneStanding()
