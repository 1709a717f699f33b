"""Storage commitment in words: who asks whom to answer for which instances, and what is said to it (PS3.4 Annex J).

The gateway answers for nothing by itself: what it says of an instance is what the archive of its custodian has
committed itself to (SAF-21). Knows no wire and no table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from policy.parties import TrustId


class Custody(StrEnum):
    """Whether a trust's archive takes back what the trust sent here by itself, and what proves that it has it."""

    NONE = "none"
    """It does not: what is sent stays a sole copy."""
    COMMITMENT = "commitment"
    """It has what it commits itself to, by storage commitment."""
    STORED = "stored"
    """It has what it stored, by its word on C-STORE: for an archive that knows no commitment."""


class FailureReason(IntEnum):
    """Why an instance is not committed: Failure Reason (0008,1197), PS3.4 J.3.3.1.3."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance, as commitment names it."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """Somebody is asked to answer for these instances from now on."""

    transaction_uid: str
    instances: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What was said to such a request."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...] = ()
    """Each with its reason, which may be one that we do not know."""


class Kept(StrEnum):
    """What is known of an instance that a trust asks the gateway to answer for."""

    COMMITTED = "committed"
    """Its custodian's archive has committed itself to it as it is kept here."""
    AWAITED = "awaited"
    """It is kept here, and the archive has still to be asked or to answer."""
    WITHHELD = "withheld"
    """It is kept, and in quarantine."""


@dataclass(frozen=True, slots=True)
class KeptInstance:
    """One of these instances."""

    sop_class_uid: str
    kept: Kept


@dataclass(frozen=True, slots=True)
class Transaction:
    """A trust's request as it was taken in."""

    transaction_id: str
    """Ours: a Transaction UID is unique for whoever made it alone."""
    caller: str
    trust: TrustId
    ae_title: str
    """Whom the answer is for."""
    request: CommitmentRequest
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What an answer hangs on besides the instances."""

    has_archive: bool
    """Whether the custodian's archive takes back what was sent here; without one nothing is ever committed."""
    is_late: bool
    """Whether it is time to answer, whatever is still awaited."""


def answered(request: CommitmentRequest, known: Mapping[str, KeptInstance], terms: Terms) -> CommitmentReport | None:
    """The answer to a request, by what is known of its instances; None: it is too early to say.

    Whoever asks learns of its own instances alone: `known` holds no others, and what is not in it does not exist.
    """
    committed: list[Reference] = []
    failed: list[tuple[Reference, int]] = []
    for reference in request.instances:
        found = known.get(reference.sop_uid)
        if found is None:
            failed.append((reference, FailureReason.NO_SUCH_INSTANCE))
        elif found.sop_class_uid != reference.sop_class_uid:
            failed.append((reference, FailureReason.CLASS_INSTANCE_CONFLICT))
        elif found.kept is Kept.COMMITTED:
            committed.append(reference)
        elif found.kept is Kept.AWAITED and terms.has_archive and not terms.is_late:
            return None
        else:
            failed.append((reference, FailureReason.PROCESSING_FAILURE))
    return CommitmentReport(request.transaction_uid, tuple(committed), tuple(failed))


@dataclass(frozen=True, slots=True)
class SoleCopies:
    """What is kept of one study that no archive has committed itself to."""

    study_uid: str
    custodian: TrustId
    instances: int
    held_bytes: int
    oldest_at: datetime
    newest_at: datetime
    in_quarantine: int = 0


@dataclass(frozen=True, slots=True)
class Asking:
    """How the asking of an archive to commit itself to what is kept of a study stands."""

    tries: int
    """How often it was asked since it last committed itself to all that it was asked."""
    asked_at: datetime
    """When it was asked last."""
    answered_at: datetime | None
    """When it answered that; None: not yet."""
    words: str = ""
    """What it did not commit itself to then, and why."""
