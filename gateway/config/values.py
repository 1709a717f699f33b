"""The kinds of single values in `gateway.toml`: paths, secrets, ODS codes, networks, AE titles; each parsed as read.

What is wrong with a value is said without repeating a secret. Relative paths are relative to the file that names them.
"""

from __future__ import annotations

import os
import stat
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from policy.parties import InvalidIdentifier, TrustId


class Section(BaseModel):
    """A table of the file: nothing unknown in it, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _resolve(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    resolved: Path = (folder / path.expanduser()).absolute()
    return resolved


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"cannot be read by this user: {path}")
    return path


def _secret(path: Path) -> Path:
    mode = stat.S_IMODE(_readable(path).stat().st_mode)
    if mode & 0o037:
        raise ValueError(f"others may read or change it (mode {mode:04o}): chmod 600 {path}")
    return path


def _trust_id(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return TrustId.parse(value)
    except InvalidIdentifier as error:
        raise ValueError(str(error)) from error


def _network(value: object) -> object:
    return ip_network(value, strict=True) if isinstance(value, str) else value


def _fingerprint(value: str) -> str:
    plain = value.replace(":", "").lower()
    if len(plain) != 64 or not set(plain) <= set("0123456789abcdef"):
        raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
    return plain


def _ae_title(value: str) -> str:
    # PS3.5 6.2: spaces at either end are not significant, so a title that has them could never be met as written.
    is_plain = value.isascii() and value.isprintable() and "\\" not in value
    if not 0 < len(value) <= 16 or not is_plain or value != value.strip(" "):
        raise ValueError("an AE title has 1 to 16 ASCII characters, no backslash, and no space at either end")
    return value


AnyPath = Annotated[Path, AfterValidator(_resolve)]
ReadableFile = Annotated[Path, AfterValidator(_resolve), AfterValidator(_readable)]
SecretFile = Annotated[Path, AfterValidator(_resolve), AfterValidator(_secret)]
Trust = Annotated[TrustId, BeforeValidator(_trust_id)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Port = Annotated[int, Field(ge=0, le=65535)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Uid = Annotated[str, Field(max_length=64, pattern=r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$")]
HostAndPort = Annotated[str, Field(max_length=300, pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
LOOPBACK_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
