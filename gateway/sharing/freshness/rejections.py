"""What a trust has rejected by a note: images that it found bad, wrong or another patient's, and that nobody shall use.

A rejection note is a Key Object Selection document of the study with one of four titles (PS3.16 CID 7011; IHE IOCM). An
archive that knows them lists the images no more; one that does not goes on listing them beside the note, so the note is
read here. It binds only what came from the archive that it came from itself, in the same study.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence

import orjson
import structlog

from gateway.instances.description import describe
from gateway.model.errors import GatewayError, InvalidRequest
from gateway.model.imaging import JsonValue
from gateway.model.work.transfers import CachedInstance, InstanceRef, StudyCache
from gateway.sharing.freshness.comparing import Withdraw
from policy.parties import TrustId

log = structlog.get_logger(__name__)

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
REJECTIONS = frozenset({"113001", "113037", "113038", "113039"})
"""Rejected for quality, for patient safety; incorrect worklist entry selected; data retention policy expired."""
NOTE_BYTES_MAX = 4 * 1024 * 1024
REJECTED = "its trust has rejected it"
Rejected = tuple[TrustId, str]
"""An instance that a trust's note names, by its SOP instance UID; of that trust's copy alone."""
NOTES_KEPT_MAX = 1_024
"""Notes whose meaning is remembered; the longest unused go first."""
_TITLE, _EVIDENCE = "0040A043", "0040A375"
_CODE, _SCHEME = "00080100", "00080102"
_STUDY, _SERIES_SEQUENCE, _SOP_SEQUENCE, _SOP = "0020000D", "00081115", "00081199", "00081155"


def rejected_by(document: Mapping[str, JsonValue]) -> dict[str, frozenset[str]]:
    """What a document in the DICOM JSON model rejects: SOP instance UIDs by study; nothing where it is no such note."""
    titles = {(_text(title, _SCHEME), _text(title, _CODE)) for title in _items(document, _TITLE)}
    if not any(scheme == "DCM" and code in REJECTIONS for scheme, code in titles):
        return {}
    found: dict[str, frozenset[str]] = {}
    for study in _items(document, _EVIDENCE):
        images = (image for series in _items(study, _SERIES_SEQUENCE) for image in _items(series, _SOP_SEQUENCE))
        uids = frozenset(uid for uid in (_text(image, _SOP) for image in images) if uid)
        found[_text(study, _STUDY)] = found.get(_text(study, _STUDY), frozenset()) | uids
    return found


class Rejections:
    """Reads the notes among what is kept of a study."""

    def __init__(self, cache: StudyCache, withdraw: Withdraw | None = None) -> None:
        """`withdraw` is told of what is kept and was rejected."""
        self._cache = cache
        self._withdraw = withdraw
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()

    async def among(self, kept: Sequence[CachedInstance]) -> Mapping[TrustId, frozenset[str]]:
        """By the trust whose note says so: the SOP instance UIDs of this study that it rejected. Raises nothing."""
        found: dict[TrustId, frozenset[str]] = {}
        for each in kept:
            if each.ref.sop_class_uid == KEY_OBJECT_SELECTION:
                found[each.source] = found.get(each.source, frozenset()) | await self._rejected(each)
        return found

    async def enforced(self, kept: Sequence[CachedInstance]) -> set[Rejected]:
        """What notes among the kept reject; no copy of it stays in use but a sole one."""
        said = await self.among(kept)
        rejected = {(trust, uid) for trust, uids in said.items() for uid in uids}
        gone = [each for each in kept if (each.source, each.ref.sop_uid) in rejected and not each.is_sole_copy]
        if gone and self._withdraw is not None:
            await self._withdraw(gone, is_rejected=True)
        return rejected

    async def _rejected(self, note: CachedInstance) -> frozenset[str]:
        if note.object_id not in self._known:
            try:
                said = rejected_by(await self._read(note))
            except (GatewayError, orjson.JSONDecodeError) as error:
                log.warning("rejection note not read", trust=note.source.code, error=type(error).__name__)
                return frozenset()
            self._known[note.object_id] = said.get(note.ref.study_uid, frozenset())
            if len(self._known) > NOTES_KEPT_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(note.object_id)
        return self._known[note.object_id]

    async def _read(self, note: CachedInstance) -> Mapping[str, JsonValue]:
        if note.plain_bytes > NOTE_BYTES_MAX:
            raise InvalidRequest(f"a document of more than {NOTE_BYTES_MAX:,} bytes is no note")
        body = bytearray()
        async with self._cache.open(note) as pieces:
            async for piece in pieces:
                body += piece
        described = describe(bytes(body), note.transfer_syntax, is_whole=True)
        read = orjson.loads(described.json) if described is not None else {}
        return read if isinstance(read, dict) else {}


class LateNotes:
    """The notes of a frozen set that could not be read before: what they name is kept back once they have come."""

    def __init__(
        self, rejections: Rejections, cache: StudyCache, refs: Iterable[InstanceRef], waiting: Collection[str]
    ) -> None:
        """`waiting` are the SOP instance UIDs that are still to come, at each moment."""
        self._rejections = rejections
        self._cache = cache
        self._notes = {ref.sop_uid: ref for ref in refs if ref.sop_class_uid == KEY_OBJECT_SELECTION}
        self._waiting = waiting
        self._rejected: set[Rejected] = set()

    async def name(self, ref: InstanceRef, source: TrustId) -> bool:
        """Whether one of them rejects this trust's copy of an instance, which then stays in use nowhere."""
        if not self._notes and not self._rejected:
            return False
        come = [self._notes.pop(uid) for uid in self._notes.keys() - self._waiting]
        is_rejected = (source, ref.sop_uid) in self._rejected
        for study_uid in {note.study_uid for note in come} | ({ref.study_uid} if is_rejected else set()):
            self._rejected |= await self._rejections.enforced(await self._cache.instances(study_uid))
        return is_rejected or (source, ref.sop_uid) in self._rejected


def _items(of: Mapping[str, JsonValue], tag: str) -> list[Mapping[str, JsonValue]]:
    return [item for item in _values(of, tag) if isinstance(item, dict)]


def _text(of: Mapping[str, JsonValue], tag: str) -> str:
    values = _values(of, tag)
    return values[0] if values and isinstance(values[0], str) else ""


def _values(of: Mapping[str, JsonValue], tag: str) -> Sequence[JsonValue]:
    element = of.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
