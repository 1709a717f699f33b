"""The one road of images: peer, sealed cache, whoever asked (product 3.2).

A wish passes the guard, is found at its holders, decided row by row, and frozen in the ledger; then what is not in the
cache is fetched, and the delivery hands out what has come. The cache is never a reason to give anything away: each
caller has a passage of its own, however many share one fetch.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache, partial

from gateway.model.attributes import INSTANCE_NUMBER, SERIES_NUMBER
from gateway.model.errors import InvalidRequest, OverCapacity, RegisterUnavailable, StoreUnavailable
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
from gateway.model.work.jobs import Lane
from gateway.model.work.precedence import Hurry, Urgency
from gateway.model.work.retrievals import Brought, Halt, NewRetrieval, RetrieveWish
from gateway.model.work.transfers import CachedInstance, FetchRequest, InstanceRef, Target
from gateway.sharing.broker import Survey
from gateway.sharing.conduct.watch import Surveys
from gateway.sharing.freshness.compared import note_compared, with_age
from gateway.sharing.freshness.comparing import Withdraw, withdrawn
from gateway.sharing.freshness.rejections import KEY_OBJECT_SELECTION, LateNotes, Rejected, Rejections
from gateway.sharing.retrieval.account import Account
from gateway.sharing.retrieval.acquiring import Acquiring, Listed, Rider, Wanted
from gateway.sharing.retrieval.delivery import Bring, Delivery, Means
from gateway.sharing.retrieval.entries import Entry, frozen_of, if_may_be_had
from gateway.sharing.retrieval.rows import holdings_of, listed_of, order_of, text_of
from gateway.sharing.retrieval.sittings import Sitting, Sittings, requests_of
from policy.parties import NHS_NUMBER_ISSUER, Caller, NhsNumber, PatientId, TrustId

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
        self._rejections = Rejections(means.cache, withdraw)
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
        hurry = self._acquiring.right_of_way.hurry(wish.lane)
        try:
            async with self._sittings.joined(caller, wish) as sitting:
                if sitting is not None and sitting.account is None:
                    yield self._nothing(sitting.survey)
                    return
                if sitting is not None and (entries := await self._as_kept(sitting, _named(sitting, wish))):
                    async with self._riding(caller, sitting, entries, hurry) as delivery:
                        yield delivery
                    return
            async with self._alone(caller, wish, hurry) as delivery:
                yield delivery
        finally:
            hurry.over()
            self._under_way -= 1

    async def bring(self, caller: Caller, wish: RetrieveWish) -> Brought:
        """Have in the cache what the caller may have of a wish.

        Nothing is handed out, so the ledger hears nothing of it; whoever wants them passes a guard of its own. Raises
        as `retrieve` does.
        """
        trust = caller.principal.trust
        async with self._door.survey(
            caller, _query(wish), recipient=trust, names=lambda row: _names(wish, row.series_uid, row.sop_uid)
        ) as survey:
            if not survey.instances:
                return Brought(0, 0, survey.sources)
            async with contextlib.AsyncExitStack() as held:
                for study_uid in _studies_of(survey):
                    await held.enter_async_context(self._means.cache.using(study_uid))
                asking = _asking(caller, trust, wish.lane)
                entries = await self._entries(survey, asking)
                missing = [entry.wanted for entry in entries if entry.cached is None]
                here = len(entries) - len(missing)
                riding = self._acquiring.riding(missing, listed=listed_of(survey), asking=asking)
                rider = await held.enter_async_context(riding)
                while (got := await rider.next()) is not None:
                    here += got.cached is not None
            survey.passage.tally.transfers = {"job": wish.job_id, "wanted": len(entries), "kept": here}
            return Brought(here, len(entries) - here, survey.sources)

    async def close(self) -> None:
        """Record what callers sit over at this moment, once none of their requests is under way."""
        await self._sittings.close()

    async def rested(self) -> None:
        """Return once nobody sits over anything and all of that is recorded."""
        await self._sittings.rested()

    @contextlib.asynccontextmanager
    async def _alone(self, caller: Caller, wish: RetrieveWish, hurry: Hurry) -> AsyncIterator[Delivery]:
        recipient = wish.destination.organisation if wish.destination is not None else caller.principal.trust
        async with self._door.survey(
            caller, _query(wish), recipient=recipient, names=lambda row: _names(wish, row.series_uid, row.sop_uid)
        ) as survey:
            if not survey.instances:
                yield self._nothing(survey)
                return
            async with self._delivering(caller, wish, recipient, survey, hurry) as delivery:
                yield delivery

    @contextlib.asynccontextmanager
    async def _delivering(
        self, caller: Caller, wish: RetrieveWish, recipient: TrustId, survey: Survey, hurry: Hurry
    ) -> AsyncIterator[Delivery]:
        async with contextlib.AsyncExitStack() as held:
            for study_uid in _studies_of(survey):
                await held.enter_async_context(self._means.cache.using(study_uid))
            asking = _asking(caller, recipient, wish.lane)
            # As it was decided: notes may be waited for meanwhile.
            decided_at_s, version = self._means.clock.monotonic(), self._means.register_version()
            entries = await self._entries(survey, asking)
            sources = await self._sources(survey, entries)
            account = self._account(caller, wish, recipient, survey)
            bring = self._bringing(cache(partial(listed_of, survey)), asking)
            missing = [entry.wanted for entry in entries if entry.cached is None]
            rider = await held.enter_async_context(bring(missing))
            # While the ledger syncs the archive is asked, and the first that is kept is read.
            freezing = account.freeze(frozen_of(entries, survey.passage.decision_id))
            delivery = Delivery(
                account,
                survey,
                sources,
                entries,
                rider,
                self._means,
                bring,
                hurry,
                decided_at_s,
                freezing=freezing,
                late=self._late(missing, rider),
                version=version,
            )
            try:
                yield delivery
            finally:
                delivery.leave()
                await account.close()
                await note_compared(self._means.cache, survey, _kept(entries))

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
            if not survey.instances:
                yield Sitting(survey, None, {}, dict, version, now_s, now_s)
                return
            entries = await self._entries(survey, _asking(caller, recipient))
            account = self._account(caller, wish, recipient, survey, is_shared=True)
            by_uid = {entry.wanted.ref.sop_uid: entry for entry in entries}
            listed = cache(partial(listed_of, survey))
            late = tuple(entry.wanted.ref for entry in entries if entry.cached is None and _may_be_note(entry))
            sitting = Sitting(survey, account, by_uid, listed, version, now_s, now_s, late=late)
            try:
                yield sitting
            finally:
                tally = survey.passage.tally
                tally.returned = account.instances
                tally.disclose_only_series(account.series_uids)
                await account.close(requests_of(sitting))
                await note_compared(self._means.cache, survey, _kept(entries))

    async def _as_kept(self, sitting: Sitting, named: Sequence[Entry]) -> list[Entry]:
        """What is named of a study that a caller sits over, with what the cache has of it at this moment.

        Nothing where something is gone that was there: it was withdrawn or is damaged, and the study is looked at anew.
        """
        cache, found = self._means.cache, {}
        for note in sitting.late:
            if await cache.instance(note.study_uid, note.sop_uid) is not None:
                sitting.is_closed = True
                sitting.news.set()
                return []
        if len(named) == 1:
            ref = named[0].wanted.ref
            found = {ref.sop_uid: await cache.instance(ref.study_uid, ref.sop_uid)}
        elif named:
            found = {each.ref.sop_uid: each for each in await cache.instances(named[0].wanted.ref.study_uid)}
        entries = []
        for each in named:
            cached = found.get(each.wanted.ref.sop_uid)
            if cached is not each.cached:
                cached = if_may_be_had(cached, each.wanted)
            if cached is None and each.cached is not None:
                sitting.is_closed = True
                sitting.news.set()
                return []
            each.cached = cached
            entries.append(Entry(each.wanted, each.shown, each.copies, cached))
        return entries

    @contextlib.asynccontextmanager
    async def _riding(
        self, caller: Caller, sitting: Sitting, entries: Sequence[Entry], hurry: Hurry
    ) -> AsyncIterator[Delivery]:
        survey, account = sitting.survey, sitting.account
        assert account is not None
        sources = await self._sources(survey, entries)
        new = [each for each in entries if not account.has(each.wanted.ref.sop_uid)]
        freezing = account.freeze(frozen_of(new, survey.passage.decision_id))
        asking = _asking(caller, caller.principal.trust)
        bring = self._bringing(sitting.listed, asking)
        missing = [entry.wanted for entry in entries if entry.cached is None]
        async with bring(missing) as rider:
            delivery = Delivery(
                account,
                survey,
                sources,
                entries,
                rider,
                self._means,
                bring,
                hurry,
                sitting.decided_at_s,
                sitting.descriptions,
                freezing,
                self._late(missing, rider),
            )
            try:
                yield delivery
            finally:
                delivery.leave()
                sitting.is_closed |= delivery.halted in (Halt.POLICY, Halt.SERVICE)
                await account.keep_up()

    def _bringing(self, listed: Callable[[], Listed], asking: FetchRequest) -> Bring:
        """Mostly nothing has to be brought, and then nobody reads who listed what."""
        return lambda wanted: self._acquiring.riding(wanted, listed=listed() if wanted else {}, asking=asking)

    def _late(self, missing: Sequence[Wanted], rider: Rider) -> LateNotes:
        return LateNotes(self._rejections, self._means.cache, (wanted.ref for wanted in missing), rider.waiting)

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

    async def _sources(self, survey: Survey, entries: Sequence[Entry]) -> Sequence[Source]:
        return await with_age(self._means.cache, survey.sources, _kept(entries))

    async def _entries(self, survey: Survey, asking: FetchRequest | None) -> list[Entry]:
        """The frozen set in order, each with its holders, and with what the cache has of it.

        What a holder rejected is not in it. Notes that are not kept yet are fetched first, once: None for `asking`.
        """
        patients = {found.best.patient for found in survey.instances}
        rows = {patient: await self._patient_row(patient) for patient in patients}
        kept: dict[str, CachedInstance] = {}
        rejected: set[Rejected] = set()
        for study_uid in _studies_of(survey):
            of_study = await self._means.cache.instances(study_uid)
            await self._follow(survey, of_study)
            rejected |= await self._rejections.enforced(of_study)
            kept |= {each.ref.sop_uid: each for each in of_study if (each.source, each.ref.sop_uid) not in rejected}
        entries = []
        for found in sorted(survey.instances, key=order_of):
            best, holdings = found.best, holdings_of(found)
            if rejected:
                holdings = tuple(each for each in holdings if (each.trust, best.sop_uid) not in rejected)
            if not holdings:
                continue
            ref = InstanceRef(best.study_uid, best.series_uid, best.sop_uid, text_of(best.row, SOP_CLASS_UID))
            is_far = not self._behind_gateways.isdisjoint([holding.trust for holding in holdings])
            wanted = Wanted(ref, holdings, holdings[0].trust, rows[best.patient], is_far)
            entries.append(Entry(wanted, found.shown, found.copies, if_may_be_had(kept.get(best.sop_uid), wanted)))
        unread = [each.wanted for each in entries if each.cached is None and _may_be_note(each)]
        if not unread or asking is None:
            return entries
        # However long an archive takes over it, and no longer than any fetch may take: nothing goes before it is read.
        async with self._acquiring.riding(unread, listed=listed_of(survey), asking=asking) as rider:
            while await rider.next() is not None:
                pass
        return await self._entries(survey, None)

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


def _studies_of(survey: Survey) -> set[str]:
    return {found.best.study_uid for found in survey.instances}


def _asking(caller: Caller, recipient: TrustId, lane: Lane = Lane.INTERACTIVE) -> FetchRequest:
    """For whom it is fetched; trust and target are filled in holder by holder."""
    return FetchRequest(
        recipient,
        Target(Level.STUDY, ""),
        caller.request_id,
        caller.hops + 1,
        asking_trust=caller.principal.trust,
        purpose=caller.purpose,
        urgency=Urgency(lane),
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


def _kept(entries: Sequence[Entry]) -> list[CachedInstance]:
    return [entry.cached for entry in entries if entry.cached is not None]


def _may_be_note(entry: Entry) -> bool:
    return entry.wanted.ref.sop_class_uid == KEY_OBJECT_SELECTION
