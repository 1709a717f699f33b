"""The release of reports in one node, put together: intake, planner, jobs, channels, the page's reader, the figures.

Every process of a region may run it: what is to be done are rows and jobs, and whoever comes first does it. Keys may be
away at any moment; then what needs them fails as a service fault, for everybody alike, and is tried again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog

from gateway import tls
from gateway.channels.drop import DropChannel
from gateway.config.configuration import Configuration
from gateway.config.entries import LookupKind
from gateway.config.release.page import PAGE_CHANNEL
from gateway.config.release.terms import ReleaseContacts, all_terms, calendar_of, contacts_of, terms_of
from gateway.keeping.keeping import Keeping
from gateway.lookups.fhir import FhirServer
from gateway.lookups.pds import PdsLookup
from gateway.model.errors import ServiceFault
from gateway.model.reporting.channels import Channel
from gateway.model.reporting.incoming import Exam
from gateway.model.reporting.notices import Notifier
from gateway.model.reporting.tracing import PersonLookup
from gateway.model.reporting.views import Board
from gateway.model.seams import Clock
from gateway.region import trust_entries
from gateway.release.acts import Acts
from gateway.release.clinicians import telling
from gateway.release.clinicians.custodians import Organisations
from gateway.release.clinicians.service import ForClinicians
from gateway.release.contents import Contents
from gateway.release.giving.addressees import Vault
from gateway.release.giving.composing import Composing, TrustCard
from gateway.release.giving.looking import LOOK, LOOK_INTERVAL_S, Looking
from gateway.release.giving.page import PageChannel
from gateway.release.giving.reading import PageReading
from gateway.release.giving.tending import Means, Render, Tending
from gateway.release.giving.tracing import DayTracing
from gateway.release.giving.trusted import TrustedTime
from gateway.release.intake import Intake
from gateway.release.keys import KeptKeys
from gateway.release.linking import LINK, LINK_INTERVAL_S, Images, Linking
from gateway.release.planner import TEND, Planner, Rules
from gateway.release.referrers.chasing import CHASE, CHASE_INTERVAL_S, Chasing
from gateway.release.referrers.dropping import NoticeDrop
from gateway.release.referrers.referring import Referring
from gateway.release.referrers.ways import Ways
from gateway.release.staff.desk import ReleaseDesk
from gateway.release.staff.views import boards
from gateway.release.upkeep.embargoes import Embargoes
from gateway.release.upkeep.forgetting import FORGET, FORGET_INTERVAL_S, Forgetting, Retention
from gateway.release.upkeep.identities import IDENTITIES, IDENTITIES_INTERVAL_S, Identities
from policy.parties import TrustId
from policy.release.terms import Calendar, ReleaseTerms
from storage.database import Tx
from storage.release import standing
from storage.store import SqlStore

log = structlog.get_logger(__name__)

SHOW_INTERVAL_S = 60.0
ALARM_INTERVAL_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Outside:
    """What the release is given from the edges."""

    render: Render
    plain_name: Callable[[Exam], str]
    """The examination in plain words."""
    channels: Mapping[str, Channel]
    """By the name of their `[[channel]]`; the patient's page is added here."""
    show: Callable[[Sequence[Board]], None]
    """Is told how release stands, trust by trust."""
    new_id: Callable[[], str]
    notifiers: Mapping[str, Notifier] = field(default_factory=dict)
    """By the name of their `[[channel]]`, the systems that staff may be told by."""


class ReleaseModule:
    """One node's release. `begin`, then `run` beside everything else; `follow` each reload; `close` at the end."""

    def __init__(
        self, configuration: Configuration, store: SqlStore, keeping: Keeping, clock: Clock, outside: Outside
    ) -> None:
        """Raises `ConfigurationError` for certificates of the lookup."""
        self._store = store
        self._keeping = keeping
        self._clock = clock
        self._outside = outside
        self._configuration = configuration
        self._calendar = calendar_of(configuration)
        self._terms: dict[TrustId, ReleaseTerms] = {}
        unsure_max = timedelta(minutes=configuration.release.clock_unsure_max_minutes)
        self.time = TrustedTime(clock, unsure_max)
        self._embargoes = Embargoes(store)
        self.keys = KeptKeys(keeping)
        self.contents = Contents(store, self.keys)
        self.referring = Referring(self._rules)
        self.planner = Planner(self._rules)
        self.acts = Acts(self.planner, outside.new_id)
        self.vault = Vault(self.keys, secrets.token_bytes)
        self.intake = Intake(
            store,
            self.keys,
            self._filed,
            random=secrets.token_bytes,
            new_id=outside.new_id,
            elsewhere=asyncio.to_thread,
            time=self.time,
        )
        self.clinicians = ForClinicians(
            store, keeping, self.contents, self.intake, self._organisations, self._tolerance_of, clock
        )
        images = Images(configuration.gateway.node, keeping.stand_in_of)
        self.desk = ReleaseDesk(store, self.planner, self.acts, self.referring, images, keeping.runner.wake)
        self._tracing = DayTracing(store, self.contents, self.vault, _lookup(configuration), new_id=outside.new_id)
        self._page = PageChannel(PAGE_CHANNEL, store, self.vault, self.time.now, outside.render)
        self.reading = PageReading(
            store, self.vault, self.planner, self.acts, self.card_of, self._trusts, keeping.runner.wake
        )
        self.linking = Linking(store, keeping.cache, self._issuer_of)
        means = Means(
            store,
            self.planner,
            self._tracing,
            Composing(self.contents, self.card_of, outside.plain_name, self.linking.exam_of),
            self.vault,
            outside.render,
            self.channels,
            lambda trust: self.card_of(trust).phone,
            self.time.is_sure,
        )
        self.looking = Looking(store, self.planner, self.time, keeping.runner.wake)
        self.tending = Tending(means)
        keeping.handle(TEND, self.tending)
        keeping.handle(LOOK, self.looking, every_s=LOOK_INTERVAL_S)
        drop = NoticeDrop(configuration.notices_folder, asyncio.to_thread)
        ways = Ways(drop, outside.notifiers, lambda trust: self._contacts_of(trust).notices_channel)
        self.chasing = Chasing(store, self.contents, ways, self._rules, self._contacts_of)
        keeping.handle(CHASE, self.chasing, every_s=CHASE_INTERVAL_S)
        keeping.handle(LINK, self.linking, every_s=LINK_INTERVAL_S)
        keeping.handle(IDENTITIES, Identities(store, self.planner.replan), every_s=IDENTITIES_INTERVAL_S)
        folders = [each for each in outside.channels.values() if isinstance(each, DropChannel)]
        forgetting = Forgetting(store, keeping.cache, self._retention, keeping.time.now, folders)
        keeping.handle(FORGET, forgetting, every_s=FORGET_INTERVAL_S)
        self._alarmed_at_s = float("-inf")
        self._has_new_terms = False

    def channels(self) -> Mapping[str, Channel]:
        """Every channel by its name."""
        return {**self._outside.channels, PAGE_CHANNEL: self._page}

    async def begin(self) -> None:
        """See how far the clock is from the last look, and what new terms change; raises a `ServiceFault`."""
        self.time.begin(await self._store.read(standing.looked_at))
        await self._embargoes.read()
        self._embargoes.follow(all_terms(self._configuration), self.time.now())
        self._terms = {}
        await self._embargoes.keep()
        await self._look_by_new_terms()

    def follow(self, configuration: Configuration) -> None:
        """Release as a new configuration says; what is under embargo keeps its embargo. The lookup stays."""
        self._configuration = configuration
        self._calendar = calendar_of(configuration)
        self._embargoes.follow(all_terms(configuration), self.time.now())
        self._terms = {}
        self._has_new_terms = True

    async def run(self) -> None:
        """Show how release stands, and say what needs somebody, for ever."""
        while True:
            try:
                await self.show()
            except ServiceFault as fault:
                log.warning("figures of release not read", reason=str(fault))
            await self._clock.sleep(SHOW_INTERVAL_S)

    async def close(self) -> None:
        """Give up the lookup's connections; idempotent. Channels are closed by whoever opened them."""
        if self._tracing.lookup is not None:
            await self._tracing.lookup.close()

    def card_of(self, trust: TrustId) -> TrustCard:
        """How a trust is named to patients, and how it is reached."""
        entry = next((each for each in self._configuration.trust if each.ods == trust), None)
        name = entry.name if entry is not None else trust.code
        return TrustCard(name, contacts_of(self._configuration, trust).patient_phone)

    def _contacts_of(self, trust: TrustId) -> ReleaseContacts:
        return contacts_of(self._configuration, trust)

    def _filed(self, tx: Tx, report_id: str) -> None:
        """Something came from a feed: plan anew, and tell clinicians who have what it was."""
        self.planner.filed(tx, report_id)
        telling.queue(tx, report_id)

    def _organisations(self) -> Organisations:
        return Organisations.of(trust_entries(self._configuration))

    def _terms_of(self, trust: TrustId) -> ReleaseTerms:
        found = self._terms.get(trust)
        if found is None:
            found = self._terms[trust] = self._embargoes.over(trust, terms_of(self._configuration, trust))
        return found

    def _tolerance_of(self, trust: TrustId) -> timedelta:
        return timedelta(minutes=self._terms_of(trust).verification_future_tolerance_minutes)

    def _retention(self) -> Retention:
        section = self._configuration.release
        return Retention(
            payloads=timedelta(days=section.payloads_kept_days),
            dead_letters=timedelta(days=section.dead_letters_kept_days),
            addressees=timedelta(days=section.addressees_kept_days),
            texts=timedelta(days=section.texts_kept_days),
            letters=timedelta(days=section.letters_kept_days),
        )

    def _issuer_of(self, trust: TrustId) -> str:
        """Who issues a trust's accession numbers."""
        entry = next((each for each in self._configuration.trust if each.ods == trust), None)
        return (entry.accession_issuer if entry is not None else "") or trust.code

    def _trusts(self) -> Sequence[TrustId]:
        return [entry.ods for entry in self._configuration.trust]

    def _rules(self) -> Rules:
        calendar: Calendar = self._calendar
        referring = self.referring
        return Rules(self._terms_of, calendar, self.time.now, referring.referred, referring.noted)

    async def _look_by_new_terms(self) -> None:
        """Have looked at what the file's terms may let go that earlier ones kept: go-live, exclusions, ages."""
        now = self.time.now()
        for trust in self._trusts():
            go_live_at = self._terms_of(trust).go_live_at
            if go_live_at is not None:
                look = partial(standing.look_at_verified, trust=trust, verified_from=go_live_at, at=now)
                await self._store.write(look)

    async def show(self) -> None:
        """Do at once what `run` does in time; raises a `ServiceFault`."""
        if self._has_new_terms:
            await self._embargoes.keep()
            self._has_new_terms = False
            await self._look_by_new_terms()
        trusts = [trust for trust in self._trusts() if self._terms_of(trust).is_on]
        shown = await self._store.read(partial(boards, planner=self.planner, trusts=trusts))
        self._outside.show(shown)
        if self._clock.monotonic() - self._alarmed_at_s < ALARM_INTERVAL_S:
            return
        self._alarmed_at_s = self._clock.monotonic()
        now = self.time.now()
        for stop in await self._store.read(standing.stops):
            log.error(
                "release stands still",
                alarm=True,
                trust=stop.trust.code,
                since=stop.placed_at.isoformat(),
                is_overdue=stop.review_at <= now,
            )
        for each in shown:
            counts = {name: getattr(each, name) for name in _WANT_SOMEBODY if getattr(each, name)}
            if counts:
                log.warning("reports wait for somebody", trust=each.trust, **counts)


_WANT_SOMEBODY = (
    *("overdue_review", "held_by_rule", "undeliverable"),
    *("unmatched", "identity_changed", "dead_letters"),
)


def _lookup(configuration: Configuration) -> PersonLookup | None:
    """The service of demographics that is configured first; None: there is none, and nothing can be released."""
    entry = next((each for each in configuration.lookup if each.kind is LookupKind.PDS), None)
    if entry is None:
        return None
    secure = tls.client_context(entry.files) if entry.files is not None else None
    token = entry.token_file.read_text(encoding="utf-8").strip() if entry.token_file is not None else ""
    return PdsLookup(FhirServer(entry.url.rstrip("/"), secure, token))
