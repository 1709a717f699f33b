"""What stands on a patient's report, in which order and under which words; the same for HTML, PDF and text.

The clinical text is the report's: nothing is added to it, left out or evened out, save characters that no page can
show. Everything else here is the gateway's. Knows no markup. Pure.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import date, datetime

from gateway.model.reporting.channels import PatientReport, Section
from policy.release.terms import LONDON

IN_DOCUMENT = "The hospital wrote this part as a document. You find it in the PDF of this report."
"""Where a part of the report can only be read in its own document."""

_ADDENDUM = "Addition to the report"
_REPORT = "Report"


@dataclass(frozen=True, slots=True)
class Part:
    """The report, or an addendum to it."""

    heading: str
    written: str
    """When it was verified, and by whom."""
    text: str
    pdf: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything that is shown beside the disclaimer."""

    title: str
    trust_name: str
    note: str
    particulars: tuple[tuple[str, str], ...]
    """Label and value, none of them empty."""
    parts: tuple[Part, ...]
    footnote: str


def sheet_of(report: PatientReport) -> Sheet:
    """Lay out a report."""
    who = report.addressee
    particulars = (
        ("Name", _line(f"{who.given_name} {who.family_name}")),
        ("Date of birth", spoken_date(who.birth_date)),
        ("NHS number", who.nhs_number.spaced),
        ("Examination", _line(report.exam_name)),
        ("Date of examination", spoken_date(report.exam_on) if report.exam_on else ""),
        ("Asked for by", _line(report.referrer.name)),
        ("Clinical team", _line(report.ordering_team or report.referrer.team)),
        ("How to reach the team", _line(report.contact)),
        ("Made available to you on", spoken_date(report.released_at)),
    )
    return Sheet(
        title=_line(f"Your report: {report.exam_name}"),
        trust_name=_line(report.trust_name),
        note=_line(report.note),
        particulars=tuple((label, value) for label, value in particulars if value),
        parts=tuple(_part(section) for section in report.sections),
        footnote=_line(report.footnote),
    )


def spoken_date(when: date) -> str:
    """`1 June 2026`; of an instant, the day in London."""
    day = when.astimezone(LONDON) if isinstance(when, datetime) else when
    return f"{day.day} {day:%B} {day.year}"


def displayable(text: str) -> str:
    """The text without what no page can show: line ends are "\\n", control characters and half characters go."""
    even = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(each for each in even if each in "\n\t" or not _is_invisible(each))


def _is_invisible(character: str) -> bool:
    # Control characters, halves of surrogate pairs; U+FFFE and the like, which are no characters.
    is_none = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return is_none or unicodedata.category(character) in {"Cc", "Cs"}


def _line(value: str) -> str:
    return " ".join(displayable(value).split())


def _part(section: Section) -> Part:
    by = _line(section.verified_by)
    written = f"Verified on {spoken_date(section.verified_at)}" + (f" by {by}" if by else "")
    text = displayable(section.text) if section.text.strip() else ""
    return Part(_ADDENDUM if section.is_addendum else _REPORT, written, text, section.pdf)
