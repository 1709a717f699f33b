"""Whatever its feed tells of when: a report's messages come to what a reader of domain.md A3 to A5 makes of its story.

The story is what a department did, in the order in which it did it. Its messages are bytes of HL7 whose times are told
to the minute or to the second, that leave at once or later in a queue, that stop and correct with the time of their own
or with that of the first verification, and that come in any order and more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.reporting.incoming import IncomingReport
from gateway.release.naming import version_of
from policy.release.lifecycle import fold
from policy.release.terms import LONDON
from tests.feeds.messages import HEADER, line, message, only, result

BEGIN = datetime(2026, 6, 1, 8, 15, tzinfo=UTC)
TOLERANCE = timedelta(minutes=5)
STATUS = {"V": "F", "U": "F", "B": "F", "W": "F"}
"""OBR-25 of those whose OBX-11 says more."""


@dataclass(frozen=True)
class Step:
    """One thing that the department did."""

    kind: str
    """`P`, `F`, `C`, `M`, `X`, `W`, `B`, `U`, `V`: OBX-11 where it has that status, else OBR-25."""
    at: datetime
    text: str
    queued: timedelta
    """How long it lay before it was sent."""


@dataclass
class Story:
    """What a reader of domain.md makes of it: A4 for each status, A5 for what follows from it."""

    standing: str = "received"
    text: str = ""
    clock: datetime | None = None
    addenda: list[str] = field(default_factory=list)
    draft: str = ""
    before: tuple[str, datetime | None, list[str]] | None = None

    def tell(self, step: Step) -> None:
        match step.kind:
            case "P" | "M":
                self.draft = step.text
                self._take_back(step.kind)
            case "F" | "C" | "U" | "V":
                self._verify(step)
            case "B":
                self._add(step.text)
            case _:
                self.__init__("cancelled" if step.kind == "X" else "withdrawn")  # type: ignore[misc]  # all anew

    def _take_back(self, kind: str) -> None:
        if self.standing == "verified":
            self.before = self.text, self.clock, self.addenda
            self.standing, self.text, self.clock, self.addenda = "being-corrected", "", None, []
        elif kind == "P" and self.standing in {"cancelled", "withdrawn"}:
            self.standing = "received"

    def _verify(self, step: Step) -> None:
        text = {"U": self.draft, "V": self.text}.get(step.kind, step.text)
        self.draft = text
        if self.standing == "verified" and text == self.text:
            return
        if self.standing == "being-corrected" and step.kind == "C" and self.before and self.before[0] == text:
            self.text, self.clock, self.addenda = self.before
        else:
            self.text, self.clock, self.addenda = text, step.at, []
        self.standing, self.before = "verified", None

    def _add(self, text: str) -> None:
        added = self.addenda if self.standing == "verified" else self.before[2] if self.before else []
        if text not in added:
            added.append(text)


@st.composite
def stories(draw: st.DrawFn, keeps: bool, is_exact: bool) -> list[Step]:
    """Two to six steps that follow from one another."""
    story, at, steps = Story(), BEGIN, list[Step]()
    for number in range(draw(st.integers(2, 6))):
        stands = story.standing == "verified"
        kinds = "FFCMPXW" + ("V" if stands else "") + ("U" if story.draft else "")
        kind = draw(st.sampled_from(kinds + ("BB" if stands or story.before else "")))
        text = f"Text {number}."
        if kind in "FC" and not keeps and draw(st.booleans()):
            text = story.text or (story.before[0] if story.before else text)
        # Within the minute of any of these nobody can say what came after it (docs/hazards.md, R-24).
        is_short = is_exact or not {kind, *(each.kind for each in steps[-1:])} & set("XWUBMC")
        gaps = (20, 40, 70, 600, 86_400) if is_short else (70, 600, 86_400)
        at += timedelta(seconds=draw(st.sampled_from(gaps)))
        queued = timedelta(seconds=draw(st.sampled_from((1, 5, 200, 7_200))))
        steps.append(Step(kind, at, "" if kind in "UVXW" else text, queued))
        story.tell(steps[-1])
    return steps


def told(steps: Sequence[Step], *, keeps: bool, is_exact: bool) -> list[tuple[Step, IncomingReport]]:
    """What each step's message says; a system that `keeps` leaves the last verification in what stops and corrects."""
    verified_at, sent_at, messages = "", BEGIN, []
    for step in steps:
        at = _written(step.at, is_exact=is_exact)
        sent_at = max(sent_at + timedelta(seconds=1), step.at + step.queued)
        status = STATUS.get(step.kind, step.kind)
        kept_at = verified_at if keeps and verified_at and step.kind in "PMXWC" else at
        if step.kind in "FCBUV":
            verified_at = kept_at
        messages.append((step, _report(step, status, kept_at, sent_at)))
    return messages


def _written(at: datetime, *, is_exact: bool) -> str:
    wall = at.astimezone(LONDON)
    return wall.strftime("%Y%m%d%H%M%S%z" if is_exact else "%Y%m%d%H%M%z")


def _report(step: Step, status: str, at: str, sent_at: datetime) -> IncomingReport:
    header = HEADER.replace("20260601091600", _written(sent_at, is_exact=True))
    of_line = "C" if step.kind == "M" else step.kind
    return only(message(result(status=status, at=at), line(step.text, of_line), header=header))


@given(data=st.data(), keeps=st.booleans(), is_exact=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_message_story_comes_to_what_a_reader_makes_of_it(
    data: st.DataObject, keeps: bool, is_exact: bool
) -> None:
    steps = data.draw(stories(keeps, is_exact))
    messages = told(steps, keeps=keeps, is_exact=is_exact)
    last = max(each.sent_at or BEGIN for _, each in messages)
    again = [each for step, each in messages if step.kind not in "XW" or (is_exact and not keeps)]
    later = data.draw(st.lists(st.sampled_from(again), max_size=2)) if again else []
    sent_again = [_sent(each, last + (nth + 1) * timedelta(hours=1)) for nth, each in enumerate(later)]
    arriving = data.draw(st.permutations([each for _, each in messages] + sent_again + later))
    received_at, texts, versions = last, {}, []
    for each in arriving:
        received_at = max(received_at, each.sent_at or BEGIN) + timedelta(minutes=1)
        versions.append(version_of(replace(each, received_at=received_at), each.subject.key, b""))
        texts[versions[-1].version_id] = each.content.text
    life = fold(versions, TOLERANCE)
    story = Story()
    for step in steps:
        story.tell(step if is_exact else replace(step, at=step.at.replace(second=0)))
    assert life.standing == story.standing
    assert texts.get(life.content_of, "") == story.text
    assert [texts[each.version_id] for each in life.addenda] == story.addenda
    if keeps or not is_exact:
        assert (life.clock_started_at or BEGIN) >= (story.clock or BEGIN)
    else:
        assert life.clock_started_at == story.clock


def _sent(report: IncomingReport, sent_at: datetime) -> IncomingReport:
    return replace(report, sent_at=sent_at)
