"""Hold the state table to an independent one, cell by cell, and to what the standard counts (PS3.8 9.2, DEC-31)."""

from itertools import product

import pytest
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE

from dimse.upper_layer.states import TABLE, Action, Event, IllegalTransition, State, step

CELLS = list(product(Event, State))
# Nothing can arrive: there is no transport connection.
WITHOUT_TRANSPORT = {State.STA1, State.STA4}
FROM_THE_PEER = {
    Event.ASSOCIATE_AC_PDU,
    Event.ASSOCIATE_RJ_PDU,
    Event.ASSOCIATE_RQ_PDU,
    Event.P_DATA_PDU,
    Event.RELEASE_RQ_PDU,
    Event.RELEASE_RP_PDU,
    Event.ABORT_PDU,
    Event.TRANSPORT_CLOSED,
    Event.INVALID_PDU,
}


def test_there_are_as_many_cells_as_the_standard_prints() -> None:
    assert (len(CELLS), len(TABLE)) == (247, 123)
    assert {found.action for found in TABLE.values()} == set(Action)


@pytest.mark.parametrize(("event", "state"), CELLS, ids=lambda member: member.name)
def test_each_cell_agrees_with_the_other_implementation(event: Event, state: State) -> None:
    action = TRANSITION_TABLE.get((f"Evt{event.value}", f"Sta{state.value}"))
    if action is None:
        with pytest.raises(IllegalTransition):
            step(state, event)
        return
    following = ACTIONS[action][2]
    found = step(state, event)
    assert found.action.value == action
    assert [f"Sta{next_state.value}" for next_state in found.next_states] == (
        [following] if isinstance(following, str) else list(following)
    )


@pytest.mark.parametrize(
    ("event", "state"),
    [(event, state) for event, state in CELLS if event in FROM_THE_PEER and state not in WITHOUT_TRANSPORT],
)
def test_nothing_that_a_peer_does_meets_a_blank_cell(event: Event, state: State) -> None:
    assert step(state, event).next_states


def test_what_is_done_decides_what_follows() -> None:
    # One action never leads to different places: the reader may look it up without the cell.
    assert len({(found.action, found.next_states) for found in TABLE.values()}) == len(Action)


def test_our_mistake_says_what_it_is_in_words() -> None:
    with pytest.raises(IllegalTransition, match="RELEASE_RESPONSE cannot happen in STA6"):
        step(State.STA6, Event.RELEASE_RESPONSE)
