"""One report, what bears on it, and its plan at an instant: what the tests of planning have in common."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

from policy.release.circumstances import Circumstances, EarlyRelease, Hold, HoldKind, IdentityAgreement, Plan, Traced
from policy.release.lifecycle import fold
from policy.release.planning import plan
from policy.release.reports import Said, Version
from policy.release.terms import ReleaseTerms
from tests.policy.release.examples import ADULT, BEGIN, CALENDAR, TERMS, TOLERANCE, london, version

FINAL = version("final")
END = london("2026-06-29 09:15")
"""A Monday, in working hours: the embargo of `FINAL`."""
SENT = Circumstances(birth_date=ADULT, is_dispatch_proven=True, is_acknowledged=True)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def traced_at(now: datetime, **others: object) -> Traced:
    plain = Traced(now, IdentityAgreement.AGREES, ADULT, "01")
    return replace(plain, **others)  # type: ignore[arg-type]  # named fields of the value


def planned(
    versions: tuple[Version, ...],
    now: datetime,
    circumstances: Circumstances = SENT,
    terms: ReleaseTerms = TERMS,
    *,
    traces: bool = True,
) -> Plan:
    """The plan at an instant, the patient traced and found unless told."""
    if traces and circumstances.traced is None:
        circumstances = replace(circumstances, traced=traced_at(now))
    return plan(fold(versions, TOLERANCE), circumstances, terms, CALENDAR, now)


def hold(kind: HoldKind, review_on: date = date(2026, 7, 10)) -> Hold:
    return Hold("h1", kind, "Dr Referrer", "consultant", "to be told in clinic", BEGIN, review_on)


def out(*versions: str, at: datetime = END) -> Circumstances:
    """Circumstances of a report of which these versions are before the patient."""
    return replace(SENT, seen=dict.fromkeys(versions, at), ever_released=dict.fromkeys(versions, at))


def early(version_id: str, at: datetime) -> Circumstances:
    return replace(SENT, early=(EarlyRelease(version_id, at, "Dr Referrer", "told in clinic"),))


ADDENDUM = version("more", Said.APPENDED, BEGIN + 7 * DAY)
JOINT_END = london("2026-07-06 09:15")
"""When `FINAL` and `ADDENDUM` go together."""
