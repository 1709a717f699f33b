"""Messages as a RIS sends them, and a feed that takes them."""

from dataclasses import replace
from datetime import UTC, datetime

from gateway.feeds.hl7 import oru, reading
from gateway.feeds.profile import Feed, FeedKind, Profile
from gateway.model.reporting.incoming import IncomingReport
from policy.parties import TrustId

RECEIVED = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
TRUST = TrustId("RX1")
FEED = Feed("rx1-ris", TRUST, FeedKind.HL7, "RX1-PAS")
HEADER = "MSH|^~\\&|RIS|RX1|GATEWAY|REGION|20260601091600||ORU^R01^ORU_R01|M1|P|2.5"
PATIENT = "PID|1||9990000018^^^NHS^NH~0001234^^^RX1^PI||TESTER^ANNE^^^MS||19800229|F"
ORDER = "ORC|RE|P1|A1||CM||||||||||||||||Chest clinic"


def result(
    filler: str = "A1", status: str = "F", *, at: str = "20260601091500+0100", placer: str = "P1", number: int = 1
) -> str:
    """An OBR."""
    fields = {1: str(number), 2: placer, 3: filler, 4: "XCHES^Chest X-ray^LOCAL", 7: "20260530120000"}
    fields |= {16: "C1234567^REFERRER^RITA^^^DR", 22: at, 24: "DX", 25: status}
    fields |= {32: "C7654321&READER&ROBERT&&&DR"}
    return "|".join(["OBR", *(fields.get(each, "") for each in range(1, 33))])


def line(value: str, status: str = "F", *, kind: str = "FT", flag: str = "", code: str = "GDT^Report") -> str:
    """An OBX."""
    return f"OBX|1|{kind}|{code}|1|{value}|||{flag}|||{status}"


def message(*segments: str, header: str = HEADER, patient: str = PATIENT, end: str = "\r") -> bytes:
    """A message of one patient, as bytes of UTF-8."""
    return (end.join([header, patient, *segments]) + end).encode()


def feed(profile: Profile) -> Feed:
    """The feed with other habits."""
    return replace(FEED, profile=profile)


def reports(raw: bytes, of: Feed = FEED) -> tuple[IncomingReport, ...]:
    """What a message holds; raises `Unreadable`."""
    whole = reading.read(raw, character_set=of.profile.character_set)
    return oru.reports(oru.Received(whole, "M1", of, RECEIVED, raw))


def only(raw: bytes, of: Feed = FEED) -> IncomingReport:
    """The one report of a message."""
    (found,) = reports(raw, of)
    return found
