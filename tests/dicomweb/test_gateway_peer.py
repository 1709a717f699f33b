"""Another gateway as a peer: for whom it is asked, and what is made of what it says (DEC-01)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.connector import DicomwebPeer, DicomwebPeerProfile, correlation_of
from dicomweb.gateway_peer import FIELD_CHARS_MAX, failure_of, read_sources, speaks_of_more
from dicomweb.notices import headers, sources_field
from dicomweb.problem import problem_of
from gateway.model import errors
from gateway.model.imaging import Matches, NotAskedReason, Source, SourceState
from gateway.model.seams import PeerAnswer, PeerRequest
from gateway.model.settings import Limits
from policy.parties import PurposeOfUse, TrustId
from tests.clock import NOON
from tests.dicomweb.asking import ANNES_STUDIES, answering, http
from tests.dicomweb.small_region import Shelf, serving, source, study

RJ1, RYJ = TrustId("RJ1"), TrustId("RYJ")
REQUEST = PeerRequest(ANNES_STUDIES, "request-1", 1, 100, TrustId("RZ1"), PurposeOfUse.ETREAT)
SOURCES = b'Gateway-Sources: RJ1;state=answered;phone="020 7946 0000"\r\n'


async def asked(url: str, request: PeerRequest = REQUEST) -> PeerAnswer:
    connector = DicomwebPeer(DicomwebPeerProfile(RJ1, url, is_gateway=True), Limits(), None)
    try:
        return await connector.find(request)
    finally:
        await connector.close()


async def answer_of(*sources: Source) -> PeerAnswer:
    """What the connector makes of a gateway that says this of its trusts."""
    shelf = Shelf([study(1)], sources=sources)
    async with serving(shelf) as url:
        found = await asked(url)
    assert shelf.caller.hops == 1 and shelf.caller.purpose is PurposeOfUse.ETREAT
    return found


# --- what it says of the trust ---


async def test_an_answer_of_a_gateway_is_an_answer_of_the_trust() -> None:
    answer = await answer_of(source(SourceState.ANSWERED, code="RJ1"))
    assert len(answer.rows) == 1 and not answer.is_truncated
    assert answer.told is not None and answer.told.shared_modalities is None and not answer.told.has_identity_conflict


async def test_what_its_agreement_covers_is_coverage_and_no_gap() -> None:
    answer = await answer_of(source(code="RJ1", shared=("CR", "CT")))
    assert (
        answer.told is not None and answer.told.shared_modalities == frozenset({"CR", "CT"}) and not answer.is_truncated
    )
    answer = await answer_of(source(SourceState.NOT_SHARED, code="RJ1"))
    assert answer.told is not None and answer.told.shared_modalities == frozenset() and not answer.is_truncated


async def test_its_notice_of_a_conflict_is_not_lost_and_no_gap() -> None:
    answer = await answer_of(source(code="RJ1", conflict=True))
    assert answer.told is not None and answer.told.has_identity_conflict and not answer.is_truncated


async def test_what_another_gateway_holds_for_an_archive_is_no_cut_answer() -> None:
    answer = await answer_of(replace(source(code="RJ1"), is_held_here=True, checked_at=NOON))
    assert len(answer.rows) == 1 and not answer.is_truncated


@pytest.mark.parametrize("state", [state for state in SourceState if state.is_missing])
async def test_a_gap_there_is_a_gap_here(state: SourceState) -> None:
    assert (await answer_of(source(state, code="RJ1"))).is_truncated


async def test_an_answer_that_was_cut_there_is_cut_here() -> None:
    extra = SOURCES + b"Warning: 299 https://gateway.example/dicom-web: The answer was cut at 5 results: ask again\r\n"
    async with answering(http(extra=extra)) as url:
        assert (await asked(url)).is_truncated


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"Gateway-Sources: \r\n",
        b"Gateway-Sources: RYJ;state=answered\r\n",
        b"Gateway-Sources: RJ1\r\n",
        b"Gateway-Sources: RJ1;state=splendid\r\n",
        b"Gateway-Sources: RJ1;state=answered, RJ1;state=answered\r\n",
        b"Gateway-Sources: RJ1;state=answered\r\nGateway-Sources: RJ1;state=timed-out\r\n",
        b'Gateway-Sources: RJ1;state=answered;only=""\r\n',
        b'Gateway-Sources: RJ1;state=answered;only="<b>CT"\r\n',
        b'Gateway-Sources: RJ1;state=answered;phone="\r\n',
        b"Gateway-Sources: RJ1;state=answered RYJ\r\n",
    ],
)
async def test_who_does_not_say_what_became_of_the_trust_is_not_believed(field: bytes) -> None:
    async with answering(http(extra=field)) as url:
        with pytest.raises(errors.PeerProtocolError):
            await asked(url)


def test_a_field_longer_than_any_is_not_read() -> None:
    with pytest.raises(errors.PeerProtocolError):
        read_sources(["RJ1;state=answered"] * (FIELD_CHARS_MAX // 18), RJ1)


@given(
    st.sampled_from(SourceState),
    st.none() | st.sets(st.sampled_from(["CT", "MR", "CR", "US"]), min_size=1).map(lambda each: tuple(sorted(each))),
    st.booleans(),
    st.none() | st.sampled_from(NotAskedReason),
    st.text(max_size=30),
    st.lists(st.sampled_from(["RYJ", "7A1", "RZ9"]), unique=True),
)
def test_what_one_gateway_writes_the_other_reads(
    state: SourceState,
    only: tuple[str, ...] | None,
    conflict: bool,
    reason: NotAskedReason | None,
    phone: str,
    others: Sequence[str],
) -> None:
    for code in ("RJ1", "7RJ"):
        wanted = Source(TrustId(code), "St Elsewhere", state, phone, only, conflict, reason)
        sources = [wanted, *(replace(wanted, trust=TrustId(other)) for other in others)]
        said = read_sources([sources_field(sources)], TrustId(code))
        assert said.state is state and said.told.has_identity_conflict is conflict
        shared = frozenset[str]() if state is SourceState.NOT_SHARED else None if only is None else frozenset(only)
        assert said.told.shared_modalities == shared


@given(st.text(alphabet='RJ1;=state-answered" \\,phone', max_size=80))
def test_any_field_is_read_or_not_believed(text: str) -> None:
    with contextlib.suppress(errors.PeerProtocolError):
        assert read_sources([text], RJ1).state in SourceState


def test_only_warnings_of_trusts_are_told_by_the_field_alone() -> None:
    part = Source(RYJ, "Otherham", SourceState.TIMED_OUT, "020 7946 0001", ("CT",), True)
    matches = Matches((), (part,), remaining=2, truncated_at=7)
    texts = [value for name, value in headers(matches, service="https://g.example") if name == "Warning"]
    assert ["additional" in text or "was cut" in text for text in texts] == [speaks_of_more(text) for text in texts]


# --- what it refuses ---


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (errors.PeerTimeout(RJ1, "x"), errors.PeerTimeout),
        (errors.PeerUnavailable(RJ1, "x"), errors.PeerUnavailable),
        (errors.PeerRefused(RJ1, "x"), errors.PeerRefused),
        (errors.PeerProtocolError(RJ1, "x"), errors.PeerProtocolError),
        (errors.RegisterUnavailable("x"), errors.PeerUnavailable),
        (errors.AuditUnavailable("x"), errors.PeerUnavailable),
        (errors.OverCapacity("x"), errors.PeerUnavailable),
        (errors.InvalidRequest("x"), errors.PeerRefused),
        (errors.NotIdentified("x"), errors.PeerRefused),
    ],
)
async def test_a_refusal_there_has_its_own_state_here(error: errors.GatewayError, seen: type[errors.PeerError]) -> None:
    shelf = Shelf()
    shelf.error = error
    async with serving(shelf) as url:
        with pytest.raises(seen):
            await asked(url)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":7}', b"<html>", b'{"type":"urn:else"}', b"\xff"])
def test_a_failure_without_known_words_is_as_if_nobody_were_reached(body: bytes) -> None:
    assert type(failure_of(body, RJ1, 503)) is errors.PeerUnavailable


def test_a_problem_of_ours_is_read_as_what_it_is() -> None:
    body = problem_of(errors.PeerTimeout(RJ1, "x"), "request").body
    assert type(failure_of(body, RJ1, 504)) is errors.PeerTimeout


# --- for whom it is asked ---


async def test_a_question_that_nobody_asks_is_not_put_to_another_gateway() -> None:
    async with serving(Shelf([study(1)])) as url:
        with pytest.raises(errors.PeerRefused, match="never for this gateway itself"):
            await asked(url, replace(REQUEST, asking_trust=None))


def test_an_id_that_the_other_side_would_not_take_is_cut_to_our_own() -> None:
    assert correlation_of("viewer/ours") == "viewer/ours"
    assert correlation_of("v" * 100 + "/ours") == "ours"
