"""What the statuses of a result (OBR-25, table 0123) and of its lines (OBX-11, table 0085) say together.

The tables of domain.md A4, word for word; where the two disagree the less final one governs. An empty OBX-11 says
nothing of its own, an empty or unknown OBR-25 is no verification. A correction that brings nothing but appended lines
appends: it has no text to put in place of what stood. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from policy.release.reports import Said


class NoStatement(StrEnum):
    """Results that make no version of a report."""

    IGNORED = "ignored"
    """Nothing changes: received, scheduled, no results yet."""
    REJECTED = "rejected"
    """The other end knows no such order or patient: a person looks."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a result says of itself."""

    said: Said
    promotes: bool = False
    """Some line makes what was preliminary final without repeating it (`U`)."""


RESULT: dict[str, Said | NoStatement] = {
    "F": Said.VERIFIED,
    "C": Said.CORRECTED,
    "P": Said.PRELIMINARY,
    "R": Said.PRELIMINARY,
    "A": Said.PRELIMINARY,
    "M": Said.TAKEN_BACK,
    "N": NoStatement.IGNORED,
    "O": NoStatement.IGNORED,
    "I": NoStatement.IGNORED,
    "S": NoStatement.IGNORED,
    "X": Said.CANCELLED,
    "Y": NoStatement.REJECTED,
    "Z": NoStatement.REJECTED,
}
"""OBR-25."""

LINE: dict[str, Said] = {
    "F": Said.VERIFIED,
    "V": Said.VERIFIED,
    "U": Said.VERIFIED,
    "C": Said.CORRECTED,
    "B": Said.APPENDED,
    # Of the patient's particulars: whose it is follows from the patient that the message names.
    "A": Said.CORRECTED,
    "P": Said.PRELIMINARY,
    "R": Said.PRELIMINARY,
    "S": Said.PRELIMINARY,
    "I": Said.PRELIMINARY,
    "O": Said.PRELIMINARY,
    "N": Said.PRELIMINARY,
    "D": Said.TAKEN_BACK,
    "X": Said.CANCELLED,
    "W": Said.WITHDRAWN,
}
"""OBX-11."""

LEAST_FINAL_FIRST = (
    Said.WITHDRAWN,
    Said.TAKEN_BACK,
    Said.CANCELLED,
    Said.PRELIMINARY,
    Said.CORRECTED,
    Said.APPENDED,
    Said.VERIFIED,
)
"""Of two that are final, the one that unsettles more of what stood."""


def statement(result: str, lines: Collection[str]) -> Statement | NoStatement:
    """What a result of this OBR-25 with lines of these OBX-11 says."""
    whole = RESULT.get(result, Said.PRELIMINARY)
    if isinstance(whole, NoStatement):
        # A wrong patient is told at once, whatever the result says of itself.
        return Statement(Said.WITHDRAWN) if "W" in lines else whole
    each = {LINE.get(line, Said.PRELIMINARY) for line in lines if line}
    if whole is Said.CORRECTED and each == {Said.APPENDED}:
        return Statement(Said.APPENDED)
    said = least_final({whole, *each})
    return Statement(said, promotes=said is Said.VERIFIED and "U" in lines)


def least_final(said: Collection[Said]) -> Said:
    """The one that governs."""
    return min(said, key=LEAST_FINAL_FIRST.index)
