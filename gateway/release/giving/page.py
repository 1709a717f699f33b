"""The gateway's own patient page as a channel: a document is put by keeping it, sealed, where the page reads it.

Who has signed in with an identity proved to P9 has an account here; nobody else does. What is shown is judged again at
each view (`reading`), so this channel checks proxies.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import orjson

from gateway.model.errors import KeyClosed, ServiceFault
from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Receipt, Rendering
from gateway.release.giving.addressees import Vault
from gateway.release.giving.tending import Render
from gateway.web.patient.refusals import PROXY_AGE_END
from policy.parties import NhsNumber
from policy.release.clock import PLAIN_CALENDAR, birthday
from storage.database import Read
from storage.registers import patients as registered
from storage.release import patients
from storage.release.patients import KeptAccount, KeptDocument
from storage.store import SqlStore


@dataclass(frozen=True, slots=True)
class PageDocument:
    """What the page keeps of one document."""

    exam_name: str
    exam_on: date | None
    trust_name: str
    ordering_team: str
    contact: str
    released_at: datetime
    note: str
    family_name: str
    birth_date: date
    plain: Rendering
    large: Rendering
    """In large print: a patient may choose it once the document is there."""


class PageChannel:
    """A `Channel`."""

    def __init__(self, name: str, store: SqlStore, vault: Vault, now: Callable[[], datetime], render: Render) -> None:
        self._name = name
        self._store = store
        self._vault = vault
        self._now = now
        self._render = render

    @property
    def name(self) -> str:
        """See `Channel`."""
        return self._name

    @property
    def is_idempotent(self) -> bool:
        """See `Channel`."""
        return True

    @property
    def checks_proxies(self) -> bool:
        """See `Channel`."""
        return True

    @property
    def notifies(self) -> bool:
        """See `Channel`: it stands in the patient's list, and nothing leaves the page."""
        return False

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`."""
        number = addressee.nhs_number
        try:
            kept = await self._store.read(lambda read: _account(read, number))
            if kept is None or not counts(kept, self._now()):
                return Account(is_there=False)
            name = await self._vault.open(account_name(kept.patient_row), kept.sealed, kept.key_id)
        except (ServiceFault, KeyClosed):
            # As one who cannot say: the put that follows needs the same store and keys, and fails.
            return Account(is_there=True, is_proven=True)
        born = date.fromisoformat(kept.birth_date)
        return Account(True, True, number, name.decode(), born, kept.is_paused)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        number, key = report.addressee.nhs_number, report.document_key
        try:
            row = await self._store.read(lambda read: registered.find(read, registered.nhs(number)))
            if row is None:
                return Outcome(Receipt.NO_ACCOUNT)
            other = await self._render(report, large_print=not rendering.is_large_print)
            key_id, sealed = await self._vault.seal(document_name(key), _encoded(report, (rendering, other)), row)
            kept = KeptDocument(key, row, report.report_id, True, "", self._now(), None, key_id, sealed)
            await self._store.write(lambda tx: patients.put(tx, kept, report.replaces))
        except (ServiceFault, KeyClosed) as fault:
            return Outcome(Receipt.FAILED, str(fault))
        return Outcome(Receipt.CONFIRMED, reference=key)

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`: there is nothing to do."""
        return Outcome(Receipt.CONFIRMED)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        try:
            await self._store.write(lambda tx: patients.withdraw(tx, document_key, words))
        except ServiceFault as fault:
            return Outcome(Receipt.FAILED, str(fault))
        return Outcome(Receipt.CONFIRMED)

    async def close(self) -> None:
        """See `Channel`: there is nothing open."""


def account_name(patient_row: str) -> str:
    """Under which an account's name is sealed."""
    return f"patient-account/{patient_row}"


def document_name(document_key: str) -> str:
    """Under which a document is sealed."""
    return f"patient-document/{document_key}"


def counts(kept: KeptAccount, now: datetime) -> bool:
    """Whether an account is its patient's own, or a proxy's of a child below 13.

    Nobody below 13 signs in but by a proxy. From that birthday on it takes a sign-in of the patient's own: what was a
    proxy's before it shows nobody anything, and is no account (SAF-65 `own-account-only`).
    """
    thirteen = birthday(date.fromisoformat(kept.birth_date), PROXY_AGE_END, PLAIN_CALENDAR)
    return kept.seen_at is None or not kept.seen_at < thirteen <= now


def _account(read: Read, number: NhsNumber) -> KeptAccount | None:
    row = registered.find(read, registered.nhs(number))
    if row is None:
        return None
    found = [patients.account_of(read, each) for each in sorted(registered.person(read, row).joined)]
    own = patients.account_of(read, row)
    return own or next((each for each in found if each is not None), None)


def _encoded(report: PatientReport, renderings: Sequence[Rendering]) -> bytes:
    return orjson.dumps(
        {
            "exam_name": report.exam_name,
            "exam_on": report.exam_on.isoformat() if report.exam_on is not None else None,
            "trust_name": report.trust_name,
            "ordering_team": report.ordering_team,
            "contact": report.contact,
            "released_at": report.released_at.isoformat(),
            "note": report.note,
            "family_name": report.addressee.family_name,
            "birth_date": report.addressee.birth_date.isoformat(),
            "renderings": [
                [each.html, each.text, base64.b64encode(each.pdf).decode(), each.is_large_print] for each in renderings
            ],
        }
    )


def decoded_document(plain: bytes) -> PageDocument:
    """What the page kept."""
    held = orjson.loads(plain)
    renderings = [Rendering(html, text, base64.b64decode(pdf), large) for html, text, pdf, large in held["renderings"]]
    normal, large = sorted(renderings, key=lambda each: each.is_large_print)
    return PageDocument(
        exam_name=held["exam_name"],
        exam_on=date.fromisoformat(held["exam_on"]) if held["exam_on"] else None,
        trust_name=held["trust_name"],
        ordering_team=held["ordering_team"],
        contact=held["contact"],
        released_at=datetime.fromisoformat(held["released_at"]),
        note=held["note"],
        family_name=held["family_name"],
        birth_date=date.fromisoformat(held["birth_date"]),
        plain=normal,
        large=large,
    )
