"""Judge `[[destination]]`: where images are sent by C-MOVE, whose that is, and which callers may name it.

A destination is a disclosure to the organisation that runs it, so each has one, and each caller's list of them is its
own (SAF-13). Every check yields all that it finds, each with its path. Reads certificates, opens no socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gateway import tls
from gateway.config.configuration import Configuration
from gateway.config.entries import DestinationEntry
from gateway.config.transport import PORT_MAX, is_loopback
from gateway.model.errors import ConfigurationError
from gateway.model.work.commitments import Custody


def destinations(configuration: Configuration) -> Iterator[str]:
    """Destinations that cannot be reached as they are allowed to be, or that stand twice."""
    trusts = {trust.ods for trust in configuration.trust}
    for name, count in Counter(entry.name for entry in configuration.destination).items():
        if count > 1:
            yield f"destination ({name}): stands {count} times"
    for number, entry in enumerate(configuration.destination, start=1):
        place = f"destination {number} ({entry.name})"
        if entry.trust not in trusts:
            yield f"{place}.trust: no [[trust]] has the code {entry.trust}"
        if not 0 < entry.port <= PORT_MAX:
            yield f"{place}.address: a port lies between 1 and {PORT_MAX}"
        yield from _connection(place, entry)


def archives(configuration: Configuration) -> Iterator[str]:
    """Trusts with several archives that take back what the trust sent here: one has to be the archive of record."""
    taking = Counter(entry.trust for entry in configuration.destination if entry.custody is not Custody.NONE)
    for trust, count in taking.items():
        if count > 1:
            yield f"destination: {count} of {trust} have custody: one archive takes back what a trust sent here"
    if taking and configuration.listen.dimse is None:
        yield "destination: custody means nothing without [listen.dimse]"


def callers(configuration: Configuration) -> Iterator[str]:
    """Callers whose lists name what is not there, or two destinations by one AE title."""
    known = {entry.name: entry for entry in configuration.destination}
    for number, caller in enumerate(configuration.caller, start=1):
        place = f"caller {number} ({caller.name}).destinations"
        yield from (
            f"{place}: no [[destination]] is called {name}" for name in caller.destinations if name not in known
        )
        titles = Counter(known[name].ae_title for name in caller.destinations if name in known)
        yield from (
            f"{place}: {count} of them have the AE title {title}" for title, count in titles.items() if count > 1
        )
        if caller.destinations and not caller.ae_titles:
            yield f"{place}: mean nothing without ae_titles"


def _connection(place: str, entry: DestinationEntry) -> Iterator[str]:
    if entry.plain_on_loopback:
        if not is_loopback(entry.host):
            yield f"{place}.address: plain DICOM to another machine is never allowed (SAF-70)"
        return
    for name in ("client_certificate", "client_private_key", "ca"):
        if getattr(entry, name) is None:
            yield f"{place}.{name}: must be set, unless plain_on_loopback = true: both sides show theirs"
    if entry.files is not None:
        try:
            tls.client_context(entry.files)
        except ConfigurationError as error:
            yield from (f"{place}: {problem}" for problem in error.problems)
