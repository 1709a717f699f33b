"""How C-FIND ends: errors as statuses with their comments, and what the statuses of others mean to us.

One table, walked by a test so that no class of error is forgotten (PS3.4 C.4.1.1.4, PS3.7 C; SAF-01, 02, 11, 30). A
denial whose reasons may not be told never looks like one; a fault without words of its own shows none. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import assert_never

from gateway.model import errors
from gateway.model.imaging import PATIENT_ID
from gateway.model.wording import Listing, desk, fitted, listed, with_phone
from policy.access import Reason
from policy.parties import TrustId


class Status(IntEnum):
    """The statuses that we give (PS3.4 C.4.1.1.4, PS3.7 C)."""

    SUCCESS = 0x0000
    PENDING = 0xFF00
    PENDING_WITHOUT_SOME_KEYS = 0xFF01
    """A requested key was not supported, for matching or at all."""
    CANCELLED = 0xFE00
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    IDENTIFIER_DOES_NOT_MATCH = 0xA900
    UNABLE_TO_PROCESS = 0xC000
    INTERNAL = 0xC001
    """A bug of ours; the standard gives the number no meaning, toolkits use it so."""


class Refusal(StrEnum):
    """How a caller is told of a denial that may be told (`refusal`, SAF-02)."""

    STATUS = "status"
    """0124, with the reason as Error Comment."""
    SILENT = "silent"
    """An answer without rows: only by recorded choice, for a system that cannot take 0124."""


class MissingSources(StrEnum):
    """How a caller is told that a trust is missing in an answer (`missing_sources`, SAF-04). There is no default."""

    ROW = "row"
    """A synthetic row for each, then 0000."""
    FAILURE = "failure"
    """The rows, then C000 with a comment."""
    COMMENT = "comment"
    """The rows, then 0000 with an Error Comment, which many PACSs do not show."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last response to a request."""

    status: int
    comment: str = ""
    offending: tuple[str, ...] = ()
    """Tags of eight digits: what in the identifier was wrong."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one class of error ends a C-FIND. `comment` None: the error's own words."""

    status: Status
    comment: str | None = None
    offending: tuple[str, ...] = ()


FORMS: Mapping[type[errors.GatewayError], Form] = MappingProxyType(
    {
        errors.GatewayError: Form(Status.INTERNAL, ""),
        errors.InvalidRequest: Form(Status.IDENTIFIER_DOES_NOT_MATCH),
        errors.QueryTooBroad: Form(
            Status.IDENTIFIER_DOES_NOT_MATCH,
            "name one NHS number, study UID or whole accession number",
            (PATIENT_ID,),
        ),
        errors.NotAcceptable: Form(Status.IDENTIFIER_DOES_NOT_MATCH),
        errors.Conflicting: Form(Status.IDENTIFIER_DOES_NOT_MATCH),
        errors.Unwanted: Form(Status.NOT_AUTHORISED),
        errors.RequestTooLarge: Form(Status.IDENTIFIER_DOES_NOT_MATCH),
        errors.NotIdentified: Form(Status.NOT_AUTHORISED, "the caller is not identified"),
        errors.Denied: Form(Status.NOT_AUTHORISED),
        errors.NotFound: Form(Status.SUCCESS, ""),
        errors.KeyClosed: Form(Status.SUCCESS, ""),
        errors.ServiceFault: Form(Status.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.RegisterUnavailable: Form(Status.OUT_OF_RESOURCES, "sharing not checked"),
        errors.AuditUnavailable: Form(Status.OUT_OF_RESOURCES, "not recorded"),
        errors.StoreUnavailable: Form(Status.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.OutOfReach: Form(Status.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.StoreFull: Form(Status.OUT_OF_RESOURCES, "no room to keep this"),
        errors.Damaged: Form(Status.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.OverCapacity: Form(Status.OUT_OF_RESOURCES),
        errors.PeerError: Form(Status.UNABLE_TO_PROCESS),
        errors.PeerUnavailable: Form(Status.UNABLE_TO_PROCESS),
        errors.PeerTimeout: Form(Status.UNABLE_TO_PROCESS),
        errors.PeerRefused: Form(Status.UNABLE_TO_PROCESS),
        errors.PeerProtocolError: Form(Status.UNABLE_TO_PROCESS),
        errors.ConfigurationError: Form(Status.INTERNAL, ""),
    }
)
"""Every class of error, and the errors table of the architecture for C-FIND."""

ABSENT = Ending(Status.SUCCESS)
"""Nothing found, whatever the reason."""

SHORT_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "recipient-not-enrolled": "your organisation is not enrolled",
        "destination-of-another-trust": "destination is another trust's",
        "identity-not-proven": "your identity is not proven",
        "kind-receives-no-images": "this account receives no images",
        "push-not-signed-off": "sending is not signed off",
        "purpose-not-direct-care": "purpose is not direct care",
        "break-glass-without-grant": "no emergency access granted",
        "nhs-number-of-other-mode": "this range of numbers is refused",
        "no-care-relationship": "no care relationship recorded",
        "team-not-involved": "your team's care is not recorded",
    }
)
"""What may be told of a denial, by the reason's code, the widest first: short enough for a phone number (SAF-09)."""


def ending_of(error: BaseException, refusal: Refusal = Refusal.STATUS) -> Ending:
    """How a question ends that raised `error`; anything but a `GatewayError` is a bug and shows nothing of itself."""
    form = _form(error)
    match error:
        case errors.Denied():
            return _denied(error, refusal)
        case errors.PeerError():
            desks = [desk(source) for source in error.missing] or [error.trust.code]
            return Ending(form.status, listed([Listing("no answer", desks)]))
        case _:
            comment = str(error) if form.comment is None else form.comment
            offending = error.offending if isinstance(error, errors.InvalidRequest) else ()
            return Ending(form.status, fitted(comment), offending or form.offending)


def peer_failure(trust: TrustId, status: int) -> errors.PeerError:
    """What a failure status of another archive's response is to us.

    Its own comment is not asked for: it may hold anything, and what we raise is logged and told.
    """
    said = f"the archive answered with status {status:04X}"
    match status >> 8:
        case 0xA7:
            return errors.PeerUnavailable(trust, f"{said}: out of resources")
        case 0xA8 | 0xA9:
            return errors.PeerRefused(trust, f"{said}: it does not take the identifier")
        case family if 0xC0 <= family <= 0xCF:
            return errors.PeerRefused(trust, f"{said}: unable to process")
        case 0x01 | 0x02:
            return _general_failure(trust, status, said)
        case _:
            return errors.PeerProtocolError(trust, f"{said}, which C-FIND does not have")


def _form(error: BaseException) -> Form:
    for kind in type(error).__mro__:
        if (form := FORMS.get(kind)) is not None:
            return form
    return FORMS[errors.GatewayError]


def _denied(error: errors.Denied, refusal: Refusal) -> Ending:
    if not error.decision.told:
        return ABSENT
    match refusal:
        case Refusal.STATUS:
            # There is room for one: the widest, for whoever mends a narrower one would be refused again.
            reason = min(error.decision.told, key=_width)
            comment = with_phone(SHORT_REASONS.get(reason.code, reason.text), error.desk_phone)
            return Ending(FORMS[errors.Denied].status, comment)
        case Refusal.SILENT:
            return ABSENT
    assert_never(refusal)


def _width(reason: Reason) -> int:
    codes = list(SHORT_REASONS)
    return codes.index(reason.code) if reason.code in codes else len(codes)


def _general_failure(trust: TrustId, status: int, said: str) -> errors.PeerError:
    """The statuses that every service has (PS3.7 C): 0105 to 0124 and 0210 to 0213."""
    match status:
        case 0x0213:
            return errors.PeerUnavailable(trust, f"{said}: resource limitation")
        case 0x0122:
            return errors.PeerRefused(trust, f"{said}: it does not support the SOP class")
        case 0x0124:
            return errors.PeerRefused(trust, f"{said}: we are not authorised")
        case _:
            return errors.PeerRefused(trust, said)
