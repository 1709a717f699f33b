"""What staff see of reports: lines, explanations and the board, put together from rows and rules in one snapshot.

Nothing that a report says is opened, and nobody but staff is named, so looking needs no key and leaves nothing behind.
Command line and API show the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from statistics import median

from gateway.model.errors import NotFound
from gateway.model.reporting.views import (
    Board,
    DeadLetterLine,
    DeliveryLine,
    Done,
    Explained,
    HoldLine,
    Medians,
    ReasonLine,
    ReportLine,
    VersionLine,
)
from gateway.release.planner import Planner, Situation
from gateway.release.referrers.referring import version_to_name
from policy.parties import TrustId
from policy.release.circumstances import Hold, ReleaseState
from policy.release.clock import day_of, midnight
from storage.clinical import referrals
from storage.database import Read
from storage.release import deliveries, holds, links, listing, messages, releases, reports, standing
from storage.release.governance import outcomes
from storage.release.listing import Counts
from storage.release.reports import KeptReport

MEDIANS_OVER = timedelta(days=30)


def lines_of(read: Read, found: Sequence[KeptReport]) -> tuple[ReportLine, ...]:
    """Reports as they stand, each with the version that whoever acts names."""
    chased = referrals.of_reports(read, [each.report_id for each in found])
    named = {report_id: version_to_name(read, kept) for report_id, kept in chased.items()}
    return tuple(_line_of(each, named.get(each.report_id, each.current_version)) for each in found)


def done_of(situation: Situation, *, changed: bool = True) -> Done:
    """What an act has led to."""
    plan = situation.plan
    return Done(situation.report.report_id, plan.state, plan.due_at, changed)


def of_trust(read: Read, report_id: str, trust: TrustId | None) -> KeptReport:
    """The report; raises `NotFound` for one that is not this trust's (None: anybody's)."""
    report = reports.get(read, report_id)
    if report is None or (trust is not None and report.trust != trust):
        raise NotFound("no such report")
    return report


def explained(read: Read, planner: Planner, report_id: str, trust: TrustId | None) -> Explained:
    """What will happen to a report, when, and why, planned at this moment; raises `NotFound`."""
    report = of_trust(read, report_id, trust)
    found = planner.situation(read, report_id)
    plan, lifecycle = found.plan, found.lifecycle
    is_dispatch_proven, is_acknowledged = planner.referred(read, report_id)
    given = releases.released(read, report_id)
    stands = [each.version_id for each in lifecycle.texts]
    [line] = lines_of(read, [report])
    newest = lifecycle.newest
    if newest is not None and lifecycle.repeats.get(line.version_id or "", line.version_id) != newest.version_id:
        line = replace(line, version_id=newest.version_id)  # nobody is chased for it, or not yet
    return Explained(
        report=line,
        will_be_released_at=None if plan.state is ReleaseState.RELEASED else plan.due_at,
        looked_at_again=report.look_at,
        reasons=tuple(ReasonLine(each.rule, each.words) for each in plan.reasons),
        study_uids=links.studies_of(read, report_id),
        versions=tuple(
            VersionLine(
                version_id=each.version_id,
                said=each.said,
                stated_at=each.stated_at,
                received_at=each.received_at,
                verified_at=each.verification.at if each.verification is not None else None,
                alerts=tuple(sorted(each.alerts)),
                is_current=stands[:1] == [each.version_id],
                stands=each.version_id in stands,
                released_at=given.get(each.version_id),
            )
            for each in reports.versions(read, report_id)
        ),
        holds=tuple(_hold_line(report_id, each) for each in holds.holds(read, report_id)),
        deliveries=tuple(
            DeliveryLine(
                channel=each.channel,
                document_key=each.document_key,
                state=each.state.value,
                due_at=each.due_at,
                released_at=each.released_at,
                withdrawn_at=each.withdrawn_at,
                attempts=each.attempts,
                words=each.words,
            )
            for each in deliveries.deliveries(read, report_id)
        ),
        is_acknowledged=is_acknowledged,
        is_dispatch_proven=is_dispatch_proven,
    )


def board(read: Read, planner: Planner, trust: TrustId | None) -> Board:
    """How release stands in a trust, or in the region."""
    return _board(read, planner, trust, listing.counts(read, trust))


def boards(read: Read, planner: Planner, trusts: Iterable[TrustId]) -> tuple[Board, ...]:
    """How release stands in each of these trusts; what all of them are counted by is read once."""
    counted = listing.counts_by_trust(read)
    return tuple(_board(read, planner, trust, counted.get(trust, listing.NONE)) for trust in trusts)


def _board(read: Read, planner: Planner, trust: TrustId | None, found: Counts) -> Board:
    now, calendar = planner.now(), planner.calendar
    today = midnight(day_of(now, calendar), calendar)
    tomorrow = midnight(day_of(now, calendar) + timedelta(days=1), calendar)
    stopped = {each.trust for each in standing.stops(read)}
    return Board(
        at=now,
        trust="" if trust is None else trust.code,
        waiting=found.by_state.get(ReleaseState.EMBARGOED, 0),
        due=found.by_state.get(ReleaseState.DUE, 0),
        held=found.by_state.get(ReleaseState.HELD, 0),
        overdue_review=found.overdue_review,
        held_by_rule=found.held_by_rule,
        unacknowledged=found.unacknowledged,
        undeliverable=outcomes.undeliverable(read, trust),
        retried=outcomes.retried(read, trust),
        unmatched=found.unmatched,
        identity_changed=found.identity_changed,
        dead_letters=found.dead_letters,
        released_today=outcomes.released_between(read, today, tomorrow, trust),
        is_stopped=bool(stopped) if trust is None else trust in stopped,
        medians=Medians(
            _median(outcomes.delays_s(read, now - MEDIANS_OVER, trust)),
            _median(referrals.delays_s(read, now - MEDIANS_OVER, trust)),
        ),
    )


def dead_letters(read: Read, trust: TrustId | None) -> tuple[DeadLetterLine, ...]:
    """Messages that wait for a person, the oldest first."""
    return tuple(
        DeadLetterLine(each.row_id, each.trust.code, each.feed, each.kind, each.problem, each.received_at)
        for each in messages.dead_letters(read, trust)
    )


def _line_of(report: KeptReport, version_id: str | None) -> ReportLine:
    return ReportLine(
        report_id=report.report_id,
        trust=report.trust.code,
        report_number=report.report_number,
        version_id=version_id,
        state=report.state,
        standing=report.standing,
        due_at=report.due_at,
        look_at=report.look_at,
        held_for=tuple(sorted(report.held_for)),
        flags=tuple(sorted(report.flags)),
        is_linked=report.is_linked,
        changed_at=report.changed_at,
    )


def _hold_line(report_id: str, hold: Hold) -> HoldLine:
    return HoldLine(hold.hold_id, report_id, hold.kind, hold.by, hold.role, hold.reason, hold.placed_at, hold.review_on)


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
