"""A portal in a process of its own, over TLS, that fails in every way: what is said of it is what can be known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import tls
from gateway.channels.fhir import FhirChannel, FhirPortal
from gateway.channels.hl7_messages import Names
from gateway.channels.hl7_out import Hl7Channel, Hl7Portal
from gateway.demo.ports import free_port
from gateway.model.reporting.channels import Channel, Receipt
from tests.channels.reports import RENDERING, REPORT, SARAH, Numbers, now
from tests.channels.stub_portal import taken
from tests.gateway.certificates import Authority
from tests.peers import processes

pytestmark = pytest.mark.slow
TIMEOUT_S = 2.0


@contextmanager
def portal(folder: Path, behaviour: str, *, is_trusted: bool = True) -> Iterator[tuple[list[Channel], Path]]:
    """Both channels to one portal, and the record of what it took."""
    authority, other = Authority(folder), Authority(folder / "other")
    theirs, ours = authority.issue("portal", "127.0.0.1"), (authority if is_trusted else other).issue("gateway")
    context = tls.client_context(tls.ClientFiles(ours.certificate, ours.private_key, authority.certificate))
    port, record = free_port(), folder / "record"
    command = [sys.executable, "-m", "tests.channels.stub_portal", str(port), behaviour]
    command += [str(each) for each in (theirs.certificate, theirs.private_key, authority.certificate, record)]
    with processes.running(command, folder / "portal.log", lambda: processes.takes_connections(port)):
        hl7 = Hl7Portal("hl7", "127.0.0.1", port, Names("G", "N", "P", "P"), TIMEOUT_S, context)
        fhir = FhirPortal("fhir", f"https://127.0.0.1:{port}", TIMEOUT_S, context)
        yield [Hl7Channel(hl7, now, Numbers()), FhirChannel(fhir, now, Numbers())], record


@pytest.mark.parametrize(
    ("behaviour", "hl7", "fhir"),
    [
        ("works", Receipt.CONFIRMED, Receipt.CONFIRMED),
        ("refuses", Receipt.REFUSED, Receipt.REFUSED),
        ("errs", Receipt.CONFIRMED, Receipt.UNKNOWN),
        ("hangs", Receipt.UNKNOWN, Receipt.UNKNOWN),
        ("closes", Receipt.UNKNOWN, Receipt.UNKNOWN),
        ("answers by half", Receipt.UNKNOWN, Receipt.UNKNOWN),
        ("answers twice", Receipt.CONFIRMED, Receipt.CONFIRMED),
        ("answers another", Receipt.UNKNOWN, Receipt.CONFIRMED),
    ],
)
async def test_what_became_of_a_report_is_what_can_be_known(
    tmp_path: Path, behaviour: str, hl7: Receipt, fhir: Receipt
) -> None:
    with portal(tmp_path, behaviour) as (channels, record):
        receipts = []
        for channel in channels:
            receipts.append((await channel.put(REPORT, RENDERING)).receipt)
            await channel.close()
        assert receipts == [hl7, fhir]
        assert [what for what, _ in taken(record)] == ["oru", "bundle"]


async def test_a_portal_that_dies_with_the_report_leaves_it_unknown_and_then_failed(tmp_path: Path) -> None:
    with portal(tmp_path, "dies") as ((hl7, _), record):
        assert (await hl7.put(REPORT, RENDERING)).receipt is Receipt.UNKNOWN
        assert (await hl7.withdraw("document-1", SARAH, "Gone.")).receipt is Receipt.FAILED
        assert [what for what, _ in taken(record)] == ["oru"]


async def test_a_portal_that_does_not_trust_us_gets_no_report(tmp_path: Path) -> None:
    with portal(tmp_path, "works", is_trusted=False) as (channels, record):
        for channel in channels:
            assert (await channel.put(REPORT, RENDERING)).receipt in {Receipt.FAILED, Receipt.UNKNOWN}
            await channel.close()
        assert not record.exists()
