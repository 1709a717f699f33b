"""What a patient, or a proxy, may see at this moment on the gateway's own page (`gateway.model.reporting.reading`).

Each view is judged anew: by the plan as it is now, by the traced name and date of birth of what was given, by the age
of this day. What may not be seen and what does not exist are one answer, and every document that is handed out was
written into the audit before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from gateway.model.audit import AuditEntry, AuditEvent
from gateway.model.errors import KeyClosed, NotFound
from gateway.model.imaging import JsonValue
from gateway.model.reporting.channels import Addressee
from gateway.model.reporting.reading import (
    Choices,
    DocumentForm,
    Identity,
    LetterOffer,
    Listed,
    Looking,
    Shown,
)
from gateway.release.acts import Acts
from gateway.release.giving.addressees import Vault
from gateway.release.giving.composing import TrustCard
from gateway.release.giving.documents import neutral_words
from gateway.release.giving.page import PageDocument, account_name, counts, decoded_document, document_name
from gateway.release.giving.tracing import same_person
from gateway.release.planner import Planner
from policy.parties import TrustId
from policy.release.clock import PLAIN_CALENDAR, age_on
from storage.database import Read, Tx
from storage.registers import patients as registered
from storage.release import deliveries, patients, reports
from storage.release.patients import KeptAccount, KeptDocument
from storage.store import SqlStore

ADULT_AGE, OWN_ACCOUNT_AGE = 16, 13
TAKEN_BACK_NAME = "Report"
"""What stands for the examination where a report is shown no more: it may have been somebody else's."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A document in the patient's list, judged."""

    kept: KeptDocument
    trust: TrustId
    is_shown: bool


class PageReading:
    """A `PatientReading`."""

    def __init__(
        self,
        store: SqlStore,
        vault: Vault,
        planner: Planner,
        acts: Acts,
        card_of: Callable[[TrustId], TrustCard],
        trusts: Callable[[], Sequence[TrustId]],
        woken: Callable[[], None],
    ) -> None:
        """`woken` is called once jobs were queued."""
        self._store = store
        self._vault = vault
        self._planner = planner
        self._acts = acts
        self._card_of = card_of
        self._trusts = trusts
        self._woken = woken

    async def signed_in(self, looking: Looking) -> None:
        """See `PatientReading`."""
        patient = looking.patient
        row = await self._store.patient_row(registered.nhs(patient.nhs_number))
        key_id, sealed = await self._vault.seal(account_name(row), patient.family_name.encode(), row)
        account = KeptAccount(row, patient.birth_date.isoformat(), key_id, sealed)

        def body(tx: Tx) -> int:
            before = patients.account_of(tx, row)
            patients.signed_in(tx, account)
            is_new = before is None or not counts(before, self._planner.now())
            return self._acts.signed_up(tx, row) if is_new else 0

        if await self._store.write(body):
            self._woken()

    async def listed(self, looking: Looking) -> tuple[Listed, ...]:
        """See `PatientReading`."""
        lines = [(each, await self._line(looking, each)) for each in await self._found(looking)]
        seen = [(found, line[0]) for found, line in lines if line is not None]
        if seen:
            # The names of examinations tell much already.
            await self._store.write(lambda tx: _audit_list(tx, looking, [found for found, _ in seen]))
        return tuple(listed for _, listed in seen)

    async def document(self, looking: Looking, key: str, form: DocumentForm) -> Shown | None:
        """See `PatientReading`."""
        found = next((each for each in await self._found(looking) if each.kept.document_key == key), None)
        if found is None:
            return None
        line = await self._line(looking, found)
        if line is None:
            return None
        listed, document = line
        await self._store.write(lambda tx: _audit(tx, looking, found, form))
        if document is None:
            return Shown(listed, b"")
        chosen, _ = await self.choices(looking)
        return Shown(listed, _body(document, form, large_print=chosen.large_print))

    async def choices(self, looking: Looking) -> tuple[Choices, LetterOffer]:
        """See `PatientReading`."""
        rows = await self._rows(looking.patient)
        chosen = await self._store.read(lambda read: patients.chosen(read, rows))
        return chosen, self._letter_offer(looking.patient.birth_date)

    async def choose(self, looking: Looking, choices: Choices) -> None:
        """See `PatientReading`."""
        row = await self._store.patient_row(registered.nhs(looking.patient.nhs_number))
        if self._letter_offer(looking.patient.birth_date) is LetterOffer.NOT_OFFERED:
            choices = Choices(choices.not_now, letter=False, large_print=choices.large_print)
        await self._store.write(lambda tx: self._acts.choose(tx, row, choices, looking.request_id))

    def _letter_offer(self, birth_date: date) -> LetterOffer:
        age = age_on(birth_date, self._planner.now(), PLAIN_CALENDAR)
        is_offered = any(self._planner.terms_of(trust).letter_for_adults for trust in self._trusts())
        return LetterOffer.OFFERED if age >= ADULT_AGE and is_offered else LetterOffer.NOT_OFFERED

    async def _rows(self, patient: Identity) -> tuple[str, ...]:
        found = await self._store.patient_rows([registered.nhs(patient.nhs_number)])
        return tuple(sorted(found))

    async def _found(self, looking: Looking) -> Sequence[_Found]:
        """The documents of whom the number leads to, judged by what is planned now; none while access is paused."""
        if not self._may_look(looking, looking.patient.birth_date):
            return ()
        rows = await self._rows(looking.patient)

        def body(read: Read) -> list[_Found]:
            accounts = [patients.account_of(read, row) for row in rows]
            if any(each is not None and each.is_paused for each in accounts):
                return []
            return [found for each in patients.documents(read, rows) if (found := self._judged(read, each)) is not None]

        return await self._store.read(body)

    def _judged(self, read: Read, kept: KeptDocument) -> _Found | None:
        report = reports.get(read, kept.report_id)
        if report is None:
            return None
        given = [
            each
            for each in deliveries.deliveries(read, kept.report_id)
            if each.document_key == kept.document_key and each.state.may_be_seen
        ]
        allowed = frozenset(self._planner.situation(read, kept.report_id).wish.versions)
        is_allowed = bool(given) and allowed.issuperset(version for each in given for version in each.versions)
        return _Found(kept, report.trust, kept.is_shown and is_allowed)

    def _may_look(self, looking: Looking, birth_date: date) -> bool:
        """Nobody looks for a patient from the 13th birthday on (SAF-65, A7): the page hears of no attorney's right."""
        return not looking.is_proxy or age_on(birth_date, self._planner.now(), PLAIN_CALENDAR) < OWN_ACCOUNT_AGE

    async def _line(self, looking: Looking, found: _Found) -> tuple[Listed, PageDocument | None] | None:
        """A line of the list and what it leads to; None where it is not this person's to see."""
        kept, card = found.kept, self._card_of(found.trust)
        if not found.is_shown:
            words = kept.words or neutral_words(None, card.phone)
            listed = Listed(kept.document_key, TAKEN_BACK_NAME, None, card.name, "", card.phone, kept.put_at, words)
            return listed, None
        try:
            plain = await self._vault.open(document_name(kept.document_key), kept.sealed, kept.key_id)
        except (KeyClosed, NotFound):
            return None
        document = decoded_document(plain)
        addressee = Addressee(looking.patient.nhs_number, document.family_name, "", document.birth_date)
        if not same_person(looking.patient.family_name, looking.patient.birth_date, addressee):
            return None
        if not self._may_look(looking, document.birth_date):
            return None
        listed = Listed(
            key=kept.document_key,
            exam_name=document.exam_name,
            exam_on=document.exam_on,
            trust_name=document.trust_name,
            ordering_team=document.ordering_team,
            contact=document.contact,
            released_at=document.released_at,
            note=document.note,
        )
        return listed, document


def _body(document: PageDocument, form: DocumentForm, *, large_print: bool) -> bytes:
    """In the print that the patient wants now, whatever they wanted when it was given."""
    rendering = document.large if large_print else document.plain
    match form:
        case DocumentForm.HTML:
            return rendering.html.encode()
        case DocumentForm.TEXT:
            return rendering.text.encode()
        case DocumentForm.PDF:
            return rendering.pdf


def _audit(tx: Tx, looking: Looking, found: _Found, form: DocumentForm) -> None:
    body: dict[str, JsonValue] = {
        "report": found.kept.report_id,
        "trust": found.trust.code,
        "document": found.kept.document_key,
        "form": form.value,
        "shown": found.is_shown,
    }
    _append(tx, looking, found, body)


def _audit_list(tx: Tx, looking: Looking, seen: Sequence[_Found]) -> None:
    _append(tx, looking, seen[0], {"reports": [each.kept.report_id for each in seen], "form": "list"})


def _append(tx: Tx, looking: Looking, found: _Found, body: dict[str, JsonValue]) -> None:
    who: dict[str, JsonValue] = {
        "patient": found.kept.patient_row,
        "by": "proxy" if looking.is_proxy else "patient",
        "actor": looking.actor,
    }
    tx.chain.append(AuditEntry(AuditEvent.REPORT_READ, tx.now, looking.request_id, {**body, **who}))
