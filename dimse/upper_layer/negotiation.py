"""Agree on an association's terms: contexts, transfer syntaxes, roles, extended negotiation (PS3.7 D.3, PS3.8 7.1).

The whole of it as functions from PDU to PDU, for both sides. Who the peer is, and whether there is room for it, is
asked elsewhere. Knows no service: what an acceptor takes is its offer. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from dimse.upper_layer.pdu import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    CONTEXTS_MAX,
    DICOM_APPLICATION_CONTEXT,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    AsynchronousWindow,
    ContextAnswer,
    ContextResult,
    ExtendedNegotiation,
    PduError,
    ProposedContext,
    Roles,
    UserIdentity,
    UserInformation,
)

# A UID made from a UUID belongs to whoever made it (PS3.5 B.2). It stands for this implementation in every version.
IMPLEMENTATION_CLASS_UID = "2.25.69878396489904178163600171755451916909"
IMPLEMENTATION_VERSION = "SHARING_GATEWAY"

# Every implementation can read the first, and the second is retired: both only where nothing else is proposed.
_LAST_RESORTS = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
_DEFAULT_ROLES = (True, False)
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context that both sides accepted. The roles are those of the association's requestor."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    is_scu: bool = True
    is_scp: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What an association stands on: accepted contexts by number, and what the peer said of itself.

    `peer_pdu_bytes_max`: the longest P-DATA content that may be sent to the peer; 0 is no limit. `extended`: as
    answered, by SOP class. `identity`: as the requestor claimed it.
    """

    calling_ae_title: str
    called_ae_title: str
    contexts: Mapping[int, Context]
    peer_pdu_bytes_max: int
    extended: Mapping[str, bytes]
    identity: UserIdentity | None
    peer_implementation: str

    @property
    def is_with_gateway(self) -> bool:
        """Whether the peer is a gateway as this one is, by its Implementation Class UID."""
        return self.peer_implementation.partition(" ")[0] == IMPLEMENTATION_CLASS_UID


@dataclass(frozen=True, slots=True)
class Offer:
    """What an acceptor takes.

    `syntaxes`: the transfer syntaxes of each abstract syntax, the preferred one first. `extended`: what we do of each
    SOP class's extended negotiation, a byte each. `scp_roles`: SOP classes of which the requestor may be SCP (C-GET);
    as SCU of them it knows best in which transfer syntax it has its objects, so that its order counts then.
    """

    ae_titles: frozenset[str]
    syntaxes: Mapping[str, tuple[str, ...]]
    extended: Mapping[str, bytes] = field(default_factory=lambda: _NOTHING)
    scp_roles: frozenset[str] = frozenset()
    pdu_bytes_max: int = 131_072
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version: str = IMPLEMENTATION_VERSION


def negotiate(request: AssociateRequest, offer: Offer) -> AssociateAccept | AssociateReject:
    """Answer a request with what the offer holds of it.

    Contexts are refused one by one; an acceptance may hold none that is accepted. The window is always 1/1, if asked.
    """
    if not request.protocol_version & PROTOCOL_VERSION:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != DICOM_APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    if request.called_ae_title not in offer.ae_titles:
        return CALLED_AE_TITLE_NOT_RECOGNISED
    if not request.calling_ae_title:
        return CALLING_AE_TITLE_NOT_RECOGNISED
    asked = request.user
    roles = {one.sop_class_uid: _accepted_roles(one, offer) for one in asked.roles}
    answers = tuple(_answer(context, roles.get(context.abstract_syntax), offer) for context in request.contexts)
    accepted = {
        context.abstract_syntax
        for context, answer in zip(request.contexts, answers, strict=True)
        if answer.result is ContextResult.ACCEPTED
    }
    extended = {one.sop_class_uid: one.information for one in asked.extended}
    user = UserInformation(
        pdu_bytes_max=offer.pdu_bytes_max,
        implementation_class_uid=offer.implementation_class_uid,
        implementation_version=offer.implementation_version,
        window=AsynchronousWindow(1, 1) if asked.window is not None else None,
        roles=tuple(one for uid, one in roles.items() if uid in accepted),
        extended=tuple(
            ExtendedNegotiation(uid, _both(information, offer.extended[uid]))
            for uid, information in extended.items()
            if uid in accepted and uid in offer.extended
        ),
        identity_response=b"" if asked.identity is not None and asked.identity.wants_response else None,
    )
    return AssociateAccept(request.called_ae_title, request.calling_ae_title, answers, user)


def propose(
    calling_ae_title: str,
    called_ae_title: str,
    contexts: Sequence[tuple[str, tuple[str, ...]]],
    *,
    pdu_bytes_max: int,
    roles: Sequence[Roles] = (),
    extended: Sequence[ExtendedNegotiation] = (),
    identity: UserIdentity | None = None,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
) -> AssociateRequest:
    """Ask for an association: abstract syntaxes, each with its transfer syntaxes, numbered 1, 3, 5 as they come.

    No window is asked for, which means 1/1. Raises ValueError for no context or more than 128: the caller chooses.
    """
    if not 1 <= len(contexts) <= CONTEXTS_MAX:
        raise ValueError(f"{len(contexts)} presentation contexts, 1 to {CONTEXTS_MAX} are expected")
    return AssociateRequest(
        called_ae_title,
        calling_ae_title,
        tuple(
            ProposedContext(2 * index + 1, abstract_syntax, transfer_syntaxes)
            for index, (abstract_syntax, transfer_syntaxes) in enumerate(contexts)
        ),
        UserInformation(
            pdu_bytes_max,
            implementation_class_uid,
            IMPLEMENTATION_VERSION,
            roles=tuple(roles),
            extended=tuple(extended),
            identity=identity,
        ),
    )


def agreed(request: AssociateRequest, accept: AssociateAccept, *, we_are_requestor: bool) -> Terms:
    """Say what a request and its acceptance amount to.

    What was not answered is refused, what was answered without being asked is not agreed: roles, extended negotiation.
    Raises PduError for an acceptance that answers contexts or transfer syntaxes that were never proposed.
    """
    proposed = {context.context_id: context for context in request.contexts}
    asked_roles = {one.sop_class_uid: one for one in request.user.roles}
    answered_roles = {one.sop_class_uid: one for one in accept.user.roles}
    contexts: dict[int, Context] = {}
    for answer in accept.contexts:
        context = proposed.get(answer.context_id)
        if context is None:
            raise PduError("a presentation context is answered that was never proposed")
        if answer.result is not ContextResult.ACCEPTED:
            continue
        if answer.transfer_syntax not in context.transfer_syntaxes:
            raise PduError("a transfer syntax is accepted that was never proposed")
        uid = context.abstract_syntax
        is_scu, is_scp = _agreed_roles(asked_roles.get(uid), answered_roles.get(uid))
        if is_scu or is_scp:
            contexts[answer.context_id] = Context(answer.context_id, uid, answer.transfer_syntax, is_scu, is_scp)
    asked_extended = {one.sop_class_uid for one in request.user.extended}
    peer = accept.user if we_are_requestor else request.user
    return Terms(
        calling_ae_title=request.calling_ae_title,
        called_ae_title=request.called_ae_title,
        contexts=MappingProxyType(contexts),
        peer_pdu_bytes_max=peer.pdu_bytes_max,
        extended=MappingProxyType(
            {one.sop_class_uid: one.information for one in accept.user.extended if one.sop_class_uid in asked_extended}
        ),
        identity=request.user.identity,
        peer_implementation=f"{peer.implementation_class_uid} {peer.implementation_version}".strip(),
    )


def _accepted_roles(asked: Roles, offer: Offer) -> Roles:
    """Never more than is asked: the requestor as SCU always, as SCP where the offer has it (PS3.7 D.3.3.4)."""
    return Roles(asked.sop_class_uid, asked.scu, asked.scp and asked.sop_class_uid in offer.scp_roles)


def _answer(context: ProposedContext, roles: Roles | None, offer: Offer) -> ContextAnswer:
    taken = offer.syntaxes.get(context.abstract_syntax)
    if taken is None:
        return _refusal(context, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    is_sender = context.abstract_syntax in offer.scp_roles and not (roles is not None and roles.scp)
    chosen = _chosen_syntax(context.transfer_syntaxes, taken, is_sender=is_sender)
    if chosen is None:
        return _refusal(context, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    if roles is not None and not (roles.scu or roles.scp):
        return _refusal(context, ContextResult.USER_REJECTION)
    return ContextAnswer(context.context_id, ContextResult.ACCEPTED, chosen)


def _refusal(context: ProposedContext, result: ContextResult) -> ContextAnswer:
    """Refuse a context. A transfer syntax must stand there and means nothing: peers expect one of their own."""
    return ContextAnswer(context.context_id, result, context.transfer_syntaxes[0])


def _chosen_syntax(proposed: Sequence[str], taken: Sequence[str], *, is_sender: bool) -> str | None:
    """Choose what we prefer; else in the proposer's order, which often names first how an object is stored."""
    if taken and taken[0] in proposed and not is_sender:
        return taken[0]
    candidates = [uid for uid in proposed if uid in taken]
    better = [uid for uid in candidates if uid not in _LAST_RESORTS]
    if better:
        return better[0]
    return next((uid for uid in _LAST_RESORTS if uid in candidates), None)


def _both(asked: bytes, ours: bytes) -> bytes:
    """Answer byte by byte, as many as are asked: what either side leaves out is 0 (PS3.4 C.5.1.1)."""
    return bytes(one & other for one, other in zip(asked, ours.ljust(len(asked), b"\0"), strict=False))


def _agreed_roles(asked: Roles | None, answered: Roles | None) -> tuple[bool, bool]:
    """Say whether the requestor is SCU, and SCP. Without proposal or without answer the default roles hold."""
    if asked is None or answered is None:
        return _DEFAULT_ROLES
    return asked.scu and answered.scu, asked.scp and answered.scp
