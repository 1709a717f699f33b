"""`gateway relationship`: that a trust, or a team of it, delivers part of a patient's care, and by what evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber, Why
from gateway.cli.registers import sheets
from gateway.cli.session import Session, author, instant
from gateway.model.errors import InvalidRequest
from policy.facts import CareRelationship, RelationshipKind, in_force
from policy.parties import NhsNumber, TrustId
from storage.database import Read, Tx
from storage.registers import patients, relationships
from storage.registers.relationships import NewRelationship
from storage.registers.state import Author

app = typer.Typer(no_args_is_help=True, help="Care relationships.")

Team = Annotated[str, typer.Option(help="Only this team of the trust. Default: the whole trust.")]
Evidence = Annotated[str, typer.Option(help="Reference of the evidence: a message id, a list. No patient's details.")]
From = Annotated[str, typer.Option("--from", help="When it begins (London time if no zone). Default: now.")]
Until = Annotated[str, typer.Option(help="When it ends. Default: open.")]
ROW_REQUIRED = ("nhs_number", "trust", "kind", "evidence")
ROW_OPTIONAL = ("team", "from", "until")


@dataclass(frozen=True, slots=True)
class _Claim:
    """One relationship to be added, before the patient's row is known."""

    patient: NhsNumber
    trust: TrustId
    kind: RelationshipKind
    team: str
    evidence: str
    valid_from: datetime
    valid_until: datetime | None


@app.command()
def add(
    by: By,
    trust: Annotated[str, typer.Option(help="ODS code of the trust that delivers care.")],
    kind: Annotated[RelationshipKind, typer.Option(help="What the evidence is.")],
    evidence: Evidence,
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    team: Team = "",
    valid_from: From = "",
    until: Until = "",
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record a relationship; a patient not yet known becomes known."""

    async def work(opened: Session) -> None:
        claim = _Claim(
            session.nhs_number(patient, patient_file, opened.configuration.gateway.mode),
            opened.trust(trust),
            kind,
            team.strip(),
            evidence.strip(),
            instant(valid_from) or opened.now,
            instant(until),
        )
        who = author(by, reason)
        relationship_id = await opened.store.write(lambda tx: _add(tx, claim, who))
        console.show_one({"relationship": relationship_id}, as_json=as_json)

    session.run(config, work)


@app.command()
def end(
    relationship_id: str,
    by: By,
    at: Annotated[str, typer.Option(help="When it ends. Default: now.")] = "",
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let a relationship end: what was seen under it stays explained."""

    async def work(opened: Session) -> None:
        who, ends = author(by, reason), instant(at) or opened.now
        await opened.store.write(lambda tx: relationships.end(tx, relationship_id, ends, who))
        console.say(f"{relationship_id}: ends {ends.isoformat(timespec='seconds')}")

    session.run(config, work)


@app.command()
def undo(relationship_id: str, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG) -> None:
    """Stop believing that a relationship ever was: its evidence was cancelled or mistaken."""
    session.change(config, by, reason, lambda tx, who: relationships.undo(tx, relationship_id, who))
    console.say(f"{relationship_id}: undone")


@app.command("list")
def list_(
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List a patient's relationships, past and to come."""

    async def work(opened: Session) -> None:
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        row = await session.patient_row(opened, number)
        found = await opened.store.read(lambda read: _of_person(read, row))
        rows: list[console.Row] = [
            {
                "relationship": one.relationship_id,
                "trust": one.trust.code,
                "team": one.team,
                "kind": one.kind,
                "evidence": one.evidence,
                "from": one.valid_from,
                "until": one.valid_until,
                "in_force": in_force(one.valid_from, one.valid_until, opened.now),
            }
            for one in found
        ]
        console.show(rows, as_json=as_json, empty="no care relationship is recorded")

    session.run(config, work)


@app.command("import")
def import_(file: Path, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Record the relationships of a CSV file: nhs_number, trust, kind, evidence; team, from, until may follow."""

    async def work(opened: Session) -> None:
        who, now = author(by, reason), opened.now
        claims = sheets.parsed(file, ROW_REQUIRED, ROW_OPTIONAL, lambda row: _claim(opened, row, now))
        new = await sheets.written(opened, "relationships", claims, lambda tx, claim: _add_once(tx, claim, who))
        console.show_one({"rows": len(claims), "added": new, "there_already": len(claims) - new}, as_json=as_json)

    session.run(config, work)


def _claim(opened: Session, row: Mapping[str, str], now: datetime) -> _Claim:
    kinds = sorted(RelationshipKind)
    if row["kind"] not in kinds:
        raise InvalidRequest(f"kind is one of {', '.join(kinds)}")
    if not row["evidence"]:
        raise InvalidRequest("evidence is empty")
    begins, ends = instant(row.get("from", "")) or now, instant(row.get("until", ""))
    if ends is not None and ends <= begins:
        raise InvalidRequest("a relationship ends after it begins")
    return _Claim(
        session.parse_number(row["nhs_number"], opened.configuration.gateway.mode),
        opened.trust(row["trust"]),
        RelationshipKind(row["kind"]),
        row.get("team", ""),
        row["evidence"],
        begins,
        ends,
    )


def _add(tx: Tx, claim: _Claim, who: Author) -> str:
    row = patients.ensure(tx, patients.nhs(claim.patient), who, source="cli")
    new = NewRelationship(
        patient_id=row,
        trust=claim.trust,
        kind=claim.kind,
        evidence=claim.evidence,
        source="cli",
        valid_from=claim.valid_from,
        valid_until=claim.valid_until,
        team=claim.team,
    )
    return relationships.add(tx, new, who)


def _add_once(tx: Tx, claim: _Claim, who: Author) -> bool:
    row = patients.find(tx, patients.nhs(claim.patient))
    wanted = (claim.trust, claim.kind, claim.team, claim.evidence)
    for one in relationships.of_patient(tx, row) if row is not None else ():
        if (one.trust, one.kind, one.team, one.evidence) == wanted and in_force(
            one.valid_from, one.valid_until, claim.valid_from
        ):
            return False
    _add(tx, claim, who)
    return True


def _of_person(read: Read, row: str) -> list[CareRelationship]:
    joined = sorted(patients.person(read, row).joined)
    return [one for member in joined for one in relationships.of_patient(read, member)]
