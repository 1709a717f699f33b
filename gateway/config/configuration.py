"""All of `gateway.toml` as one frozen value, and what follows from it by itself.

`gateway.toml` at the root of the repository documents every option; a test compares the two.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from gateway.config.entries import CallerEntry, DestinationEntry, LookupEntry, PeerEntry, TrustEntry
from gateway.config.keeping import CacheSection, CustodySection, JobsSection, KeysSection
from gateway.config.release.channels import ChannelEntry
from gateway.config.release.feeds import ReportFeedEntry
from gateway.config.release.page import PatientPageSection
from gateway.config.release.sections import ReleaseSection
from gateway.config.sections import (
    AuditSection,
    DicomwebSection,
    DimseSection,
    GatewaySection,
    ListenSection,
    OptOutSection,
    StorageSection,
    ViewerSection,
)
from gateway.config.values import Section
from gateway.model.settings import IdentitySettings, Limits, SharingSettings
from gateway.pixels.limits import PixelLimits
from gateway.sharing.conduct.ledger import Budgets
from policy.settings import Settings

_POSTGRESQL = "postgresql+psycopg://"


class Configuration(Section):
    """All of `gateway.toml`, checked value by value; frozen."""

    gateway: GatewaySection
    listen: ListenSection = ListenSection()
    storage: StorageSection = StorageSection()
    audit: AuditSection
    keys: KeysSection = KeysSection()
    cache: CacheSection = CacheSection()
    jobs: JobsSection = JobsSection()
    custody: CustodySection = CustodySection()
    policy: Settings = Settings()
    sharing: SharingSettings = SharingSettings()
    identity: IdentitySettings = IdentitySettings()
    limits: Limits = Limits()
    conduct: Budgets = Budgets()
    opt_out: OptOutSection = OptOutSection()
    dicomweb: DicomwebSection = DicomwebSection()
    pixels: PixelLimits = PixelLimits()
    viewer: ViewerSection = ViewerSection()
    dimse: DimseSection = DimseSection()
    release: ReleaseSection = ReleaseSection()
    patient_page: PatientPageSection | None = None
    trust: tuple[TrustEntry, ...] = ()
    caller: tuple[CallerEntry, ...] = ()
    peer: tuple[PeerEntry, ...] = ()
    destination: tuple[DestinationEntry, ...] = ()
    report_feed: Annotated[tuple[ReportFeedEntry, ...], Field(max_length=512)] = ()
    channel: Annotated[tuple[ChannelEntry, ...], Field(max_length=64)] = ()
    lookup: Annotated[tuple[LookupEntry, ...], Field(max_length=8)] = ()

    @property
    def policy_settings(self) -> Settings:
        """The region's choices about policy, in this gateway's mode."""
        return replace(self.policy, mode=self.gateway.mode)

    @property
    def store_url(self) -> str:
        """The database's address with its password, if it has one; never to be logged."""
        return _with_password(self.storage, self.gateway.data_folder / "gateway.db")

    @property
    def key_store_url(self) -> str:
        """The key store's address, likewise."""
        return _with_password(self.keys, self.gateway.data_folder / "keys.db")

    @property
    def cache_folder(self) -> Path:
        """Where this node's sealed studies lie: below what nodes may share, a folder of its own."""
        return (self.cache.folder or self.gateway.data_folder / "cache") / self.gateway.node

    @property
    def notices_folder(self) -> Path:
        """Where notices to staff are laid down, in a folder for each trust."""
        return self.release.notices_folder or self.gateway.data_folder / "notices"


def _with_password(section: StorageSection | KeysSection, file: Path) -> str:
    if not section.url:
        return f"sqlite:///{file}"
    if section.password_file is None:
        return section.url
    address, _, rest = section.url.removeprefix(_POSTGRESQL).partition("@")
    password = quote(section.password_file.read_text(encoding="utf-8").strip(), safe="")
    return f"{_POSTGRESQL}{address}:{password}@{rest}"
