"""`gateway optout` and `gateway optin`: a patient's request, from receipt to its last letter (SAF-23).

One set of commands for both, because they are one register. What may happen to a case, and by whom, is
`policy.optout`; a refusal there is told in its words. A case is named by its number or its id. Not the National Data
Opt-Out, which must not block care (domain.md B5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber, Why
from gateway.cli.registers import sheets
from gateway.cli.session import Session, author, instant, local_identifier
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.imaging import JsonValue
from gateway.node import command_node
from policy.facts import Register, SharingChoice
from policy.optout import Case, CaseEvent, Role
from policy.parties import PatientId
from storage.database import Read, Tx
from storage.registers import optouts, patients, state
from storage.registers.optouts import Calendar, KeptCase, Receipt
from storage.registers.state import Author
from storage.work import recipients

CHANNELS = ("paper", "web-form", "telephone", "e-mail", "in-person")
ROW_REQUIRED = ("channel",)
ROW_OPTIONAL = ("nhs_number", "local", "received_at", "applicant")

Channel = Annotated[str, typer.Option(help=f"How the request came in: {', '.join(CHANNELS)}.")]
Applicant = Annotated[str, typer.Option(help="Who asks: patient, or by what right somebody else does.")]
ReceivedAt = Annotated[str, typer.Option("--at", help="When it came in. Default: now.")]
ActedAt = Annotated[str, typer.Option("--at", help="When it happened. Default: now.")]
Local = Annotated[str, typer.Option("--local", help="Without an NHS number: ISSUER:NUMBER (SHR-33).")]
AsRole = Annotated[Role, typer.Option("--role", help="In whose right --by acts.")]

_WORDS = {
    CaseEvent.ACKNOWLEDGE: "The acknowledgement has gone out to the patient.",
    CaseEvent.VERIFY: "The sender is the patient or may act for the patient; an opt-out now restricts provisionally.",
    CaseEvent.CONSIDER: "Consequences were looked at. There is no way to refuse.",
    CaseEvent.IMPLEMENT: "Implement the choice: it acts from now on. Never blocked (SAF-25).",
    CaseEvent.CONFIRM: "The confirmation that the choice is implemented has gone out.",
    CaseEvent.REJECT: "The sender's identity or authority cannot be shown: the only ground there is.",
    CaseEvent.WITHDRAW: "The patient withdraws the request.",
    CaseEvent.CLOSE: "The closing message of a rejected or withdrawn case has gone out.",
}


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as it came in."""

    patient: PatientId
    channel: str
    applicant: str
    at: datetime


def commands_for(choice: SharingChoice) -> typer.Typer:
    """The commands on cases of one choice."""
    app = typer.Typer(no_args_is_help=True, help=f"Requests to {choice.value} of regional sharing.")
    _add_receiving(app, choice)
    _add_listing(app, choice)
    for event in CaseEvent:
        _add_step(app, choice, event)
    if choice is SharingChoice.OPT_OUT:
        _add_confirming(app, choice)
    return app


def _add_confirming(app: typer.Typer, choice: SharingChoice) -> None:
    @app.command("register-confirmed")
    def register_confirmed(by: By, reason: Why = "", config: Config = DEFAULT_CONFIG) -> None:
        """Note that the register, fed from elsewhere, is complete and true now (opt_out_register_age_max_minutes)."""

        async def work(opened: Session) -> None:
            who = author(by, reason)
            await opened.store.write(lambda tx: state.confirm(tx, Register.OPT_OUTS, who))
            console.say(f"the opt-out register was confirmed at {opened.now.isoformat(timespec='seconds')}")

        session.run(config, work)

    @app.command()
    def delivered(
        case: str,
        by: By,
        since: Annotated[str, typer.Option(help="From when on. Default: a year ago.")] = "",
        config: Config = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        """List what of the patient's was delivered, to whom and when, the newest first: those copies are theirs."""

        async def work(opened: Session) -> None:
            who, first = author(by), instant(since) or opened.now - timedelta(days=365)

            def body(read: Read) -> tuple[str, list[recipients.Delivered]]:
                kept = _case(read, choice, case)
                rows = patients.person(read, kept.patient_id).joined
                return kept.case.case_id, recipients.delivered_of(read, sorted(rows), first)

            case_id, found = await opened.store.read(body)
            looked: dict[str, JsonValue] = {"act": "optout-delivered", "case": case_id, "by": who.subject}
            await opened.store.append_audit(AuditEntry(AuditEvent.EXPLAIN, opened.now, who.request_id, looked))
            console.show([_delivery(each) for each in found], as_json=as_json, empty="nothing since then")

        session.run(config, work)


def _add_receiving(app: typer.Typer, choice: SharingChoice) -> None:
    @app.command()
    def receive(
        by: By,
        channel: Channel,
        patient: PatientNumber = "",
        patient_file: PatientFile = "",
        local: Local = "",
        applicant: Applicant = "patient",
        at: ReceivedAt = "",
        reason: Why = "",
        config: Config = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        """Record that a request came in; says by when what is due."""

        async def work(opened: Session) -> None:
            number = local_identifier(local) if local else None
            if number is None:
                digits = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
                number = patients.nhs(digits)
            request = _Request(number, _channel(channel), applicant.strip(), instant(at) or opened.now)
            who = author(by, reason)
            case = await opened.store.write(lambda tx: _receive(tx, opened, choice, request, who))
            console.show_one(_row(case, opened.now), as_json=as_json)

        session.run(config, work)

    @app.command("import")
    def import_(file: Path, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
        """Record the requests of a CSV file: nhs_number or local, channel; received_at, applicant may follow."""

        async def work(opened: Session) -> None:
            who, now = author(by, reason), opened.now
            requests = sheets.parsed(file, ROW_REQUIRED, ROW_OPTIONAL, lambda row: _request(opened, row, now))

            def write(tx: Tx, request: _Request) -> bool:
                return _receive_once(tx, opened, choice, request, who)

            new = await sheets.written(opened, "requests", requests, write)
            there = len(requests) - new
            console.show_one({"rows": len(requests), "received": new, "there_already": there}, as_json=as_json)

        session.run(config, work)


def _add_listing(app: typer.Typer, choice: SharingChoice) -> None:
    @app.command("list")
    def list_(
        is_open: Annotated[bool, typer.Option("--open", help="Only cases that somebody must still act on.")] = False,
        overdue: Annotated[bool, typer.Option("--overdue", help="Only cases with a broken promise.")] = False,
        config: Config = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        """List cases with what is due. No patient's number is shown."""

        async def work(opened: Session) -> None:
            now = opened.now
            found = [kept.case for kept in await opened.store.read(optouts.cases) if kept.case.choice is choice]
            found = [
                case
                for case in found
                if (case.is_open or case.letters_due or not is_open) and (case.overdue(now) or not overdue)
            ]
            console.show([_row(case, now) for case in found], as_json=as_json, empty="no such case")

        session.run(config, work)

    @app.command()
    def show(case: str, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
        """Show a case with everything that happened to it."""

        async def work(opened: Session) -> None:
            def body(read: Read) -> tuple[KeptCase, list[optouts.PastEvent]]:
                kept = _case(read, choice, case)
                return kept, optouts.history(read, kept.case.case_id)

            kept, history = await opened.store.read(body)
            events: list[console.Row] = [
                {
                    "number": event.number,
                    "event": event.event,
                    "state": event.state,
                    "by": event.by,
                    "role": event.role,
                    "at": event.at,
                    "recorded_at": event.recorded_at,
                    "reason": event.reason,
                }
                for event in history
            ]
            row = {**_row(kept.case, opened.now), "channel": kept.channel, "applicant": kept.applicant}
            if as_json:
                console.show_one({**row, "history": events}, as_json=True)
            else:
                console.show_one(row, as_json=False)
                console.say("")
                console.show(events, as_json=False, empty="")

        session.run(config, work)


def _add_step(app: typer.Typer, choice: SharingChoice, event: CaseEvent) -> None:
    @app.command(event.value, help=_WORDS[event])
    def step(
        case: str,
        by: By,
        role: AsRole = Role.OFFICER,
        at: ActedAt = "",
        reason: Why = "",
        config: Config = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        async def work(opened: Session) -> None:
            who, happened_at = author(by, reason), instant(at) or opened.now

            def body(tx: Tx) -> Case:
                kept = _case(tx, choice, case)
                return optouts.move_case(tx, kept.case.case_id, event, role, happened_at, who)

            after = await opened.store.write(body)
            if event is CaseEvent.IMPLEMENT:
                await _close_keys(opened)
            console.show_one(_row(after, opened.now), as_json=as_json)

        session.run(config, work)


async def _close_keys(opened: Session) -> None:
    """Close the keys of what is kept of the patient at once; where that fails, gateways do it by the register."""
    # Imported here: no other command on opt-outs needs keys and ciphers.
    from gateway.keeping.closings import Closings  # noqa: PLC0415
    from gateway.keeping.keys import key_store_file, open_keyring  # noqa: PLC0415

    try:
        file = key_store_file(opened.configuration)
        if file is not None and not file.exists():
            return  # nothing was ever kept
        closings = Closings(opened.store, opened.clock)
        await closings.read()
        node = command_node(opened.configuration)
        async with open_keyring(opened.configuration, opened.clock, node=node) as keyring:
            await closings.apply(keyring, None)
    except (GatewayError, OSError) as error:
        console.complain(f"implemented; keys of kept copies are closed by the gateway as soon as it can: {error}")


def _request(opened: Session, row: Mapping[str, str], now: datetime) -> _Request:
    number, local = row.get("nhs_number", ""), row.get("local", "")
    if bool(number) == bool(local):
        raise InvalidRequest("needs nhs_number or local, one of the two")
    mode = opened.configuration.gateway.mode
    patient = local_identifier(local) if local else patients.nhs(session.parse_number(number, mode))
    received_at = instant(row.get("received_at", "")) or now
    return _Request(patient, _channel(row["channel"]), row.get("applicant", "") or "patient", received_at)


def _receive(tx: Tx, opened: Session, choice: SharingChoice, request: _Request, who: Author) -> Case:
    row = patients.ensure(tx, request.patient, who, source="cli")
    section = opened.configuration.opt_out
    calendar = Calendar(section.terms, section.bank_holidays, session.LONDON)
    receipt = Receipt(row, choice, request.channel, request.applicant, request.at)
    return optouts.open_case(tx, receipt, calendar, Role.OFFICER, who)


def _receive_once(tx: Tx, opened: Session, choice: SharingChoice, request: _Request, who: Author) -> bool:
    row = patients.find(tx, request.patient)
    known = optouts.cases(tx, [row]) if row is not None else []
    if any(kept.case.choice is choice and kept.case.is_open for kept in known):
        return False
    _receive(tx, opened, choice, request, who)
    return True


def _case(read: Read, choice: SharingChoice, named: str) -> KeptCase:
    for kept in optouts.cases(read):
        if kept.case.choice is choice and named in (kept.case.case_id, str(kept.case.sequence)):
            return kept
    raise InvalidRequest(f"no {choice.value} case is named {named}: gateway {choice.value.replace('-', '')} list")


def _channel(text: str) -> str:
    if text.strip() not in CHANNELS:
        raise InvalidRequest(f"a channel is one of {', '.join(CHANNELS)}")
    return text.strip()


def _row(case: Case, now: datetime) -> dict[str, console.Cell | list[str]]:
    return {
        "case": case.sequence,
        "id": case.case_id,
        "choice": case.choice,
        "state": case.state,
        "received_at": case.received_at,
        "acknowledge_by": case.acknowledge_by,
        "implement_by": case.implement_by,
        "letters_due": [letter.value for letter in case.letters_due],
        "overdue": [promise.value for promise in case.overdue(now)],
        "acts": _acts(case),
    }


def _delivery(each: recipients.Delivered) -> dict[str, console.Cell]:
    return {
        "trust": each.recipient.code,
        "asked_by": each.subject,
        "sent_to": each.destination,
        "study": each.study_uid,
        "instances": each.instances,
        "first_at": each.first_at,
        "last_at": each.last_at,
        "request": each.request_id,
    }


def _acts(case: Case) -> str:
    if case.implemented_at is not None:
        return "implemented"
    is_restricted = case.restricts_provisionally and case.verified_at is not None and case.ended_at is None
    return "provisional restriction" if is_restricted else "not yet" if case.is_open else "never did"


opt_outs = commands_for(SharingChoice.OPT_OUT)
opt_ins = commands_for(SharingChoice.OPT_IN)
