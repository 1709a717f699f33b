"""Which studies a report is of: what its versions name, what that turned out to be, and what a person says.

A UID names its study by itself; an accession number of the trust waits until a study of that number is seen (REL-39
lets nothing wait for it). Which study a number belongs to is found out elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, literal, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from policy.parties import TrustId
from storage.database import Read, Tx
from storage.registers.state import Author
from storage.release.tables import IS_UNSEEN, LinkKind, report, report_study
from storage.tables.columns import Instant, unindexed
from storage.tables.prepared import Prepared

LIST_MAX = 1_000
STUDIES_MAX = 100
"""Of one report."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A number that a report names, and whose study nobody has seen."""

    report_id: str
    trust: TrustId
    patient_id: str | None
    accession: str


_OF_STUDIES = (LinkKind.STUDY_UID, LinkKind.PERSON)
_NUMBERS = tuple(kind.value for kind in LinkKind if kind not in (*_OF_STUDIES, LinkKind.EXAM))
"""What one report may have in common with a statement about it."""
_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended(:of_number, 0))")
_ADD_LINK = {
    "sqlite": Prepared(sqlite.insert(report_study).on_conflict_do_nothing()),
    "postgresql": Prepared(postgresql.insert(report_study).on_conflict_do_nothing()),
}
_PAIR = Prepared(
    update(report_study)
    .where(
        report_study.c.report_id == bindparam("of_report"),
        report_study.c.kind == LinkKind.ACCESSION.value,
        report_study.c.named == bindparam("of_number"),
        report_study.c.study_uid.is_(None),
    )
    .values(study_uid=bindparam("to_study"), linked_at=bindparam("at", type_=Instant))
)
_ORDER = Prepared(
    update(report)
    .where(report.c.report_id == bindparam("of_report"), report.c.accession.is_(None))
    .values(accession=bindparam("to_accession"))
)
_LINK = Prepared(
    update(report)
    .where(report.c.report_id == bindparam("of_report"))
    .values(is_linked=True, study_uid=func.coalesce(report.c.study_uid, bindparam("to_study")))
)


def name(
    tx: Tx,
    report_id: str,
    study_uids: Sequence[str],
    accessions: Sequence[str],
    called: Sequence[tuple[LinkKind, str]] = (),
) -> None:
    """Write down what a version names; a UID links its report at once, and the one number that stands beside the one
    UID. May be said twice. Where a person has said that the report is not of a study, it stays so.
    """
    uids, numbers = tuple(dict.fromkeys(study_uids)), tuple(dict.fromkeys(accessions))
    left = frozenset(left_by(tx, report_id)) if uids else frozenset[str]()
    pair = uids[0] if len(uids) == len(numbers) == 1 and uids[0] not in left else None
    uids = tuple(uid for uid in uids if uid not in left)
    rows = [_row(tx, report_id, LinkKind.STUDY_UID, uid, uid) for uid in uids]
    rows += [_row(tx, report_id, LinkKind.ACCESSION, number, pair) for number in numbers]
    rows += [_row(tx, report_id, kind, number, None) for kind, number in dict.fromkeys(called)]
    if rows:
        _ADD_LINK[tx.connection.dialect.name].run(tx.connection, rows)
    if pair is not None:
        _PAIR.run(tx.connection, [{"of_report": report_id, "of_number": numbers[0], "to_study": pair, "at": tx.now}])
    if numbers:
        _ORDER.run(tx.connection, [{"of_report": report_id, "to_accession": numbers[0]}])
    if uids:
        _LINK.run(tx.connection, [{"of_report": report_id, "to_study": uids[0]}])


def alone(tx: Tx, trust: TrustId, numbers: Iterable[str]) -> None:
    """Until the transaction ends nobody else files what names one of these: two messages at once see each other."""
    if tx.connection.dialect.name == "postgresql":
        for number in sorted(set(numbers)):
            tx.connection.execute(_ALONE, {"of_number": f"{trust.code}/{number}"})


def namesakes(read: Read, trust: TrustId, numbers: Sequence[str]) -> tuple[str, ...]:
    """Reports of a trust of which any version names one of these numbers or resources, the oldest first."""
    wanted = sorted(set(numbers))
    # By the numbers, and their reports by id: joined, SQLite walks through every report of the trust instead.
    naming = select(report_study.c.report_id).where(report_study.c.kind.in_(_NUMBERS), report_study.c.named.in_(wanted))
    statement = (
        select(report.c.report_id)
        .where(report.c.report_id.in_(naming), unindexed(report.c.trust) == trust.code)
        .order_by(report.c.created_at, report.c.report_id)
        .limit(LIST_MAX)
    )
    return tuple(row.report_id for row in read.connection.execute(statement))


def numbers_of(read: Read, report_id: str) -> dict[LinkKind, frozenset[str]]:
    """What any version of a report calls it, but for its studies."""
    statement = select(report_study.c.kind, report_study.c.named).where(report_study.c.report_id == report_id)
    found: dict[LinkKind, frozenset[str]] = {}
    for row in read.connection.execute(statement):
        kind = LinkKind(row.kind)
        if kind not in _OF_STUDIES:
            found[kind] = found.get(kind, frozenset()) | {row.named}
    return found


def unlinked(read: Read, after: tuple[str, str], count_max: int) -> Sequence[Unlinked]:
    """Numbers without a study, in order, from those behind the report and number `after`."""
    at = tuple_(report_study.c.report_id, report_study.c.named) > tuple_(*map(literal, after))
    statement = (
        select(report_study.c.report_id, report_study.c.named, report.c.trust, report.c.patient_id)
        .join(report, report.c.report_id == report_study.c.report_id)
        .where(IS_UNSEEN, at)
        .order_by(report_study.c.report_id, report_study.c.named)
        .limit(min(count_max, LIST_MAX))
    )
    return [
        Unlinked(row.report_id, TrustId(row.trust), row.patient_id, row.named)
        for row in read.connection.execute(statement)
    ]


def studies_of(read: Read, report_id: str) -> tuple[str, ...]:
    """The studies that a report is known to be of; a person's word goes first."""
    is_persons = report_study.c.kind != LinkKind.PERSON.value
    statement = (
        select(report_study.c.study_uid)
        .where(report_study.c.report_id == report_id, report_study.c.study_uid.is_not(None))
        .order_by(is_persons, report_study.c.study_uid)
        .limit(STUDIES_MAX)
    )
    return tuple(dict.fromkeys(read.connection.execute(statement).scalars()))


def others_document(read: Read, sop_uid: str, trust: TrustId) -> list[tuple[str, TrustId]]:
    """The reports of other trusts that are this structured report, and whose they are."""
    statement = (
        select(report.c.report_id, report.c.trust)
        .join(report_study, report.c.report_id == report_study.c.report_id)
        .where(report_study.c.kind.in_((LinkKind.DOCUMENT.value, LinkKind.DRAFT.value)))
        .where(report_study.c.named == sop_uid, report.c.trust != trust.code)
    )
    return [(row.report_id, TrustId(row.trust)) for row in read.connection.execute(statement)]


def has_others(read: Read, study_uid: str, trust: TrustId) -> bool:
    """Whether a report of another trust is of this study."""
    statement = (
        select(report.c.report_id)
        .join(report_study, report.c.report_id == report_study.c.report_id)
        .where(report_study.c.study_uid == study_uid, report.c.trust != trust.code)
        .limit(1)
    )
    return read.connection.execute(statement).first() is not None


def told_by_others(read: Read, wanted: Unlinked) -> str | None:
    """The one study to which another report of the same trust and patient links this number."""
    if wanted.patient_id is None:
        return None
    statement = (
        select(report_study.c.study_uid)
        .join(report, report.c.report_id == report_study.c.report_id)
        .where(
            report.c.trust == wanted.trust.code,
            report.c.patient_id == wanted.patient_id,
            report_study.c.kind == LinkKind.ACCESSION.value,
            report_study.c.named == wanted.accession,
            report_study.c.study_uid.is_not(None),
        )
        .distinct()
        .limit(2)
    )
    found: list[str] = list(read.connection.execute(statement).scalars())
    return found[0] if len(found) == 1 else None


def seen(tx: Tx, wanted: Unlinked, study_uid: str, by: str) -> bool:
    """A study of this number was seen: its report is linked; False where somebody did that meanwhile."""
    is_this = (
        (report_study.c.report_id == wanted.report_id)
        & (report_study.c.kind == LinkKind.ACCESSION.value)
        & (report_study.c.named == wanted.accession)
        & report_study.c.study_uid.is_(None)
    )
    values = {"study_uid": study_uid, "linked_by": by, "linked_at": tx.now}
    faultpoint("links.seen.before")
    if study_uid in left_by(tx, wanted.report_id):
        return False
    if tx.connection.execute(update(report_study).where(is_this).values(values)).rowcount == 0:
        return False
    _linked(tx, wanted.report_id, study_uid, Author(by, "", "its accession number was seen"))
    return True


def link_by_person(tx: Tx, report_id: str, study_uid: str, author: Author) -> bool:
    """A person says of which study a report is; False where it was so already. Raises `InvalidRequest`."""
    _check_author(author)
    if tx.connection.execute(select(report.c.report_id).where(report.c.report_id == report_id)).first() is None:
        raise InvalidRequest("no such report")
    if study_uid in studies_of(tx, report_id):
        return False
    _say(tx, report_id, study_uid, study_uid, author)
    _linked(tx, report_id, study_uid, author)
    return True


def unlink_by_person(tx: Tx, report_id: str, study_uid: str, author: Author) -> bool:
    """A person says that a report is not of a study, whoever said so; False where it is linked to no such study.

    No message and no number links the two again; a person may. Raises `InvalidRequest`.
    """
    _check_author(author)
    if study_uid not in studies_of(tx, report_id):
        return False
    is_of_it = (report_study.c.report_id == report_id) & (report_study.c.study_uid == study_uid)
    tx.connection.execute(update(report_study).where(is_of_it).values(study_uid=None, linked_at=None))
    _say(tx, report_id, study_uid, None, author)
    others = studies_of(tx, report_id)
    stays = {"is_linked": bool(others), "study_uid": others[0] if others else None}
    tx.connection.execute(update(report).where(report.c.report_id == report_id).values(stays))
    _record(tx, "unlink", report_id, study_uid, author)
    return True


def left_by(read: Read, report_id: str) -> tuple[str, ...]:
    """The studies of which a person has said that the report is not of them."""
    of = report_study.c
    said = select(of.named).where(of.report_id == report_id, of.kind == LinkKind.PERSON.value, of.study_uid.is_(None))
    return tuple(read.connection.execute(said.order_by(of.named).limit(STUDIES_MAX)).scalars())


def named_by_others(read: Read, report_id: str, study_uid: str) -> frozenset[tuple[TrustId, str | None]]:
    """Of which trusts and patients other reports of a study are."""
    statement = (
        select(report.c.trust, report.c.patient_id)
        .join(report_study, report.c.report_id == report_study.c.report_id)
        .where(report_study.c.study_uid == study_uid, report.c.report_id != report_id)
        .distinct()
    )
    return frozenset((TrustId(row.trust), row.patient_id) for row in read.connection.execute(statement))


def _row(tx: Tx, report_id: str, kind: LinkKind, named: str, study_uid: str | None) -> dict[str, object]:
    return {
        "report_id": report_id,
        "kind": kind.value,
        "named": named,
        "study_uid": study_uid,
        "linked_by": "",
        "reason": "",
        "linked_at": None if study_uid is None else tx.now,
    }


def _check_author(author: Author) -> None:
    if not author.subject.strip() or not author.reason.strip():
        raise InvalidRequest("a name and a reason are needed")


def _say(tx: Tx, report_id: str, named: str, study_uid: str | None, author: Author) -> None:
    """Write down a person's word in place of an earlier one; None: it is not of that study."""
    of = report_study.c
    earlier = (of.report_id == report_id) & (of.kind == LinkKind.PERSON.value) & (of.named == named)
    tx.connection.execute(delete(report_study).where(earlier))
    row = _row(tx, report_id, LinkKind.PERSON, named, study_uid)
    row |= {"linked_by": author.subject, "reason": author.reason}
    tx.connection.execute(report_study.insert().values(row))


def _linked(tx: Tx, report_id: str, study_uid: str, author: Author) -> None:
    _LINK.run(tx.connection, [{"of_report": report_id, "to_study": study_uid}])
    _record(tx, "link", report_id, study_uid, author)


def _record(tx: Tx, act: str, report_id: str, study_uid: str, author: Author) -> None:
    told: dict[str, JsonValue] = {
        "act": act,
        "by": author.subject,
        "reason": author.reason,
        "report": report_id,
        "study": study_uid,
    }
    tx.chain.append(AuditEntry(AuditEvent.RELEASE_CHANGE, tx.now, author.request_id, told))
