"""The state machine of an association, as the data that PS3.8 9.2 prints: 13 states, 19 events, 123 cells.

It says what to do and where that leads; doing it is the association's. A blank cell cannot be reached by anything that
a peer sends, so that stepping into one is our own mistake, and raises. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType


class State(IntEnum):
    """Where an association stands (PS3.8 9.2.1)."""

    STA1 = 1  # idle
    STA2 = 2  # transport connection open, awaiting A-ASSOCIATE-RQ
    STA3 = 3  # awaiting our own answer to the request
    STA4 = 4  # awaiting that the transport connection opens
    STA5 = 5  # awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ
    STA6 = 6  # established, ready for data
    STA7 = 7  # awaiting A-RELEASE-RP
    STA8 = 8  # awaiting our own answer to the peer's release
    STA9 = 9  # release collision, requestor's side: awaiting our own answer
    STA10 = 10  # release collision, acceptor's side: awaiting A-RELEASE-RP
    STA11 = 11  # release collision, requestor's side: awaiting A-RELEASE-RP
    STA12 = 12  # release collision, acceptor's side: awaiting our own answer
    STA13 = 13  # awaiting that the transport connection closes


class Event(IntEnum):
    """What can happen (PS3.8 9.2.2). `_PDU`: it arrived; `_REQUEST` and `_RESPONSE`: this side wants it."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONNECTED = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_INDICATION = 5
    ASSOCIATE_RQ_PDU = 6
    ASSOCIATE_RESPONSE_ACCEPT = 7
    ASSOCIATE_RESPONSE_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_PDU = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


class Action(StrEnum):
    """What to do (PS3.8 9.2.2, Tables 9-6 to 9-9). ARTIM is the timer of association rejection and release."""

    AE_1 = "AE-1"  # open the transport connection
    AE_2 = "AE-2"  # send A-ASSOCIATE-RQ
    AE_3 = "AE-3"  # tell the user that the association is accepted
    AE_4 = "AE-4"  # tell the user that it is rejected; close the transport connection
    AE_5 = "AE-5"  # answer the transport connection; start ARTIM
    AE_6 = "AE-6"  # stop ARTIM; tell the user of the request, or send A-ASSOCIATE-RJ and start ARTIM
    AE_7 = "AE-7"  # send A-ASSOCIATE-AC
    AE_8 = "AE-8"  # send A-ASSOCIATE-RJ; start ARTIM
    DT_1 = "DT-1"  # send P-DATA
    DT_2 = "DT-2"  # hand P-DATA to the user
    AR_1 = "AR-1"  # send A-RELEASE-RQ
    AR_2 = "AR-2"  # tell the user that the peer wants to release
    AR_3 = "AR-3"  # tell the user that it is released; close the transport connection
    AR_4 = "AR-4"  # send A-RELEASE-RP; start ARTIM
    AR_5 = "AR-5"  # stop ARTIM
    AR_6 = "AR-6"  # hand P-DATA to the user
    AR_7 = "AR-7"  # send P-DATA
    AR_8 = "AR-8"  # tell the user that both sides want to release
    AR_9 = "AR-9"  # send A-RELEASE-RP
    AR_10 = "AR-10"  # tell the user that the peer answered the release
    AA_1 = "AA-1"  # send A-ABORT (source: user); start ARTIM anew
    AA_2 = "AA-2"  # stop ARTIM; close the transport connection
    AA_3 = "AA-3"  # tell the user that the peer aborts; close the transport connection
    AA_4 = "AA-4"  # tell the user that the connection is lost
    AA_5 = "AA-5"  # stop ARTIM
    AA_6 = "AA-6"  # ignore the PDU
    AA_7 = "AA-7"  # send A-ABORT
    AA_8 = "AA-8"  # send A-ABORT (source: provider), tell the user; start ARTIM


@dataclass(frozen=True, slots=True)
class Step:
    """What one event leads to.

    Two states are next where the standard leaves a choice: after AE-6 (the request is acceptable, is rejected at
    once), and after AR-8 (this side requested the association, accepted it).
    """

    action: Action
    next_states: tuple[State, ...]


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a mistake of ours, never a peer's."""


# As the standard prints it (PS3.8 Table 9-10): a row is an event, a column a state, a dash a blank cell.
_CELLS = """
Evt  Sta1 Sta2 Sta3 Sta4 Sta5 Sta6 Sta7 Sta8 Sta9 Sta10 Sta11 Sta12 Sta13
  1  AE-1 -    -    -    -    -    -    -    -    -     -     -     -
  2  -    -    -    AE-2 -    -    -    -    -    -     -     -     -
  3  -    AA-1 AA-8 -    AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
  4  -    AA-1 AA-8 -    AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
  5  AE-5 -    -    -    -    -    -    -    -    -     -     -     -
  6  -    AE-6 AA-8 -    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
  7  -    -    AE-7 -    -    -    -    -    -    -     -     -     -
  8  -    -    AE-8 -    -    -    -    -    -    -     -     -     -
  9  -    -    -    -    -    DT-1 -    AR-7 -    -     -     -     -
 10  -    AA-1 AA-8 -    AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
 11  -    -    -    -    -    AR-1 -    -    -    -     -     -     -
 12  -    AA-1 AA-8 -    AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
 13  -    AA-1 AA-8 -    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3  AA-8  AA-6
 14  -    -    -    -    -    -    -    AR-4 AR-9 -     -     AR-4  -
 15  -    -    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1  AA-1  -
 16  -    AA-2 AA-3 -    AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3  AA-3  AA-2
 17  -    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4  AA-4  AR-5
 18  -    AA-2 -    -    -    -    -    -    -    -     -     -     AA-2
 19  -    AA-1 AA-8 -    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
"""

_NEXT_STATES: Mapping[Action, tuple[State, ...]] = MappingProxyType(
    {
        Action.AE_1: (State.STA4,),
        Action.AE_2: (State.STA5,),
        Action.AE_3: (State.STA6,),
        Action.AE_4: (State.STA1,),
        Action.AE_5: (State.STA2,),
        Action.AE_6: (State.STA3, State.STA13),
        Action.AE_7: (State.STA6,),
        Action.AE_8: (State.STA13,),
        Action.DT_1: (State.STA6,),
        Action.DT_2: (State.STA6,),
        Action.AR_1: (State.STA7,),
        Action.AR_2: (State.STA8,),
        Action.AR_3: (State.STA1,),
        Action.AR_4: (State.STA13,),
        Action.AR_5: (State.STA1,),
        Action.AR_6: (State.STA7,),
        Action.AR_7: (State.STA8,),
        Action.AR_8: (State.STA9, State.STA10),
        Action.AR_9: (State.STA11,),
        Action.AR_10: (State.STA12,),
        Action.AA_1: (State.STA13,),
        Action.AA_2: (State.STA1,),
        Action.AA_3: (State.STA1,),
        Action.AA_4: (State.STA1,),
        Action.AA_5: (State.STA1,),
        Action.AA_6: (State.STA13,),
        Action.AA_7: (State.STA13,),
        Action.AA_8: (State.STA13,),
    }
)


def _read(cells: str) -> Mapping[tuple[Event, State], Step]:
    steps = {action: Step(action, states) for action, states in _NEXT_STATES.items()}
    table = {}
    for row in cells.strip().splitlines()[1:]:
        event, *actions = row.split()
        for state, action in zip(State, actions, strict=True):
            if action != "-":
                table[Event(int(event)), state] = steps[Action(action)]
    return MappingProxyType(table)


TABLE = _read(_CELLS)


def step(state: State, event: Event) -> Step:
    """Say what an event leads to. Raises IllegalTransition for a blank cell."""
    found = TABLE.get((event, state))
    if found is None:
        raise IllegalTransition(f"{event.name} cannot happen in {state.name}")
    return found
