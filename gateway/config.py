"""Turn `gateway.toml` and the environment into one frozen `Configuration`, or name everything that is wrong with it.

The only module that knows pydantic. Environment variables `GATEWAY__SECTION__NAME` win over the file. Secrets are paths
of files, never values. Relative paths are relative to the file. What one value cannot say by itself (a caller of an
unknown trust, plain HTTP to a distant peer) is judged in `gateway.checks`. Facts about patients live in the database,
never here. `gateway.toml` at the root of the repository documents every option; a test compares the two.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from gateway.model.settings import Limits, SharingSettings
from policy.facts import OrganisationKind
from policy.optout import CaseTerms
from policy.parties import InvalidIdentifier, PrincipalKind, PurposeOfUse, TrustId
from policy.settings import Mode, Settings

ENVIRONMENT_PREFIX = "GATEWAY__"
PROBLEMS_MAX = 200
"""Problems reported at once; a file with more is not a gateway's."""


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


AnyPath = Annotated[Path, AfterValidator(_resolve)]
ReadableFile = Annotated[Path, AfterValidator(_resolve), AfterValidator(_readable)]
SecretFile = Annotated[Path, AfterValidator(_resolve), AfterValidator(_secret)]
Trust = Annotated[TrustId, BeforeValidator(_trust_id)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Port = Annotated[int, Field(ge=0, le=65535)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]
_POSTGRESQL = "postgresql+psycopg://"
LOOPBACK_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySection(_Section):
    """`[gateway]`: who this node is and where its own files lie."""

    node: Token = "gateway-1"
    mode: Mode
    region: Text = "Demo region"
    data_folder: AnyPath = Field(default=Path("var/data"), validate_default=True)
    log_level: LogLevel = LogLevel.INFO
    log_form: LogForm = LogForm.AUTO


class PeopleListener(_Section):
    """`[listen.people]`: the door for people, monitoring and health probes; TLS without client certificates."""

    host: Text = "127.0.0.1"
    port: Port = 8444
    certificate: ReadableFile | None = None
    private_key: SecretFile | None = None
    plain_http_on_loopback: bool = False
    metrics_from: tuple[Network, ...] = LOOPBACK_NETWORKS


class MachinesListener(_Section):
    """`[listen.machines]`: the door for DICOMweb; a client certificate is required (DEC-02)."""

    host: Text = "127.0.0.1"
    port: Port = 8443
    certificate: ReadableFile | None = None
    private_key: SecretFile | None = None
    client_ca: ReadableFile | None = None
    crl: ReadableFile | None = None
    plain_http_on_loopback: bool = False


class ListenSection(_Section):
    """`[listen]`: the two doors."""

    machines: MachinesListener = MachinesListener()
    people: PeopleListener = PeopleListener()


class StorageSection(_Section):
    """`[storage]`: where registers and audit are kept."""

    url: Annotated[str, Field(pattern=r"^$|^sqlite:///.+|^postgresql\+psycopg://.*")] = ""
    password_file: SecretFile | None = None
    readers: Annotated[int, Field(ge=1, le=16)] = 3


class AuditSection(_Section):
    """`[audit]`: how the audit is kept safe from loss and from later change."""

    signing_key: AnyPath = Field(default=Path("var/keys/audit-signing.pem"), validate_default=True)
    anchor_path: AnyPath = Field(default=Path("var/anchor/checkpoints.jsonl"), validate_default=True)
    reserve_path: AnyPath = Field(default=Path("var/reserve/audit-reserve.bin"), validate_default=True)
    reserve_bytes: Annotated[int, Field(ge=65_536, le=2**40)] = 16 * 1024 * 1024
    checkpoint_every_records: Annotated[int, Field(ge=1)] = 1_000
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 300.0


class OptOutSection(_Section):
    """`[opt_out]`: the region's promises to who opts out or in again (SAF-23)."""

    acknowledge_working_days: Annotated[int, Field(ge=1, le=30)] = 2
    implement_working_days: Annotated[int, Field(ge=1, le=30)] = 5
    provisional_restriction: bool = True
    bank_holidays: tuple[date, ...] = ()

    @property
    def terms(self) -> CaseTerms:
        """The promises as policy counts them."""
        return CaseTerms(self.acknowledge_working_days, self.implement_working_days, self.provisional_restriction)


class DicomwebSection(_Section):
    """`[dicomweb]`: how this gateway appears to DICOMweb clients."""

    public_base_url: Annotated[str, Field(pattern=r"^$|^https?://[^\s?#]+$")] = ""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^\s/?#]+$")], ...] = ()


class TrustEntry(_Section):
    """`[[trust]]`: an organisation of the region, enrolled or not."""

    ods: Trust
    name: Text
    kind: OrganisationKind = OrganisationKind.NHS_HOSPITAL_TRUST
    enrolled: bool = False
    desk_phone: Annotated[str, Field(max_length=60, pattern=r"^[0-9+() ext.-]*$")] = ""
    patient_id_issuer: Annotated[str, Field(max_length=64)] = ""


class CallerEntry(_Section):
    """`[[caller]]`: a system or person that may ask, and the evidence that proves it."""

    name: Token
    trust: Trust
    kind: PrincipalKind = PrincipalKind.SYSTEM
    certificate_sha256: Annotated[str, AfterValidator(_fingerprint)] | None = None
    certificate_name: Text | None = None
    addresses: tuple[Network, ...] = ()
    ae_titles: tuple[AeTitle, ...] = ()
    teams: tuple[Text, ...] = ()
    purposes: Annotated[tuple[PurposeOfUse, ...], Field(min_length=1)] = (PurposeOfUse.TREAT,)
    loopback_only: bool = False


class PeerLimits(_Section):
    """`[peer.limits]`: limits of one peer where they differ from `[limits]`."""

    find_timeout_s: Annotated[float, Field(gt=0)] | None = None
    connect_timeout_s: Annotated[float, Field(gt=0)] | None = None
    peer_matches_max: Annotated[int, Field(gt=0)] | None = None
    peer_requests_at_once_max: Annotated[int, Field(gt=0)] | None = None
    peer_answer_bytes_max: Annotated[int, Field(gt=0)] | None = None

    def over(self, limits: Limits) -> Limits:
        """The limits that hold for this peer."""
        return replace(limits, **self.model_dump(exclude_none=True))


class PeerEntry(_Section):
    """`[[peer]]`: a trust's archive, and how it is asked."""

    trust: Trust
    connector: Literal["dicomweb"] = "dicomweb"
    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$", max_length=500)]
    client_certificate: ReadableFile | None = None
    client_private_key: SecretFile | None = None
    ca: ReadableFile | None = None
    plain_http_on_loopback: bool = False
    character_set: Text = "ISO_IR 100"
    patient_id_issuer: Annotated[str, Field(max_length=64)] = ""
    quirks: tuple[Token, ...] = ()
    limits: PeerLimits = PeerLimits()


class Configuration(_Section):
    """All of `gateway.toml`, checked value by value; frozen."""

    gateway: GatewaySection
    listen: ListenSection = ListenSection()
    storage: StorageSection = StorageSection()
    audit: AuditSection
    policy: Settings = Settings()
    sharing: SharingSettings = SharingSettings()
    limits: Limits = Limits()
    opt_out: OptOutSection = OptOutSection()
    dicomweb: DicomwebSection = DicomwebSection()
    trust: tuple[TrustEntry, ...] = ()
    caller: tuple[CallerEntry, ...] = ()
    peer: tuple[PeerEntry, ...] = ()

    @property
    def policy_settings(self) -> Settings:
        """The region's choices about policy, in this gateway's mode."""
        return replace(self.policy, mode=self.gateway.mode)

    @property
    def store_url(self) -> str:
        """The database's address with its password, if it has one; never to be logged."""
        if not self.storage.url:
            return f"sqlite:///{self.gateway.data_folder / 'gateway.db'}"
        if self.storage.password_file is None:
            return self.storage.url
        address, _, rest = self.storage.url.removeprefix(_POSTGRESQL).partition("@")
        password = quote(self.storage.password_file.read_text(encoding="utf-8").strip(), safe="")
        return f"{_POSTGRESQL}{address}:{password}@{rest}"


class _Environment(Configuration, BaseSettings):
    """Tells pydantic-settings which variables to read; never validated itself."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__")


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read of a file, and what is wrong with the rest.

    `configuration` lacks the entries of `broken` lists that did not parse; broken single sections are at their
    defaults. None when nothing could be read at all.
    """

    configuration: Configuration | None
    problems: tuple[str, ...]
    broken: frozenset[str]


def read(path: Path) -> Reading:
    """Read the file and the environment over it. Raises nothing: everything wrong is in `problems`, with its path."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return Reading(None, (f"{path}: cannot be read: {error.strerror}",), frozenset())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Reading(None, (f"{path}: not TOML: {error}",), frozenset())
    try:
        tables = _over(tables, EnvSettingsSource(_Environment)())
    except SettingsError as error:
        return Reading(None, (f"environment: {error}",), frozenset())
    for section in ("gateway", "audit"):
        tables.setdefault(section, {})
    return _validated(tables, path.absolute().parent, [*_unknown_variables(), *_modes(tables)])


def _validated(tables: dict[str, object], folder: Path, problems: Sequence[str]) -> Reading:
    context = {"folder": folder}
    try:
        return Reading(Configuration.model_validate(tables, context=context), tuple(problems), frozenset())
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    texts = [*problems, *(f"{_place(item['loc'], tables)}: {_words(item)}" for item in found[:PROBLEMS_MAX])]
    places = [item["loc"] for item in found]
    try:
        rest = Configuration.model_validate(_without(tables, places), context=context)
    except ValidationError:
        rest = None
    return Reading(rest, tuple(texts), frozenset(str(place[0]) for place in places))


def _over(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _unknown_variables() -> list[str]:
    names = [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]
    sections = Configuration.model_fields
    return [
        f"{name}: no such section"
        for name in sorted(names)
        if name.removeprefix(ENVIRONMENT_PREFIX).partition("__")[0].lower() not in sections
    ]


def _modes(tables: Mapping[str, object]) -> list[str]:
    policy = tables.get("policy")
    is_doubled = isinstance(policy, dict) and "mode" in policy
    return ["policy.mode: is set as gateway.mode, for all of the gateway"] * is_doubled


def _place(loc: tuple[int | str, ...], tables: Mapping[str, object]) -> str:
    """Write `("peer", 1, "url")` as `peer 2 (RX2).url`: people count from one and know entries by name."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return ".".join(map(str, loc))
    entries = tables.get(str(loc[0]))
    entry = entries[loc[1]] if isinstance(entries, list) and loc[1] < len(entries) else None
    names = [entry[key] for key in ("ods", "name", "trust") if key in entry] if isinstance(entry, dict) else []
    name = f" ({names[0]})" if names else ""
    return ".".join([f"{loc[0]} {loc[1] + 1}{name}", *map(str, loc[2:])])


def _words(item: ErrorDetails) -> str:
    match item["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "no such setting"
        case "missing":
            return "must be set"
        case _:
            pass
    message = item["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _without(tables: Mapping[str, object], places: Sequence[tuple[int | str, ...]]) -> dict[str, object]:
    """Leave out what is broken: an entry of a list, else the whole section."""
    entries = {(place[0], place[1]) for place in places if len(place) > 1 and isinstance(place[1], int)}
    whole = {place[0] for place in places} - {section for section, _ in entries}
    kept: dict[str, object] = {"gateway": {"mode": Mode.PRODUCTION}, "audit": {}}
    for section, value in tables.items():
        if section in whole:
            continue
        if isinstance(value, list):
            value = [entry for index, entry in enumerate(value) if (section, index) not in entries]  # noqa: PLW2901
        kept[section] = value
    return kept
