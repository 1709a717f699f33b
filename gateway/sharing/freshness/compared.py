"""When what is kept of a study was last compared with its holders: noted, and told where they are silent (SAF-37).

A comparison is a whole list from every trust that something kept came from. Where a trust does not answer, what is
given from the cache in its stead says how old the last one is. Whether it may be given at all is the witness's affair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.model.errors import GatewayError
from gateway.model.imaging import Source
from gateway.model.work.transfers import CachedInstance, StudyCache
from gateway.sharing.broker import Survey
from policy.parties import TrustId

_NOTED_ANEW = timedelta(minutes=1)
"""A comparison with the holders is not noted again before."""


async def note_compared(cache: StudyCache, survey: Survey, kept: Iterable[CachedInstance]) -> None:
    """Note of each study when its holders last listed it, all of those that what is kept of it came from."""
    heard = survey.whole
    sources: dict[str, set[TrustId]] = {}
    for each in kept:
        sources.setdefault(each.ref.study_uid, set()).add(each.source)
    with contextlib.suppress(GatewayError):  # then it passes for older than it is
        for study_uid, trusts in sources.items():
            study = await cache.study(study_uid)
            noted_at = study.validated_at if study is not None else None
            if trusts <= heard and (noted_at is None or survey.heard_at - noted_at > _NOTED_ANEW):
                await cache.validated(study_uid, survey.heard_at)


async def with_age(
    cache: StudyCache, sources: tuple[Source, ...], kept: Iterable[CachedInstance]
) -> tuple[Source, ...]:
    """Each trust's part, and of those that are missing the age of what is given in their stead, the oldest of it."""
    silent = {source.trust for source in sources if source.state.is_missing}
    if not silent:
        return sources
    given = {(each.source, each.ref.study_uid) for each in kept if each.source in silent and not each.is_sole_copy}
    checked: dict[TrustId, datetime] = {}
    for trust, study_uid in given:
        study = await cache.study(study_uid)
        if study is not None and study.validated_at is not None:
            checked[trust] = min(study.validated_at, checked.get(trust, study.validated_at))
    return tuple(replace(source, checked_at=checked.get(source.trust)) for source in sources)
