"""Who is who in one question, as the registers know it at that moment.

Reads the cross-references that `translation` works with: of the patient asked for, of every number that a row carries,
and once more before anything is shown, so that two people who were parted meanwhile are not shown as one. Keeps
nothing from one question to the next (DEC-34). A register that cannot be read is a fault, the same for every patient
(SAF-01).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.model.errors import InvalidRequest, NotFound, RegisterUnavailable, ServiceFault, StoreUnavailable
from gateway.model.imaging import Query, SourceState
from gateway.model.seams import CrossReference, PeerRequest, Store
from gateway.model.settings import IdentitySettings, PatientIdShown
from gateway.sharing.directory import Directory, TrustEntry
from gateway.sharing.identity.conflicts import Evidence, Judgement
from gateway.sharing.identity.patients import stated
from gateway.sharing.identity.reports import judge_with_reports
from gateway.sharing.identity.shown import own_number
from gateway.sharing.identity.tracing import Tracing
from gateway.sharing.identity.translation import (
    OwnNumbers,
    asked_local,
    by_number,
    identifiers_to_look_up,
    is_asked_in_part,
    nhs,
    own_numbers_of,
    questions,
    translated,
)
from gateway.sharing.merge import Candidate, Reading, read_answers
from gateway.sharing.peers import TrustAnswer
from gateway.sharing.scope import Scope, pinned_scope
from policy.facts import OrganisationKind
from policy.parties import NHS_NUMBER_ISSUER, Caller, NhsNumber, PatientId, PrincipalKind, TrustId

LOOKUPS_MAX = 2
"""Identifiers of one question that lookups are asked about: a hospital's number, and the NHS number behind it."""

_SOME_NUMBER = NhsNumber("9999999905")
"""Stands for a number that is not known yet, where only the form of a question is judged."""
_NOBODY = PatientId("", "")
"""An identifier that leads to nobody."""


@dataclass(frozen=True, slots=True)
class Named:
    """A question with its patient as the registers know them."""

    query: Query
    """By NHS number, whatever number the caller asked by."""
    scope: Scope
    """Of the surviving NHS number."""
    person: CrossReference | None = None
    asked: PatientId | None = None
    """What the caller named the patient by; leads to the person as long as nobody parts the two."""
    fault: RegisterUnavailable | None = None
    """Why the person could not be looked up: raised behind the reasons that come before it (SAF-02)."""
    pending: PatientId | None = None
    """What services beyond the registers have still to be asked about: they may know another number, or the person."""


class People:
    """Looks people up, question by question."""

    def __init__(
        self, store: Store, directory: Directory, settings: IdentitySettings, tracing: Tracing | None = None
    ) -> None:
        self._store = store
        self._directory = directory
        self._settings = settings
        self._tracing = tracing

    async def named(self, caller: Caller, query: Query) -> Named:
        """Pin the question's patient, study or accession number, by the surviving NHS number where it has one.

        By the registers, and what lookups said lately: nobody else is asked. Raises as `pinned_scope` does;
        `InvalidRequest` for a number of the caller's hospital that is linked to nobody, in the same words for every
        patient; `RegisterUnavailable` where that cannot be read.
        """
        # Another gateway has translated its callers' numbers by its own registers, and asks by NHS number alone.
        is_gateway = caller.principal.kind is PrincipalKind.GATEWAY
        asked = None if is_gateway else asked_local(query, self._own(caller.principal.trust))
        if asked is None:
            return await self._pinned(query, None)
        if asked.number is None:
            if asked.others:
                raise InvalidRequest("your trust has the numbers of several hospitals: send the number with its issuer")
            return await self._by_local(query, asked.local)
        return await self._pinned(query, None, (asked.local, *asked.others))

    async def looked_up(self, caller: Caller, query: Query) -> Named:
        """The same, once services beyond the registers have been asked. Never before the attempt is on record.

        Raises as `named` does.
        """
        named = await self.named(caller, query)
        for _ in range(LOOKUPS_MAX):
            if named.pending is None or self._tracing is None:
                break
            await self._tracing.trace(named.pending, caller.request_id)
            named = await self.named(caller, query)
        return named

    async def pinned(self, query: Query) -> Named:
        """The same for a question that no caller asks; nobody else is asked for it who the patient is.

        Raises as `pinned_scope` does, and `RegisterUnavailable`.
        """
        scope = pinned_scope(query)
        if scope.patient is None:
            return Named(query, scope)
        person = (await self._read([nhs(scope.patient)])).get(nhs(scope.patient))
        if person is None or person.number is None:
            return Named(query, scope, person)
        return Named(query, replace(scope, patient=person.number), person)

    async def _pinned(self, query: Query, asked: PatientId | None, rivals: Sequence[PatientId] = ()) -> Named:
        """Look the patient up; `rivals` are what the number would be if it were one of the hospital's own."""
        scope = pinned_scope(query)
        if scope.patient is None:
            return Named(query, scope)
        number = nhs(scope.patient)
        pending = self._pending(number)
        try:
            known = await self._read([number, *rivals])
        except RegisterUnavailable as error:
            return Named(query, scope, asked=asked or number, fault=error)
        person = known.get(number)
        if any(rival in known and known[rival] != person for rival in rivals):
            raise InvalidRequest(
                "the patient id may be an NHS number or one of your hospital's own: send it with its issuer"
            )
        if person is None or person.number is None:
            return Named(query, scope, person, asked or number, pending=pending)
        return Named(query, replace(scope, patient=person.number), person, asked or number, pending=pending)

    async def _by_local(self, query: Query, local: PatientId) -> Named:
        """Look up whose a number of the caller's hospital is."""
        pending = self._pending(local)
        person = (await self._read([local])).get(local)
        if person is not None and person.number is not None:
            named = await self._pinned(by_number(query, person.number), local)
            return named if pending is None else replace(named, pending=pending)
        if pending is None:
            raise InvalidRequest(
                "this number of your hospital is not linked to an NHS number here: ask by the NHS number"
            )
        # A question that would be refused with any number is refused now.
        scope = pinned_scope(by_number(query, _SOME_NUMBER))
        return Named(query, replace(scope, patient=None), asked=local, pending=pending)

    def check(self, caller: Caller, named: Named) -> None:
        """Refuse a patient who could not be looked up, or whose NHS number is not verified while nothing else says who
        it is (C1): the same whatever the patient has chosen and whatever exists.

        Raises `RegisterUnavailable`, `InvalidRequest`.
        """
        if named.fault is not None:
            raise named.fault
        if named.person is None or not self._is_unverified(caller.principal.trust, named.person):
            return
        if not named.person.local and not stated(named.query).birth_date:
            raise InvalidRequest("this NHS number is not verified here: state the patient's birth date with it")

    def askable(self, named: Named, trusts: Iterable[TrustId], *, is_hidden: bool) -> frozenset[TrustId]:
        """Those of these trusts whose archives know the patient by a number that is known here.

        Of a patient who is withheld nothing is known: that a hospital has a number for somebody tells of a visit.
        """
        person = None if is_hidden else named.person
        return frozenset(trust for trust in trusts if questions(named.query, named.scope, person, self._entry(trust)))

    def requests(
        self, named: Named, request: PeerRequest, trusts: Iterable[TrustId]
    ) -> dict[TrustId, list[PeerRequest]]:
        """What each of these trusts is asked: the same request once for each of the patient's numbers there."""
        return {
            trust: [
                replace(request, query=query)
                for query in questions(request.query, named.scope, named.person, self._entry(trust))
            ]
            for trust in trusts
        }

    async def judged(
        self, asker: TrustId, named: Named, query: Query, answers: Sequence[TrustAnswer]
    ) -> tuple[Reading, Judgement]:
        """The answers read, their rows under the people whom their identifiers lead to, and judged for this trust.

        `query` is the question at the level that was asked.
        """
        reading = read_answers(query, named.scope, answers, self._patient_id_issuer, self.accession_issuer)
        parts = tuple(
            replace(part, state=SourceState.TRUNCATED)
            if part.state is SourceState.ANSWERED
            and is_asked_in_part(named.scope, named.person, self._entry(part.trust))
            else part
            for part in reading.parts
        )
        reading = replace(reading, parts=parts)
        candidates, evidence = await self._translated(asker, named, reading.candidates)
        return reading, judge_with_reports(query, named.scope, candidates, asker=asker, evidence=evidence)

    async def as_now(
        self, caller: Caller, named: Named, rows: Sequence[Candidate]
    ) -> tuple[list[Candidate], Mapping[NhsNumber, PatientId]]:
        """Of the rows that may be shown those that still are whose they were; and the caller's own numbers (SAF-34).

        Raises `ServiceFault` when the number asked by leads to somebody else by now.
        """
        if not rows:
            return [], {}
        alike = {id(row.identity): row for row in rows}
        wanted = {nhs(row.patient) for row in alike.values() if row.patient is not None}
        for row in alike.values():
            wanted |= identifiers_to_look_up(row.identity, self._entry(row.trust))
        if named.asked is not None:
            wanted.add(named.asked)
        known = await self._read(sorted(wanted))
        _check_asked(named, known)
        gone = {
            key
            for key, row in alike.items()
            if translated(row.identity, self._entry(row.trust), known).nhs_number != row.patient
        }
        own = self._own_numbers(caller.principal.trust, known) if self._shows_own_numbers(caller, named) else {}
        return [row for row in rows if id(row.identity) not in gone], own

    async def _translated(
        self, asker: TrustId, named: Named, candidates: Sequence[Candidate]
    ) -> tuple[Sequence[Candidate], Evidence]:
        """The rows under the people whom their identifiers lead to, and what is known of those people."""
        alike = {id(row.identity): row for row in candidates}
        wanted = [identifiers_to_look_up(row.identity, self._entry(row.trust)) for row in alike.values()]
        # A study that nobody has is looked up as one that will be withheld: else time would tell them apart (SAF-06).
        nobody = [_NOBODY] if named.scope.patient is None and not candidates else []
        known = await self._known(frozenset(nobody).union(*wanted), named)
        now = {key: translated(row.identity, self._entry(row.trust), known) for key, row in alike.items()}
        rows = [
            row if (identity := now[id(row.identity)]) is row.identity else replace(row, identity=identity)
            for row in candidates
        ]
        unverified = {
            person.number
            for person in known.values()
            if person.number is not None and self._is_unverified(asker, person)
        }
        return rows, Evidence(frozenset(unverified), self._surnames(known), self._directory.quarantined)

    def _surnames(self, known: Mapping[PatientId, CrossReference]) -> dict[NhsNumber, frozenset[str]]:
        """The surnames that lookups lately said of these people."""
        if self._tracing is None:
            return {}
        numbers = {person.number for person in known.values() if person.number is not None}
        return {number: self._tracing.known(nhs(number)).surnames for number in numbers}

    def _shows_own_numbers(self, caller: Caller, named: Named) -> bool:
        if caller.principal.kind is PrincipalKind.GATEWAY:
            return False
        asked_by_nhs_number = named.asked is not None and named.asked.issuer == NHS_NUMBER_ISSUER
        return not asked_by_nhs_number or self._settings.patient_id_shown is PatientIdShown.OWN_NUMBER

    def _own_numbers(self, trust: TrustId, known: Mapping[PatientId, CrossReference]) -> dict[NhsNumber, PatientId]:
        hospital = self._own(trust)
        people = {person.number: person for person in known.values() if person.number is not None}
        own = {number: own_number(person, hospital) for number, person in people.items()}
        return {number: mine for number, mine in own.items() if mine is not None}

    async def _known(self, wanted: Iterable[PatientId], named: Named) -> Mapping[PatientId, CrossReference]:
        """The people of these identifiers; what the question's own person is known by needs no reading."""
        found = _identifiers_of(named.person)
        missing = sorted(set(wanted) - found.keys())
        return {**found, **(await self._read(missing))} if missing else found

    async def _read(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        """What the registers know, and what lookups added to it lately."""
        known = await self._recorded(identifiers)
        if self._tracing is None:
            return known
        people = {each: self._with_traced(each, person) for each, person in known.items()}
        # Numbers that only a lookup knows lead to whom the register makes of the NHS number that it gave.
        numbers = {
            each: number
            for each in identifiers
            if each not in known
            and (number := self._tracing.known(each).number) is not None
            and (each.issuer != NHS_NUMBER_ISSUER or each == nhs(number))
        }
        if numbers:
            recorded = await self._recorded([nhs(number) for number in numbers.values()])
            for each, number in numbers.items():
                people[each] = self._with_traced(each, recorded.get(nhs(number), CrossReference(number)))
        return people

    def _with_traced(self, identifier: PatientId, person: CrossReference) -> CrossReference:
        """The person with what lookups lately said of the identifier, and of every NHS number of the person."""
        assert self._tracing is not None
        numbers = () if person.number is None else (person.number, *sorted(person.former))
        for each in (identifier, *map(nhs, numbers)):
            person = self._tracing.known(each).added_to(person)
        return person

    async def _recorded(self, identifiers: Collection[PatientId]) -> Mapping[PatientId, CrossReference]:
        try:
            return await self._store.cross_references(identifiers)
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error

    def _pending(self, identifier: PatientId) -> PatientId | None:
        return identifier if self._tracing is not None and self._tracing.is_due(identifier) else None

    def _entry(self, trust: TrustId) -> TrustEntry:
        """The trust's entry; of an organisation that the region does not know, one that says nothing."""
        try:
            return self._directory.trust(trust)
        except NotFound:
            return TrustEntry(trust, "", OrganisationKind.OTHER, False, "")

    def _patient_id_issuer(self, trust: TrustId) -> str:
        return self._entry(trust).patient_id_issuer

    def accession_issuer(self, trust: TrustId) -> str:
        """Who issues a trust's accession numbers."""
        return self._entry(trust).accession_issuer or trust.code

    def _is_unverified(self, trust: TrustId, person: CrossReference) -> bool:
        """Whether the number's status is not enough, and the asking trust's own feed does not vouch for it either."""
        is_invalidated = (
            self._tracing is not None
            and person.number is not None
            and self._tracing.known(nhs(person.number)).is_invalidated
        )
        if self._settings.accepts(person.status) and not is_invalidated:
            return False
        hospital = self._own(trust)
        return not any(hospital.is_own_word(linked.source) for linked in person.local)

    def _own(self, trust: TrustId) -> OwnNumbers:
        """The numbers of the asking trust's own hospital, or hospitals."""
        return own_numbers_of(self._entry(trust), self._directory.predecessors(trust))


def known_by(named: Named) -> Collection[PatientId]:
    """Every identifier that leads to a question's patient; none where it names nobody."""
    pinned = () if named.scope.patient is None else (nhs(named.scope.patient),)
    return dict.fromkeys((*pinned, *_identifiers_of(named.person)))


def _check_asked(named: Named, known: Mapping[PatientId, CrossReference]) -> None:
    if named.asked is None or named.person is None:
        return
    person = known.get(named.asked)
    if person is None or person.number != named.scope.patient:
        raise ServiceFault("the patient's numbers changed meanwhile: ask again")


def _identifiers_of(person: CrossReference | None) -> dict[PatientId, CrossReference]:
    if person is None or person.number is None:
        return {}
    numbers: Collection[PatientId] = [nhs(number) for number in (person.number, *person.former)]
    return dict.fromkeys((*numbers, *(linked.patient_id for linked in person.local)), person)
