"""`gateway trust`: who takes part in the region, how far each has come in joining, and when whose archive is down.

What is entered here goes before `enrolled` in the configuration, which is only where a trust starts, and counts in the
next answer of every node that serves. Names, addresses and archives of trusts stay in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber, Why
from gateway.cli.session import Session, author, instant, patient_row
from gateway.cli.session import nhs_number as nhs_number_of
from gateway.config.entries import TrustEntry
from gateway.model.errors import InvalidRequest
from policy.facts import OrganisationKind
from policy.parties import TrustId
from policy.trusts import Roll, Stage, Standing, TrustStanding
from storage.database import Tx
from storage.registers import trusts
from storage.registers.state import Author
from storage.registers.trusts import SignedOff

app = typer.Typer(no_args_is_help=True, help="Trusts of the region: joining, suspension, retirement, downtimes.")

Code = Annotated[str, typer.Argument(help="ODS code of a [[trust]].")]
SignedBy = Annotated[
    list[str] | None, typer.Option("--signed-by", help="Who says that the trust is ready: two people, each by name.")
]


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List every trust with its standing, stage, successor and downtime."""

    async def work(opened: Session) -> None:
        roll = await opened.store.read(trusts.roll)
        rows = [_row(entry, roll, opened) for entry in sorted(opened.configuration.trust, key=lambda entry: entry.ods)]
        console.show(rows, as_json=as_json, empty="the configuration has no [[trust]]")

    session.run(config, work)


@app.command()
def enrol(
    trust: Code,
    by: By,
    stage: Annotated[str, typer.Option(help="test, query, retrieve or push. Default: test.")] = "",
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let a trust begin to take part; in stage test for its labelled test patients alone."""

    async def work(opened: Session) -> None:
        entry = _entry(opened, trust)
        if entry.kind is not OrganisationKind.NHS_HOSPITAL_TRUST:
            raise InvalidRequest(f"{entry.ods} is no NHS hospital trust: only those are enrolled (SAF-10)")
        if not entry.desk_phone:
            raise InvalidRequest(f"set the desk_phone of {entry.ods} first: it stands in every text about it (SAF-09)")
        if entry.enrolled and not stage:
            raise InvalidRequest(f"{entry.ods} takes part by the configuration: name the --stage that it is in")
        begins_in = _stage(stage) if stage else Stage.TEST
        await _change(opened, by, reason, lambda tx, who: trusts.enrol(tx, entry.ods, begins_in, who), as_json)

    session.run(config, work)


@app.command()
def suspend(trust: Code, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let a trust neither ask nor be asked, at once. Callers are told that it shares nothing with them."""

    async def work(opened: Session) -> None:
        entry = _entry(opened, trust)
        if not reason.strip():
            raise InvalidRequest("say why: --reason")
        if not entry.enrolled and await _known(opened, entry.ods) is None:
            raise InvalidRequest(f"{entry.ods} is not enrolled")
        await _change(opened, by, reason, lambda tx, who: trusts.suspend(tx, entry.ods, Stage.PUSH, who), as_json)

    session.run(config, work)


@app.command()
def resume(trust: Code, by: By, reason: Why = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let a suspended trust take part again, in the stage that it had."""

    async def work(opened: Session) -> None:
        code = _entry(opened, trust).ods
        await _change(opened, by, reason, lambda tx, who: trusts.resume(tx, code, who), as_json)

    session.run(config, work)


@app.command()
def retire(
    trust: Code,
    by: By,
    successor: Annotated[str, typer.Option(help="ODS code that inherits its access.")] = "",
    leave_archive: Annotated[
        bool, typer.Option("--leave-archive", help="Its archive is to be asked no more, and nobody is told of it.")
    ] = False,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Close a code for good; its successor inherits its callers, relationships, grants and what it was agreed."""

    async def work(opened: Session) -> None:
        code = opened.trust(trust)
        heir = opened.trust(successor) if successor else None
        if not reason.strip():
            raise InvalidRequest("say why: --reason")
        if code in {peer.trust for peer in opened.configuration.peer} and not leave_archive:
            raise InvalidRequest(
                f"{code} has an archive here that would be asked no more, and be missing in no answer: give its "
                "[[peer]] to the successor first, keep both codes until the archives are one, or say --leave-archive"
            )
        await _change(opened, by, reason, lambda tx, who: trusts.retire(tx, code, heir, who), as_json)

    session.run(config, work)


@app.command()
def stage(
    trust: Code,
    to: Annotated[str, typer.Option("--to", help="test, query, retrieve or push.")],
    by: By,
    signed_by: SignedBy = None,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let a trust go on by one stage, signed off by two people; or back, by anybody at once."""

    async def work(opened: Session) -> None:
        code, wanted = opened.trust(trust), _stage(to)
        people = [*(signed_by or []), "", ""]
        if len(people) > 4:
            raise InvalidRequest("two people sign off, no more")
        signed = SignedOff(people[0], people[1])
        await _change(opened, by, reason, lambda tx, who: trusts.step_to(tx, code, wanted, signed, who), as_json)

    session.run(config, work)


@app.command()
def downtime(
    trust: Code,
    by: By,
    until: Annotated[str, typer.Option("--until", help="When it ends, such as 2026-11-30T06:00.")],
    begins: Annotated[str, typer.Option("--from", help="When it begins. Default: now.")] = "",
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Announce that a trust's archive will not be asked; callers are told until when, and the reason given here."""

    async def work(opened: Session) -> None:
        code, starts, ends = opened.trust(trust), instant(begins) or opened.now, instant(until)
        if ends is None:
            raise InvalidRequest("say when it ends: --until")
        who = author(by, reason)
        downtime_id = await opened.store.write(lambda tx: trusts.plan_downtime(tx, code, starts, ends, who))
        row = {"downtime": downtime_id, "trust": code.code, "from": starts, "until": ends, "reason": who.reason}
        console.show_one(row, as_json=as_json)

    session.run(config, work)


@app.command()
def downtimes(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the downtimes that are under way or to come."""

    async def work(opened: Session) -> None:
        roll = await opened.store.read(trusts.roll)
        rows: list[console.Row] = [
            {
                "downtime": each.downtime_id,
                "trust": each.trust.code,
                "from": each.begins,
                "until": each.ends,
                "reason": each.reason,
            }
            for each in roll.downtimes
        ]
        console.show(rows, as_json=as_json, empty="none is planned")

    session.run(config, work)


@app.command()
def up(
    downtime_id: Annotated[str, typer.Argument(help="As `gateway trust downtimes` names it.")],
    by: By,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """End a downtime now, or let a planned one not come."""
    session.change(config, by, reason, lambda tx, who: trusts.cancel_downtime(tx, downtime_id, who))
    console.say("ended: the archive is asked again")


@app.command("test-patient")
def test_patient(
    trust: Code,
    by: By,
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    label: Annotated[str, typer.Option(help="What the test patient is for.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the label back.")] = False,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Label a patient as a test patient of a trust; in stage test it takes part for these alone."""

    async def work(opened: Session) -> None:
        code, who = opened.trust(trust), author(by, reason)
        number = nhs_number_of(patient, patient_file, opened.configuration.gateway.mode)
        row = await patient_row(opened, number)
        if remove:
            await opened.store.write(lambda tx: trusts.unlabel_test_patient(tx, code, row, who))
            console.say(f"no test patient of {code} any more")
            return
        if not label.strip():
            raise InvalidRequest("say what the test patient is for: --label")
        await opened.store.write(lambda tx: trusts.label_test_patient(tx, code, row, label.strip(), who))
        console.say(f"a test patient of {code} from now on")

    session.run(config, work)


async def _change(
    opened: Session, by: str, reason: str, act: Callable[[Tx, Author], TrustStanding], as_json: bool
) -> None:
    who = author(by, reason)
    changed = await opened.store.write(lambda tx: act(tx, who))
    console.show_one(
        {
            "trust": changed.trust.code,
            "standing": changed.standing,
            "stage": changed.stage,
            "successor": changed.successor.code if changed.successor is not None else None,
        },
        as_json=as_json,
    )


def _entry(opened: Session, code: str) -> TrustEntry:
    trust = opened.trust(code)
    return next(entry for entry in opened.configuration.trust if entry.ods == trust)


async def _known(opened: Session, trust: TrustId) -> TrustStanding | None:
    roll = await opened.store.read(trusts.roll)
    return roll.standings.get(trust)


def _stage(text: str) -> Stage:
    try:
        return Stage(text.strip().lower())
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no stage: test, query, retrieve or push") from error


def _row(entry: TrustEntry, roll: Roll, opened: Session) -> console.Row:
    known = roll.standings.get(entry.ods)
    started = Standing.ENROLLED.value if entry.enrolled else "not enrolled"
    down = roll.downtime(entry.ods, opened.now)
    return {
        "trust": entry.ods.code,
        "name": entry.name,
        "standing": known.standing.value if known is not None else started,
        "said_by": "register" if known is not None else "configuration",
        "stage": known.stage.value if known is not None else None,
        "successor": known.successor.code if known is not None and known.successor is not None else None,
        "test_patients": len(roll.test_patients.get(entry.ods, ())),
        "down_until": down.ends if down is not None else None,
        "reason": known.reason if known is not None else "",
    }
