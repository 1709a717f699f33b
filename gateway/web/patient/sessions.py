"""Sessions of patients' browsers: kept here, bounded, ended after idleness and after their whole time. Knows no HTTP.

A browser holds a random value and nothing else; only its digest is kept, so that what is read from memory signs nobody
in. A session is always new when somebody signs in (no fixation), and it holds who was proved, not what they may see.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from gateway.model.seams import Clock
from gateway.web.patient.tokens import Person

VALUE_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """How long sessions last, and how many there may be."""

    idle_s: float = 900.0
    whole_s: float = 3_600.0
    sessions_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in."""

    person: Person
    form_token: str
    """Stands in every form of this session: another site's form does not know it."""
    begun_s: float
    seen_s: float


class Sessions:
    """The sessions of this process."""

    def __init__(self, clock: Clock, terms: SessionTerms) -> None:
        self._clock = clock
        self._terms = terms
        self._by_digest: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, person: Person) -> str | None:
        """A new session; the cookie's value, or None where there is no room for one more."""
        self._let_go()
        if len(self._by_digest) >= self._terms.sessions_max:
            return None
        value = secrets.token_urlsafe(32)
        now_s = self._clock.monotonic()
        self._by_digest[_digest(value)] = Session(person, secrets.token_urlsafe(32), now_s, now_s)
        return value

    def find(self, value: str) -> Session | None:
        """The session of this value, seen now; None: there is none, or it is over."""
        if not 0 < len(value) <= VALUE_CHARS_MAX:
            return None
        digest = _digest(value)
        found = self._by_digest.get(digest)
        if found is None:
            return None
        if self._is_over(found):
            del self._by_digest[digest]
            return None
        seen = replace(found, seen_s=self._clock.monotonic())
        self._by_digest[digest] = seen
        self._by_digest.move_to_end(digest)
        return seen

    def end(self, value: str) -> None:
        """End it; nothing happens where there is none."""
        self._by_digest.pop(_digest(value), None)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._by_digest)

    def _let_go(self) -> None:
        """Forget those that were idle too long: they stand first."""
        while self._by_digest:
            digest, oldest = next(iter(self._by_digest.items()))
            if not self._is_over(oldest):
                return
            del self._by_digest[digest]

    def _is_over(self, session: Session) -> bool:
        now_s = self._clock.monotonic()
        return now_s - session.seen_s >= self._terms.idle_s or now_s - session.begun_s >= self._terms.whole_s


def is_form_token(session: Session, stated: str) -> bool:
    """Whether a form came from a page of this session."""
    return hmac.compare_digest(session.form_token.encode(), stated.encode())


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
