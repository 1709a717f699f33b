"""The region's trusts over time: their standing and stage, planned downtimes, test patients (product 1N; safety.md 6).

Every change is a new revision; the one before it stays as it was believed. A step to a further stage needs two named
people, neither of whom may be the other. Written by commands alone, read by every node once the register version moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, bindparam, delete, insert, select, update

from gateway.model.errors import InvalidRequest
from gateway.model.faults import faultpoint
from gateway.model.imaging import JsonValue
from policy.parties import NhsNumber, TrustId
from policy.trusts import SUCCESSIONS_MAX, Downtime, Roll, Stage, Standing, TrustStanding
from storage.database import Read, Tx
from storage.registers import patients, quality
from storage.registers.state import Author, bump_register_version, record_change
from storage.tables.columns import STILL_BELIEVED, Instant, Json, TableRow, belief, believed, metadata, period
from storage.tables.prepared import Prepared

REGISTER = "trusts"
REASON_CHARS_MAX = 80
"""A downtime's reason stands in answers, beside the trust's name."""
DOWNTIMES_AHEAD_MAX = 1_000
TEST_PATIENTS_MAX = 50

trust_standing = Table(
    "trust_standing",
    metadata,
    Column("trust", Text, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("standing", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("successor", Text),
    Column("reason", Text, nullable=False),
    Column("signed_by", Json, nullable=False),
    *belief(),
)

trust_downtime = Table(
    "trust_downtime",
    metadata,
    Column("downtime_id", Text, primary_key=True),
    Column("trust", Text, nullable=False),
    Column("reason", Text, nullable=False),
    *period(),
    *belief(),
    Index(None, "trust"),
)

trust_test_patient = Table(
    "trust_test_patient",
    metadata,
    Column("trust", Text, primary_key=True),
    Column("patient_id", Text, ForeignKey("patient.patient_id"), primary_key=True),
    Column("label", Text, nullable=False),
    Column("recorded_at", Instant, nullable=False),
)
"""Who is labelled a test patient at a trust; taken out again by deletion, for the label is on no decision."""

_STANDINGS = select(trust_standing).where(trust_standing.c.superseded_at.is_(None)).order_by(trust_standing.c.trust)
_OF_TRUST = _STANDINGS.where(trust_standing.c.trust == bindparam("of_trust"))
_CLOSE = (
    update(trust_standing)
    .where(trust_standing.c.trust == bindparam("of_trust"), trust_standing.c.superseded_at.is_(None))
    .values(superseded_at=bindparam("at", type_=Instant))
)
_SUCCESSIONS = Prepared(
    select(trust_standing.c.trust, trust_standing.c.successor)
    .where(
        trust_standing.c.standing == Standing.RETIRED.value,
        trust_standing.c.successor.is_not(None),
        believed(trust_standing),
    )
    .order_by(trust_standing.c.trust)
)
"""Which retired codes led where, as believed at `:known`."""
_DOWNTIMES = (
    select(trust_downtime)
    .where(trust_downtime.c.superseded_at.is_(None), trust_downtime.c.valid_until > bindparam("at", type_=Instant))
    .order_by(trust_downtime.c.valid_from, trust_downtime.c.downtime_id)
)
_CANCEL = (
    update(trust_downtime)
    .where(
        trust_downtime.c.downtime_id == bindparam("of_downtime"),
        trust_downtime.c.superseded_at.is_(None),
        trust_downtime.c.valid_until > bindparam("at", type_=Instant),
    )
    .values(superseded_at=bindparam("at", type_=Instant))
)
_TEST_PATIENTS = select(trust_test_patient).order_by(trust_test_patient.c.trust, trust_test_patient.c.patient_id)

_UNLABEL = delete(trust_test_patient).where(
    trust_test_patient.c.trust == bindparam("of_trust"), trust_test_patient.c.patient_id == bindparam("of_patient")
)


@dataclass(frozen=True, slots=True)
class SignedOff:
    """Two people who say that a trust is ready for its next stage."""

    first: str
    second: str


def roll(read: Read) -> Roll:
    """Every trust's standing, downtimes not yet over, test patients, and studies in quarantine, as believed now."""
    standings = {TrustId(row.trust): _standing(row) for row in read.connection.execute(_STANDINGS)}
    downtimes = tuple(_downtime(row) for row in read.connection.execute(_DOWNTIMES, {"at": read.now}))
    labelled: dict[TrustId, set[NhsNumber]] = {}
    for row in read.connection.execute(_TEST_PATIENTS):
        number = patients.nhs_number(read, row.patient_id)
        if number is not None:
            labelled.setdefault(TrustId(row.trust), set()).add(number)
    test_patients = {trust: frozenset(numbers) for trust, numbers in labelled.items()}
    return Roll(MappingProxyType(standings), downtimes, MappingProxyType(test_patients), quality.quarantined(read))


def predecessors(read: Read, trust: TrustId, known_at: datetime = STILL_BELIEVED) -> tuple[TrustId, ...]:
    """The retired codes that lead to this one, directly or by way of others."""
    rows = _SUCCESSIONS.rows(read.connection, {"known": known_at})
    found: list[TrustId] = []
    wanted = [trust.code]
    while wanted:
        code = wanted.pop()
        for row in rows:
            if row.successor == code and TrustId(row.trust) not in found:
                found.append(TrustId(row.trust))
                wanted.append(row.trust)
    return tuple(found)


def enrol(tx: Tx, trust: TrustId, stage: Stage, author: Author) -> TrustStanding:
    """Let a trust begin to take part; raises `InvalidRequest` where it does already, or is no more."""
    bump_register_version(tx)
    known = _known(tx, trust)
    if known is not None:
        remedy = ": resume it" if known.standing is Standing.SUSPENDED else ""
        raise InvalidRequest(f"{trust} is {known.standing.value} already{remedy}")
    return _change(tx, TrustStanding(trust, Standing.ENROLLED, stage, reason=author.reason), "enrol", author)


def suspend(tx: Tx, trust: TrustId, stage: Stage, author: Author) -> TrustStanding:
    """Let a trust neither ask nor be asked; `stage` is where it stands if the register has no entry yet."""
    bump_register_version(tx)
    known = _known(tx, trust) or TrustStanding(trust, Standing.ENROLLED, stage)
    if known.standing is not Standing.ENROLLED:
        raise InvalidRequest(f"{trust} is {known.standing.value} already")
    return _change(tx, replace(known, standing=Standing.SUSPENDED, reason=author.reason), "suspend", author)


def resume(tx: Tx, trust: TrustId, author: Author) -> TrustStanding:
    """Let a suspended trust take part again, in the stage that it had."""
    bump_register_version(tx)
    known = _known(tx, trust)
    if known is None or known.standing is not Standing.SUSPENDED:
        raise InvalidRequest(f"{trust} is not suspended")
    return _change(tx, replace(known, standing=Standing.ENROLLED, reason=author.reason), "resume", author)


def retire(tx: Tx, trust: TrustId, successor: TrustId | None, author: Author) -> TrustStanding:
    """Close a code for good; its successor inherits its access. Raises `InvalidRequest` for a circle of successors."""
    bump_register_version(tx)
    known = _known(tx, trust) or TrustStanding(trust, Standing.ENROLLED)
    if known.standing is Standing.RETIRED:
        raise InvalidRequest(f"{trust} is retired already")
    if successor is not None:
        _check_succession(tx, trust, successor)
    retired = replace(known, standing=Standing.RETIRED, successor=successor, reason=author.reason)
    return _change(tx, retired, "retire", author)


def step_to(tx: Tx, trust: TrustId, stage: Stage, signed: SignedOff, author: Author) -> TrustStanding:
    """Let a trust go on to its next stage, or back to an earlier one; forward only one step, signed by two people."""
    bump_register_version(tx)
    known = _known(tx, trust)
    if known is None or known.standing is Standing.RETIRED:
        raise InvalidRequest(f"{trust} is not enrolled by the register: gateway trust enrol")
    if stage is known.stage:
        raise InvalidRequest(f"{trust} is in stage {stage.value} already")
    stages = list(Stage)
    is_forward = stages.index(stage) > stages.index(known.stage)
    if is_forward and stage is not known.stage.next:
        raise InvalidRequest(f"{trust} is in stage {known.stage.value}: stages come one after the other")
    people = [signed.first.strip(), signed.second.strip()]
    if is_forward and (not all(people) or people[0].casefold() == people[1].casefold()):
        raise InvalidRequest("a further stage is signed off by two people: --signed-by twice")
    changed = replace(known, stage=stage, reason=author.reason)
    return _change(tx, changed, "stage", author, [person for person in people if person])


def plan_downtime(tx: Tx, trust: TrustId, begins: datetime, ends: datetime, author: Author) -> str:
    """Announce that a trust's archive will not be asked; its id. The author's reason is shown to callers."""
    if ends <= begins:
        raise InvalidRequest("a downtime ends after it begins")
    if ends <= tx.now:
        raise InvalidRequest("this downtime is over already")
    if not author.reason or len(author.reason) > REASON_CHARS_MAX:
        raise InvalidRequest(f"say why, in {REASON_CHARS_MAX} characters at most: callers are shown it")
    bump_register_version(tx)
    if len(tx.connection.execute(_DOWNTIMES, {"at": tx.now}).all()) >= DOWNTIMES_AHEAD_MAX:
        raise InvalidRequest(f"{DOWNTIMES_AHEAD_MAX:,} downtimes are planned already")
    downtime_id = tx.new_id()
    values = {
        "downtime_id": downtime_id,
        "trust": trust.code,
        "reason": author.reason,
        "valid_from": begins,
        "valid_until": ends,
        "recorded_at": tx.now,
    }
    tx.connection.execute(insert(trust_downtime), values)
    faultpoint("trusts.downtime.between")
    detail = {"trust": trust.code, "from": begins.isoformat(), "until": ends.isoformat()}
    record_change(tx, author, REGISTER, "downtime", downtime_id, dict(detail))
    return downtime_id


def cancel_downtime(tx: Tx, downtime_id: str, author: Author) -> None:
    """End a planned downtime now, or let it not come; raises `InvalidRequest` for one that is not ahead."""
    bump_register_version(tx)
    if tx.connection.execute(_CANCEL, {"of_downtime": downtime_id, "at": tx.now}).rowcount == 0:
        raise InvalidRequest("no such downtime is planned")
    record_change(tx, author, REGISTER, "downtime-cancelled", downtime_id)


def label_test_patient(tx: Tx, trust: TrustId, patient_id: str, label: str, author: Author) -> None:
    """Call a patient row a test patient of a trust; raises `InvalidRequest` beyond `TEST_PATIENTS_MAX`."""
    bump_register_version(tx)
    known = [row.patient_id for row in tx.connection.execute(_TEST_PATIENTS) if row.trust == trust.code]
    if patient_id in known:
        raise InvalidRequest("this is a test patient of this trust already")
    if len(known) >= TEST_PATIENTS_MAX:
        raise InvalidRequest(f"a trust has {TEST_PATIENTS_MAX} test patients at most")
    values = {"trust": trust.code, "patient_id": patient_id, "label": label, "recorded_at": tx.now}
    tx.connection.execute(insert(trust_test_patient), values)
    record_change(tx, author, REGISTER, "test-patient", patient_id, {"trust": trust.code, "label": label})


def unlabel_test_patient(tx: Tx, trust: TrustId, patient_id: str, author: Author) -> None:
    """Take the label back; raises `InvalidRequest` where there is none."""
    bump_register_version(tx)
    if tx.connection.execute(_UNLABEL, {"of_trust": trust.code, "of_patient": patient_id}).rowcount == 0:
        raise InvalidRequest("this is no test patient of this trust")
    record_change(tx, author, REGISTER, "test-patient-removed", patient_id, {"trust": trust.code})


def _known(read: Read, trust: TrustId) -> TrustStanding | None:
    row = read.connection.execute(_OF_TRUST, {"of_trust": trust.code}).one_or_none()
    return None if row is None else _standing(row)


def _check_succession(read: Read, trust: TrustId, successor: TrustId) -> None:
    standings = {TrustId(row.trust): _standing(row) for row in read.connection.execute(_STANDINGS)}
    code: TrustId | None = successor
    for _ in range(SUCCESSIONS_MAX):
        if code is None:
            return
        if code == trust:
            raise InvalidRequest(f"{successor} leads back to {trust}: a code cannot succeed itself")
        entry = standings.get(code)
        code = entry.successor if entry is not None else None
    raise InvalidRequest(f"{successor} is at the end of too many successions")


def _change(tx: Tx, changed: TrustStanding, act: str, author: Author, signed_by: Sequence[str] = ()) -> TrustStanding:
    row = tx.connection.execute(_OF_TRUST, {"of_trust": changed.trust.code}).one_or_none()
    at = tx.now if row is None else max(tx.now, row.recorded_at)
    if row is not None:
        tx.connection.execute(_CLOSE, {"of_trust": changed.trust.code, "at": at})
    faultpoint("trusts.change.between")
    successor = changed.successor.code if changed.successor is not None else None
    values = {
        "trust": changed.trust.code,
        "revision": 1 if row is None else row.revision + 1,
        "standing": changed.standing.value,
        "stage": changed.stage.value,
        "successor": successor,
        "reason": changed.reason,
        "signed_by": [*signed_by],
        "recorded_at": at,
    }
    tx.connection.execute(insert(trust_standing), values)
    detail: dict[str, JsonValue] = {
        "standing": changed.standing.value,
        "stage": changed.stage.value,
        "successor": successor,
        "signed_by": [*signed_by],
    }
    record_change(tx, author, REGISTER, act, changed.trust.code, detail)
    return changed


def _standing(row: TableRow) -> TrustStanding:
    successor = TrustId(row.successor) if row.successor is not None else None
    return TrustStanding(TrustId(row.trust), Standing(row.standing), Stage(row.stage), successor, row.reason)


def _downtime(row: TableRow) -> Downtime:
    return Downtime(row.downtime_id, TrustId(row.trust), row.valid_from, row.valid_until, row.reason)
