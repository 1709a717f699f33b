"""What stands of a report once all its versions are known (domain.md A4, A5; REL-30 to 37; SAF-61).

`fold` is a function of the set of versions: neither the order nor the number of times in which they came counts. They
are told in the order in which they became so (`ordering.instants`).
- What repeats the text that stands is no version of its own: it restarts no clock and supersedes nothing.
- What takes a text's place takes the place of its addenda too. Superseded is every version that was verified and
  neither stands nor repeats what stands.
- Whatever is verified without a text of its own confirms what stands.
- A source that never vouched for this report un-verifies nothing: an unsigned copy beside a signed report is a copy.
  Nor does a document that follows only unsigned ones: measurements that were measured anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from policy.release import whose
from policy.release.ordering.instants import (
    VOUCHED,
    became_so_at,
    in_order,
    is_dated,
    is_of_two,
    story_order,
    verified_at,
    vouched_at,
)
from policy.release.reports import Lifecycle, Problem, Said, Standing, Version


def fold(versions: Collection[Version], tolerance: timedelta) -> Lifecycle:
    """What stands, by all versions; a verification later than its receipt by more than `tolerance` has no time."""
    told = in_order(versions, tolerance)
    copies = _copies(told)
    story = _Story(copies, _unsigned(told))
    for each in _preferred(told, copies):
        story.tell(each)
    return story.lifecycle([each for each in told if each.said in VOUCHED], told)


@dataclass(frozen=True, slots=True)
class _Stand:
    """A verified text that stands."""

    version: Version
    content: Version | None
    clock: datetime | None
    addenda: tuple[Version, ...] = ()

    @property
    def digest(self) -> str:
        return self.content.text_digest if self.content else ""


@dataclass(slots=True)
class _Story:
    """What is known after each version in turn."""

    copies: Mapping[str, list[Version]]
    """What other sources say with a version that is told, by its id."""
    unsigned: Collection[str]
    """The documents that nobody vouches for."""
    repeats: dict[str, str] = field(default_factory=dict)
    texts: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """What each version that was verified says of whom, its copies' words among it."""
    standing: Standing = Standing.RECEIVED
    stand: _Stand | None = None
    stood: _Stand | None = None
    """What stood before it was taken back."""
    stopped_at: datetime | None = None
    readable: dict[int, Version] = field(default_factory=dict)
    """The newest version with content, verified or not, by the precedence of its source."""
    preliminary: Version | None = None
    first_verified_at: datetime | None = None
    clock: datetime | None = None
    """The latest verification so far, withdrawn or not: a correction that keeps it was not verified then."""
    patients: set[str] = field(default_factory=set)
    vouching: set[int] = field(default_factory=set)
    """Precedences of the sources that vouched for it."""
    waiting: list[str] = field(default_factory=list)
    """Addenda to a text that nobody has sent yet."""
    heard: set[str] = field(default_factory=set)
    withdrawn: frozenset[str] = frozenset()
    has_part_deleted: bool = False
    is_contested: bool = False
    """Two texts of one source, verified at what may be the same instant: nobody can say which is newer."""

    def tell(self, version: Version) -> None:
        copies = self.copies.get(version.version_id, [])
        if version.said is not Said.WITHDRAWN:
            self.patients.update(each.patient for each in (version, *copies))
        self.repeats |= {each.version_id: version.version_id for each in copies}
        self.heard.update(each.version_id for each in (version, *copies))
        match version.said:
            case Said.PRELIMINARY:
                self._preliminary(version)
            case Said.VERIFIED | Said.CORRECTED:
                self._vouch(version)
                self._replace(version)
                self._remember_clock(version)
            case Said.APPENDED:
                self._vouch(version)
                self._append(version)
                self._remember_clock(version)
            case Said.TAKEN_BACK:
                self.has_part_deleted |= version.verification is not None
                self._note(version)
                self._stop(version)
            case Said.CANCELLED:
                self._forget(Standing.CANCELLED)
            case Said.WITHDRAWN:
                self._forget(Standing.WITHDRAWN)
                self.first_verified_at = None
                self.patients.clear()
                self.vouching.clear()

    def lifecycle(self, vouched: Iterable[Version], told: list[Version]) -> Lifecycle:
        stand = self.stand
        kept = {each.version_id for each in (stand.version, *stand.addenda)} if stand else set()
        meant = {one: self.repeats.get(other, other) for one, other in self.repeats.items()}
        repeats = {one: other for one, other in meant.items() if other in kept}
        stood = [each.version_id for each in vouched if each.version_id not in kept | repeats.keys()]
        return Lifecycle(
            standing=self.standing,
            current=stand.version if stand else None,
            content_of=stand.content.version_id if stand and stand.content else "",
            addenda=stand.addenda if stand else (),
            preliminary=self.preliminary,
            superseded=tuple(each for each in stood if each not in self.waiting),
            withdrawn=self.withdrawn,
            first_verified_at=self.first_verified_at,
            clock_started_at=stand.clock if stand else None,
            patient=self._patient(told[-1].patient if told else ""),
            stopped_at=self.stopped_at if self.standing is Standing.BEING_CORRECTED else None,
            problems=frozenset(self._problems()),
            repeats=repeats,
            same_text=self._same_text(kept),
        )

    def _preliminary(self, version: Version) -> None:
        if self.standing in {Standing.CANCELLED, Standing.WITHDRAWN}:
            self.standing = Standing.RECEIVED
        if version.has_content:
            self.readable[version.precedence] = self.preliminary = version
        follows_a_signed_one = not version.follows or not version.follows.issubset(self.unsigned)
        if self.stand and version.precedence in self.vouching and follows_a_signed_one:
            self._stop(version)

    def _vouch(self, version: Version) -> None:
        self.vouching.update(each.precedence for each in (version, *self.copies.get(version.version_id, [])))
        at = verified_at(version)
        if at is not None:
            self.first_verified_at = min(self.first_verified_at or at, at)

    def _remember_clock(self, version: Version) -> None:
        times = self.clock, verified_at(version), self.stand.clock if self.stand else None
        self.clock = max(filter(None, times), default=None)

    def _replace(self, version: Version) -> None:
        # A status alone vouches for what its own source sent, not for what lies beside it.
        content = self._content(version)
        self._remember(version, content)
        before = self.stand or (self.stood if version.said is Said.CORRECTED else None)
        self.standing, self.preliminary, self.has_part_deleted = Standing.VERIFIED, None, False
        if before and content and before.clock and content.text_digest == before.digest:
            self.stand = replace(before, version=_with_alerts(before.version, version.alerts))
            self.repeats[version.version_id] = before.version.version_id
            return
        alerts = content.alerts if content else frozenset()
        self.is_contested = _is_contested(self.stand or self.stood, version)
        clock = _restarted(self.clock, version)
        self.stand, self.stood = _Stand(_with_alerts(version, alerts), content, clock), None
        if content:
            self.readable[version.precedence] = content
        self.waiting.clear()

    def _content(self, version: Version) -> Version | None:
        """What is to be read of what is verified: without a text of its own what it makes final, else what stands."""
        if version.has_content:
            return version
        if version.text_digest:
            # A part of a report confirms nothing.
            return None
        if version.promotes:
            return self.readable.get(version.precedence)
        return self.stand.content if self.stand and version.said is Said.VERIFIED else None

    def _append(self, version: Version) -> None:
        self._remember(version, version)
        if self.stand:
            self.stand = self._with_addendum(self.stand, version)
        elif self.stood:
            self.stood = self._with_addendum(self.stood, version)
        else:
            self.waiting.append(version.version_id)

    def _remember(self, version: Version, content: Version | None) -> None:
        copies = self.copies.get(version.version_id, [])
        texts = {(version.patient, each.text_digest) for each in (content, *copies) if each and each.text_digest}
        for each in (version, *copies):
            self.texts.setdefault(each.version_id, set()).update(texts)

    def _same_text(self, kept: Collection[str]) -> dict[str, frozenset[str]]:
        same = {
            one: frozenset(
                other for other, texts in self.texts.items() if other not in kept and texts & self.texts[one]
            )
            for one in kept
        }
        return {one: others for one, others in same.items() if others}

    def _with_addendum(self, stand: _Stand, version: Version) -> _Stand:
        for each in stand.addenda:
            if version.has_content and each.text_digest == version.text_digest and verified_at(each) is not None:
                self.repeats[version.version_id] = each.version_id
                more = _with_alerts(each, version.alerts)
                return replace(stand, addenda=tuple(more if other is each else other for other in stand.addenda))
        return replace(stand, addenda=(*stand.addenda, version))

    def _note(self, version: Version) -> None:
        """What a status alone makes final from now on; nothing, where a correction was announced without its text."""
        self.readable.pop(version.precedence, None)
        if version.has_content:
            self.readable[version.precedence] = version

    def _stop(self, version: Version) -> None:
        if self.stand:
            self.stopped_at = became_so_at(version)
            self.stand, self.stood, self.standing = None, self.stand, Standing.BEING_CORRECTED

    def _forget(self, standing: Standing) -> None:
        self.stand = self.stood = self.preliminary = None
        self.readable.clear()
        self.standing, self.has_part_deleted, self.is_contested = standing, False, False
        self.waiting.clear()
        self.withdrawn = frozenset(self.heard)

    def _patient(self, newest: str) -> str:
        """All that is said of one patient; of two whatever the newest version says."""
        return whose.joined(self.patients) if self.patients and whose.are_one(self.patients) else newest

    def _problems(self) -> Iterable[Problem]:
        if not whose.are_one(self.patients):
            yield Problem.PATIENT_CHANGED
        if self.has_part_deleted:
            yield Problem.PART_DELETED
        if self.stand is None:
            return
        if self.stand.clock is None or self.is_contested or not all(map(verified_at, self.stand.addenda)):
            yield Problem.VERIFICATION_TIME_INVALID
        if self.stand.content is None or not all(each.has_content for each in self.stand.addenda):
            yield Problem.NO_CONTENT


def _unsigned(told: Iterable[Version]) -> frozenset[str]:
    signed = {each.document for each in told if each.said in VOUCHED}
    return frozenset(each.document for each in told if each.said is Said.PRELIMINARY and each.document not in signed)


def _copies(told: list[Version]) -> dict[str, list[Version]]:
    """What several sources say in the same minute is one version: the preferred source's, and the others by its id.

    Preferred is a source that brings content. A minute, because many a feed tells no seconds.
    """
    groups: dict[tuple[Said, datetime], list[Version]] = {}
    for each in told:
        if each.said in VOUCHED and verified_at(each) is not None:
            groups.setdefault((each.said, vouched_at(each).replace(second=0, microsecond=0)), []).append(each)
    copies: dict[str, list[Version]] = {}
    for group in groups.values():
        preferred = min(group, key=lambda each: (not each.has_content, each.precedence)).precedence
        own = [each for each in group if each.precedence == preferred]
        if group[0].said is not Said.APPENDED or len(own) == 1:
            copies[own[-1].version_id] = [each for each in group if each.precedence != preferred]
    return copies


def _preferred(told: list[Version], copies: Mapping[str, list[Version]]) -> list[Version]:
    left_out = {each.version_id for group in copies.values() for each in group}
    one_of_each = [_joined(each, copies.get(each.version_id, [])) for each in told if each.version_id not in left_out]
    return sorted(one_of_each, key=story_order)


def _joined(preferred: Version, copies: list[Version]) -> Version:
    """The version with the latest verification (REL-37) and every alert of its copies."""
    latest = max((preferred, *copies), key=vouched_at)
    alerts = frozenset[str]().union(*(each.alerts for each in copies))
    return replace(_with_alerts(preferred, alerts), verification=latest.verification)


def _with_alerts(version: Version, alerts: frozenset[str]) -> Version:
    return version if alerts <= version.alerts else replace(version, alerts=version.alerts | alerts)


def _restarted(before: datetime | None, version: Version) -> datetime | None:
    """The clock of a text that takes another's place, or comes after one that was withdrawn: never that one's.

    Some systems leave the first verification in a changed report: then it counts from when the change was stated, and
    where that is left too from when it was first heard of.
    """
    at = verified_at(version)
    if at is None or before is None or at > before:
        return at
    stated_at = max(at, version.stated_at)
    return stated_at if stated_at > before else max(stated_at, version.received_at)


def _is_contested(before: _Stand | None, version: Version) -> bool:
    if before is None or verified_at(version) is None:
        return False
    other = before.version
    if other.precedence != version.precedence:
        return False
    if is_of_two(other) and is_of_two(version):
        return True
    is_same = other.said is version.said and verified_at(other) == verified_at(version)
    return is_same and (other.stated_at == version.stated_at or is_dated(version))
