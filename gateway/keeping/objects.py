"""Where the sealed studies of a configuration lie: packs on the node's disk, or in its part of a bucket.

For `serve`, and for commands that ask how the bucket is. The mark that says whose part it is comes from a key that all
nodes of one database share and no other gateway has.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, assert_never

from gateway.config.configuration import Configuration
from gateway.config.keeping import ObjectStore, S3Section
from gateway.keeping.cache import Room
from gateway.model.errors import ConfigurationError, OutOfReach
from gateway.model.seams import Clock
from storage.cache.packs.objects import LocalObjects
from storage.cache.packs.port import Objects
from storage.cache.remote.settings import BucketSettings
from storage.cache.upkeep import CacheSettings
from storage.observations.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from storage.cache.remote.bucket import Bucket


def open_objects(
    configuration: Configuration, stand_ins: Pseudonyms, clock: Clock, check_room: Callable[[], None]
) -> AbstractAsyncContextManager[Objects]:
    """The place of this node's packs, not entered yet; entering raises `ConfigurationError` or `OutOfReach`.

    `check_room` raises `StoreFull` where the disk may take nothing more: asked of what passes without the bucket.
    """
    folder, node = configuration.cache_folder, configuration.gateway.node
    match configuration.cache.store:
        case ObjectStore.DISK:
            return LocalObjects(folder, secrets.token_bytes)
        case ObjectStore.S3:
            # obstore is loaded where it is used: a tenth of a second.
            from storage.cache.remote.tiers import tiered  # noqa: PLC0415

            settings = _settings(_section(configuration), node)
            return tiered(settings, stand_ins.of_place(node), folder, clock, secrets.token_bytes, check_room)
        case _:
            assert_never(configuration.cache.store)


def checked_room(configuration: Configuration, room: Room) -> Callable[[], None]:
    """What raises `StoreFull` before anything is taken in: of a bucket nobody knows how much room it has."""
    return room.check if configuration.cache.store is ObjectStore.DISK else lambda: None


def bucket_of(configuration: Configuration, stand_ins: Pseudonyms, clock: Clock) -> Bucket:
    """This node's part of the bucket, to look at; raises `ConfigurationError` where there is none."""
    from storage.cache.remote.bucket import Bucket  # noqa: PLC0415  # as above
    from storage.cache.remote.reach import Reach  # noqa: PLC0415

    node = configuration.gateway.node
    return Bucket(_settings(_section(configuration), node), stand_ins.of_place(node), Reach(clock))


async def bucket_fault(configuration: Configuration, stand_ins: Pseudonyms, clock: Clock) -> str:
    """Why the bucket of this configuration cannot be had now; empty if it can, or where there is none."""
    if configuration.cache.store is not ObjectStore.S3:
        return ""
    try:
        await bucket_of(configuration, stand_ins, clock).look()
    except OutOfReach as error:
        return str(error)
    return ""


def cache_settings(configuration: Configuration) -> CacheSettings:
    """How this node's cache behaves."""
    section = configuration.cache
    is_remote = section.store is ObjectStore.S3
    readers = _section(configuration).reads_in_flight_max if is_remote else section.readers
    return CacheSettings(configuration.gateway.node, section.quota_bytes, readers)


def _section(configuration: Configuration) -> S3Section:
    if configuration.cache.s3 is None:
        raise ConfigurationError(["cache.s3: must be set"])
    return configuration.cache.s3


def _settings(section: S3Section, node: str) -> BucketSettings:
    return BucketSettings(
        bucket=section.bucket,
        node=node,
        prefix=section.prefix,
        region=section.region,
        endpoint=section.endpoint,
        is_virtual_hosted=section.virtual_hosted_style,
        ca=section.ca,
        access_key_file=section.access_key_file,
        secret_key_file=section.secret_key_file,
        session_token_file=section.session_token_file,
        connect_timeout_s=section.connect_timeout_s,
        request_timeout_s=section.request_timeout_s,
        retries_max=section.retries_max,
        retry_timeout_s=section.retry_timeout_s,
        part_bytes=section.part_bytes,
        parts_in_flight_max=section.parts_in_flight_max,
        puts_in_flight_max=section.puts_in_flight_max,
        reads_in_flight_max=section.reads_in_flight_max,
    )
