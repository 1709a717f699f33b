"""How a report and its versions are named: by what they are and say, never by when or how they came (REL-30).

So the same statement over two feeds, or after a restart, is one version. What a message merely carries (its number,
its time of arrival, the spelling of an examination) is no part of the name; whatever a rule of release looks at is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import replace

import orjson

from gateway.model.reporting.incoming import IncomingReport, ReportSource
from gateway.release.filing.numbers import resources_of
from policy.parties import TrustId
from policy.release.ordering.instants import order
from policy.release.reports import Said, Version

STOPS = frozenset({Said.TAKEN_BACK, Said.CANCELLED, Said.WITHDRAWN})
_PRECEDENCE = {source: place for place, source in enumerate(ReportSource)}


def report_id_of(trust: TrustId, report_number: str) -> str:
    """The report that a trust calls so."""
    return _digest(["report", trust.code, report_number])


def word_of_unknown(told: Iterable[Version]) -> Version | None:
    """The newest word of a report of which nothing is known but that it is stopped, or has an addendum to a text that
    never came; None: more is known.
    """
    known = sorted(told, key=order)
    said = {each.said for each in known}
    is_unknown = said <= STOPS or (Said.APPENDED in said and said.isdisjoint((Said.VERIFIED, Said.CORRECTED)))
    return known[-1] if known and is_unknown else None


def elsewhere_id(version_id: str, report_id: str) -> str:
    """How a version is named where it was told of in another report."""
    return _digest(["elsewhere", version_id, report_id])


def told_elsewhere(version: Version, report_id: str, patient: str) -> Version:
    """What a statement means for another report of the same numbers, which is `patient`'s.

    It stops the text there as strongly as it did in its own, and puts none of its own words in its place.
    """
    if version.said in STOPS or version.said is Said.PRELIMINARY:
        said, verification, stated_at = version.said, version.verification, version.stated_at
    else:
        said, verification, stated_at = Said.TAKEN_BACK, None, order(version)[0]
    return replace(
        version,
        version_id=elsewhere_id(version.version_id, report_id),
        said=said,
        stated_at=stated_at,
        verification=verification,
        patient=patient,
        text_digest="",
        has_content=False,
        promotes=False,
        alerts=frozenset(),
    )


def version_of(incoming: IncomingReport, patient: str, secret: bytes) -> Version:
    """What the report says, without its text; `patient` is whose it is, equal for equal identity.

    Its name and its text's digest hang on the trust's `secret`: whoever steals the rows alone could try short texts.
    """
    verification = incoming.verification
    verified = None
    if verification is not None:
        verified = [verification.at and verification.at.timestamp(), verification.by, verification.zone.value]
    subject = incoming.subject
    text_digest = _keyed(secret, b"text " + incoming.content.digest.encode()) if incoming.content.digest else ""
    statement = [
        report_id_of(incoming.trust, incoming.report_number),
        incoming.said.value,
        incoming.stated_at.timestamp(),
        verified,
        subject.key,
        " ".join(subject.family_name.casefold().split()),
        subject.birth_date and subject.birth_date.isoformat(),
        text_digest,
        incoming.promotes,
        incoming.is_administrative,
        sorted(set(incoming.alert_codes)),
        sorted(set(incoming.accessions)),
        *sorted(resources_of(incoming)),
    ]
    if incoming.sent_at is not None and incoming.said not in {Said.VERIFIED, Said.APPENDED}:
        # Many a system tells of each later stop and correction with the time of the text that it stops or corrects.
        statement.append(f"sent {incoming.sent_at.timestamp()}")
    return Version(
        version_id=_digest(statement),
        said=incoming.said,
        stated_at=incoming.stated_at,
        received_at=incoming.received_at,
        verification=verification,
        patient=patient,
        text_digest=text_digest,
        has_content=incoming.content.is_whole,
        promotes=incoming.promotes,
        is_administrative=incoming.is_administrative,
        alerts=frozenset(incoming.alert_codes),
        precedence=_PRECEDENCE[incoming.source],
        document=incoming.message_id,
        follows=frozenset(incoming.predecessors),
        sent_at=incoming.sent_at,
    )


def message_digest(version_ids: Iterable[str], raw: bytes, secret: bytes) -> str:
    """What a message says: its versions, or its bytes where none could be read, by the trust's secret as they are."""
    named = sorted(version_ids)
    return _digest(["message", *named]) if named else _keyed(secret, b"message " + raw)


def _keyed(secret: bytes, statement: bytes) -> str:
    return hmac.digest(secret, statement, "sha256").hex()


def _digest(statement: object) -> str:
    return hashlib.sha256(orjson.dumps(statement)).hexdigest()[:40]
