"""The PDUs of an association as values and as bytes: every one but P-DATA (PS3.8 9.3).

Strict where lengths and characters are concerned: whatever the bytes, the answer is a value or a PduError that says
what the A-ABORT must say (DEC-31). Whether a PDU is welcome is the state table's to say, what is agreed negotiation's.
Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import assert_never

from dimse.upper_layer.items import AbortReason as AbortReason
from dimse.upper_layer.items import PduError as PduError
from dimse.upper_layer.items import decode_text, decode_uid, encode_text, encode_uid, item, items
from dimse.upper_layer.user_information import AsynchronousWindow as AsynchronousWindow
from dimse.upper_layer.user_information import CommonExtendedNegotiation as CommonExtendedNegotiation
from dimse.upper_layer.user_information import ExtendedNegotiation as ExtendedNegotiation
from dimse.upper_layer.user_information import Roles as Roles
from dimse.upper_layer.user_information import UserIdentity as UserIdentity
from dimse.upper_layer.user_information import UserInformation as UserInformation
from dimse.upper_layer.user_information import decode_user_information, encode_user_information

DICOM_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 1
CONTEXTS_MAX = 128
AE_TITLE_BYTES_MAX = 16

_APPLICATION_CONTEXT = 0x10
_PROPOSED_CONTEXT = 0x20
_CONTEXT_ANSWER = 0x21
_ABSTRACT_SYNTAX = 0x30
_TRANSFER_SYNTAX = 0x40
_USER_INFORMATION = 0x50

_PDU_HEADER = Struct(">BxI")
_FIXED = Struct(">H2x16s16s32x")  # of both A-ASSOCIATE-RQ and -AC: version, called and calling title
_CONTEXT_ID = Struct(">Bxxx")
_CONTEXT_RESULT = Struct(">BxBx")


class PduType(IntEnum):
    """The first byte of a PDU (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortSource(IntEnum):
    """Who aborts (PS3.8 9.3.8)."""

    USER = 0
    PROVIDER = 2


class ContextResult(IntEnum):
    """What became of one presentation context (PS3.8 9.3.3.2)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


_RESULTS = {int(result): result for result in ContextResult}


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as proposed (PS3.8 9.3.2.2). Its number is odd."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextAnswer:
    """A presentation context as answered. The transfer syntax means something only if it is accepted."""

    context_id: int
    result: ContextResult
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ. Titles are without their padding, and may be blank: refusing that is negotiation's."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    application_context: str = DICOM_APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC. The titles only repeat the request's, and nobody tests them."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[ContextAnswer, ...]
    user: UserInformation
    application_context: str = DICOM_APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ: result 1 permanent or 2 transient; source 1 user, 2 ACSE, 3 presentation (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


NO_REASON_GIVEN = AssociateReject(1, 1, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED = AssociateReject(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNISED = AssociateReject(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNISED = AssociateReject(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED = AssociateReject(1, 2, 2)
TEMPORARY_CONGESTION = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A-RELEASE-RQ."""


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """A-RELEASE-RP."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT: an AbortSource, and an AbortReason that means something only if the provider is the source."""

    source: int
    reason: int


Pdu = AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseReply | Abort


def decode(pdu_type: int, body: bytes) -> Pdu:
    """Read a PDU from what follows its header of six bytes. Raises PduError, and nothing else, whatever the bytes."""
    match pdu_type:
        case PduType.ASSOCIATE_RQ:
            return _decode_request(body)
        case PduType.ASSOCIATE_AC:
            return _decode_accept(body)
        case PduType.ASSOCIATE_RJ:
            _, result, source, reason = _four_bytes(body)
            return AssociateReject(result, source, reason)
        case PduType.RELEASE_RQ:
            _four_bytes(body)
            return ReleaseRequest()
        case PduType.RELEASE_RP:
            _four_bytes(body)
            return ReleaseReply()
        case PduType.ABORT:
            _, _, source, reason = _four_bytes(body)
            return Abort(source, reason)
        case _:
            raise PduError("a PDU of an unknown type", AbortReason.UNRECOGNISED_PDU)


def encode(pdu: Pdu) -> bytes:
    """Write a PDU with its header. Raises ValueError for what has no encoding, as a title too long."""
    match pdu:
        case AssociateRequest():
            return _framed(PduType.ASSOCIATE_RQ, _encode_associate(pdu, _encode_proposed(pdu.contexts)))
        case AssociateAccept():
            return _framed(PduType.ASSOCIATE_AC, _encode_associate(pdu, _encode_answers(pdu.contexts)))
        case AssociateReject(result, source, reason):
            return _framed(PduType.ASSOCIATE_RJ, bytes((0, result, source, reason)))
        case ReleaseRequest():
            return _framed(PduType.RELEASE_RQ, bytes(4))
        case ReleaseReply():
            return _framed(PduType.RELEASE_RP, bytes(4))
        case Abort(source, reason):
            return _framed(PduType.ABORT, bytes((0, 0, source, reason)))
        case _:
            assert_never(pdu)


def _framed(pdu_type: PduType, body: bytes) -> bytes:
    return _PDU_HEADER.pack(pdu_type, len(body)) + body


def _four_bytes(body: bytes) -> bytes:
    if len(body) != 4:
        raise PduError("a PDU does not have its four bytes")
    return body


def _decode_request(body: bytes) -> AssociateRequest:
    version, called, calling = _fixed_fields(body)
    application_context, user, spans = _variable_items(body, _PROPOSED_CONTEXT)
    seen: dict[bytes, str] = {}
    contexts = tuple(_decode_proposed(body, first, last, seen) for first, last in spans)
    _check_numbers([context.context_id for context in contexts])
    return AssociateRequest(
        _decode_title(called),
        _decode_title(calling),
        contexts,
        user,
        application_context,
        version,
    )


def _decode_accept(body: bytes) -> AssociateAccept:
    version, called, calling = _fixed_fields(body)
    application_context, user, spans = _variable_items(body, _CONTEXT_ANSWER)
    seen: dict[bytes, str] = {}
    contexts = tuple(_decode_answer(body, first, last, seen) for first, last in spans)
    _check_numbers([context.context_id for context in contexts])
    return AssociateAccept(
        _untested(_decode_title, called),
        _untested(_decode_title, calling),
        contexts,
        user,
        application_context,
        version,
    )


def _fixed_fields(body: bytes) -> tuple[int, bytes, bytes]:
    if len(body) < _FIXED.size:
        raise PduError("an association PDU is shorter than its fixed fields")
    version, called, calling = _FIXED.unpack_from(body)
    return version, called, calling


def _decode_title(encoded: bytes) -> str:
    return decode_text(encoded, AE_TITLE_BYTES_MAX)


def _untested(read: Callable[[bytes], str], encoded: bytes) -> str:
    """Read what nobody shall test: where it is no title, no UID, it is blank."""
    try:
        return read(encoded)
    except PduError:
        return ""


def _variable_items(body: bytes, context_type: int) -> tuple[str, UserInformation, list[tuple[int, int]]]:
    """Find the application context, the user information, and where each presentation context stands."""
    application_context: str | None = None
    user: UserInformation | None = None
    spans: list[tuple[int, int]] = []
    for item_type, first, last in items(body, _FIXED.size, len(body)):
        if item_type == context_type:
            if len(spans) == CONTEXTS_MAX:
                raise PduError("more presentation contexts than there are numbers for")
            spans.append((first, last))
        elif item_type == _APPLICATION_CONTEXT:
            if application_context is not None:
                raise PduError("a second application context")
            application_context = decode_uid(body[first:last])
        elif item_type == _USER_INFORMATION:
            if user is not None:
                raise PduError("a second user information item")
            user = decode_user_information(body, first, last)
    if application_context is None or user is None or not spans:
        raise PduError("an association PDU without application context, presentation context or user information")
    return application_context, user, spans


def _check_numbers(context_ids: Sequence[int]) -> None:
    if len(set(context_ids)) != len(context_ids):
        raise PduError("two presentation contexts have one number")
    if any(context_id % 2 == 0 for context_id in context_ids):
        raise PduError("a presentation context has an even number")


def _decode_proposed(body: bytes, first: int, last: int, seen: dict[bytes, str]) -> ProposedContext:
    if last - first < _CONTEXT_ID.size:
        raise PduError("a presentation context is cut off")
    abstract_syntax: str | None = None
    transfer_syntaxes: list[str] = []
    for item_type, start, end in items(body, first + _CONTEXT_ID.size, last):
        if item_type == _TRANSFER_SYNTAX:
            transfer_syntaxes.append(_decode_known_uid(body[start:end], seen))
        elif item_type == _ABSTRACT_SYNTAX:
            if abstract_syntax is not None:
                raise PduError("a presentation context has two abstract syntaxes")
            abstract_syntax = decode_uid(body[start:end])
    if abstract_syntax is None or not transfer_syntaxes:
        raise PduError("a presentation context without abstract or transfer syntax")
    return ProposedContext(body[first], abstract_syntax, tuple(transfer_syntaxes))


def _decode_answer(body: bytes, first: int, last: int, seen: dict[bytes, str]) -> ContextAnswer:
    if last - first < _CONTEXT_RESULT.size:
        raise PduError("the answer to a presentation context is cut off")
    context_id, number = _CONTEXT_RESULT.unpack_from(body, first)
    result = _RESULTS.get(number)
    if result is None:
        raise PduError("a presentation context has a result that does not exist")
    syntaxes = [
        body[start:end]
        for item_type, start, end in items(body, first + _CONTEXT_RESULT.size, last)
        if item_type == _TRANSFER_SYNTAX
    ]
    if result is not ContextResult.ACCEPTED:
        # Not significant, and not tested (PS3.8 9.3.3.2): some send none, some an empty one, some anything.
        return ContextAnswer(context_id, result, _untested(decode_uid, syntaxes[0]) if syntaxes else "")
    if len(syntaxes) != 1:
        raise PduError("an accepted presentation context does not have one transfer syntax")
    return ContextAnswer(context_id, result, _decode_known_uid(syntaxes[0], seen))


def _decode_known_uid(encoded: bytes, seen: dict[bytes, str]) -> str:
    """Read a UID once in a PDU: a hundred contexts name the same few transfer syntaxes."""
    uid = seen.get(encoded)
    if uid is None:
        uid = seen[encoded] = decode_uid(encoded)
    return uid


def _encode_associate(pdu: AssociateRequest | AssociateAccept, contexts: list[bytes]) -> bytes:
    if not 1 <= len(contexts) <= CONTEXTS_MAX:
        raise ValueError(f"{len(contexts)} presentation contexts, 1 to {CONTEXTS_MAX} are expected")
    called, calling = (
        encode_text(title, AE_TITLE_BYTES_MAX).ljust(AE_TITLE_BYTES_MAX)
        for title in (pdu.called_ae_title, pdu.calling_ae_title)
    )
    return b"".join(
        (
            _FIXED.pack(pdu.protocol_version, called, calling),
            item(_APPLICATION_CONTEXT, encode_uid(pdu.application_context)),
            *contexts,
            item(_USER_INFORMATION, encode_user_information(pdu.user)),
        )
    )


def _encode_proposed(contexts: Sequence[ProposedContext]) -> list[bytes]:
    encoded: dict[str, bytes] = {}
    return [
        item(
            _PROPOSED_CONTEXT,
            _CONTEXT_ID.pack(context.context_id)
            + item(_ABSTRACT_SYNTAX, encode_uid(context.abstract_syntax))
            + b"".join([_encode_syntax(uid, encoded) for uid in context.transfer_syntaxes]),
        )
        for context in contexts
    ]


def _encode_answers(contexts: Sequence[ContextAnswer]) -> list[bytes]:
    encoded: dict[str, bytes] = {}
    return [
        item(
            _CONTEXT_ANSWER,
            _CONTEXT_RESULT.pack(context.context_id, context.result) + _encode_syntax(context.transfer_syntax, encoded),
        )
        for context in contexts
    ]


def _encode_syntax(uid: str, encoded: dict[str, bytes]) -> bytes:
    syntax = encoded.get(uid)
    if syntax is None:
        syntax = encoded[uid] = item(_TRANSFER_SYNTAX, encode_uid(uid))
    return syntax
