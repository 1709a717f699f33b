"""The sections of `gateway.toml` that stand once: the node, its doors, its storage, its audit, its promises."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.config.release.feeds import Hl7Listener
from gateway.config.values import (
    LOOPBACK_NETWORKS,
    AeTitle,
    AnyPath,
    Network,
    Port,
    ReadableFile,
    SecretFile,
    Section,
    Text,
    Token,
    Uid,
)
from policy.optout import CaseTerms
from policy.settings import Mode


class LogForm(StrEnum):
    """How a log event is written."""

    AUTO = "auto"
    """Console lines on a terminal, JSON lines elsewhere."""
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least severe event that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class GatewaySection(Section):
    """`[gateway]`: who this node is and where its own files lie."""

    node: Token = "gateway-1"
    mode: Mode
    region: Text = "Demo region"
    data_folder: AnyPath = Field(default=Path("var/data"), validate_default=True)
    log_level: LogLevel = LogLevel.INFO
    log_form: LogForm = LogForm.AUTO


class PeopleListener(Section):
    """`[listen.people]`: the door for people, monitoring and health probes; TLS without client certificates."""

    host: Text = "127.0.0.1"
    port: Port = 8444
    certificate: ReadableFile | None = None
    private_key: SecretFile | None = None
    plain_http_on_loopback: bool = False
    metrics_from: tuple[Network, ...] = LOOPBACK_NETWORKS


class MachinesListener(Section):
    """`[listen.machines]`: the door for DICOMweb; a client certificate is required (DEC-02)."""

    host: Text = "127.0.0.1"
    port: Port = 8443
    certificate: ReadableFile | None = None
    private_key: SecretFile | None = None
    client_ca: ReadableFile | None = None
    crl: ReadableFile | None = None
    plain_http_on_loopback: bool = False


class DimseListener(Section):
    """`[listen.dimse]`: the door for DICOM associations; a client certificate is required (PS3.15 B.12).

    There is none unless the section stands in the file.
    """

    host: Text = "127.0.0.1"
    port: Port = 2762
    ae_title: AeTitle
    certificate: ReadableFile | None = None
    private_key: SecretFile | None = None
    client_ca: ReadableFile | None = None
    crl: ReadableFile | None = None
    plain_on_loopback: bool = False


AnyListener = MachinesListener | PeopleListener | DimseListener | Hl7Listener


class ListenSection(Section):
    """`[listen]`: the doors."""

    machines: MachinesListener = MachinesListener()
    people: PeopleListener = PeopleListener()
    dimse: DimseListener | None = None
    hl7: Hl7Listener | None = None


class StorageSection(Section):
    """`[storage]`: where registers and audit are kept."""

    url: Annotated[str, Field(pattern=r"^$|^sqlite:///.+|^postgresql\+psycopg://.*")] = ""
    password_file: SecretFile | None = None
    readers: Annotated[int, Field(ge=1, le=16)] = 3
    location_key: AnyPath = Field(default=Path("var/keys/location-index.key"), validate_default=True)


class AuditSection(Section):
    """`[audit]`: how the audit is kept safe from loss and from later change."""

    signing_key: AnyPath = Field(default=Path("var/keys/audit-signing.pem"), validate_default=True)
    anchor_path: AnyPath = Field(default=Path("var/anchor/checkpoints.jsonl"), validate_default=True)
    reserve_path: AnyPath = Field(default=Path("var/reserve/audit-reserve.bin"), validate_default=True)
    reserve_bytes: Annotated[int, Field(ge=65_536, le=2**40)] = 16 * 1024 * 1024
    checkpoint_every_records: Annotated[int, Field(ge=1)] = 1_000
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 300.0


class OptOutSection(Section):
    """`[opt_out]`: the region's promises to who opts out or in again (SAF-23)."""

    acknowledge_working_days: Annotated[int, Field(ge=1, le=30)] = 2
    implement_working_days: Annotated[int, Field(ge=1, le=30)] = 5
    provisional_restriction: bool = True
    bank_holidays: tuple[date, ...] = ()

    @property
    def terms(self) -> CaseTerms:
        """The promises as policy counts them."""
        return CaseTerms(self.acknowledge_working_days, self.implement_working_days, self.provisional_restriction)


class DicomwebSection(Section):
    """`[dicomweb]`: how this gateway appears to DICOMweb clients."""

    public_base_url: Annotated[str, Field(pattern=r"^$|^https?://[^\s?#]+$")] = ""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^\s/?#]+$")], ...] = ()


class ViewerSection(Section):
    """`[viewer]`: where the viewer that is served at the machines' door is unpacked."""

    folder: AnyPath = Field(default=Path("var/viewer"), validate_default=True)


class DimseSection(Section):
    """`[dimse]`: how this gateway appears to DICOM associations."""

    private_sop_classes: Annotated[tuple[Uid, ...], Field(max_length=64)] = ()
