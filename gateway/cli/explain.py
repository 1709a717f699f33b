"""`gateway explain`: why a caller may or may not see, in words and with every reason, the hidden ones too.

For information governance, not for callers: it names what registers hold, so each use stands in the audit. It asks what
would be decided now or at another instant, or replays a decision of the past from its record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer

from gateway.cli import console, session
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, PatientFile, PatientNumber
from gateway.cli.replay import past_decision
from gateway.cli.session import Session, author, instant
from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import InvalidRequest
from gateway.model.imaging import JsonValue
from gateway.node import new_id
from gateway.region import caller_bindings, directory_of
from policy.access import Access, Action, Decision, Effect, Resource, Telling
from policy.engine import decide
from policy.facts import Facts
from policy.identity import CallerBinding, NotProven, Unproven, trust_of
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse
from policy.record import decision_to_json, replay
from policy.settings import Proof
from storage.registers import trusts

_TOLD = {
    Telling.CALLER: "told to the caller",
    Telling.COVERAGE: "shown as coverage",
    Telling.NOBODY: "hidden: the answer is that of absence",
}
_UID = re.compile(r"[0-9.]{1,64}")


def explain(
    by: By,
    caller: Annotated[str, typer.Option(help="Name of a caller of the configuration.")] = "",
    patient: PatientNumber = "",
    patient_file: PatientFile = "",
    at: Annotated[str, typer.Option(help="As it was, or will be, then. Default: now.")] = "",
    purpose: Annotated[PurposeOfUse | None, typer.Option(help="Default: the caller's first.")] = None,
    asking_for: Annotated[str, typer.Option(help="Of a caller that is a gateway: the trust that it asks for.")] = "",
    trust: Annotated[str, typer.Option(help="A custodian: whether its studies may be seen, not only asked for.")] = "",
    study: Annotated[str, typer.Option(help="With --trust: a Study Instance UID there.")] = "",
    modality: Annotated[list[str] | None, typer.Option(help="With --trust: the study's modality.")] = None,
    age: Annotated[int | None, typer.Option(help="With --trust: the patient's age in years.")] = None,
    decision: Annotated[str, typer.Option(help="Instead: replay this past decision from the audit.")] = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say why a caller may or may not see a patient's imaging, with every reason."""
    if bool(decision) == bool(caller):
        raise InvalidRequest("give --caller with --patient, or --decision alone")
    if study and not _UID.fullmatch(study):
        raise InvalidRequest("a Study Instance UID has 1 to 64 digits and dots")
    if (study or modality or age is not None) and not trust:
        raise InvalidRequest("--study, --modality and --age are of a custodian's imaging: add --trust")

    async def work(opened: Session) -> None:
        if decision:
            await _replay(opened, decision, by, as_json=as_json)
            return
        number = session.nhs_number(patient, patient_file, opened.configuration.gateway.mode)
        custodian = opened.trust(trust) if trust else None
        resource = Resource(number, custodian, study, frozenset(modality or ()), age)
        past = instant(at)
        binding = _binding(opened, caller, asking_for)
        access = _access(binding, purpose, resource, past or opened.now)
        facts = await _facts(opened, access, number, is_now=past is None)
        made = decide(access, facts, opened.configuration.policy_settings, new_id())
        asked: dict[str, JsonValue] = {"caller": caller, "at": access.at.isoformat(), "trust": trust, "study": study}
        await _record(opened, by, {**asked, "decision": decision_to_json(made)})
        _show(made, access, facts, as_json=as_json)

    session.run(config, work)


async def _replay(opened: Session, decision_id: str, by: str, *, as_json: bool) -> None:
    progress = console.Progress("audit records read")
    past = await past_decision(opened, decision_id, progress.at)
    again = replay(past.record)
    is_equal = again == past.recorded
    await _record(opened, by, {"replayed": decision_id, "equal": is_equal})
    where = {"node": past.node, "record": past.sequence, "request": past.request_id, "replays_equal": is_equal}
    if past.versions:
        where["shown_as_another_holder_has_it"] = " ".join(past.versions)
    _show(past.recorded, past.record.access, past.record.facts, as_json=as_json, more=where)
    if is_equal:
        return
    if not as_json:
        console.say("", f"decided again by the rules of today ({again.rule_set}) it would be:", *_words(again))
    raise typer.Exit(1)


async def _record(opened: Session, by: str, body: Mapping[str, JsonValue]) -> None:
    who = author(by)
    entry = AuditEntry(AuditEvent.EXPLAIN, opened.now, who.request_id, {**body, "by": who.subject})
    await opened.store.append_audit(entry)


async def _facts(opened: Session, access: Access, number: NhsNumber, *, is_now: bool) -> Facts:
    """The registers as they were known at the instant asked about; a future one is judged by what is known now."""
    known_at = access.at if not is_now and access.at < opened.now else None
    snapshot = await opened.store.facts(access.recipient, [number], at=access.at, known_at=known_at)
    roll = await opened.store.read(trusts.roll)
    directory = directory_of(opened.configuration, lambda: roll)
    organisations = directory.organisations((entry.trust for entry in directory.trusts), number)
    return replace(snapshot.by_patient[number], organisations=organisations)


def _binding(opened: Session, name: str, asking_for: str) -> CallerBinding:
    """The caller, with the trust for which it asks."""
    bindings = {binding.name: binding for binding in caller_bindings(opened.configuration)}
    if name not in bindings:
        raise InvalidRequest(f"no [[caller]] of the configuration is named {name}")
    asking = trust_of(bindings[name], opened.trust(asking_for).code if asking_for else "")
    match asking:
        case NotProven(reason=Unproven.TRUST_NOT_STATED):
            raise InvalidRequest(f"{name} is a gateway, and asks for its trusts: add --asking-for")
        case NotProven():
            raise InvalidRequest(f"{name} may not ask for {asking_for}: see asks_for of its [[caller]]")
        case _:
            return replace(bindings[name], trust=asking)


def _access(binding: CallerBinding, purpose: PurposeOfUse | None, resource: Resource, at: datetime) -> Access:
    """The question as this caller's system would ask it, proven by all that its entry demands."""
    return Access(
        subject=binding.name,
        kind=binding.kind,
        caller_trust=binding.trust,
        proven_by=_proofs(binding),
        recipient=binding.trust,
        person=binding.name if binding.kind is PrincipalKind.CLINICIAN else "",
        teams=binding.teams,
        purpose=purpose or binding.purposes[0],
        action=Action.SEE if resource.custodian is not None else Action.QUERY,
        resource=resource,
        at=at,
        patient_named=True,
    )


def _proofs(binding: CallerBinding) -> frozenset[str]:
    has_certificate = bool(binding.certificate_sha256 or binding.certificate_name)
    proofs = {Proof.HTTPS, Proof.CERTIFICATE if has_certificate else Proof.LOOPBACK}
    if binding.addresses:
        proofs.add(Proof.ADDRESS)
    return frozenset(proof.value for proof in proofs)


def _show(
    made: Decision, access: Access, facts: Facts, *, as_json: bool, more: Mapping[str, object] | None = None
) -> None:
    rows: list[console.Row] = [
        {
            "rule": reason.rule,
            "effect": reason.effect,
            "code": reason.code,
            "says": reason.text,
            "telling": _TOLD[reason.telling] if reason.effect is Effect.FORBID else "-",
            "evidence": reason.evidence,
        }
        for reason in made.reasons
    ]
    if as_json:
        whole = {"decision": made.decision_id, "effect": made.effect, "words": _words(made), "at": access.at}
        console.show_one({**whole, "reasons": rows, "rule_set": made.rule_set, **(more or {})}, as_json=True)
        return
    console.say(*_words(made))
    console.say(
        f"decision {made.decision_id}, rules {made.rule_set}, registers {facts.register_version}, at {access.at}"
    )
    if more:
        console.say(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in more.items()))
    console.say("")
    console.show(rows, as_json=False, empty="no rule found anything, so nothing permits it")


def _words(made: Decision) -> list[str]:
    if made.is_permitted:
        return ["permitted"]
    if made.told:
        return ["denied; the caller is told: " + "; ".join(reason.text for reason in made.told)]
    return ["denied without a word: the caller's answer is that of absence"]
