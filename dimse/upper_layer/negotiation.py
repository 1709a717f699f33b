"""Agree on an association's terms: contexts, transfer syntaxes, roles, extended negotiation (PS3.7 D.3, PS3.8 7.1).

The whole of it as functions from PDU to PDU, for both sides. Who the peer is, and whether there is room for it, is
asked elsewhere. Knows no service: what an acceptor takes is its offer. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dimse.upper_layer.pdu import UserIdentity

# A UID made from a UUID belongs to whoever made it (PS3.5 B.2). It stands for this implementation in every version.
IMPLEMENTATION_CLASS_UID = "2.25.69878396489904178163600171755451916909"
IMPLEMENTATION_VERSION = "SHARING_GATEWAY"

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


@dataclass(frozen=True, slots=True)
class Offer:
    """What an acceptor takes.

    `syntaxes`: the transfer syntaxes of each abstract syntax, the preferred one first. `extended`: what we do of each
    SOP class's extended negotiation, a byte each. `scp_roles`: SOP classes of which the requestor may be SCP (C-GET).
    """

    ae_titles: frozenset[str]
    syntaxes: Mapping[str, tuple[str, ...]]
    extended: Mapping[str, bytes] = field(default_factory=lambda: _NOTHING)
    scp_roles: frozenset[str] = frozenset()
    pdu_bytes_max: int = 131_072
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version: str = IMPLEMENTATION_VERSION
