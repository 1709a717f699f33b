"""The user information item of an association: everything but contexts and titles (PS3.7 D.3.3, PS3.8 D.1).

Maximum length, implementation, asynchronous window, roles, extended negotiation and user identity, as values and as
bytes. What they mean is negotiation's. Pure.
"""

from dataclasses import dataclass, field
from struct import Struct

from dimse.upper_layer.items import PduError, decode_text, decode_uid, encode_text, encode_uid, item, items

# The standard allows 16 (PS3.7 D.3.3.2.3); real peers write product names, and nothing hangs on it.
VERSION_BYTES_MAX = 64
_U16 = Struct(">H")
_U32 = Struct(">I")
_WINDOW = Struct(">HH")

_MAXIMUM_LENGTH = 0x51
_IMPLEMENTATION_CLASS_UID = 0x52
_ASYNCHRONOUS_WINDOW = 0x53
_ROLES = 0x54
_IMPLEMENTATION_VERSION = 0x55
_EXTENDED = 0x56
_COMMON_EXTENDED = 0x57
_IDENTITY = 0x58
_IDENTITY_RESPONSE = 0x59
_AT_MOST_ONCE = frozenset(
    {
        _MAXIMUM_LENGTH,
        _IMPLEMENTATION_CLASS_UID,
        _ASYNCHRONOUS_WINDOW,
        _IMPLEMENTATION_VERSION,
        _IDENTITY,
        _IDENTITY_RESPONSE,
    }
)


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


def decode_user_information(body: bytes, start: int, end: int) -> UserInformation:
    """Read the content of the item. What it does not say of lengths is no limit. Raises PduError."""
    once: dict[int, bytes] = {}
    roles: list[Roles] = []
    extended: list[ExtendedNegotiation] = []
    common: list[CommonExtendedNegotiation] = []
    for item_type, first, last in items(body, start, end):
        content = body[first:last]
        if item_type in _AT_MOST_ONCE:
            if item_type in once:
                raise PduError("user information says the same thing twice")
            once[item_type] = content
        elif item_type == _ROLES:
            roles.append(_decode_roles(content))
        elif item_type == _EXTENDED:
            uid, at = _counted(content, 0)
            extended.append(ExtendedNegotiation(decode_uid(uid), content[at:]))
        elif item_type == _COMMON_EXTENDED:
            # The second byte, reserved in every other item, is the version here: a later one may say more at the end.
            common.append(_decode_common_extended(content, is_first_version=body[first - 3] == 0))
    return UserInformation(
        pdu_bytes_max=_decode_maximum_length(once.get(_MAXIMUM_LENGTH)),
        implementation_class_uid=decode_uid(once.get(_IMPLEMENTATION_CLASS_UID, b"")),
        implementation_version=decode_text(once.get(_IMPLEMENTATION_VERSION, b""), VERSION_BYTES_MAX),
        window=_decode_window(once.get(_ASYNCHRONOUS_WINDOW)),
        roles=tuple(roles),
        extended=tuple(extended),
        common_extended=tuple(common),
        identity=_decode_identity(once.get(_IDENTITY)),
        identity_response=_decode_identity_response(once.get(_IDENTITY_RESPONSE)),
    )


def encode_user_information(user: UserInformation) -> bytes:
    """Write the content of the item. Raises ValueError for what has no encoding."""
    pieces = [
        item(_MAXIMUM_LENGTH, _encode_number(user.pdu_bytes_max, _U32)),
        item(_IMPLEMENTATION_CLASS_UID, encode_uid(user.implementation_class_uid)),
    ]
    if user.window is not None:
        window = _encode_number(user.window.invoked, _U16) + _encode_number(user.window.performed, _U16)
        pieces.append(item(_ASYNCHRONOUS_WINDOW, window))
    pieces += [item(_ROLES, _count(encode_uid(one.sop_class_uid)) + bytes((one.scu, one.scp))) for one in user.roles]
    if user.implementation_version:
        pieces.append(item(_IMPLEMENTATION_VERSION, encode_text(user.implementation_version, VERSION_BYTES_MAX)))
    pieces += [item(_EXTENDED, _count(encode_uid(one.sop_class_uid)) + one.information) for one in user.extended]
    for common in user.common_extended:
        related = b"".join(_count(encode_uid(uid)) for uid in common.related)
        uids = _count(encode_uid(common.sop_class_uid)) + _count(encode_uid(common.service_class_uid))
        pieces.append(item(_COMMON_EXTENDED, uids + _count(related)))
    if user.identity is not None:
        identity = user.identity
        head = bytes((identity.kind, identity.wants_response))
        pieces.append(item(_IDENTITY, head + _count(identity.primary) + _count(identity.secondary)))
    if user.identity_response is not None:
        pieces.append(item(_IDENTITY_RESPONSE, _count(user.identity_response)))
    return b"".join(pieces)


def _counted(content: bytes, at: int) -> tuple[bytes, int]:
    """Read a field that stands behind its own length, and say where it ends."""
    start = at + _U16.size
    if start > len(content):
        raise PduError("a length is cut off")
    (length,) = _U16.unpack_from(content, at)
    end = start + length
    if end > len(content):
        raise PduError("a field is longer than its item")
    return content[start:end], end


def _count(field_bytes: bytes) -> bytes:
    return _encode_number(len(field_bytes), _U16) + field_bytes


def _encode_number(number: int, form: Struct) -> bytes:
    if not 0 <= number < 1 << (8 * form.size):
        raise ValueError(f"{number} is out of range: {form.size} bytes hold it")
    return form.pack(number)


def _decode_flag(byte: int) -> bool:
    if byte > 1:
        raise PduError("a yes or no is neither 0 nor 1")
    return byte == 1


def _decode_roles(content: bytes) -> Roles:
    uid, at = _counted(content, 0)
    if len(content) - at != 2:
        raise PduError("a role selection does not have two roles")
    return Roles(decode_uid(uid), _decode_flag(content[at]), _decode_flag(content[at + 1]))


def _decode_common_extended(content: bytes, *, is_first_version: bool) -> CommonExtendedNegotiation:
    sop_class_uid, at = _counted(content, 0)
    service_class_uid, at = _counted(content, at)
    listed, end = _counted(content, at)
    if is_first_version and end != len(content):
        raise PduError("a common extended negotiation is longer than what it says")
    related = []
    at = 0
    while at != len(listed):
        uid, at = _counted(listed, at)
        related.append(decode_uid(uid))
    return CommonExtendedNegotiation(decode_uid(sop_class_uid), decode_uid(service_class_uid), tuple(related))


def _decode_maximum_length(content: bytes | None) -> int:
    if content is None:
        return 0
    if len(content) != _U32.size:
        raise PduError("a maximum length does not have four bytes")
    return int.from_bytes(content, "big")


def _decode_window(content: bytes | None) -> AsynchronousWindow | None:
    if content is None:
        return None
    if len(content) != 2 * _U16.size:
        raise PduError("an asynchronous window does not have four bytes")
    return AsynchronousWindow(*_WINDOW.unpack(content))


def _decode_identity(content: bytes | None) -> UserIdentity | None:
    if content is None:
        return None
    if len(content) < 2:
        raise PduError("a user identity is cut off")
    primary, at = _counted(content, 2)
    secondary, at = _counted(content, at)
    if at != len(content):
        raise PduError("a user identity is longer than what it says")
    return UserIdentity(content[0], _decode_flag(content[1]), primary, secondary)


def _decode_identity_response(content: bytes | None) -> bytes | None:
    if content is None:
        return None
    response, at = _counted(content, 0)
    if at != len(content):
        raise PduError("an identity response is longer than what it says")
    return response
