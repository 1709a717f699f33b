"""Whatever becomes of each image, the counters of every response add up, and nothing is success that has a gap."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum

from hypothesis import given, settings
from hypothesis import strategies as st

from dimse.scp.profiles import CallerProfile
from dimse.sop_classes import STUDY_ROOT_GET
from dimse.status import MissingSources
from gateway.model.errors import AuditUnavailable
from gateway.model.work.retrievals import Halt
from tests.dimse.door import identifier
from tests.dimse.items import MemoryItem
from tests.dimse.lending import EVERY_LIMIT, Told, asking, borrower, lending
from tests.dimse.library import CT, EXPLICIT, Library, images

PROFILE = CallerProfile(MissingSources.COMMENT)
EAGER = replace(EVERY_LIMIT, retrieve_pending_interval_s=0.000_1)
"""So that pending responses fall between any two images."""
STUDY = identifier("STUDY", StudyInstanceUID="1.2.3")


class Fate(Enum):
    """What becomes of an image."""

    TAKEN = 0x0000
    REMARKED = 0xB000
    REFUSED = 0xA700
    LOST = "its archive never sends it"
    DAMAGED = "it cannot be read"
    FOREIGN = "its transfer syntax is not taken"


async def told(library: Library, fates: list[Fate]) -> Told:
    """All that a C-GET is told while its images meet these fates."""
    library.lost = {item.ref.sop_uid for item, fate in zip(library.items, fates, strict=True) if fate is Fate.LOST}
    library.items = [_as(item, fate) for item, fate in zip(library.items, fates, strict=True)]
    request = asking((CT, (EXPLICIT,)))
    async with lending(library, PROFILE, limits=EAGER) as door, borrower(door.house.port, request) as caller:
        caller.answers = {
            item.ref.sop_uid: fate.value
            for item, fate in zip(library.items, fates, strict=True)
            if isinstance(fate.value, int)
        }
        return await caller.retrieve(STUDY, STUDY_ROOT_GET)


def _as(item: MemoryItem, fate: Fate) -> MemoryItem:
    """What meets such a fate by itself."""
    if fate is Fate.DAMAGED:
        return replace(item, cut_at=0)
    return replace(item, transfer_syntax="1.2.840.10008.1.2.5") if fate is Fate.FOREIGN else item


@settings(max_examples=40, deadline=None)
@given(
    fates=st.lists(st.sampled_from(Fate), max_size=8),
    stops_after=st.none() | st.integers(0, 7),
    how=st.sampled_from(["policy", "service", "fault"]),
)
def test_counters_add_up_whatever_becomes_of_each_image(fates: list[Fate], stops_after: int | None, how: str) -> None:
    library = Library(images(len(fates)))
    uids = [item.ref.sop_uid for item in library.items]
    if how == "fault":
        library.fault_after, library.fault = stops_after, AuditUnavailable("disk full")
    else:
        library.halts_after, library.halts_as = stops_after, Halt(how)
    answer = asyncio.run(told(library, fates))
    tried = fates[:stops_after] if stops_after is not None else fates
    arrived = [uid for uid, fate in zip(uids, tried, strict=False) if fate in (Fate.TAKEN, Fate.REMARKED)]

    completed, warned = tried.count(Fate.TAKEN), tried.count(Fate.REMARKED)
    assert answer.counts == (None, completed, len(fates) - completed - warned, warned)
    assert sorted(answer.failed_uids) == sorted(set(uids) - set(arrived))
    last = (len(fates), 0, 0, 0)
    for each in answer.pending:
        counts = (each.remaining or 0, each.completed or 0, each.failed or 0, each.warning or 0)
        assert sum(counts) == len(fates) and counts[0] <= last[0] and counts[1:] >= (0, 0, 0)
        assert all(now >= before for now, before in zip(counts[1:], last[1:], strict=True))
        last = counts
    is_whole = completed == len(fates)
    assert (answer.last.status == 0x0000) is is_whole
    assert answer.last.status in ((0x0000,) if is_whole else (0xB000,) if arrived else (0xA702,))
