"""The one family of errors. The first split is whose fault it is and what helps.

    GatewayError
    ├── InvalidRequest              change the request
    │   ├── QueryTooBroad           pin a patient, a study or an accession number (SAF-11)
    │   ├── NotAcceptable           ask for a media type that we make
    │   ├── Conflicting             put right at its source: the same UID is kept with other content (SAF-35)
    │   ├── Unwanted                nobody waits for this instance
    │   └── RequestTooLarge         send less
    ├── NotIdentified               authenticate: certificate, AE title and address of one trust
    ├── Denied                      a reason that may be told (SAF-02); hidden reasons never raise, they answer absence
    ├── NotFound                    no such resource path; never says whether imaging exists
    │   └── KeyClosed               no key opens what was kept: its patient's are closed, or it was destroyed
    ├── ServiceFault                ours, the same for every patient: ring, or try again
    │   ├── RegisterUnavailable     a register is stale or unreadable (SAF-01)
    │   ├── AuditUnavailable        nothing can be recorded, so nothing is disclosed (SAF-30)
    │   ├── StoreUnavailable        the database is gone
    │   │   ├── StoreFull           its disk is full: 507 or A700, until there is room
    │   │   └── OutOfReach          the bucket of what is kept cannot be had; it is fetched again where somebody has it
    │   ├── Damaged                 what was kept is not as it was sealed; it is fetched again
    │   └── OverCapacity            later
    ├── PeerError                   another trust's archive; named in the answer
    │   ├── PeerUnavailable         retry: no connection, refused, in back-off
    │   ├── PeerTimeout             retry: past its deadline
    │   ├── PeerRefused             do not retry: it said no to us
    │   └── PeerProtocolError       do not retry: what it sent cannot be believed
    └── ConfigurationError          the operator's file; all errors at once, each with its path

Messages are lower case, without full stop and without patient data: every one may be logged and some are shown.
Each edge maps every class to its wire form in one table, and a test walks this tree to see that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from policy.parties import TrustId

if TYPE_CHECKING:
    from gateway.model.imaging import Source
    from policy.access import Decision


class GatewayError(Exception):
    """Anything the gateway refuses or fails to do, in words that may be logged."""


class InvalidRequest(GatewayError):
    """The request is wrong in itself; sending it again unchanged cannot help."""

    def __init__(self, message: str, *, offending: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.offending = tuple(offending)
        """Tags of the attributes that are wrong, where they can be named (PS3.7 Annex C, Offending Element)."""


class QueryTooBroad(InvalidRequest):
    """The query pins no patient, study or accession number: refused visibly, never answered with zero rows (SAF-11)."""


class NotAcceptable(InvalidRequest):
    """None of the media types that the caller accepts can be made."""


class Conflicting(InvalidRequest):
    """An instance of this UID is kept with other pixels, other content, or of another patient (SAF-35)."""

    def __init__(self, message: str, *, kept_from: TrustId | None = None) -> None:
        super().__init__(message)
        self.kept_from = kept_from
        """Whose archive the other one came from, where it is known."""


class Unwanted(InvalidRequest):
    """An instance was sent that no retrieval waits for, or that is no part of what was asked."""


class RequestTooLarge(InvalidRequest):
    """A head, body, parameter list or value is longer than its limit."""


class NotIdentified(GatewayError):
    """The evidence does not bind to exactly one enrolled caller."""


class Denied(GatewayError):
    """Policy denied, for at least one reason that the caller may be told."""

    def __init__(self, decision: Decision, advice: str = "", desk_phone: str = "") -> None:
        super().__init__("; ".join(reason.text for reason in decision.told))
        self.decision = decision
        self.advice = advice
        """What may help: the desk to ring, how old the evidence is (SAF-09, SAF-32)."""
        self.desk_phone = desk_phone
        """That desk's phone alone, for an edge that has 64 characters."""


class NotFound(GatewayError):
    """No such resource path."""


class KeyClosed(NotFound):
    """No key opens what was kept, now or ever again. Where it reaches an edge it is absence, like anything hidden."""


class ServiceFault(GatewayError):
    """The gateway cannot do its work for anybody at this moment."""

    retry_after_s = 30


class RegisterUnavailable(ServiceFault):
    """A register, the policy store or the key service is stale or unreadable: `sharing not checked` (SAF-01)."""


class AuditUnavailable(ServiceFault):
    """The audit cannot be written: `not recorded` (SAF-30)."""


class StoreUnavailable(ServiceFault):
    """The database cannot be reached, or refused a transaction."""


class StoreFull(StoreUnavailable):
    """There is no room for what came; what is kept can be read."""


class OutOfReach(StoreUnavailable):
    """Where images are kept cannot be had at this moment; nothing is wrong with what is there."""


class Damaged(ServiceFault):
    """What was kept is not as it was sealed, or no key opens it."""


class OverCapacity(ServiceFault):
    """A named limit is reached; the work was not begun."""


class PeerError(GatewayError):
    """A trust's archive failed us; an ordinary outcome."""

    def __init__(self, trust: TrustId, detail: str, missing: tuple[Source, ...] = ()) -> None:
        super().__init__(detail)
        self.trust = trust
        self.missing = missing
        """Every trust that was asked, where none of them answered."""


class PeerUnavailable(PeerError):
    """No connection, connection refused or reset, or the peer is in back-off."""


class PeerTimeout(PeerError):
    """No whole answer before the peer's deadline."""


class PeerRefused(PeerError):
    """The peer answered with a refusal (4xx, association rejected)."""


class PeerProtocolError(PeerError):
    """The peer's answer breaks the protocol or one of our limits."""


class ConfigurationError(GatewayError):
    """One or more errors in the configuration, each with its path, all at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
