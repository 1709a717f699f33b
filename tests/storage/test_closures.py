"""Whose keys the opt-out register wants closed, on both engines."""

from __future__ import annotations

from datetime import timedelta

from policy.facts import SharingChoice
from policy.optout import CaseEvent, Role
from storage.registers import closures, merges, optouts
from storage.registers.merges import MergeBasis
from storage.store import SqlStore
from tests.clock import NOON, FakeClock
from tests.storage.people import ANNE, BEN, CARA, CLERK, OFFICER, case, move, patient


async def rows(store: SqlStore) -> frozenset[str]:
    """The rows that are to be closed."""
    return (await store.read(closures.opted_out)).rows


async def implement(store: SqlStore, row: str, choice: SharingChoice = SharingChoice.OPT_OUT) -> None:
    """A request, implemented at once."""
    made = await case(store, row, choice)
    await move(store, made.case_id, CaseEvent.VERIFY, CaseEvent.IMPLEMENT)


async def test_only_an_implemented_opt_out_closes_and_the_latest_choice_wins(store: SqlStore, clock: FakeClock) -> None:
    anne, ben = await patient(store), await patient(store, BEN)
    made = await case(store, anne)
    await move(store, made.case_id, CaseEvent.VERIFY)
    assert await rows(store) == frozenset()
    await move(store, made.case_id, CaseEvent.IMPLEMENT)
    await implement(store, ben, SharingChoice.OPT_IN)
    assert await rows(store) == {anne}
    await clock.advance(1)
    await implement(store, anne, SharingChoice.OPT_IN)
    await implement(store, ben)
    assert await rows(store) == {ben}


async def test_released_is_only_of_whom_a_choice_or_a_merge_is_known(store: SqlStore, clock: FakeClock) -> None:
    anne, ben, cara = [await patient(store, number) for number in (ANNE, BEN, CARA)]
    made = await case(store, cara)
    await move(store, made.case_id, CaseEvent.VERIFY)
    assert (await store.read(closures.opted_out)).released == frozenset()
    await implement(store, anne)
    assert (await store.read(closures.opted_out)).released == frozenset()
    await clock.advance(1)
    await implement(store, anne, SharingChoice.OPT_IN)
    assert (await store.read(closures.opted_out)).released == {anne}
    merge_id = await store.write(lambda tx: merges.merge(tx, ben, cara, MergeBasis.PDS_SUPERSESSION, CLERK))
    await store.write(lambda tx: merges.undo_merge(tx, merge_id, OFFICER))
    assert (await store.read(closures.opted_out)).released == {anne, ben, cara}


async def test_two_choices_of_one_instant_are_ordered_by_their_receipt(store: SqlStore) -> None:
    anne = await patient(store)
    await implement(store, anne, SharingChoice.OPT_IN)
    await implement(store, anne)
    assert await rows(store) == {anne}


async def test_a_choice_ahead_closes_when_its_time_comes(store: SqlStore, clock: FakeClock) -> None:
    anne = await patient(store)
    made = await case(store, anne)
    await move(store, made.case_id, CaseEvent.VERIFY)
    ahead = NOON + timedelta(hours=1)
    implemented = CaseEvent.IMPLEMENT
    await store.write(lambda tx: optouts.move_case(tx, made.case_id, implemented, Role.OFFICER, ahead, OFFICER))
    found = await store.read(closures.opted_out)
    assert (found.rows, found.changes_at) == (frozenset(), ahead)
    await clock.advance(3600)
    found = await store.read(closures.opted_out)
    assert (found.rows, found.changes_at) == (frozenset({anne}), None)


async def test_all_rows_of_a_person_close_together_once_two_people_say_that_they_are_one(store: SqlStore) -> None:
    anne, ben, cara = [await patient(store, number) for number in (ANNE, BEN, CARA)]
    await implement(store, cara)
    merge = merges.merge
    first = await store.write(lambda tx: merge(tx, anne, ben, MergeBasis.PDS_SUPERSESSION, CLERK))
    second = await store.write(lambda tx: merge(tx, ben, cara, MergeBasis.TWO_PEOPLE, CLERK))
    assert await rows(store) == {cara}, "nobody has confirmed it"
    await store.write(lambda tx: merges.confirm_merge(tx, second, OFFICER))
    assert await rows(store) == {anne, ben, cara}
    await store.write(lambda tx: merges.undo_merge(tx, first, OFFICER))
    assert await rows(store) == {ben, cara}


async def test_the_trace_changes_with_every_choice_and_every_merge_and_with_nothing_else(store: SqlStore) -> None:
    seen = [await store.read(closures.trace)]

    async def changed() -> bool:
        seen.append(await store.read(closures.trace))
        return seen[-1] != seen[-2]

    anne, ben = await patient(store), await patient(store, BEN)
    made = await case(store, anne)
    assert not await changed()
    await move(store, made.case_id, CaseEvent.VERIFY)
    assert await changed()
    await move(store, made.case_id, CaseEvent.IMPLEMENT)
    assert await changed()
    await store.write(lambda tx: merges.merge(tx, anne, ben, MergeBasis.TWO_PEOPLE, CLERK))
    assert await changed()
    assert not await changed()
