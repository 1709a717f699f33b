"""What the cache knows of one object it keeps, and how that is written beside the object itself. Pure.

An entry is sealed like an object, under the same key: without it nobody learns what an object is, and without the
database the index can be made anew. Behind the entry's own words stands the instance's DICOM JSON (DEC-21).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import orjson

from gateway.model.errors import Damaged
from gateway.model.imaging import JsonValue
from gateway.model.work.transfers import CacheClass, CachedInstance, InstanceRef, KeyDomain, Standing
from policy.parties import TrustId
from storage.cache.packs.frames import Extent, decode_extents, encode_extents
from storage.cache.sealed import HEAD_BYTES, Opener, Sealer

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance, and how it lies."""

    instance: CachedInstance
    patient: bytes
    """What stands for the patient."""
    key_id: bytes
    sealed_bytes: int
    extents: tuple[Extent, ...]
    """Of the sealed object; last, its entry."""
    standing: Standing

    def standing_as(self, standing: Standing) -> Kept:
        """The same, good for something else."""
        return replace(self, standing=standing)

    @property
    def object_id(self) -> bytes:
        """The random id that names it."""
        return bytes.fromhex(self.instance.object_id)

    @property
    def chunks(self) -> Sequence[Extent]:
        """Where the sealed object lies."""
        return self.extents[:-1]

    @property
    def held_bytes(self) -> int:
        """The room that it takes."""
        return sum(extent.length for extent in self.extents)


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies beside an object."""

    kept: Kept
    cache_class: CacheClass
    study_date: date | None
    metadata: bytes
    """DICOM JSON."""


def context(ref: InstanceRef, domain: KeyDomain, object_id: bytes) -> bytes:
    """What an object is sealed as: this instance, for this, in this version and no other, which its random id names."""
    return "\0".join(("instance", domain.value, ref.study_uid, ref.series_uid, ref.sop_uid, object_id.hex())).encode()


def seal_entry(entry: Entry, extents: Sequence[Extent], key: bytes, random: Callable[[int], bytes]) -> bytes:
    """The entry of an object whose chunks lie in `extents`."""
    kept = entry.kept
    words = orjson.dumps(_words(entry, extents))
    sealer = Sealer(kept.key_id, key, _entry_context(kept.object_id), random)
    parts = [sealer.head, *sealer.add(len(words).to_bytes(_LENGTH_BYTES, "big") + words), *sealer.add(entry.metadata)]
    return b"".join((*parts, sealer.finish()))


def open_entry(object_id: bytes, sealed: bytes, place: Extent, key: bytes) -> Entry:
    """What an entry at this place tells; raises `Damaged`."""
    opener = Opener(key, _entry_context(object_id), sealed[:HEAD_BYTES], len(sealed))
    spans = [opener.span(number) for number in opener.spans()]
    told = b"".join(opener.open(span.number, sealed[span.sealed_at :][: span.sealed_bytes]) for span in spans)
    length = int.from_bytes(told[:_LENGTH_BYTES], "big") + _LENGTH_BYTES
    return _entry(object_id, orjson.loads(told[_LENGTH_BYTES:length]), place, told[length:])


def _entry_context(object_id: bytes) -> bytes:
    return b"entry\0" + object_id.hex().encode()


def _words(entry: Entry, extents: Sequence[Extent]) -> dict[str, JsonValue]:
    kept, instance = entry.kept, entry.kept.instance
    return {
        "study": instance.ref.study_uid,
        "series": instance.ref.series_uid,
        "sop": instance.ref.sop_uid,
        "class": instance.ref.sop_class_uid,
        "syntax": instance.transfer_syntax,
        "source": instance.source.code,
        "custodian": instance.custodian.code,
        "bytes": instance.plain_bytes,
        "digest": instance.digest.hex(),
        "version": instance.version,
        "received": instance.received_at.isoformat(),
        "domain": instance.domain.value,
        "pixels": instance.has_pixels,
        "sole": instance.is_sole_copy,
        "content": instance.content_digest.hex(),
        "patient": kept.patient.hex(),
        "key": kept.key_id.hex(),
        "sealed": kept.sealed_bytes,
        "extents": encode_extents(extents).hex(),
        "standing": kept.standing.value,
        "for": entry.cache_class.value,
        "date": entry.study_date.isoformat() if entry.study_date else "",
    }


def _entry(object_id: bytes, said: dict[str, str], place: Extent, metadata: bytes) -> Entry:
    try:
        instance = CachedInstance(
            ref=InstanceRef(said["study"], said["series"], said["sop"], said["class"]),
            transfer_syntax=said["syntax"],
            source=TrustId(said["source"]),
            custodian=TrustId(said["custodian"]),
            object_id=object_id.hex(),
            plain_bytes=int(said["bytes"]),
            digest=bytes.fromhex(said["digest"]),
            version=int(said["version"]),
            received_at=datetime.fromisoformat(said["received"]),
            domain=KeyDomain(said["domain"]),
            has_pixels=bool(said["pixels"]),
            is_sole_copy=bool(said["sole"]),
            content_digest=bytes.fromhex(said["content"]),
        )
        kept = Kept(
            instance=instance,
            patient=bytes.fromhex(said["patient"]),
            key_id=bytes.fromhex(said["key"]),
            sealed_bytes=int(said["sealed"]),
            extents=(*decode_extents(bytes.fromhex(said["extents"])), place),
            standing=Standing(said["standing"]),
        )
        study_date = date.fromisoformat(said["date"]) if said["date"] else None
        return Entry(kept, CacheClass(said["for"]), study_date, metadata)
    except (KeyError, ValueError) as error:
        raise Damaged("an entry of the study cache says nothing that we know") from error
