"""The one road of images: peer, sealed cache, whoever asked (product 3.2).

A wish passes the guard, is found at its holders, decided row by row, and frozen in the ledger; then what is not in the
cache is fetched, and the delivery hands out what has come. The cache is never a reason to give anything away: each
caller has a passage of its own, however many share one fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from functools import partial

from gateway.model.attributes import INSTANCE_NUMBER, SERIES_NUMBER
from gateway.model.errors import GatewayError, InvalidRequest, OverCapacity, RegisterUnavailable, StoreUnavailable
from gateway.model.imaging import (
    PATIENT_ID,
    SOP_CLASS_UID,
    STUDY_UID,
    Key,
    Level,
    Query,
    Source,
)
from gateway.model.seams import Store
from gateway.model.work.retrievals import FrozenInstance, Halt, NewRetrieval, RetrieveWish
from gateway.model.work.transfers import CachedInstance, FetchRequest, InstanceRef, Target
from gateway.sharing.broker import Survey
from gateway.sharing.conduct.watch import Surveys
from gateway.sharing.freshness.comparing import Withdraw, withdrawn
from gateway.sharing.freshness.rejections import KEY_OBJECT_SELECTION, Rejections
from gateway.sharing.retrieval.account import Account
from gateway.sharing.retrieval.acquiring import Acquiring, Rider, Wanted
from gateway.sharing.retrieval.delivery import Delivery, Entry, Means
from gateway.sharing.retrieval.rows import holdings_of, listed_of, order_of, text_of
from gateway.sharing.retrieval.sittings import Sitting, Sittings, requests_of
from policy.parties import NHS_NUMBER_ISSUER, Caller, NhsNumber, PatientId, TrustId

_VALIDATED_ANEW = timedelta(minutes=1)
"""A comparison with the holders is not noted again before."""


_WANTED = frozenset((SOP_CLASS_UID, SERIES_NUMBER, INSTANCE_NUMBER))


class Road:
    """Brings images to callers who may have them (`gateway.model.work.retrievals.Retrievals`)."""

    def __init__(
        self,
        door: Surveys,
        acquiring: Acquiring,
        store: Store,
        means: Means,
        *,
        new_id: Callable[[], str],
        behind_gateways: frozenset[TrustId] = frozenset(),
        withdraw: Withdraw | None = None,
    ) -> None:
        """`withdraw` is told of what is kept and its archive lists no more, or has rejected."""
        self._door = door
        self._behind_gateways = behind_gateways
        self._withdraw = withdraw
        self._rejections = Rejections(means.cache)
        self._acquiring = acquiring
        self._store = store
        self._means = means
        self._new_id = new_id
        self._under_way = 0
        self._sittings = Sittings(self._sat, store.register_version, means.clock, means.limits)

    @contextlib.asynccontextmanager
    async def retrieve(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Delivery]:
        """See `Retrievals`."""
        if self._under_way >= self._means.limits.retrievals_at_once_max:
            raise OverCapacity("too many retrievals are under way")
        self._under_way += 1
        try:
            async with self._sittings.joined(caller, wish) as sitting:
                if sitting is not None and sitting.account is None:
                    yield self._nothing(sitting.survey)
                    return
                if sitting is not None and (entries := await self._as_kept(sitting, _named(sitting, wish))):
                    async with self._riding(caller, sitting, entries) as delivery:
                        yield delivery
                    return
            async with self._alone(caller, wish) as delivery:
                yield delivery
        finally:
            self._under_way -= 1

    async def bring(self, caller: Caller, wish: RetrieveWish) -> tuple[int, Sequence[Source]]:
        """Have in the cache what the caller may have of a wish: how many of it are there now, and every trust's part.

        Nothing is handed out, so the ledger hears nothing of it; whoever wants them passes a guard of its own. Raises
        as `retrieve` does.
        """
        trust = caller.principal.trust
        async with self._door.survey(
            caller, _query(wish), recipient=trust, names=lambda row: _names(wish, row.series_uid, row.sop_uid)
        ) as survey:
            if not survey.matches:
                return 0, survey.sources
            async with contextlib.AsyncExitStack() as held:
                for study_uid in {match.study_uid for match in survey.matches}:
                    await held.enter_async_context(self._means.cache.using(study_uid))
                asking = _asking(caller, trust)
                entries = await self._entries(survey, asking)
                missing = [entry.wanted for entry in entries if entry.cached is None]
                here = len(entries) - len(missing)
                riding = self._acquiring.riding(missing, listed=listed_of(survey), asking=asking)
                rider = await held.enter_async_context(riding)
                while (got := await rider.next()) is not None:
                    here += got.cached is not None
            survey.passage.tally.transfers = {"job": wish.job_id, "wanted": len(entries), "kept": here}
            return here, survey.sources

    async def close(self) -> None:
        """Record what callers sit over at this moment, once none of their requests is under way."""
        await self._sittings.close()

    async def rested(self) -> None:
        """Return once nobody sits over anything and all of that is recorded."""
        await self._sittings.rested()

    @contextlib.asynccontextmanager
    async def _alone(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Delivery]:
        recipient = wish.destination.organisation if wish.destination is not None else caller.principal.trust
        async with self._door.survey(
            caller, _query(wish), recipient=recipient, names=lambda row: _names(wish, row.series_uid, row.sop_uid)
        ) as survey:
            if not survey.matches:
                yield self._nothing(survey)
                return
            async with self._delivering(caller, wish, recipient, survey) as delivery:
                yield delivery

    @contextlib.asynccontextmanager
    async def _delivering(
        self, caller: Caller, wish: RetrieveWish, recipient: TrustId, survey: Survey
    ) -> AsyncIterator[Delivery]:
        async with contextlib.AsyncExitStack() as held:
            for study_uid in {match.study_uid for match in survey.matches}:
                await held.enter_async_context(self._means.cache.using(study_uid))
            asking = _asking(caller, recipient)
            entries = await self._entries(survey, asking)
            account = self._account(caller, wish, recipient, survey)
            await account.freeze(_frozen(survey, entries))
            bring = partial(self._acquiring.riding, listed=listed_of(survey), asking=asking)
            missing = [entry.wanted for entry in entries if entry.cached is None]
            rider = await held.enter_async_context(bring(missing))
            delivery = Delivery(account, survey, survey.sources, entries, rider, self._means, bring)
            try:
                yield delivery
            finally:
                delivery.leave()
                await account.close()
                await self._note_validated(survey, entries)

    @contextlib.asynccontextmanager
    async def _sat(self, caller: Caller, wish: RetrieveWish) -> AsyncIterator[Sitting]:
        """A sitting over the whole study, until it is left; see `Opens`."""
        clock, recipient = self._means.clock, caller.principal.trust
        try:
            version = await self._store.register_version()
        except StoreUnavailable as error:
            raise RegisterUnavailable("sharing not checked") from error
        surveying = self._door.survey(caller, _query(wish), recipient=recipient, names=lambda _: True)
        async with surveying as survey, self._means.cache.using(wish.study_uids[0]):
            now_s = clock.monotonic()
            if not survey.matches:
                yield Sitting(survey, None, {}, {}, version, now_s, now_s)
                return
            entries = await self._entries(survey, _asking(caller, recipient))
            account = self._account(caller, wish, recipient, survey, is_shared=True)
            by_uid = {entry.wanted.ref.sop_uid: entry for entry in entries}
            sitting = Sitting(survey, account, by_uid, listed_of(survey), version, now_s, now_s)
            try:
                yield sitting
            finally:
                tally = survey.passage.tally
                tally.returned = account.instances
                tally.disclose_only_series(account.series_uids)
                await account.close(requests_of(sitting))
                await self._note_validated(survey, entries)

    async def _as_kept(self, sitting: Sitting, named: Sequence[Entry]) -> list[Entry]:
        """What is named of a study that a caller sits over, with what the cache has of it at this moment.

        Nothing where something is gone that was there: it was withdrawn or is damaged, and the study is looked at anew.
        """
        cache, found = self._means.cache, {}
        if len(named) == 1:
            ref = named[0].wanted.ref
            found = {ref.sop_uid: await cache.instance(ref.study_uid, ref.sop_uid)}
        elif named:
            found = {each.ref.sop_uid: each for each in await cache.instances(named[0].wanted.ref.study_uid)}
        entries = []
        for each in named:
            cached = _if_may_be_had(found.get(each.wanted.ref.sop_uid), each.wanted)
            if cached is None and each.cached is not None:
                sitting.is_closed = True
                sitting.news.set()
                return []
            each.cached = cached
            entries.append(Entry(each.wanted, each.shown, each.copies, cached))
        return entries

    @contextlib.asynccontextmanager
    async def _riding(self, caller: Caller, sitting: Sitting, entries: Sequence[Entry]) -> AsyncIterator[Delivery]:
        survey, account = sitting.survey, sitting.account
        assert account is not None
        await account.freeze(_frozen(survey, entries))
        asking = _asking(caller, caller.principal.trust)
        bring = partial(self._acquiring.riding, listed=sitting.listed, asking=asking)
        async with bring([entry.wanted for entry in entries if entry.cached is None]) as rider:
            delivery = Delivery(
                account,
                survey,
                survey.sources,
                entries,
                rider,
                self._means,
                bring,
                sitting.decided_at_s,
                sitting.descriptions,
            )
            try:
                yield delivery
            finally:
                delivery.leave()
                sitting.is_closed |= delivery.halted in (Halt.POLICY, Halt.SERVICE)
                await account.keep_up()

    def _nothing(self, survey: Survey) -> Delivery:
        return Delivery(None, None, survey.sources, (), Rider(), self._means, None)

    def _account(
        self, caller: Caller, wish: RetrieveWish, recipient: TrustId, survey: Survey, *, is_shared: bool = False
    ) -> Account:
        new = NewRetrieval(
            self._new_id(),
            caller.request_id,
            caller.principal.subject,
            recipient,
            wish.destination.ae_title if wish.destination is not None else "",
            self._means.clock.now(),
            (),
            wish.job_id,
            caller.purpose.value,
        )
        return Account(self._means.ledger, self._means.clock, survey.passage.tally, new, is_shared=is_shared)

    async def _note_validated(self, survey: Survey, entries: Sequence[Entry]) -> None:
        """Note of each study when its holders last listed it, all of those that what is kept of it came from."""
        heard = survey.whole
        sources: dict[str, set[TrustId]] = {}
        for entry in entries:
            if entry.cached is not None:
                sources.setdefault(entry.wanted.ref.study_uid, set()).add(entry.cached.source)
        with contextlib.suppress(GatewayError):  # then it passes for older than it is
            for study_uid, trusts in sources.items():
                study = await self._means.cache.study(study_uid)
                noted_at = study.validated_at if study is not None else None
                if trusts <= heard and (noted_at is None or survey.heard_at - noted_at > _VALIDATED_ANEW):
                    await self._means.cache.validated(study_uid, survey.heard_at)

    async def _entries(self, survey: Survey, asking: FetchRequest | None) -> list[Entry]:
        """The frozen set in order, each with its holders, and with what the cache has of it.

        What a holder rejected is not in it. Notes that are not kept yet are fetched first, once: None for `asking`.
        """
        rows: dict[NhsNumber | None, str] = {}
        for match in survey.matches:
            if match.patient not in rows:
                rows[match.patient] = await self._patient_row(match.patient)
        kept: dict[str, CachedInstance] = {}
        rejected: set[tuple[TrustId, str]] = set()
        for study_uid in {match.study_uid for match in survey.matches}:
            of_study = await self._means.cache.instances(study_uid)
            await self._follow(survey, of_study)
            rejected |= await self._rejected(of_study)
            kept |= {each.ref.sop_uid: each for each in of_study if (each.source, each.ref.sop_uid) not in rejected}
        entries = []
        for match in sorted(survey.matches, key=order_of):
            copies = survey.copies[match.study_uid, match.series_uid, match.sop_uid]
            ref = InstanceRef(
                match.study_uid, match.series_uid, match.sop_uid, text_of(match.attributes, SOP_CLASS_UID)
            )
            holdings = tuple(each for each in holdings_of(match, copies) if (each.trust, match.sop_uid) not in rejected)
            if not holdings:
                continue
            is_far = any(holding.trust in self._behind_gateways for holding in holdings)
            wanted = Wanted(ref, holdings, holdings[0].trust, rows[match.patient], is_far)
            cached = kept.get(match.sop_uid)
            entries.append(Entry(wanted, match.attributes, copies, _if_may_be_had(cached, wanted)))
        unread = [each.wanted for each in entries if each.cached is None and _may_be_note(each)]
        if not unread or asking is None:
            return entries
        with contextlib.suppress(TimeoutError):  # the rest does not wait for an archive that is slow with it
            async with asyncio.timeout(self._means.limits.find_timeout_s):
                async with self._acquiring.riding(unread, listed=listed_of(survey), asking=asking) as rider:
                    while await rider.next() is not None:
                        pass
        return await self._entries(survey, None)

    async def _rejected(self, kept: Sequence[CachedInstance]) -> set[tuple[TrustId, str]]:
        """What notes among the kept reject, by the trust that says so; no copy of it stays in use."""
        said = await self._rejections.among(kept)
        rejected = {(trust, uid) for trust, uids in said.items() for uid in uids}
        gone = [each for each in kept if (each.source, each.ref.sop_uid) in rejected and not each.is_sole_copy]
        if gone and self._withdraw is not None:
            await self._withdraw(gone, is_rejected=True)
        return rejected

    async def _follow(self, survey: Survey, kept: Sequence[CachedInstance]) -> None:
        """Drop what an archive lists no more: once it is away it cannot be asked, and a copy must not be it (SAF-37).

        Of this wish nothing hangs on it, for what is not listed is in no frozen set.
        """
        if self._withdraw is None or not kept:
            return
        listed: dict[TrustId, set[str]] = {trust: set() for trust in survey.whole}
        conflicting = (row for conflict in survey.judgement.conflicts for row in conflict.rows)
        for row in (*survey.judgement.accepted, *conflicting):
            listed.setdefault(row.trust, set()).add(row.sop_uid)
        whole = {trust: listed[trust] for trust in survey.whole}
        if gone := withdrawn(kept, whole, survey.heard_at):
            await self._withdraw(gone)

    async def _patient_row(self, patient: NhsNumber | None) -> str:
        if patient is None:
            raise InvalidRequest("images across trusts are of patients with an NHS number")
        return await self._store.patient_row(PatientId(NHS_NUMBER_ISSUER, patient.digits))


def _asking(caller: Caller, recipient: TrustId) -> FetchRequest:
    """For whom it is fetched; trust and target are filled in holder by holder."""
    return FetchRequest(
        recipient,
        Target(Level.STUDY, ""),
        caller.request_id,
        caller.hops + 1,
        asking_trust=caller.principal.trust,
        purpose=caller.purpose,
    )


def _query(wish: RetrieveWish) -> Query:
    """What finds the wish: always whole studies, so that one list serves every part of one."""
    number = wish.patient.digits if wish.patient is not None else wish.patient_id
    keys = [Key((PATIENT_ID,), "LO", (number,))] if number else []
    if wish.study_uids:
        keys.append(Key((STUDY_UID,), "UI", wish.study_uids))
    return Query(Level.IMAGE, tuple(keys), _WANTED, only_trust=wish.only_trust)


def _names(wish: RetrieveWish, series_uid: str, sop_uid: str) -> bool:
    return (not wish.series_uids or series_uid in wish.series_uids) and (not wish.sop_uids or sop_uid in wish.sop_uids)


def _named(sitting: Sitting, wish: RetrieveWish) -> list[Entry]:
    """What a wish names of the study that its caller sits over."""
    found = map(sitting.entries.get, wish.sop_uids) if wish.sop_uids else sitting.entries.values()
    named = {entry.wanted.ref.sop_uid: entry for entry in found if entry is not None}
    return [entry for entry in named.values() if _names(wish, entry.wanted.ref.series_uid, entry.wanted.ref.sop_uid)]


def _if_may_be_had(cached: CachedInstance | None, wanted: Wanted) -> CachedInstance | None:
    """What came from a holder whose copy this caller may not have is fetched from one of theirs."""
    return cached if cached is not None and any(cached.source == each.trust for each in wanted.holdings) else None


def _may_be_note(entry: Entry) -> bool:
    return entry.wanted.ref.sop_class_uid == KEY_OBJECT_SELECTION


def _frozen(survey: Survey, entries: Sequence[Entry]) -> list[FrozenInstance]:
    decision_id = survey.passage.decision_id
    return [FrozenInstance(entry.wanted.ref, entry.source, entry.wanted.patient_row, decision_id) for entry in entries]
