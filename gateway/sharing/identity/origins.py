"""Where a study comes from, as far as answers to a query say: whose copy speaks, and who holds it (C2, C9, SAF-35).

Archives that took a study in from elsewhere mostly keep who issued its accession number, or the Patient ID. So a copy
can say that it came from another trust; that it is its own trust's it can only claim. Nothing here proves custody, and
a query knows neither which copy is newer nor whether their pixels agree: see docs/decisions.md. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType

from gateway.model.attributes import (
    ACCESSION_ISSUER,
    INSTITUTION_CODE,
    INSTITUTION_NAME,
    SPECIFIC_CHARACTER_SET,
    TIMEZONE_OFFSET,
)
from gateway.model.imaging import ISSUER_OF_PATIENT_ID, Attributes, Element, JsonValue
from gateway.sharing.directory import TrustEntry
from gateway.sharing.identity.accessions import issuers_named
from policy.parties import TrustId

HOLDERS_CREATOR, HOLDERS = "4E490010", "4E491001"
"""Private block of this gateway: the ODS codes of every holder of what a row is about."""
PRIVATE_CREATOR = "NHS REGIONAL SHARING"
OWN_BLOCK = frozenset((HOLDERS_CREATOR, *(f"4E4910{element:02X}" for element in range(256))))
"""An archive's own attributes there would pass for the gateway's, and are left out."""

ODS_DESIGNATOR, ODS_UID = "99ODS", "2.16.840.1.113883.2.1.3.2.4.18.48"
"""Coding scheme of ODS organisation codes (domain.md C1)."""

_CODE_MEANING_CHARS_MAX = 64
_NO_CODES: Mapping[TrustId, str] = MappingProxyType({})
_NO_ISSUERS: Mapping[str, TrustId] = MappingProxyType({})


class Custody(IntEnum):
    """How a holder stands to a study, as the copies tell; the lowest speaks first."""

    CUSTODIAN = 0
    """Another holder's copy says that it came from there; else it alone claims the study."""
    HOLDER = 1
    IMPORTER = 2
    """Its own copy says that it came from elsewhere."""


@dataclass(frozen=True, slots=True)
class Origins:
    """What the directory knows of the names under which trusts issue numbers."""

    names: Mapping[TrustId, str] = field(default_factory=lambda: _NO_CODES)
    accession_issuers: Mapping[TrustId, str] = field(default_factory=lambda: _NO_CODES)
    trust_of_issuer: Mapping[str, TrustId] = field(default_factory=lambda: _NO_ISSUERS)
    """By the issuer's name in capitals; one that two trusts use is nobody's."""

    @classmethod
    def of(cls, entries: Iterable[TrustEntry]) -> Origins:
        """Read the directory's entries."""
        entries = tuple(entries)
        users: dict[str, set[TrustId]] = {}
        for entry in entries:
            for issuer in (*entry.own_issuers, entry.accession_issuer or entry.trust.code):
                users.setdefault(issuer.upper(), set()).add(entry.trust)
        return cls(
            {entry.trust: entry.name for entry in entries},
            {entry.trust: entry.accession_issuer for entry in entries if entry.accession_issuer},
            {issuer: min(trusts) for issuer, trusts in users.items() if len(trusts) == 1},
        )

    def accession_issuer(self, trust: TrustId) -> str:
        """Who issues a trust's accession numbers: as configured, else the trust by its ODS code."""
        return self.accession_issuers.get(trust, trust.code)

    def said_by(self, holder: TrustId, row: Attributes) -> TrustId | None:
        """The trust that a copy names as its study's origin; None where it names none, or several.

        The issuer of the accession number goes first, for it stands for the order. A Patient ID says it only where it
        is another trust's: every archive that takes studies in gives them its own.
        """
        if ACCESSION_ISSUER in row and (named := self._trusts_of(issuers_named(row))):
            return named.pop() if len(named) == 1 else None
        issuer = row.get(ISSUER_OF_PATIENT_ID, {}).get("Value")
        named = self._trusts_of(text.strip(" \0").upper() for text in _texts(issuer)) - {holder}
        return named.pop() if len(named) == 1 else None

    def _trusts_of(self, issuers: Iterable[str]) -> set[TrustId]:
        return {trust for issuer in issuers if (trust := self.trust_of_issuer.get(issuer)) is not None}


NO_ORIGINS = Origins()


def custody(copies: Iterable[tuple[TrustId, TrustId | None]]) -> dict[TrustId, Custody]:
    """How each holder of one study stands to it, from (holder, origin that its copy names) in any order.

    What a holder says against its own copy is believed, and what another says for it; its own claim only where nobody
    contradicts it. So no trust makes itself the custodian of what another's copy says is elsewhere's.
    """
    holders: set[TrustId] = set()
    claiming: set[TrustId] = set()
    importers: set[TrustId] = set()
    named: set[TrustId] = set()
    for holder, origin in copies:
        holders.add(holder)
        if origin == holder:
            claiming.add(holder)
        elif origin is not None:
            importers.add(holder)
            named.add(origin)
    likely = (named & holders) - importers or claiming - importers
    return {
        holder: Custody.IMPORTER if holder in importers else Custody.CUSTODIAN if likely == {holder} else Custody.HOLDER
        for holder in holders
    }


def is_other_version(shown: Attributes, other: Attributes, apart_from: Collection[str]) -> bool:
    """Whether another copy's header says something else than the one shown (SAF-35).

    What only one of them says is no difference: archives answer with more or less. Private attributes do not count,
    nor does padding, nor what says how a row is written.
    """
    return any(
        tag not in apart_from
        and tag not in _OF_THE_ROW
        and int(tag[3], 16) % 2 == 0
        and tag in other
        and (mine := _plain(element))
        and (theirs := _plain(other[tag]))
        and mine != theirs
        for tag, element in shown.items()
    )


def with_origin(attributes: dict[str, Element], trust: TrustId, holders: tuple[TrustId, ...], origins: Origins) -> None:
    """Say whose copy a row shows, and who else holds one (C9).

    The institution is named as its archive did, else by the trust; the code is that of the trust that told us.
    """
    name = origins.names.get(trust) or trust.code
    institution = attributes.get(INSTITUTION_NAME)
    if institution is None or not institution.get("Value"):
        attributes[INSTITUTION_NAME] = _institution(name)
    attributes[INSTITUTION_CODE] = _code(trust, name)
    attributes[HOLDERS_CREATOR] = _CREATOR
    attributes[HOLDERS] = _holders(holders)


def _plain(element: Element) -> list[JsonValue]:
    values = element.get("Value")
    return [plain for value in values if (plain := _unpadded(value))] if isinstance(values, list) else []


def _unpadded(value: JsonValue) -> JsonValue:
    """A value as it is compared: text without padding, numbers as they are written, names without empty ends."""
    match value:
        case str():
            return value.strip(" \0")
        case bool() | None:
            return value
        case int() | float():
            return str(value)
        case dict() if value.keys() <= _NAME_GROUPS:
            return {group: text.rstrip(" ^") for group, text in value.items() if isinstance(text, str) and text}
        case _:
            return value


_OF_THE_ROW = frozenset({SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET, ACCESSION_ISSUER, "00080052"})
_NAME_GROUPS = frozenset({"Alphabetic", "Ideographic", "Phonetic"})
_CREATOR: Element = {"vr": "LO", "Value": [PRIVATE_CREATOR]}


@lru_cache(maxsize=1024)
def _institution(name: str) -> Element:
    return {"vr": "LO", "Value": [name[:_CODE_MEANING_CHARS_MAX]]}


@lru_cache(maxsize=1024)
def _code(trust: TrustId, name: str) -> Element:
    item: JsonValue = {
        "00080100": {"vr": "SH", "Value": [trust.code]},
        "00080102": {"vr": "SH", "Value": [ODS_DESIGNATOR]},
        "00080104": {"vr": "LO", "Value": [name[:_CODE_MEANING_CHARS_MAX]]},
        "0008010C": {"vr": "UI", "Value": [ODS_UID]},
    }
    return {"vr": "SQ", "Value": [item]}


@lru_cache(maxsize=1024)
def _holders(trusts: tuple[TrustId, ...]) -> Element:
    codes: list[JsonValue] = [trust.code for trust in trusts]
    return {"vr": "SH", "Value": codes}


def _texts(values: JsonValue) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
