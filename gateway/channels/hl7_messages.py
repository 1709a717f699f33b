"""A patient's report as ORU^R01 for a portal (HL7 v2.4, chapter 7.3.1), and the message that takes it back.

OBR-3 holds the document's key. Portals count a delay of their own from OBR-7: a message goes out at release and never
before, so the delay there is set to none. The text holds the disclaimer once, and so does the document. Pure.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.model.reporting.channels import Addressee, PatientReport, Rendering
from gateway.model.reporting.hl7 import SEGMENT_END, escape, escape_text
from policy.release.terms import LONDON


class Deletion(StrEnum):
    """How a portal is told to show a report no more: profiles differ."""

    OBR_25_R = "obr-25-r"
    """OBR-25 `R` deletes what was sent under the same OBR-3."""
    OBX_11_W = "obx-11-w"
    """OBX-11 `W`: posted as wrong, in a corrected report (table 0085)."""


@dataclass(frozen=True, slots=True)
class Names:
    """MSH-3 to MSH-6."""

    application: str
    facility: str
    to_application: str
    to_facility: str


def report_message(names: Names, message_id: str, at: datetime, report: PatientReport, rendering: Rendering) -> bytes:
    """The report: its text, and the document."""
    status = "C" if report.replaces else "F"
    pdf = base64.b64encode(rendering.pdf).decode()
    exam_at = f"{report.exam_on:%Y%m%d}" if report.exam_on else _instant(report.released_at)
    values = [
        ["OBX", "1", "FT", _code("722124004", report.exam_name, "SCT"), "1", escape_text(rendering.text)],
        ["OBX", "2", "ED", _code("PDF", "Report as a document", "L"), "2", f"^AP^PDF^Base64^{pdf}"],
    ]
    referrer = f"{escape(report.referrer.identifier)}^{escape(report.referrer.name)}"
    segments = [
        _msh(names, message_id, at),
        _pid(report.addressee),
        _obr(report.document_key, report.exam_name, exam_at, referrer, _instant(report.released_at), status),
        *([*value, "", "", "", "", "", status] for value in values),
    ]
    return _message(segments)


def deletion_message(
    names: Names, message_id: str, at: datetime, document_key: str, addressee: Addressee, words: str, how: Deletion
) -> bytes:
    """Show the document no more; `words` stand there instead."""
    status, value_status = ("R", "D") if how is Deletion.OBR_25_R else ("C", "W")
    value = ["OBX", "1", "FT", _code("722124004", "Report", "SCT"), "1", escape_text(words), "", "", "", "", ""]
    segments = [
        _msh(names, message_id, at),
        _pid(addressee),
        _obr(document_key, "Report", _instant(at), "", _instant(at), status),
        [*value, value_status],
    ]
    return _message(segments)


def _msh(names: Names, message_id: str, at: datetime) -> list[str]:
    parties = [names.application, names.facility, names.to_application, names.to_facility]
    head = ["MSH", "^~\\&", *map(escape, parties), _instant(at), "", "ORU^R01", escape(message_id), "P", "2.4"]
    return [*head, "", "", "AL", "NE", "GBR", "UNICODE UTF-8"]


def _pid(who: Addressee) -> list[str]:
    number = f"{who.nhs_number.digits}^^^NHS^NH"
    name = f"{escape(who.family_name)}^{escape(who.given_name)}"
    return ["PID", "1", "", number, "", name, "", f"{who.birth_date:%Y%m%d}"]


def _obr(key: str, exam: str, exam_at: str, referrer: str, changed_at: str, status: str) -> list[str]:
    observed = ["OBR", "1", "", escape(key), _code("722124004", exam, "SCT"), "", "", exam_at]
    return [*observed, *[""] * 8, referrer, *[""] * 5, changed_at, "", "RAD", status]


def _code(code: str, words: str, system: str) -> str:
    return f"{code}^{escape(words)}^{system}"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(LONDON):%Y%m%d%H%M%S%z}"


def _message(segments: list[list[str]]) -> bytes:
    return "".join("|".join(each).rstrip("|") + SEGMENT_END for each in segments).encode()
