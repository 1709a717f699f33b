"""Who need not be asked, and what an answer says of them (SAF-05); and what an answer teaches the location index.

Two things are kept apart. Whether a trust *is asked* hangs on what is known to exist: it is left out only on a fresh
negative of a live feed. Whether an answer that shows nothing of it *says* that it was asked hangs on one thing alone,
when this patient was last asked for there. That clock is advanced alike whether the question found nothing, found what
may not be shown, or was withheld by a register and never sent, so the answers cannot be told apart (SAF-06). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.model.imaging import PATIENT_ID, Level, NotAskedReason, Query, SourceState
from gateway.model.locations import Knowledge, Location, SeenBy, Sighting
from gateway.model.settings import SharingSettings
from gateway.sharing.identity.conflicts import Judgement
from gateway.sharing.merge import Part
from gateway.sharing.scope import Scope
from policy.parties import NhsNumber, PurposeOfUse, TrustId

ASKS_EVERYBODY = frozenset({PurposeOfUse.ETREAT, PurposeOfUse.ERTREAT, PurposeOfUse.BTG})
"""Purposes of an emergency: nobody is left out (SAF-05)."""

_HEARD = frozenset({SourceState.ANSWERED, SourceState.TRUNCATED})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Trusts of a question that need not be asked."""

    unasked: frozenset[TrustId] = frozenset()
    """Not asked. Hangs on what exists: never shown as it is."""
    checked: frozenset[TrustId] = frozenset()
    """Lately asked for this patient; the answer says of them that they were not asked, unless it shows something."""


NOBODY = LeftOut()


def may_leave_out(scope: Scope, purpose: PurposeOfUse) -> bool:
    """Whether anybody may be left out of this question: it is about a whole patient, and no emergency."""
    return scope.patient is not None and not scope.study_uids and purpose not in ASKS_EVERYBODY


def left_out(
    knowledge: Knowledge, expected: Mapping[TrustId, SourceState], settings: SharingSettings, now: datetime
) -> LeftOut:
    """Sort out the trusts of a question by what they are expected to do and by what is known of the patient.

    A trust that fails is never left out, for its failure has to be told; nor is one that told of a study of nobody yet
    knows whom. When nobody who answers would be left to ask, everybody is asked: an index proves nothing by itself.
    """
    answering = {trust for trust, state in expected.items() if state is SourceState.ANSWERED}
    fresh = _fresh_after(knowledge, settings, now)
    checked = frozenset(
        trust
        for trust in answering
        if settings.is_feed_live(trust.code, knowledge.feeds.get(trust), now)
        and _is_between(_location(knowledge, trust).checked_at, fresh, now)
    )
    if checked == answering:
        return NOBODY
    margin = timedelta(minutes=settings.index_negative_max_age_minutes)
    settled = checked - knowledge.unsettled
    unasked = (trust for trust in settled if _is_negative(_location(knowledge, trust), fresh, now, margin))
    return LeftOut(frozenset(unasked), checked)


def as_told(parts: Iterable[Part], without: LeftOut, showing: Collection[TrustId]) -> tuple[Part, ...]:
    """The parts as an answer tells them, which shows something of the trusts `showing`.

    Only a plain answer is told as not asked: a failure that was met, or a part that was cut, is told as it is.
    """
    return tuple(
        unasked_part(part.trust)
        if part.trust in without.checked and part.trust not in showing and part.state is SourceState.ANSWERED
        else part
        for part in parts
    )


def unasked_part(trust: TrustId) -> Part:
    """The part of a trust that was lately asked."""
    return Part(trust, SourceState.NOT_ASKED, reason=NotAskedReason.RECENTLY_CHECKED)


def learnt(
    query: Query, scope: Scope, judgement: Judgement, parts: Sequence[Part], without: LeftOut, asked_at: datetime
) -> list[Sighting]:
    """What the answers to a question teach: imaging where a row is truly a patient's, none where none came.

    `query` is the question as peers were asked it. Only one that asks for everything of a patient can find nothing.
    """
    present = {(row.patient, row.trust) for row in judgement.accepted if row.patient is not None}
    is_whole = asks_for_everything(query, scope)
    checks = _checks(parts, without) if is_whole else frozenset()
    sightings = [
        Sighting(patient, trust, asked_at, SeenBy.ANSWER, True, patient == scope.patient and trust in checks)
        for patient, trust in sorted(present)
    ]
    if scope.patient is None or not is_whole:
        return sightings
    for part in parts:
        if part.trust not in without.unasked and (scope.patient, part.trust) not in present:
            has_none = part.state is SourceState.ANSWERED and part.rows == 0
            if has_none or part.trust in checks:
                sightings.append(_not_seen(scope.patient, part.trust, asked_at, has_none, part.trust in checks))
    return sightings


def feigned(query: Query, scope: Scope, parts: Sequence[Part], without: LeftOut, at: datetime) -> list[Sighting]:
    """What a question that was withheld leaves behind: the same checks as if it had been asked, and no knowledge."""
    if scope.patient is None or not asks_for_everything(query, scope):
        return []
    checks = _checks(parts, without)
    return [_not_seen(scope.patient, part.trust, at, False, True) for part in parts if part.trust in checks]


def sampled(
    patient: NhsNumber, judgement: Judgement | None, parts: Sequence[Part], asked_at: datetime
) -> list[Sighting]:
    """What asking for the sake of knowing teaches of one patient; without a judgement nobody was asked (opt-out)."""
    present = {row.trust for row in judgement.accepted if row.patient == patient} if judgement is not None else set()
    sightings = []
    for part in parts:
        if part.state in _HEARD:
            has_none = judgement is not None and part.state is SourceState.ANSWERED and part.rows == 0
            has_imaging = True if part.trust in present else False if has_none else None
            sightings.append(Sighting(patient, part.trust, asked_at, SeenBy.SAMPLE, has_imaging, True))
    return sightings


def notified(patient: NhsNumber, trust: TrustId, at: datetime) -> Sighting:
    """What a trust's own word teaches (PS3.4 R): that it has imaging. It is no check, for nobody asked."""
    return Sighting(patient, trust, at, SeenBy.NOTIFICATION, True, False)


def asks_for_everything(query: Query, scope: Scope) -> bool:
    """Whether an empty answer would mean that there is nothing of this patient: nothing else narrows the question."""
    if scope.patient is None or query.level not in (Level.PATIENT, Level.STUDY):
        return False
    return all(key.path == (PATIENT_ID,) or not any(value.strip("* ") for value in key.values) for key in query.keys)


def _checks(parts: Sequence[Part], without: LeftOut) -> frozenset[TrustId]:
    """The trusts that count as asked by this question: those that did, or would, answer it, and were due."""
    return frozenset(part.trust for part in parts if part.state in _HEARD and part.trust not in without.checked)


def _not_seen(patient: NhsNumber, trust: TrustId, at: datetime, has_none: bool, is_check: bool) -> Sighting:
    return Sighting(patient, trust, at, SeenBy.ANSWER, False if has_none else None, is_check)


def _location(knowledge: Knowledge, trust: TrustId) -> Location:
    return knowledge.locations.get(trust, Location())


def _fresh_after(knowledge: Knowledge, settings: SharingSettings, now: datetime) -> datetime:
    """What was learnt up to here counts for nothing: too old, or of half a person."""
    oldest = now - timedelta(minutes=settings.index_negative_max_age_minutes)
    return (
        max(oldest, knowledge.identity_changed_at + timedelta(microseconds=1))
        if knowledge.identity_changed_at is not None
        else oldest
    )


def _is_between(at: datetime | None, first: datetime, last: datetime) -> bool:
    """A clock that was set back must not make anything fresh for longer."""
    return at is not None and first <= at <= last


def _is_negative(known: Location, fresh: datetime, now: datetime, margin: timedelta) -> bool:
    """Whether the latest word is that there is nothing.

    A trust tells of a study before its archive can be relied on to find it, so its word outlives a negative a while.
    """
    if known.absent_at is None or not _is_between(known.absent_at, fresh, now):
        return False
    if known.present_at is None:
        return True
    overruled_at = known.present_at + margin if known.present_by is SeenBy.NOTIFICATION else known.present_at
    return overruled_at < known.absent_at
