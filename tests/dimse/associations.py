"""Every association that the standard allows, for hypothesis to draw from: requests, answers, and the small PDUs."""

from typing import TypeVar

from hypothesis import strategies as st

from dimse.upper_layer.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    AsynchronousWindow,
    CommonExtendedNegotiation,
    ContextAnswer,
    ContextResult,
    ExtendedNegotiation,
    Pdu,
    ProposedContext,
    ReleaseReply,
    ReleaseRequest,
    Roles,
    UserIdentity,
    UserInformation,
)

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\")
UIDS = st.one_of(
    st.sampled_from(["1.2.840.10008.1.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.2"]),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(lambda parts: ".".join(map(str, parts))),
    st.just("1." + "2" * 62),
)
AE_TITLES = st.text(PRINTABLE, min_size=1, max_size=16).map(lambda title: title.strip() or "TITLE")
CONTEXT_IDS = st.integers(0, 127).map(lambda number: 2 * number + 1)
BYTES = st.binary(max_size=20)
SOME_BYTES = st.binary(min_size=1, max_size=20)
_T = TypeVar("_T")


def _few(one: st.SearchStrategy[_T]) -> st.SearchStrategy[tuple[_T, ...]]:
    return st.lists(one, max_size=3).map(tuple)


# A user has a name: the oracle misreads an empty one.
USERS = st.builds(
    UserInformation,
    pdu_bytes_max=st.integers(0, 2**32 - 1),
    implementation_class_uid=UIDS,
    implementation_version=st.text(PRINTABLE, max_size=16).map(str.strip),
    window=st.none() | st.builds(AsynchronousWindow, st.integers(0, 65535), st.integers(0, 65535)),
    roles=_few(st.builds(Roles, UIDS, st.booleans(), st.booleans())),
    extended=_few(st.builds(ExtendedNegotiation, UIDS, BYTES)),
    common_extended=_few(st.builds(CommonExtendedNegotiation, UIDS, UIDS, _few(UIDS))),
    identity=st.none()
    | st.builds(UserIdentity, st.sampled_from([1, 3, 4, 5]), st.booleans(), SOME_BYTES)
    | st.builds(UserIdentity, st.just(2), st.booleans(), SOME_BYTES, BYTES),
)
REQUESTS = st.builds(
    AssociateRequest,
    AE_TITLES,
    AE_TITLES,
    st.lists(
        st.builds(ProposedContext, CONTEXT_IDS, UIDS, st.lists(UIDS, min_size=1, max_size=4).map(tuple)),
        min_size=1,
        max_size=5,
        unique_by=lambda context: context.context_id,
    ).map(tuple),
    USERS,
    application_context=UIDS,
    protocol_version=st.integers(0, 65535),
)
ACCEPTS = st.builds(
    AssociateAccept,
    AE_TITLES,
    AE_TITLES,
    st.lists(
        st.builds(ContextAnswer, CONTEXT_IDS, st.sampled_from(ContextResult), UIDS),
        min_size=1,
        max_size=5,
        unique_by=lambda context: context.context_id,
    ).map(tuple),
    st.builds(
        UserInformation,
        pdu_bytes_max=st.integers(0, 2**32 - 1),
        implementation_class_uid=UIDS,
        implementation_version=st.text(PRINTABLE, max_size=16).map(str.strip),
        roles=_few(st.builds(Roles, UIDS, st.booleans(), st.booleans())),
        extended=_few(st.builds(ExtendedNegotiation, UIDS, BYTES)),
        identity_response=st.none() | BYTES,
    ),
    application_context=UIDS,
    protocol_version=st.integers(0, 65535),
)
_BYTE = st.integers(0, 255)
PDUS: st.SearchStrategy[Pdu] = st.one_of(
    REQUESTS,
    ACCEPTS,
    st.builds(AssociateReject, _BYTE, _BYTE, _BYTE),
    st.just(ReleaseRequest()),
    st.just(ReleaseReply()),
    st.builds(Abort, _BYTE, _BYTE),
)
