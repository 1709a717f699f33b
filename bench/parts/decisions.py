"""Decisions a second: the real rules over one row, and over the hundred rows of one question.

In this process, on one core; nothing else is in the way. Nobody else decides by these rules, so there is no peer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.figures import Figure, middle, spread
from bench.plan import Effort, Say
from gateway.model.imaging import JsonValue
from policy.access import Access, Action, Resource
from policy.engine import decide
from policy.facts import Agreement, CareRelationship, Facts, Organisation, OrganisationKind, RelationshipKind
from policy.parties import NhsNumber, PrincipalKind, PurposeOfUse, TrustId
from policy.rules import RULES
from policy.settings import Mode, Proof, Settings

ROWS = 100
_NORTHMOOR, _EASTVALE = TrustId("RZ1"), TrustId("RZ2")
_PATIENT = NhsNumber("9990000018")
_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
_SETTINGS = Settings(mode=Mode.DEMO)
_BATCH_MIN = 10


def measure(effort: Effort, folder: Path, say: Say) -> Iterator[Figure]:
    """Yield the figures."""
    say(f"deciding by {len(RULES)} rules")
    facts = _facts()
    rows = [_see(number) for number in range(ROWS)]
    by_clinician = replace(rows[0], kind=PrincipalKind.CLINICIAN, person="dr-hollis", teams=frozenset({"neurology"}))
    denied = replace(facts, relationships=())
    for name, decisions, act in (
        ("permitted to a system", 1, lambda: decide(rows[0], facts, _SETTINGS, "d-1")),
        ("permitted to a clinician by team", 1, lambda: decide(by_clinician, facts, _SETTINGS, "d-1")),
        ("denied for want of a relationship", 1, lambda: decide(rows[0], denied, _SETTINGS, "d-1")),
        (f"{ROWS} rows of one question", ROWS, lambda: [decide(row, facts, _SETTINGS, "d-1") for row in rows]),
    ):
        times_us = [us / decisions for us in _times_us(act, effort)]
        about: dict[str, JsonValue] = {"ours": spread(times_us), "rules": len(RULES)}
        yield Figure(f"decision, {name}", middle(times_us), None, "us", None, about)
        rates = [1e6 / us for us in times_us]
        yield Figure(f"decisions a second, {name}", middle(rates), None, "1/s", None, {"ours": spread(rates)})


def _times_us(act: Callable[[], object], effort: Effort) -> list[float]:
    """What `act` takes in each round, after one that is dropped."""
    times = []
    for _ in range(effort.rounds + 1):
        count, began = 0, time.perf_counter()
        elapsed_s = 0.0
        while elapsed_s < effort.slice_s / 3:
            for _ in range(_BATCH_MIN):
                act()
            count += _BATCH_MIN
            elapsed_s = time.perf_counter() - began
        times.append(elapsed_s * 1e6 / count)
    return times[1:]


def _see(number: int) -> Access:
    return Access(
        subject="northmoor-pacs",
        kind=PrincipalKind.SYSTEM,
        caller_trust=_NORTHMOOR,
        proven_by=frozenset({Proof.HTTPS, Proof.CERTIFICATE}),
        recipient=_NORTHMOOR,
        person="",
        teams=frozenset(),
        purpose=PurposeOfUse.TREAT,
        action=Action.SEE,
        resource=Resource(_PATIENT, _EASTVALE, f"2.25.{number}", frozenset({"CT"}), 68),
        at=_NOON,
        patient_named=True,
    )


def _facts() -> Facts:
    """What a patient's facts look like: a few relationships, a clause for each of six modalities."""
    day = timedelta(days=1)
    hospital = OrganisationKind.NHS_HOSPITAL_TRUST
    return Facts(
        register_version=7,
        patient=_PATIENT,
        organisations=(Organisation(_NORTHMOOR, hospital, True), Organisation(_EASTVALE, hospital, True)),
        relationships=tuple(
            CareRelationship(f"r-{n}", _NORTHMOOR, RelationshipKind.REFERRAL, team, "REF", _NOON - day, _NOON + day)
            for n, team in enumerate(("", "neurology", "respiratory"))
        ),
        agreements=tuple(
            Agreement(
                f"RZ2/1/{n}",
                1,
                _EASTVALE,
                frozenset({_NORTHMOOR}),
                frozenset({modality}),
                frozenset({PurposeOfUse.TREAT}),
                None,
                None,
                _NOON - day,
                None,
            )
            for n, modality in enumerate(("MR", "CR", "DX", "US", "XA", "CT"))
        ),
    )
