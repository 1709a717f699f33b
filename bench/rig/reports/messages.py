"""ORU messages of many synthetic patients: each another report, of two kilobytes, verified and never seen before."""

from __future__ import annotations

from gateway.feeds.profile import Feed, FeedKind
from policy.parties import NhsNumber, TrustId

FEED = Feed("bench-ris", TrustId("RZ1"), FeedKind.HL7, "RZ1")
VERIFIED_AT = "20260601091500+0100"
_SENTENCE = "The lungs are clear and the heart is not enlarged. No bony injury is seen. "
_TEXT = (_SENTENCE * 24).strip()


def nhs_number(number: int) -> NhsNumber:
    """The synthetic NHS number of a patient, of up to 400,000; each has another."""
    base = 999_000_000 + number
    while True:
        digits = str(base)
        rest = 11 - sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=True)) % 11
        if rest != 10:
            return NhsNumber(f"{digits}{rest % 11}")
        base += 400_000


def oru(number: int, patient: int) -> bytes:
    """The message of this number, about this patient."""
    segments = (
        f"MSH|^~\\&|RIS|NORTH|GATEWAY|REGION|20260601091600||ORU^R01^ORU_R01|B{number}|P|2.5",
        f"PID|1||{nhs_number(patient)}^^^NHS^NH~{patient:07d}^^^RZ1^PI||TESTER^ANNE^^^MS||19800229|F",
        f"ORC|RE|P{number}|A{number}||CM||||||||||||||||Chest clinic",
        f"OBR|1|P{number}|A{number}|XCHES^Chest X-ray^LOCAL|||20260530120000|||||||||C1234567^REFERRER^RITA^^^DR"
        f"||||||{VERIFIED_AT}||DX|F|||||||C7654321&READER&ROBERT&&&DR",
        f"OBX|1|FT|GDT^Report|1|Report {number}. {_TEXT}||||||F",
    )
    return ("\r".join(segments) + "\r").encode()
