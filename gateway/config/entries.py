"""The entries of `gateway.toml` that stand many times: the region's trusts, its callers, its archives, and who
else knows patients.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from dimse.scp.profiles import OnDisconnect
from dimse.status import MissingSources, Refusal
from gateway import tls
from gateway.config.release.sections import TrustReleaseEntry
from gateway.config.values import (
    AeTitle,
    Fingerprint,
    HostAndPort,
    Network,
    ReadableFile,
    SecretFile,
    Section,
    Text,
    Token,
    Trust,
)
from gateway.model.settings import Limits
from gateway.model.work.commitments import Custody
from gateway.sharing.directory import PatientIdAsked
from policy.facts import OrganisationKind
from policy.parties import PrincipalKind, PurposeOfUse


class TrustEntry(Section):
    """`[[trust]]`: an organisation of the region, enrolled or not."""

    ods: Trust
    name: Text
    kind: OrganisationKind = OrganisationKind.NHS_HOSPITAL_TRUST
    enrolled: bool = False
    desk_phone: Annotated[str, Field(max_length=60, pattern=r"^[0-9+() ext.-]*$")] = ""
    patient_id_issuer: Annotated[str, Field(max_length=64)] = ""
    accession_issuer: Annotated[str, Field(max_length=64)] = ""
    ae_alias: AeTitle | None = None
    release: TrustReleaseEntry = TrustReleaseEntry()


class CallerEntry(Section):
    """`[[caller]]`: a system or person that may ask, and the evidence that proves it."""

    name: Token
    trust: Trust
    kind: PrincipalKind = PrincipalKind.SYSTEM
    certificate_sha256: Fingerprint | None = None
    certificate_name: Text | None = None
    addresses: tuple[Network, ...] = ()
    ae_titles: tuple[AeTitle, ...] = ()
    missing_sources: MissingSources | None = None
    refusal: Refusal = Refusal.STATUS
    lenient: bool = False
    character_set: Text = "ISO_IR 100"
    teams: tuple[Text, ...] = ()
    purposes: Annotated[tuple[PurposeOfUse, ...], Field(min_length=1)] = (PurposeOfUse.TREAT,)
    asks_for: tuple[Trust, ...] = ()
    destinations: tuple[Token, ...] = ()
    on_disconnect: OnDisconnect = OnDisconnect.STOP
    high_priority: bool = False
    loopback_only: bool = False


class DestinationEntry(Section):
    """`[[destination]]`: an application entity that images are sent to by C-MOVE, and whose it is."""

    name: Token
    trust: Trust
    ae_title: AeTitle
    address: HostAndPort
    client_certificate: ReadableFile | None = None
    client_private_key: SecretFile | None = None
    ca: ReadableFile | None = None
    plain_on_loopback: bool = False
    associations_max: Annotated[int, Field(gt=0, le=16)] | None = None
    custody: Custody = Custody.NONE

    @property
    def host(self) -> str:
        """The name or address to connect to."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to connect to."""
        return int(self.address.rpartition(":")[2])

    @property
    def files(self) -> tls.ClientFiles | None:
        """What we show it, or None where nothing is shown: plain transport on loopback."""
        if self.plain_on_loopback or not (self.client_certificate and self.client_private_key and self.ca):
            return None
        return tls.ClientFiles(self.client_certificate, self.client_private_key, self.ca)


class PeerLimits(Section):
    """`[peer.limits]`: limits of one peer where they differ from `[limits]`."""

    find_timeout_s: Annotated[float, Field(gt=0)] | None = None
    connect_timeout_s: Annotated[float, Field(gt=0)] | None = None
    peer_matches_max: Annotated[int, Field(gt=0)] | None = None
    peer_requests_at_once_max: Annotated[int, Field(gt=0)] | None = None
    peer_answer_bytes_max: Annotated[int, Field(gt=0)] | None = None
    retrieve_connect_timeout_s: Annotated[float, Field(gt=0)] | None = None
    retrieve_idle_timeout_s: Annotated[float, Field(gt=0)] | None = None
    retrieve_total_timeout_s: Annotated[float, Field(gt=0)] | None = None
    retrieve_associations_max: Annotated[int, Field(gt=0)] | None = None
    retrieve_uids_max: Annotated[int, Field(gt=0)] | None = None

    def over(self, limits: Limits) -> Limits:
        """The limits that hold for this peer."""
        return replace(limits, **self.model_dump(exclude_none=True))


class _Archive(Section):
    """What every kind of peer has."""

    trust: Trust
    client_certificate: ReadableFile | None = None
    client_private_key: SecretFile | None = None
    ca: ReadableFile | None = None
    character_set: Text = "ISO_IR 100"
    patient_id_issuer: Annotated[str, Field(max_length=64)] = ""
    patient_id: PatientIdAsked = PatientIdAsked.NHS_NUMBER
    quirks: tuple[Token, ...] = ()
    gateway: bool = False
    profile: ReadableFile | None = None
    limits: PeerLimits = PeerLimits()


class DicomwebPeerEntry(_Archive):
    """`[[peer]]` with `connector = "dicomweb"`: a trust's archive that is asked by QIDO-RS."""

    connector: Literal["dicomweb"] = "dicomweb"
    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$", max_length=500)]
    plain_http_on_loopback: bool = False


class DimsePeerEntry(_Archive):
    """`[[peer]]` with `connector = "dimse"`: one that is asked by C-FIND."""

    connector: Literal["dimse"]
    address: HostAndPort
    ae_title: AeTitle
    calling_ae_title: AeTitle | None = None
    model: Literal["study-root", "patient-root"] = "study-root"
    fetch: Literal["auto", "get", "move"] = "auto"
    plain_on_loopback: bool = False

    @property
    def host(self) -> str:
        """The name or address to connect to."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to connect to."""
        return int(self.address.rpartition(":")[2])


def _connector(peer: object) -> object:
    return peer.get("connector", "dicomweb") if isinstance(peer, dict) else getattr(peer, "connector", None)


PeerEntry = Annotated[
    Annotated[DicomwebPeerEntry, Tag("dicomweb")] | Annotated[DimsePeerEntry, Tag("dimse")], Discriminator(_connector)
]
"""`[[peer]]`: a trust's archive, and how it is asked."""


class LookupKind(StrEnum):
    """What kind of service is asked of patients."""

    PDS = "pds"
    PIXM = "pixm"


class LookupEntry(Section):
    """`[[lookup]]`: one such service."""

    kind: LookupKind
    url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
    client_certificate: ReadableFile | None = None
    client_private_key: SecretFile | None = None
    ca: ReadableFile | None = None
    plain_http_on_loopback: bool = False
    token_file: SecretFile | None = None
    systems: Annotated[tuple[tuple[Text, Text], ...], Field(max_length=256)] = ()

    @property
    def files(self) -> tls.ClientFiles | None:
        """What it is shown; None where nothing is."""
        if self.client_certificate is None or self.client_private_key is None or self.ca is None:
            return None
        return tls.ClientFiles(self.client_certificate, self.client_private_key, self.ca)
