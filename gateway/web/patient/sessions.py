"""Sessions of patients' browsers: who was proved, kept where every process finds it. Knows no HTTP.

A browser holds a random value and nothing else. A session is always new when somebody signs in (no fixation), and it
holds who was proved, not what they may see.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from datetime import date
from typing import Final

import orjson

from gateway.model.reporting.reading import Identity
from gateway.model.reporting.sessions import SessionBook, SessionTerms
from gateway.web.patient.tokens import Person
from policy.parties import NhsNumber

VALUE_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in."""

    person: Person
    form_token: str
    """Stands in every form of this session: another site's form does not know it."""


class Sessions:
    """The sessions of all processes."""

    def __init__(self, book: SessionBook, terms: SessionTerms) -> None:
        self._book = book
        self._terms = terms

    async def begin(self, person: Person) -> str | None:
        """A new session; the cookie's value, or None where there is no room for one more.

        This and the others raise a `ServiceFault` while sessions cannot be kept.
        """
        value = secrets.token_urlsafe(32)
        return value if await self._book.begin(value, _encoded(person), self._terms) else None

    async def find(self, value: str) -> Session | None:
        """The session of this value, seen now; None: there is none, or it is over."""
        if not 0 < len(value) <= VALUE_CHARS_MAX:
            return None
        found = await self._book.find(value, self._terms)
        return None if found is None else Session(_decoded(found), _form_token(value))

    async def end(self, value: str) -> None:
        """End it; nothing happens where there is none."""
        if 0 < len(value) <= VALUE_CHARS_MAX:
            await self._book.end(value)


def is_form_token(session: Session, stated: str) -> bool:
    """Whether a form came from a page of this session."""
    return hmac.compare_digest(session.form_token.encode(), stated.encode())


def _form_token(value: str) -> str:
    """It stands in pages, where the cookie must not: it does not lead back to it."""
    digest = hmac.digest(value.encode("utf-8", "surrogatepass"), b"form", "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _encoded(person: Person) -> bytes:
    patient = person.identity
    of_patient = (patient.nhs_number.digits, patient.family_name, patient.birth_date.isoformat())
    return orjson.dumps((person.subject, *of_patient, person.actor))


def _decoded(kept: bytes) -> Person:
    subject, number, family_name, birth_date, actor = orjson.loads(kept)
    return Person(subject, Identity(NhsNumber(number), family_name, date.fromisoformat(birth_date)), actor)
