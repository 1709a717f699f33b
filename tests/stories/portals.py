"""Portals of a story: an app by FHIR, a portal by HL7, a folder that somebody empties; and what patients see there.

The first two are processes of their own (`tests.channels.stub_portal`); what is shown there follows from what they
took, as their public interfaces say. Each knows nothing of the gateway but its certificate and its keys.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from joserfc import jwe
from joserfc.jwe import JWERegistry
from joserfc.jwk import RSAKey

from gateway.demo.ports import free_port
from tests.channels.stub_portal import taken
from tests.gateway.certificates import Authority
from tests.peers import processes


class Registry(JWERegistry):
    """What the recipient takes: a report as PDF is longer than the library's own limit."""

    max_ciphertext_length = 64 * 1024 * 1024


_SEALED = Registry(algorithms=["RSA-OAEP-256", "A256GCM"])


@dataclass
class Stub:
    """A portal, which can be stopped and started as another."""

    folder: Path
    name: str
    authority: Authority
    client: Path
    shown_by: Callable[[Sequence[tuple[str, bytes]]], dict[str, str]]
    port: int = field(default_factory=free_port)
    behaviour: str = ""
    """Empty: it does not run."""
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.record"

    def start(self, behaviour: str = "works") -> None:
        """Start it; one that runs is stopped first."""
        self.stop()
        self.behaviour = behaviour
        theirs = self.authority.issue(self.name, "127.0.0.1")
        command = [sys.executable, "-m", "tests.channels.stub_portal", str(self.port), behaviour]
        files = (theirs.certificate, theirs.private_key, self.authority.certificate, self.record, self.client)
        command += map(str, files)
        log = self.folder / f"{self.name}.log"
        self._stack.enter_context(processes.running(command, log, lambda: processes.takes_connections(self.port)))

    def stop(self) -> None:
        self._stack.close()
        self.behaviour = ""

    def shown(self) -> dict[str, str]:
        """What stands there by the documents' keys."""
        return self.shown_by(taken(self.record))

    def told(self) -> list[str]:
        """Of which documents patients were told there."""
        notices = [json.loads(body) for what, body in taken(self.record) if what == "communication"]
        return [notice["identifier"][0]["value"] for notice in notices]


@dataclass
class Folder:
    """A folder whose recipient takes what it finds there."""

    path: Path
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048))

    def shown(self) -> dict[str, str]:
        """What the recipient shows, having taken what lay there."""
        found: dict[str, str] = {}
        files: list[tuple[int, Path, bytes]] = []
        for file in self.path.glob("*.jwe"):
            with suppress(FileNotFoundError):  # taken back before it was taken
                files.append((file.stat().st_mtime_ns, file, file.read_bytes()))
        for _, file, sealed in sorted(files):
            content = json.loads(jwe.decrypt_compact(sealed, self.key, registry=_SEALED).plaintext or b"")
            manifest = content["manifest"]
            if manifest["kind"] == "withdrawal":
                found[manifest["document"]] = manifest["words"]
            else:
                found.pop(manifest["replaces"], None)
                found[manifest["document"]] = base64.b64decode(content["text"]).decode()
            file.with_suffix(".receipt").write_text("taken")
        return found


def by_fhir(took: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """The text of each DiagnosticReport, as it was put last."""
    found: dict[str, str] = {}
    for entry in (entry for what, body in took if what == "bundle" for entry in json.loads(body)["entry"]):
        resource = entry["resource"]
        if resource["resourceType"] == "DiagnosticReport":
            text = base64.b64decode(resource["presentedForm"][-1]["data"]).decode()
            found[resource["identifier"][0]["value"]] = text
    return found


def by_hl7(took: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """The text of each report by OBR-3; OBR-25 `R` deletes it, and leaves the words that came with that."""
    found: dict[str, str] = {}
    for segments in (body.decode().split("\r") for what, body in took if what == "oru"):
        fields = {line[:3]: line.split("|") for line in reversed(segments) if line}
        found[fields["OBR"][3]] = fields["OBX"][5].replace("\\.br\\", "\n")
    return found
