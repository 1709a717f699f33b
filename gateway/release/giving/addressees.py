"""The patient whom a document is for, sealed beside it: what went to the wrong one is taken back from that one.

Sealed under the key of the patient's reports (SAF-41), each under its own name, so that what is moved does not open.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import orjson

from gateway.model.reporting.channels import Addressee
from gateway.model.work.transfers import StudyKeys
from gateway.release.contents import key_of
from policy.parties import NhsNumber
from storage.release import content


class Vault:
    """Seals and opens what is kept of patients here."""

    def __init__(self, keys: StudyKeys, random: Callable[[int], bytes]) -> None:
        self._keys = keys
        self._random = random

    async def seal(self, name: str, plain: bytes, patient_row: str) -> tuple[bytes, bytes]:
        """The key's id and the sealed form; raises a `ServiceFault` where there is no key."""
        key_id, key = await key_of(self._keys, patient_row)
        return key_id, content.seal(name, plain, key_id, key, self._random)

    async def open(self, name: str, sealed: bytes, key_id: bytes) -> bytes:
        """What was sealed under this name; raises `KeyClosed`, `Damaged` or another `ServiceFault`."""
        return content.unseal(name, sealed, await self._keys.key(key_id))


def encoded(addressee: Addressee) -> bytes:
    """An addressee, to be sealed."""
    return orjson.dumps(
        [
            addressee.nhs_number.digits,
            addressee.family_name,
            addressee.given_name,
            addressee.birth_date.isoformat(),
        ]
    )


def decoded(plain: bytes) -> Addressee | None:
    """What `encoded` was given; None where nobody was found to be written to."""
    held = orjson.loads(plain)
    if not held:
        return None
    number, family_name, given_name, birth_date = held
    return Addressee(NhsNumber(number), family_name, given_name, date.fromisoformat(birth_date))


NOBODY = orjson.dumps([])
"""Of a trace that found nobody to be written to."""


def trace_name(report_id: str) -> str:
    """Under which the addressee of a report's trace is sealed."""
    return f"report-trace/{report_id}"


def delivery_name(report_id: str, channel: str, document_key: str) -> str:
    """Under which the addressee of a delivery is sealed."""
    return f"report-delivery/{report_id}/{channel}/{document_key}"
