"""Examine the archives of a configuration: from an entry of the file to a report on each, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import assert_never
from urllib.parse import urlsplit

from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import DicomwebPeerEntry, DimsePeerEntry
from gateway.config.transport import AnyPeer, client_files
from gateway.doctor.association import Subject
from gateway.doctor.connection import Place, examine_connection
from gateway.doctor.dicom import examine_dimse
from gateway.doctor.federation import examine_gateway
from gateway.doctor.findings import AT_ONCE, Report
from gateway.doctor.web import WebSubject, examine_dicomweb
from gateway.model.errors import ConfigurationError
from gateway.region import directory_of

_HTTP_PORT, _HTTPS_PORT = 80, 443


async def examine(
    configuration: Configuration, peer: AnyPeer, *, now: datetime, new_uid: Callable[[], str], test_patient: str = ""
) -> Report:
    """Examine one archive; raises `ConfigurationError` where its entry cannot be used."""
    report = Report(peer.trust)
    limits = peer.limits.over(configuration.limits)
    files = client_files(peer)
    secure = tls.client_context(files) if files is not None else None
    match peer:
        case DimsePeerEntry():
            own = configuration.listen.dimse
            calling = peer.calling_ae_title or (own.ae_title if own is not None else None)
            if calling is None:
                raise ConfigurationError([f"peer ({peer.trust}).calling_ae_title: must be set"])
            place = Place(peer.host, peer.port, secure, limits.connect_timeout_s)
            if await examine_connection(place, report, now):
                subject = Subject(place, peer.ae_title, calling, limits, new_uid, test_patient)
                await examine_dimse(subject, report)
        case DicomwebPeerEntry():
            url = urlsplit(peer.url)
            port = url.port or (_HTTPS_PORT if url.scheme == "https" else _HTTP_PORT)
            place = Place(url.hostname or "", port, secure, limits.connect_timeout_s)
            if await examine_connection(place, report, now):
                address = peer.url.rstrip("/")
                web = WebSubject(place, address, peer.character_set, limits, new_uid, test_patient)
                if peer.gateway:
                    await examine_gateway(web, directory_of(configuration).asking, report)
                else:
                    await examine_dicomweb(web, report)
        case _:
            assert_never(peer)
    if peer.limits.peer_requests_at_once_max is not None:
        # No more than this was tried: a profile written without it would take it back.
        report.limits.setdefault(AT_ONCE, peer.limits.peer_requests_at_once_max)
    return report
