"""The region's directory: which trusts there are, who may call, and whom to ring.

One frozen value, replaced as a whole when the configuration is reloaded (DEC-04). Evidence from an edge becomes a
`Caller` here, by `policy.identity`, so that both protocols get one answer. Holds no sockets and reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from gateway.model.errors import InvalidRequest, NotFound, NotIdentified
from policy.facts import Organisation, OrganisationKind
from policy.identity import (
    CallerBinding,
    Evidence,
    NotProven,
    Unproven,
    identify,
    purpose_of,
    standing_for,
    trust_of,
)
from policy.parties import Caller, InvalidIdentifier, NhsNumber, PrincipalKind, TrustId, is_nhs_issuer
from policy.trusts import Downtime, Roll, Standing

LONDON = ZoneInfo("Europe/London")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class PatientIdAsked(StrEnum):
    """By which of a patient's numbers a trust's archive is asked (D3)."""

    NHS_NUMBER = "nhs-number"
    LOCAL = "local"
    """It files under the trust's own numbers alone."""
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class TrustEntry:
    """One organisation of the region (`[[trust]]`)."""

    trust: TrustId
    name: str
    kind: OrganisationKind
    is_enrolled: bool
    desk_phone: str
    """The PACS desk, around the clock (SAF-09)."""
    patient_id_issuer: str = ""
    """What its archive means by a Patient ID without an issuer; `NHS` if it files under NHS numbers (C4)."""
    patient_id_asked: PatientIdAsked = PatientIdAsked.NHS_NUMBER
    own_issuer: str = ""
    """Who issues the trust's own numbers, where its archive means another by a bare Patient ID; empty: as there."""
    accession_issuer: str = ""
    """Who issues its accession numbers; empty: the trust, by its ODS code (C4)."""
    is_behind_gateway: bool = False
    """Whether its archive is asked through another gateway, which answers for it (DEC-01)."""

    @property
    def is_enrolled_trust(self) -> bool:
        """Whether it is an NHS hospital trust, and enrolled (SHR-01)."""
        return self.is_enrolled and self.kind is OrganisationKind.NHS_HOSPITAL_TRUST

    @property
    def issuer_of_own_numbers(self) -> str:
        """Who issues the trust's own numbers: as configured, else the trust by its ODS code (D2)."""
        configured = (self.own_issuer, self.patient_id_issuer)
        return next((issuer for issuer in configured if issuer and not is_nhs_issuer(issuer)), self.trust.code)

    @property
    def own_issuers(self) -> frozenset[str]:
        """Every issuer that means this trust's own numbers."""
        configured = {self.own_issuer, self.patient_id_issuer, self.trust.code} - {""}
        return frozenset(issuer for issuer in configured if not is_nhs_issuer(issuer))


class Directory:
    """Look-ups over trusts and callers; constructed from configuration, never changed.

    What the register says of a trust's standing goes before the configuration: `roll` gives it as of this moment.
    """

    def __init__(
        self, trusts: Iterable[TrustEntry], callers: Sequence[CallerBinding], roll: Callable[[], Roll] = Roll
    ) -> None:
        self._trusts = {entry.trust: entry for entry in trusts}
        self._callers = tuple(callers)
        self._roll = roll

    @property
    def trusts(self) -> tuple[TrustEntry, ...]:
        """Every organisation, by ODS code."""
        return tuple(self._trusts[trust] for trust in sorted(self._trusts))

    @property
    def enrolled(self) -> frozenset[TrustId]:
        """The enrolled NHS hospital trusts: whoever may hold imaging that is shared here."""
        return frozenset(trust for trust, entry in self._trusts.items() if self._may_hold(entry))

    @property
    def behind_gateways(self) -> frozenset[TrustId]:
        """The trusts that are asked through another gateway."""
        return frozenset(trust for trust, entry in self._trusts.items() if entry.is_behind_gateway)

    @property
    def asking(self) -> tuple[TrustId, ...]:
        """The enrolled trusts that have callers of their own here, by ODS code: for them this gateway asks."""
        callers = {binding.trust for binding in self._callers if binding.kind is not PrincipalKind.GATEWAY}
        return tuple(sorted(callers & self.enrolled))

    @property
    def retired(self) -> frozenset[TrustId]:
        """The codes of organisations that are no more."""
        roll = self._roll()
        return frozenset(trust for trust in self._trusts if roll.is_retired(trust))

    @property
    def quarantined(self) -> frozenset[str]:
        """The studies that are filed under two patients, until their custodians have put that right (SAF-08)."""
        return self._roll().quarantined

    def predecessors(self, trust: TrustId) -> tuple[TrustEntry, ...]:
        """The retired organisations whose successor this one is (C3)."""
        return tuple(self._trusts[code] for code in sorted(self._roll().predecessors(trust)) if code in self._trusts)

    def announced(self, trusts: Iterable[TrustId], at: datetime) -> dict[TrustId, str]:
        """What those of these trusts announced that are down by plan, in words for every caller."""
        found = {trust: self._roll().downtime(trust, at) for trust in trusts}
        return {trust: _words(downtime) for trust, downtime in found.items() if downtime is not None}

    def left_alone(self, at: datetime) -> frozenset[TrustId]:
        """The trusts whose archives are not to be asked anything now: in downtime, suspended, or retired."""
        roll = self._roll()
        return frozenset(
            trust
            for trust in self._trusts
            if roll.downtime(trust, at) is not None
            or (trust in roll.standings and roll.standings[trust].standing is not Standing.ENROLLED)
        )

    def trust(self, trust: TrustId) -> TrustEntry:
        """The entry of a trust; raises `NotFound` for a code that the region does not know."""
        entry = self._trusts.get(trust)
        if entry is None:
            raise NotFound("this region has no such trust")
        return entry

    def desk(self, trust: TrustId) -> str:
        """A trust's name with its PACS desk's phone, for every text that sends somebody to it (SAF-09).

        Of a code that the region does not know only the code: a refusal of that very organisation names it too.
        """
        entry = self._trusts.get(trust)
        return f"{entry.trust} {entry.name} {entry.desk_phone}".rstrip() if entry is not None else trust.code

    def phone(self, trust: TrustId) -> str:
        """The phone of a trust's PACS desk alone, where nothing else has room (SAF-09); empty if there is none."""
        entry = self._trusts.get(trust)
        return entry.desk_phone if entry is not None else ""

    def organisations(self, trusts: Iterable[TrustId], patient: NhsNumber | None = None) -> tuple[Organisation, ...]:
        """The directory's facts about these codes, as policy reads them; unknown codes are left out.

        A trust that is still being tried takes part for its labelled test patients alone.
        """
        known = (self._trusts.get(trust) for trust in sorted(set(trusts)))
        roll = self._roll()
        return tuple(
            Organisation(
                entry.trust,
                entry.kind,
                roll.takes_part(entry.trust, starts_enrolled=entry.is_enrolled, patient=patient),
                roll.retrieves(entry.trust),
                roll.pushes(entry.trust),
            )
            for entry in known
            if entry is not None
        )

    def identify(
        self, evidence: Evidence, purpose: str, request_id: str, hops: int = 0, asking_trust: str = ""
    ) -> Caller:
        """Who asks, and for what purpose: the one stated, if the caller may state it, else the caller's first.

        Another gateway asks for the trust that it states, and its question has passed a gateway, whatever it says of
        that. Raises `NotIdentified` when the evidence does not bind to exactly one caller, or that one speaks for
        others than its own; `InvalidRequest` for a purpose that this caller may not state. A purpose that is not
        direct care is kept: policy refuses it in words.
        """
        principal = identify(evidence, self._callers)
        if isinstance(principal, NotProven):
            raise NotIdentified(principal.reason.value)
        binding = next(binding for binding in self._callers if binding.name == principal.subject)
        trust = trust_of(binding, asking_trust)
        if isinstance(trust, NotProven):
            if trust.reason is Unproven.TRUST_NOT_STATED:
                raise InvalidRequest("another gateway says for which of its trusts it asks")
            raise NotIdentified(trust.reason.value)
        stated = purpose_of(binding, purpose)
        if isinstance(stated, NotProven):
            raise InvalidRequest(f"the stated purpose of use is refused: {stated.reason.value}")
        # A closed code has the access of its successor (C3); what is on record keeps the old one.
        present = replace(principal, trust=self._roll().present(trust))
        passed = max(hops, 1) if principal.kind is PrincipalKind.GATEWAY else hops
        return Caller(present, stated, request_id, passed, evidence.stated_identity)

    def acting_for(self, subject: str, purpose: str, request_id: str) -> Caller:
        """The caller of this name, for work that goes on without it. Raises `InvalidRequest` for one that is there no
        more, may not ask for that purpose, or is another gateway: that one asks again by itself.
        """
        binding = next((binding for binding in self._callers if binding.name == subject), None)
        if binding is None or binding.kind is PrincipalKind.GATEWAY:
            raise InvalidRequest("nobody can act for this caller")
        stated = purpose_of(binding, purpose)
        if isinstance(stated, NotProven):
            raise InvalidRequest("the caller may not ask for this purpose any more")
        principal = standing_for(binding)
        return Caller(replace(principal, trust=self._roll().present(principal.trust)), stated, request_id)

    def _may_hold(self, entry: TrustEntry) -> bool:
        standing = self._roll().standings.get(entry.trust)
        is_enrolled = entry.is_enrolled if standing is None else standing.standing is Standing.ENROLLED
        return is_enrolled and entry.kind is OrganisationKind.NHS_HOSPITAL_TRUST


def _words(downtime: Downtime) -> str:
    """Short, because a PACS's list shows 64 characters with the trust and the phone among them."""
    ends = downtime.ends.astimezone(LONDON)
    return f"down until {ends.day} {_MONTHS[ends.month - 1]} {ends:%H:%M}, {downtime.reason}"


def parse_trust(text: str) -> TrustId:
    """An ODS code from a URL; raises `NotFound`, because a code that cannot exist is a path that does not."""
    try:
        return TrustId.parse(text)
    except InvalidIdentifier as error:
        raise NotFound("this region has no such trust") from error
