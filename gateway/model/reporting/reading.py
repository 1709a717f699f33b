"""What the patient's page asks of whoever keeps reports: who looks, what they may see at this moment, what they choose.

Every view is judged anew, at the moment of looking (domain.md A7, SAF-65, SAF-66): what was given once is no right to
see it now. What may not be seen and what does not exist are the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from policy.parties import NhsNumber


@dataclass(frozen=True, slots=True)
class Identity:
    """A patient, as a service of identities proved them (NHS login, P9)."""

    nhs_number: NhsNumber
    family_name: str
    birth_date: date


@dataclass(frozen=True, slots=True)
class Looking:
    """Somebody who looks, and at whose reports."""

    patient: Identity
    request_id: str
    actor: str = ""
    """NHS number of a proxy who looks for the patient (JWT `act`); empty: the patient themself."""

    @property
    def is_proxy(self) -> bool:
        """Whether somebody else looks than the patient."""
        return bool(self.actor)


class DocumentForm(StrEnum):
    """In which form a document is shown."""

    HTML = "html"
    TEXT = "txt"
    PDF = "pdf"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a patient's list. Held and waiting reports have none, not even that they exist."""

    key: str
    """Document key: opaque, of letters, digits, "-" and "_"."""
    exam_name: str
    exam_on: date | None
    trust_name: str
    ordering_team: str
    contact: str
    released_at: datetime
    taken_back_words: str = ""
    """Neutral text where it is shown no more, with the team's telephone number (SAF-61); empty: it can be read."""
    note: str = ""
    """That something was added or corrected."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A document, as it is handed out."""

    listed: Listed
    body: bytes = field(repr=False)
    """In the form that was asked for; empty where it was taken back."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a patient wants of how reports reach them."""

    not_now: bool = False
    """No new report until they say otherwise; what they can see stays."""
    letter: bool = False
    large_print: bool = False


class LetterOffer(StrEnum):
    """Whether a letter may be chosen."""

    OFFERED = "offered"
    NOT_OFFERED = "not-offered"
    """By the trust's setting, or because the patient is under 16 (SAF-65)."""


class PatientReading(Protocol):
    """What the page shows. Raises a `ServiceFault` where it cannot be told now.

    Whoever implements it judges each view by the traced date of birth, and writes `REPORT_READ` before it returns a
    document, or a list that is not empty; the page has judged by what the token says, and writes down what was refused.
    """

    async def signed_in(self, looking: Looking) -> None:
        """The patient, or a proxy, has an account that is proved: what was due and had no channel can go (REL-41)."""

    async def listed(self, looking: Looking) -> tuple[Listed, ...]:
        """What may be seen now, the newest first."""

    async def document(self, looking: Looking, key: str, form: DocumentForm) -> Shown | None:
        """One document; None: there is none, or it may not be seen by them, or not now."""

    async def choices(self, looking: Looking) -> tuple[Choices, LetterOffer]:
        """What the patient has chosen, and whether a letter may be."""

    async def choose(self, looking: Looking, choices: Choices) -> None:
        """Keep the patient's choice; the page never asks this for a proxy."""
