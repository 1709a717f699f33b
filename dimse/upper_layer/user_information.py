"""The user information item of an association: everything but contexts and titles (PS3.7 D.3.3, PS3.8 D.1).

Maximum length, implementation, asynchronous window, roles, extended negotiation and user identity, as values and as
bytes. What they mean is negotiation's. Pure.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Roles:
    """Which roles the association's requestor may take for a SOP class: proposed, or accepted (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """What a service class lets both sides agree on, in its own bytes (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """Which service a SOP class belongs to, and what general SOP classes it can be taken for (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AsynchronousWindow:
    """How many operations may be outstanding each way; 0 is no limit (PS3.7 D.3.3.3)."""

    invoked: int
    performed: int


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who the peer says its user is (PS3.7 D.3.3.7): evidence, never believed by itself. Not shown in logs.

    `kind`: 1 user name, 2 user name and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON web token.
    """

    kind: int
    wants_response: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The sub-items. `pdu_bytes_max` is the longest P-DATA content that its sender takes; 0 is no limit."""

    pdu_bytes_max: int
    implementation_class_uid: str
    implementation_version: str = ""
    window: AsynchronousWindow | None = None
    roles: tuple[Roles, ...] = ()
    extended: tuple[ExtendedNegotiation, ...] = ()
    common_extended: tuple[CommonExtendedNegotiation, ...] = ()
    identity: UserIdentity | None = None
    identity_response: bytes | None = field(default=None, repr=False)
