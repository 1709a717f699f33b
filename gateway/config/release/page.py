"""`[patient_page]`: the patient's page at the people's door, and where its patients sign in.

What each setting does stands in `gateway.toml`. There is no page unless the section stands in the file.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from gateway.config.values import ReadableFile, SecretFile, Section, Text

PAGE_CHANNEL: Final = "patient-page"
"""What a trust calls the gateway's own page among its `channels`."""

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]
"""Asymmetric ones alone: "none" and shared secrets cannot be written."""


def _secure(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https://; plain http is for a loopback address only")
    return address


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


Address = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=500), AfterValidator(_secure)]
Origin = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+$", max_length=300), AfterValidator(_secure)]


class PatientPageSection(Section):
    """`[patient_page]`: NHS login, or a provider shaped like it, and how long a sign-in lasts."""

    public_base_url: Origin
    issuer: Address
    client_id: Text
    client_key: SecretFile
    client_key_id: Annotated[str, Field(max_length=200)] = ""
    client_algorithm: Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] = "RS512"
    ca: ReadableFile | None = None
    scope: Annotated[str, Field(pattern=r"^openid( [!-~]+)*$", max_length=500)] = "openid profile"
    trust_vector: Annotated[tuple[Text, ...], Field(max_length=8)] = ("P9.Cp.Cd", "P9.Cp.Ck", "P9.Cm")
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1, max_length=8)] = ("RS512",)
    bearer_audience: Annotated[str, Field(max_length=500)] = ""
    provider_name: Text = "NHS login"
    help_words: Annotated[str, Field(max_length=500)] = ""
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 5.0
    leeway_s: Annotated[int, Field(ge=0, le=30)] = 30
    token_age_max_s: Annotated[int, Field(ge=30, le=3_600)] = 600
    bearer_age_max_s: Annotated[int, Field(ge=30, le=3_600)] = 3_600
    keys_fresh_minutes: Annotated[float, Field(gt=0, le=1_440)] = 60.0
    keys_stale_max_hours: Annotated[float, Field(gt=0, le=168)] = 24.0
    keys_refetch_min_s: Annotated[float, Field(ge=1, le=3_600)] = 60.0
    sign_in_minutes: Annotated[float, Field(ge=1, le=60)] = 10.0
    session_idle_minutes: Annotated[float, Field(ge=1, le=60)] = 15.0
    session_minutes: Annotated[float, Field(ge=1, le=720)] = 60.0
    sessions_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
