"""On which terms each trust releases reports, whom it has told, and which days are worked: from what is configured.

A trust's word goes over the region's, and that over the start values of `policy.release.terms`. Bank holidays are data
of the package `holidays`, loaded when they are asked for. Reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import lru_cache
from typing import Final

from gateway.config.configuration import Configuration
from gateway.config.release.sections import AlertWindowEntry, Division, EmbargoEntry, TermsEntry, Weekday
from policy.parties import TrustId
from policy.release.terms import LONG_AGO, AlertWindow, Calendar, EmbargoStep, ReleaseTerms, ShorterEvidence

HOLIDAY_YEARS: Final = range(2000, 2101)
"""Of these the package knows the bank holidays."""
_SUBDIVISIONS: Final[Mapping[Division, str]] = {
    Division.ENGLAND: "ENG",
    Division.WALES: "WLS",
    Division.SCOTLAND: "SCT",
    Division.NORTHERN_IRELAND: "NIR",
}
_WEEKDAYS: Final = {day: number for number, day in enumerate(Weekday)}
_SAME: Final = frozenset(field.name for field in fields(ReleaseTerms)) - {"embargo", "alert_release_window"}
"""What stands in the file as it stands in the terms."""


@dataclass(frozen=True, slots=True)
class ReleaseContacts:
    """Whom a trust's release concerns. An empty address: nobody is named."""

    patient_phone: str = ""
    """The team that a patient may ring: stands in every text about a corrected or withdrawn report."""
    service_mailbox: str = ""
    """For reports whose referrer is unknown or has left (SAF-68)."""
    deputies: tuple[str, ...] = ()
    """The rota behind the mailbox, in the order in which they are asked."""
    referrers_left: frozenset[str] = frozenset()
    """Professionals, as feeds name them, who are there no more: their reports go to the mailbox."""
    results_lead: str = ""
    governance: tuple[str, ...] = ()
    caldicott_guardian: str = ""
    privacy_officer: str = ""
    notices_channel: str = ""
    """The `[[channel]]` by which all of them but the patient are told; none: as files."""


def terms_of(configuration: Configuration, trust: TrustId) -> ReleaseTerms:
    """How a trust releases. One that the configuration does not know releases nothing."""
    region = region_terms(configuration)
    entry = next((each for each in configuration.trust if each.ods == trust), None)
    return replace(region, is_on=False) if entry is None else _over(region, entry.release)


def region_terms(configuration: Configuration) -> ReleaseTerms:
    """How a trust releases that decides nothing by itself."""
    return _over(ReleaseTerms(), configuration.release)


def all_terms(configuration: Configuration) -> Mapping[TrustId, ReleaseTerms]:
    """The terms of every trust of the region."""
    return {entry.ods: terms_of(configuration, entry.ods) for entry in configuration.trust}


def contacts_of(configuration: Configuration, trust: TrustId) -> ReleaseContacts:
    """Whom a trust has named; the PACS desk's phone stands in for a patient's where there is none."""
    entry = next((each for each in configuration.trust if each.ods == trust), None)
    own = {} if entry is None else entry.release.contacts.model_dump(exclude_none=True)
    contacts = ReleaseContacts(**configuration.release.contacts.model_dump(exclude_none=True) | own)
    if contacts.patient_phone or entry is None:
        return contacts
    return replace(contacts, patient_phone=entry.desk_phone)


def calendar_of(configuration: Configuration) -> Calendar:
    """The days on which nobody works, beside weekends."""
    section = configuration.release
    return Calendar(bank_holidays(section.bank_holidays_of) | frozenset(section.bank_holidays_besides))


@lru_cache(maxsize=len(Division))
def bank_holidays(division: Division) -> frozenset[date]:
    """The bank holidays of a division, substitute days included."""
    import holidays  # noqa: PLC0415  # a third of a second that a command on another register need not wait

    return frozenset(holidays.country_holidays("GB", subdiv=_SUBDIVISIONS[division], years=HOLIDAY_YEARS))


def step_of(entry: EmbargoEntry) -> EmbargoStep:
    """An embargo as policy counts it."""
    evidence = None
    if entry.go_live_on is not None:
        evidence = ShorterEvidence(
            go_live_on=entry.go_live_on,
            national_agreement=entry.national_agreement,
            practice_statement=entry.practice_statement,
            approved_by=entry.approved_by,
        )
    return EmbargoStep(entry.days, entry.from_at or LONG_AGO, evidence, entry.reason)


def _over(lower: ReleaseTerms, entry: TermsEntry) -> ReleaseTerms:
    said = {name: value for name in _SAME if (value := getattr(entry, name)) is not None}
    window = _window(lower.alert_release_window, entry.alert_release_window)
    steps = lower.embargo if entry.embargo is None else tuple(map(step_of, entry.embargo))
    return replace(lower, **said, alert_release_window=window, embargo=steps)


def _window(lower: AlertWindow, entry: AlertWindowEntry) -> AlertWindow:
    days = lower.weekdays if entry.weekdays is None else frozenset(_WEEKDAYS[day] for day in entry.weekdays)
    opens = lower.opens if entry.opens is None else entry.opens
    return AlertWindow(days, opens, lower.closes if entry.closes is None else entry.closes)
