"""Every cell of the state table that a peer can cause, caused over a socket (PS3.8 9.2, DEC-31).

What comes back, what the association tells its user and that nothing else is said follow from the table's action alone.
Three states are passed within one step, as our user answers a release at once: no peer finds us in them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

import pytest

from dimse.upper_layer import pdu
from dimse.upper_layer.association import (
    Association,
    AssociationEnded,
    AssociationLimits,
    AssociationRejected,
    accepting,
)
from dimse.upper_layer.messages import Message
from dimse.upper_layer.negotiation import Offer, negotiate
from dimse.upper_layer.pdu import AbortReason, AbortSource, PduType
from dimse.upper_layer.states import TABLE, Action, Event, State
from dimse.upper_layer.wire import Ended, WireLimits
from tests.dimse.pair import ECHO, SYNTAXES, answer, associated, listening, proposal, written
from tests.dimse.scripted import HANG_S, ScriptedPeer, called, caller, without_a_fault

LIMITS = AssociationLimits(wire=WireLimits(artim_timeout_s=2 * HANG_S))
ACCEPTOR_STATES = (State.STA2, State.STA3, State.STA6, State.STA7, State.STA10, State.STA13)
REQUESTOR_STATES = (State.STA5, State.STA6, State.STA7, State.STA11, State.STA13)
PASSED = {State.STA8, State.STA9, State.STA12}
WITHOUT_CONNECTION = {State.STA1, State.STA4}


@dataclass(frozen=True)
class Happening:
    """An event as a peer causes it, and the source and reason of an A-ABORT about it."""

    event: Event
    sent: bytes
    abort: tuple[int, int] = (AbortSource.PROVIDER, AbortReason.UNEXPECTED_PDU)


def _invalid(sent: bytes, reason: AbortReason) -> Happening:
    return Happening(Event.INVALID_PDU, sent, (AbortSource.PROVIDER, reason))


ACCEPT = negotiate(proposal(), Offer(frozenset({"GATEWAY"}), SYNTAXES))
END = Happening(Event.TRANSPORT_CLOSED, b"")
HAPPENINGS = {
    "accept": Happening(Event.ASSOCIATE_AC_PDU, pdu.encode(ACCEPT)),
    "reject": Happening(Event.ASSOCIATE_RJ_PDU, pdu.encode(pdu.LOCAL_LIMIT_EXCEEDED)),
    "request": Happening(Event.ASSOCIATE_RQ_PDU, pdu.encode(proposal())),
    "data": Happening(Event.P_DATA_PDU, written(ECHO)),
    "release": Happening(Event.RELEASE_RQ_PDU, pdu.encode(pdu.ReleaseRequest())),
    "release reply": Happening(Event.RELEASE_RP_PDU, pdu.encode(pdu.ReleaseReply())),
    "abort": Happening(Event.ABORT_PDU, pdu.encode(pdu.Abort(AbortSource.USER, 0))),
    "end": END,
    "unknown PDU": _invalid(b"\x09\0\0\0\0\4....", AbortReason.UNRECOGNISED_PDU),
    "wrong length": _invalid(b"\x05\0\0\0\0\5.....", AbortReason.INVALID_PARAMETER),
    "malformed request": _invalid(b"\x01\0\0\0\0\4....", AbortReason.INVALID_PARAMETER),
    "four gigabytes": _invalid(b"\x01\0\xff\xff\xff\xff....", AbortReason.NOT_SPECIFIED),
}
CELLS_OF_ACCEPTOR = [(state, name) for state in ACCEPTOR_STATES for name in HAPPENINGS]
CELLS_OF_REQUESTOR = [(state, name) for state in REQUESTOR_STATES for name in HAPPENINGS]


def _ids(value: object) -> str:
    return value.name if isinstance(value, State) else str(value)


def test_the_scripts_cover_every_cell_that_a_peer_can_cause() -> None:
    caused = {happening.event for happening in HAPPENINGS.values()}
    found = {(event, state) for state in {*ACCEPTOR_STATES, *REQUESTOR_STATES} for event in caused}
    found |= {(Event.ARTIM_EXPIRED, State.STA2), (Event.ARTIM_EXPIRED, State.STA13)}
    ours = {event for event in Event if event.name.endswith(("_REQUEST", "_ACCEPT", "_REJECT", "_RESPONSE"))}
    opened = {Event.TRANSPORT_CONNECTED, Event.TRANSPORT_INDICATION}
    for_peers = {cell for cell in TABLE if cell[0] not in ours | opened}
    assert for_peers - found == {cell for cell in for_peers if cell[1] in PASSED | WITHOUT_CONNECTION}
    assert found <= for_peers


# --- what an action looks like from outside ---


@dataclass(frozen=True)
class Outcome:
    """What comes back and how the association stands then."""

    said: tuple[bytes | PduType, ...] = ()
    hangs_up: bool = False
    ended: Ended | None = None
    """None: as it was before."""
    is_heard: bool = False
    """Whether the user gets the message."""


REPLY = pdu.encode(pdu.ReleaseReply())


def outcome(action: Action, happening: Happening, *, is_requestor: bool) -> Outcome:
    """What the action of a cell must look like (PS3.8 Tables 9-6 to 9-9)."""
    match action:
        case Action.AE_3 | Action.AA_6:
            return Outcome()
        case Action.AE_4:
            return Outcome(hangs_up=True, ended=Ended.REJECTED)
        case Action.AE_6:
            return Outcome((PduType.ASSOCIATE_AC,))
        case Action.DT_2:
            return Outcome(() if is_requestor else (PduType.P_DATA,), is_heard=True)
        case Action.AR_6:
            return Outcome(is_heard=True)
        case Action.AR_2 | Action.AR_10:  # our user answers at once: AR-4
            return Outcome((REPLY,), ended=Ended.RELEASED)
        case Action.AR_8:  # as requestor our user answers at once: AR-9
            return Outcome((REPLY,) if is_requestor else ())
        case Action.AR_3:
            return Outcome(hangs_up=True, ended=Ended.RELEASED)
        case Action.AA_1 | Action.AA_8:
            return Outcome((pdu.encode(pdu.Abort(*happening.abort)),), ended=Ended.ABORTED_HERE)
        case Action.AA_7:
            return Outcome((pdu.encode(pdu.Abort(*happening.abort)),))
        case Action.AA_2:
            return Outcome(hangs_up=True)
        case Action.AA_3:
            return Outcome(hangs_up=True, ended=Ended.ABORTED_BY_PEER)
        case Action.AA_4:
            return Outcome(hangs_up=True, ended=Ended.CONNECTION_LOST)
        case Action.AA_5 | Action.AR_5:
            return Outcome(hangs_up=True)
        case _:
            raise AssertionError(f"no peer causes {action}")


async def _cause(peer: ScriptedPeer, happening: Happening, expected: Outcome) -> None:
    """Cause the event, and see that what was expected is said, and nothing else."""
    async with asyncio.timeout(HANG_S):
        await peer.send(happening.sent)
        for said in expected.said:
            kind, body = await peer.hear()
            if isinstance(said, PduType):
                assert kind == said
            else:
                assert (kind, body) == (said[0], said[6:])
        ends_here = expected.hangs_up and happening is not END
        assert await (peer.until_end() if ends_here else peer.rest()) == b""


# --- as acceptor ---


class Acceptor:
    """Takes every association, keeps what it hears and answers it while it may."""

    def __init__(self, *, may_answer: bool) -> None:
        self.association: asyncio.Future[Association] = asyncio.get_running_loop().create_future()
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self._may_answer = asyncio.Event()
        if may_answer:
            self._may_answer.set()

    async def admit(
        self, association: Association, request: pdu.AssociateRequest
    ) -> pdu.AssociateAccept | pdu.AssociateReject:
        self.association.set_result(association)
        await self._may_answer.wait()
        return negotiate(request, Offer(frozenset({"GATEWAY"}), SYNTAXES))

    async def serve(self, association: Association) -> None:
        while True:
            message = await association.receive()
            self.heard.put_nowait(message)
            if association.is_open:
                await answer(association, message)


@contextlib.asynccontextmanager
async def accepting_in(
    state: State, limits: AssociationLimits = LIMITS
) -> AsyncIterator[tuple[ScriptedPeer, Acceptor]]:
    """An acceptor that a peer has brought into this state."""
    acceptor = Acceptor(may_answer=state is not State.STA3)
    server = await asyncio.get_running_loop().create_server(accepting(acceptor, limits), "127.0.0.1", 0)
    async with caller(int(server.sockets[0].getsockname()[1])) as peer:
        if state is not State.STA2:
            await peer.send(proposal())
            association = await acceptor.association
            if state is not State.STA3:
                assert await peer.hear_kind() == PduType.ASSOCIATE_AC
            if state in (State.STA7, State.STA10):
                association.wire.request_release()
                assert await peer.hear_kind() == PduType.RELEASE_RQ
            if state in (State.STA10, State.STA13):
                await peer.send(pdu.ReleaseRequest())
            if state is State.STA13:
                assert await peer.hear_kind() == PduType.RELEASE_RP
        yield peer, acceptor
    server.close()


@pytest.mark.parametrize(("state", "name"), CELLS_OF_ACCEPTOR, ids=_ids)
async def test_an_acceptor_does_as_the_table_says_and_nothing_else(
    state: State, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dimse.upper_layer.wire.LINGER_S", 2 * HANG_S)
    happening = HAPPENINGS[name]
    expected = outcome(TABLE[happening.event, state].action, happening, is_requestor=False)
    async with without_a_fault(), accepting_in(state) as (peer, acceptor):
        await _cause(peer, happening, expected)
        if acceptor.association.done():
            over = await acceptor.association.result().over()
            before = Ended.RELEASED if state is State.STA13 else Ended.CONNECTION_LOST  # for we hung up
            assert over.why is (expected.ended or before)
        assert acceptor.heard.empty() is not expected.is_heard
    assert capsys.readouterr().out == ""


# --- as requestor ---


@contextlib.asynccontextmanager
async def requesting_in(state: State) -> AsyncIterator[tuple[ScriptedPeer, Awaitable[Association]]]:
    """A requestor that a peer has brought into this state."""
    async with called(LIMITS) as call:
        peer = call.peer
        if state is State.STA5:
            yield peer, call.requesting
            return
        association = await call.established()
        if state in (State.STA7, State.STA11):
            association.wire.request_release()
            assert await peer.hear_kind() == PduType.RELEASE_RQ
        if state in (State.STA11, State.STA13):
            await peer.send(pdu.ReleaseRequest())
            assert await peer.hear_kind() == PduType.RELEASE_RP
        yield peer, call.requesting


@pytest.mark.parametrize(("state", "name"), CELLS_OF_REQUESTOR, ids=_ids)
async def test_a_requestor_does_as_the_table_says_and_nothing_else(
    state: State, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dimse.upper_layer.wire.LINGER_S", 2 * HANG_S)
    happening = HAPPENINGS[name]
    expected = outcome(TABLE[happening.event, state].action, happening, is_requestor=True)
    async with without_a_fault(), requesting_in(state) as (peer, requesting):
        await _cause(peer, happening, expected)
        try:
            association = await requesting
        except AssociationEnded as ended:
            assert state is State.STA5 and ended.why is expected.ended
        except AssociationRejected as rejected:
            assert expected.ended is Ended.REJECTED and rejected.reject == pdu.LOCAL_LIMIT_EXCEEDED
        else:
            if expected.is_heard:
                assert (await association.receive()).command == ECHO
            before = Ended.RELEASED if state is State.STA13 else Ended.CONNECTION_LOST
            assert (await association.over()).why is (expected.ended or before)
            with pytest.raises(AssociationEnded):
                await association.receive()
    assert capsys.readouterr().out == ""


# --- time ---


async def test_a_connection_without_a_request_is_closed_when_artim_expires() -> None:
    limits = AssociationLimits(wire=WireLimits(artim_timeout_s=0.05))
    async with without_a_fault(), accepting_in(State.STA2, limits) as (peer, _):
        assert await peer.until_end() == b""


@pytest.mark.parametrize("name", ["release", "unknown PDU", "request"])
async def test_a_peer_that_does_not_hang_up_is_hung_up_on_when_artim_expires(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dimse.upper_layer.wire.LINGER_S", 0.05)
    async with without_a_fault(), accepting_in(State.STA6) as (peer, _):
        await peer.send(HAPPENINGS[name].sent)
        assert await peer.hear_kind() in (PduType.RELEASE_RP, PduType.ABORT)
        assert await peer.until_end() == b""


async def test_a_peer_cannot_keep_a_connection_by_asking_on_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dimse.upper_layer.wire.LINGER_S", 0.2)
    async with without_a_fault(), accepting_in(State.STA13) as (peer, _):
        hearing = asyncio.create_task(peer.until_end())
        async with asyncio.timeout(HANG_S):
            while not hearing.done():
                with contextlib.suppress(ConnectionError):
                    await peer.send(proposal())
                await asyncio.wait({hearing}, timeout=0.05)


async def test_a_release_that_is_not_answered_ends_with_an_abort() -> None:
    limits = AssociationLimits(wire=WireLimits(artim_timeout_s=1.0))
    async with without_a_fault(), called(limits) as call:
        association = await call.established()
        releasing = asyncio.create_task(association.release())
        assert await call.peer.hear_kind() == PduType.RELEASE_RQ
        assert await call.peer.hear() == (PduType.ABORT, bytes((0, 0, AbortSource.USER, 0)))
        await releasing
        assert (await association.over()).why is Ended.ABORTED_HERE


# --- collisions ---


async def test_both_ends_may_release_at_once() -> None:
    async with without_a_fault(), listening() as acceptor:
        ours = await associated(acceptor.port)
        theirs = acceptor.associations[0]
        async with asyncio.timeout(HANG_S):
            await asyncio.gather(ours.release(), theirs.release())
        assert [(await each.over()).why for each in (ours, theirs)] == [Ended.RELEASED] * 2


async def test_a_requestor_answers_a_crossing_release_first_and_then_waits_for_its_own_answer() -> None:
    async with without_a_fault(), requesting_in(State.STA11) as (peer, requesting):
        association = await requesting
        assert association.end is None
        await peer.send(pdu.ReleaseReply())
        assert await peer.until_end() == b""
        assert (await association.over()).why is Ended.RELEASED


async def test_an_acceptor_answers_a_crossing_release_only_when_its_own_is_answered() -> None:
    async with without_a_fault(), accepting_in(State.STA10) as (peer, acceptor):
        association = await acceptor.association
        await peer.send(pdu.ReleaseReply())
        assert await peer.hear_kind() == PduType.RELEASE_RP
        assert await peer.rest() == b""
        assert (await association.over()).why is Ended.RELEASED


@pytest.mark.parametrize("crossing", ["release", "data", "abort", "end", "reject"])
async def test_what_crosses_our_abort_is_not_answered(crossing: str) -> None:
    async with without_a_fault(), accepting_in(State.STA6) as (peer, acceptor):
        association = await acceptor.association
        association.abort("enough")
        await peer.send(HAPPENINGS[crossing].sent)
        assert await peer.hear() == (PduType.ABORT, bytes(4))
        assert await peer.rest() == b""
        assert (await association.over()).why is Ended.ABORTED_HERE
        assert acceptor.heard.empty()


async def test_an_abort_that_crosses_our_release_wins() -> None:
    async with without_a_fault(), called(LIMITS) as call:
        association = await call.established()
        releasing = asyncio.create_task(association.release())
        await call.peer.send(pdu.Abort(AbortSource.USER, 0))
        await releasing
        assert (await association.over()).why is Ended.ABORTED_BY_PEER
        assert await call.peer.until_end() in (b"", pdu.encode(pdu.ReleaseRequest()))


@pytest.mark.parametrize("with_reset", [False, True])
async def test_a_peer_that_is_gone_while_we_release_ends_it(with_reset: bool) -> None:
    async with without_a_fault(), called(LIMITS) as call:
        association = await call.established()
        releasing = asyncio.create_task(association.release())
        assert await call.peer.hear_kind() == PduType.RELEASE_RQ
        call.peer.hang_up(with_reset=with_reset)
        await releasing
        assert (await association.over()).why is Ended.CONNECTION_LOST
