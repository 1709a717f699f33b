"""The region's directory out of the configuration: which organisations there are, who may call, on what evidence."""

from __future__ import annotations

from gateway.config.configuration import Configuration
from gateway.sharing.directory import Directory, TrustEntry
from policy.identity import CallerBinding


def directory_of(configuration: Configuration) -> Directory:
    """The directory that the core looks things up in."""
    return Directory(trust_entries(configuration), caller_bindings(configuration))


def trust_entries(configuration: Configuration) -> list[TrustEntry]:
    """The region's organisations; a peer may say better what its archive means by a bare Patient ID."""
    issuers = {peer.trust: peer.patient_id_issuer for peer in configuration.peer if peer.patient_id_issuer}
    return [
        TrustEntry(
            trust=trust.ods,
            name=trust.name,
            kind=trust.kind,
            is_enrolled=trust.enrolled,
            desk_phone=trust.desk_phone,
            patient_id_issuer=issuers.get(trust.ods, trust.patient_id_issuer),
        )
        for trust in configuration.trust
    ]


def caller_bindings(configuration: Configuration) -> list[CallerBinding]:
    """Who may ask, as policy judges evidence."""
    return [
        CallerBinding(
            name=caller.name,
            trust=caller.trust,
            kind=caller.kind,
            certificate_sha256=caller.certificate_sha256 or "",
            certificate_name=caller.certificate_name or "",
            addresses=caller.addresses,
            ae_titles=caller.ae_titles,
            teams=frozenset(caller.teams),
            purposes=caller.purposes,
            loopback_only=caller.loopback_only,
        )
        for caller in configuration.caller
    ]
