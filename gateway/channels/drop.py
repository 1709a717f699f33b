"""A folder that somebody else empties: one sealed file a document, and a receipt that says that it was taken (SAF-41).

A file is a JWE (RFC 7516, RSA-OAEP-256 and A256GCM) to the recipient's public key, of JSON: a manifest, and the report
as PDF, HTML and text in base64. It appears whole or not at all. The recipient writes `NAME.receipt` beside it, with
"taken" or "refused" in it; until then a document is not delivered, and is looked at again. Each step clears away what
the one before it left, so no old receipt answers for a new file. Names are digests: they say nothing of a patient.
Files are read and written on threads that are passed in.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson
from joserfc import jwe
from joserfc.jwk import RSAKey

from gateway.channels.rendering.disclaimer import DISCLAIMER_VERSION
from gateway.model.reporting.channels import Account, Addressee, Outcome, PatientReport, Receipt, Rendering

FORMAT = "patient-report-1"
RECEIPT_BYTES_MAX = 64

_SEALED = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "typ": FORMAT}
_ALGORITHMS = [_SEALED["alg"], _SEALED["enc"]]
_NOT_TAKEN = Outcome(Receipt.UNKNOWN, "the recipient has not taken it yet")
"""It lies there and may be taken at any moment."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where files go, and to whom they are sealed."""

    name: str
    path: Path
    recipient: RSAKey = field(repr=False)
    checks_proxies: bool = False


class DropChannel:
    """A `Channel`."""

    def __init__(self, folder: Folder, executor: Executor, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._executor = executor
        self._now = now

    @property
    def name(self) -> str:
        """See `Channel`."""
        return self._folder.name

    @property
    def is_idempotent(self) -> bool:
        """See `Channel`: a file is named by its document."""
        return True

    @property
    def checks_proxies(self) -> bool:
        """See `Channel`."""
        return self._folder.checks_proxies

    @property
    def notifies(self) -> bool:
        """See `Channel`: the recipient tells its patients itself."""
        return False

    async def account(self, addressee: Addressee) -> Account:
        """See `Channel`: the recipient knows, and refuses by its receipt."""
        return Account(True, True, addressee.nhs_number, addressee.family_name, addressee.birth_date)

    async def put(self, report: PatientReport, rendering: Rendering) -> Outcome:
        """See `Channel`: the manifest names what it replaces."""
        manifest = {
            **_manifest("report", report.document_key, report.addressee, self._now()),
            "trust": report.trust.code,
            "exam": report.exam_name,
            "replaces": report.replaces,
            "disclaimer_version": DISCLAIMER_VERSION,
        }
        forms = {"pdf": rendering.pdf, "html": rendering.html.encode(), "text": rendering.text.encode()}
        encoded = {name: base64.b64encode(content).decode() for name, content in forms.items()}
        name = _name(report.document_key)
        stale = [f"{_name(report.replaces)}.receipt"] if report.replaces else []
        return await self._leave(name, {"manifest": manifest, **encoded}, lambda: self._begin(name, stale))

    async def notify(self, report: PatientReport) -> Outcome:
        """See `Channel`: there is nothing to do."""
        return Outcome(Receipt.CONFIRMED)

    async def withdraw(self, document_key: str, addressee: Addressee, words: str) -> Outcome:
        """See `Channel`: by a file of its own, for what it takes back may have been taken already."""
        manifest = {**_manifest("withdrawal", document_key, addressee, self._now()), "words": words}
        name = _name(document_key)
        gone = [f"{name}.jwe", f"{name}.receipt"]
        return await self._leave(f"{name}.withdrawal", {"manifest": manifest}, lambda: self._remove(gone))

    async def forget(self, before: datetime) -> int:
        """Remove what was taken or refused before an instant and lies there still; how many files that was (SAF-41).

        What nobody has taken stays for ever: it is not delivered. Raises `OSError`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._forgotten, before)

    async def close(self) -> None:
        """See `Channel`: nothing stays open."""

    def _begin(self, name: str, stale: Iterable[str]) -> None:
        """Make room for a document; one that was withdrawn before is given anew, and its receipts are of then."""
        self._remove(stale)
        withdrawal = [f"{name}.withdrawal.jwe", f"{name}.withdrawal.receipt"]
        if any((self._folder.path / each).exists() for each in withdrawal):
            # In this order: while anything of the withdrawal is there, the receipt is still to go.
            self._remove([f"{name}.receipt", *withdrawal])

    def _remove(self, names: Iterable[str]) -> None:
        for each in names:
            (self._folder.path / each).unlink(missing_ok=True)

    def _forgotten(self, before: datetime) -> int:
        count = 0
        for receipt in self._folder.path.glob("*.receipt"):
            if receipt.stat().st_mtime >= before.timestamp() or _receipt(receipt) is _NOT_TAKEN:
                continue
            for each in (receipt.with_suffix(".jwe"), receipt):  # a receipt without its file says nothing of anybody
                count += each.exists()
                each.unlink(missing_ok=True)
        return count

    async def _leave(self, name: str, content: Mapping[str, object], clear: Callable[[], None]) -> Outcome:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._left, name, content, clear)
        except OSError as error:
            return Outcome(Receipt.FAILED, f"the folder cannot be used: {type(error).__name__}")

    def _left(self, name: str, content: Mapping[str, object], clear: Callable[[], None]) -> Outcome:
        clear()
        receipt = self._folder.path / f"{name}.receipt"
        if receipt.exists():
            return _receipt(receipt)
        file = self._folder.path / f"{name}.jwe"
        if not file.exists():
            sealed = jwe.encrypt_compact(dict(_SEALED), orjson.dumps(content), self._folder.recipient, _ALGORITHMS)
            _write_whole(file, sealed.encode())
        return _NOT_TAKEN


def _name(document_key: str) -> str:
    return hashlib.sha256(document_key.encode()).hexdigest()


def _manifest(kind: str, document_key: str, addressee: Addressee, at: datetime) -> dict[str, object]:
    return {
        "format": FORMAT,
        "kind": kind,
        "document": document_key,
        "at": at.isoformat(),
        "nhs_number": addressee.nhs_number.digits,
        "family_name": addressee.family_name,
        "given_name": addressee.given_name,
        "birth_date": addressee.birth_date.isoformat(),
    }


def _write_whole(file: Path, content: bytes) -> None:
    beginning = file.with_suffix(".part")
    descriptor = os.open(beginning, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    with os.fdopen(descriptor, "wb") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    beginning.rename(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _receipt(file: Path) -> Outcome:
    with file.open("rb") as opened:
        words = opened.read(RECEIPT_BYTES_MAX).strip()
    if words == b"taken":
        return Outcome(Receipt.CONFIRMED, reference=file.name)
    if words == b"refused":
        return Outcome(Receipt.REFUSED, "the recipient refused it")
    return _NOT_TAKEN
