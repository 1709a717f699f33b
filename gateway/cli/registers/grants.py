"""`gateway grant`: a reasoned, time-boxed stand-in for a missing care relationship. Its use is always alerted (B3)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber, Why
from gateway.cli.session import Session, author
from gateway.model.errors import InvalidRequest, RegisterUnavailable
from policy.facts import Register
from storage.database import Tx
from storage.registers import labels, patients
from storage.registers.labels import NewGrant

HOURS_MAX = 8
"""A grant is for one patient and one shift (threats.md 2)."""

app = typer.Typer(no_args_is_help=True, help="Emergency grants.")


@app.command()
def add(
    by: By,
    trust: Annotated[str, typer.Option(help="ODS code of the trust that needs to see.")],
    reason: Annotated[str, typer.Option(help="Why: stands in the register and in every alert. No patient's details.")],
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    subject: Annotated[str, typer.Option(help="Caller that it is for. Default: all systems of the trust.")] = "",
    hours: Annotated[float, typer.Option(help=f"How long, {HOURS_MAX} at most.")] = HOURS_MAX,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Grant access to one patient for some hours, from now on."""
    if not 0 < hours <= HOURS_MAX:
        raise InvalidRequest(f"a grant is for {HOURS_MAX} hours at most")

    async def work(opened: Session) -> None:
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        who, recipient = author(by, reason), opened.trust(trust)
        if subject and subject not in {caller.name for caller in opened.configuration.caller}:
            raise InvalidRequest(f"no [[caller]] of the configuration is named {subject}")
        now = opened.now

        def body(tx: Tx) -> str:
            row = patients.ensure(tx, patients.nhs(number), who, source="cli")
            return labels.add_grant(
                tx, NewGrant(row, recipient, subject, reason, now, now + timedelta(hours=hours)), who
            )

        console.show_one(
            {"grant": await opened.store.write(body), "until": now + timedelta(hours=hours)}, as_json=as_json
        )

    session.run(config, work)


@app.command()
def end(grant_id: str, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG) -> None:
    """End a grant now."""
    session.change(config, by, reason, lambda tx, who: labels.end_grant(tx, grant_id, who))
    console.say(f"{grant_id}: ended")


@app.command("list")
def list_(
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List the grants in force for a patient."""

    async def work(opened: Session) -> None:
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        rows: list[console.Row] = []
        for entry in opened.configuration.trust:
            facts = (await opened.store.facts(entry.ods, [number], at=opened.now)).by_patient[number]
            if Register.GRANTS in facts.faults:
                raise RegisterUnavailable("the register of grants cannot be read")
            rows += [
                {
                    "grant": one.grant_id,
                    "trust": one.trust.code,
                    "subject": one.subject or "any system",
                    "reason": one.reason,
                    "from": one.valid_from,
                    "until": one.valid_until,
                }
                for one in facts.grants
            ]
        console.show(rows, as_json=as_json, empty="no grant is in force")

    session.run(config, work)
