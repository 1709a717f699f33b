"""The lowest layers of an archive: can it be connected to, whose certificate does it show, does it take ours.

A failed handshake is explained by what failed, on which side, and by the certificate that was shown: for that one more
connection is made that checks nothing and says nothing. Sends no DICOM and no HTTP. RFC 5280, PS3.15 B.12.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import datetime

from gateway import tls
from gateway.doctor.findings import Layer, Report, Verdict

ALERT_WAIT_S = 0.5
"""In TLS 1.3 our certificate is judged only after our side is done: an alert would come in this time."""

_SHOWN_TO_US = {
    "certificate has expired": "the archive must renew its certificate",
    "certificate is not yet valid": "the archive's certificate begins later, or one of the two clocks is wrong",
    "self-signed certificate": "the archive shows a certificate that no authority vouches for: have it certified",
    "unable to get local issuer certificate": "put the authority that certified the archive into `ca` of this [[peer]]",
    "self-signed certificate in certificate chain": "put the authority of the archive's chain into `ca` of this peer",
    "Hostname mismatch": "the certificate is for another name: write that name into the address, or have it re-issued",
    "IP address mismatch": "the certificate does not name this IP address: use the archive's name in the address",
}
_SAID_OF_OURS = {
    "UNKNOWN_CA": "the archive does not know the authority of our client_certificate: send its desk our authority",
    "CERTIFICATE_EXPIRED": "our client_certificate has ended: renew it",
    "CERTIFICATE_REVOKED": "the archive holds our client_certificate for revoked: ask its desk",
    "CERTIFICATE_UNKNOWN": "the archive does not accept our client_certificate: ask its desk which it expects",
    "BAD_CERTIFICATE": "the archive cannot use our client_certificate: ask its desk which it expects",
    "CERTIFICATE_REQUIRED": "the archive saw no certificate of ours: set client_certificate",
    "ACCESS_DENIED": "the archive knows our certificate and does not admit it: ask its desk",
    "HANDSHAKE_FAILURE": "no suite of BCP 195 in common: the archive must offer TLS 1.2 with ECDHE and AES-GCM, or 1.3",
    "PROTOCOL_VERSION": "the archive speaks only a TLS older than 1.2: it must be brought up to date",
    "UNSUPPORTED_PROTOCOL": "the archive speaks only a TLS older than 1.2: it must be brought up to date",
    "WRONG_VERSION_NUMBER": "no TLS is spoken at this port: the secure port is another one, or TLS is off there",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an archive is, and how it is connected to."""

    host: str
    port: int
    secure: ssl.SSLContext | None
    connect_timeout_s: float


async def examine_connection(place: Place, report: Report, now: datetime) -> bool:
    """Check TCP, and TLS where it is spoken; whether the next layer can be tried."""
    if not await _tcp(place, report):
        return False
    if place.secure is None:
        report.add(Layer.TLS, "handshake", Verdict.NOTE, "none: plain, on this machine only")
        return True
    return await _tls(place, place.secure, report, now)


async def _tcp(place: Place, report: Report) -> bool:
    began = time.monotonic()
    try:
        async with asyncio.timeout(place.connect_timeout_s):
            _, writer = await asyncio.open_connection(place.host, place.port)
    except TimeoutError:
        found = f"no answer in {place.connect_timeout_s:g} s"
        advice = "a firewall drops the packets, or the machine is off: ask its desk to open this port for our address"
    except socket.gaierror:
        found, advice = "the host name is not known", "look for a mistake in the address, or ask our DNS"
    except ConnectionRefusedError:
        found = "connection refused"
        advice = "nothing listens at this port: look for a mistake in it, or ask its desk to start the service"
    except OSError as error:
        found, advice = f"no connection: {error.strerror or 'no route'}", "ask our network and theirs for the route"
    else:
        await _hang_up(writer)
        report.add(Layer.TCP, "connect", Verdict.GOOD, "connected", duration_s=time.monotonic() - began)
        return True
    report.add(Layer.TCP, "connect", Verdict.FAILED, found, advice)
    return False


async def _tls(place: Place, secure: ssl.SSLContext, report: Report, now: datetime) -> bool:
    began = time.monotonic()
    try:
        async with asyncio.timeout(place.connect_timeout_s):
            reader, writer = await asyncio.open_connection(
                place.host, place.port, ssl=secure, server_hostname=place.host
            )
    except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
        _explain(report, error)
        await _show_unchecked(place, report, now)
        return False
    duration_s = time.monotonic() - began
    connection = writer.get_extra_info("ssl_object")
    try:
        refused = await _refusal_of_ours(reader)
    finally:
        await _hang_up(writer)
    if refused is not None:
        _explain(report, refused)
        return False
    found = f"{connection.version()}, {connection.cipher()[0]}"
    report.add(Layer.TLS, "handshake", Verdict.GOOD, found, duration_s=duration_s)
    _show(report, connection.getpeercert(binary_form=True), now)
    return True


async def _refusal_of_ours(reader: asyncio.StreamReader) -> OSError | None:
    """What the archive says of our certificate behind the handshake; None if nothing."""
    try:
        async with asyncio.timeout(ALERT_WAIT_S):
            if await reader.read(1):
                return None
    except TimeoutError:
        return None
    except OSError as error:
        return error
    return ConnectionResetError("the archive hung up at once")


def _explain(report: Report, error: BaseException) -> None:
    advice = "ask the archive's desk what its log says of this moment"
    match error:
        case ssl.SSLCertVerificationError():
            found = f"the archive's certificate is not accepted: {error.verify_message}"
            advice = next(
                (words for start, words in _SHOWN_TO_US.items() if error.verify_message.startswith(start)), advice
            )
        case ssl.SSLError():
            reason = str(error.reason or "refused")
            found = f"TLS failed: {reason.replace('_', ' ').lower()}"
            advice = next((words for end, words in _SAID_OF_OURS.items() if reason.endswith(end)), advice)
        case TimeoutError():
            found, advice = "connected, but no TLS in time", "perhaps no TLS is spoken at this port: ask its desk"
        case _:
            found = "the archive hung up in the handshake"
            advice = "perhaps it does not take our certificate, or speaks no TLS at this port: ask its desk"
    report.add(Layer.TLS, "handshake", Verdict.FAILED, found, advice)


async def _show_unchecked(place: Place, report: Report, now: datetime) -> None:
    """Say whose certificate is shown there, believing nothing of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(place.connect_timeout_s):
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=context, server_hostname=place.host)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await _hang_up(writer)
        _show(report, shown, now)


def _show(report: Report, encoded: bytes | None, now: datetime) -> None:
    shown = tls.shown_certificate(encoded) if encoded else None
    if shown is None:
        return
    days = shown.validity.days_left(now)
    found = f"{shown.subject}, by {shown.issuer}, {days:.0f} days left"
    warning = shown.validity.warning_day(now)
    if warning is None:
        report.add(Layer.TLS, "certificate", Verdict.GOOD, found)
    else:
        report.add(Layer.TLS, "certificate", Verdict.WARNING, found, "the archive must renew its certificate")


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ALERT_WAIT_S):
            await writer.wait_closed()
