"""`gateway policy diff`, and the dry run of `agreement import`: who would gain or lose access, over all that is known.

Reads the facts of every known patient for every enrolled trust and asks `gateway.sharing.impact`. Changes nothing.
Figures only, unless `--patients` asks for the numbers; that reading stands in the audit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config
from gateway.cli.session import Session, author, configuration_of
from gateway.config.configuration import Configuration
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import RegisterUnavailable
from gateway.model.imaging import JsonValue
from gateway.region import directory_of
from gateway.sharing.directory import Directory
from gateway.sharing.impact import Change, Comparison, World, changes, kinds_of, totals
from policy.facts import Agreement, Facts
from policy.parties import NhsNumber, TrustId
from storage.database import Read
from storage.registers import agreements, patients, trusts

BATCH_PATIENTS = 100
PATIENTS_LISTED_MAX = 10_000

app = typer.Typer(no_args_is_help=True, help="What the rules would say.")


@app.callback()
def policy() -> None:
    """What the rules would say."""


@app.command()
def diff(
    by: By,
    settings: Annotated[Path, typer.Option("--settings", help="The configuration file as it would be.")],
    list_patients: Annotated[bool, typer.Option("--patients", help="Name the patients, not only count them.")] = False,
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say who would gain or lose access if the policy and the trusts were as in another file."""

    async def work(opened: Session) -> None:
        after = configuration_of(settings)
        custodians = sorted({entry.ods for entry in (*opened.configuration.trust, *after.trust)})

        def clauses(read: Read) -> list[Agreement]:
            return [clause for code in custodians for clause in agreements.in_force_at(read, code, opened.now)]

        in_force = await opened.store.read(clauses)
        proposal = Proposal(opened.configuration, after, custodians, in_force, in_force)
        await show_impact(opened, proposal, by if list_patients else "", as_json=as_json)

    session.run(config, work)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would change: the configuration, or the clauses of some custodians."""

    before: Configuration
    after: Configuration
    custodians: Sequence[TrustId]
    clauses_before: Collection[Agreement]
    clauses_after: Collection[Agreement]
    changed: Callable[[Facts, TrustId], Facts] = lambda facts, _recipient: facts


async def show_impact(opened: Session, proposal: Proposal, named_by: str, *, as_json: bool) -> None:
    """Print who would gain or lose; with patients' numbers for `named_by`, if that names somebody."""
    found = await _found(opened, proposal)
    if named_by:
        who = author(named_by)
        body: dict[str, JsonValue] = {
            "read": "impact",
            "by": who.subject,
            "patients": len({change.patient for change in found}),
        }
        await opened.store.append_audit(AuditEntry(AuditEvent.AUDIT_READ, opened.now, who.request_id, body))
        rows = [_patient_row(change) for change in found[:PATIENTS_LISTED_MAX]]
    else:
        counted = totals(found)
        kinds = sorted({key[:3] for key in counted}, key=repr)
        rows = [
            {
                "recipient": recipient.code,
                "custodian": custodian.code,
                "modality": kind.modality,
                "age_from": kind.age_years,
                "purpose": kind.purpose,
                "patients_gained": counted[(recipient, custodian, kind, True)],
                "patients_lost": counted[(recipient, custodian, kind, False)],
            }
            for recipient, custodian, kind in kinds
        ]
    console.show(rows, as_json=as_json, empty="nobody known would gain or lose access")


async def _found(opened: Session, proposal: Proposal) -> list[Change]:
    roll = await opened.store.read(trusts.roll)
    before, after = (directory_of(side, lambda: roll) for side in (proposal.before, proposal.after))
    recipients = sorted(before.enrolled | after.enrolled)
    comparison = Comparison(
        custodians=proposal.custodians,
        kinds=kinds_of(proposal.clauses_before, proposal.clauses_after),
        settings_before=proposal.before.policy_settings,
        settings_after=proposal.after.policy_settings,
        at=opened.now,
    )
    progress, done, last = console.Progress("patients compared"), 0, ""
    found: list[Change] = []
    while batch := await opened.store.read(partial(_next_patients, after=last)):
        for recipient in recipients:
            worlds = await _worlds(opened, proposal, (before, after), recipient, batch, comparison)
            found.extend(changes(worlds, comparison))
        done, last = done + len(batch), batch[-1].digits
        progress.at(done)
    progress.end(done)
    return found


async def _worlds(
    opened: Session,
    proposal: Proposal,
    directories: tuple[Directory, Directory],
    recipient: TrustId,
    batch: Sequence[NhsNumber],
    comparison: Comparison,
) -> list[World]:
    snapshot = await opened.store.facts(recipient, batch, at=comparison.at)
    if snapshot.unpinned.faults:
        raise RegisterUnavailable(f"not readable: {', '.join(sorted(snapshot.unpinned.faults))}")
    concerned = {recipient, *comparison.custodians}
    before, after = directories
    return [
        World(
            patient,
            recipient,
            replace(facts, organisations=before.organisations(concerned, patient)),
            replace(proposal.changed(facts, recipient), organisations=after.organisations(concerned, patient)),
        )
        for patient, facts in snapshot.by_patient.items()
    ]


def _next_patients(read: Read, after: str) -> list[NhsNumber]:
    return patients.known_numbers(read, after, BATCH_PATIENTS)


def _patient_row(change: Change) -> console.Row:
    return {
        "patient": change.patient.digits,
        "recipient": change.recipient.code,
        "custodian": change.custodian.code,
        "modality": change.kind.modality,
        "age_from": change.kind.age_years,
        "purpose": change.kind.purpose,
        "would": "gain" if change.is_gain else "lose",
    }
