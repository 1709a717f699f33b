"""`[[channel]]`: ways to patients beside the gateway's own page: a FHIR portal, an HL7 portal, a folder.

What each setting does stands in `gateway.toml`. What does not fit the kind, or would go out in the open, is found by
`gateway.config.release.portals`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from gateway import tls
from gateway.channels.hl7_messages import Deletion
from gateway.config.values import AnyPath, HostAndPort, ReadableFile, SecretFile, Section, Text, Token

Url = Annotated[str, Field(max_length=500, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]


class ChannelKind(StrEnum):
    """What a channel speaks."""

    FHIR = "fhir"
    HL7 = "hl7"
    FOLDER = "folder"


class ChannelEntry(Section):
    """`[[channel]]`: one of them."""

    name: Token
    kind: ChannelKind
    url: Url | None = None
    address: HostAndPort | None = None
    folder: AnyPath | None = None
    recipient_key: ReadableFile | None = None
    client_certificate: ReadableFile | None = None
    client_private_key: SecretFile | None = None
    ca: ReadableFile | None = None
    plain_on_loopback: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 30.0
    checks_proxies: bool = False
    accounts_are_proven: bool = False
    token_url: Url | None = None
    client_id: Annotated[str, Field(max_length=200)] = ""
    client_key: SecretFile | None = None
    client_key_id: Annotated[str, Field(max_length=200)] = ""
    client_algorithm: Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] = "RS512"
    scope: Annotated[str, Field(max_length=500)] = ""
    hl7_names: tuple[Text, Text, Text, Text] = ("GATEWAY", "REGION", "PORTAL", "PORTAL")
    hl7_deletion: Deletion = Deletion.OBR_25_R
    is_idempotent: bool = False

    @property
    def files(self) -> tls.ClientFiles | None:
        """What it is shown; None where nothing is."""
        if self.client_certificate is None or self.client_private_key is None or self.ca is None:
            return None
        return tls.ClientFiles(self.client_certificate, self.client_private_key, self.ca)
