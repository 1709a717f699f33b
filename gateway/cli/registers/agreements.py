"""`gateway agreement`: what a custodian trust shares, with whom. A file of clauses is one version, never changed again.

The file (TOML, or JSON of the same shape) names the `custodian` and holds one `[[clause]]` for each thing that is
shared: `recipients`, `modalities`, `purposes` (absent: any), `age_min_years`, `age_max_years`. No clause: nothing is
shared. `diff` and `--dry-run` say what would change before it does.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.cli import console, session
from gateway.cli.impact import Proposal, show_impact
from gateway.cli.options import DEFAULT_CONFIG, AsJson, By, Config, Why
from gateway.cli.session import Session, author, instant, trust_of
from gateway.model.errors import InvalidRequest
from gateway.sharing.impact import with_agreements
from policy.facts import Facts
from policy.parties import PurposeOfUse, TrustId
from storage.database import Read, Tx
from storage.registers import agreements
from storage.registers.agreements import Clause

FILE_BYTES_MAX = 1024 * 1024
CLAUSES_MAX = 1_000
AGE_MAX_YEARS = 150

app = typer.Typer(no_args_is_help=True, help="Sharing agreements of custodian trusts.")

Trust = Annotated[str, typer.Option("--trust", help="ODS code of the custodian.")]
From = Annotated[str, typer.Option("--from", help="When it takes effect. Default: now.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing: say who would gain or lose access.")]


@dataclass(frozen=True, slots=True)
class _Document:
    """An agreement as written down."""

    custodian: TrustId
    clauses: tuple[Clause, ...]


@app.command("import")
def import_(
    file: Path,
    by: By,
    valid_from: From = "",
    dry_run: DryRun = False,
    reason: Why = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Bring in the custodian's next version."""

    async def work(opened: Session) -> None:
        document = _document(file, opened)
        begins = instant(valid_from) or opened.now
        if dry_run:
            await _dry_run(opened, document, as_json=as_json)
            return
        who = author(by, reason)

        def body(tx: Tx) -> int:
            return agreements.import_version(tx, document.custodian, document.clauses, begins, who)

        version = await opened.store.write(body)
        console.show_one(
            {
                "custodian": document.custodian.code,
                "version": version,
                "clauses": len(document.clauses),
                "takes_effect": begins,
            },
            as_json=as_json,
        )

    session.run(config, work)


@app.command()
def diff(file: Path, config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Compare a file with the version in force, clause by clause."""

    async def work(opened: Session) -> None:
        document = _document(file, opened)
        before = await opened.store.read(lambda read: agreements.in_force_at(read, document.custodian, opened.now))
        found = agreements.difference(before, document.clauses)
        rows: list[console.Row] = [
            {"change": change, **_clause_row(clause)}
            for change, clauses in (("removed", found.removed), ("added", found.added), ("kept", found.kept))
            for clause in clauses
        ]
        console.show(rows, as_json=as_json, empty="both share nothing")

    session.run(config, work)


@app.command("list")
def list_(trust: Trust = "", config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the versions of one custodian, or of all that the configuration names."""

    async def work(opened: Session) -> None:
        custodians = [trust_of(trust)] if trust else sorted(entry.ods for entry in opened.configuration.trust)

        def body(read: Read) -> list[console.Row]:
            return [
                {
                    "custodian": version.custodian.code,
                    "version": version.version,
                    "takes_effect": version.valid_from,
                    "imported_at": version.recorded_at,
                    "by": version.imported_by,
                    "reason": version.reason,
                }
                for custodian in custodians
                for version in agreements.versions(read, custodian)
            ]

        console.show(await opened.store.read(body), as_json=as_json, empty="no agreement: nothing is shared")

    session.run(config, work)


@app.command()
def show(
    trust: Trust,
    at: Annotated[str, typer.Option(help="The version in force then. Default: now.")] = "",
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the clauses of the version in force."""

    async def work(opened: Session) -> None:
        custodian, when = trust_of(trust), instant(at) or opened.now
        found = await opened.store.read(lambda read: agreements.in_force_at(read, custodian, when))
        rows: list[console.Row] = [
            {
                "clause": one.agreement_id,
                **_clause_row(
                    Clause(one.recipients, one.modalities, one.purposes, one.age_min_years, one.age_max_years)
                ),
                "from": one.valid_from,
                "until": one.valid_until,
            }
            for one in found
        ]
        console.show(rows, as_json=as_json, empty=f"{custodian} shares nothing")

    session.run(config, work)


async def _dry_run(opened: Session, document: _Document, *, as_json: bool) -> None:
    now, custodian = opened.now, document.custodian
    before = await opened.store.read(lambda read: agreements.in_force_at(read, custodian, now))
    after = [
        agreements.as_agreement(clause, custodian, 0, position, now)
        for position, clause in enumerate(document.clauses, start=1)
    ]

    def changed(facts: Facts, recipient: TrustId) -> Facts:
        return with_agreements(facts, custodian, after, recipient)

    configuration = opened.configuration
    proposal = Proposal(configuration, configuration, [custodian], before, after, changed)
    await show_impact(opened, proposal, "", as_json=as_json)


def _document(path: Path, opened: Session) -> _Document:
    stored = _stored(path)
    unknown = sorted(set(stored) - {"custodian", "clause"})
    problems = [f"{name}: no such setting" for name in unknown]
    clauses = stored.get("clause", [])
    if not isinstance(clauses, list) or len(clauses) > CLAUSES_MAX:
        raise InvalidRequest(f"{path}: clause: must be a list of {CLAUSES_MAX:,} at most")
    custodian = stored.get("custodian")
    if not isinstance(custodian, str):
        raise InvalidRequest(f"{path}: custodian: must be set to an ODS code")
    parsed = []
    for number, clause in enumerate(clauses, start=1):
        try:
            parsed.append(_clause(clause, opened))
        except InvalidRequest as error:
            problems.append(f"clause {number}: {error}")
    if problems:
        raise InvalidRequest("\n".join([f"{path}: nothing was imported", *problems]))
    return _Document(opened.trust(custodian), tuple(parsed))


def _stored(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InvalidRequest(f"{path}: is larger than {FILE_BYTES_MAX:,} bytes")
        text = path.read_text(encoding="utf-8")
        stored = orjson.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML, JSON and UTF-8 alike
        raise InvalidRequest(f"{path}: is neither TOML nor (named .json) JSON: {error}") from error
    if not isinstance(stored, dict):
        raise InvalidRequest(f"{path}: holds no settings")
    return stored


def _clause(stored: object, opened: Session) -> Clause:
    if not isinstance(stored, dict):
        raise InvalidRequest("is not a table")
    names = {"recipients", "modalities", "purposes", "age_min_years", "age_max_years"}
    for name in stored:
        if name not in names:
            raise InvalidRequest(f"{name}: no such setting")
    purposes = _texts(stored, "purposes")
    for purpose in purposes:
        if purpose not in sorted(PurposeOfUse):
            raise InvalidRequest(f"purposes: {purpose!r} is no purpose of use")
    return Clause(
        recipients=frozenset(opened.trust(code) for code in _texts(stored, "recipients")),
        modalities=frozenset(modality.upper() for modality in _texts(stored, "modalities")),
        purposes=frozenset(map(PurposeOfUse, purposes)),
        age_min_years=_age(stored, "age_min_years"),
        age_max_years=_age(stored, "age_max_years"),
    )


def _texts(stored: dict[object, object], name: str) -> list[str]:
    if name not in stored:
        return []
    value = stored[name]
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise InvalidRequest(f"{name}: must be a list of words")
    if not value:
        # "any" is said by leaving the name out; an empty list more likely lost its contents.
        raise InvalidRequest(f"{name}: is empty; leave it out to mean any")
    return [text.strip() for text in value]


def _age(stored: dict[object, object], name: str) -> int | None:
    value = stored.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= AGE_MAX_YEARS:
        raise InvalidRequest(f"{name}: must be a whole number of years, 0 to {AGE_MAX_YEARS}")
    return value


def _clause_row(clause: Clause) -> dict[str, console.Cell | list[str]]:
    return {
        "recipients": sorted(trust.code for trust in clause.recipients) or ["any"],
        "modalities": sorted(clause.modalities) or ["any"],
        "purposes": sorted(purpose.value for purpose in clause.purposes) or ["any"],
        "age_from": clause.age_min_years,
        "age_to": clause.age_max_years,
    }
