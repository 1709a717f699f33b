"""Judge `[[report_feed]]` and `[listen.hl7]`: whose each feed is, and that its sender can be told from every other.

A feed's certificate speaks for one feed: reports of one trust can never come in as another's (threat G2). No profile
takes an exam's or a message's time for that of verification (REL-07). Every check yields all that it finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gateway.config.configuration import Configuration
from gateway.config.release.feeds import ReportFeedEntry
from gateway.feeds.profile import DICOM_FEED, NEVER_VERIFICATION, Feed, FeedKind, Place
from policy.parties import TrustId


def feeds_of(configuration: Configuration) -> tuple[Feed, ...]:
    """The feeds as their readers know them; a trust that names no issuer of its numbers issues them by its code."""
    issuers = {trust.ods: trust.patient_id_issuer or trust.ods.code for trust in configuration.trust}
    return tuple(entry.feed(issuers.get(entry.trust, entry.trust.code)) for entry in configuration.report_feed)


def feeds(configuration: Configuration) -> Iterator[str]:
    """What is wrong with the feeds."""
    known = {trust.ods for trust in configuration.trust}
    for name, count in Counter(entry.name for entry in configuration.report_feed).items():
        if count > 1:
            yield f"report_feed ({name}): stands {count} times"
    proofs: dict[object, str] = {}
    trusts: dict[str, TrustId] = {}
    for number, entry in enumerate(configuration.report_feed, start=1):
        place = f"report_feed {number} ({entry.name})"
        if entry.trust not in known:
            yield f"{place}.trust: no [[trust]] has the code {entry.trust}"
        yield from _profile(place, entry)
        if entry.name == DICOM_FEED and entry.kind is not FeedKind.DICOM:
            yield f'{place}.name: "{DICOM_FEED}" is what the store doors are called among the feeds'
        if entry.kind is FeedKind.DICOM:
            proof: object = (entry.kind, entry.trust)
            if (other := proofs.setdefault(proof, place)) != place:
                yield f"{place}: is {other} again: a trust's callers at the store doors are one feed"
            continue
        yield from _sender(place, entry)
        if (shown := entry.certificate_sha256) and trusts.setdefault(shown, entry.trust) != entry.trust:
            yield f"{place}: its certificate stands for {trusts[shown]} too; one certificate speaks for one trust"
        proof = (entry.kind, shown or frozenset(entry.addresses))
        if (other := proofs.setdefault(proof, place)) != place:
            yield f"{place}: cannot be told from {other}: same certificate, or none and the same addresses"


def doors(configuration: Configuration) -> Iterator[str]:
    """Feeds that have no door, and a door without feeds."""
    kinds = {entry.kind for entry in configuration.report_feed}
    if FeedKind.HL7 in kinds and configuration.listen.hl7 is None:
        yield 'report_feed: one of kind "hl7" means nothing without [listen.hl7]'
    if configuration.listen.hl7 is not None and FeedKind.HL7 not in kinds:
        yield 'listen.hl7: nobody may send there: no [[report_feed]] is of kind "hl7"'


def _profile(place: str, entry: ReportFeedEntry) -> Iterator[str]:
    profile = entry.profile
    if str(Place.parse(profile.verification_from)) in NEVER_VERIFICATION:
        yield f"{place}.profile.verification_from: {profile.verification_from} is no time of verification (REL-07)"
    if profile.administrative_codes and profile.administrative_from is None:
        yield f"{place}.profile.administrative_codes: mean nothing without administrative_from"
    mapped = {code.upper() for code, _ in profile.alert_codes}
    if both := sorted(mapped & {code.upper() for code in profile.no_alert_codes}):
        yield f"{place}.profile.no_alert_codes: {', '.join(both)} stand in alert_codes too"


def _sender(place: str, entry: ReportFeedEntry) -> Iterator[str]:
    if entry.certificate_sha256 is None and not entry.loopback_only:
        yield f"{place}: needs certificate_sha256; an address alone proves nothing"
    if entry.loopback_only and not all(network.network_address.is_loopback for network in entry.addresses):
        yield f"{place}.addresses: a loopback_only feed cannot come from another machine"
