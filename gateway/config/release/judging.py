"""Judge the terms of release: what no single setting of `[release]` and `[trust.release]` can say by itself.

An embargo shorter than 28 days needs all the evidence of REL-46, a longer one a reason (SAF-69); a trust that releases
names a channel (REL-08) and those to whom its rules escalate. Each trust's terms are judged as they hold: the region's
with its own over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gateway.config.configuration import Configuration
from gateway.config.entries import LookupKind
from gateway.config.release.page import PAGE_CHANNEL
from gateway.config.release.terms import ReleaseContacts, contacts_of, region_terms, terms_of
from policy.release.clock import step_problems
from policy.release.terms import LONDON, LONG_AGO, ReleaseTerms

Problems = Iterator[tuple[str, str]]
"""A setting, and what is wrong with it."""


def terms(configuration: Configuration) -> Iterator[str]:
    """What is wrong with how the region releases, and each of its trusts: each mistake where it was written."""
    region = set(_of_terms(region_terms(configuration)))
    yield from sorted(f"release.{setting}: {words}" for setting, words in region)
    yield from _retention(configuration)
    for number, entry in enumerate(configuration.trust, start=1):
        for setting, words in _of_terms(terms_of(configuration, entry.ods)):
            if (setting, words) not in region:
                yield f"trust {number} ({entry.ods}).release.{setting}: {words}"


def going_live(configuration: Configuration) -> Iterator[str]:
    """What a trust still lacks that has said from when on it releases."""
    for number, entry in enumerate(configuration.trust, start=1):
        held = terms_of(configuration, entry.ods)
        if not entry.enrolled or not held.is_on or held.go_live_at is None:
            continue
        for setting, words in _lacking(held, contacts_of(configuration, entry.ods)):
            yield f"trust {number} ({entry.ods}).release.{setting}: {words}"
        if not any(each.kind is LookupKind.PDS for each in configuration.lookup):
            yield (
                f"trust {number} ({entry.ods}).release.go_live_at: nothing would ever go: patients are traced on"
                ' the day (SAF-66), and there is no [[lookup]] of kind "pds"'
            )
        if PAGE_CHANNEL in held.channels and configuration.patient_page is None:
            yield f"trust {number} ({entry.ods}).release.channels: {PAGE_CHANNEL} needs a [patient_page]"


def _retention(configuration: Configuration) -> Iterator[str]:
    """A text is the last of what is kept of a report: no message, letter or patient who signs up outlives it."""
    kept = configuration.release
    back = [terms_of(configuration, each.ods).back_population_days for each in configuration.trust]
    copies = (kept.payloads_kept_days, kept.dead_letters_kept_days, kept.letters_kept_days, kept.addressees_kept_days)
    longest = max(*copies, region_terms(configuration).back_population_days, *back)
    if kept.texts_kept_days < longest:
        yield f"release.texts_kept_days: must be {longest} at least: what else is kept of a report goes before its text"


def _of_terms(held: ReleaseTerms) -> Problems:
    yield from _embargo(held)
    if not held.window_opens < held.window_closes:
        yield "window_closes", "must be later than window_opens"
    if not held.alert_release_window.opens < held.alert_release_window.closes:
        yield "alert_release_window.closes", "must be later than opens"
    if held.total_delay_alarm_days > held.total_delay_max_days:
        yield "total_delay_alarm_days", "must be total_delay_max_days at most: an alarm after the end warns of nothing"
    if held.total_delay_max_days < max(step.days for step in held.embargo):
        yield "total_delay_max_days", "must be as long as the longest embargo at least (SAF-60a)"
    if any(later <= earlier for earlier, later in pairwise(held.reminder_days)):
        yield "reminder_days", "must rise"


def _embargo(held: ReleaseTerms) -> Problems:
    first, *rest = held.embargo
    if first.from_at != LONG_AGO:
        yield "embargo", "the first has no from_at: it holds for every report before the next begins"
    if any(later.from_at <= earlier.from_at for earlier, later in pairwise(held.embargo)):
        yield "embargo", "each begins later than the one before it: from_at"
    for number, step in enumerate((first, *rest), start=1):
        for problem in step_problems(step):
            yield "embargo", f"{number} ({step.days} days): {problem}"
        evidence, live = step.evidence, held.go_live_at
        if evidence is not None and live is not None and evidence.go_live_on < live.astimezone(LONDON).date():
            yield "embargo", f"{number} ({step.days} days): go_live_on is before go_live_at: it was not live yet"


def _lacking(held: ReleaseTerms, contacts: ReleaseContacts) -> Problems:
    if not held.channels:
        yield "channels", "a trust that releases names one at least (REL-08)"
    for setting, value, why in (
        ("service_mailbox", contacts.service_mailbox, "reports whose referrer is unknown go there (SAF-68)"),
        ("results_lead", contacts.results_lead, "overdue holds are escalated there (SAF-64)"),
        ("caldicott_guardian", contacts.caldicott_guardian, "holds overdue for five working days go there (SAF-64)"),
        ("governance", contacts.governance, "reports that nobody acknowledges go there on the last reminder (SAF-68)"),
    ):
        if not value:
            yield f"contacts.{setting}", f"must be set from go-live on: {why}"
