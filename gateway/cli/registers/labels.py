"""`gateway label`: a custodian's mark on sensitive imaging, and the purposes and teams for which it is seen."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber, Why
from gateway.cli.session import Session, author, instant
from gateway.model.errors import InvalidRequest
from policy.parties import PurposeOfUse
from storage.database import Read, Tx
from storage.registers import labels, patients
from storage.registers.labels import NewLabel

app = typer.Typer(no_args_is_help=True, help="Labels on sensitive imaging.")

_UID = re.compile(r"[0-9.]{1,64}")


@app.command()
def add(
    by: By,
    trust: Annotated[str, typer.Option(help="ODS code of the trust that holds the imaging.")],
    kind: Annotated[str, typer.Option(help="Why it is sensitive, in a word: safeguarding, staff, ...")],
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    study: Annotated[str, typer.Option(help="Study Instance UID. Default: everything of the patient there.")] = "",
    visible_to: Annotated[list[PurposeOfUse] | None, typer.Option(help="Purpose for which it is seen.")] = None,
    team: Annotated[list[str] | None, typer.Option(help="Team that sees it whatever the purpose, ODS:team.")] = None,
    valid_from: Annotated[str, typer.Option("--from", help="When it begins. Default: now.")] = "",
    until: Annotated[str, typer.Option(help="When it ends. Default: open.")] = "",
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Label a study, or all of a patient's imaging at a trust. Seen by nobody unless --visible-to or --team."""
    if study and not _UID.fullmatch(study):
        raise InvalidRequest("a Study Instance UID has 1 to 64 digits and dots")
    if not kind.strip():
        raise InvalidRequest("say why it is sensitive: --kind")
    for name in team or ():
        if not all(name.partition(":")):
            raise InvalidRequest("a team is written ODS:team")

    async def work(opened: Session) -> None:
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        who = author(by, reason)
        custodian, begins, ends = opened.trust(trust), instant(valid_from) or opened.now, instant(until)

        def body(tx: Tx) -> str:
            row = patients.ensure(tx, patients.nhs(number), who, source="cli")
            new = NewLabel(
                patient_id=row,
                custodian=custodian,
                kind=kind.strip(),
                study_uid=study,
                visible_to=frozenset(visible_to or ()),
                teams=frozenset(team or ()),
                valid_from=begins,
                valid_until=ends,
            )
            return labels.add_label(tx, new, who)

        console.show_one({"label": await opened.store.write(body)}, as_json=as_json)

    session.run(config, work)


@app.command()
def remove(
    label_id: str,
    by: By,
    at: Annotated[str, typer.Option(help="When it ends. Default: now.")] = "",
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let a label end."""

    async def work(opened: Session) -> None:
        who, ends = author(by, reason), instant(at) or opened.now
        await opened.store.write(lambda tx: labels.end_label(tx, label_id, ends, who))
        console.say(f"{label_id}: ends {ends.isoformat(timespec='seconds')}")

    session.run(config, work)


@app.command("list")
def list_(
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List the labels in force on a patient's imaging."""

    async def work(opened: Session) -> None:
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        row, now = await session.patient_row(opened, number), opened.now

        def body(read: Read) -> list[console.Row]:
            return [
                {
                    "label": one.label_id,
                    "trust": one.custodian.code,
                    "kind": one.kind,
                    "study": one.study_uid or "all",
                    "visible_to": sorted(purpose.value for purpose in one.visible_to),
                    "teams": sorted(one.teams),
                    "from": one.valid_from,
                    "until": one.valid_until,
                }
                for member in sorted(patients.person(read, row).joined)
                for one in labels.labels_of(read, member, now)
            ]

        console.show(await opened.store.read(body), as_json=as_json, empty="no label")

    session.run(config, work)
