"""Who takes part: organisations, patients, callers, and the purposes they may state.

Strings become these types once, at the edge; inside, the types are believed. An AE title or a certificate is
*evidence* and never appears here: `policy.identity` turns evidence into a `Principal`. Sources: NHS number check
digit and ranges, `domain.md` C1; ODS codes, C3; purposes of use, B4 (HL7 v3 ActReason). Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

NHS_NUMBER_ISSUER = "NHS"
"""Issuer of Patient ID that means "this is an NHS number" in DICOM rows and HL7 v2 `PID-3` (domain.md A4, C1)."""

NHS_NUMBER_OID = "2.16.840.1.113883.2.1.4.1"
"""Universal Entity ID of the NHS number scheme (domain.md C1)."""

_NHS_ISSUERS = frozenset({NHS_NUMBER_ISSUER, "NHS NUMBER", "NHSNUMBER", NHS_NUMBER_OID})

_ODS_CODE = re.compile(r"[A-Z0-9]{3,10}")
_WEIGHTS = range(10, 1, -1)


class InvalidIdentifier(ValueError):
    """A string that is not the identifier it claims to be. The message never repeats the string."""


@dataclass(frozen=True, slots=True, order=True)
class TrustId:
    """ODS code of an organisation, upper case. Its form proves nothing: enrolment does (IDN C3)."""

    code: str

    @classmethod
    def parse(cls, text: str) -> TrustId:
        """Trim, upper-case and check the form; raises `InvalidIdentifier`."""
        code = text.strip().upper()
        # The text, not the code: upper case makes plain letters of some that are not ("ſ" becomes "S").
        if not text.isascii() or not _ODS_CODE.fullmatch(code):
            raise InvalidIdentifier("an ODS code has 3 to 10 letters and digits")
        return cls(code)

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True, order=True)
class NhsNumber:
    """Ten digits whose check digit agrees. Says nothing of whether anybody has traced it."""

    digits: str

    @classmethod
    def parse(cls, text: str) -> NhsNumber:
        """Accept ten ASCII digits, plain or 3-3-4 with spaces or hyphens; raises `InvalidIdentifier`.

        All-same digits pass the check digit and are refused all the same (domain.md C1).
        """
        digits = re.sub(r"^([0-9]{3})[ -]([0-9]{3})[ -]([0-9]{4})$", r"\1\2\3", text.strip(" "))
        if not (digits.isascii() and digits.isdigit() and len(digits) == 10):
            raise InvalidIdentifier("an NHS number has ten digits")
        if len(set(digits)) == 1:
            raise InvalidIdentifier("an NHS number is not one digit repeated")
        total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=False))
        if (11 - total % 11) % 11 != int(digits[9]):
            raise InvalidIdentifier("the check digit of the NHS number is wrong")
        return cls(digits)

    @property
    def is_synthetic(self) -> bool:
        """In the 999 range, which is never issued to a person: for tests and demonstrations only (DEC-05)."""
        return self.digits.startswith("999")

    @property
    def spaced(self) -> str:
        """The display form 3-3-4."""
        return f"{self.digits[:3]} {self.digits[3:6]} {self.digits[6:]}"

    def __str__(self) -> str:
        return self.digits


@dataclass(frozen=True, slots=True, order=True)
class PatientId:
    """A hospital's own number. Unique only together with its issuer; `0001234` and `1234` differ (domain.md C4)."""

    issuer: str
    value: str


class PurposeOfUse(StrEnum):
    """HL7 v3 ActReason codes that a caller may state. Judged by `is_direct_care`, never by the code's parents (B4)."""

    TREAT = "TREAT"
    COC = "COC"
    ETREAT = "ETREAT"
    ERTREAT = "ERTREAT"
    BTG = "BTG"
    PATRQT = "PATRQT"
    FAMRQT = "FAMRQT"
    PWATRNY = "PWATRNY"
    CLINTRL = "CLINTRL"
    POPHLTH = "POPHLTH"
    TREATDS = "TREATDS"
    HRESCH = "HRESCH"
    HMARKT = "HMARKT"
    HPAYMT = "HPAYMT"
    HOPERAT = "HOPERAT"
    TRAIN = "TRAIN"
    MLTRAINING = "MLTRAINING"
    PUBHLTH = "PUBHLTH"

    @property
    def is_direct_care(self) -> bool:
        """Whether this purpose is the delivery of the patient's own care."""
        return self in DIRECT_CARE


DIRECT_CARE = frozenset(
    {PurposeOfUse.TREAT, PurposeOfUse.COC, PurposeOfUse.ETREAT, PurposeOfUse.ERTREAT, PurposeOfUse.BTG}
)


class PrincipalKind(StrEnum):
    """What kind of party a certificate, token or job stands for."""

    SYSTEM = "system"
    """A trust's PACS or viewer without a user's identity (SAF-10, `pacs_user_assurance = system-only`)."""
    CLINICIAN = "clinician"
    """A person who delivers care; subject to the team check (SHR-02)."""
    GATEWAY = "gateway"
    """Another gateway, for the systems of one of its trusts: the principal's trust is that one (DEC-01)."""
    SERVICE = "service"
    """The gateway itself, working for a trust (prefetch, push)."""
    OFFICER = "officer"
    """Information governance, operators and auditors: they explain and administer, they receive no images."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A proven party: who, of which trust, and by what evidence it was proven (names of evidence, never secrets)."""

    subject: str
    kind: PrincipalKind
    trust: TrustId
    teams: frozenset[str] = frozenset()
    proven_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal with a purpose, for one request. Travels through every call; holds no deadline and no socket."""

    principal: Principal
    purpose: PurposeOfUse
    request_id: str
    hops: int = 0
    """How many gateways this request has already passed; at most one more (DEC-01)."""
    stated_identity: str = ""
    """The user whom the connection claims, for the record alone: no rule reads it (DEC-03)."""


def is_nhs_issuer(issuer: str) -> bool:
    """Whether this issuer of Patient ID means that the number is an NHS number (C1)."""
    return issuer.strip().upper() in _NHS_ISSUERS
