"""A trust's reporting system: sends ORU^R01 over MLLP with TLS and keeps a message until it is acknowledged.

It shares no code with the gateway: framing and fields are written out here as HL7 v2.5 has them.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from gateway.demo.cast import Patient, Trust
from gateway.demo.certificates import KeyPair

ANSWER_TIMEOUT_S: Final = 30.0
_START, _END = b"\x0b", b"\x1c\r"
_LONDON: Final = ZoneInfo("Europe/London")


class NotAcknowledged(Exception):
    """The gateway did not say AA; the words are its answer's."""


@dataclass(frozen=True, slots=True)
class Report:
    """One version of a report as its system has it."""

    patient: Patient
    accession_number: str
    text: str
    verified_at: datetime
    status: str = "F"
    """OBR-25 and OBX-11; "W": of the wrong patient."""
    control_id: str = ""
    """MSH-10; empty: made of the rest."""


class ReportingSystem:
    """One trust's. Opens a connection for each message."""

    def __init__(self, trust: Trust, port: int, authority: Path, pair: KeyPair) -> None:
        self._trust = trust
        self._port = port
        self._secure = ssl.create_default_context(cafile=authority)
        self._secure.load_cert_chain(pair.certificate, pair.private_key)

    async def send(self, report: Report) -> None:
        """Send and wait for AA; raises `NotAcknowledged`, `TimeoutError`, `OSError`."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("localhost", self._port, ssl=self._secure)
            try:
                writer.write(_START + message(self._trust, report).encode() + _END)
                await writer.drain()
                answer = (await reader.readuntil(_END)).strip(_START + _END).decode()
            finally:
                writer.close()
                await writer.wait_closed()
        codes = [line.split("|")[1] for line in answer.split("\r") if line.startswith("MSA|")]
        if codes != ["AA"]:
            raise NotAcknowledged(answer.replace("\r", " / "))


def message(trust: Trust, report: Report) -> str:
    """The message, its segments divided by CR."""
    patient, code = report.patient, trust.ods_code
    at = report.verified_at.astimezone(_LONDON).strftime("%Y%m%d%H%M%S%z")
    number = f"{patient.nhs_number}^^^NHS^NH"
    local = patient.local_numbers.get(code, ())
    numbers = "~".join([number, *(f"{each}^^^{trust.local_issuer}^PI" for each in local[:1])])
    name = f"{patient.family_name}^{patient.given_name}"
    control = report.control_id or f"{report.accession_number}-{report.status}-{at[:14]}"
    result = "F" if report.status == "W" else report.status
    lines = [line.replace("\\", "\\E\\").replace("|", "\\F\\") for line in report.text.split("\n")]
    exam = "XCHES^Chest X-ray"
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|{code}|GATEWAY|REGION|{at}||ORU^R01^ORU_R01|{control}|P|2.5|||||GBR|UNICODE UTF-8",
            f"PID|1||{numbers}||{name}||{patient.birth_date:%Y%m%d}|{patient.sex}",
            "PV1|1|O",
            f"ORC|RE|P{report.accession_number}|{report.accession_number}||CM",
            f"OBR|1|P{report.accession_number}|{report.accession_number}|{exam}|||{at[:8]}|||||||||"
            f"C1234567^HOLLIS^Kim||||||{at}||DX|{result}|||||||C7654321&OYELARAN&Tunde",
            *(f"OBX|{place}|TX|REPORT||{line}||||||{report.status}" for place, line in enumerate(lines, start=1)),
            "",
        ]
    )
