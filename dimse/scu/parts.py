"""What a fetch asks for, as the C-GET or C-MOVE requests that it takes (PS3.4 C.4.2.1.4, C.4.3.1.3).

The unique keys of the levels above are always there: archives that keep to the hierarchy find nothing without them,
and some fail. Above the asked level a key has one value, so instances are asked series by series; lists are cut to a
length that archives bear. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from dimse.elements import encode_dataset
from gateway.model.imaging import SERIES_UID, SOP_UID, STUDY_UID, Element, Level
from gateway.model.work.transfers import FetchRequest, InstanceRef

QUERY_RETRIEVE_LEVEL = "00080052"


@dataclass(frozen=True, slots=True)
class Part:
    """What one request asks for: everything of a study, of some of its series, or some instances of one series."""

    study_uid: str
    series_uids: tuple[str, ...] = ()
    sop_uids: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        """The Query/Retrieve Level."""
        if self.sop_uids:
            return Level.IMAGE
        return Level.SERIES if self.series_uids else Level.STUDY

    def without(self, kept: Collection[str]) -> Part | None:
        """What is left of it; None: nothing. A whole study or series stays whole, for nobody knows what is missing."""
        if not self.sop_uids:
            return self
        left = tuple(uid for uid in self.sop_uids if uid not in kept)
        return replace(self, sop_uids=left) if left else None

    def identifier(self, transfer_syntax: str) -> bytes:
        """The data set of the request."""
        elements: dict[str, Element] = {
            QUERY_RETRIEVE_LEVEL: {"vr": "CS", "Value": [self.level.value]},
            STUDY_UID: {"vr": "UI", "Value": [self.study_uid]},
        }
        for tag, uids in ((SERIES_UID, self.series_uids), (SOP_UID, self.sop_uids)):
            if uids:
                elements[tag] = {"vr": "UI", "Value": [*uids]}
        return encode_dataset(elements, transfer_syntax, ())


def parts(request: FetchRequest, uids_max: int) -> list[Part]:
    """The requests that bring what is wanted, in the order of its series; `uids_max`: UIDs in one list."""
    target = request.target
    if request.refs:
        return [*_of_instances(request.refs, uids_max)]
    if target.sop_uids:
        return [Part(target.study_uid, target.series_uids, uids) for uids in _lists(target.sop_uids, uids_max)]
    if target.series_uids:
        return [Part(target.study_uid, uids) for uids in _lists(target.series_uids, uids_max)]
    return [Part(target.study_uid)]


def _of_instances(refs: Sequence[InstanceRef], uids_max: int) -> Iterator[Part]:
    by_series: dict[tuple[str, str], list[str]] = {}
    for ref in refs:
        by_series.setdefault((ref.study_uid, ref.series_uid), []).append(ref.sop_uid)
    for (study_uid, series_uid), sop_uids in by_series.items():
        for uids in _lists([*dict.fromkeys(sop_uids)], uids_max):
            yield Part(study_uid, (series_uid,) if series_uid else (), uids)


def _lists(uids: Sequence[str], uids_max: int) -> list[tuple[str, ...]]:
    return [tuple(uids[first : first + uids_max]) for first in range(0, len(uids), uids_max)]
