"""Reports in memory, shown as the keeper of reports would: each to its own patient, under 13 only what was reviewed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from gateway.model.audit import AuditEntry, AuditRecord
from gateway.model.errors import StoreUnavailable
from gateway.model.reporting.reading import Choices, DocumentForm, LetterOffer, Listed, Looking, Shown
from gateway.model.reporting.sessions import SessionTerms
from gateway.model.seams import Clock

CHEST = Listed(
    key="chest-1",
    exam_name="X-ray of the chest",
    exam_on=date(2026, 10, 1),
    trust_name="Northmoor",
    ordering_team="Respiratory clinic",
    contact="01632 960111",
    released_at=datetime(2026, 11, 2, 9, tzinfo=UTC),
)
PDF = b"%PDF-1.7 a report"


@dataclass
class MemoryReading:
    """A `PatientReading`."""

    reports: dict[str, list[tuple[Listed, dict[DocumentForm, bytes]]]] = field(default_factory=dict)
    """By NHS number."""
    chosen: dict[str, Choices] = field(default_factory=dict)
    letter: LetterOffer = LetterOffer.OFFERED
    accounts: list[str] = field(default_factory=list)
    """Who signed in, one for each time."""
    is_down: bool = False

    def give(self, number: str, listed: Listed, html: str, text: str = "plain text", pdf: bytes = PDF) -> None:
        """Let a patient see a report."""
        bodies = {DocumentForm.HTML: html.encode(), DocumentForm.TEXT: text.encode(), DocumentForm.PDF: pdf}
        self.reports.setdefault(number, []).append((listed, bodies))

    async def signed_in(self, looking: Looking) -> None:
        self._fail_if_down()
        self.accounts.append(looking.patient.nhs_number.digits)

    async def listed(self, looking: Looking) -> tuple[Listed, ...]:
        self._fail_if_down()
        return tuple(listed for listed, _ in self._of(looking))

    async def document(self, looking: Looking, key: str, form: DocumentForm) -> Shown | None:
        self._fail_if_down()
        for listed, bodies in self._of(looking):
            if listed.key == key:
                return Shown(listed, b"" if listed.taken_back_words else bodies[form])
        return None

    async def choices(self, looking: Looking) -> tuple[Choices, LetterOffer]:
        return self.chosen.get(looking.patient.nhs_number.digits, Choices()), self.letter

    async def choose(self, looking: Looking, choices: Choices) -> None:
        self.chosen[looking.patient.nhs_number.digits] = choices

    def _of(self, looking: Looking) -> list[tuple[Listed, dict[DocumentForm, bytes]]]:
        return self.reports.get(looking.patient.nhs_number.digits, [])

    def _fail_if_down(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the database does not answer")


@dataclass
class MemoryAudit:
    """An audit that is read by tests."""

    entries: list[AuditEntry] = field(default_factory=list)

    async def append_audit(self, entry: AuditEntry) -> AuditRecord:
        self.entries.append(entry)
        return AuditRecord.following("node", len(self.entries), "", entry.encoded())

    @property
    def refusals(self) -> list[object]:
        """What was refused, in order."""
        return [entry.body["refusal"] for entry in self.entries]


@dataclass
class MemorySessions:
    """A `SessionBook`."""

    clock: Clock
    kept: dict[str, tuple[bytes, datetime, datetime]] = field(default_factory=dict)
    """By value: what it holds, when it began, when it was seen."""
    is_down: bool = False

    async def begin(self, value: str, content: bytes, terms: SessionTerms) -> bool:
        """See `SessionBook`."""
        self.kept = {each: kept for each, kept in self.kept.items() if not self._is_over(each, terms)}
        if len(self.kept) >= terms.sessions_max:
            return False
        self.kept[value] = (content, self.clock.now(), self.clock.now())
        return True

    async def find(self, value: str, terms: SessionTerms) -> bytes | None:
        """See `SessionBook`."""
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
        if value not in self.kept or self._is_over(value, terms):
            return None
        content, begun_at, _ = self.kept[value]
        self.kept[value] = (content, begun_at, self.clock.now())
        return content

    async def end(self, value: str) -> None:
        """See `SessionBook`."""
        self.kept.pop(value, None)

    def _is_over(self, value: str, terms: SessionTerms) -> bool:
        _, begun_at, seen_at = self.kept[value]
        return self.clock.now() - seen_at >= terms.idle or self.clock.now() - begun_at >= terms.whole
