"""The universal disclaimer of the reporting guidance, word for word (domain.md A2, REL-06, K10).

It stands once in every rendering, as a paragraph of its own that is no part of the report: a report that happens to
hold the same sentence stays untouched, and does not stand in for it. Nobody can change it or leave it out (SAF-70): a
new wording is a new version here, and what was rendered before keeps the one that it has.
"""

DISCLAIMER = (
    "This report has been sent to the referring clinician (doctor or other healthcare professional) who referred you "
    "for this investigation. If you have any questions, please discuss with your referring clinician."
)

DISCLAIMER_SHA256 = "c53b5da41fb6c41ab81bdff8fef9b81188e56ef8d59aedc0cd4455e2ed0897e7"
"""Of its UTF-8 bytes, as the guidance's text has it."""

DISCLAIMER_VERSION = "1"
"""Stands in every rendering, and is recorded with what was released."""
