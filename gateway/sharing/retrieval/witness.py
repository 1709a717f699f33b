"""What the cache can say where a holder cannot: the rows of what came from there, as they were (SAF-37).

A holder that does not answer is still named as missing; what it gave lately may be had meanwhile, for as long as its
list was last compared. What a trust sent by itself, and no archive has committed itself to, is told of besides whatever
that trust's archive answers: nobody else is known to have it (SAF-21). Says nothing of who may see any of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import orjson
import structlog

from gateway.model.errors import GatewayError
from gateway.model.imaging import Attributes
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.transfers import CachedInstance, StudyCache
from policy.parties import TrustId

log = structlog.get_logger(__name__)


class Witness:
    """Rows from the cache."""

    def __init__(self, cache: StudyCache, clock: Clock, limits: Limits) -> None:
        self._cache = cache
        self._clock = clock
        self._limits = limits

    async def rows(
        self, study_uids: Collection[str], silent: Collection[TrustId]
    ) -> Mapping[TrustId, Sequence[Attributes]]:
        """By trust: of the `silent` ones what came from them lately, of every trust its sole copies."""
        found: dict[TrustId, list[Attributes]] = {}
        try:
            for study_uid in study_uids:
                chosen = await self._chosen(study_uid, silent)
                for cached, encoded in zip(chosen, await self._cache.metadata(chosen), strict=True):
                    if encoded:
                        found.setdefault(cached.source, []).append(orjson.loads(encoded))
        except GatewayError as error:
            log.warning("cache not asked in a holder's stead", reason=type(error).__name__)
            return {}
        return found

    async def _chosen(self, study_uid: str, silent: Collection[TrustId]) -> list[CachedInstance]:
        cached = await self._cache.instances(study_uid)
        if not cached:
            return []
        study = await self._cache.study(study_uid)
        age_max = timedelta(hours=self._limits.serve_unvalidated_max_hours)
        validated_at = study.validated_at if study is not None else None
        is_fresh = validated_at is not None and self._clock.now() - validated_at <= age_max
        return [each for each in cached if each.is_sole_copy or (is_fresh and each.source in silent)]
