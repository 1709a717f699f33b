"""Where a statement belongs: its report may have more numbers than this message names (REL-37, REL-38).

A report is found by its own number, else by any order number that one of its versions names, else by an accession
number where one of the two has no order number. Two patients are never joined: where patients disagree the statement
stays by itself, held for a person. Every other report that it names is stopped, for its text may be the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import JsonValue
from gateway.model.reporting.incoming import Content, IncomingReport, Subject
from gateway.release.contents import Key, seal_version
from gateway.release.naming import STOPS, Numbers, elsewhere_id, numbers_of, told_elsewhere
from policy.release import whose
from policy.release.circumstances import Hold, HoldKind
from policy.release.lifecycle import VOUCHED, order
from policy.release.reports import Said, Standing, Version
from policy.release.terms import LONDON
from storage.database import Read, Tx
from storage.release import holds, links, reports
from storage.release.reports import KeptReport, NewVersion

BY = "intake"
DOUBTED = "another patient's report bears its number"
REVIEW_AFTER = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a feed said of one report, sealed, and what it takes to say it elsewhere."""

    version: NewVersion
    report: IncomingReport
    key: Key

    @property
    def numbers(self) -> Numbers:
        """What it calls its report."""
        return numbers_of(self.report)


@dataclass(frozen=True, slots=True)
class Placing:
    """A version and, by its `report_id`, where it is to be filed."""

    version: NewVersion
    is_doubted: bool = False
    """Whether its number is that of another patient's report."""


def placings(tx: Tx, said: Statement, together: Sequence[Statement], random: Callable[[int], bytes]) -> list[Placing]:
    """The statement where it belongs, and what it means for every other report that it names (REL-37).

    `together` came in one message with it. Raises `InvalidRequest` where it names several by an accession number, and
    nobody can say which it is of.
    """
    new, numbers = said.version, said.numbers
    known = reports.home(tx, new.version.version_id)
    if known is not None:
        return [Placing(replace(new, report_id=known))]
    others = _others(tx, said, together)
    agreeing = [each for each in others if _is_of(each, new)]
    home = new.report_id
    is_doubted = False
    if reports.find(tx, new.trust, new.report_number) is None:
        if agreeing and not numbers.orders:
            one = agreeing[0] if len(agreeing) == 1 else _of_text(tx, new, agreeing)
            if one is not None and new.version.said not in STOPS:
                return [Placing(replace(new, report_id=one.report_id))]
            if new.version.said in (Said.VERIFIED, Said.APPENDED):
                raise InvalidRequest("it names several reports by one accession number and none by an order number")
        if agreeing and (numbers.orders or new.version.said is not Said.CORRECTED):
            home = agreeing[0].report_id
        is_doubted = not agreeing and bool(others) and new.version.said not in STOPS
    own = replace(new, report_id=home)
    others = [each for each in others if each.report_id != home]
    placed = [Placing(own, is_doubted)]
    placed += [Placing(_elsewhere(said, new.version, _at(new, each), random)) for each in others]
    known_here = reports.versions(tx, home)
    for each in others:
        # What came there before anybody knew that the two have to do with each other, and is newer than this.
        echoes = {elsewhere_id(version.version_id, each.report_id) for version in (*known_here, new.version)}
        newer = [one for one in reports.versions(tx, each.report_id) if order(one) > order(new.version)]
        told = [one for one in newer if one.version_id not in echoes]
        placed += [Placing(_elsewhere(said, one, own, random)) for one in told]
    return placed


def doubt(tx: Tx, new: NewVersion) -> None:
    """Keep a report back whose number stands in another patient's report: a person says whose it is."""
    review_on = (tx.now.astimezone(LONDON) + REVIEW_AFTER).date()
    hold = Hold(tx.new_id(), HoldKind.IDENTITY, BY, BY, DOUBTED, tx.now, review_on)
    holds.place(tx, new.report_id, hold)
    told: dict[str, JsonValue] = {
        "act": "hold",
        "by": BY,
        "hold": hold.hold_id,
        "kind": hold.kind.value,
        "reason": DOUBTED,
        "report": new.report_id,
        "trust": new.trust.code,
    }
    tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, hold.hold_id, told))


def _others(tx: Tx, said: Statement, together: Sequence[Statement]) -> list[KeptReport]:
    """The trust's other reports of these numbers, the oldest first."""
    new, numbers = said.version, said.numbers
    left = set[str]()
    if new.version.said is Said.CANCELLED:
        # An order cancelled beside a report is no part of it any more, and cancels none of what is left.
        left = {each.version.report_id for each in together if each.version.version.said in VOUCHED}
    found: list[KeptReport] = []
    for report_id in links.namesakes(tx, new.trust, sorted(numbers.all)):
        kept = reports.get(tx, report_id)
        if kept is None or report_id in left | {new.report_id}:
            continue
        if kept.standing is Standing.WITHDRAWN and not _is_of(kept, new):
            continue  # the other patient starts afresh (REL-36)
        if numbers.names(Numbers(*links.numbers_of(tx, report_id))):
            found.append(kept)
    return found


def _at(new: NewVersion, other: KeptReport) -> NewVersion:
    """As if the version were another report's, and its patient's."""
    return replace(
        new,
        report_id=other.report_id,
        report_number=other.report_number,
        patient_id=other.patient_id,
        version=replace(new.version, patient=other.patient_key),
        birth_date=other.birth_date,
        exam_codes=tuple(sorted(other.exam_codes)),
    )


def _elsewhere(said: Statement, version: Version, at: NewVersion, random: Callable[[int], bytes]) -> NewVersion:
    """What a version means for the report of `at`: no word, number or name of it goes there."""
    told = told_elsewhere(version, at.report_id, at.version.patient)
    bare = IncomingReport(
        trust=at.trust,
        feed=at.feed,
        source=said.report.source,
        message_id=at.message_id,
        report_number=at.report_number,
        said=told.said,
        stated_at=told.stated_at,
        verification=told.verification,
        subject=Subject(),
        content=Content(),
        received_at=told.received_at,
    )
    sealed = seal_version(told.version_id, bare, said.key, random)
    return replace(at, version=told, study_uids=(), accessions=(), orders=(), resources=(), sealed=sealed)


def _is_of(kept: KeptReport, new: NewVersion) -> bool:
    """Whether both are one patient's; what is nobody's agrees with nobody."""
    return bool(kept.patient_key) and whose.are_one([kept.patient_key, new.version.patient])


def _of_text(read: Read, new: NewVersion, among: Sequence[KeptReport]) -> KeptReport | None:
    """The one report that has this text already."""
    digest = new.version.text_digest
    having = [
        each
        for each in among
        if digest and any(version.text_digest == digest for version in reports.versions(read, each.report_id))
    ]
    return having[0] if len(having) == 1 else None
