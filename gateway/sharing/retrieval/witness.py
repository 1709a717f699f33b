"""What the cache can say where a holder cannot: what came from there lately, and what nobody else is known to have.

What a trust sent by itself, and no archive has committed itself to, is told of at every level whatever that trust's
archive answers (SAF-21), as that archive would list it. Where a holder does not answer, what it gave lately may be had
meanwhile, for as long as its list was last compared (SAF-37); it is still named as missing. Says nothing of who may see
any of it, and makes nothing for a patient of whom nothing is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import orjson
import structlog

from gateway.instances.description import describe
from gateway.instances.listing import ROW_TAGS
from gateway.model.errors import GatewayError, InvalidRequest, NotFound
from gateway.model.imaging import ACCESSION_NUMBER, Attributes, Level, Query
from gateway.model.seams import Clock
from gateway.model.settings import Limits
from gateway.model.work.transfers import CachedInstance, SoleStudy, StudyCache
from gateway.sharing.freshness.rejections import KEY_OBJECT_SELECTION, Rejections
from gateway.sharing.hearing import Allowance, Witnessed
from gateway.sharing.merge import texts
from gateway.sharing.retrieval.folding import SERIES_TAGS, image_row, series_row, study_row
from gateway.sharing.scope import Scope
from policy.parties import PatientId, TrustId

log = structlog.get_logger(__name__)

BEGINNINGS_AT_ONCE = 16
"""Of a quarter of a megabyte each."""
ACCESSIONS_KEPT_MAX = 50_000
"""Studies whose accession number is remembered, as a keyed hash; the longest unused go first."""


class PatientRows(Protocol):
    """Whose keys seal the images of a patient."""

    async def patient_rows(self, identifiers: Collection[PatientId]) -> frozenset[str]:
        """See `gateway.model.seams.Store`."""


class Witness:
    """Rows from the cache."""

    def __init__(self, cache: StudyCache, patients: PatientRows, clock: Clock, limits: Limits) -> None:
        self._cache = cache
        self._patients = patients
        self._clock = clock
        self._limits = limits
        self._rejections = Rejections(cache)
        self._accessions: OrderedDict[tuple[str, int], frozenset[bytes]] = OrderedDict()
        self._accession_key = secrets.token_bytes(32)

    async def rows(
        self, study_uids: Collection[str], silent: Collection[TrustId]
    ) -> Mapping[TrustId, Sequence[Attributes]]:
        """By trust, at level IMAGE: what came from the `silent` ones lately, apart from sole copies."""
        found: dict[TrustId, list[Attributes]] = {}
        try:
            for study_uid in study_uids if silent else ():
                chosen = await self._lately(study_uid, silent)
                for cached, encoded in zip(chosen, await self._cache.metadata(chosen), strict=True):
                    if encoded:
                        found.setdefault(cached.source, []).append(orjson.loads(encoded))
        except GatewayError as error:
            log.warning("cache not asked in a holder's stead", reason=type(error).__name__)
            return {}
        return found

    async def sole(
        self, question: Query, scope: Scope, known_by: Collection[PatientId], allowance: Allowance
    ) -> Witnessed:
        """Sole copies, as the archives of the trusts that sent them would list them at the question's level.

        By the study UIDs that the question names, else of its patient, who is `known_by` these, else by its accession
        number. Raises nothing: what cannot be read is missing from its trust's part, and so is what is too much.
        """
        rows: dict[TrustId, list[Attributes]] = {}
        cut: set[TrustId] = set()
        found: Collection[str] | None = None
        unread: dict[str, frozenset[TrustId]] = {}
        left = allowance.matches_max
        try:
            held = self._cache.sole_studies()
        except GatewayError:
            return Witnessed({})  # not open, which `unread` tells of
        try:
            async with asyncio.timeout(allowance.timeout_s):
                found = await self._studies(scope, known_by, held)
                unread = {study_uid: held[study_uid].sources for study_uid in found if study_uid in held}
                for study_uid in list(unread):
                    for trust, kept in await self._sole_of(study_uid):
                        read = kept if question.level is Level.IMAGE else _firsts(kept)
                        some = read[:left]
                        left -= len(some)
                        # Of a study without all of its series nobody knows whether it may be shown.
                        is_row = len(some) == len(read) or question.level is not Level.STUDY
                        listed = await self._listed(question, trust, kept, some) if is_row else None
                        rows.setdefault(trust, []).extend(listed or ())
                        cut |= set() if listed is not None and len(some) == len(read) else {trust}
                    del unread[study_uid]
        except (GatewayError, TimeoutError) as error:
            log.warning("sole copies not listed", reason=type(error).__name__)
            cut = cut if found is not None else cut.union(*(each.sources for each in held.values()))
        return Witnessed(rows, frozenset(cut.union(*unread.values())))

    async def unread(self) -> frozenset[TrustId]:
        """The trusts of whose sole copies nothing can be told, because images cannot be opened; for all alike."""
        return await self._cache.unread_sources()

    async def _lately(self, study_uid: str, silent: Collection[TrustId]) -> list[CachedInstance]:
        cached = await self._cache.instances(study_uid)
        study = await self._cache.study(study_uid) if cached else None
        age_max = timedelta(hours=self._limits.serve_unvalidated_max_hours)
        validated_at = study.validated_at if study is not None else None
        if validated_at is None or self._clock.now() - validated_at > age_max:
            return []
        return [each for each in cached if each.source in silent and not each.is_sole_copy]

    async def _studies(
        self, scope: Scope, known_by: Collection[PatientId], held: Mapping[str, SoleStudy]
    ) -> Collection[str]:
        """The studies to look at; some may not be held."""
        if scope.study_uids or not held:
            return dict.fromkeys(scope.study_uids)
        if scope.patient is not None:
            return self._cache.sole_studies_of(await self._patients.patient_rows(known_by))
        return await self._of_accession(scope.accession_number, sorted(held.items()))

    async def _of_accession(self, number: str, held: Iterable[tuple[str, SoleStudy]]) -> list[str]:
        wanted, found = self._hashed(number), []
        for study_uid, study in held:
            try:
                is_it = wanted in await self._accession_numbers((study_uid, study.change))
            except (GatewayError, orjson.JSONDecodeError):
                is_it = True  # it may be: what cannot be read of it is told
            if is_it:
                found.append(study_uid)
        return found

    async def _accession_numbers(self, study: tuple[str, int]) -> frozenset[bytes]:
        """What stands for the accession numbers of a sole copy in this state. Raises as the cache does."""
        if study not in self._accessions:
            kept = [each for each in await self._cache.instances(study[0]) if each.is_sole_copy]
            said = [orjson.loads(encoded or b"{}") for encoded in await self._cache.metadata(_firsts(kept))]
            self._accessions[study] = frozenset(
                self._hashed(text) for one in said for text in texts(one, ACCESSION_NUMBER)
            )
            if len(self._accessions) > ACCESSIONS_KEPT_MAX:
                self._accessions.popitem(last=False)
        self._accessions.move_to_end(study)
        return self._accessions[study]

    def _hashed(self, accession_number: str) -> bytes:
        return hashlib.blake2b(accession_number.encode(), key=self._accession_key, digest_size=16).digest()

    async def _sole_of(self, study_uid: str) -> list[tuple[TrustId, list[CachedInstance]]]:
        """The sole copies of a study by the trust that sent them, but for what it has rejected since."""
        cached = await self._cache.instances(study_uid)
        rejected = await self._rejections.among(cached)
        found: dict[TrustId, list[CachedInstance]] = {}
        for each in cached:
            if each.is_sole_copy and each.ref.sop_uid not in rejected.get(each.source, ()):
                found.setdefault(each.source, []).append(each)
        # A study of which nothing stays but the notes that rejected it is none.
        return [
            (trust, kept)
            for trust, kept in found.items()
            if not rejected.get(trust) or any(each.ref.sop_class_uid != KEY_OBJECT_SELECTION for each in kept)
        ]

    async def _listed(
        self, question: Query, trust: TrustId, kept: Sequence[CachedInstance], read: Sequence[CachedInstance]
    ) -> list[Attributes] | None:
        """The rows of one trust's sole copies of one study, of which `read` are read; None: that cannot be done."""
        try:
            encoded = await self._cache.metadata(read)
            said: list[Attributes] = [orjson.loads(each) for each in encoded]
            if question.level is Level.IMAGE:
                return await self._images(question, read, said)
            described = await self._described(read if question.level is Level.SERIES else read[:1])
        except NotFound:
            return []  # closed in this moment: absence
        except (GatewayError, orjson.JSONDecodeError) as error:
            log.warning("sole copies not listed", trust=trust.code, reason=type(error).__name__)
            return None
        refs = [each.ref for each in kept]
        known = [{**one, **more} for one, more in zip(said, described, strict=False)] + said[len(described) :]
        if question.level is not Level.SERIES:
            return [study_row(known, refs)]
        return [
            series_row(one, [ref for ref in refs if ref.series_uid == each.ref.series_uid])
            for each, one in zip(read, known, strict=True)
        ]

    async def _images(
        self, question: Query, read: Sequence[CachedInstance], said: Sequence[Attributes]
    ) -> list[Attributes]:
        firsts = _firsts(read) if _wants_more(question) else []
        uids = [each.ref.series_uid for each in firsts]
        of_series = dict(zip(uids, await self._described(firsts), strict=True))
        return [image_row(one, of_series.get(each.ref.series_uid, {})) for each, one in zip(read, said, strict=True)]

    async def _described(self, read: Sequence[CachedInstance]) -> list[Attributes]:
        """What the beginning of each says of its series and study; nothing where it says so too late."""
        found: list[Attributes] = []
        for at in range(0, len(read), BEGINNINGS_AT_ONCE):
            some = read[at : at + BEGINNINGS_AT_ONCE]
            for cached, pieces in zip(some, await self._cache.read(some, beginnings=True), strict=True):
                found.append({} if isinstance(pieces, GatewayError) else _said(b"".join(pieces), cached))
        return found


def _said(head: bytes, cached: CachedInstance) -> Attributes:
    try:
        described = describe(head, cached.transfer_syntax, is_whole=len(head) >= cached.plain_bytes)
    except InvalidRequest:
        return {}
    said = orjson.loads(described.json) if described is not None else {}
    return {tag: element for tag, element in said.items() if tag in SERIES_TAGS and "BulkDataURI" not in element}


def _firsts(kept: Sequence[CachedInstance]) -> list[CachedInstance]:
    """One instance of each series."""
    return list({each.ref.series_uid: each for each in reversed(kept)}.values())[::-1]


def _wants_more(question: Query) -> bool:
    """Whether it may ask for more than every instance's own row says; a search without a list has its protocol's."""
    wanted = {*question.include, *(key.path[0] for key in question.keys)}
    return question.include_all or not question.include or not ROW_TAGS.issuperset(wanted)
