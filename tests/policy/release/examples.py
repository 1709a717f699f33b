"""The bank holidays, instants and versions that the tests of release stand on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import holidays

from policy.release.reports import Said, Verification, Version, ZoneKnown
from policy.release.terms import LONDON, Calendar, ReleaseTerms

BANK_HOLIDAYS = frozenset(holidays.country_holidays("GB", subdiv="ENG", years=range(2019, 2043)))
CALENDAR = Calendar(BANK_HOLIDAYS)
GO_LIVE = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = ReleaseTerms(go_live_at=GO_LIVE)
TOLERANCE = timedelta(minutes=5)
ADULT = date(1960, 5, 17)
BEGIN = datetime(2026, 6, 1, 8, 15, tzinfo=UTC)
"""Monday 1 June 2026, 09:15 in London: the first of the vectors of domain.md A3."""


def london(text: str) -> datetime:
    """An instant from a London wall time such as `2026-06-01 09:15`."""
    return datetime.fromisoformat(text).replace(tzinfo=LONDON)


def utc(text: str) -> datetime:
    """An instant from a wall time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def version(
    version_id: str,
    said: Said = Said.VERIFIED,
    at: datetime = BEGIN,
    *,
    text: str | None = None,
    patient: str = "nhs:9990000018",
    verified_at: datetime | None = None,
    zone: ZoneKnown = ZoneKnown.STATED,
    received_at: datetime | None = None,
    promotes: bool = False,
    is_administrative: bool = False,
    alerts: frozenset[str] = frozenset(),
    precedence: int = 0,
) -> Version:
    """One version; a verified one was verified when it was stated, and its text is its own unless told."""
    body = f"text of {version_id}" if text is None else text
    is_vouched = said in {Said.VERIFIED, Said.CORRECTED, Said.APPENDED}
    return Version(
        version_id=version_id,
        said=said,
        stated_at=at,
        received_at=received_at or at + timedelta(minutes=1),
        verification=Verification(verified_at or at, "Dr Reader", zone) if is_vouched else None,
        patient=patient,
        text_digest=body,
        has_content=bool(body),
        promotes=promotes,
        is_administrative=is_administrative,
        alerts=alerts,
        precedence=precedence,
    )
