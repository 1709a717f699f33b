"""One simulated PACS put together: index, switches, journal, the two doors and the control port.

Starts and stops them in order and turns a change of behaviour into closed or open ports. Used by the command and,
inside one process, by tests.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.demo.pacs import qido
from gateway.demo.pacs.behaviour import Behaviour, Dead, Switches
from gateway.demo.pacs.control import ControlPort
from gateway.demo.pacs.dimse import Destination, DimseDoor
from gateway.demo.pacs.images import wado
from gateway.demo.pacs.index import Index, Level
from gateway.demo.pacs.journal import Journal
from gateway.demo.pacs.web import WebDoor

REQUESTS_KEPT = 200


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a listener; with a client CA, a client certificate of it is demanded."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What one simulated PACS needs to know. A port of 0 is chosen by the system."""

    ods_code: str
    ae_title: str
    data_folder: Path
    host: str = "127.0.0.1"
    dimse_port: int = 0
    web_port: int = 0
    control_port: int | None = 0
    tls: TlsFiles | None = None
    dimse_tls: bool = False
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests_kept: int = REQUESTS_KEPT


class Simulator:
    """A PACS to be started, spoken to and stopped: `async with Simulator(settings) as pacs: ...`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._switches = Switches(settings.behaviour)
        self.journal = Journal(settings.requests_kept)
        self.index = Index(settings.data_folder)
        tls = _tls_context(settings.tls) if settings.tls else None
        self.web = WebDoor(self.index, self._switches, self.journal, settings.host, tls)
        self.dimse = DimseDoor(
            settings.ae_title,
            self.index,
            self._switches,
            self.journal,
            settings.host,
            tls if settings.dimse_tls else None,
            _calling_context(settings.tls) if settings.tls and settings.dimse_tls else None,
        )
        self.dimse.set_destinations(settings.destinations)
        self.control = ControlPort(self._switches, self.journal, self.dimse, self.behave)
        self._doors_are_open = False
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> "Simulator":
        self.index.load()
        # Both doors open once even if the PACS starts dead, so that it has its ports.
        await self._open_doors(self._settings.web_port, self._settings.dimse_port)
        if self._settings.control_port is not None:
            await self.control.open(self._settings.control_port)
        await self.behave(self._settings.behaviour)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._switches.stop()
        await self.control.close()
        await self._close_doors()

    async def behave(self, behaviour: Behaviour) -> None:
        """Behave so from now on."""
        async with self._changing:
            self._switches.set(behaviour)
            self.dimse.limit_associations()
            if behaviour.dead is Dead.CLOSED:
                await self._close_doors()
            elif not self._doors_are_open:
                await self._open_doors(self.web.port, self.dimse.port)

    def ready(self) -> Mapping[str, object]:
        """What a parent process needs to know once everything listens."""
        return {
            "event": "ready",
            "trust": self._settings.ods_code,
            "ae_title": self._settings.ae_title,
            "pid": os.getpid(),
            "dimse_port": self.dimse.port,
            "web_port": self.web.port,
            "control_port": self.control.port or None,
            "base_url": self.web.base_url,
            "patients": self.index.count(Level.PATIENT),
            "studies": self.index.count(Level.STUDY),
            "instances": self.index.count(Level.IMAGE),
        }

    async def _open_doors(self, web_port: int, dimse_port: int) -> None:
        await self.web.open(web_port, [*qido.routes(self.web), *wado.routes(self.web)])
        self.dimse.open(dimse_port)
        self._doors_are_open = True

    async def _close_doors(self) -> None:
        if self._doors_are_open:
            self._doors_are_open = False
            self.dimse.close()
            await self.web.close()


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later (PS3.15 B.12), with a client certificate if a CA for them is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.client_ca)
    return context


def _calling_context(files: TlsFiles) -> ssl.SSLContext:
    """The same for associations that it opens itself, to the destinations of C-MOVE."""
    context = ssl.create_default_context(cafile=files.client_ca)
    context.load_cert_chain(files.certificate, files.key)
    return context
