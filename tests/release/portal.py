"""A portal that answers as a test tells it, and shows its patients what it was given: a `Channel` of another hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Receipt, Rendering

PROVEN = Account(is_there=True, is_proven=True)
CONFIRMED = Outcome(Receipt.CONFIRMED)
FAILED = Outcome(Receipt.FAILED, "no answer")
UNKNOWN = Outcome(Receipt.UNKNOWN, "the connection broke")
REFUSED = Outcome(Receipt.REFUSED, "not in this form")


@dataclass
class Portal:
    """What it shows, what it told, and how it answers next; `CONFIRMED` where a test says nothing."""

    name: str = "portal"
    is_idempotent: bool = True
    checks_proxies: bool = True
    notifies: bool = True
    has_account: Account = PROVEN
    puts: list[Outcome] = field(default_factory=list)
    """Its answers to the next puts; one that is unknown took the document all the same."""
    notices: list[Outcome] = field(default_factory=list)
    withdrawals: list[Outcome] = field(default_factory=list)
    shown: dict[str, PatientReport] = field(default_factory=dict)
    """By document key, what patients see now."""
    words: dict[str, str] = field(default_factory=dict)
    put_count: int = 0
    told: list[str] = field(default_factory=list)
    """Document keys of which the patient was told."""
    asked_for: list[Addressee] = field(default_factory=list)
    on_put: Callable[[], None] = lambda: None

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`."""
        self.asked_for.append(addressee)
        return self.has_account

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`."""
        self.put_count += 1
        self.on_put()
        outcome = self.puts.pop(0) if self.puts else CONFIRMED
        if outcome.receipt in (Receipt.CONFIRMED, Receipt.UNKNOWN):
            self.shown.pop(report.replaces, None)
            self.shown[report.document_key] = report
        return outcome

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`."""
        self.told.append(report.document_key)
        return self.notices.pop(0) if self.notices else CONFIRMED

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`."""
        outcome = self.withdrawals.pop(0) if self.withdrawals else CONFIRMED
        if outcome.receipt is Receipt.CONFIRMED:
            self.shown.pop(document_key, None)
            self.words[document_key] = words
        return outcome

    async def close(self) -> None:
        """See `Channel`."""

    @property
    def texts(self) -> list[list[str]]:
        """What its patients read, document by document."""
        return [[section.text for section in report.sections] for report in self.shown.values()]
