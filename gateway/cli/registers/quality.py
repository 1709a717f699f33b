"""`gateway quality`: what a custodian must put right, such as two persons under one number (SAF-08)."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.session import Session, author, trust_of
from gateway.model.errors import InvalidRequest
from gateway.model.seams import STUDY_OF_TWO_PATIENTS
from storage.database import Read
from storage.registers import quality

app = typer.Typer(no_args_is_help=True, help="Data that custodians must put right.")


@app.command("list")
def list_(
    trust: Annotated[str, typer.Option(help="Only this custodian's, by ODS code.")] = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List open items."""

    async def work(opened: Session) -> None:
        custodian = trust_of(trust) if trust else None
        found = await opened.store.read(lambda read: quality.open_items(read, custodian))
        rows: list[console.Row] = [
            {
                "item": open_item.item_id,
                "custodian": open_item.item.custodian.code,
                "kind": open_item.item.kind,
                "study": open_item.item.study_uid,
                "withheld_until_resolved": open_item.item.kind == STUDY_OF_TWO_PATIENTS,
                "times_seen": open_item.times_seen,
                "opened": open_item.opened_at,
                "last_seen": open_item.last_seen_at,
                "detail": orjson.dumps(dict(open_item.item.detail)).decode(),
            }
            for open_item in found
        ]
        console.show(rows, as_json=as_json, empty="nothing is to be put right")

    session.run(config, work)


@app.command()
def resolve(
    item: str,
    by: By,
    reason: Annotated[str, typer.Option(help="How it was put right. No patient's details here.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Close an item, once it is put right at the custodian's archive.

    A study of two patients stays withheld until the items of both custodians are closed, whatever is put right before.
    """
    if not reason.strip():
        raise InvalidRequest("say how it was put right: --reason")

    async def work(opened: Session) -> None:
        who = author(by, reason)
        closed = await opened.store.write(lambda tx: quality.resolve(tx, item, who))
        console.say(f"{item}: resolved")
        if closed.kind == STUDY_OF_TWO_PATIENTS:
            waiting = await opened.store.read(lambda read: _custodians_waiting(read, closed.study_uid))
            console.say(
                f"the study stays withheld until the other items of it are resolved: {', '.join(waiting)}"
                if waiting
                else "the study is shown again, unless it is met under two patients once more"
            )

    session.run(config, work)


def _custodians_waiting(read: Read, study_uid: str) -> list[str]:
    """Whose items keep a study in quarantine."""
    items = [each.item for each in quality.open_items(read)]
    of_study = (each for each in items if each.kind == STUDY_OF_TWO_PATIENTS and each.study_uid == study_uid)
    return sorted({each.custodian.code for each in of_study})
