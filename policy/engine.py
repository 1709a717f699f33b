"""Decide: run every rule, let any forbid win, deny what nothing permits.

`decide` is total: a rule that raises forbids, named after itself, and every decision has a reason. It keeps nothing
between two calls (DEC-34), so the same access, facts and settings always give the same decision. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import attrgetter

from policy.access import Access, Decision, Effect, Obligation, Reason
from policy.facts import Facts, Register
from policy.rules import RULES, Rule, rule_name
from policy.settings import Settings

RULES_VERSION = 1
"""Raised whenever a rule comes to decide differently; the names of the rules are hashed beside it."""

RULE_SET = f"{RULES_VERSION}-{hashlib.sha256(','.join(sorted(map(rule_name, RULES))).encode()).hexdigest()[:8]}"
"""Names the rules; with the version of the settings it stands in every decision as `<rules>/<settings>`."""

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
            reason = Reason(rule_name(rule), Effect.FORBID, "rule-failed", "the rule could not be judged")
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


def shows_fault(decision: Decision, facts: Facts) -> bool:
    """Whether the caller gets the fault of SAF-01 and not the decision.

    A reason that may be told comes before the fault while the relationship store is readable; else the fault (SAF-02).
    """
    return bool(facts.faults) and not (decision.told and _RELATIONSHIP_STORE.isdisjoint(facts.faults))


_NOTHING: frozenset[Obligation] = frozenset()
_by_rule = attrgetter("rule")
