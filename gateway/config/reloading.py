"""What a reload may change of the doors: their certificates and networks, never their addresses and limits.

Whoever listens goes on listening where it does; what needs a new start is said. Pure.
"""

from __future__ import annotations

from gateway.config.configuration import Configuration
from gateway.config.sections import ListenSection


def listen_as_running(kept: Configuration, new: Configuration) -> ListenSection:
    """The new file's certificates and networks on the addresses in use."""
    machines, people, dimse = kept.listen.machines, kept.listen.people, kept.listen.dimse
    fixed = {"host", "port", "plain_http_on_loopback"}
    if dimse is not None and new.listen.dimse is not None:
        lasting = {"host", "port", "ae_title", "plain_on_loopback"}
        dimse = new.listen.dimse.model_copy(update={name: getattr(dimse, name) for name in lasting})
    hl7 = kept.listen.hl7
    if hl7 is not None and new.listen.hl7 is not None:
        # Its limits too are those of the start.
        renewed = {"certificate", "private_key", "client_ca", "crl"}
        hl7 = hl7.model_copy(update={name: getattr(new.listen.hl7, name) for name in renewed})
    return ListenSection(
        machines=new.listen.machines.model_copy(update={name: getattr(machines, name) for name in fixed}),
        people=new.listen.people.model_copy(update={name: getattr(people, name) for name in fixed}),
        dimse=dimse,
        hl7=hl7,
    )


def association_address(configuration: Configuration) -> object:
    """What of the door for associations only a new start changes."""
    dimse = configuration.listen.dimse
    return dimse and (dimse.host, dimse.port, dimse.ae_title, dimse.plain_on_loopback)
