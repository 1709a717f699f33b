"""Where a statement belongs: its report may have more numbers than this message names (REL-37, REL-38).

A report is found by its own number, else by any order number that one of its versions names or by the document that the
statement follows, else by an accession number where one of the two has no order number. Two patients are never joined:
where patients disagree the statement stays by itself, held for a person. Every other report that it names is stopped,
for its text may be the wrong one.
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
from gateway.release.filing.numbers import Numbers, number_apart, numbers_of
from gateway.release.naming import STOPS, elsewhere_id, report_id_of, told_elsewhere
from policy.parties import TrustId
from policy.release import whose
from policy.release.circumstances import Hold, HoldKind
from policy.release.ordering.instants import VOUCHED, order
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
class _Named:
    """A report that a statement may be about."""

    kept: KeptReport
    numbers: Numbers


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
    named = _named(tx, said, together)
    agreeing = [each for each in named if _is_of(each.kept, new)]
    own = _called(tx, said, named)
    is_doubted = False
    is_open = not numbers.orders and len(agreeing) > 1
    if is_open or reports.get(tx, own.report_id) is None:
        alike = _alike(tx, new, agreeing)
        if agreeing and not numbers.orders:
            if alike is not None and new.version.said not in STOPS:
                return [Placing(replace(new, report_id=alike.report_id))]
            if new.version.said in (Said.VERIFIED, Said.APPENDED):
                raise InvalidRequest("it names several reports by one number and none by an order number")
        if agreeing and (numbers.orders or new.version.said is not Said.CORRECTED):
            own = replace(own, report_id=(alike or agreeing[0].kept).report_id)
        is_doubted = not agreeing and bool(named) and new.version.said not in STOPS
    home = own.report_id
    others = _others(tx, said, named, home)
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


def doubt(tx: Tx, report_id: str, trust: TrustId, reason: str = DOUBTED) -> bool:
    """Keep a report back until a person says whose it is; False: for this reason it is already."""
    if any(each.reason == reason for each in holds.holds(tx, report_id)):
        return False
    review_on = (tx.now.astimezone(LONDON) + REVIEW_AFTER).date()
    hold = Hold(tx.new_id(), HoldKind.IDENTITY, BY, BY, reason, tx.now, review_on)
    holds.place(tx, report_id, hold)
    told: dict[str, JsonValue] = {
        "act": "hold",
        "by": BY,
        "hold": hold.hold_id,
        "kind": hold.kind.value,
        "reason": reason,
        "report": report_id,
        "trust": trust.code,
    }
    tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, hold.hold_id, told))
    return True


def _named(tx: Tx, said: Statement, together: Sequence[Statement]) -> list[_Named]:
    """The trust's reports of these numbers, the oldest first."""
    new, numbers = said.version, said.numbers
    left = set[str]()
    if new.version.said is Said.CANCELLED:
        # An order cancelled beside a report is no part of it any more, and cancels none of what is left.
        left = {each.version.report_id for each in together if each.version.version.said in VOUCHED}
    found: list[_Named] = []
    for report_id in links.namesakes(tx, new.trust, sorted(numbers.all)):
        kept = reports.get(tx, report_id)
        if kept is None or report_id in left - {new.report_id}:
            continue
        if kept.standing is Standing.WITHDRAWN and not _is_of(kept, new):
            continue  # the other patient starts afresh (REL-36)
        found.append(_Named(kept, Numbers.of(links.numbers_of(tx, report_id))))
    # What it surely is says more of it than it does itself.
    known = numbers.joined(numbers.told_by(each.numbers) for each in found)
    named = [
        each
        for each in found
        if known.names(each.numbers, are_of_one=_is_of(each.kept, new)) or _is_copy(tx, said, each)
    ]
    if known.is_bare:
        named = [each for each in named if not each.kept.exam_codes.isdisjoint(new.exam_codes)] or named
    return named


def _is_copy(read: Read, said: Statement, other: _Named) -> bool:
    """Whether a document says again, under a UID of its own, what another document of its accession number says."""
    numbers, new = said.numbers, said.version
    if not numbers.documents or numbers.orders or numbers.accessions.isdisjoint(other.numbers.accessions):
        return False
    said_so = (new.version.text_digest, new.version.precedence)
    told = reports.versions(read, other.kept.report_id)
    is_said = any((each.text_digest, each.precedence) == said_so for each in told)
    return new.version.has_content and _is_of(other.kept, new) and is_said


def _called(tx: Tx, said: Statement, named: Sequence[_Named]) -> NewVersion:
    """The version, of the report of its number; of one of its own where that is known to be another (REL-38)."""
    new = said.version
    kept = reports.get(tx, new.report_id)
    if kept is None or not _is_of(kept, new) or any(each.kept.report_id == new.report_id for each in named):
        return new
    number = number_apart(said.report)
    return replace(new, report_id=report_id_of(new.trust, number), report_number=number)


def _others(tx: Tx, said: Statement, named: Sequence[_Named], home: str) -> list[KeptReport]:
    """Those beside its own that may be of what it says too: of what stops any of them, all of them."""
    numbers, new = said.numbers, said.version
    beside = [each for each in named if each.kept.report_id != home]
    if beside and numbers.orders and new.version.said not in STOPS:
        numbers = numbers.joined([Numbers.of(links.numbers_of(tx, home)).as_documents])
    return [each.kept for each in beside if numbers.names(each.numbers, are_of_one=_is_of(each.kept, new))]


def _alike(read: Read, new: NewVersion, agreeing: Sequence[_Named]) -> KeptReport | None:
    """The only one; of several the one that has this text already, else what was verified then, else this source's."""
    if len(agreeing) == 1:
        return agreeing[0].kept
    version = new.version
    verified_at = version.verification.at if version.verification is not None else None
    of_text, of_then, of_source = list[KeptReport](), list[KeptReport](), list[KeptReport]()
    for each in agreeing:
        told = reports.versions(read, each.kept.report_id)
        if version.text_digest and any(one.text_digest == version.text_digest for one in told):
            of_text.append(each.kept)
        if verified_at and any(one.verification and one.verification.at == verified_at for one in told):
            of_then.append(each.kept)
        if any(one.precedence == version.precedence for one in told):
            of_source.append(each.kept)
    return next((found[0] for found in (of_text, of_then, of_source) if len(found) == 1), None)


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
    return replace(at, version=told, study_uids=(), accessions=(), called=(), sealed=sealed)


def _is_of(kept: KeptReport, new: NewVersion) -> bool:
    """Whether both are one patient's; what is nobody's agrees with nobody."""
    return bool(kept.patient_key) and whose.are_one([kept.patient_key, new.version.patient])
