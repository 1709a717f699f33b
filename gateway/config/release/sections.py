"""`[release]` and `[trust.release]`: on which terms reports reach their patients, and whom a trust's rules concern.

What a trust leaves open is as the region decides, and what that leaves open is as `policy.release.terms` starts:
`gateway.config.release.terms` puts the three together. Not here because it may not be chosen (SAF-70): the disclaimer,
the alert on every override, the audit.
"""

from __future__ import annotations

from datetime import date, time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field

from gateway.config.values import Section, Token
from policy.release.reports import AlertCategory
from policy.release.terms import AddendumBeforeRelease, ThirteenToFifteen, UnderThirteen, WithoutDispatch

_NumberStatus = Annotated[str, Field(pattern=r"^0[1-8]$")]
_Code = Annotated[str, Field(pattern=r"^[^\s](.{0,62}[^\s])?$")]
_Minutes = Annotated[int, Field(ge=1, le=40_320)]
_Escalation = tuple[AlertCategory, _Minutes, _Minutes]
_Address = Annotated[str, Field(max_length=254, pattern=r"^$|^[^@\s]{1,64}@[^@\s]{1,189}$")]


class Weekday(StrEnum):
    """A day of the week, as an operator writes it."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


class Division(StrEnum):
    """Whose bank holidays are kept."""

    ENGLAND = "england"
    WALES = "wales"
    SCOTLAND = "scotland"
    NORTHERN_IRELAND = "northern-ireland"


class EmbargoEntry(Section):
    """`[[release.embargo]]`: how long, from when on, and what had to be recorded for it (REL-46, SAF-69)."""

    days: Annotated[int, Field(ge=1, le=366)] = 28
    from_at: AwareDatetime | None = None
    reason: Annotated[str, Field(max_length=500)] = ""
    go_live_on: date | None = None
    national_agreement: Annotated[str, Field(max_length=200)] = ""
    practice_statement: Annotated[str, Field(max_length=500)] = ""
    approved_by: Annotated[str, Field(max_length=200)] = ""


class AlertWindowEntry(Section):
    """`[release.alert_release_window]`: when unacknowledged reports with a CANCER code go out (SAF-68)."""

    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)] | None = None
    opens: time | None = None
    closes: time | None = None


class ContactsEntry(Section):
    """`[release.contacts]`: who is told, and whom a patient may ring. Addresses carry no report (SAF-41)."""

    patient_phone: Annotated[str, Field(max_length=60, pattern=r"^[0-9+() ext.-]*$")] | None = None
    service_mailbox: _Address | None = None
    deputies: Annotated[tuple[_Address, ...], Field(max_length=16)] | None = None
    referrers_left: Annotated[frozenset[_Code], Field(max_length=5_000)] | None = None
    results_lead: _Address | None = None
    governance: Annotated[tuple[_Address, ...], Field(max_length=16)] | None = None
    caldicott_guardian: _Address | None = None
    privacy_officer: _Address | None = None
    notices_channel: Token | None = None


class TermsEntry(Section):
    """What a region or a trust decides; what it does not is None. The names are those of `ReleaseTerms`."""

    is_on: bool | None = None
    go_live_at: AwareDatetime | None = None
    embargo: Annotated[tuple[EmbargoEntry, ...], Field(min_length=1, max_length=16)] | None = None
    working_days_only: bool | None = None
    window_opens: time | None = None
    window_closes: time | None = None
    verification_future_tolerance_minutes: Annotated[int, Field(ge=0, le=60)] | None = None
    addendum_before_release: AddendumBeforeRelease | None = None
    total_delay_max_days: Annotated[int, Field(ge=1, le=366)] | None = None
    total_delay_alarm_days: Annotated[int, Field(ge=1, le=366)] | None = None
    correction_after_release_days: Annotated[int, Field(ge=1, le=366)] | None = None
    correction_contact_working_days: Annotated[int, Field(ge=1, le=10)] | None = None
    under_13: UnderThirteen | None = None
    from_13_to_15: ThirteenToFifteen | None = None
    without_dispatch: WithoutDispatch | None = None
    nhs_number_statuses: Annotated[frozenset[_NumberStatus], Field(min_length=1)] | None = None
    alert_release_window: AlertWindowEntry = AlertWindowEntry()
    alert_sla_minutes: Annotated[int, Field(ge=1, le=1_440)] | None = None
    alert_escalation_minutes: Annotated[tuple[_Escalation, ...], Field(min_length=1, max_length=8)] | None = None
    dispatch_evidence_working_days: Annotated[int, Field(ge=1, le=5)] | None = None
    reminder_days: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=366)], ...], Field(min_length=1, max_length=8)] | None
    ) = None
    alert_warning_days: Annotated[int, Field(ge=1, le=366)] | None = None
    hold_warning_days: Annotated[int, Field(ge=1, le=28)] | None = None
    hold_review_days_max: Annotated[int, Field(ge=1, le=366)] | None = None
    safeguarding_codes: Annotated[frozenset[_Code], Field(max_length=1_000)] | None = None
    excluded_codes: Annotated[frozenset[_Code], Field(max_length=1_000)] | None = None
    letter_for_adults: bool | None = None
    footnote: Annotated[str, Field(max_length=500)] | None = None
    back_population_days: Annotated[int, Field(ge=0, le=3_660)] | None = None
    channels: Annotated[tuple[Token, ...], Field(max_length=8)] | None = None
    contacts: ContactsEntry = ContactsEntry()


class TrustReleaseEntry(TermsEntry):
    """`[trust.release]`: where this trust decides otherwise than the region."""


class ReleaseSection(TermsEntry):
    """`[release]`: what the region decides, and what it decides for all of its trusts."""

    clock_unsure_max_minutes: Annotated[int, Field(ge=1, le=1_440)] = 60
    bank_holidays_of: Division = Division.ENGLAND
    bank_holidays_besides: Annotated[tuple[date, ...], Field(max_length=100)] = ()
    payloads_kept_days: Annotated[int, Field(ge=1, le=3_660)] = 90
    dead_letters_kept_days: Annotated[int, Field(ge=1, le=3_660)] = 365
    letters_kept_days: Annotated[int, Field(ge=1, le=3_660)] = 90
    addressees_kept_days: Annotated[int, Field(ge=2, le=3_660)] = 90
    texts_kept_days: Annotated[int, Field(ge=366, le=36_600)] = 2_922
    notices_folder: Path | None = None
