"""What is answered to a message of HL7 v2 (chapter 2.9, 2.13): MSA and ERR, in original and in enhanced mode.

An answer repeats of a message only what its header says, and nothing of a patient. In enhanced mode (MSH-15, MSH-16) a
sender gets the accept acknowledgement, the application acknowledgement, both, or none, as it asks. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.feeds.hl7.reading import Fault, Segment, Unreadable, header_of
from gateway.model.reporting.hl7 import ack_of
from policy.release.terms import LONDON

_NO_HEADER = b"MSH|^~\\&|"


class Verdict(StrEnum):
    """What is said of a message; the second letter of MSA-1."""

    ACCEPTED = "A"
    FAILED = "E"
    """Not now: send it again."""
    REJECTED = "R"
    """Not as it is: a person has to look."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict with its reason."""

    verdict: Verdict
    fault: Fault | None = None
    words: str = ""
    """Safe to show: never what stood in the message."""


def acknowledge(raw: bytes, answer: Answer, *, now: datetime, control_id: str) -> tuple[bytes, ...]:
    """The answers to a message, in their order. `control_id` is MSH-10 of the first."""
    header = header_of(raw)
    at = now.astimezone(LONDON).strftime("%Y%m%d%H%M%S%z")
    if header is None:
        return (_with_error(ack_of(_NO_HEADER, "AR", control_id=control_id, at=at, words=answer.words), None, answer),)
    codes = _codes(header, answer.verdict)
    line = header.raw.encode("latin-1")
    ids = [control_id, f"{control_id}-2"]
    return tuple(
        _with_error(ack_of(line, code, control_id=own, at=at, words=answer.words), header, answer)
        for code, own in zip(codes, ids, strict=False)
    )


def _codes(header: Segment, verdict: Verdict) -> list[str]:
    try:
        accept, application = (header.field(number).value.upper() for number in (15, 16))
    except Unreadable:
        return [f"A{verdict}"]
    if not accept and not application:
        return [f"A{verdict}"]
    asked = []
    if _wants(accept, verdict):
        asked.append(f"C{verdict}")
    if _wants(application, verdict):
        asked.append(f"A{verdict}")
    return asked


def _wants(condition: str, verdict: Verdict) -> bool:
    """Table 0155; what is none of its codes wants an answer, so that no failure is kept from anybody."""
    match condition:
        case "" | "NE":
            return False
        case "SU":
            return verdict is Verdict.ACCEPTED
        case "ER":
            return verdict is not Verdict.ACCEPTED
        case _:
            return True


def _with_error(answer: bytes, header: Segment | None, given: Answer) -> bytes:
    if given.fault is None:
        return answer
    separator = header.marks.field if header is not None else "|"
    # ERR-3 and ERR-4; ERR-1 of versions before 2.5 has no code for what is wrong as a whole.
    error = separator.join(["ERR", "", "", given.fault.value, "E"]) + "\r"
    return answer + error.encode("latin-1")
