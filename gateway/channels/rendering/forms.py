"""A patient's report in every form that channels take (REL-06), and those forms as FHIR attachments."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from concurrent.futures import Executor

from gateway.channels.rendering.html import html_page
from gateway.channels.rendering.pdf import pdf_document
from gateway.channels.rendering.plain import plain_text
from gateway.channels.rendering.sheet import sheet_of
from gateway.model.imaging import JsonValue
from gateway.model.reporting.channels import PatientReport, Rendering

LANGUAGE = "en-GB"


def render(report: PatientReport, *, large_print: bool = False) -> Rendering:
    """Every form of a report. Takes tens of milliseconds: on a loop, see `rendered`."""
    sheet = sheet_of(report)
    return Rendering(
        html=html_page(sheet, large_print=large_print),
        text=plain_text(sheet),
        pdf=pdf_document(sheet, large_print=large_print),
        is_large_print=large_print,
    )


async def rendered(executor: Executor, report: PatientReport, *, large_print: bool = False) -> Rendering:
    """The same, off the loop."""
    return await asyncio.get_running_loop().run_in_executor(executor, _render, report, large_print)


def presented_forms(rendering: Rendering, title: str) -> list[JsonValue]:
    """`DiagnosticReport.presentedForm` (FHIR R4 Attachment): PDF, HTML, text."""
    forms = (
        ("application/pdf", rendering.pdf),
        ("text/html; charset=utf-8", rendering.html.encode()),
        ("text/plain; charset=utf-8", rendering.text.encode()),
    )
    return [
        {
            "contentType": content_type,
            "language": LANGUAGE,
            "data": base64.b64encode(content).decode(),
            "size": len(content),
            # FHIR R4 has SHA-1 here, for integrity alone.
            "hash": base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode(),
            "title": title,
        }
        for content_type, content in forms
    ]


def _render(report: PatientReport, large_print: bool) -> Rendering:
    return render(report, large_print=large_print)
