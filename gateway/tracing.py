"""The lookups of one configuration, as the core asks them. Opens no socket; reads certificates and tokens."""

from __future__ import annotations

from typing import assert_never

from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.lookups import LookupEntry, LookupKind
from gateway.lookups.fhir import FhirServer
from gateway.lookups.pds import PdsLookup
from gateway.lookups.pixm import PixmLookup
from gateway.model.seams import Clock, PatientLookup, SupersessionBook
from gateway.sharing.identity.tracing import Tracing


def tracing_of(configuration: Configuration, book: SupersessionBook, clock: Clock) -> Tracing:
    """Everything that is asked of a patient before a question; raises `ConfigurationError`."""
    lookups = [_lookup(entry) for entry in configuration.lookup]
    return Tracing(lookups, book, configuration.identity, clock)


def _lookup(entry: LookupEntry) -> PatientLookup:
    secure = tls.client_context(entry.files) if entry.files is not None else None
    token = entry.token_file.read_text(encoding="utf-8").strip() if entry.token_file is not None else ""
    server = FhirServer(entry.url.rstrip("/"), secure, token)
    match entry.kind:
        case LookupKind.PDS:
            return PdsLookup(server)
        case LookupKind.PIXM:
            return PixmLookup(server, dict(entry.systems))
        case _:
            assert_never(entry.kind)
