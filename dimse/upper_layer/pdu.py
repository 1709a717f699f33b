"""The PDUs of an association as values and as bytes: every one but P-DATA (PS3.8 9.3).

Strict where lengths and characters are concerned: whatever the bytes, the answer is a value or a PduError that says
what the A-ABORT must say (DEC-31). Whether a PDU is welcome is the state table's to say, what is agreed negotiation's.
Pure.
"""

from dataclasses import dataclass
from enum import IntEnum

from dimse.upper_layer.items import AbortReason as AbortReason
from dimse.upper_layer.items import PduError as PduError
from dimse.upper_layer.user_information import AsynchronousWindow as AsynchronousWindow
from dimse.upper_layer.user_information import CommonExtendedNegotiation as CommonExtendedNegotiation
from dimse.upper_layer.user_information import ExtendedNegotiation as ExtendedNegotiation
from dimse.upper_layer.user_information import Roles as Roles
from dimse.upper_layer.user_information import UserIdentity as UserIdentity
from dimse.upper_layer.user_information import UserInformation as UserInformation

DICOM_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 1
CONTEXTS_MAX = 128
AE_TITLE_BYTES_MAX = 16


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
ACSE_NO_REASON_GIVEN = AssociateReject(1, 2, 1)
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
