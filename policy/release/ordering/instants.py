"""From when each version of a report counts, and so in what order they are told (domain.md A3, A5; REL-31, 35, 36).

Feeds tell two times: since when it is so (OBR-22, `issued`) and when it was sent (MSH-7, `lastUpdated`). Neither is
enough. Many a system leaves the first at the verification of the text that is corrected or stopped; a queue makes the
second later than the verification of the text that follows. Many tell no seconds. So
- a text counts from its verification, of two of one instant the one that was sent first is told first;
- a correction, a draft and a correction under way count from when they became so, and only where they keep the
  verification of a text that was sent before them from when they were sent: no draft takes back what may be later;
- a cancellation and a withdrawal count from the later of the two: what may be later stops;
- none of them is told after a text that was verified later and sent later;
- what is said again counts from when it was sent first, but for a stop that keeps a verification: that may be another.
A time later than the receipt is no time. A wall time that London has twice and of which nobody says which is meant may
be the first of them; until then its text is not of the future, and whatever stops is told after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from policy.release.reports import Said, Version, ZoneKnown
from policy.release.terms import LONDON

EARLIEST_VERIFICATION = datetime(1970, 1, 1, tzinfo=UTC)
"""What claims to be older carries no time that can be believed."""
DAY = timedelta(days=1)
TWICE = timedelta(hours=1)
"""How far the two instants of one wall time lie apart."""
JUST = timedelta(microseconds=1)
LONG_AGO, AT_LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Order = tuple[datetime, tuple[int, bool], datetime, datetime, int, str]
VOUCHED = frozenset({Said.VERIFIED, Said.CORRECTED, Said.APPENDED})
_DRAFTS = frozenset({Said.PRELIMINARY, Said.TAKEN_BACK})
_ORDER = (
    Said.VERIFIED,
    Said.CORRECTED,
    Said.APPENDED,
    Said.PRELIMINARY,
    Said.TAKEN_BACK,
    Said.CANCELLED,
    Said.WITHDRAWN,
)
"""Of what became so at the same instant: whatever stops a text after whoever vouches for it."""


def in_order(versions: Collection[Version], tolerance: timedelta) -> list[Version]:
    """Each version once, in the order in which they became so; `stated_at` of what is no text is when it counts from.

    A verification later than its receipt by more than `tolerance` has no time.
    """
    told = _as_first_stated([_believed(each, tolerance) for each in _distinct(versions)])
    signed = [each for each in told if each.said in VOUCHED and each.said is not Said.CORRECTED]
    corrections = [each for each in told if each.said is Said.CORRECTED]
    texts = [*signed, *(_placed(each, [*signed, *corrections]) for each in corrections)]
    drafts = [_placed(each, texts) for each in told if each.said in _DRAFTS]
    stops = [_placed(each, [*texts, *drafts]) for each in told if each.said not in VOUCHED | _DRAFTS]
    return sorted([*texts, *drafts, *stops], key=story_order)


def order(version: Version) -> Order:
    """Where a version stands among those of its report, as far as it says itself: what is no text as late as it may."""
    sent_at = version.sent_at if version.said not in {Said.VERIFIED, Said.APPENDED} else None
    return story_order(replace(version, stated_at=max(version.stated_at, sent_at or version.stated_at)))


def story_order(version: Version) -> Order:
    """Where it stands among those of `in_order`: the key to sort by, whatever the order of arrival (REL-31)."""
    # What vouches for a preliminary text without repeating it comes after that text.
    rank = _ORDER.index(Said.PRELIMINARY if version.promotes else version.said)
    # Of two drafts of one minute the one that was sent later is the newer.
    sent_at = (version.sent_at if version.said in VOUCHED | _DRAFTS else None) or LONG_AGO
    if rank <= _ORDER.index(Said.CORRECTED):
        # A correction follows the text of its instant, unless both say that it was sent before.
        rank, sent_at = 0, AT_LAST if version.said is Said.CORRECTED and version.sent_at is None else sent_at
    by_rank = rank, version.promotes
    return became_so_at(version), by_rank, sent_at, version.stated_at, -version.precedence, version.version_id


def became_so_at(version: Version) -> datetime:
    """When it became so: a correction, and what vouches for nothing, not before it was stated."""
    at = vouched_at(version)
    return max(at, version.stated_at) if version.said is Said.CORRECTED else at


def vouched_at(version: Version) -> datetime:
    """When it was verified at the earliest, so that nothing which stopped it is told before it.

    Of a date alone the time is the end of the day, later than what followed on that day.
    """
    at = verified_at(version)
    if version.said not in VOUCHED or at is None:
        return version.stated_at
    if is_dated(version):
        return min(at, version.stated_at)
    return at - TWICE if is_of_two(version) else at


def verified_at(version: Version) -> datetime | None:
    """The verification that it tells of."""
    return version.verification.at if version.verification else None


def is_dated(version: Version) -> bool:
    """Whether no more than the day of its verification is known."""
    return version.verification is not None and version.verification.zone is ZoneKnown.DATE_ONLY


def is_of_two(version: Version) -> bool:
    """Whether its verification may be either of two instants: London has that wall time twice."""
    verification = version.verification
    if verification is None or verification.at is None or verification.zone is not ZoneKnown.ASSUMED:
        return False
    return bool(verification.at.astimezone(LONDON).fold)


def _distinct(versions: Collection[Version]) -> Iterable[Version]:
    """Each version once, as it was first heard of and first sent."""
    known: dict[str, Version] = {}
    for each in sorted(versions, key=lambda version: (version.received_at, repr(version))):
        first = known.setdefault(each.version_id, each)
        if each.sent_at and first.sent_at and each.sent_at < first.sent_at:
            known[each.version_id] = replace(first, sent_at=each.sent_at)
    return known.values()


def _believed(version: Version, tolerance: timedelta) -> Version:
    """The version, without a time that cannot be one (domain.md A3)."""
    latest = version.received_at + tolerance
    sent_at = version.sent_at if version.sent_at and version.sent_at <= latest else None
    stated_at = version.stated_at if version.stated_at <= latest else sent_at or version.received_at
    version = replace(version, stated_at=stated_at, sent_at=sent_at)
    verification = version.verification
    if verification is None or verification.at is None:
        return version
    not_told = DAY if is_dated(version) else TWICE if is_of_two(version) else timedelta()
    if EARLIEST_VERIFICATION <= verification.at <= latest + not_told:
        return version
    return replace(version, verification=replace(verification, at=None))


def _as_first_stated(told: list[Version]) -> list[Version]:
    """What is stated again as of when its source first stated it: an older text never stands over a newer.

    So what was verified on a day of which no time is known: sent again, it never stands over what stopped it that day.
    """
    verifications = {vouched_at(each) for each in told if each.said in VOUCHED}
    first: dict[tuple[object, ...], tuple[datetime, datetime, datetime | None]] = {}
    for each in told:
        stated_at, received_at, sent_at = first.get(_statement(each), _times(each))
        sent = [at for at in (sent_at, each.sent_at) if at is not None]
        heard_at = min(each.received_at, received_at)
        first[_statement(each)] = min(each.stated_at, stated_at), heard_at, min(sent, default=None)
    return [_first(each, first[_statement(each)], verifications) for each in told]


def _first(
    version: Version, times: tuple[datetime, datetime, datetime | None], verifications: Collection[datetime]
) -> Version:
    stated_at, received_at, sent_at = times
    if _is_correction(version) or is_dated(version):
        return replace(version, stated_at=stated_at, received_at=received_at, sent_at=sent_at)
    is_another = version.said not in VOUCHED and version.stated_at in verifications
    if is_another and not (version.said in _DRAFTS and version.text_digest):
        return version
    return replace(version, sent_at=sent_at)


def _times(version: Version) -> tuple[datetime, datetime, datetime | None]:
    return version.stated_at, version.received_at, version.sent_at


def _statement(version: Version) -> tuple[object, ...]:
    at = verified_at(version)
    since = at if version.said in VOUCHED and at is not None else version.stated_at
    return version.said, since, at, version.text_digest, version.promotes, version.precedence


def _is_correction(version: Version) -> bool:
    return version.said is Said.CORRECTED and verified_at(version) is not None


def _placed(version: Version, texts: Iterable[Version]) -> Version:
    """The version as of when it counts from, by the texts of its report."""
    since, sent_at = max(vouched_at(version), version.stated_at), version.sent_at
    if sent_at is None:
        return version
    others = [each for each in texts if _statement(each) != _statement(version)]
    is_stop = version.said not in VOUCHED | _DRAFTS
    is_kept = any(since in {vouched_at(each), each.stated_at} and not _is_sent_before(version, each) for each in others)
    has_no_time = version.said is Said.CORRECTED and verified_at(version) is None
    at = max(since, sent_at) if is_stop or is_kept or has_no_time else since
    for each in others:
        begun = max(vouched_at(each), each.stated_at) if each.said is Said.CORRECTED else vouched_at(each)
        # Of one instant a withdrawal may have followed whatever was sent when, and no addendum makes a draft final.
        is_alike = not is_stop and not (version.said in _DRAFTS and each.said is Said.APPENDED)
        is_later = since < begun or (since == begun and is_alike)
        if is_later and begun <= at and _is_sent_before(version, each):
            # Of several that come just before one text the one that was sent first comes first.
            apart = (each.sent_at or sent_at) - sent_at
            at = min(at, begun - max(apart / 1_000_000, JUST))
    if version.said is Said.CORRECTED:
        at = max(at, since)
    return replace(version, stated_at=at, sent_at=None if at > since else sent_at)


def _is_sent_before(version: Version, other: Version) -> bool:
    """Whether both say so; of the same second a draft is sent before the text that it became."""
    if version.sent_at is None or other.sent_at is None:
        return False
    return version.sent_at < other.sent_at or (version.sent_at == other.sent_at and version.said is Said.PRELIMINARY)
