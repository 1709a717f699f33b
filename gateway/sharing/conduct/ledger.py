"""Count what each caller asks over minutes and hours, and say when it is more than care explains.

An archive that prefetches asks often; one that goes through numbers or study UIDs asks for many who are nothing to it.
Each budget is told of once in its window. Nothing is ever refused here (SAF-39). Bounded: a caller's sets stop growing
when a budget is passed, and only so many callers are remembered. Keeps salted hashes, no number of a patient. Pure but
for what it remembers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

CALLERS_MAX = 1_000
MINUTE_S, HOUR_S = 60.0, 3_600.0
SUCCESSIVE_STEP_MAX = 64
"""Two study UIDs of one root count as successive when their last components are at most so far apart."""
_DIGITS_MAX = 40


class Excess(StrEnum):
    """What was too much."""

    QUESTIONS = "questions"
    """Questions in a minute."""
    PATIENTS = "patients"
    """Different patients in an hour."""
    STRANGERS = "strangers"
    """Different patients in an hour with whom the caller was told to have no relationship: enumeration of numbers."""
    MISSES = "misses"
    """Studies named by UID in an hour of which nothing could be shown: enumeration of studies."""
    SUCCESSIVE = "successive"
    """Studies in a row whose UIDs follow one another: the same, by counting up."""
    TOO_BROAD = "too-broad"
    """Questions in an hour that pinned nobody: harvesting by wild cards."""

    @property
    def is_enumeration(self) -> bool:
        """Whether it looks like searching for who exists, not like much work."""
        return self not in (Excess.QUESTIONS, Excess.PATIENTS)


@dataclass(frozen=True, slots=True)
class Budgets:
    """How much of each is no news: `[conduct]`. One more is told; nothing is ever refused (SAF-39)."""

    questions_per_minute: int = 120
    """Questions of one caller in a minute."""
    patients_per_hour: int = 600
    """Different patients that one caller asks for in an hour."""
    strangers_per_hour: int = 20
    """Different patients in an hour for whom one caller is told that it has no relationship."""
    misses_per_hour: int = 60
    """Questions by study UID in an hour of which one caller gets nothing."""
    successive_studies: int = 10
    """Questions in a row by study UIDs that follow one another."""
    too_broad_per_hour: int = 20
    """Questions of one caller in an hour that are refused as too broad."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A caller passed a budget."""

    caller: str
    excess: Excess
    budget: int


@dataclass(slots=True)
class _Account:
    """What one caller asked in this minute and in this hour."""

    minute: int = -1
    hour: int = -1
    questions: int = 0
    patients: set[bytes] = field(default_factory=set)
    strangers: set[bytes] = field(default_factory=set)
    misses: int = 0
    too_broad: int = 0
    last_root: str = ""
    last_number: int = 0
    run: int = 0
    told: set[Excess] = field(default_factory=set)


class Ledger:
    """The accounts of all callers of one process. `salt` keeps what is remembered from meaning anything elsewhere."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def asked(
        self, caller: str, patient: str, study_uids: Iterable[str], budgets: Budgets, now_s: float
    ) -> list[Passed]:
        """A caller asks: for this patient if one is named, by these study UIDs if any are."""
        account = self._account(caller, now_s)
        account.questions += 1
        self._remember(account.patients, patient, budgets.patients_per_hour)
        for uid in study_uids:
            _follow(account, uid)
        return [
            *self._passed(caller, account, Excess.QUESTIONS, account.questions, budgets.questions_per_minute),
            *self._passed(caller, account, Excess.PATIENTS, len(account.patients), budgets.patients_per_hour),
            *self._passed(caller, account, Excess.SUCCESSIVE, account.run, budgets.successive_studies),
        ]

    def told_stranger(self, caller: str, patient: str, budgets: Budgets, now_s: float) -> list[Passed]:
        """A caller was told that it has no relationship with the patient whom it named."""
        account = self._account(caller, now_s)
        self._remember(account.strangers, patient, budgets.strangers_per_hour)
        return self._passed(caller, account, Excess.STRANGERS, len(account.strangers), budgets.strangers_per_hour)

    def missed(self, caller: str, budgets: Budgets, now_s: float) -> list[Passed]:
        """A caller named studies and was shown nothing, for whatever reason."""
        account = self._account(caller, now_s)
        account.misses += 1
        return self._passed(caller, account, Excess.MISSES, account.misses, budgets.misses_per_hour)

    def asked_too_broadly(self, caller: str, budgets: Budgets, now_s: float) -> list[Passed]:
        """A caller pinned nobody and was refused."""
        account = self._account(caller, now_s)
        account.too_broad += 1
        return self._passed(caller, account, Excess.TOO_BROAD, account.too_broad, budgets.too_broad_per_hour)

    def _account(self, caller: str, now_s: float) -> _Account:
        account = self._accounts.get(caller)
        if account is None:
            account = self._accounts[caller] = _Account()
            if len(self._accounts) > CALLERS_MAX:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(caller)
        minute, hour = int(now_s // MINUTE_S), int(now_s // HOUR_S)
        if account.minute != minute:
            account.minute, account.questions = minute, 0
            account.told.discard(Excess.QUESTIONS)
        if account.hour != hour:
            account.hour, account.misses, account.too_broad = hour, 0, 0
            account.patients.clear()
            account.strangers.clear()
            account.told -= set(Excess) - {Excess.QUESTIONS}
        return account

    def _remember(self, known: set[bytes], patient: str, budget: int) -> None:
        if patient and len(known) <= budget:
            known.add(hashlib.blake2b(patient.encode(), key=self._salt, digest_size=8).digest())

    @staticmethod
    def _passed(caller: str, account: _Account, excess: Excess, count: int, budget: int) -> list[Passed]:
        if count <= budget or excess in account.told:
            return []
        account.told.add(excess)
        return [Passed(caller, excess, budget)]


def _follow(account: _Account, uid: str) -> None:
    """Lengthen the run of successive UIDs, or begin another one. The same study again is neither."""
    root, _, last = uid.rpartition(".")
    if not last.isascii() or not last.isdigit() or len(last) > _DIGITS_MAX:
        account.last_root, account.run = "", 0
        return
    number = int(last)
    step = abs(number - account.last_number)
    if root == account.last_root and step == 0:
        return
    is_successive = root == account.last_root and step <= SUCCESSIVE_STEP_MAX
    account.run = account.run + 1 if is_successive else 1
    account.last_root, account.last_number = root, number
