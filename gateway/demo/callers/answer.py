"""What a user can notice of an answer, whichever protocol brought it.

The demonstration's check and the story tests judge by this alone, so that one story is told over QIDO and over C-FIND.
What only one of them has (headers, statuses) stands in the answers of `viewer` and `workstation` themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

Row = Mapping[str, Any]
"""One match in the DICOM JSON model (PS3.18 F.2)."""

STUDY_UID: Final = "0020000D"


class Outcome(StrEnum):
    """How a question ended, as a user tells the kinds apart."""

    ANSWERED = "answered"
    """With rows or without."""
    DENIED = "denied"
    """This caller may not ask this, and is told why: QIDO 403, C-FIND 0124."""
    INVALID = "invalid"
    """The question is too broad, or means nothing: QIDO 400, C-FIND A900."""
    FAULT = "fault"
    """The gateway answers nobody at this moment: QIDO 503, C-FIND A700."""
    UNREACHED = "unreached"
    """No trust could be asked: QIDO 504, C-FIND C000."""
    OTHER = "other"


class Answer(Protocol):
    """One answer."""

    @property
    def outcome(self) -> Outcome:
        """How the question ended."""

    @property
    def rows(self) -> Sequence[Row]:
        """What was found; never a row that stands for something missing."""

    @property
    def studies(self) -> frozenset[str]:
        """The Study Instance UIDs of the rows."""

    @property
    def told(self) -> str:
        """Why there is no answer, in the gateway's words; empty if there is one."""

    @property
    def notices(self) -> Sequence[str]:
        """What is said beside the rows: trusts that are missing, conflicts, coverage."""

    @property
    def missing(self) -> frozenset[str]:
        """The ODS codes of the trusts that did not answer, as far as they are named."""

    @property
    def comparable(self) -> object:
        """All of it that could be held against another answer; neither time nor request ids."""


def text_of(row: Row, tag: str) -> str:
    """The first value of an attribute as text; empty if there is none."""
    values = row.get(tag, {}).get("Value") or [""]
    value = values[0]
    return str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)


def studies_in(rows: Sequence[Row]) -> frozenset[str]:
    """Their Study Instance UIDs."""
    return frozenset(text_of(row, STUDY_UID) for row in rows)


class ChapterFailed(Exception):
    """What was seen, and what should have been."""


def expect(is_true: bool, otherwise: str) -> None:
    """Judge what was seen; raises `ChapterFailed`."""
    if not is_true:
        raise ChapterFailed(otherwise)
