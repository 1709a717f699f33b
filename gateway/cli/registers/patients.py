"""`gateway patient`: internal rows, the identifiers that lead to them, and two rows that are one person.

No demographics are kept, so none are shown. Rows are joined by a PDS supersession or by two named people (SAF-33).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber, TrustCode, Why
from gateway.cli.registers import sheets
from gateway.cli.session import Session, author, local_identifier
from gateway.model.errors import InvalidRequest
from gateway.region import trust_entries
from policy.parties import PatientId
from storage.database import Read, Tx
from storage.registers import merges, patients
from storage.registers.merges import MergeBasis

app = typer.Typer(no_args_is_help=True, help="Patients and their identifiers.")


@app.command()
def add(
    by: By,
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    local: Annotated[list[str] | None, typer.Option(help="A hospital's number, ISSUER:NUMBER; repeatable.")] = None,
    status: str = typer.Option("", help="Verification of the NHS number, 01 to 08 (01: verified)."),
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Make a patient known, or give a known one further local identifiers."""
    _check_status(status)

    async def work(opened: Session) -> None:
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        who, identifiers = author(by), [local_identifier(text) for text in local or ()]

        def body(tx: Tx) -> str:
            row = patients.ensure(tx, patients.nhs(number), who, source="cli", status=status)
            if status:
                patients.record_status(tx, patients.nhs(number), status, who, source="cli")
            for identifier in identifiers:
                patients.add_identifier(tx, row, identifier, who, source="cli")
            return row

        row = await opened.store.write(body)
        console.show_one({"patient_row": row, "local_identifiers": len(identifiers)}, as_json=as_json)

    session.run(config, work)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV with the columns nhs_number, local_number and, if known, status.")],
    by: By,
    trust: TrustCode,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Link a trust's own numbers to NHS numbers, on the word of that trust: only so are they shown to it (SAF-34)."""

    async def work(opened: Session) -> None:
        code, mode, who = opened.trust(trust), opened.configuration.gateway.mode, author(by, reason)
        issuer = next(each for each in trust_entries(opened.configuration) if each.trust == code).issuer_of_own_numbers

        def parse(row: Mapping[str, str]) -> _Link:
            _check_status(row.get("status", ""))
            number = session.nhs_number(row["nhs_number"], "", mode)
            return _Link(
                patients.nhs(number), local_identifier(f"{issuer}:{row['local_number']}"), row.get("status", "")
            )

        def write(tx: Tx, link: _Link) -> bool:
            row = patients.ensure(tx, link.number, who, source=code.code, status=link.status)
            if link.status:
                patients.record_status(tx, link.number, link.status, who, source=code.code)
            return patients.vouch(tx, row, link.local, who, source=code.code)

        links = sheets.parsed(file, ("nhs_number", "local_number"), ("status",), parse)
        new = await sheets.written(opened, "links", links, write)
        added = {"rows": len(links), "added": new, "there_already": len(links) - new}
        console.show_one({**added, "issuer": issuer}, as_json=as_json)

    session.run(config, work)


@app.command()
def show(
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    local: str = typer.Option("", "--local", help="Instead of the NHS number: ISSUER:NUMBER."),
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the identifiers of a patient and the rows that count as the same person."""

    async def work(opened: Session) -> None:
        identifier = _identifier(opened, patient, patient_file, local)

        def body(read: Read) -> list[console.Row]:
            row = patients.find(read, identifier)
            if row is None:
                raise InvalidRequest("no patient of this identifier is known")
            person = patients.person(read, row)
            return [
                {
                    "patient_row": member,
                    "issuer": entry.identifier.issuer,
                    "value": entry.identifier.value,
                    "status": entry.status,
                    "source": entry.source,
                    "since": entry.valid_from,
                    "joined": "confirmed" if member in person.joined else "awaits a second person",
                    "survives": member == person.survivor_id,
                }
                for member in sorted(person.related)
                for entry in patients.identifiers(read, member)
            ]

        console.show(await opened.store.read(body), as_json=as_json, empty="no identifiers")

    session.run(config, work)


@app.command()
def link(
    by: By,
    survivor: str = typer.Option(..., "--survivor", help="NHS number that stays; ISSUER:NUMBER for a local one."),
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    local: str = typer.Option("", "--local", help="Instead of the NHS number: ISSUER:NUMBER."),
    pds: bool = typer.Option(False, "--pds", help="PDS says that the one supersedes the other: confirmed at once."),
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Join two patients as one person. Opt-outs count at once; the rest when a second person confirms (SAF-33)."""

    async def work(opened: Session) -> None:
        leaving = _identifier(opened, patient, patient_file, local)
        staying = _identifier(opened, "", "", survivor) if ":" in survivor else _identifier(opened, survivor, "", "")
        basis = MergeBasis.PDS_SUPERSESSION if pds else MergeBasis.TWO_PEOPLE
        who = author(by, reason)

        def body(tx: Tx) -> str:
            rows = [patients.find(tx, identifier) for identifier in (leaving, staying)]
            if None in rows:
                raise InvalidRequest("one of the two is not known: gateway patient add")
            return merges.merge(tx, str(rows[0]), str(rows[1]), basis, who)

        merge_id = await opened.store.write(body)
        console.show_one({"merge": merge_id, "confirmed": pds}, as_json=as_json)
        if not pds and not as_json:
            console.say(f"another person confirms it: gateway patient confirm-link {merge_id}")

    session.run(config, work)


@app.command()
def forget(
    by: By,
    local: str = typer.Option(..., "--local", help="The hospital's number: ISSUER:NUMBER."),
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Believe no longer that a hospital's number is a patient's: it was a wrong link, or is in use no more."""

    identifier = local_identifier(local)
    session.change(config, by, reason, lambda tx, who: patients.remove_identifier(tx, identifier, who))
    console.say("the number leads to nobody any more")


@app.command("confirm-link")
def confirm_link(merge_id: str, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG) -> None:
    """Confirm a join as the second person."""
    session.change(config, by, reason, lambda tx, who: merges.confirm_merge(tx, merge_id, who))
    console.say(f"{merge_id}: confirmed")


@app.command()
def unlink(merge_id: str, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG) -> None:
    """Part two patients again; each keeps what was its own."""
    session.change(config, by, reason, lambda tx, who: merges.undo_merge(tx, merge_id, who))
    console.say(f"{merge_id}: undone")


@app.command()
def links(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the joins that stand, and those that await a second person."""

    async def work(opened: Session) -> None:
        standing = await opened.store.read(merges.merges)
        rows: list[console.Row] = [
            {
                "merge": merge.merge_id,
                "patient_row": merge.patient_id,
                "survivor_row": merge.survivor_id,
                "basis": merge.basis,
                "confirmed": merge.is_confirmed,
                "by": merge.by,
                "at": merge.recorded_at,
            }
            for merge in standing
        ]
        console.show(rows, as_json=as_json, empty="no patients are joined")

    session.run(config, work)


@dataclass(frozen=True, slots=True)
class _Link:
    """One row of a trust's file."""

    number: PatientId
    local: PatientId
    status: str


def _check_status(status: str) -> None:
    statuses = sorted(patients.NumberStatus)
    if status and status not in statuses:
        raise InvalidRequest(f"a verification status is one of {', '.join(statuses)}")


def _identifier(opened: Session, patient: str, patient_file: str, local: str) -> PatientId:
    if local:
        return local_identifier(local)
    return patients.nhs(session.nhs_number(patient, patient_file, opened.configuration.gateway.mode))
