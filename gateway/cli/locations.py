"""`gateway location`: what the location index knows of a patient, or of a trust. It helps to ask and proves nothing.

Where somebody was imaged is telling, whatever a register says of sharing it: each look at a patient stands in the
audit, as `gateway explain` does.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber
from gateway.cli.session import Session, author
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.node import open_notebook
from policy.parties import NhsNumber
from storage.observations import locations, notices, standings

app = typer.Typer(no_args_is_help=True, help="Where imaging was seen. Never proof that there is none.")


@app.callback()
def location() -> None:
    """Where imaging was seen. Never proof that there is none."""


@app.command()
def show(
    by: By,
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    trust: Annotated[str, typer.Option(help="Instead: how much is known of this trust, by ODS code.")] = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show where imaging of a patient was seen, and when; or what is known of a trust."""
    if bool(trust) == bool(patient or patient_file):
        raise InvalidRequest("name a patient or a trust, one of the two")

    async def work(opened: Session) -> None:
        if trust:
            await _show_trust(opened, trust, as_json=as_json)
            return
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        await _show_patient(opened, number, by, as_json=as_json)

    session.run(config, work)


async def _show_patient(opened: Session, number: NhsNumber, by: str, *, as_json: bool) -> None:
    who = author(by)
    body = {"act": "location-show", "patient": number.digits, "by": who.subject}
    await opened.store.append_audit(AuditEntry(AuditEvent.EXPLAIN, opened.now, who.request_id, body))
    knowledge = await open_notebook(opened.configuration, opened.store, opened.clock).known(number)
    rows: list[console.Row] = [
        {
            "trust": trust.code,
            "seen": known.present_at,
            "seen_by": known.present_by,
            "none_there": known.absent_at,
            "none_by": known.absent_by,
        }
        for trust, known in sorted(knowledge.locations.items())
        if known.present_at is not None or known.absent_at is not None
    ]
    console.show(rows, as_json=as_json, empty="nothing is known of this patient: that does not mean there is nothing")


async def _show_trust(opened: Session, code: str, *, as_json: bool) -> None:
    trust = opened.trust(code)
    counted = {count.trust: count for count in await opened.store.read(locations.counts)}
    heard_at = (await opened.store.read(locations.feeds)).get(trust)
    waiting = await opened.store.read(notices.waiting)
    node = opened.configuration.gateway.node
    standing = {each.trust: each for each in await opened.store.read(lambda read: standings.standings(read, node))}
    count, peer = counted.get(trust), standing.get(trust)
    row: dict[str, object] = {
        "trust": trust.code,
        "patients_seen": count.present if count is not None else 0,
        "last_seen": count.present_at if count is not None else None,
        "last_none": count.absent_at if count is not None else None,
        "feed_heard": heard_at,
        "notices_waiting": waiting.get(trust, 0),
        "feed_live": opened.configuration.sharing.is_feed_live(trust.code, heard_at, opened.now),
        "peer_state": peer.last_state.value if peer is not None else None,
        "peer_failures": peer.failures if peer is not None else None,
        "peer_paused_until": peer.paused_until if peer is not None else None,
    }
    console.show_one(row, as_json=as_json)
