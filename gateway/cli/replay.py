"""Find a past decision in the audit and decide it again from what was recorded with it (DEC-14).

The gate records the question's access and facts in the attempt, and each row's resource, instant and decision in the
outcome, with the facts read anew if the registers had moved. Which settings held is named by their version; the text of
each version stands in the records of a gateway's start. Pure but for reading pages of the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from gateway.cli.session import Session
from gateway.model.audit import AuditEvent, AuditRecord
from gateway.model.errors import InvalidRequest
from policy.access import Action, Decision
from policy.facts import Facts
from policy.record import (
    DecisionRecord,
    UnreadableRecord,
    access_from_json,
    decision_from_json,
    facts_from_json,
)
from policy.settings import Settings
from storage import audit_log

_ATTEMPTS = frozenset({AuditEvent.QUERY_ATTEMPT, AuditEvent.RETRIEVE_ATTEMPT, AuditEvent.STORE_ATTEMPT})
_OUTCOMES = MappingProxyType({AuditEvent.QUERY_OUTCOME: Action.SEE, AuditEvent.RETRIEVE_OUTCOME: Action.RETRIEVE})
"""What was decided of the rows that each kind of outcome holds."""

Said = Mapping[str, object]
"""The contents of an audit record."""


@dataclass(frozen=True, slots=True)
class Past:
    """A decision as it was recorded, with the record that holds it."""

    record: DecisionRecord
    node: str
    sequence: int
    request_id: str
    versions: tuple[str, ...] = ()
    """Of the studies decided on alike: those shown as another holder has them, because headers differ (SAF-35)."""

    @property
    def recorded(self) -> Decision:
        """What was decided then."""
        return self.record.decision


async def past_decision(opened: Session, decision_id: str, progress: Callable[[int], None]) -> Past:
    """Find the decision in any chain; raises `InvalidRequest` if no record holds it, or one cannot be read."""
    attempt_id = decision_id.partition(".")[0]
    attempt: AuditRecord | None = None
    outcome: AuditRecord | None = None
    settings = {opened.configuration.policy_settings.version: opened.configuration.policy_settings}
    for node in await opened.store.read(audit_log.nodes):
        after, seen = 0, 0
        while page := await opened.store.read(partial(audit_log.page, node=node, after=after)):
            for entry in page:
                settings.update(_settings_in(entry))
                if attempt_id.encode() in entry.encoded:
                    said = audit_log.contents(entry)
                    if _is_attempt(said, attempt_id):
                        attempt = entry
                    elif _is_outcome(said, attempt_id):
                        outcome = entry
            after, seen = page[-1].sequence, seen + len(page)
            progress(seen)
    if attempt is None or (outcome is None and attempt_id != decision_id):
        raise InvalidRequest("no record of the audit holds this decision")
    return _past(attempt, outcome, decision_id, settings)


def _past(
    attempt: AuditRecord, outcome: AuditRecord | None, decision_id: str, settings: Mapping[str, Settings]
) -> Past:
    holder = attempt if outcome is None or "." not in decision_id else outcome
    asked = _body(attempt)
    versions: tuple[str, ...] = ()
    try:
        access, facts = asked["access"], asked["facts"]
        decision = asked["decision"]
        if holder is not attempt and outcome is not None:
            said = _body(outcome)
            row = next(_rows(said, decision_id), None)
            if row is None:
                raise InvalidRequest("no record of the audit holds this decision")
            resource = _mapping(row["resource"])
            access = {
                **_mapping(access),
                "action": _OUTCOMES[_event(outcome)].value,
                "resource": resource,
                "at": row["at"],
            }
            decision = row["decision"]
            versions = _versions(said, row)
            facts_then = _facts_of_row(facts, said, resource.get("patient"))
        else:
            facts_then = facts_from_json(facts)
        version = str(_body(holder)["settings"])
        if version not in settings:
            raise InvalidRequest(f"the settings {version} of that decision stand in no record of a gateway's start")
        past = DecisionRecord(access_from_json(access), facts_then, settings[version], decision_from_json(decision))
    except (KeyError, TypeError, UnreadableRecord) as error:
        raise InvalidRequest(f"the record of this decision cannot be read: {error}") from error
    request_id = str(audit_log.contents(holder).get("request", ""))
    return Past(past, holder.node, holder.sequence, request_id, versions)


def _facts_of_row(asked: object, outcome: Said, patient: object) -> Facts:
    """The facts that a row was decided on: those of the attempt, unless they were read again for the outcome."""
    again = outcome["facts"]
    if isinstance(again, Mapping):
        return facts_from_json(again.get(str(patient)) or again["none"])
    facts = facts_from_json(asked)
    if patient is None and facts.patient is not None:
        # A row without a patient is decided on what is known of nobody: the same snapshot without the person.
        return replace(facts, patient=None, relationships=(), choices=(), labels=(), grants=())
    return facts


def _versions(outcome: Said, row: Said) -> tuple[str, ...]:
    """The studies decided on in this row whose header at this custodian differs from the one that was shown."""
    custodian, studies = _mapping(row["resource"]).get("custodian"), row["studies"]
    sources = outcome["sources"]
    for source in sources if isinstance(sources, list) else ():
        said = _mapping(source)
        if said.get("trust") == custodian:
            differing = said.get("versions", ())
            decided = studies if isinstance(studies, list) else ()
            return tuple(uid for uid in decided if isinstance(differing, list) and uid in differing)
    return ()


def _rows(outcome: Said, decision_id: str) -> Iterator[Said]:
    decisions = outcome["decisions"]
    for row in decisions if isinstance(decisions, list) else ():
        if _mapping(_mapping(row)["decision"]).get("decision_id") == decision_id:
            yield row


def _is_attempt(said: Said, attempt_id: str) -> bool:
    body = _mapping(said["body"])
    decision = body.get("decision")
    return said["event"] in _ATTEMPTS and isinstance(decision, Mapping) and decision.get("decision_id") == attempt_id


def _is_outcome(said: Said, attempt_id: str) -> bool:
    return said["event"] in _OUTCOMES and _mapping(said["body"]).get("attempt") == attempt_id


def _settings_in(entry: AuditRecord) -> dict[str, Settings]:
    if AuditEvent.SERVICE_START.value.encode() not in entry.encoded:
        return {}
    said = audit_log.contents(entry)
    policy = _mapping(said["body"]).get("policy") if said["event"] == AuditEvent.SERVICE_START else None
    if not isinstance(policy, Mapping):
        return {}
    try:
        settings = Settings.from_json(dict(policy))
    except ValueError:
        return {}
    return {settings.version: settings}


def _event(entry: AuditRecord) -> AuditEvent:
    return AuditEvent(str(audit_log.contents(entry)["event"]))


def _body(entry: AuditRecord) -> Said:
    return _mapping(audit_log.contents(entry)["body"])


def _mapping(value: object) -> Said:
    if not isinstance(value, Mapping):
        raise InvalidRequest("the record of this decision cannot be read")
    return value
