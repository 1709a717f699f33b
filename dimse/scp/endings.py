"""How C-MOVE, C-GET and C-STORE end: outcomes, errors and what may be missing, as statuses with their comments.

Two tables beside C-FIND's, walked by tests so that no class of error is forgotten (PS3.4 C.4.2.1.5, C.4.3.1.4, B.2.3,
PS3.7 C; SAF-01, 02, 13, 30). Why one image did not come is never shown: policy that stops a transfer looks like any
archive or network that fails, by the same status and the same words. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from types import MappingProxyType
from typing import assert_never

from dimse.status import Ending, MissingSources, Refusal, Status, ending_of
from gateway.model import errors
from gateway.model.imaging import Source
from gateway.model.wording import LO_CHARS_MAX, Listing, desk, fitted, listed
from gateway.model.work.retrievals import Counts, Halt

SUBOPERATIONS_MAX = 65_535
"""What the counters hold, 16 bits each (PS3.7 9.1.4.1)."""

NOT_ALL_SENT = "not all images could be sent"
"""Said whatever made a transfer fail."""
_NOT_ALL_SENT_AND = "not all sent; "
TOO_MANY = f"more than {SUBOPERATIONS_MAX:,} images: retrieve series by series"
DESTINATION_UNKNOWN = "this move destination is not known here"
DESTINATION_NOT_ALLOWED = "this move destination is not allowed for you"


class RetrieveStatus(IntEnum):
    """The statuses of C-MOVE and C-GET (PS3.4 C.4.2.1.5, C.4.3.1.4, PS3.7 C)."""

    SUCCESS = 0x0000
    PENDING = 0xFF00
    CANCELLED = 0xFE00
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    TOO_MANY_MATCHES = 0xA701
    NOT_PERFORMED = 0xA702
    DESTINATION_UNKNOWN = 0xA801
    IDENTIFIER_DOES_NOT_MATCH = 0xA900
    SOME_FAILED = 0xB000
    UNABLE_TO_PROCESS = 0xC000
    INTERNAL = 0xC001
    """A bug of ours; the standard gives the number no meaning, toolkits use it so."""


class StoreStatus(IntEnum):
    """The statuses of C-STORE (PS3.4 B.2.3, PS3.7 C)."""

    SUCCESS = 0x0000
    DUPLICATE_SOP_INSTANCE = 0x0111
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH_SOP_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    INTERNAL = 0xC001


STORE_FORMS: Mapping[type[errors.GatewayError], tuple[StoreStatus, str | None]] = MappingProxyType(
    {
        errors.GatewayError: (StoreStatus.INTERNAL, ""),
        errors.InvalidRequest: (StoreStatus.DOES_NOT_MATCH_SOP_CLASS, None),
        errors.QueryTooBroad: (StoreStatus.CANNOT_UNDERSTAND, ""),
        errors.NotAcceptable: (StoreStatus.CANNOT_UNDERSTAND, ""),
        errors.Conflicting: (StoreStatus.DUPLICATE_SOP_INSTANCE, "this UID is kept with other content"),
        errors.Unwanted: (StoreStatus.NOT_AUTHORISED, "nobody waits for this instance"),
        errors.RequestTooLarge: (StoreStatus.OUT_OF_RESOURCES, None),
        errors.NotIdentified: (StoreStatus.NOT_AUTHORISED, "the caller is not identified"),
        errors.Denied: (StoreStatus.NOT_AUTHORISED, "not permitted"),
        # Success would be a lie: what cannot be kept under any key was not kept.
        errors.NotFound: (StoreStatus.CANNOT_UNDERSTAND, ""),
        errors.KeyClosed: (StoreStatus.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.ServiceFault: (StoreStatus.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.RegisterUnavailable: (StoreStatus.OUT_OF_RESOURCES, "sharing not checked"),
        errors.AuditUnavailable: (StoreStatus.OUT_OF_RESOURCES, "not recorded"),
        errors.StoreUnavailable: (StoreStatus.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.OutOfReach: (StoreStatus.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.StoreFull: (StoreStatus.OUT_OF_RESOURCES, "no room to keep this"),
        errors.Damaged: (StoreStatus.OUT_OF_RESOURCES, "the gateway cannot work at this moment"),
        errors.OverCapacity: (StoreStatus.OUT_OF_RESOURCES, None),
        errors.PeerError: (StoreStatus.OUT_OF_RESOURCES, "an archive that was asked did not answer"),
        errors.PeerUnavailable: (StoreStatus.OUT_OF_RESOURCES, "an archive that was asked did not answer"),
        errors.PeerTimeout: (StoreStatus.OUT_OF_RESOURCES, "an archive that was asked did not answer"),
        errors.PeerRefused: (StoreStatus.OUT_OF_RESOURCES, "an archive that was asked did not answer"),
        errors.PeerProtocolError: (StoreStatus.OUT_OF_RESOURCES, "an archive that was asked did not answer"),
        errors.ConfigurationError: (StoreStatus.INTERNAL, ""),
    }
)
"""Every class of error, as C-STORE answers it; a comment of None is the error's own words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a retrieval came, once nothing more is sent of it."""

    counts: Counts
    halted: Halt | None
    sources: Sequence[Source]
    fault: errors.ServiceFault | None = None
    """What ended it for everybody, if something did."""
    is_cancelled: bool = False
    """Whether C-CANCEL ended it."""


@dataclass(frozen=True, slots=True)
class Final:
    """The last response to a retrieve request."""

    ending: Ending
    counts: Counts
    """`remaining` is 0 but after a cancel."""

    @property
    def shows_remaining(self) -> bool:
        """Whether the number of remaining sub-operations stands in it (PS3.7 9.1.4.1.7)."""
        return self.ending.status == RetrieveStatus.CANCELLED


def final(outcome: Outcome, how: MissingSources) -> Final:
    """The last response to a retrieval that was begun."""
    counts = outcome.counts
    if outcome.is_cancelled and (counts.remaining or outcome.halted is Halt.CANCELLED):
        return Final(Ending(RetrieveStatus.CANCELLED), counts)
    counts = settled(counts)
    fault, how_missing, is_any = outcome.fault, _missing(outcome.sources), counts.completed + counts.warning > 0
    if fault is not None and not (is_any and counts.failed):
        end = retrieve_ending(fault)
        return Final(replace(end, status=RetrieveStatus.SOME_FAILED) if is_any else end, counts)
    if counts.failed or outcome.halted is Halt.SERVICE:
        status = RetrieveStatus.SOME_FAILED if is_any else RetrieveStatus.NOT_PERFORMED
        return Final(Ending(status, _words_of_failure(fault, how_missing)), counts)
    status = RetrieveStatus.SOME_FAILED if counts.warning else RetrieveStatus.SUCCESS
    match how:
        case MissingSources.FAILURE if how_missing:
            is_none = not counts.total
            status = RetrieveStatus.UNABLE_TO_PROCESS if is_none else RetrieveStatus.SOME_FAILED
        case MissingSources.ROW | MissingSources.FAILURE | MissingSources.COMMENT:
            pass
        case _:
            assert_never(how)
    return Final(Ending(status, listed(how_missing)), counts)


def broken_off(error: BaseException, counts: Counts, refusal: Refusal = Refusal.STATUS) -> Final:
    """The last response to a retrieval that raised `error`; absence is no success once images of it have failed."""
    counts, end = settled(counts), retrieve_ending(error, refusal)
    if counts.failed and end.status == RetrieveStatus.SUCCESS:
        is_any = counts.completed + counts.warning > 0
        end = Ending(RetrieveStatus.SOME_FAILED if is_any else RetrieveStatus.NOT_PERFORMED, NOT_ALL_SENT)
    return Final(end, counts)


def settled(counts: Counts) -> Counts:
    """The counters once nothing more is tried: what remained has failed."""
    return replace(counts, remaining=0, failed=counts.failed + counts.remaining)


def retrieve_ending(error: BaseException, refusal: Refusal = Refusal.STATUS) -> Ending:
    """How a retrieval ends that raised `error` before anything was sent: as C-FIND does, by the numbers of C-MOVE."""
    end = ending_of(error, refusal)
    return replace(end, status=RetrieveStatus.NOT_PERFORMED) if end.status == Status.OUT_OF_RESOURCES else end


def store_ending(error: BaseException) -> Ending:
    """How a C-STORE ends that raised `error`; never with success, whatever could not be told."""
    for kind in type(error).__mro__:
        if kind in STORE_FORMS:
            status, comment = STORE_FORMS[kind]
            break
    else:
        status, comment = STORE_FORMS[errors.GatewayError]
    if isinstance(error, errors.Denied):
        told = ending_of(error)
        return told if told.status == Status.NOT_AUTHORISED else Ending(status, comment or "")
    offending = error.offending if isinstance(error, errors.InvalidRequest) else ()
    return Ending(status, fitted(str(error)) if comment is None else comment, offending)


def _missing(sources: Sequence[Source]) -> list[Listing]:
    """Whom to ring of those who may hold more, or hold what could not be shared (SAF-08, SAF-09)."""
    return [
        each
        for each in (
            Listing("missing", [desk(source) for source in sources if source.state.is_missing]),
            Listing("identity differs", [desk(source) for source in sources if source.has_identity_conflict]),
            Listing("checked", [f"{each.trust.code} {at:%Y-%m-%d %H:%M} UTC" for each, at in _checked(sources)]),
        )
        if each.items
    ]


def _checked(sources: Sequence[Source]) -> list[tuple[Source, datetime]]:
    """When what was sent in place of a silent archive was last compared with it (SAF-37)."""
    return [(source, at.astimezone(UTC)) for source in sources if (at := source.checked_at) is not None]


def _words_of_failure(fault: errors.ServiceFault | None, missing: Sequence[Listing]) -> str:
    if fault is not None:
        return fitted(f"{_NOT_ALL_SENT_AND}{retrieve_ending(fault).comment}")
    if not missing:
        return NOT_ALL_SENT
    return _NOT_ALL_SENT_AND + listed(missing, LO_CHARS_MAX - len(_NOT_ALL_SENT_AND))
