"""Negotiate associations as both sides, with pynetdicom as the judge of contexts and roles (PS3.7 D.3, PS3.8 7.1)."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor, negotiate_as_requestor

from dimse.sop_classes import STORAGE, TRANSFER_SYNTAXES
from dimse.upper_layer.negotiation import Context, Offer, Terms, agreed, negotiate, propose
from dimse.upper_layer.pdu import (
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    AsynchronousWindow,
    ContextAnswer,
    ContextResult,
    ExtendedNegotiation,
    PduError,
    PduType,
    ProposedContext,
    Roles,
    UserIdentity,
    UserInformation,
    decode,
    encode,
)

VERIFICATION, STUDY_ROOT_FIND, CT, MR = (
    "1.2.840.10008.1.1",
    "1.2.840.10008.5.1.4.1.2.2.1",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
)
IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG, JPEG_2000 = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
)
ALL = (EXPLICIT, JPEG, JPEG_2000, IMPLICIT, BIG_ENDIAN)
OFFER = Offer(
    frozenset({"GATEWAY", "GATEWAY2"}),
    {VERIFICATION: (EXPLICIT, IMPLICIT), STUDY_ROOT_FIND: (EXPLICIT, IMPLICIT, BIG_ENDIAN), CT: ALL},
    extended={STUDY_ROOT_FIND: b"\1\1\0\0\0"},
    scp_roles=frozenset({CT}),
)


def request_for(
    *contexts: tuple[str, tuple[str, ...]], called: str = "GATEWAY", user: UserInformation | None = None
) -> AssociateRequest:
    request = propose("CT1", called, contexts or ((VERIFICATION, (IMPLICIT,)),), pdu_bytes_max=16_384)
    return request if user is None else replace(request, user=user)


def accepted(request: AssociateRequest, offer: Offer = OFFER) -> AssociateAccept:
    answer = negotiate(request, offer)
    assert isinstance(answer, AssociateAccept)
    return answer


def terms_of(request: AssociateRequest, offer: Offer = OFFER, *, we_are_requestor: bool = False) -> Terms:
    return agreed(request, accepted(request, offer), we_are_requestor=we_are_requestor)


def user(**facts: object) -> UserInformation:
    return replace(UserInformation(16_384, "1.2.3", "SCANNER 7"), **facts)  # type: ignore[arg-type]  # one per test


# Rejections


@pytest.mark.parametrize(
    ("request_", "triple"),
    [
        (request_for(called="ELSEWHERE"), (1, 1, 7)),
        (request_for(called="gateway"), (1, 1, 7)),
        (request_for(called=""), (1, 1, 7)),
        (replace(request_for(), calling_ae_title=""), (1, 1, 3)),
        (replace(request_for(), application_context="1.2.3"), (1, 1, 2)),
        (replace(request_for(), protocol_version=2), (1, 2, 2)),
        (replace(request_for(), protocol_version=0), (1, 2, 2)),
    ],
)
def test_a_request_that_cannot_be_met_is_rejected_with_its_reason(
    request_: AssociateRequest, triple: tuple[int, int, int]
) -> None:
    assert negotiate(request_, OFFER) == AssociateReject(*triple)


def test_a_later_version_that_still_speaks_the_first_is_accepted() -> None:
    assert accepted(replace(request_for(), protocol_version=3)).protocol_version == 1


def test_each_title_of_ours_is_answered_by_its_name() -> None:
    answer = accepted(request_for(called="GATEWAY2"))
    assert (answer.called_ae_title, answer.calling_ae_title) == ("GATEWAY2", "CT1")


# Contexts


def test_contexts_are_refused_one_by_one() -> None:
    answer = accepted(request_for((CT, (JPEG,)), (MR, (IMPLICIT,)), (VERIFICATION, (JPEG,)), (CT, (IMPLICIT,))))
    assert [(one.context_id, one.result.name) for one in answer.contexts] == [
        (1, "ACCEPTED"),
        (3, "ABSTRACT_SYNTAX_NOT_SUPPORTED"),
        (5, "TRANSFER_SYNTAXES_NOT_SUPPORTED"),
        (7, "ACCEPTED"),
    ]


def test_an_association_without_any_accepted_context_is_an_association() -> None:
    assert terms_of(request_for((MR, (IMPLICIT,)))).contexts == {}


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((JPEG, EXPLICIT), EXPLICIT),
        ((JPEG_2000, JPEG, IMPLICIT), JPEG_2000),
        ((JPEG, JPEG_2000, IMPLICIT), JPEG),
        ((IMPLICIT, JPEG), JPEG),
        ((BIG_ENDIAN, IMPLICIT), IMPLICIT),
        ((BIG_ENDIAN, JPEG), JPEG),
        ((BIG_ENDIAN,), BIG_ENDIAN),
        ((IMPLICIT,), IMPLICIT),
        (("1.2.3", JPEG), JPEG),
    ],
)
def test_the_transfer_syntax_is_the_preferred_then_the_proposers_then_a_last_resort(
    proposed: tuple[str, ...], chosen: str
) -> None:
    (answer,) = accepted(request_for((CT, proposed), user=user(roles=(Roles(CT, False, True),)))).contexts
    assert answer.transfer_syntax == chosen


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [((JPEG, EXPLICIT), JPEG), ((EXPLICIT, JPEG), EXPLICIT), ((IMPLICIT, EXPLICIT), EXPLICIT), ((IMPLICIT,), IMPLICIT)],
)
def test_who_sends_images_chooses_the_transfer_syntax_of_theirs(proposed: tuple[str, ...], chosen: str) -> None:
    (answer,) = accepted(request_for((CT, proposed))).contexts
    assert answer.transfer_syntax == chosen


def test_implicit_is_not_taken_where_it_is_not_offered() -> None:
    (answer,) = accepted(request_for((CT, (IMPLICIT,))), replace(OFFER, syntaxes={CT: (EXPLICIT,)})).contexts
    assert answer.result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


# Roles


@pytest.mark.parametrize(
    ("sop_class", "asked", "answered"),
    [
        (CT, (True, True), (True, True)),
        (CT, (False, True), (False, True)),
        (CT, (True, False), (True, False)),
        (STUDY_ROOT_FIND, (True, True), (True, False)),
    ],
)
def test_roles_are_answered_with_what_both_sides_want(
    sop_class: str, asked: tuple[bool, bool], answered: tuple[bool, bool]
) -> None:
    request = request_for((sop_class, (IMPLICIT,)), user=user(roles=(Roles(sop_class, *asked),)))
    assert accepted(request).user.roles == (Roles(sop_class, *answered),)
    (context,) = terms_of(request).contexts.values()
    assert (context.is_scu, context.is_scp) == answered


@pytest.mark.parametrize(("sop_class", "asked"), [(STUDY_ROOT_FIND, (False, True)), (CT, (False, False))])
def test_a_context_without_any_role_left_is_refused(sop_class: str, asked: tuple[bool, bool]) -> None:
    request = request_for(
        (sop_class, (IMPLICIT,)), (VERIFICATION, (IMPLICIT,)), user=user(roles=(Roles(sop_class, *asked),))
    )
    answer = accepted(request)
    assert [one.result for one in answer.contexts] == [ContextResult.USER_REJECTION, ContextResult.ACCEPTED]
    assert answer.user.roles == ()


def test_without_a_word_of_roles_the_requestor_is_scu() -> None:
    (context,) = terms_of(request_for((CT, (IMPLICIT,)))).contexts.values()
    assert context == Context(1, CT, IMPLICIT, is_scu=True, is_scp=False)


def test_roles_that_a_peer_leaves_unanswered_are_the_default() -> None:
    request = request_for((CT, (IMPLICIT,)), user=user(roles=(Roles(CT, False, True),)))
    answer = AssociateAccept("GATEWAY", "CT1", (ContextAnswer(1, ContextResult.ACCEPTED, IMPLICIT),), user())
    (context,) = agreed(request, answer, we_are_requestor=True).contexts.values()
    assert (context.is_scu, context.is_scp) == (True, False)


def test_roles_that_nobody_asked_for_are_not_agreed() -> None:
    answer = AssociateAccept(
        "GATEWAY",
        "CT1",
        (ContextAnswer(1, ContextResult.ACCEPTED, IMPLICIT),),
        user(roles=(Roles(CT, False, True),), extended=(ExtendedNegotiation(CT, b"\1"),)),
    )
    terms = agreed(request_for((CT, (IMPLICIT,))), answer, we_are_requestor=True)
    assert terms.contexts == {1: Context(1, CT, IMPLICIT)} and terms.extended == {}


# What else user information says


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (b"\1\1\1\1\1", b"\1\1\0\0\0"),
        (b"\0\1\0\0\0", b"\0\1\0\0\0"),
        (b"\1", b"\1"),
        (b"\1\1\1\1\1\1\1", b"\1\1\0\0\0\0\0"),
        (b"\xff\2\0", b"\1\0\0"),
        (b"", b""),
    ],
)
def test_extended_negotiation_is_answered_byte_by_byte(asked: bytes, answered: bytes) -> None:
    request = request_for(
        (STUDY_ROOT_FIND, (IMPLICIT,)), user=user(extended=(ExtendedNegotiation(STUDY_ROOT_FIND, asked),))
    )
    assert terms_of(request).extended == {STUDY_ROOT_FIND: answered}


def test_extended_negotiation_is_not_answered_where_nothing_is_offered() -> None:
    asked = (ExtendedNegotiation(CT, b"\1"), ExtendedNegotiation(STUDY_ROOT_FIND, b"\1"))
    assert terms_of(request_for((CT, (IMPLICIT,)), user=user(extended=asked))).extended == {}


def test_without_extended_negotiation_nothing_is_agreed() -> None:
    assert terms_of(request_for((STUDY_ROOT_FIND, (IMPLICIT,)))).extended == {}


@pytest.mark.parametrize("window", [AsynchronousWindow(0, 0), AsynchronousWindow(1, 1), AsynchronousWindow(50, 50)])
def test_whatever_window_is_asked_one_operation_at_a_time_is_answered(window: AsynchronousWindow) -> None:
    assert accepted(request_for(user=user(window=window))).user.window == AsynchronousWindow(1, 1)


def test_a_window_that_is_not_asked_is_not_answered() -> None:
    assert accepted(request_for()).user.window is None


@pytest.mark.parametrize(("kind", "wants_response"), [(1, True), (2, True), (5, True), (1, False), (5, False)])
def test_an_identity_is_kept_as_evidence_and_answered_if_asked(kind: int, wants_response: bool) -> None:
    identity = UserIdentity(kind, wants_response, b"anne")
    request = request_for(user=user(identity=identity))
    assert accepted(request).user.identity_response == (b"" if wants_response else None)
    assert terms_of(request).identity == identity


@pytest.mark.parametrize("pdu_bytes_max", [0, 1, 16_384, 2**32 - 1])
def test_each_side_keeps_the_others_limit(pdu_bytes_max: int) -> None:
    request = request_for(user=user(pdu_bytes_max=pdu_bytes_max))
    assert terms_of(request).peer_pdu_bytes_max == pdu_bytes_max
    assert terms_of(request, we_are_requestor=True).peer_pdu_bytes_max == OFFER.pdu_bytes_max == 131_072


def test_each_side_knows_what_the_other_is() -> None:
    request = request_for(user=user())
    assert terms_of(request).peer_implementation == "1.2.3 SCANNER 7"
    offer = replace(OFFER, implementation_class_uid="1.2.4", implementation_version="")
    assert terms_of(request, offer, we_are_requestor=True).peer_implementation == "1.2.4"


# Requestor


def test_contexts_are_numbered_as_they_come() -> None:
    request = request_for((CT, (IMPLICIT,)), (MR, (EXPLICIT, IMPLICIT)), (CT, (JPEG,)))
    assert request.contexts == (
        ProposedContext(1, CT, (IMPLICIT,)),
        ProposedContext(3, MR, (EXPLICIT, IMPLICIT)),
        ProposedContext(5, CT, (JPEG,)),
    )


def test_there_are_128_numbers_and_no_more() -> None:
    contexts = [(uid, (IMPLICIT,)) for uid in sorted(STORAGE)]
    request = propose("US", "THEM", contexts[:128], pdu_bytes_max=0)
    assert request.contexts[-1].context_id == 255
    for wrong in (contexts[:129], []):
        with pytest.raises(ValueError):
            propose("US", "THEM", wrong, pdu_bytes_max=0)


def test_what_we_propose_says_who_we_are_and_what_we_want() -> None:
    identity = UserIdentity(1, True, b"gateway")
    request = propose(
        "US",
        "THEM",
        [(CT, (IMPLICIT,))],
        pdu_bytes_max=5,
        roles=[Roles(CT, False, True)],
        extended=[ExtendedNegotiation(CT, b"\1")],
        identity=identity,
    )
    assert (request.calling_ae_title, request.called_ae_title) == ("US", "THEM")
    assert request.user.pdu_bytes_max == 5 and request.user.identity == identity
    assert request.user.roles == (Roles(CT, False, True),)
    assert request.user.extended == (ExtendedNegotiation(CT, b"\1"),)
    assert decode(PduType.ASSOCIATE_RQ, encode(request)[6:]) == request


@pytest.mark.parametrize(
    "answer",
    [
        ContextAnswer(3, ContextResult.ACCEPTED, IMPLICIT),
        ContextAnswer(3, ContextResult.USER_REJECTION, IMPLICIT),
        ContextAnswer(1, ContextResult.ACCEPTED, EXPLICIT),
        ContextAnswer(1, ContextResult.ACCEPTED, ""),
    ],
)
def test_an_acceptance_of_what_was_never_proposed_is_an_error(answer: ContextAnswer) -> None:
    accept = AssociateAccept("GATEWAY", "CT1", (answer,), user())
    with pytest.raises(PduError):
        agreed(request_for((CT, (IMPLICIT,))), accept, we_are_requestor=True)


def test_a_context_that_a_peer_leaves_unanswered_is_refused() -> None:
    accept = AssociateAccept("GATEWAY", "CT1", (ContextAnswer(3, ContextResult.ACCEPTED, IMPLICIT),), user())
    terms = agreed(request_for((CT, (IMPLICIT,)), (MR, (IMPLICIT,))), accept, we_are_requestor=True)
    assert list(terms.contexts) == [3]


# Against the other implementation

SYNTAXES = st.lists(st.sampled_from([*ALL, "1.2.3"]), min_size=1, max_size=4, unique=True).map(tuple)
CLASSES = [VERIFICATION, STUDY_ROOT_FIND, CT, MR]
ROLES = st.dictionaries(st.sampled_from(CLASSES), st.tuples(st.booleans(), st.booleans()))
OFFERS = st.builds(
    Offer,
    st.just(frozenset({"GATEWAY"})),
    st.dictionaries(st.sampled_from(CLASSES), SYNTAXES),
    scp_roles=st.frozensets(st.sampled_from(CLASSES)),
)


@st.composite
def requests(draw: st.DrawFn) -> AssociateRequest:
    contexts = draw(st.lists(st.tuples(st.sampled_from(CLASSES), SYNTAXES), min_size=1, max_size=6))
    roles = tuple(Roles(uid, *both) for uid, both in draw(ROLES).items())
    return propose("CT1", "GATEWAY", contexts, pdu_bytes_max=0, roles=roles)


def _theirs(contexts: Mapping[int, tuple[str, tuple[str, ...]]]) -> list[PresentationContext]:
    built = []
    for context_id, (abstract_syntax, transfer_syntaxes) in contexts.items():
        context = PresentationContext()
        context.context_id = context_id
        context.abstract_syntax = abstract_syntax
        context.transfer_syntax = list(transfer_syntaxes)
        built.append(context)
    return built


def _proposed_by_them(request: AssociateRequest) -> list[PresentationContext]:
    built = _theirs({one.context_id: (one.abstract_syntax, one.transfer_syntaxes) for one in request.contexts})
    asked = {one.sop_class_uid: one for one in request.user.roles}
    for context in built:
        roles = asked.get(str(context.abstract_syntax))
        if roles is not None:
            context.scu_role, context.scp_role = roles.scu, roles.scp
    return built


@given(requests(), OFFERS)
def test_contexts_and_roles_are_accepted_as_the_other_implementation_does(
    request: AssociateRequest, offer: Offer
) -> None:
    supported = _theirs({2 * index + 1: pair for index, pair in enumerate(offer.syntaxes.items())})
    for context in supported:
        context.scu_role, context.scp_role = True, str(context.abstract_syntax) in offer.scp_roles
    asked = {one.sop_class_uid: (one.scu, one.scp) for one in request.user.roles}
    results, roles = negotiate_as_acceptor(_proposed_by_them(request), supported, asked)  # type: ignore[arg-type]  # str

    answer = accepted(request, offer)
    assert [(one.context_id, one.result) for one in answer.contexts] == [
        (context.context_id, context.result) for context in results
    ]
    assert {one.sop_class_uid: (one.scu, one.scp) for one in answer.user.roles} == {
        str(one.sop_class_uid): (one.scu_role, one.scp_role) for one in roles
    }
    assert {number: (one.is_scu, one.is_scp) for number, one in terms_of(request, offer).contexts.items()} == {
        context.context_id: (context.as_scp, context.as_scu) for context in results if context.result == 0
    }


@given(requests(), OFFERS, ROLES)
def test_an_acceptance_means_what_it_means_to_the_other_implementation(
    request: AssociateRequest, offer: Offer, answered: dict[str, tuple[bool, bool]]
) -> None:
    answer = accepted(request, offer)
    answer = replace(
        answer, user=replace(answer.user, roles=tuple(Roles(uid, *both) for uid, both in answered.items()))
    )
    asked = {one.sop_class_uid for one in request.user.roles}
    ours = agreed(request, answer, we_are_requestor=True).contexts

    accepted_by_us = _theirs(
        {one.context_id: ("1.2", (one.transfer_syntax,)) for one in answer.contexts}  # an answer names no class
    )
    for context, one in zip(accepted_by_us, answer.contexts, strict=True):
        context.result = one.result
    roles = {uid: both for uid, both in answered.items() if uid in asked}
    theirs = negotiate_as_requestor(_proposed_by_them(request), accepted_by_us, roles)  # type: ignore[arg-type]  # str
    assert {number: (one.is_scu, one.is_scp, one.transfer_syntax) for number, one in ours.items()} == {
        context.context_id: (context.as_scu, context.as_scp, str(context.transfer_syntax[0]))
        for context in theirs
        if context.result == 0 and (context.as_scu or context.as_scp)
    }


@given(requests(), OFFERS)
def test_what_is_chosen_was_proposed_and_offered_and_is_the_best_of_both(
    request: AssociateRequest, offer: Offer
) -> None:
    for proposed, answer in zip(request.contexts, accepted(request, offer).contexts, strict=True):
        if answer.result is not ContextResult.ACCEPTED:
            continue
        taken = offer.syntaxes[proposed.abstract_syntax]
        both = [uid for uid in proposed.transfer_syntaxes if uid in taken]
        assert answer.transfer_syntax in both
        if answer.transfer_syntax in (IMPLICIT, BIG_ENDIAN) and answer.transfer_syntax != taken[0]:
            assert set(both) <= {IMPLICIT, BIG_ENDIAN}


@given(requests(), OFFERS)
def test_both_sides_agree_on_the_same_after_the_wire(request: AssociateRequest, offer: Offer) -> None:
    read_request = decode(PduType.ASSOCIATE_RQ, encode(request)[6:])
    assert isinstance(read_request, AssociateRequest)
    answer = accepted(read_request, offer)
    read_answer = decode(PduType.ASSOCIATE_AC, encode(answer)[6:])
    assert isinstance(read_answer, AssociateAccept)
    at_acceptor = agreed(read_request, answer, we_are_requestor=False)
    at_requestor = agreed(request, read_answer, we_are_requestor=True)
    assert at_acceptor.contexts == at_requestor.contexts and at_acceptor.extended == at_requestor.extended


def test_everything_that_is_stored_can_be_offered_at_once() -> None:
    offer = replace(OFFER, syntaxes=dict.fromkeys(STORAGE, TRANSFER_SYNTAXES))
    contexts = [(uid, TRANSFER_SYNTAXES) for uid in sorted(STORAGE)[:128]]
    request = propose("CT1", "GATEWAY", contexts, pdu_bytes_max=0)
    terms = terms_of(request, offer)
    assert len(terms.contexts) == 128 and {one.transfer_syntax for one in terms.contexts.values()} == {EXPLICIT}
