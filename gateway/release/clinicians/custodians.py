"""Whose report a stored object is: archives send on what they took in from elsewhere.

Only a report of its own is released by the trust that stores it. An object tells of another custodian by the
organisation that keeps the document, or by who issued its accession number (PS3.3 C.17.2, C.7.2.1); the ledger, by who
was given it here. A reporting radiologist may be of another trust, and so may the study: what only hints at another
trust, or at two, is for a person to say. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

from gateway.model.attributes import INSTITUTION_CODE, INSTITUTION_NAME
from gateway.model.imaging import ISSUER_OF_PATIENT_ID, Attributes
from gateway.sharing.directory import TrustEntry
from gateway.sharing.identity.accessions import issuers_named
from gateway.sharing.identity.origins import ODS_DESIGNATOR, ODS_UID
from gateway.sharing.merge import texts
from policy.parties import TrustId

_CUSTODIAL_ORGANISATION, _REQUESTS = "0040A07C", "0040A370"
_VERIFYING_OBSERVERS, _VERIFYING_ORGANISATION = "0040A073", "0040A027"
_CODE, _DESIGNATOR, _SCHEME_UID = "00080100", "00080102", "0008010C"
_TRUST_CODE_CHARS = 3
"""With which the ODS code of a trust's site begins."""


class Whose(Enum):
    """Whose report an object is."""

    OWN = auto()
    ANOTHERS = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Organisations:
    """How trusts are named in objects, in capitals; several may use one name."""

    users: Mapping[str, frozenset[TrustId]]
    patient_issuers: Mapping[TrustId, str]
    """What a trust's systems mean by a bare Patient ID."""

    @classmethod
    def of(cls, entries: Iterable[TrustEntry]) -> Organisations:
        """Read the directory's entries."""
        users: dict[str, frozenset[TrustId]] = {}
        issuers: dict[TrustId, str] = {}
        for entry in entries:
            issuers[entry.trust] = entry.patient_id_issuer
            for name in {entry.trust.code, entry.name, entry.accession_issuer, *entry.own_issuers} - {""}:
                users[name.upper()] = users.get(name.upper(), frozenset()) | {entry.trust}
        return cls(users, issuers)

    def called(self, name: str) -> frozenset[TrustId]:
        """Who is called so."""
        return self.users.get(name.strip(" \0").upper(), frozenset())

    def of_code(self, code: str) -> frozenset[TrustId]:
        """Whose an ODS code is, its own or that of one of its sites."""
        return self.called(code) or self.called(code[:_TRUST_CODE_CHARS])


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is known here of an object of one trust and of its study that is not that trust's."""

    gave_it: bool = False
    """Another trust's archive gave that trust this very object, through this gateway."""
    has_study: bool = False
    """Another trust gave it some of the study, or reports on it, or has the object itself."""


def custodian(trust: TrustId, row: Attributes, known: Elsewhere, organisations: Organisations) -> Whose:
    """Whose report an object is that this trust stored; `row` is all that it says."""
    keepers = [*_custodial(row, organisations), *map(organisations.called, _accession_issuers(row))]
    makers = [*_institution(row, organisations)]
    # Archives give what they take in their own number of the patient: only another trust's says something.
    hints = [*makers, *map(organisations.called, texts(row, ISSUER_OF_PATIENT_ID))]
    observers = _items(row, _VERIFYING_OBSERVERS)
    verifiers = [organisations.called(name) for each in observers for name in texts(each, _VERIFYING_ORGANISATION)]
    # A name that the trust shares with others is its own.
    is_own = any(trust in each for each in (*keepers, *makers, *verifiers))
    is_anothers = any(each and trust not in each for each in keepers)
    is_hinted = any(each and trust not in each for each in hints)
    if is_own:
        return Whose.UNKNOWN if is_anothers or known.gave_it else Whose.OWN
    if is_anothers or known.gave_it:
        return Whose.ANOTHERS
    # An organisation that nobody knows is not the trust either.
    return Whose.UNKNOWN if keepers or is_hinted or known.has_study else Whose.OWN


def _custodial(row: Attributes, organisations: Organisations) -> Iterator[frozenset[TrustId]]:
    for item in _items(row, _CUSTODIAL_ORGANISATION):
        yield frozenset().union(*_institution(item, organisations))


def _institution(item: Attributes, organisations: Organisations) -> Iterator[frozenset[TrustId]]:
    yield from map(organisations.called, texts(item, INSTITUTION_NAME))
    for code in _items(item, INSTITUTION_CODE):
        if ODS_DESIGNATOR in texts(code, _DESIGNATOR) or ODS_UID in texts(code, _SCHEME_UID):
            yield from map(organisations.of_code, texts(code, _CODE))


def _accession_issuers(row: Attributes) -> Iterator[str]:
    for item in (row, *_items(row, _REQUESTS)):
        yield from sorted(issuers_named(item))


def _items(row: Attributes, tag: str) -> list[Attributes]:
    element = row.get(tag)
    values = element.get("Value") if element is not None else None
    # What an item holds is as the data set itself.
    return [cast(Attributes, each) for each in values if isinstance(each, dict)] if isinstance(values, list) else []
