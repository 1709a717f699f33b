"""Decide: run every rule, let any forbid win, deny what nothing permits.

`decide` is total: a rule that raises forbids, named after itself, and every decision has a reason. It keeps nothing
between two calls (DEC-34), so the same access, facts and settings always give the same decision. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from policy.access import Access, Decision, Effect, Obligation, Reason, Resource
from policy.facts import Facts, Register
from policy.rules import RULES, Rule, rule_name
from policy.settings import Settings

RULES_VERSION = 3
"""Raised whenever a rule comes to decide differently; the names of the rules are hashed beside it."""

RULE_SET = f"{RULES_VERSION}-{hashlib.sha256(','.join(sorted(map(rule_name, RULES))).encode()).hexdigest()[:8]}"
"""Names the rules; with the version of the settings it stands in every decision as `<rules>/<settings>`."""

_RULE_FAILED = "rule-failed"
_NO_PERMIT = Reason("no-permit", Effect.FORBID, "no-permit", "no rule permits this")
_RELATIONSHIP_STORE = frozenset({Register.PATIENTS, Register.RELATIONSHIPS})


def decide(
    access: Access, facts: Facts, settings: Settings, decision_id: str, *, rules: Sequence[Rule] = RULES
) -> Decision:
    """Judge one access by all rules; raises nothing.

    Reasons stand in one order whatever the order of the rules: forbids before permits, each by name of rule. `rules`
    is there for the proof of the engine itself.
    """
    forbids: list[Reason] = []
    permits: list[Reason] = []
    for rule in rules:
        try:
            reason = rule(access, facts, settings)
        except Exception:  # noqa: BLE001  # a rule that fails must deny, whatever it failed with
            reason = Reason(rule_name(rule), Effect.FORBID, _RULE_FAILED, "the rule could not be judged")
        if reason is not None:
            (permits if reason.effect is Effect.PERMIT else forbids).append(reason)
    if not permits and not forbids:
        forbids.append(_NO_PERMIT)
    forbids.sort(key=_by_rule)
    permits.sort(key=_by_rule)
    rule_set = f"{RULE_SET}/{settings.version}"
    if forbids:
        return Decision(decision_id, Effect.FORBID, (*forbids, *permits), rule_set)
    obligations = _NOTHING.union(*[reason.obligations for reason in permits])
    return Decision(decision_id, Effect.PERMIT, tuple(permits), rule_set, obligations)


def decide_for_studies(
    access: Access, facts: Facts, settings: Settings, decision_id: str, *, rules: Sequence[Rule] = RULES
) -> tuple[Decision, bool]:
    """Judge one access, and say whether it is judged so for every study that is otherwise like this one.

    It is when no rule looked at the study's UID: rules being pure, another UID could then have changed nothing. So the
    rows of an answer share a decision without anybody having to know which rules ask for which study. Raises nothing.
    """
    watched = _WatchedResource(access.resource)
    watching = replace(access, resource=watched)  # type: ignore[arg-type]  # it answers like the resource
    decision = decide(watching, facts, settings, decision_id, rules=rules)
    if any(reason.code == _RULE_FAILED for reason in decision.reasons):
        return decide(access, facts, settings, decision_id, rules=rules), False
    return decision, not watched.is_study_seen


def shows_fault(decision: Decision, facts: Facts) -> bool:
    """Whether the caller gets the fault of SAF-01 and not the decision.

    A reason that may be told comes before the fault while the relationship store is readable; else the fault (SAF-02).
    """
    return bool(facts.faults) and not (decision.told and _RELATIONSHIP_STORE.isdisjoint(facts.faults))


class _WatchedResource:
    """Answers like a resource, and notes when more was asked than what all studies of its kind have in common."""

    __slots__ = ("_resource", "is_study_seen")

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self.is_study_seen = False

    def __getattr__(self, name: str) -> object:
        if name not in _IN_COMMON:
            self.is_study_seen = True
        return getattr(self._resource, name)

    def __eq__(self, other: object) -> bool:
        self.is_study_seen = True
        return self._resource == other

    def __hash__(self) -> int:
        self.is_study_seen = True
        return hash(self._resource)


_IN_COMMON = frozenset({"patient", "custodian", "modalities", "age_years", "beside"})
_NOTHING: frozenset[Obligation] = frozenset()
_by_rule = attrgetter("rule")
