"""`[[lookup]]`: services that know more of patients than the registers here, as the file names them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from gateway import tls
from gateway.config.values import ReadableFile, SecretFile, Section, Text


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
