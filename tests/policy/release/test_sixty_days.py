"""Sixty days in the life of a report, hour by hour, against a model that is simple rather than fast.

The model shares no line with the rules: it counts hours on a London calendar, walks through what is known so far, and
says what the patient has before them. The runs cross both changes of the clocks, Easter and Christmas. Messages come
late and in any order; a hold comes and goes; a professional releases early. Plans are made when something happens and
when the last one said to look again, and at no other time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.release.circumstances import Circumstances, EarlyRelease, Hold, HoldKind, IdentityAgreement, Traced
from policy.release.lifecycle import fold
from policy.release.planning import plan
from policy.release.reports import Said
from policy.release.terms import LONDON
from tests.policy.release.examples import ADULT, BANK_HOLIDAYS, CALENDAR, TERMS, TOLERANCE, utc, version

HOUR = timedelta(hours=1)
HOURS = 60 * 24
TERMS_ALWAYS_LIVE = replace(TERMS, go_live_at=utc("2020-01-01 00:00"))


@dataclass(frozen=True)
class Told:
    """One message: what it says, of which hour, and how many hours later it arrives."""

    name: str
    said: Said
    hour: int
    delay: int


@dataclass(frozen=True)
class Life:
    """What happens to one report in sixty days."""

    messages: tuple[Told, ...]
    held: tuple[int, int]
    early_hour: int
    """When a professional lets go what then stands; beyond the last hour: never."""


@dataclass
class Model:
    """What the patient sees, the slow way."""

    begin: datetime
    life: Life
    seen: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)
    early: dict[str, int] = field(default_factory=dict)
    ends: dict[tuple[int, int], int] = field(default_factory=dict)

    def tick(self, hour: int) -> None:
        stand, addenda, first = self.stands(hour)
        if stand is None or self.life.held[0] <= hour < self.life.held[1]:
            self.seen.clear()
            return
        self.seen &= {stand.name, *(each.name for each in addenda)}
        let_go = self.early.get(stand.name)
        moment = hour
        if not self.is_open(hour):
            if let_go is None or self.local(let_go).date() != self.local(hour).date():
                return
            moment = let_go
        over = {each.name for each in addenda if self.end(each.hour, 28) <= moment}
        if self.is_open(hour):
            over |= self.ever & {each.name for each in addenda}
        if stand.name not in self.ever and let_go is None:
            joint = max(self.end(each.hour, 28) for each in (stand, *addenda))
            longest = max(self.end(first, 56), self.end(stand.hour, 28))
            if hour < min(joint, longest):
                return
        self.seen |= {stand.name, *over}
        self.ever |= self.seen

    def stands(self, hour: int) -> tuple[Told | None, list[Told], int]:
        stand, addenda, first = None, list[Told](), HOURS
        for each in sorted(self.life.messages, key=lambda told: told.hour):
            if each.hour + each.delay > hour:
                continue
            if each.said is Said.WITHDRAWN:
                first = HOURS
            if each.said in (Said.VERIFIED, Said.CORRECTED, Said.APPENDED):
                first = min(first, each.hour)
            if each.said in (Said.VERIFIED, Said.CORRECTED):
                stand, addenda = each, []
            elif each.said is Said.APPENDED:
                addenda = [*addenda, each] if stand else []
            else:
                stand, addenda = None, []
        return stand, addenda, first

    def end(self, hour: int, days: int) -> int:
        """The first hour after which no clock in London shows less than the same time so many days on."""
        if (hour, days) in self.ends:
            return self.ends[hour, days]
        wall = self.local(hour).replace(tzinfo=None) + timedelta(days=days)
        around = range(hour + days * 24 - 3, hour + days * 24 + 4)
        earlier = [each for each in around if self.local(each).replace(tzinfo=None) < wall]
        return self.ends.setdefault((hour, days), max(hour + days * 24, max(earlier) + 1))

    def is_open(self, hour: int) -> bool:
        local = self.local(hour)
        is_worked = local.weekday() < 5 and local.date() not in BANK_HOLIDAYS
        return is_worked and time(8) <= local.time() < time(18)

    def local(self, hour: int) -> datetime:
        return (self.begin + hour * HOUR).astimezone(LONDON)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    said = st.sampled_from([*Said, Said.VERIFIED, Said.CORRECTED, Said.APPENDED])
    hours = sorted(draw(st.sets(st.integers(1, 50 * 24), max_size=6)))
    later = [Told(f"v{hour}", draw(said), hour, draw(st.integers(0, 80))) for hour in hours]
    first = Told("v0", Said.VERIFIED, 0, draw(st.integers(0, 80)))
    held_from = draw(st.integers(0, HOURS * 2))
    return Life((first, *later), (held_from, held_from + draw(st.integers(1, 200))), draw(st.integers(0, HOURS * 2)))


@pytest.mark.parametrize("begin", ["2026-09-20 09:00", "2026-11-10 11:00", "2027-02-21 07:00"])
@given(life=lives())
@settings(max_examples=12)
def test_the_patient_sees_at_each_hour_what_a_simple_model_says(begin: str, life: Life) -> None:
    model = Model(utc(begin), life)
    now = model.begin
    seen: dict[str, datetime] = {}
    ever: dict[str, datetime] = {}
    early: list[EarlyRelease] = []
    hold = Hold("h1", HoldKind.LEGAL, "Dr Referrer", "consultant", "court order", now, (now + 90 * HOUR).date())
    known = [
        version(each.name, each.said, now + each.hour * HOUR, received_at=now + (each.hour + each.delay) * HOUR)
        for each in life.messages
    ]
    events = {each.hour + each.delay for each in life.messages} | set(life.held)
    look_at: datetime | None = None
    for hour in range(HOURS):
        at = now + hour * HOUR
        lifecycle = fold([each for each in known if each.received_at <= at], TOLERANCE)
        if hour >= life.early_hour and not early and lifecycle.current and model.is_open(hour):
            early.append(EarlyRelease(lifecycle.current.version_id, at, "Dr Referrer", "told in clinic"))
            model.early[lifecycle.current.version_id] = hour
            events.add(hour)
        model.tick(hour)
        if hour in events or (look_at is not None and look_at <= at):
            circumstances = Circumstances(
                birth_date=ADULT,
                holds=(hold,) if life.held[0] <= hour < life.held[1] else (),
                early=tuple(early),
                seen=seen,
                ever_released=ever,
                traced=Traced(at, IdentityAgreement.AGREES, ADULT, "01"),
            )
            made = plan(lifecycle, circumstances, TERMS_ALWAYS_LIVE, CALENDAR, at)
            look_at = made.look_at
            seen = {name: since for name, since in seen.items() if name not in made.takes_back}
            seen |= {name: at for name in made.gives if name not in seen}
            ever |= {name: at for name in seen if name not in ever}
        assert set(seen) == model.seen, f"hour {hour}"
