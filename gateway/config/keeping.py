"""`[keys]`, `[cache]`, `[jobs]`: what keeps images at rest, and the work on them.

What each setting does stands in `gateway.toml`; how keys hang together, in docs/keys.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.config.values import AnyPath, ReadableFile, SecretFile, Section, Text
from gateway.model.work.jobs import Capacity, Lane, RetryTerms
from gateway.model.work.transfers import CacheClass

MIB = 1024**2
GIB = 1024**3
Room = Annotated[int, Field(ge=0, le=2**50)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class WrapperKind(StrEnum):
    """What guards the master keys."""

    FILE = "file"
    VAULT = "vault"
    KMS = "kms"


class VaultSection(Section):
    """`[keys.vault]`: Vault's transit engine."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#]+$")]
    ca: ReadableFile | None = None
    token_file: SecretFile
    key: Text
    mount: Text = "transit"
    namespace: Annotated[str, Field(max_length=200)] = ""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0


class KmsSection(Section):
    """`[keys.kms]`: AWS KMS, with the extra `[aws]`."""

    region: Text
    endpoint_url: Annotated[str, Field(pattern=r"^$|^https?://[^\s?#]+$")] = ""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0


class KeysSection(Section):
    """`[keys]`: the key store, and what guards its master keys."""

    url: Annotated[str, Field(pattern=r"^$|^sqlite:///.+|^postgresql\+psycopg://.*")] = ""
    password_file: SecretFile | None = None
    wrapper: WrapperKind = WrapperKind.FILE
    file: AnyPath = Field(default=Path("var/keys/master-keys.json"), validate_default=True)
    vault: VaultSection | None = None
    kms: KmsSection | None = None
    shred_after_hours: Annotated[float, Field(ge=0, le=168)] = 24.0
    watch_s: Annotated[float, Field(gt=0, le=1)] = 0.5
    cached_keys_max: Annotated[int, Field(ge=1, le=1_000_000)] = 4_096
    rewrap_batch_max: Annotated[int, Field(ge=1, le=10_000)] = 500
    lock_wait_s: Annotated[float, Field(ge=0, le=60)] = 10.0


class ObjectStore(StrEnum):
    """Where sealed studies lie."""

    DISK = "disk"
    S3 = "s3"


class S3Section(Section):
    """`[cache.s3]`: a bucket, and what a request of it may cost."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9._/-]*$")] = ""
    region: Text = "eu-west-2"
    endpoint: Annotated[str, Field(pattern=r"^$|^https?://[^\s/?#]+$")] = ""
    virtual_hosted_style: bool = False
    ca: ReadableFile | None = None
    access_key_file: SecretFile | None = None
    secret_key_file: SecretFile | None = None
    session_token_file: SecretFile | None = None
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    request_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    retries_max: Annotated[int, Field(ge=0, le=10)] = 3
    retry_timeout_s: Annotated[float, Field(gt=0, le=240)] = 20.0
    part_bytes: Annotated[int, Field(ge=5 * MIB, le=64 * MIB)] = 8 * MIB
    parts_in_flight_max: Annotated[int, Field(ge=1, le=16)] = 2
    puts_in_flight_max: Annotated[int, Field(ge=1, le=64)] = 8
    reads_in_flight_max: Annotated[int, Field(ge=1, le=64)] = 16


class CacheSection(Section):
    """`[cache]`: where sealed studies lie, and how much room they may take."""

    store: ObjectStore = ObjectStore.DISK
    folder: AnyPath | None = None
    s3: S3Section | None = None
    interactive_bytes_max: Room = 100 * GIB
    meeting_bytes_max: Room = 50 * GIB
    appointment_bytes_max: Room = 50 * GIB
    push_bytes_max: Room = 50 * GIB
    disk_reserve_bytes: Room = 2 * GIB
    readers: Annotated[int, Field(ge=1, le=32)] = 2
    verify_interval_minutes: Annotated[float, Field(gt=0, le=1_440)] = 60.0
    verify_instances_max: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    compare_interval_minutes: Annotated[float, Field(gt=0, le=1_440)] = 15.0
    compare_studies_max: Annotated[int, Field(ge=0, le=10_000)] = 50

    @property
    def quota_bytes(self) -> Mapping[CacheClass, int]:
        """The room of each class."""
        return {
            CacheClass.INTERACTIVE: self.interactive_bytes_max,
            CacheClass.MEETING: self.meeting_bytes_max,
            CacheClass.APPOINTMENT: self.appointment_bytes_max,
            CacheClass.PUSH: self.push_bytes_max,
        }


class CustodySection(Section):
    """`[custody]`: how what trusts sent here by themselves gets back to their archives (SAF-21)."""

    answer_timeout_minutes: Annotated[float, Field(gt=0, le=10_080)] = 60.0
    again_minutes: Annotated[float, Field(gt=0, le=10_080)] = 15.0
    alarm_hours: Annotated[float, Field(gt=0, le=8_760)] = 24.0
    answer_hours: Annotated[float, Field(gt=0, le=8_760)] = 24.0


class JobsSection(Section):
    """`[jobs]`: how this node runs durable jobs, and how long what they did is remembered."""

    at_once_max: Annotated[int, Field(ge=2, le=1_000)] = 16
    emergency_reserved: Annotated[int, Field(ge=0, le=1_000)] = 4
    interactive_reserved: Annotated[int, Field(ge=0, le=1_000)] = 4
    meeting_reserved: Annotated[int, Field(ge=0, le=1_000)] = 2
    lease_s: Annotated[float, Field(ge=5, le=3_600)] = 60.0
    poll_s: Seconds = 2.0
    retry_first_s: Seconds = 5.0
    retry_max_s: Seconds = 900.0
    ended_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 90
    retrievals_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 1_100

    @property
    def reserved(self) -> Mapping[Lane, int]:
        """The places kept for the more urgent lanes."""
        return {
            Lane.EMERGENCY: self.emergency_reserved,
            Lane.INTERACTIVE: self.interactive_reserved,
            Lane.MEETING: self.meeting_reserved,
        }

    @property
    def capacity(self) -> Capacity:
        """How many jobs run at once; raises `ValueError` where nothing is left for the last lane."""
        return Capacity(self.at_once_max, self.reserved)

    @property
    def retry(self) -> RetryTerms:
        """How long a job that failed waits."""
        return RetryTerms(self.retry_first_s, self.retry_max_s)
