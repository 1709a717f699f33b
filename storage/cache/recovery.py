"""Make packs and index agree when the cache starts, whatever the last process did not come to (I1 to I3).

Reads the index once and, of the packs, only those that were not settled. What is durable and not indexed is opened
from end to end and then indexed; what was indexed and does not lie there any more is forgotten, to be fetched again;
whatever belongs to no object gives its room back. Keys that are closed open what they sealed here as well, for it may
be a sole copy (SAF-21); gone is only what a destroyed key sealed. Says what is to be done, and changes nothing by
itself but that such keys are kept for custodians.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.model.errors import Damaged, KeyClosed
from gateway.model.work.transfers import StudyKeys
from storage.cache import index
from storage.cache.entries import Entry, open_entry
from storage.cache.packs.frames import Extent, Frame, FrameKind
from storage.cache.packs.port import Objects
from storage.cache.reading import is_whole
from storage.cache.sealed import key_id_of
from storage.store import SqlStore


@dataclass(slots=True)
class Findings:
    """What a start found, and what follows from it."""

    live: Counter[bytes] = field(default_factory=Counter)
    """How many objects have bytes in each pack."""
    unindexed: list[Entry] = field(default_factory=list)
    """Durable, and not known to the index."""
    missing: list[bytes] = field(default_factory=list)
    """Known to the index, and not there."""
    dead: dict[bytes, tuple[Extent, ...]] = field(default_factory=dict)
    """Taken out before, their room not yet given back."""
    orphans: list[Extent] = field(default_factory=list)
    """Bytes of no object."""
    damaged: int = 0
    """Entries that do not open, or whose object does not: torn by the fall, and never acknowledged."""
    keyless: set[bytes] = field(default_factory=set)
    """Objects whose keys the key store does not have and never destroyed, or cannot open: left as they are."""
    unclear: set[bytes] = field(default_factory=set)
    """The packs that these lie in, which are read again at the next start."""
    read: list[bytes] = field(default_factory=list)
    """Packs that were read, and so are settled."""
    empty: list[bytes] = field(default_factory=list)
    """Packs in which nothing lives."""


async def examine(store: SqlStore, objects: Objects, keys: StudyKeys, place: str) -> Findings:
    """Compare packs and index; raises a `ServiceFault` where one of them, or the key store, cannot be read."""
    lies, settled, dead = await store.read(
        lambda read: (index.where_all_lie(read, place), index.settled(read, place), dict(index.dead(read, place)))
    )
    packs = await asyncio.to_thread(objects.packs)
    findings = Findings(dead=dead)
    for object_id, extents in lies.items():
        if _is_there(extents, packs):
            findings.live.update({extent.pack_id for extent in extents})
        else:
            findings.missing.append(object_id)
    known = lies.keys() | dead.keys()
    strange: list[Frame] = []
    for pack_id in packs.keys() - settled:
        strange += await asyncio.to_thread(_strangers, objects, pack_id, known)
        findings.read.append(pack_id)
    await _sort_out(findings, objects, keys, strange)
    for entry in findings.unindexed:
        findings.live.update({extent.pack_id for extent in entry.kept.extents})
    findings.unclear = {frame.payload.pack_id for frame in strange if frame.object_id in findings.keyless}
    findings.live.update(findings.unclear)
    findings.read = [pack_id for pack_id in findings.read if pack_id not in findings.unclear]
    findings.empty = [pack_id for pack_id in packs if not findings.live[pack_id]]
    return findings


def _strangers(objects: Objects, pack_id: bytes, known: Collection[bytes]) -> list[Frame]:
    return [frame for frame in objects.frames(pack_id) if frame.object_id not in known]


async def _sort_out(findings: Findings, objects: Objects, keys: StudyKeys, strange: Sequence[Frame]) -> None:
    for frame in strange:
        if frame.kind is FrameKind.ENTRY:
            entry = await _opened(findings, objects, keys, frame)
            findings.unindexed += [entry] if entry is not None else []
    findings.unindexed.sort(key=lambda entry: entry.kept.instance.version)
    found = findings.keyless.union(entry.kept.object_id for entry in findings.unindexed)
    findings.orphans = [frame.payload for frame in strange if frame.object_id not in found]


async def _opened(findings: Findings, objects: Objects, keys: StudyKeys, frame: Frame) -> Entry | None:
    sealed = await asyncio.to_thread(objects.read, [frame.payload], 0, frame.payload.length)
    if not any(sealed):
        return None  # its room was given back
    try:
        key_id = key_id_of(sealed)
    except Damaged:
        findings.damaged += 1
        return None
    try:
        key, is_closed = await _key(keys, key_id)
    except KeyClosed:
        return None  # it was destroyed, and what it sealed with it
    except Damaged:
        findings.keyless.add(frame.object_id)
        return None
    try:
        entry = open_entry(frame.object_id, sealed, frame.payload, key)
        if not await asyncio.to_thread(is_whole, objects, entry.kept, key):
            raise Damaged("an object is not what its entry says")
    except Damaged:
        findings.damaged += 1
        return None
    if is_closed and entry.kept.instance.is_sole_copy:
        with suppress(KeyClosed):  # then it is kept already, for the study's first custodian
            await keys.keep_for_custodian(key_id, entry.kept.instance.custodian)
    return entry


async def _key(keys: StudyKeys, key_id: bytes) -> tuple[bytes, bool]:
    """The key of this id, and whether it is closed."""
    try:
        return await keys.key(key_id), False
    except KeyClosed:
        return await keys.key_even_closed(key_id), True


def _is_there(extents: Iterable[Extent], packs: dict[bytes, int]) -> bool:
    return all(extent.at + extent.length <= packs.get(extent.pack_id, -1) for extent in extents)
